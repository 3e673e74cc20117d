//! Index segments: which pack holds which blob. A hint that can be rebuilt from the packs.
//! Spec: `docs/format/index.md`.

use crate::encoding::{DecodeError, Reader, Write, stored_length};
use crate::id::{BlobId, SessionId};
use crate::key::{KeyError, RepositoryKeys};
use crate::limits::{BLOB_BYTES_MAX, INDEX_ENTRIES_MAX, PACK_BLOBS_MAX};
use crate::object::{ObjectKind, SealedUnder, open, seal};
use crate::pack::BlobEntry;
use crate::packset::PackRef;

/// The first 16 bytes of a [`BlobId`]: enough to find it, since the whole id is compared on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobPrefix(pub [u8; 16]);

impl From<BlobId> for BlobPrefix {
    fn from(id: BlobId) -> Self {
        let mut prefix = [0; 16];
        prefix.copy_from_slice(id.as_bytes().split_at(16).0);
        Self(prefix)
    }
}

impl BlobPrefix {
    /// The first eight bytes as a number whose order is that of the bytes.
    #[must_use]
    pub fn leading(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, &byte| (number << 8) | u64::from(byte))
    }

    /// A hash for filters.
    #[must_use]
    pub fn filter_key(&self) -> u64 {
        let mut key = [0; 8];
        key.copy_from_slice(self.0.split_at(8).1);
        u64::from_le_bytes(key)
    }
}

/// One blob of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexEntry {
    /// The blob.
    pub blob: BlobPrefix,
    /// Its pack, as an index into the segment's packs.
    pub pack: u32,
    /// Its position among the blobs of the pack's directory.
    pub ordinal: u32,
    /// Its length in bytes.
    pub bytes: u32,
}

/// One immutable segment: packs, and their blobs sorted by prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexSegment {
    /// The packs it covers, whole.
    pub packs: Vec<PackRef>,
    /// Their blobs, sorted by prefix, then pack.
    pub entries: Vec<IndexEntry>,
}

impl IndexSegment {
    /// Adds what `other` covers. The entries must be sorted before they are stored.
    pub fn append(&mut self, other: Self) {
        let offset = stored_length(self.packs.len());
        self.packs.extend(other.packs);
        self.entries.extend(
            other
                .entries
                .into_iter()
                .map(|entry| IndexEntry { pack: entry.pack.saturating_add(offset), ..entry }),
        );
    }

    /// Adds a pack whose directory lists `blobs`. The entries must be sorted before they are stored.
    pub fn add_pack(&mut self, pack: PackRef, blobs: &[BlobEntry]) {
        let number = stored_length(self.packs.len());
        self.packs.push(pack);
        self.entries.extend(blobs.iter().zip(0..).map(|(blob, ordinal)| IndexEntry {
            blob: blob.id.into(),
            pack: number,
            ordinal,
            bytes: blob.bytes,
        }));
    }

    /// The stored form, sealed under the index secret.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, session: SessionId, random: &[u8; 32]) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.entries.len().saturating_mul(24));
        body.varint(self.packs.len() as u64);
        self.packs.iter().for_each(|pack| pack.encode(&mut body));
        body.varint(self.entries.len() as u64);
        self.entries.iter().for_each(|entry| body.extend_from_slice(&entry.blob.0));
        self.entries.iter().for_each(|entry| body.varint(u64::from(entry.pack)));
        self.entries.iter().for_each(|entry| body.varint(u64::from(entry.ordinal)));
        self.entries.iter().for_each(|entry| body.varint(u64::from(entry.bytes)));
        seal(
            ObjectKind::Index,
            keys.repository(),
            SealedUnder::Index(keys.index(), session),
            random,
            &body,
        )
    }

    /// Opens and parses a segment.
    ///
    /// # Errors
    /// When it was changed, belongs elsewhere, or is not canonical.
    pub fn decode(keys: &RepositoryKeys, bytes: &[u8]) -> Result<Self, KeyError> {
        let body = open(ObjectKind::Index, keys, BODY_BYTES_MAX, bytes)?;
        Ok(Self::decode_body(&body)?)
    }

    /// Parses the plaintext of a segment.
    ///
    /// # Errors
    /// When it is not canonical.
    pub fn decode_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, "index segment");
        let pack_count = reader.count(INDEX_ENTRIES_MAX, 50)?;
        let packs =
            (0..pack_count).map(|_| PackRef::decode(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let count = reader.count(INDEX_ENTRIES_MAX, 19)?;
        let (blobs, _) = reader.take(count.saturating_mul(16))?.as_chunks::<16>();
        let mut entries: Vec<IndexEntry> = blobs
            .iter()
            .map(|blob| IndexEntry { blob: BlobPrefix(*blob), pack: 0, ordinal: 0, bytes: 0 })
            .collect();
        for entry in &mut entries {
            entry.pack = stored_length(reader.varint_max(pack_count.saturating_sub(1))?);
        }
        for entry in &mut entries {
            entry.ordinal = stored_length(reader.varint_max(PACK_BLOBS_MAX)?);
        }
        for entry in &mut entries {
            entry.bytes = stored_length(reader.varint_max(BLOB_BYTES_MAX)?);
        }
        if (pack_count == 0 && count > 0) || !entries.is_sorted() {
            return Err(reader.invalid("its blobs are out of order"));
        }
        reader.finish()?;
        Ok(Self { packs, entries })
    }
}

/// Longest plaintext of a segment, in bytes: that of its stored form.
const BODY_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests;
