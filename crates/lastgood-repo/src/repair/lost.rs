//! Which blobs live snapshots need that are lost, or lie only where they may not stay; and which
//! paths that concerns.

use std::collections::{BTreeMap, HashMap, HashSet};

use lastgood_format::id::{BlobId, PackId, SnapshotId};
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;
use lastgood_format::page::Child;
use lastgood_format::snapshot::Snapshot;

use crate::check::trees::{Decode, Reference, push_name};
use crate::error::RepoError;
use crate::reader::BlobReader;
use crate::snapshots::SnapshotRecord;

/// What live snapshots lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostBlobs {
    /// Blobs that cannot be read.
    pub lost: BTreeMap<BlobId, BlobKind>,
    /// Blobs that can be read, and lie only in damaged packs, or in packs that no snapshot names.
    pub loose: BTreeMap<BlobId, BlobKind>,
    /// What cannot be restored whole, in the order of the snapshots.
    pub affected: Vec<Affected>,
    /// Whether more is affected than is listed.
    pub is_more_affected: bool,
}

/// Something in a snapshot that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affected {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path from `/`, without a leading slash. Empty for `/`, and for what has no path.
    pub path: Vec<u8>,
    /// What is lost: a page of a directory, the content of a file, the table of hard links, hints
    /// (which nothing is restored from), or the set of packs.
    pub kind: BlobKind,
}

impl Affected {
    /// What is lost, in words; nothing where it is the content of a file.
    #[must_use]
    pub fn what(&self) -> Option<&'static str> {
        match self.kind {
            BlobKind::Tree => Some("a part of a directory"),
            BlobKind::Hints => Some("hints, which nothing is restored from"),
            BlobKind::Links => Some("the table of hard links"),
            BlobKind::PackSet => Some("the list of its packs"),
            _ => None,
        }
    }
}

/// Packs that snapshots name, with what stands in for them.
#[derive(Debug, Default)]
pub(super) struct NamedPacks {
    pub(super) packs: HashMap<PackId, PackRef>,
    /// One pack of each snapshot.
    pub(super) of_each: Vec<PackRef>,
    /// Snapshots whose pack set cannot be read.
    unreadable: Vec<SnapshotId>,
}

impl NamedPacks {
    /// Reads the pack sets of `records`, each by the first of `readers` that can.
    pub(super) fn of(
        readers: &[&BlobReader],
        records: &[SnapshotRecord],
    ) -> Result<Self, RepoError> {
        let (mut named, mut pages) = (Self::default(), HashSet::new());
        for SnapshotRecord { id, snapshot } in records {
            let Snapshot { pack_set, ref_packs, .. } = snapshot;
            named.of_each.extend(ref_packs.first());
            named.packs.extend(ref_packs.iter().map(|pack| (pack.pack, *pack)));
            let mut is_read = false;
            for reader in readers {
                let mut add = |pack: PackRef| {
                    named.packs.insert(pack.pack, pack);
                };
                match reader.each_pack(*pack_set, ref_packs, &mut pages, &mut add) {
                    Err(error) if error.is_damage() => {}
                    other => {
                        other?;
                        is_read = true;
                        break;
                    }
                }
            }
            named.unreadable.extend((!is_read).then_some(*id));
        }
        let Some(reader) = readers.first() else { return Ok(named) };
        let ids: Vec<PackId> = named.packs.keys().copied().collect();
        named.packs.extend(reader.relocated(ids)?.into_iter().map(|pack| (pack.pack, pack)));
        Ok(named)
    }

    pub(super) fn is_unreadable(&self, snapshot: SnapshotId) -> bool {
        self.unreadable.contains(&snapshot)
    }
}

/// Looks for what snapshots need, page by page, each once unless something below it is lost.
pub(super) struct Search<'a> {
    pub(super) reader: &'a BlobReader,
    pub(super) named: &'a NamedPacks,
    /// Packs that are damaged beyond mending, or gone.
    pub(super) lost_packs: &'a HashSet<PackId>,
    /// Blobs that were recovered, with the bytes of pages.
    pub(super) found: &'a HashMap<BlobId, Vec<u8>>,
    snapshot: SnapshotId,
    path: Vec<u8>,
    open: Vec<Open>,
    /// Pages below which nothing is lost.
    fine: HashSet<BlobId>,
    result: LostBlobs,
}

/// A page whose references are being followed.
struct Open {
    id: BlobId,
    kind: BlobKind,
    level: u8,
    references: std::vec::IntoIter<Reference>,
    is_root: bool,
    is_whole: bool,
    /// Length of the path without what this list added.
    path_bytes: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        reader: &'a BlobReader,
        named: &'a NamedPacks,
        lost_packs: &'a HashSet<PackId>,
        found: &'a HashMap<BlobId, Vec<u8>>,
    ) -> Self {
        Self {
            reader,
            named,
            lost_packs,
            found,
            snapshot: SnapshotId::new([0; 32]),
            path: Vec::new(),
            open: Vec::new(),
            fine: HashSet::new(),
            result: LostBlobs::default(),
        }
    }

    /// Looks at all of `records`.
    ///
    /// # Errors
    /// What `proceed` returns; when something may be readable later.
    pub(super) fn run(
        mut self,
        records: &[SnapshotRecord],
        proceed: &dyn Fn() -> Result<(), RepoError>,
    ) -> Result<LostBlobs, RepoError> {
        for SnapshotRecord { id, snapshot } in records {
            self.snapshot = *id;
            if self.named.unreadable.contains(id) {
                self.affect(BlobKind::PackSet);
            }
            for (kind, root) in [
                (BlobKind::Tree, snapshot.tree),
                (BlobKind::Links, snapshot.links),
                (BlobKind::Hints, snapshot.hints),
            ] {
                self.path.clear();
                self.enter(kind, &[], root, None)?;
                while let Some(page) = self.open.last_mut() {
                    let (kind, level) = (page.kind, page.level);
                    match page.references.next() {
                        None => {
                            self.leave();
                            proceed()?;
                        }
                        Some(reference) => self.follow(kind, level, reference)?,
                    }
                }
            }
        }
        Ok(self.result)
    }

    fn follow(&mut self, kind: BlobKind, level: u8, reference: Reference) -> Result<(), RepoError> {
        match reference {
            Reference::Page(child) => self.enter(kind, &[], child.page, Some((level, &child))),
            Reference::List(kind, name, root, _) => self.enter(kind, &name, root, None),
            Reference::Chunk(name, id) => {
                if !self.is_readable(BlobKind::Chunk, id)? {
                    self.break_open();
                    // A chunk of a recipe is told of when the recipe is left.
                    if kind == BlobKind::Tree {
                        let length = push_name(&mut self.path, &name);
                        self.affect(BlobKind::Chunk);
                        self.path.truncate(length);
                    }
                }
                Ok(())
            }
        }
    }

    /// Opens a page: the root of a list called `name`, or a child of the page that is open.
    fn enter(
        &mut self,
        kind: BlobKind,
        name: &[u8],
        id: BlobId,
        child: Option<(u8, &Child)>,
    ) -> Result<(), RepoError> {
        if self.fine.contains(&id) {
            return Ok(());
        }
        let path_bytes = push_name(&mut self.path, name);
        let references = match self.is_readable(kind, id)? {
            true => self.references(kind, id, child)?,
            false => None,
        };
        let Some((level, references)) = references else {
            self.break_open();
            // What a recipe is the content of is told of once, when its root is left.
            if child.is_none() || kind != BlobKind::Recipe {
                self.affect(kind);
            }
            self.path.truncate(path_bytes);
            return Ok(());
        };
        let (references, is_root) = (references.into_iter(), child.is_none());
        let open = Open { id, kind, level, references, is_root, is_whole: true, path_bytes };
        self.open.push(open);
        Ok(())
    }

    fn references(
        &self,
        kind: BlobKind,
        id: BlobId,
        child: Option<(u8, &Child)>,
    ) -> Result<Option<(u8, Vec<Reference>)>, RepoError> {
        let loaded;
        let bytes: &[u8] = match self.found.get(&id) {
            Some(bytes) => bytes,
            None => match self.reader.blob(kind, id) {
                Ok(bytes) => {
                    loaded = bytes;
                    &loaded
                }
                Err(error) if error.is_damage() => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let decode = Decode { bytes, child, measure_max: u64::MAX, last_key: None };
        Ok(decode.references(kind).ok())
    }

    fn leave(&mut self) {
        let Some(page) = self.open.pop() else { return };
        if page.is_whole {
            self.fine.insert(page.id);
        } else {
            self.break_open();
            if page.is_root && page.kind == BlobKind::Recipe {
                self.affect(BlobKind::Chunk);
            }
        }
        self.path.truncate(page.path_bytes);
    }

    fn break_open(&mut self) {
        if let Some(page) = self.open.last_mut() {
            page.is_whole = false;
        }
    }

    fn affect(&mut self, kind: BlobKind) {
        self.result.is_more_affected |= self.result.affected.len() >= AFFECTED_MAX;
        if !self.result.is_more_affected {
            let (snapshot, path) = (self.snapshot, self.path.clone());
            self.result.affected.push(Affected { snapshot, path, kind });
        }
    }

    /// Whether a blob can be read; notes it where it does not lie in a good pack that some snapshot
    /// names.
    fn is_readable(&mut self, kind: BlobKind, id: BlobId) -> Result<bool, RepoError> {
        if self.found.contains_key(&id) || self.result.loose.contains_key(&id) {
            return Ok(true);
        }
        if self.result.lost.contains_key(&id) {
            return Ok(false);
        }
        let is_named =
            |pack| !self.named.unreadable.is_empty() || self.named.packs.contains_key(&pack);
        let is_good = |pack| !self.lost_packs.contains(&pack) && is_named(pack);
        let first = match self.reader.locate(kind, id) {
            Ok(place) => Some(place),
            Err(error) if error.is_damage() => None,
            Err(error) => return Err(error),
        };
        // Whoever repaired read every pack that is good, to its last byte.
        if first.is_some_and(|place| is_good(place.pack.pack) && place.entry.base.is_none()) {
            return Ok(true);
        }
        let is_in_good = self.reader.is_in(kind, id, &is_good)?;
        let is_readable = match self.reader.blob(kind, id) {
            Ok(_) => true,
            Err(error) if error.is_damage() => false,
            Err(error) => return Err(error),
        };
        if is_readable && is_in_good {
            return Ok(true);
        }
        let noted = if is_readable { &mut self.result.loose } else { &mut self.result.lost };
        noted.insert(id, kind);
        Ok(is_readable)
    }
}

/// Paths that are told of.
const AFFECTED_MAX: usize = 100_000;
