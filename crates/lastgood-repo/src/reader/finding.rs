//! Where blobs are: by the index as far as packs agree with it, else by the packs that snapshots name.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lastgood_format::gc::PackLocation;
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::Class;
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;

use super::{BlobPlace, BlobReader, Loaded};
use crate::error::RepoError;
use crate::gc::Places;
use crate::index::{Index, IndexLocation};
use crate::packer::lock;

/// How a blob may be stored where it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole, or as a change of another.
    Any,
    /// Whole.
    Whole,
}

impl BlobReader {
    /// Finds a blob: by the index when it is right, else among the packs of the snapshots.
    ///
    /// # Errors
    /// [`RepoError::MissingBlob`] when no pack that is known has it.
    pub fn locate(&self, kind: BlobKind, id: BlobId) -> Result<BlobPlace, RepoError> {
        self.locate_as(Form::Any, kind, id)
    }

    pub(crate) fn locate_as(
        &self,
        form: Form,
        kind: BlobKind,
        id: BlobId,
    ) -> Result<BlobPlace, RepoError> {
        let mut lookup = Lookup { reader: self, form, kind, id, trouble: None };
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
        let mut lookup = Lookup { reader: self, form: Form::Any, kind, id, trouble: None };
        let mut places = lookup.all(&*self.repo.index()?);
        if let Some(searched) = self.search(kind.class())? {
            places.extend(lookup.all(&searched));
        }
        match lookup.trouble {
            Some(trouble) if trouble.is_transient() => Err(trouble),
            _ => Ok(places),
        }
    }

    /// Reads a blob from another pack than `damaged`, where it cannot be read; some runs store one
    /// blob twice.
    #[must_use]
    pub fn other_copy(&self, kind: BlobKind, id: BlobId, damaged: PackId) -> Option<Loaded> {
        self.other_copy_as(Form::Any, kind, id, damaged)
    }

    pub(super) fn other_copy_as(
        &self,
        form: Form,
        kind: BlobKind,
        id: BlobId,
        damaged: PackId,
    ) -> Option<Loaded> {
        let mut lookup = Lookup { reader: self, form, kind, id, trouble: None };
        let mut in_index = |index: Arc<Index>| {
            let mut places = lookup.all(&index);
            places.retain(|place| place.pack.pack != damaged);
            places.iter().find_map(|place| self.load(place).ok())
        };
        let found = self.repo.index().ok().and_then(&mut in_index);
        found.or_else(|| self.search(kind.class()).ok().flatten().and_then(in_index))
    }

    /// What the packs of `class` hold that the snapshots name: each is opened once.
    pub(super) fn search(&self, class: Class) -> Result<Option<Arc<Index>>, RepoError> {
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

    pub(super) fn missing(&self, blob: BlobId) -> RepoError {
        RepoError::MissingBlob { blob, location: self.repo.location().to_owned() }
    }
}

/// Looks for one blob in what indexes tell.
struct Lookup<'a> {
    reader: &'a BlobReader,
    form: Form,
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
        if self.form == Form::Whole && entry.base.is_some() {
            return None;
        }
        Some(BlobPlace { pack: at.pack, entry })
    }
}

/// Entries of packs that were searched for, in one run of their index: 2 MiB.
const LISTED_ENTRIES: usize = 1 << 16;
