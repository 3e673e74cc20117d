//! Chunks as changes of others, and moving blobs as they are stored.
//! Spec: `docs/format/pack.md`, section 6.

use lastgood_format::delta;
use lastgood_format::id::BlobId;
use lastgood_format::pack::{BlobEntry, BlobKind, PackedBlob};

use super::BlobWriter;
use crate::error::RepoError;
use crate::footing::Footings;
use crate::reader::Form;

impl BlobWriter {
    /// As [`add`](Self::add), for a chunk that is like `base`: stored as a change of that, or of what
    /// that is a change of, where the repository takes deltas, the base can be had whole, and it
    /// pays.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn add_like(&mut self, base: BlobId, chunk: &[u8]) -> Result<BlobId, RepoError> {
        let kind = BlobKind::Chunk;
        let id = self.shared.repo.keys().blob_id(kind, chunk);
        let is_new = self.claim(Form::Any, kind, id, chunk.len());
        if is_new && !self.append_delta(id, chunk, Some(base))? {
            self.append(PackedBlob { id, kind, base: None, bytes: chunk.len() as u32 }, chunk)?;
        }
        Ok(id)
    }

    /// Stores a new chunk as a change of what is like it. Returns whether it did.
    pub(super) fn append_delta(
        &mut self,
        id: BlobId,
        chunk: &[u8],
        like: Option<BlobId>,
    ) -> Result<bool, RepoError> {
        let shared = self.shared.clone();
        let Some(like) = like.filter(|_| shared.takes_deltas) else { return Ok(false) };
        let own = shared.session();
        let may_refer_to = |pack: &_| shared.is_own_or_usable(own, pack);
        let place = Footings::new(&shared.index, shared.reader.packs(), &may_refer_to).base(like);
        let Some(place) = place.filter(|place| place.entry.id != id) else { return Ok(false) };
        // What cannot be read is no base; whoever checks or restores hears of it.
        let Ok(base) = shared.reader.load(&place) else { return Ok(false) };
        let Some(delta) = delta::encode(chunk, &base, chunk.len() / PAYS) else { return Ok(false) };
        self.used.insert(place.pack);
        let base = Some(place.entry.id);
        let blob = PackedBlob { id, kind: BlobKind::Chunk, base, bytes: delta.len() as u32 };
        self.append(blob, &delta)?;
        Ok(true)
    }

    /// Stores what a pack holds of a blob: `stored` is the whole blob, or its delta. What is whole
    /// there counts as known only where it is whole.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) fn move_blob(&mut self, entry: &BlobEntry, stored: &[u8]) -> Result<(), RepoError> {
        let BlobEntry { id, kind, base, bytes, .. } = *entry;
        let form = if base.is_some() { Form::Any } else { Form::Whole };
        if self.claim(form, kind, id, stored.len()) {
            self.append(PackedBlob { id, kind, base, bytes }, stored)?;
        }
        Ok(())
    }
}

/// The chunks of the version before, of which each new one is like the one that stands in its place:
/// behind the same chunk, or at the same number.
pub(super) struct Previous<'a> {
    chunks: &'a [BlobId],
    next: usize,
}

impl<'a> Previous<'a> {
    pub(super) const fn new(chunks: &'a [BlobId]) -> Self {
        Self { chunks, next: 0 }
    }

    /// What the next chunk is like, which turns out to be `id`.
    pub(super) fn like(&mut self, id: BlobId) -> Option<BlobId> {
        let like = self.chunks.get(self.next).copied();
        let same = self.chunks.iter().position(|chunk| *chunk == id);
        self.next = same.unwrap_or(self.next) + 1;
        like
    }
}

/// A delta is stored when it is at most this part of its chunk.
const PAYS: usize = 8;
