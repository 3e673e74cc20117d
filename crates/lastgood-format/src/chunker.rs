//! Content-defined cuts: where a byte stream is split into chunks.
//!
//! A cut depends on the 16 bytes before it, a key, and its distance from the previous cut, so an
//! insertion moves the cuts around it and no others. Spec: `docs/format/chunker.md`.

use std::fmt;

use zeroize::Zeroize;

use crate::encoding::DecodeError;
use crate::limits::BLOB_BYTES_MAX;

mod portable;
mod simd;

/// How a stream is cut. Recorded with every snapshot; its stored form never changes meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkerParams {
    /// Cuts at the smallest keyed value of the preceding 16 bytes, `target / 2` to
    /// `3 * target / 2` bytes after the previous cut.
    MinAes {
        /// Mean chunk length in bytes, a multiple of [`Self::STEP_BYTES`] from
        /// [`Self::BYTES_MIN`] to [`Self::BYTES_MAX`].
        target: u32,
    },
    /// Cuts at every multiple of `block`, for what is never shifted: images, devices.
    Fixed {
        /// Chunk length in bytes, with the bounds of `target`.
        block: u32,
    },
}

/// Which chunker cut something, as it is recorded. Reading never needs to know it, so one that a
/// later release invented hides nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordedChunker(pub [u8; 5]);

impl RecordedChunker {
    /// The chunker, if this program knows it.
    ///
    /// # Errors
    /// When it is of a later release.
    pub fn params(self) -> Result<ChunkerParams, DecodeError> {
        ChunkerParams::from_bytes(self.0)
    }
}

impl std::fmt::Debug for RecordedChunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.params() {
            Ok(params) => params.fmt(f),
            Err(_) => write!(f, "unknown {:?}", self.0),
        }
    }
}

impl From<ChunkerParams> for RecordedChunker {
    fn from(params: ChunkerParams) -> Self {
        Self(params.to_bytes())
    }
}

impl ChunkerParams {
    /// Smallest target or block, in bytes.
    pub const BYTES_MIN: u32 = 4 << 10;
    /// Largest target or block, in bytes.
    pub const BYTES_MAX: u32 = 4 << 20;
    /// Every target and block is a multiple of this, in bytes.
    pub const STEP_BYTES: u32 = 1 << 10;
    /// Length of the stored form, in bytes.
    pub const ENCODED_BYTES: usize = 5;

    /// Refuses lengths that the format does not allow.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] names the rule.
    pub const fn validate(self) -> Result<Self, DecodeError> {
        let (Self::MinAes { target: bytes } | Self::Fixed { block: bytes }) = self;
        if bytes < Self::BYTES_MIN || bytes > Self::BYTES_MAX {
            return Err(DecodeError::invalid("chunker", "the length is not from 4 KiB to 4 MiB"));
        }
        if bytes % Self::STEP_BYTES != 0 {
            return Err(DecodeError::invalid("chunker", "the length is not a multiple of 1 KiB"));
        }
        Ok(self)
    }

    /// The stored form: algorithm, then target or block.
    ///
    /// # Panics
    /// If [`Self::validate`] refuses it: what no reader accepts is never written.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::ENCODED_BYTES] {
        assert_eq!(self.validate(), Ok(self));
        let (algorithm, bytes) = match self {
            Self::MinAes { target } => (ALGORITHM_MIN_AES, target),
            Self::Fixed { block } => (ALGORITHM_FIXED, block),
        };
        let [a, b, c, d] = bytes.to_le_bytes();
        [algorithm, a, b, c, d]
    }

    /// Parses the stored form.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] for an unknown algorithm and for what [`Self::validate`] refuses.
    pub fn from_bytes(bytes: [u8; Self::ENCODED_BYTES]) -> Result<Self, DecodeError> {
        // spec: chunker §2
        let [algorithm, length @ ..] = bytes;
        let length = u32::from_le_bytes(length);
        match algorithm {
            ALGORITHM_MIN_AES => Self::MinAes { target: length }.validate(),
            ALGORITHM_FIXED => Self::Fixed { block: length }.validate(),
            _ => Err(DecodeError::invalid("chunker", "the algorithm is unknown")),
        }
    }

    /// Shortest chunk, the last of a stream excepted, in bytes.
    #[must_use]
    pub const fn min_bytes(self) -> usize {
        match self {
            Self::MinAes { target } => target as usize / 2,
            Self::Fixed { block } => block as usize,
        }
    }

    /// Longest chunk, in bytes.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::MinAes { target } => (target as usize / 2).saturating_mul(3),
            Self::Fixed { block } => block as usize,
        }
    }
}

const ALGORITHM_MIN_AES: u8 = 1;
const ALGORITHM_FIXED: u8 = 2;

const _: () = {
    let longest = ChunkerParams::MinAes { target: ChunkerParams::BYTES_MAX };
    assert!(longest.max_bytes() <= BLOB_BYTES_MAX);
    // A search covers `target + 1` positions, always more than one block.
    assert!(ChunkerParams::BYTES_MIN as usize >= BLOCK_POSITIONS);
    assert!(ChunkerParams::BYTES_MIN as usize / 2 >= WINDOW_BYTES);
};

/// The secret that cuts depend on; equal content is cut equally only under an equal key.
#[derive(Clone)]
pub struct CutKey([u8; 32]);

impl CutKey {
    /// Takes the bytes of a key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Drop for CutKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for CutKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CutKey(..)")
    }
}

/// Splits streams into chunks. Has no state: one chunker serves any number of streams and threads.
///
/// Which instructions it uses is chosen once in [`Self::new`]; the cuts are the same on every
/// machine.
#[derive(Debug, Clone)]
pub struct Chunker {
    params: ChunkerParams,
    keys: RoundKeys,
    path: simd::Path,
}

impl Chunker {
    /// Makes a chunker for the CPU it runs on.
    ///
    /// # Panics
    /// If [`ChunkerParams::validate`] refuses `params`; params that were read never are.
    #[must_use]
    pub fn new(params: ChunkerParams, key: &CutKey) -> Self {
        Self::on_path(params, key, simd::Path::best())
    }

    /// One chunker for each way this CPU has, with its name, the fastest first: for benchmarks,
    /// and for tests that they all agree.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn on_every_path(
        params: ChunkerParams,
        key: &CutKey,
    ) -> impl Iterator<Item = (&'static str, Self)> {
        simd::Path::available().map(move |path| (path.name(), Self::on_path(params, key, path)))
    }

    fn on_path(params: ChunkerParams, key: &CutKey, path: simd::Path) -> Self {
        assert_eq!(params.validate(), Ok(params));
        Self { params, keys: RoundKeys::derive(key), path }
    }

    /// Length of the first chunk of `data`, where `data` starts at a cut (or at the start of the
    /// stream) and `is_end` says that nothing follows it.
    ///
    /// `None` asks for more: fewer than [`Self::max_bytes`] bytes are here and the stream goes on.
    /// It is also the answer to no data at the end, where no chunk is left. The result does not
    /// depend on how much follows the first [`Self::max_bytes`] bytes, nor on `is_end` when there
    /// are that many, so any read size gives the same cuts.
    #[must_use]
    pub fn cut(&self, data: &[u8], is_end: bool) -> Option<usize> {
        // spec: chunker §4
        let Some(head) = data.get(..self.max_bytes()) else {
            return (is_end && !data.is_empty()).then_some(data.len());
        };
        match self.params {
            ChunkerParams::Fixed { .. } => Some(head.len()),
            ChunkerParams::MinAes { .. } => {
                let min = self.params.min_bytes();
                let windows = head.get(min.saturating_sub(WINDOW_BYTES)..)?;
                Some(min.saturating_add(first_minimum(self.path, &self.keys, windows)))
            }
        }
    }

    /// What the chunker was made with.
    #[must_use]
    pub const fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Longest chunk, and the bytes [`Self::cut`] wants to see at once.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.params.max_bytes()
    }
}

/// Index of the first window of `bytes` with the smallest value; window `i` is the 16 bytes at `i`.
///
/// Two passes: the minimum of each block without its place, which keeps branches out of the hot
/// loop, then the place within the first block that has the smallest. The last block is pulled
/// back to end where `bytes` end; what it sees twice cannot be less than what was seen.
fn first_minimum(path: simd::Path, keys: &RoundKeys, bytes: &[u8]) -> usize {
    let last = bytes.len().checked_sub(BLOCK_BYTES).expect("a search spans at least one block");
    let block_at = |start: usize| -> &[u8; BLOCK_BYTES] {
        bytes.get(start..).and_then(<[u8]>::first_chunk).expect("a block starts at most at `last`")
    };
    let starts = (0..last).step_by(BLOCK_POSITIONS).chain([last]);
    let (value, start) = starts
        .map(|start| (path.block_minimum(keys, block_at(start)), start))
        .min_by_key(|&(value, _)| value) // the first of equals
        .expect("there is at least one block");
    let place = path.block_find(keys, block_at(start), value);
    start.saturating_add(place.expect("a block has the minimum that was found in it"))
}

/// Bytes that the value of a position depends on: one AES block.
const WINDOW_BYTES: usize = 16;
/// Windows evaluated without a branch between them; 256 costs 9 %, 1024 gains 1 %.
const BLOCK_POSITIONS: usize = 512;
/// Bytes that [`BLOCK_POSITIONS`] overlapping windows cover.
const BLOCK_BYTES: usize = BLOCK_POSITIONS + WINDOW_BYTES - 1;

/// The AES round keys of the two rounds, and the whitening key before them.
#[derive(Clone)]
struct RoundKeys([[u8; WINDOW_BYTES]; 3]);

impl RoundKeys {
    /// spec: chunker §3
    fn derive(key: &CutKey) -> Self {
        let mut keys = Self([[0; WINDOW_BYTES]; 3]);
        blake3::Hasher::new_derive_key("lastgood 2026-11 v1 min-aes round keys")
            .update(&key.0)
            .finalize_xof()
            .fill(keys.0.as_flattened_mut());
        keys
    }
}

impl Drop for RoundKeys {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for RoundKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoundKeys(..)")
    }
}

#[cfg(test)]
mod tests;
