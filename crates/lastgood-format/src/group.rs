//! Groups and frames: the unit of compression and the unit of encryption.
//!
//! A *group* is the plaintext of many blobs, one after the other, compressed as a whole. Its stored
//! bytes are cut into *frames* of one size and each frame is sealed with its number as nonce under
//! a key of the group's own. The store sees frames of one size and no blob boundary.
//! Spec: `docs/format/pack.md`, sections 2 to 4.

use aws_lc_rs::aead::Aad;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::encoding::{DecodeError, stored_length};
use crate::key::{ClassSecret, KeyError, Secret, aead_key, nonce};
use crate::limits::GROUP_BYTES_MAX;

/// Length of a frame as stored, its 16-byte tag included: a power of two from 512 to 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameSize(u8);

impl FrameSize {
    /// The smallest frame, for packs of a few bytes.
    pub const SMALLEST: Self = Self(9);
    /// What a pack of ordinary length uses.
    pub const ORDINARY: Self = Self(12);

    /// Takes the base-2 logarithm, 9 to 16.
    ///
    /// # Errors
    /// When it is out of range.
    pub const fn from_log2(log2: u8) -> Result<Self, DecodeError> {
        if log2 >= 9 && log2 <= 16 {
            Ok(Self(log2))
        } else {
            Err(DecodeError::invalid("frame size", "it is not between 512 and 65,536"))
        }
    }

    /// The base-2 logarithm.
    #[must_use]
    pub const fn log2(self) -> u8 {
        self.0
    }

    /// Bytes of a stored frame.
    #[must_use]
    pub const fn stored(self) -> usize {
        1 << self.0
    }

    /// Bytes of payload in a frame.
    #[must_use]
    pub const fn payload(self) -> usize {
        self.stored().saturating_sub(TAG_BYTES)
    }

    /// Frames that `bytes` of payload take.
    #[must_use]
    pub const fn count(self, bytes: usize) -> usize {
        bytes.div_ceil(self.payload())
    }
}

/// Length of a frame's tag, which ends the frame.
pub const TAG_BYTES: usize = 16;

/// How a group's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// As they are.
    Stored = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Compression {
    /// What it is called, in a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Zstd => "zstd",
        }
    }

    /// The compression with this number.
    ///
    /// # Errors
    /// When there is none.
    pub const fn from_u8(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Zstd),
            _ => Err(DecodeError::invalid("group", "its compression is unknown")),
        }
    }
}

/// Compresses groups; keeps its tables between calls.
pub struct GroupCompressor {
    level: i32,
    zstd: Compressor<'static>,
    scratch: Vec<u8>,
}

impl GroupCompressor {
    /// The level where none is asked for: stores a tenth less than level 1 does.
    pub const ORDINARY_LEVEL: i32 = 3;

    /// Prepares zstd at `level`.
    ///
    /// # Panics
    /// When memory for its tables cannot be had.
    #[must_use]
    pub fn new(level: i32) -> Self {
        let mut zstd = Compressor::new(level).expect("zstd takes any level and clamps it");
        if level == Self::ORDINARY_LEVEL {
            // Half of what the level has, so that its tables stay in a core's own cache: a tenth
            // faster, and longer by three in a thousand.
            let table = CParameter::HashLog(16);
            zstd.set_parameter(table).expect("zstd takes a table of this length");
        }
        Self { level, zstd, scratch: Vec::new() }
    }

    /// The level, part of what a group's key depends on.
    #[must_use]
    pub const fn level(&self) -> i32 {
        self.level
    }

    /// The stored form of `raw`: compressed, or as it is where that gains under 3 %.
    pub fn compress<'a>(&'a mut self, raw: &'a [u8]) -> (Compression, &'a [u8]) {
        // Room for all but 3 %: zstd gives up as soon as the result would not pay.
        let room = raw.len().saturating_sub(raw.len() / 32);
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let (scratch, _) = self.scratch.split_at_mut(room);
        match self.zstd.compress_to_buffer(raw, scratch) {
            Ok(length) => (Compression::Zstd, scratch.get(..length).unwrap_or_default()),
            Err(_) => (Compression::Stored, raw),
        }
    }
}

impl std::fmt::Debug for GroupCompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupCompressor(zstd {})", self.level)
    }
}

/// Decompresses groups; keeps its tables between calls.
#[derive(Default)]
pub struct GroupDecompressor {
    zstd: Option<Decompressor<'static>>,
}

impl GroupDecompressor {
    /// Fills `out` with the `raw_bytes` bytes that `stored` stands for, which may be exchanged for
    /// something else.
    ///
    /// # Errors
    /// When `stored` does not decompress to exactly that many; `out` is then empty, and never more
    /// is allocated.
    pub fn decompress(
        &mut self,
        compression: Compression,
        stored: &mut Vec<u8>,
        raw_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.decompress_max(GROUP_BYTES_MAX, compression, stored, raw_bytes, out)
    }

    /// [`decompress`](Self::decompress) with a bound of the caller's: sealed objects may be longer.
    pub(crate) fn decompress_max(
        &mut self,
        bytes_max: usize,
        compression: Compression,
        stored: &mut Vec<u8>,
        raw_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        out.clear();
        if raw_bytes > bytes_max {
            return Err(DecodeError::invalid("group", "it is longer than its limit"));
        }
        match compression {
            Compression::Stored if stored.len() == raw_bytes => {
                std::mem::swap(stored, out);
                Ok(())
            }
            Compression::Stored => Err(DecodeError::invalid("group", "its length does not fit")),
            Compression::Zstd => {
                let zstd = self.zstd.get_or_insert_with(|| {
                    Decompressor::new().expect("zstd has memory for its tables")
                });
                out.reserve_exact(raw_bytes);
                match zstd.decompress_to_buffer(stored, out) {
                    Ok(length) if length == raw_bytes => Ok(()),
                    _ => {
                        out.clear();
                        Err(DecodeError::invalid("group", "it does not decompress to its length"))
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for GroupDecompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupDecompressor")
    }
}

/// What one group's key depends on beside the class secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSalt(pub [u8; 16]);

impl GroupSalt {
    /// A salt that differs whenever anything sealed under it differs.
    ///
    /// `counter` numbers the groups of a session, `random` is fresh, `contents` names everything
    /// that determines the payload: with equal inputs the sealed bytes are equal, so repeating the
    /// salt repeats nothing but identical bytes. A stuck random source or a cloned machine is harmless.
    #[must_use]
    pub fn hedged(
        secret: &ClassSecret,
        counter: u64,
        random: &[u8; 32],
        contents: &[&[u8]],
    ) -> Self {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::is_planted(crate::seeded::Mistake::NonceReused) {
            return Self([0; 16]);
        }
        let counter = counter.to_le_bytes();
        let material = [&[&counter[..], random], contents].concat();
        let digest = secret.secret.derive("lastgood 2026-11 v1 group salt", &material);
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest.expose()[..16]);
        Self(salt)
    }
}

/// Seals `payload` into frames of `size`, which fill `out`; the last one is padded with zeros.
///
/// # Panics
/// When `out` is not as long as the frames are together: see [`FrameSize::count`].
pub fn seal_frames(
    secret: &ClassSecret,
    salt: GroupSalt,
    size: FrameSize,
    payload: &[u8],
    out: &mut [u8],
) {
    seal_frames_as(Purpose::Group, secret, salt, size, payload, out);
}

/// [`seal_frames`] for frames of either purpose.
pub(crate) fn seal_frames_as(
    purpose: Purpose,
    secret: &ClassSecret,
    salt: GroupSalt,
    size: FrameSize,
    payload: &[u8],
    out: &mut [u8],
) {
    let count = size.count(payload.len());
    assert_eq!(out.len(), count.saturating_mul(size.stored()), "frames fill what is there");
    let aad = frame_aad(purpose, secret, size, count);
    let key = aead_key(&group_key(secret, salt, &aad));
    let frames = out.chunks_exact_mut(size.stored());
    for (number, (piece, frame)) in payload.chunks(size.payload()).zip(frames).enumerate() {
        let (body, tag) = frame.split_at_mut(size.payload());
        let (nonce, aad) = (nonce(stored_length(number)), Aad::from(&aad[..]));
        let sealed = if piece.len() == body.len() {
            key.seal_out_of_place_scatter(nonce, aad, piece, body, &[], tag)
        } else {
            let (filled, padding) = body.split_at_mut(piece.len());
            filled.copy_from_slice(piece);
            padding.fill(0);
            key.seal_in_place_separate_tag(nonce, aad, body)
                .map(|found| tag.copy_from_slice(found.as_ref()))
        };
        sealed.expect("AES-256-GCM seals a frame");
    }
}

/// Opens frames in place and appends their payload, `payload_bytes` in all, to `out`.
///
/// # Errors
/// [`FrameError`] names the first frame that does not open; `out` is then cut back.
pub fn open_frames(
    secret: &ClassSecret,
    salt: GroupSalt,
    size: FrameSize,
    frames: &mut [u8],
    payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    open_frames_as(Purpose::Group, secret, salt, size, frames, payload_bytes, out)
}

/// [`open_frames`] for frames of either purpose.
pub(crate) fn open_frames_as(
    purpose: Purpose,
    secret: &ClassSecret,
    salt: GroupSalt,
    size: FrameSize,
    frames: &mut [u8],
    payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let count = size.count(payload_bytes);
    if frames.len() != count.saturating_mul(size.stored()) {
        return Err(FrameError { frame: 0, source: KeyError::Forged });
    }
    let aad = frame_aad(purpose, secret, size, count);
    let key = aead_key(&group_key(secret, salt, &aad));
    let start = out.len();
    let mut left = payload_bytes;
    for (number, frame) in frames.chunks_exact_mut(size.stored()).enumerate() {
        let opened = key.open_in_place(nonce(stored_length(number)), Aad::from(&aad[..]), frame);
        let piece = opened.ok().and_then(|plain| {
            let (piece, padding) = plain.split_at(left.min(plain.len()));
            padding.iter().all(|&byte| byte == 0).then_some(piece)
        });
        let Some(piece) = piece else {
            out.truncate(start);
            return Err(FrameError { frame: number, source: KeyError::Forged });
        };
        out.extend_from_slice(piece);
        left = left.saturating_sub(piece.len());
    }
    Ok(())
}

/// A frame that did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} of the group does not open")]
pub struct FrameError {
    /// Its number in the group, from 0.
    pub frame: usize,
    /// Why.
    #[source]
    pub source: KeyError,
}

/// What frames hold. Directory frames never open as group frames, nor the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// A group's payload.
    Group = 1,
    /// A pack's directory.
    Directory = 2,
}

/// The key covers the associated data as well: were it the salt alone, a cloned machine that cuts
/// the same payload into frames of another size would seal other bytes under the same nonces.
fn group_key(secret: &ClassSecret, salt: GroupSalt, aad: &[u8; 40]) -> Secret {
    secret.secret.derive("lastgood 2026-11 v1 group key", &[&salt.0, aad])
}

/// Associated data of every frame of a group: suite, class, frame size, purpose, frame count,
/// repository, session. The frame's number is its nonce.
fn frame_aad(purpose: Purpose, secret: &ClassSecret, size: FrameSize, count: usize) -> [u8; 40] {
    let mut aad = [0; 40];
    let fields = [
        &[SUITE, secret.class as u8, size.log2(), purpose as u8][..],
        &stored_length(count).to_le_bytes(),
        secret.repository.as_bytes(),
        secret.session.as_bytes(),
    ];
    let mut rest = &mut aad[..];
    for field in fields {
        let (head, tail) = rest.split_at_mut(field.len());
        head.copy_from_slice(field);
        rest = tail;
    }
    aad
}

/// The one cipher suite of version 1: AES-256-GCM with BLAKE3.
pub const SUITE: u8 = 1;

#[cfg(test)]
mod tests;
