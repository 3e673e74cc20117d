//! The file that keeps the trace of one run: a stream of bytes, sealed piece by piece.
//! Spec: `docs/format/trace.md`.

use aws_lc_rs::aead::{Aad, LessSafeKey};

use crate::encoding::{DecodeError, Reader, stored_length};
use crate::id::RepositoryId;
use crate::key::{KeyError, RepositoryKeys, Secret, aead_key, nonce};

/// What stands before the first piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceHeader(Vec<u8>);

/// Seals or opens the pieces of one trace, each once and in their order.
pub struct TraceCipher {
    key: LessSafeKey,
    header: TraceHeader,
    /// Pieces so far; nothing once all numbers are used up.
    next: Option<u32>,
}

impl TraceHeader {
    /// Its length in bytes.
    pub const BYTES: usize = 88;

    /// The header of a new trace, which begins with `first`. `random` is fresh.
    #[must_use]
    pub fn new(keys: &RepositoryKeys, random: &[u8; 32], first: &[u8]) -> Self {
        let secret = trace_secret(keys);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(keys.repository().as_bytes());
        out.extend_from_slice(&secret.commitment());
        // The salt covers how the trace begins, and so when, so that a stuck random source gives no
        // two of them the same key.
        let salt = secret.derive("lastgood 2026-11 v1 trace salt", &[random, &out, first]);
        out.extend_from_slice(salt.expose());
        Self(out)
    }

    /// Takes the first bytes of a file.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when it is no trace, or of a later format.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, DecodeError> {
        if !bytes.starts_with(MAGIC) {
            return Err(DecodeError::invalid("trace", "it does not begin as one"));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What seals or opens the pieces.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] when the trace is another repository's, or of the time before its root
    /// secret was rotated.
    pub fn cipher(self, keys: &RepositoryKeys) -> Result<TraceCipher, KeyError> {
        let secret = trace_secret(keys);
        let mut reader = Reader::new(&self.0, "trace");
        reader.take(MAGIC.len())?;
        let repository = RepositoryId::new(reader.array()?);
        let commitment: [u8; 32] = reader.array()?;
        if repository != keys.repository() || commitment != secret.commitment() {
            return Err(KeyError::WrongKey);
        }
        let salt: [u8; 32] = reader.array()?;
        let key = aead_key(&secret.derive("lastgood 2026-11 v1 trace key", &[&salt]));
        Ok(TraceCipher { key, header: self, next: Some(0) })
    }
}

impl TraceCipher {
    /// The next piece as it is stored, its length in front; nothing when a trace can have no more.
    ///
    /// # Panics
    /// When `bytes` is longer than [`PIECE_BYTES_MAX`].
    #[must_use]
    pub fn seal(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        assert!(bytes.len() <= PIECE_BYTES_MAX, "a piece of a trace exceeds its limit");
        let number = self.take_number()?;
        let mut sealed = bytes.to_vec();
        self.key
            .seal_in_place_append_tag(nonce(number), Aad::from(self.header.as_bytes()), &mut sealed)
            .expect("AES-256-GCM seals any message that fits in memory");
        let mut out = stored_length(sealed.len()).to_le_bytes().to_vec();
        out.append(&mut sealed);
        Some(out)
    }

    /// Opens the next piece, without its length.
    ///
    /// # Errors
    /// [`KeyError::Forged`] when it was changed, or is not the next one.
    pub fn open(&mut self, mut piece: Vec<u8>) -> Result<Vec<u8>, KeyError> {
        let number = self.take_number().ok_or(KeyError::Forged)?;
        let opened = self
            .key
            .open_in_place(nonce(number), Aad::from(self.header.as_bytes()), &mut piece)
            .map_err(|_| KeyError::Forged)?;
        let length = opened.len();
        piece.truncate(length);
        Ok(piece)
    }

    fn take_number(&mut self) -> Option<u32> {
        let number = self.next?;
        self.next = number.checked_add(1);
        Some(number)
    }
}

impl std::fmt::Debug for TraceCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceCipher").field("next", &self.next).finish_non_exhaustive()
    }
}

fn trace_secret(keys: &RepositoryKeys) -> Secret {
    keys.root().derive("lastgood 2026-11 v1 trace", &[keys.repository().as_bytes()])
}

/// Bytes of one piece, before they are sealed.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
/// What sealing adds to a piece.
pub const TAG_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"lgtrace1";

#[cfg(test)]
mod tests;
