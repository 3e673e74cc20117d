//! Blobs that are stored as a change of another.
//! Spec: `docs/format/pack.md`, section 6.

use lastgood_format::delta;
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::pack::{BlobEntry, BlobKind};
use lastgood_format::packset::PackRef;

use super::{BlobPlace, BlobReader, Form, Loaded};
use crate::error::{Damage, RepoError};

impl BlobReader {
    /// The blob at `place`, of which `delta` is stored there, compared with its id. Its base is read
    /// from wherever that lies whole, so nothing is resolved in turn.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack of the delta, or that of the base where this is what is
    /// damaged.
    pub(super) fn resolve(
        &self,
        place: &BlobPlace,
        base: BlobId,
        delta: &[u8],
    ) -> Result<Vec<u8>, RepoError> {
        let BlobPlace { pack, entry } = place;
        let bytes = self.blob_as(Form::Whole, entry.kind, base).map_err(|error| match error {
            RepoError::MissingBlob { .. } => {
                self.packs.damaged(*pack, Damage::Base { blob: entry.id, base })
            }
            error => error,
        })?;
        let plain =
            delta::resolve(delta, &bytes).map_err(|error| self.packs.damaged(*pack, error))?;
        if self.repo.keys().blob_id(entry.kind, &plain) != entry.id {
            return Err(self.packs.damaged(*pack, Damage::Blob(entry.id)));
        }
        Ok(plain)
    }

    /// The bytes that are stored at `place`, which make the blob of its id.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_as_stored(&self, place: &BlobPlace) -> Result<Loaded, RepoError> {
        let loaded = self.load(place)?;
        let BlobEntry { base, group, offset, bytes, .. } = place.entry;
        if base.is_none() {
            return Ok(loaded);
        }
        let (start, end) = (offset as usize, offset as usize + bytes as usize);
        Ok(Loaded { group: self.group(place.pack, group)?, start, end })
    }

    /// The packs that hold a blob, and those that hold what it is a change of there.
    ///
    /// # Errors
    /// When a pack may be opened later.
    pub(crate) fn packs_with_bases(
        &self,
        kind: BlobKind,
        id: BlobId,
    ) -> Result<Vec<PackRef>, RepoError> {
        let places = self.places(kind, id)?;
        let mut packs: Vec<PackRef> = places.iter().map(|place| place.pack).collect();
        for base in places.iter().filter_map(|place| place.entry.base) {
            let bases = self.places(kind, base)?;
            packs.extend(bases.iter().filter(|it| it.entry.base.is_none()).map(|it| it.pack));
        }
        Ok(packs)
    }

    /// Whether a blob lies in a pack that `is_good` takes, and what it is a change of there in
    /// another such one.
    ///
    /// # Errors
    /// When a pack may be opened later.
    pub(crate) fn is_in(
        &self,
        kind: BlobKind,
        id: BlobId,
        is_good: &dyn Fn(PackId) -> bool,
    ) -> Result<bool, RepoError> {
        let is_whole = |place: &BlobPlace| place.entry.base.is_none();
        let mut places = self.places(kind, id)?;
        places.retain(|place| is_good(place.pack.pack));
        if places.iter().any(is_whole) {
            return Ok(true);
        }
        for base in places.iter().filter_map(|place| place.entry.base) {
            let bases = self.places(kind, base)?;
            if bases.iter().any(|place| is_whole(place) && is_good(place.pack.pack)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
