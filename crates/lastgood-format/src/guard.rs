//! Guarded objects: how every object but a pack is stored.
//!
//! The *content* of an object, which is what the other chapters describe, is cut into pieces; the
//! pieces and their parity are stored as blocks of 512 bytes. Every block says how the whole is
//! made up and has a checksum, so the whole is found again from any blocks that suffice, with the
//! front lost or the end. Spec: `docs/format/parity.md`, section 4.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

use crate::encoding::{DecodeError, Reader, stored_length};
use crate::object::name;
use crate::parity::{ParityLayout, Stripes};

/// How much of an object may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redundancy {
    /// More than half of it: as with two copies, and any blocks will do.
    Full,
    /// An eighth. For what can be made anew from other objects: the index.
    Light,
}

impl Redundancy {
    /// What the object of this name is stored with.
    #[must_use]
    pub fn of(object: &str) -> Self {
        let object = object.trim_start_matches(name::REPAIRED);
        if object.starts_with(name::INDEX) { Self::Light } else { Self::Full }
    }
}

/// Stores `content` in blocks.
///
/// # Panics
/// When there is no content, or more than four gigabytes.
#[must_use]
pub fn guard(content: &[u8], redundancy: Redundancy) -> Vec<u8> {
    let make_up = MakeUp::of(content, redundancy);
    let mut blocks = vec![[0; BLOCK_BYTES]; make_up.block_count()];
    for (block, piece) in blocks.iter_mut().zip(content.chunks(PIECE_BYTES)) {
        let (start, _) = block.split_at_mut(piece.len());
        start.copy_from_slice(piece);
    }
    make_up.stripes().protect(&mut pieces(&mut blocks));
    for (number, block) in blocks.iter_mut().enumerate() {
        make_up.close(number, block);
    }
    blocks.into_flattened()
}

/// What a guarded object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// The content.
    pub content: Vec<u8>,
    /// How many of its blocks are damaged or missing; the content was computed without them.
    pub damaged: usize,
}

/// The content of the object that is stored as `bytes`, as long as enough blocks are good. Bytes
/// that could not be read may be anything, such as zeros.
///
/// Where there are blocks of several objects, `accepts` tells which content is the right one.
///
/// # Errors
/// When too many blocks are damaged, or the content exceeds `content_bytes_max`.
pub fn content(
    bytes: &[u8],
    content_bytes_max: u64,
    accepts: &dyn Fn(&[u8]) -> bool,
) -> Result<Guarded, DecodeError> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    let made: Vec<Option<MakeUp>> =
        blocks.iter().enumerate().map(|(number, block)| MakeUp::read(number, block)).collect();
    let mut counts: BTreeMap<MakeUp, usize> = BTreeMap::new();
    for make_up in made.iter().flatten() {
        let count = counts.entry(*make_up).or_default();
        *count = count.saturating_add(1);
    }
    let mut found: Vec<_> = counts.into_iter().collect();
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut why = "none of its blocks is whole";
    for (make_up, _) in found {
        if u64::from(make_up.content_bytes) > content_bytes_max {
            why = "it is longer than its limit";
            continue;
        }
        let count = make_up.block_count();
        let is_damaged: Vec<bool> =
            (0..count).map(|number| made.get(number).copied().flatten() != Some(make_up)).collect();
        let content = make_up.content(blocks, &is_damaged);
        if digest(&content) != make_up.digest {
            why = "too many of its blocks are damaged";
            continue;
        }
        if !accepts(&content) {
            why = "its blocks are those of another object";
            continue;
        }
        let damaged = is_damaged.iter().filter(|&&is_damaged| is_damaged).count();
        let beyond = made.len().saturating_sub(count).saturating_add(usize::from(!rest.is_empty()));
        return Ok(Guarded { content, damaged: damaged.saturating_add(beyond) });
    }
    Err(DecodeError::invalid("object", why))
}

/// The most that an object with so much content is stored in, in bytes.
#[must_use]
pub const fn guarded_bytes_max(content_bytes_max: u64) -> u64 {
    content_bytes_max.saturating_mul(3).saturating_add(8 << 10)
}

/// How an object is made up of blocks; each of them says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct MakeUp {
    content_bytes: u32,
    data: u8,
    parity: u8,
    digest: [u8; 16],
}

impl MakeUp {
    fn of(content: &[u8], redundancy: Redundancy) -> Self {
        assert!(!content.is_empty(), "objects have content");
        let blocks = content.len().div_ceil(PIECE_BYTES);
        let data = match redundancy {
            Redundancy::Full => FULL_DATA,
            Redundancy::Light => LIGHT_DATA,
        };
        let stripes = blocks.div_ceil(data.into());
        let in_stripe = blocks.div_ceil(stripes);
        let share = match redundancy {
            Redundancy::Full => in_stripe.saturating_add(1),
            Redundancy::Light => in_stripe.div_ceil(8),
        };
        let parity = share.max(SECTOR_BLOCKS.div_ceil(stripes));
        Self {
            content_bytes: stored_length(content.len()),
            data,
            parity: u8::try_from(parity).unwrap_or(u8::MAX),
            digest: digest(content),
        }
    }

    const fn data_blocks(self) -> usize {
        (self.content_bytes as usize).div_ceil(PIECE_BYTES)
    }

    const fn layout(self) -> ParityLayout {
        ParityLayout { data_shards: self.data as u16, parity_shards: self.parity as u16 }
    }

    const fn stripes(self) -> Stripes {
        self.layout().stripes(self.data_blocks(), self.data_blocks())
    }

    const fn block_count(self) -> usize {
        self.data_blocks().saturating_add(self.layout().shard_count(self.data_blocks()))
    }

    const fn bytes(self) -> u64 {
        (self.block_count() as u64).saturating_mul(BLOCK_BYTES as u64)
    }

    /// The content, where enough of the blocks are not damaged; else anything.
    fn content(self, blocks: &[[u8; BLOCK_BYTES]], is_damaged: &[bool]) -> Vec<u8> {
        let mut mended = Vec::new();
        if is_damaged.iter().take(self.data_blocks()).any(|&is_damaged| is_damaged) {
            mended = blocks.to_vec();
            mended.resize(self.block_count(), [0; BLOCK_BYTES]);
            self.stripes().mend(&mut pieces(&mut mended), is_damaged);
        }
        let blocks = if mended.is_empty() { blocks } else { &mended };
        let data = blocks.iter().take(self.data_blocks());
        let mut content: Vec<u8> = data.flat_map(|block| &block[..PIECE_BYTES]).copied().collect();
        content.truncate(self.content_bytes as usize);
        content
    }

    /// Writes the end of a block.
    fn close(self, number: usize, block: &mut [u8; BLOCK_BYTES]) {
        let fields = [
            &self.content_bytes.to_le_bytes()[..],
            &[self.data, self.parity],
            &MAGIC,
            &self.digest,
        ]
        .concat();
        let (_, end) = block.split_at_mut(PIECE_BYTES);
        end.split_at_mut(fields.len()).0.copy_from_slice(&fields);
        let value = block_checksum(number, block);
        if let Some(checksum) = block.last_chunk_mut() {
            *checksum = value;
        }
    }

    /// Reads the end of a block, if the block is whole.
    fn read(number: usize, block: &[u8; BLOCK_BYTES]) -> Option<Self> {
        if block.last_chunk() != Some(&block_checksum(number, block)) {
            return None;
        }
        let (_, end) = block.split_at(PIECE_BYTES);
        let mut reader = Reader::new(end, "block");
        let content_bytes = reader.u32().ok()?;
        let (data, parity) = (reader.u8().ok()?, reader.u8().ok()?);
        let magic: [u8; 2] = reader.array().ok()?;
        let this = Self { content_bytes, data, parity, digest: reader.array().ok()? };
        let is_possible = magic == MAGIC
            && content_bytes > 0
            && data > 0
            && parity > 0
            && this.layout().is_possible()
            && this.bytes() <= guarded_bytes_max(content_bytes.into());
        is_possible.then_some(this)
    }
}

fn pieces(blocks: &mut [[u8; BLOCK_BYTES]]) -> Vec<&mut [u8]> {
    blocks.iter_mut().map(|block| &mut block[..PIECE_BYTES]).collect()
}

fn block_checksum(number: usize, block: &[u8; BLOCK_BYTES]) -> [u8; 8] {
    // The number takes the room of the checksum, in front.
    let mut checked = [0; BLOCK_BYTES];
    let (start, rest) = checked.split_at_mut(8);
    start.copy_from_slice(&(number as u64).to_le_bytes());
    rest.copy_from_slice(&block[..CHECKED_BYTES]);
    XxHash3_64::oneshot(&checked).to_le_bytes()
}

fn digest(content: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(content);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

const BLOCK_BYTES: usize = 512;
/// Content, or parity of it, in a block.
const PIECE_BYTES: usize = 480;
const CHECKED_BYTES: usize = BLOCK_BYTES - 8;
const MAGIC: [u8; 2] = *b"gb";
/// Blocks that a hole of 4 KiB touches.
const SECTOR_BLOCKS: usize = 9;
/// Data blocks of a stripe.
const FULL_DATA: u8 = 16;
const LIGHT_DATA: u8 = 64;

#[cfg(test)]
mod tests;
