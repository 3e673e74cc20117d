//! Content-defined cuts.

/// Which chunker, with its parameter. (The owner of this file replaces it.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkerParams {
    /// min-AES.
    MinAes {
        /// Target.
        target: u32,
    },
    /// Fixed.
    Fixed {
        /// Block.
        block: u32,
    },
}

impl ChunkerParams {
    /// Stored form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 5] {
        let (id, value) = match self {
            Self::MinAes { target } => (1, target),
            Self::Fixed { block } => (2, block),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [id, a, b, c, d]
    }
    /// Parses.
    /// # Errors
    /// Unknown.
    pub fn from_bytes(bytes: [u8; 5]) -> Result<Self, crate::encoding::DecodeError> {
        let [id, a, b, c, d] = bytes;
        let value = u32::from_le_bytes([a, b, c, d]);
        match id {
            1 => Ok(Self::MinAes { target: value }),
            2 => Ok(Self::Fixed { block: value }),
            _ => Err(crate::encoding::DecodeError::invalid("chunker", "unknown")),
        }
    }
}
