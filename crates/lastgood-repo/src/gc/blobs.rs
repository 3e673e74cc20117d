//! Which blobs live and held snapshots refer to: a walk of their trees, each page once.
//!
//! Memory: four bits a copy of a blob beside the index, and blobs that the index does not know.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lastgood_format::encoding::DecodeError;
use lastgood_format::entry::{Content, Node};
use lastgood_format::hints::HintsCodec;
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::links::LinksCodec;
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;
use lastgood_format::page::{self, LeafCodec, Page};
use lastgood_format::recipe::{Part, RecipeCodec};
use lastgood_format::tree::TreeCodec;

use super::GcObserver;
use super::live::Live;
use crate::each::each;
use crate::error::RepoError;
use crate::index::{BlobMarks, Index, Mark};
use crate::reader::BlobReader;

/// The blobs that were met. It only grows, and so errs on the side of keeping.
#[derive(Debug)]
pub(crate) struct LiveBlobs {
    marks: BlobMarks,
    /// Blobs that the index does not know, so that their pages are walked once.
    unknown: HashSet<BlobId>,
    /// Packs in which there is no delta, so that they need not be looked into again.
    without_deltas: HashSet<PackId>,
    /// Whether a pack could not be looked into that may hold deltas: then anything may be a base.
    is_blind: bool,
}

impl LiveBlobs {
    /// Nothing is met yet.
    pub(crate) fn new(index: &Arc<Index>) -> Self {
        Self {
            marks: BlobMarks::unchecked(index),
            unknown: HashSet::new(),
            without_deltas: HashSet::new(),
            is_blind: false,
        }
    }

    /// Walks what `live` refers to.
    ///
    /// # Errors
    /// When a page cannot be read: what is below it would count as dead.
    pub(super) fn walk(
        &mut self,
        reader: &BlobReader,
        live: &Live,
        observer: &dyn GcObserver,
    ) -> Result<(), RepoError> {
        for snapshot in &live.needing {
            let roots = [snapshot.tree, snapshot.links, snapshot.hints];
            self.walk_from(reader, roots, &mut |_| observer.proceed())?;
        }
        Ok(())
    }

    /// Walks a snapshot from the roots of its tree, links and hints; `visit` is called with each
    /// blob that was not met before.
    pub(crate) fn walk_from(
        &mut self,
        reader: &BlobReader,
        roots: [BlobId; 3],
        visit: &mut dyn FnMut(BlobId) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let kinds = [BlobKind::Tree, BlobKind::Links, BlobKind::Hints];
        let roots = kinds.into_iter().zip(roots);
        let mut open: Vec<Reference> =
            roots.map(|(kind, id)| Reference { kind, id, level: None }).collect();
        while let Some(reference) = open.pop() {
            if !self.meet(reference.id)? {
                continue;
            }
            visit(reference.id)?;
            if reference.kind != BlobKind::Chunk {
                let bytes = reader.blob(reference.kind, reference.id)?;
                reference.follow(&bytes, &mut open).map_err(|error| {
                    reader.repo().damaged(&format!("blob {}", reference.id), error)
                })?;
            }
        }
        Ok(())
    }

    /// Notes the base of each delta that was met, by the directories of `packs` themselves: whoever
    /// forged a part of the index would else have gc drop bases.
    ///
    /// # Errors
    /// When a pack may be opened later.
    pub(super) fn meet_bases(
        &mut self,
        reader: &BlobReader,
        packs: impl Iterator<Item = PackRef>,
        is_stood_in_for: &dyn Fn(PackId) -> bool,
        threads: usize,
        observer: &dyn GcObserver,
    ) -> Result<(), RepoError> {
        let packs = packs.filter(|pack| !self.without_deltas.contains(&pack.pack));
        let packs: Vec<PackRef> = packs.collect();
        for some in packs.chunks(PACKS_AT_ONCE) {
            observer.proceed()?;
            for (pack, deltas) in
                some.iter().zip(each(some, threads, |pack| deltas(reader, *pack))?)
            {
                let Some(deltas) = deltas else {
                    // What was needed of one that others stand in for is whole in these.
                    self.is_blind |= !is_stood_in_for(pack.pack);
                    continue;
                };
                if deltas.is_empty() {
                    self.without_deltas.insert(pack.pack);
                }
                for (blob, base) in deltas {
                    if self.may_need(blob)? {
                        self.meet(base)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a blob. Returns whether it was not met before.
    fn meet(&mut self, blob: BlobId) -> Result<bool, RepoError> {
        Ok(match self.marks.set_all(blob, Mark::Seen)? {
            Some(is_new) => is_new,
            None => self.unknown.insert(blob),
        })
    }

    /// Whether a blob was met, or nothing is known of it.
    ///
    /// # Errors
    /// When the local copy of the index cannot be read.
    pub(super) fn may_need(&self, blob: BlobId) -> Result<bool, RepoError> {
        Ok(self.is_blind || self.marks.has_any(blob, Mark::Seen)?.unwrap_or(true))
    }

    /// The bytes of all blobs and of those that were met, for each pack of the index of which that
    /// is known.
    ///
    /// # Errors
    /// As [`may_need`](Self::may_need).
    pub(super) fn used_bytes(&self) -> Result<HashMap<PackId, (u64, u64)>, RepoError> {
        if self.is_blind {
            return Ok(HashMap::new());
        }
        self.marks.bytes_of_packs(Mark::Seen)
    }
}

/// The deltas in a pack, each with its base; nothing when its directory is damaged.
fn deltas(reader: &BlobReader, pack: PackRef) -> Result<Option<Vec<(BlobId, BlobId)>>, RepoError> {
    match reader.packs().open(pack) {
        Ok(opened) => {
            let blobs = opened.directory.blobs.iter();
            Ok(Some(blobs.filter_map(|blob| Some((blob.id, blob.base?))).collect()))
        }
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Packs that are looked into before what they hold is noted.
const PACKS_AT_ONCE: usize = 64;

/// Something that a page refers to.
struct Reference {
    kind: BlobKind,
    id: BlobId,
    /// Level of the page, where that is known.
    level: Option<u8>,
}

impl Reference {
    /// Adds what a page refers to.
    fn follow(&self, bytes: &[u8], open: &mut Vec<Self>) -> Result<(), DecodeError> {
        let root = |kind, id| Self { kind, id, level: None };
        match self.kind {
            BlobKind::Tree => self.page::<TreeCodec>(bytes, open, |entry| match entry.node {
                Node::Directory { tree } => Some(root(BlobKind::Tree, tree)),
                Node::File { content: Content::Chunk(id), .. } => Some(root(BlobKind::Chunk, id)),
                Node::File { content: Content::Recipe(id), .. } => Some(root(BlobKind::Recipe, id)),
                _ => None,
            }),
            BlobKind::Recipe => self.page::<RecipeCodec>(bytes, open, |part| match part {
                Part::Chunk { id, .. } | Part::Repeat { id, .. } => Some(root(BlobKind::Chunk, id)),
                Part::Hole { .. } => None,
            }),
            BlobKind::Hints => self.page::<HintsCodec>(bytes, open, |item| {
                item.children.map(|children| root(BlobKind::Hints, children))
            }),
            _ => self.page::<LinksCodec>(bytes, open, |_| None),
        }
    }

    fn page<C: LeafCodec>(
        &self,
        bytes: &[u8],
        open: &mut Vec<Self>,
        of_item: impl FnMut(C::Item) -> Option<Self>,
    ) -> Result<(), DecodeError> {
        match page::decode::<C>(bytes, self.level)? {
            (_, Page::Leaf(items)) => open.extend(items.into_iter().filter_map(of_item)),
            (level, Page::Interior(children)) => {
                open.extend(children.into_iter().map(|child| Self {
                    kind: self.kind,
                    id: child.page,
                    level: Some(level - 1),
                }));
            }
        }
        Ok(())
    }
}
