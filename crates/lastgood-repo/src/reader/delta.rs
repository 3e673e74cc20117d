//! Blobs that are stored as a change of another.
//! Spec: `docs/format/pack.md`, section 6.

use lastgood_format::delta;
use lastgood_format::id::BlobId;

use super::{BlobPlace, BlobReader, Form};
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
}
