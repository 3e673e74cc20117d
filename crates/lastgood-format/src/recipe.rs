//! Recipes: which chunks make up a file, with its holes and runs of equal chunks.
//! Spec: `docs/format/recipe.md`.

use crate::encoding::{DecodeError, Reader, Write};
use crate::id::BlobId;
use crate::limits::{BLOB_BYTES_MAX, PAGE_ITEMS_MAX};
use crate::page::LeafCodec;

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One chunk.
    Chunk {
        /// The chunk.
        id: BlobId,
        /// Its length in bytes, at least 1.
        bytes: u32,
    },
    /// Bytes that were never written; they read as zeros.
    Hole {
        /// How many, at least 1.
        bytes: u64,
    },
    /// The same chunk several times over.
    Repeat {
        /// The chunk.
        id: BlobId,
        /// Its length in bytes, at least 1.
        bytes: u32,
        /// How often, at least 2.
        count: u64,
    },
}

impl Part {
    /// How many bytes of the file it stands for.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        match *self {
            Self::Chunk { bytes, .. } => bytes as u64,
            Self::Hole { bytes } => bytes,
            Self::Repeat { bytes, count, .. } => count.saturating_mul(bytes as u64),
        }
    }
}

/// Encodes [`Part`] lists.
#[derive(Debug, Clone, Copy)]
pub struct RecipeCodec;

impl LeafCodec for RecipeCodec {
    type Item = Part;

    fn encode(items: &[Part], out: &mut Vec<u8>) {
        out.varint(items.len() as u64);
        for part in items {
            match *part {
                Part::Chunk { bytes, .. } => out.varint(u64::from(bytes) << 2),
                Part::Hole { bytes } => {
                    out.varint(1);
                    out.varint(bytes);
                }
                Part::Repeat { bytes, count, .. } => {
                    out.varint((u64::from(bytes) << 2) | 2);
                    out.varint(count);
                }
            }
        }
        for part in items {
            if let Part::Chunk { id, .. } | Part::Repeat { id, .. } = part {
                out.extend_from_slice(id.as_bytes());
            }
        }
    }

    fn decode(mut reader: Reader<'_>) -> Result<Vec<Part>, DecodeError> {
        let count = reader.count(PAGE_ITEMS_MAX, 2)?;
        let mut parts = Vec::with_capacity(count);
        let unknown = BlobId::new([0; 32]);
        for _ in 0..count {
            let head = reader.varint()?;
            let bytes = u32::try_from(head >> 2)
                .ok()
                .filter(|&bytes| bytes as usize <= BLOB_BYTES_MAX)
                .ok_or(reader.invalid("a chunk is longer than its limit"))?;
            let part = match (head & 3, bytes) {
                (0, 1..) => Part::Chunk { id: unknown, bytes },
                (1, 0) => match reader.varint()? {
                    0 => return Err(reader.invalid("a hole is empty")),
                    bytes => Part::Hole { bytes },
                },
                (2, 1..) => match reader.varint()? {
                    0 | 1 => return Err(reader.invalid("a repeat repeats nothing")),
                    count => Part::Repeat { id: unknown, bytes, count },
                },
                _ => return Err(reader.invalid("a part is of an unknown kind or empty")),
            };
            parts.push(part);
        }
        for part in &mut parts {
            if let Part::Chunk { id, .. } | Part::Repeat { id, .. } = part {
                *id = BlobId::new(reader.array()?);
            }
        }
        reader.finish()?;
        Ok(parts)
    }

    fn boundary_hash(item: &Part) -> u64 {
        match item {
            Part::Chunk { id, .. } | Part::Repeat { id, .. } => {
                u64::from_le_bytes(*id.as_bytes().first_chunk().unwrap_or(&[0; 8]))
            }
            Part::Hole { bytes } => *bytes | 1,
        }
    }

    fn measure(item: &Part) -> u64 {
        item.file_bytes()
    }
}

/// Joins neighbouring parts as they come: holes become one, equal chunks a repeat.
#[derive(Debug, Default)]
pub struct PartJoiner {
    last: Option<Part>,
}

impl PartJoiner {
    /// Takes the next part; returns one that can grow no more.
    pub fn push(&mut self, next: Part) -> Option<Part> {
        let Some(last) = self.last else {
            self.last = Some(next);
            return None;
        };
        match join(last, next) {
            Some(joined) => {
                self.last = Some(joined);
                None
            }
            None => self.last.replace(next),
        }
    }

    /// The part that is left at the end.
    #[must_use]
    pub fn finish(self) -> Option<Part> {
        self.last
    }
}

fn join(first: Part, second: Part) -> Option<Part> {
    let run = |part: Part| match part {
        Part::Chunk { id, bytes } => Some((id, bytes, 1)),
        Part::Repeat { id, bytes, count } => Some((id, bytes, count)),
        Part::Hole { .. } => None,
    };
    match (first, second) {
        (Part::Hole { bytes: a }, Part::Hole { bytes: b }) => {
            Some(Part::Hole { bytes: a.saturating_add(b) })
        }
        (first, second) => {
            let ((id, bytes, a), (other, other_bytes, b)) = (run(first)?, run(second)?);
            (id == other && bytes == other_bytes).then(|| Part::Repeat {
                id,
                bytes,
                count: a.saturating_add(b),
            })
        }
    }
}

#[cfg(test)]
mod tests;
