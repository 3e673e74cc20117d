//! Reading blobs: find, fetch, open, decompress, and compare with the id.
//!
//! The index tells where a blob is. Where it is silent or wrong, the packs that the snapshot names
//! are searched, so a lost or poisoned index costs time and nothing else.

mod delta;
mod finding;
mod healing;
mod lru;
mod packs;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lastgood_format::encoding::DecodeError;
use lastgood_format::id::{BlobId, PackId, SessionId};
use lastgood_format::key::Class;
use lastgood_format::pack::{BlobEntry, BlobKind, GroupEntry};
use lastgood_format::packset::{PackRef, PackSetCodec};
use lastgood_format::page::{self, Page, PageReader};
use lastgood_format::snapshot::Snapshot;

use crate::error::{RepoError, RepoErrorKind};
use crate::index::Index;
use crate::packer::lock;
use crate::repository::Repository;
pub(crate) use finding::Form;
use lru::Lru;
pub use packs::{GroupBuffers, PackReader};

/// Where a blob is.
#[derive(Debug, Clone, Copy)]
pub struct BlobPlace {
    /// Its pack.
    pub pack: PackRef,
    /// Its entry in the pack's directory.
    pub entry: BlobEntry,
}

/// Bytes of a blob, shared with the group they lie in.
#[derive(Debug, Clone)]
pub struct Loaded {
    group: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl std::ops::Deref for Loaded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.group[self.start..self.end]
    }
}

/// Reads blobs of one or more snapshots.
#[derive(Debug)]
pub struct BlobReader {
    repo: Arc<Repository>,
    packs: PackReader,
    groups: Mutex<Lru<(PackId, u32), Arc<Vec<u8>>>>,
    /// Packs that the snapshots name, searched when the index is silent or wrong.
    sets: Mutex<Vec<Arc<Vec<PackRef>>>>,
    /// What those hold, once they were searched, and the classes that were.
    searched: Mutex<Option<Arc<Index>>>,
    is_searched: Mutex<HashSet<Class>>,
    is_index_wrong: AtomicBool,
}

impl BlobReader {
    /// Reads blobs that the index of `repo` knows.
    #[must_use]
    pub fn new(repo: Arc<Repository>) -> Self {
        Self {
            packs: PackReader::new(repo.clone()),
            repo,
            groups: Mutex::new(Lru::new(GROUP_BYTES_KEPT)),
            sets: Mutex::default(),
            searched: Mutex::default(),
            is_searched: Mutex::default(),
            is_index_wrong: AtomicBool::new(false),
        }
    }

    /// Allows falling back to the packs that `snapshot` names. Loads its pack set: a few reads.
    ///
    /// # Errors
    /// When the pack set cannot be read.
    pub fn add_snapshot(&self, snapshot: &Snapshot) -> Result<Arc<Vec<PackRef>>, RepoError> {
        let set = Arc::new(self.pack_set(snapshot)?.0);
        self.add_packs(set.clone());
        Ok(set)
    }

    /// Allows falling back to `packs`.
    pub(crate) fn add_packs(&self, packs: Arc<Vec<PackRef>>) {
        lock(&self.sets).push(packs);
        lock(&self.is_searched).clear();
    }

    /// The packs of a snapshot, and where the pages of the set lie. Needs no index.
    ///
    /// # Errors
    /// When a pack that holds the set cannot be read.
    pub fn pack_set(
        &self,
        snapshot: &Snapshot,
    ) -> Result<(Vec<PackRef>, HashMap<BlobId, PackRef>), RepoError> {
        let places = self.ref_places(&snapshot.ref_packs)?;
        let mut packs: Vec<PackRef> = Vec::new();
        let mut pages = HashMap::new();
        let mut load = |id: BlobId| {
            let bytes = self.load_first(BlobKind::PackSet, id, &places)?;
            pages.extend(places.iter().find(|place| place.entry.id == id).map(|p| (id, p.pack)));
            Ok::<_, WalkError>(bytes)
        };
        page::walk::<PackSetCodec, _, WalkError>(snapshot.pack_set, &mut load, &mut |pack| {
            // Lists of packs have no keys; their order is what keeps a page from coming twice.
            if packs.last().is_some_and(|last| *last >= pack) {
                return Err(DecodeError::Invalid { what: "pack set", why: OUT_OF_ORDER }.into());
            }
            packs.push(pack);
            Ok(())
        })
        .map_err(|error| self.walk_error(snapshot.pack_set, error))?;
        Ok((packs, pages))
    }

    /// Calls `visit` with every pack of a pack set, but for those on pages in `seen`, which grows:
    /// pages that several snapshots share are read once. A page below which one cannot be read does
    /// not count as seen: that concerns everybody who shares it, and another reader may have it.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub(crate) fn each_pack(
        &self,
        pack_set: BlobId,
        ref_packs: &[PackRef],
        seen: &mut HashSet<BlobId>,
        visit: &mut dyn FnMut(PackRef),
    ) -> Result<(), RepoError> {
        if seen.contains(&pack_set) {
            return Ok(());
        }
        let places = self.ref_places(ref_packs)?;
        let (mut pages, mut interior) = (vec![(pack_set, None)], HashSet::new());
        while let Some((id, level)) = pages.pop() {
            if seen.contains(&id) || interior.contains(&id) {
                continue;
            }
            let bytes = self.load_first(BlobKind::PackSet, id, &places)?;
            let page = page::decode::<PackSetCodec>(&bytes, level)
                .map_err(|error| self.repo.damaged(&format!("blob {id}"), error))?;
            match page {
                (_, Page::Leaf(packs)) => {
                    packs.into_iter().for_each(&mut *visit);
                    seen.insert(id);
                }
                (level, Page::Interior(children)) => {
                    pages.extend(children.into_iter().map(|child| (child.page, Some(level - 1))));
                    interior.insert(id);
                }
            }
        }
        seen.extend(interior);
        Ok(())
    }

    /// What the packs hold that a snapshot names for the pages of its pack set.
    ///
    /// # Errors
    /// When one cannot be opened that may be whole.
    pub(crate) fn ref_places(&self, ref_packs: &[PackRef]) -> Result<Vec<BlobPlace>, RepoError> {
        let (mut places, mut damage) = (Vec::new(), None);
        for &pack in ref_packs {
            match self.packs.open(pack) {
                Ok(opened) => {
                    let blobs = opened.directory.blobs.iter();
                    places.extend(blobs.map(|&entry| BlobPlace { pack, entry }));
                }
                // What a damaged one held may be in another as well.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => damage = Some(error),
                Err(error) => return Err(error),
            }
        }
        // Else it would look as if what held it were gone.
        damage.filter(|_| places.is_empty()).map_or(Ok(places), Err)
    }

    /// Reads a blob from the first of `places` that has it whole.
    pub(crate) fn load_first(
        &self,
        kind: BlobKind,
        id: BlobId,
        places: &[BlobPlace],
    ) -> Result<Loaded, RepoError> {
        let mut error = self.missing(id);
        for place in places.iter().filter(|p| p.entry.id == id && p.entry.kind == kind) {
            match self.load(place) {
                Ok(loaded) => return Ok(loaded),
                // Whether another could be read says more than that one is damaged.
                Err(next) => error = if error.is_damage() { next } else { error },
            }
        }
        Err(error)
    }

    /// The packs behind.
    #[must_use]
    pub const fn packs(&self) -> &PackReader {
        &self.packs
    }

    /// The repository behind.
    #[must_use]
    pub const fn repo(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// The session that wrote the pack that holds a blob, and the entry of its group.
    ///
    /// # Errors
    /// When the pack cannot be opened.
    pub(crate) fn group_entry(
        &self,
        place: &BlobPlace,
    ) -> Result<(SessionId, GroupEntry), RepoError> {
        let opened = self.packs.open(place.pack)?;
        let group = opened.directory.groups.get(place.entry.group as usize);
        // The directory was compared with itself when it was decoded.
        let group = group.copied().ok_or_else(|| self.missing(place.entry.id))?;
        Ok((opened.header.session, group))
    }

    /// What a blob takes in its pack: its share of what its group was compressed to, in bytes.
    pub(crate) fn stored_bytes(&self, place: &BlobPlace) -> Result<u64, RepoError> {
        let (_, group) = self.group_entry(place)?;
        let share = u64::from(group.stored_bytes) * u64::from(place.entry.bytes);
        Ok(share / u64::from(group.raw_bytes).max(1))
    }

    /// Whether the index was silent or wrong about a blob that a snapshot needs.
    #[must_use]
    pub fn is_index_wrong(&self) -> bool {
        self.is_index_wrong.load(Ordering::Relaxed)
    }

    /// Reads a blob and compares it with its id.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack, when no other holds the blob whole; other blobs of
    /// the pack may be fine.
    pub fn blob(&self, kind: BlobKind, id: BlobId) -> Result<Loaded, RepoError> {
        self.blob_as(Form::Any, kind, id)
    }

    fn blob_as(&self, form: Form, kind: BlobKind, id: BlobId) -> Result<Loaded, RepoError> {
        let place = self.locate_as(form, kind, id)?;
        self.load(&place).or_else(|error| match error.kind() {
            RepoErrorKind::Damaged => {
                self.other_copy_as(form, kind, id, place.pack.pack).ok_or(error)
            }
            _ => Err(error),
        })
    }

    /// Reads the blob at `place` and compares it with its id.
    ///
    /// # Errors
    /// As [`blob`](Self::blob).
    pub fn load(&self, place: &BlobPlace) -> Result<Loaded, RepoError> {
        let BlobPlace { pack, entry } = place;
        let group = self.group(*pack, entry.group)?;
        let start = entry.offset as usize;
        let end = start + entry.bytes as usize;
        let Some(base) = entry.base else {
            self.packs.whole(*pack, entry, &group)?;
            return Ok(Loaded { group, start, end });
        };
        let plain = self.resolve(place, base, group.get(start..end).unwrap_or_default())?;
        let end = plain.len();
        Ok(Loaded { group: Arc::new(plain), start: 0, end })
    }

    fn group(&self, pack: PackRef, group: u32) -> Result<Arc<Vec<u8>>, RepoError> {
        if let Some(raw) = lock(&self.groups).get(&(pack.pack, group)) {
            return Ok(raw.clone());
        }
        let opened = self.packs.open(pack)?;
        let mut buffers = GroupBuffers::default();
        self.packs.group(pack, &opened, group, &mut buffers)?;
        let raw = Arc::new(buffers.raw);
        lock(&self.groups).insert((pack.pack, group), raw.len(), raw.clone());
        Ok(raw)
    }

    /// Walks a paged list of blobs of `kind`.
    ///
    /// # Errors
    /// What reading a page or `visit` returns.
    pub fn walk<C: page::LeafCodec>(
        &self,
        kind: BlobKind,
        root: BlobId,
        visit: &mut dyn FnMut(C::Item) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let mut list = ListCursor::<C>::open(self, kind, root)?;
        while let Some(item) = list.next(self)? {
            visit(item)?;
        }
        Ok(())
    }

    fn walk_error(&self, root: BlobId, error: WalkError) -> RepoError {
        match error {
            WalkError::Repo(error) => error,
            WalkError::Decode(error) => self.repo.damaged(&format!("blob {root}"), error),
        }
    }
}

/// A place in a paged list, from which it is read on; holds one page per level.
#[derive(Debug)]
pub struct ListCursor<C: page::LeafCodec> {
    kind: BlobKind,
    root: BlobId,
    pages: PageReader<C>,
}

impl<C: page::LeafCodec> ListCursor<C> {
    /// Opens the list of blobs of `kind` at its start.
    ///
    /// # Errors
    /// When the root page cannot be read.
    pub fn open(reader: &BlobReader, kind: BlobKind, root: BlobId) -> Result<Self, RepoError> {
        let mut load = |id| Ok::<_, WalkError>(reader.blob(kind, id)?);
        let pages = PageReader::open(root, &mut load);
        Ok(Self { kind, root, pages: pages.map_err(|error| reader.walk_error(root, error))? })
    }

    /// Sum of the measures of all items: their number, where items have no measure of their own.
    #[must_use]
    pub const fn measure(&self) -> u64 {
        self.pages.measure()
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// When a page cannot be read; the rest of the list is lost then.
    pub fn next(&mut self, reader: &BlobReader) -> Result<Option<C::Item>, RepoError> {
        let mut load = |id| Ok::<_, WalkError>(reader.blob(self.kind, id)?);
        self.pages.next(&mut load).map_err(|error| reader.walk_error(self.root, error))
    }
}

enum WalkError {
    Repo(RepoError),
    Decode(DecodeError),
}

impl From<RepoError> for WalkError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl From<DecodeError> for WalkError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

const OUT_OF_ORDER: &str = "its packs are out of order";
/// Bytes of the groups that are kept decompressed.
const GROUP_BYTES_KEPT: usize = 24 << 20;
