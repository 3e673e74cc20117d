//! Deltas: a blob stored as a change of another, its *base*.
//!
//! A delta is the length of the blob and one zstd frame that has the whole base as *prefix*: bytes
//! that stand before those of the frame, whatever they are.
//! Spec: `docs/format/pack.md`, section 6.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, find_frame_compressed_size};

use crate::encoding::{DecodeError, Reader, Write};
use crate::limits::BLOB_BYTES_MAX;

/// The delta that makes `blob` of `base`, where that takes at most `bytes_max` bytes. The two must
/// not overlap in memory: zstd would find nothing of the one in the other.
///
/// # Panics
/// When memory for the tables of zstd cannot be had.
#[must_use]
pub fn encode(blob: &[u8], base: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut delta = Vec::with_capacity(bytes_max);
    delta.varint(blob.len() as u64);
    let length = delta.len();
    delta.resize(bytes_max.max(length), 0);
    let mut zstd = CCtx::create();
    let level = CParameter::CompressionLevel(LEVEL);
    zstd.set_parameter(level).and_then(|_| zstd.ref_prefix(base)).expect("zstd takes any prefix");
    // zstd gives up as soon as the result would be too long.
    let bytes = zstd.compress2(delta.get_mut(length..)?, blob).ok()?;
    delta.truncate(length.saturating_add(bytes));
    Some(delta)
}

/// The blob that a delta makes of its base. Whether it is the right one, its id tells.
///
/// # Errors
/// When it is not one frame that decompresses to just the length in front; never more is allocated.
///
/// # Panics
/// As [`encode`].
pub fn resolve(delta: &[u8], base: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(delta, "delta");
    let length = reader.varint_max(BLOB_BYTES_MAX)?;
    let invalid = |why| DecodeError::invalid("delta", why);
    let frame = reader.rest();
    if find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(invalid("it is not one zstd frame"));
    }
    let mut blob = Vec::with_capacity(length);
    let mut zstd = DCtx::create();
    zstd.ref_prefix(base).expect("zstd takes any prefix");
    match zstd.decompress(&mut blob, frame) {
        Ok(bytes) if bytes == length && length > 0 => Ok(blob),
        _ => Err(invalid("it does not decompress to its length")),
    }
}

/// Higher ones store hardly less: nearly all of a delta is where it copies the base from. Of a base
/// that is longer than a chunk ever is at the ordinary chunker, zstd looks at the last megabyte.
const LEVEL: i32 = 3;

#[cfg(test)]
mod tests;
