//! Identities: 32-byte content ids, 16-byte random ids, and how they are shown.
//!
//! Every id is a newtype, so a [`PackId`] cannot be passed where a [`BlobId`] is meant.
//! All are shown and parsed as lowercase hex. Spec: `docs/format/layout.md`, section 2.

use std::fmt;
use std::str::FromStr;

/// Text that is not the lowercase hex form of the id that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {digits} lowercase hex digits")]
pub struct ParseIdError {
    text: String,
    digits: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Length of the id in bytes.
            pub const BYTES: usize = $bytes;

            /// Takes the bytes of an id as they are stored.
            #[must_use]
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id as they are stored.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $bytes];
                if parse_hex(text, &mut bytes) {
                    Ok(Self(bytes))
                } else {
                    Err(ParseIdError { text: text.to_owned(), digits: 2 * $bytes })
                }
            }
        }
    };
}

id_type!(
    /// Keyed hash of a blob's plaintext: equal content in one repository has an equal id.
    BlobId, 32
);
id_type!(
    /// BLAKE3 over a pack's header, frame tags and shard checksums.
    PackId, 32
);
id_type!(
    /// BLAKE3 of a snapshot object's stored bytes.
    SnapshotId, 32
);
id_type!(
    /// BLAKE3 of any other object's stored bytes (index segment, key slot, relocation).
    ObjectId, 32
);
id_type!(
    /// Random name of one session.
    SessionId, 16
);
id_type!(
    /// Random name of a repository, drawn at `init`.
    RepositoryId, 16
);
id_type!(
    /// Who writes: 16 bytes of BLAKE3, under a context of its own, of the public signing key.
    WriterId, 16
);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str, out: &mut [u8]) -> bool {
    fn digit(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c.wrapping_sub(b'0')),
            b'a'..=b'f' => Some(c.wrapping_sub(b'a').wrapping_add(10)),
            _ => None,
        }
    }
    if text.len() != out.len().saturating_mul(2) {
        return false;
    }
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(out) {
        match pair {
            [high, low] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => *byte = (high << 4) | low,
                _ => return false,
            },
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
