//! Reading blobs: find, fetch, open, decompress, and compare with the id.
//!
//! The index tells where a blob is. Where it is silent or wrong, the packs that the snapshot names
//! are searched, so a lost or poisoned index costs time and nothing else.

mod healing;
mod lru;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lastgood_backend::ErrorKind;
use lastgood_format::encoding::{DecodeError, Reader};
use lastgood_format::gc::PackLocation;
use lastgood_format::group::{GroupDecompressor, open_frames};
use lastgood_format::id::{BlobId, PackId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::Class;
use lastgood_format::limits::BLOB_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::pack::{
    BlobEntry, BlobKind, FOOTER_BYTES, GroupEntry, OpenedPack, PackError, PackFooter, open_end,
    open_whole,
};
use lastgood_format::packset::{PackRef, PackSetCodec};
use lastgood_format::page::{self, Page, PageReader};
use lastgood_format::snapshot::Snapshot;

use crate::error::{Damage, RepoError, RepoErrorKind};
use crate::gc::Places;
use crate::index::{Index, IndexLocation};
use crate::objects::object_name;
use crate::packer::lock;
use crate::repository::Repository;
use healing::{Healed, HealedPacks};
use lru::Lru;

/// Fetches packs' directories and groups. Keeps the directories it opened, up to a bound.
#[derive(Debug)]
pub struct PackReader {
    repo: Arc<Repository>,
    opened: Mutex<Lru<PackId, Arc<OpenedPack>>>,
    healed: HealedPacks,
    /// Where packs lie: listed for those that are not where their writer put them, or damaged.
    places: Mutex<Option<HashMap<PackId, Vec<SessionId>>>>,
}

impl PackReader {
    /// Reads packs of `repo`.
    #[must_use]
    pub fn new(repo: Arc<Repository>) -> Self {
        Self {
            repo,
            opened: Mutex::new(Lru::new(OPENED_BLOBS_MAX)),
            healed: HealedPacks::default(),
            places: Mutex::default(),
        }
    }

    /// Opens a pack's directory: one or two ranged reads unless it is open already. A damaged
    /// one is read whole and mended.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack.
    pub fn open(&self, pack: PackRef) -> Result<Arc<OpenedPack>, RepoError> {
        if let Some(opened) = lock(&self.opened).get(&pack.pack) {
            return Ok(opened.clone());
        }
        let opened = self.open_stored(pack).or_else(|error| {
            let healed = self.healed_after(error, pack)?;
            open_whole(self.repo.keys(), &healed.bytes).map_err(|error| self.damaged(pack, error))
        })?;
        let opened = Arc::new(opened);
        lock(&self.opened).insert(pack.pack, opened.directory.blobs.len(), opened.clone());
        Ok(opened)
    }

    fn open_stored(&self, pack: PackRef) -> Result<OpenedPack, RepoError> {
        let mut end = Vec::new();
        let guess = pack.bytes.min(END_BYTES_GUESS);
        self.read(pack, pack.bytes - guess, pack.bytes, &mut end)?;
        let damaged = |error: PackError| self.damaged(pack, error);
        let footer = end
            .last_chunk::<FOOTER_BYTES>()
            .ok_or(PackError::Footer(DecodeError::Truncated { what: "pack" }));
        let footer = footer
            .and_then(|footer| PackFooter::decode(footer).map_err(PackError::Footer))
            .map_err(damaged)?;
        let end_bytes = u64::from(footer.end_bytes);
        if footer.pack_bytes != pack.bytes {
            let why = DecodeError::Invalid { what: "pack", why: "it is not of its length" };
            return Err(damaged(PackError::Footer(why)));
        }
        if end_bytes > guess {
            self.read(pack, pack.bytes - end_bytes, pack.bytes, &mut end)?;
        }
        let start = end.len() - footer.end_bytes as usize;
        open_end(self.repo.keys(), &mut end[start..]).map_err(damaged)
    }

    /// Fetches and decompresses one group; where it is damaged, the pack is read whole and mended.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack.
    pub fn group(
        &self,
        pack: PackRef,
        opened: &OpenedPack,
        group: u32,
        buffers: &mut GroupBuffers,
    ) -> Result<(), RepoError> {
        let entry = self.group_entry(pack, opened, group)?;
        let range = opened.header.group_range(&entry);
        let mut frames = std::mem::take(&mut buffers.frames);
        let read = self.read(pack, range.start, range.end, &mut frames);
        let mut result =
            read.and_then(|()| self.group_of(pack, opened, group, &mut frames, buffers));
        if let Err(error) = result {
            result = self.healed_after(error, pack).and_then(|healed| {
                frames.clear();
                let range = range.start as usize..range.end as usize;
                frames.extend_from_slice(healed.bytes.get(range).unwrap_or_default());
                self.group_of(pack, opened, group, &mut frames, buffers)
            });
        }
        buffers.frames = frames;
        result
    }

    /// The pack that was damaged, as `error` says, as far as it can be mended; or that error.
    fn healed_after(&self, error: RepoError, pack: PackRef) -> Result<Arc<Healed>, RepoError> {
        match error.kind() {
            RepoErrorKind::Damaged => self.heal(pack)?.ok_or(error),
            _ => Err(error),
        }
    }

    /// Opens and decompresses one group whose `frames` were fetched; they are overwritten.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack.
    pub(crate) fn group_of(
        &self,
        pack: PackRef,
        opened: &OpenedPack,
        group: u32,
        frames: &mut [u8],
        buffers: &mut GroupBuffers,
    ) -> Result<(), RepoError> {
        let entry = self.group_entry(pack, opened, group)?;
        let GroupBuffers { payload, raw, decompressor, .. } = buffers;
        payload.clear();
        open_frames(
            &opened.secret,
            entry.salt,
            opened.header.frame_size,
            frames,
            entry.stored_bytes as usize,
            payload,
        )
        .map_err(|error| self.damaged(pack, error.source))?;
        decompressor
            .decompress(entry.compression, payload, entry.raw_bytes as usize, raw)
            .map_err(|error| self.damaged(pack, error))
    }

    fn group_entry(
        &self,
        pack: PackRef,
        opened: &OpenedPack,
        group: u32,
    ) -> Result<GroupEntry, RepoError> {
        let invalid = DecodeError::Invalid { what: "pack directory", why: "no such group" };
        let entry = opened.directory.groups.get(group as usize);
        entry.copied().ok_or_else(|| self.damaged(pack, invalid))
    }

    /// The bytes of a blob in its group's plaintext, compared with its id. A delta is not resolved.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] when they are not what the id says.
    pub fn whole<'a>(
        &self,
        pack: PackRef,
        blob: &BlobEntry,
        raw: &'a [u8],
    ) -> Result<&'a [u8], RepoError> {
        let start = blob.offset as usize;
        let bytes = raw.get(start..start + blob.bytes as usize).unwrap_or_default();
        #[cfg(feature = "seeded-bugs")]
        if self.repo.has_bug(crate::SeededBug::IdNotRecomputed) {
            return Ok(bytes);
        }
        if self.repo.keys().blob_id(blob.kind, bytes) == blob.id {
            Ok(bytes)
        } else {
            Err(self.damaged(pack, Damage::Blob(blob.id)))
        }
    }

    /// Reads a range of a pack, wherever it lies.
    pub(crate) fn read(
        &self,
        pack: PackRef,
        start: u64,
        end: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), RepoError> {
        let mut read = |session| {
            let at = object_name(&name::pack(session, pack.pack));
            self.repo.backend().get_range(&at, start..end, out)
        };
        match read(pack.session) {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let session = self.places(pack.pack)?.first().copied().ok_or(error)?;
                Ok(read(session)?)
            }
            other => Ok(other?),
        }
    }

    /// The sessions under which a pack is stored.
    fn places(&self, pack: PackId) -> Result<Vec<SessionId>, RepoError> {
        let mut places = lock(&self.places);
        if places.is_none() {
            let mut listed: HashMap<PackId, Vec<SessionId>> = HashMap::new();
            for (session, pack, _) in self.repo.all_packs()? {
                listed.entry(pack).or_default().push(session);
            }
            *places = Some(listed);
        }
        Ok(places.as_ref().and_then(|places| places.get(&pack)).cloned().unwrap_or_default())
    }

    pub(crate) fn damaged(&self, pack: PackRef, source: impl Into<Damage>) -> RepoError {
        self.repo.damaged(&name::pack(pack.session, pack.pack), source)
    }
}

/// Buffers for fetching groups, used again and again.
#[derive(Debug, Default)]
pub struct GroupBuffers {
    frames: Vec<u8>,
    payload: Vec<u8>,
    /// Plaintext of the group fetched last.
    pub raw: Vec<u8>,
    decompressor: GroupDecompressor,
}

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

    /// Finds a blob: by the index when it is right, else among the packs of the snapshots.
    ///
    /// # Errors
    /// [`RepoError::MissingBlob`] when no pack that is known has it.
    pub fn locate(&self, kind: BlobKind, id: BlobId) -> Result<BlobPlace, RepoError> {
        let mut lookup = Lookup { reader: self, kind, id, trouble: None };
        match self.repo.index() {
            Ok(index) => {
                if let Some(place) = lookup.first(&index)? {
                    return Ok(place);
                }
            }
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => lookup.trouble = Some(error),
        }
        self.is_index_wrong.store(true, Ordering::Relaxed);
        let found = match self.search(kind.class())? {
            Some(searched) => lookup.first(&searched)?,
            None => None,
        };
        found.ok_or_else(|| lookup.trouble.unwrap_or_else(|| self.missing(id)))
    }

    /// Every place of a blob that the index or the packs of the snapshots tell of.
    ///
    /// # Errors
    /// When a pack may be opened later.
    pub(crate) fn places(&self, kind: BlobKind, id: BlobId) -> Result<Vec<BlobPlace>, RepoError> {
        let mut lookup = Lookup { reader: self, kind, id, trouble: None };
        let mut places = lookup.all(&*self.repo.index()?);
        if let Some(searched) = self.search(kind.class())? {
            places.extend(lookup.all(&searched));
        }
        match lookup.trouble {
            Some(trouble) if trouble.is_transient() => Err(trouble),
            _ => Ok(places),
        }
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

    /// Reads a blob from another pack than `damaged`, where it cannot be read; some runs store one
    /// blob twice.
    #[must_use]
    pub fn other_copy(&self, kind: BlobKind, id: BlobId, damaged: PackId) -> Option<Loaded> {
        let mut lookup = Lookup { reader: self, kind, id, trouble: None };
        let mut in_index = |index: Arc<Index>| {
            let mut places = lookup.all(&index);
            places.retain(|place| place.pack.pack != damaged);
            places.iter().find_map(|place| self.load(place).ok())
        };
        let found = self.repo.index().ok().and_then(&mut in_index);
        found.or_else(|| self.search(kind.class()).ok().flatten().and_then(in_index))
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
        let place = self.locate(kind, id)?;
        self.load(&place).or_else(|error| match error.kind() {
            RepoErrorKind::Damaged => self.other_copy(kind, id, place.pack.pack).ok_or(error),
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
        let base = self.locate(entry.kind, base)?;
        if base.entry.base.is_some() {
            let why = DecodeError::Invalid { what: "delta", why: "its base is a delta as well" };
            return Err(self.packs.damaged(*pack, why));
        }
        let delta = group.get(start..end).unwrap_or_default();
        let plain = resolve_delta(delta, &self.load(&base)?)
            .map_err(|error| self.packs.damaged(*pack, error))?;
        if self.repo.keys().blob_id(entry.kind, &plain) != entry.id {
            return Err(self.packs.damaged(*pack, Damage::Blob(entry.id)));
        }
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

    /// What the packs of `class` hold that the snapshots name: each is opened once.
    fn search(&self, class: Class) -> Result<Option<Arc<Index>>, RepoError> {
        // Held to the end: whoever comes meanwhile must not take an unfinished search for an answer.
        let mut is_searched = lock(&self.is_searched);
        if !is_searched.contains(&class) {
            let sets = lock(&self.sets).clone();
            let packs = sets.iter().flat_map(|set| set.iter()).filter(|pack| pack.class == class);
            let found = lock(&self.searched).clone();
            let found = found.unwrap_or_else(|| Arc::new(self.repo.index_aside()));
            self.list_packs(packs.copied(), &found)?;
            let named = sets.iter().flat_map(|set| set.iter()).map(|pack| pack.pack);
            let moved = self.relocated(named)?;
            self.list_packs(moved.into_iter().filter(|pack| pack.class == class), &found)?;
            *lock(&self.searched) = Some(found);
            is_searched.insert(class);
        }
        Ok(lock(&self.searched).clone())
    }

    /// Adds to `index` what `packs` hold by their own directories.
    ///
    /// # Errors
    /// When a pack may be opened later. A damaged one is passed over.
    pub(crate) fn list_packs(
        &self,
        packs: impl IntoIterator<Item = PackRef>,
        index: &Index,
    ) -> Result<(), RepoError> {
        let mut segment = IndexSegment::default();
        let known: HashSet<PackId> = index.packs().into_iter().map(|pack| pack.pack).collect();
        for pack in packs.into_iter().filter(|pack| !known.contains(&pack.pack)) {
            let opened = match self.packs.open(pack) {
                Ok(opened) => opened,
                Err(error) if error.is_transient() => return Err(error),
                // A damaged pack must not hide what the others hold.
                Err(_) => continue,
            };
            segment.add_pack(pack, &opened.directory.blobs);
            if segment.entries.len() >= LISTED_ENTRIES {
                index.add_aside(std::mem::take(&mut segment));
            }
        }
        index.add_aside(segment);
        Ok(())
    }

    /// The packs that relocations put in the place of `packs`, and can be opened. Two listings.
    ///
    /// # Errors
    /// When relocations or packs cannot be listed. A damaged one is passed over.
    pub(crate) fn relocated(
        &self,
        packs: impl IntoIterator<Item = PackId>,
    ) -> Result<Vec<PackRef>, RepoError> {
        let relocations = match self.repo.relocations() {
            Err(error) if error.is_damage() => return Ok(Vec::new()),
            relocations => relocations?,
        };
        let to = relocations.closure(packs);
        if to.is_empty() {
            return Ok(Vec::new());
        }
        let places = Places::list(&self.repo)?;
        let mut found = Vec::new();
        for PackLocation { pack, .. } in to {
            let Some((at, bytes)) = places.of(pack).next() else { continue };
            let mut pack = PackRef { session: at.session, pack, class: Class::Data, bytes };
            match self.packs.open(pack) {
                Ok(opened) => pack.class = opened.header.class,
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => continue,
            }
            found.push(pack);
        }
        Ok(found)
    }

    fn missing(&self, blob: BlobId) -> RepoError {
        RepoError::MissingBlob { blob, location: self.repo.location().to_owned() }
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

/// Looks for one blob in what indexes tell.
struct Lookup<'a> {
    reader: &'a BlobReader,
    kind: BlobKind,
    id: BlobId,
    /// Why a pack could not be looked into that may hold it all the same.
    trouble: Option<RepoError>,
}

impl Lookup<'_> {
    /// The first place that `index` tells of.
    fn first(&mut self, index: &Index) -> Result<Option<BlobPlace>, RepoError> {
        let mut place = None;
        index.find(self.id, &mut |at| {
            place = self.confirm(at);
            place.is_some()
        });
        match self.trouble.take_if(|trouble| place.is_none() && trouble.is_transient()) {
            Some(trouble) => Err(trouble),
            None => Ok(place),
        }
    }

    /// Every place that `index` tells of.
    fn all(&mut self, index: &Index) -> Vec<BlobPlace> {
        let mut places = Vec::new();
        index.find(self.id, &mut |at| {
            places.extend(self.confirm(at));
            false
        });
        places
    }

    /// The index is believed only as far as the pack itself agrees.
    fn confirm(&mut self, at: &IndexLocation) -> Option<BlobPlace> {
        let entry = match self.reader.packs.open(at.pack) {
            Ok(opened) => opened.directory.blobs.get(at.ordinal as usize).copied(),
            Err(error) => {
                let tells_nothing = error.is_unread() || !error.is_damage();
                self.trouble = self.trouble.take().or(tells_nothing.then_some(error));
                None
            }
        };
        let entry = entry.filter(|entry| entry.id == self.id && entry.kind == self.kind)?;
        Some(BlobPlace { pack: at.pack, entry })
    }
}

/// Turns a delta into plaintext: a length, then a zstd frame that refers to the base.
/// spec: pack §6
fn resolve_delta(delta: &[u8], base: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(delta, "delta");
    let length = reader.varint_max(BLOB_BYTES_MAX)?;
    let invalid = |_| DecodeError::Invalid { what: "delta", why: "it does not decompress" };
    let mut zstd = zstd::bulk::Decompressor::with_dictionary(base).map_err(invalid)?;
    let plain = zstd.decompress(reader.rest(), length).map_err(invalid)?;
    if plain.len() == length { Ok(plain) } else { Err(invalid(std::io::ErrorKind::Other.into())) }
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

/// Blobs in the directories that are kept open, at about 80 bytes each: 20 MiB.
const OPENED_BLOBS_MAX: usize = 1 << 18;
const OUT_OF_ORDER: &str = "its packs are out of order";
/// Entries of packs that were searched for, in one run of their index: 2 MiB.
const LISTED_ENTRIES: usize = 1 << 16;
/// Bytes of the groups that are kept decompressed.
const GROUP_BYTES_KEPT: usize = 24 << 20;
/// What is fetched of a pack's end at first; most directories fit.
const END_BYTES_GUESS: u64 = 64 << 10;
