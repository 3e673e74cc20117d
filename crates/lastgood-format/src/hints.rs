//! Hints: what helps the next run to see that a file is unchanged, beside the tree and outside its
//! identity. Spec: `docs/format/hints.md`.

use crate::encoding::{DecodeError, Reader, Write};
use crate::entry::{Hint, Timestamp};
use crate::id::BlobId;
use crate::limits::PAGE_ITEMS_MAX;
use crate::page::LeafCodec;

/// The hint of one entry, in the order of the tree's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintItem {
    /// The hint.
    pub hint: Hint,
    /// For a directory, the root page of its own hints.
    pub children: Option<BlobId>,
    /// Boundary hash of the entry's name, so hints are paged as their tree is. Not stored.
    pub boundary: u64,
}

/// Encodes [`HintItem`] lists.
#[derive(Debug, Clone, Copy)]
pub struct HintsCodec;

impl LeafCodec for HintsCodec {
    type Item = HintItem;

    fn encode(items: &[HintItem], out: &mut Vec<u8>) {
        out.varint(items.len() as u64);
        for time in [|hint: &Hint| hint.ctime, |hint: &Hint| hint.btime] {
            let mut last = 0_i64;
            for item in items {
                out.zigzag(time(&item.hint).seconds.wrapping_sub(last));
                last = time(&item.hint).seconds;
            }
            for item in items {
                out.extend_from_slice(&time(&item.hint).nanos.to_le_bytes());
            }
        }
        for number in [|hint: &Hint| hint.inode, |hint: &Hint| hint.device] {
            let mut last = 0_u64;
            for item in items {
                out.zigzag(number(&item.hint).wrapping_sub(last).cast_signed());
                last = number(&item.hint);
            }
        }
        out.extend(items.iter().map(|item| u8::from(item.children.is_some())));
        for children in items.iter().filter_map(|item| item.children) {
            out.extend_from_slice(children.as_bytes());
        }
    }

    fn decode(mut reader: Reader<'_>) -> Result<Vec<HintItem>, DecodeError> {
        let count = reader.count(PAGE_ITEMS_MAX, 13)?;
        let ctimes = decode_times(&mut reader, count)?;
        let btimes = decode_times(&mut reader, count)?;
        let inodes = decode_numbers(&mut reader, count)?;
        let devices = decode_numbers(&mut reader, count)?;
        let flags = reader.take(count)?;
        let columns = ctimes.into_iter().zip(btimes).zip(inodes).zip(devices).zip(flags);
        let items = columns
            .map(|((((ctime, btime), inode), device), &flag)| {
                let children = match flag {
                    0 => None,
                    1 => Some(BlobId::new(reader.array()?)),
                    _ => return Err(reader.invalid("a flag is neither 0 nor 1")),
                };
                let hint = Hint { ctime, btime, inode, device };
                Ok(HintItem { hint, children, boundary: 1 })
            })
            .collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(items)
    }

    fn boundary_hash(item: &HintItem) -> u64 {
        item.boundary
    }
}

fn decode_times(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Timestamp>, DecodeError> {
    let mut last = 0_i64;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        last = last.wrapping_add(reader.zigzag()?);
        times.push(Timestamp { seconds: last, nanos: 0 });
    }
    for time in &mut times {
        time.nanos = reader.u32()?;
        if time.nanos >= 1_000_000_000 {
            return Err(reader.invalid("a time has more than a second of nanoseconds"));
        }
    }
    Ok(times)
}

fn decode_numbers(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, DecodeError> {
    let mut last = 0_u64;
    (0..count)
        .map(|_| {
            last = last.wrapping_add(reader.zigzag()?.cast_unsigned());
            Ok(last)
        })
        .collect()
}

#[cfg(test)]
mod tests;
