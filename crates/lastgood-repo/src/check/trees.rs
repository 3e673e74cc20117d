//! Walking what snapshots refer to, each page once.

use std::collections::{BTreeSet, HashSet};

use lastgood_format::encoding::DecodeError;
use lastgood_format::entry::{Content, Entry, Node};
use lastgood_format::hints::HintsCodec;
use lastgood_format::id::{BlobId, PackId, SnapshotId};
use lastgood_format::limits::TREE_DEPTH_MAX;
use lastgood_format::links::LinksCodec;
use lastgood_format::object::name;
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;
use lastgood_format::page::{self, Child, LeafCodec, Page};
use lastgood_format::recipe::{Part, RecipeCodec};
use lastgood_format::tree::TreeCodec;

use super::Check;
use crate::error::{Damage, RepoError};
use crate::index::{BlobMarks, Mark};
use crate::reader::{BlobPlace, BlobReader, Form};
use crate::snapshots::SnapshotRecord;

impl Check<'_> {
    /// Every blob that a snapshot refers to can be found, and is none that was found damaged.
    pub(super) fn trees(
        &mut self,
        snapshots: &[SnapshotRecord],
        marks: &BlobMarks,
    ) -> Result<(), RepoError> {
        let mut walk = Walk::new(self, marks);
        for record in snapshots {
            let snapshot = &record.snapshot;
            walk.snapshot = record.id;
            for (kind, root) in [
                (BlobKind::Tree, snapshot.tree),
                (BlobKind::Links, snapshot.links),
                (BlobKind::Hints, snapshot.hints),
            ] {
                walk.list(kind, root);
            }
            if self.observer.done(0, 0).is_break() {
                break;
            }
        }
        let is_told_enough = walk.is_told_enough();
        let Walk { blobs, lost, unreadable, errors, affected, .. } = walk;
        self.report.is_stopped = self.observer.done(0, 0).is_break();
        self.report.blobs = blobs + lost.len() as u64;
        let replaced: Vec<RepoError> =
            unreadable.iter().filter_map(|pack| self.replaced.remove(pack)).flatten().collect();
        errors.into_iter().chain(replaced).try_for_each(|error| self.damage(error))?;
        self.report.affected.extend(affected);
        if is_told_enough {
            let remark = "more paths are affected than are listed";
            self.report.remarks.push(remark.to_owned());
        }
        Ok(())
    }
}

/// What a page refers to.
pub(crate) enum Reference {
    /// A page of the same list.
    Page(Child),
    /// A chunk, with the name of its file when it is all of it.
    Chunk(Box<[u8]>, BlobId),
    /// Another list: a directory or a recipe with its name, or a directory's hints; and what it
    /// measures at most.
    List(BlobKind, Box<[u8]>, BlobId, u64),
}

/// A page whose references are being followed.
struct Open {
    id: BlobId,
    kind: BlobKind,
    level: u8,
    references: std::vec::IntoIter<Reference>,
    /// Whether it is the root of its list.
    is_root: bool,
    is_whole: bool,
    /// Length of the path without what this list added.
    path_bytes: usize,
}

/// Walks trees by a stack of open pages, so that memory is a path's worth of them.
struct Walk<'a> {
    check: &'a Check<'a>,
    marks: &'a BlobMarks,
    snapshot: SnapshotId,
    open: Vec<Open>,
    path: Vec<u8>,
    /// Directories that are open.
    depth: usize,
    /// Key of the last item in lists with keys: one for each list that is open.
    last_keys: Vec<Box<[u8]>>,
    blobs: u64,
    /// Blobs that are in no pack.
    lost: HashSet<BlobId>,
    /// Packs that hold copies of blobs of which none is whole.
    unreadable: BTreeSet<PackId>,
    /// Packs of which it was told that bases are lost or in no pack that a snapshot names.
    without_bases: HashSet<PackId>,
    errors: Vec<RepoError>,
    affected: Vec<(SnapshotId, Vec<u8>)>,
}

impl<'a> Walk<'a> {
    fn new(check: &'a Check<'a>, marks: &'a BlobMarks) -> Self {
        Self {
            check,
            marks,
            snapshot: SnapshotId::new([0; 32]),
            open: Vec::new(),
            path: Vec::new(),
            depth: 0,
            last_keys: Vec::new(),
            blobs: 0,
            lost: HashSet::new(),
            unreadable: BTreeSet::new(),
            without_bases: HashSet::new(),
            errors: Vec::new(),
            affected: Vec::new(),
        }
    }

    /// Walks the list under `root` and all below.
    fn list(&mut self, kind: BlobKind, root: BlobId) {
        self.path.clear();
        self.enter_list(kind, &[], root, u64::MAX);
        while let Some(page) = self.open.last_mut() {
            match page.references.next() {
                None => {
                    self.leave();
                    if self.check.observer.done(0, 0).is_break() {
                        self.open.clear();
                    }
                }
                Some(reference) => {
                    let (kind, level) = (page.kind, page.level);
                    self.follow(kind, level, reference);
                }
            }
        }
    }

    fn follow(&mut self, kind: BlobKind, level: u8, reference: Reference) {
        match reference {
            Reference::Page(child) => self.enter(kind, child.page, Some((level, &child)), 0),
            Reference::List(kind, name, root, measure_max) => {
                self.enter_list(kind, &name, root, measure_max);
            }
            Reference::Chunk(name, id) => {
                if !self.is_fine(BlobKind::Chunk, id) {
                    self.break_open();
                    // A chunk of a recipe is told of when the recipe is left.
                    if kind == BlobKind::Tree {
                        let length = push_name(&mut self.path, &name);
                        self.affect();
                        self.path.truncate(length);
                    }
                }
            }
        }
    }

    fn enter_list(&mut self, kind: BlobKind, name: &[u8], root: BlobId, measure_max: u64) {
        // What is whole need not be walked again; a broken directory is, for its paths.
        let copy = self.marks.find(root).filter(|copy| self.marks.has(*copy, Mark::Seen));
        let is_whole = copy.is_some_and(|copy| !self.marks.has(copy, Mark::Broken));
        if is_whole {
            return;
        }
        let length = push_name(&mut self.path, name);
        let is_again = copy.is_some() && (kind != BlobKind::Tree || self.is_told_enough());
        if is_again || self.depth > TREE_DEPTH_MAX {
            self.break_open();
            if kind != BlobKind::Hints {
                self.affect();
            }
            self.path.truncate(length);
            return;
        }
        self.depth += usize::from(kind != BlobKind::Recipe);
        self.last_keys.push(Box::default());
        let open = self.open.len();
        self.enter(kind, root, None, measure_max);
        if self.open.len() == open {
            self.leave_list(kind, false, length);
        } else if let Some(page) = self.open.last_mut() {
            page.path_bytes = length;
        }
    }

    /// Opens a page, of the root of a list or as `child` of a page of a level.
    fn enter(&mut self, kind: BlobKind, id: BlobId, child: Option<(u8, &Child)>, measure_max: u64) {
        let copy = self.marks.find(id);
        let is_known = copy.is_some_and(|copy| self.marks.has(copy, Mark::Seen));
        let is_fine = self.is_fine(kind, id);
        let result = self.references(kind, id, child, measure_max);
        let is_read = result.is_ok();
        let (level, mut references) = result.unwrap_or_else(|error| {
            if is_fine && (!is_known || child.is_some()) {
                self.errors.push(error);
            }
            (0, Vec::new())
        });
        let is_broken = copy.is_none_or(|copy| self.marks.has(copy, Mark::Broken));
        if is_known && !is_broken && is_read {
            // It was walked for another list, and fits into this one as well.
            references.clear();
            if let (Some((_, child)), Some(last_key)) = (child, self.last_keys.last_mut()) {
                last_key.clone_from(&child.last_key);
            }
        }
        if !is_read {
            if let Some(copy) = copy {
                self.marks.set(copy, Mark::Broken);
            }
            self.break_open();
            if child.is_some() && kind == BlobKind::Tree {
                self.affect();
            }
            return;
        }
        self.open.push(Open {
            id,
            kind,
            level,
            references: references.into_iter(),
            is_root: child.is_none(),
            is_whole: true,
            path_bytes: self.path.len(),
        });
    }

    fn leave(&mut self) {
        let Some(page) = self.open.pop() else { return };
        if !page.is_whole {
            if let Some(copy) = self.marks.find(page.id) {
                self.marks.set(copy, Mark::Broken);
            }
            self.break_open();
        }
        if page.is_root {
            // Of a directory, what is damaged in it was told of.
            self.leave_list(
                page.kind,
                page.is_whole || page.kind == BlobKind::Tree,
                page.path_bytes,
            );
        }
    }

    fn leave_list(&mut self, kind: BlobKind, is_told: bool, path_bytes: usize) {
        // Hints are no part of what is restored, so damage there affects no path.
        if !is_told && kind != BlobKind::Hints {
            self.affect();
        }
        self.depth -= usize::from(kind != BlobKind::Recipe);
        self.last_keys.pop();
        self.path.truncate(path_bytes);
    }

    /// Notes that something below the page that is open cannot be had.
    fn break_open(&mut self) {
        if let Some(page) = self.open.last_mut() {
            page.is_whole = false;
        }
    }

    fn affect(&mut self) {
        if !self.is_told_enough() {
            self.affected.push((self.snapshot, self.path.clone()));
        }
    }

    fn is_told_enough(&self) -> bool {
        self.affected.len() >= AFFECTED_MAX
    }

    /// Whether a blob can be had. What is wrong with it is told the first time.
    fn is_fine(&mut self, kind: BlobKind, id: BlobId) -> bool {
        let Some(copy) = self.marks.find(id) else {
            if self.lost.insert(id) {
                let error = self.why_lost(kind, id);
                self.errors.push(error);
            }
            return false;
        };
        self.blobs += u64::from(self.marks.set(copy, Mark::Seen));
        // Other copies are looked for only where this one is damaged.
        let is_fine = !self.marks.has(copy, Mark::Damaged) || self.marks.is_readable(id);
        if !is_fine {
            self.unreadable.extend(self.marks.packs_of(id));
            self.tell_of_base(kind, id);
        }
        is_fine
    }

    /// Where a blob cannot be had since that is lost which it is a change of, says so once for each
    /// pack: the one that it is in need not be damaged.
    fn tell_of_base(&mut self, kind: BlobKind, id: BlobId) {
        let reader = &self.check.reader;
        let lost = |place: &BlobPlace| place.entry.base.filter(|base| !self.marks.is_whole(*base));
        let place = match reader.locate(kind, id) {
            Ok(place) => place,
            Err(error) => return self.errors.push(error),
        };
        let Some(base) = lost(&place) else { return };
        let holders = self.marks.packs_of(base);
        let (pack, error) = match reader.locate_as(Form::Whole, kind, base) {
            Ok(at) if holders.contains(&at.pack.pack) => return self.unreadable.extend(holders),
            Ok(at) => (at.pack, self.unnamed(at.pack)),
            Err(error) if error.is_transient() => return self.errors.push(error),
            Err(_) => {
                let object = name::pack(place.pack.session, place.pack.pack);
                let lost = Damage::Base { blob: id, base };
                (place.pack, self.check.repo.damaged(&object, lost))
            }
        };
        if self.without_bases.insert(pack.pack) {
            self.errors.push(error);
        }
    }

    fn why_lost(&self, kind: BlobKind, id: BlobId) -> RepoError {
        match self.check.reader.locate(kind, id) {
            Ok(place) => self.unnamed(place.pack),
            Err(error) => error,
        }
    }

    /// It restores today, and would not once gc has removed what no snapshot names.
    fn unnamed(&self, pack: PackRef) -> RepoError {
        let state = "it holds a blob that a snapshot needs, and no snapshot names it";
        self.check.repo.damaged(&name::pack(pack.session, pack.pack), Damage::State(state))
    }

    fn references(
        &mut self,
        kind: BlobKind,
        id: BlobId,
        child: Option<(u8, &Child)>,
        measure_max: u64,
    ) -> Result<(u8, Vec<Reference>), RepoError> {
        let bytes = self.check.reader.blob(kind, id)?;
        let last_key = self.last_keys.last_mut();
        Decode { bytes: &bytes, child, measure_max, last_key }
            .references(kind)
            .map_err(|error| self.check.repo.damaged(&format!("blob {id}"), error))
    }
}

/// Reads a page, the root of a list or as `child` of a page of a level: its own level, and what it
/// refers to.
///
/// # Errors
/// When it cannot be read, or is not the page that it should be.
pub(crate) fn read_references(
    reader: &BlobReader,
    kind: BlobKind,
    id: BlobId,
    child: Option<&(u8, Child)>,
) -> Result<(u8, Vec<Reference>), RepoError> {
    let bytes = reader.blob(kind, id)?;
    let child = child.map(|(level, child)| (*level, child));
    Decode { bytes: &bytes, child, measure_max: u64::MAX, last_key: None }
        .references(kind)
        .map_err(|error| reader.repo().damaged(&format!("blob {id}"), error))
}

/// A page to decode, and what is known of it.
pub(crate) struct Decode<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) child: Option<(u8, &'a Child)>,
    pub(crate) measure_max: u64,
    pub(crate) last_key: Option<&'a mut Box<[u8]>>,
}

impl Decode<'_> {
    /// Level of a page of a list of `kind`, and what it refers to.
    pub(crate) fn references(self, kind: BlobKind) -> Result<(u8, Vec<Reference>), DecodeError> {
        match kind {
            BlobKind::Tree => self.page::<TreeCodec>(&of_entry),
            BlobKind::Recipe => self.page::<RecipeCodec>(&of_part),
            BlobKind::Hints => self.page::<HintsCodec>(&|item| {
                let children = item.children?;
                Some(Reference::List(BlobKind::Hints, Box::default(), children, u64::MAX))
            }),
            _ => self.page::<LinksCodec>(&|_| None),
        }
    }

    /// What a page refers to; `of_item` tells it of an item.
    fn page<C: LeafCodec>(
        self,
        of_item: &dyn Fn(C::Item) -> Option<Reference>,
    ) -> Result<(u8, Vec<Reference>), DecodeError> {
        let invalid = |why| DecodeError::Invalid { what: "page", why };
        let level = self.child.map(|(level, _)| level.saturating_sub(1));
        let (level, page) = page::decode::<C>(self.bytes, level)?;
        match self.child {
            Some((_, child)) => page.check_child::<C>(child)?,
            None if page.measure::<C>() > self.measure_max => {
                return Err(invalid("it measures more than it may"));
            }
            None => {}
        }
        // An interior page is in order when the pages below it are.
        if let (Page::Leaf(items), Some(last_key)) = (&page, self.last_key) {
            let first = items.first().map(C::key).unwrap_or_default();
            if !last_key.is_empty() && **last_key >= *first {
                return Err(invalid("its items are out of order"));
            }
            *last_key = page.last_key::<C>().into();
        }
        let references = match page {
            Page::Leaf(items) => items.into_iter().filter_map(of_item).collect(),
            Page::Interior(children) => children.into_iter().map(Reference::Page).collect(),
        };
        Ok((level, references))
    }
}

fn of_entry(entry: Entry) -> Option<Reference> {
    match entry.node {
        Node::Directory { tree } => {
            Some(Reference::List(BlobKind::Tree, entry.name, tree, u64::MAX))
        }
        Node::File { content: Content::Chunk(id), .. } => Some(Reference::Chunk(entry.name, id)),
        Node::File { content: Content::Recipe(id), size } => {
            Some(Reference::List(BlobKind::Recipe, entry.name, id, size))
        }
        _ => None,
    }
}

fn of_part(part: Part) -> Option<Reference> {
    match part {
        Part::Chunk { id, .. } | Part::Repeat { id, .. } => {
            Some(Reference::Chunk(Box::default(), id))
        }
        Part::Hole { .. } => None,
    }
}

/// Appends a name to a path; returns the length that the path had.
pub(crate) fn push_name(path: &mut Vec<u8>, name: &[u8]) -> usize {
    let length = path.len();
    if !name.is_empty() {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    length
}

/// Paths that are told of. A damaged directory that many paths lead to has no end of them.
const AFFECTED_MAX: usize = 100_000;
