//! The hard-link table of a snapshot: which paths are one file.
//! Spec: `docs/format/snapshot.md`, section 4.

use crate::encoding::{DecodeError, Reader, Write};
use crate::entry::Entry;
use crate::limits::{PAGE_ITEMS_MAX, PATH_BYTES_MAX};
use crate::page::{LeafCodec, boundary_hash};

/// One path that is another name of a file that was met under `leader` first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The path from the snapshot's root, components joined by `/`, without a leading one.
    pub path: Box<[u8]>,
    /// The smallest path, by bytes, of the same file. It has no row of its own.
    pub leader: Box<[u8]>,
}

/// Encodes [`Link`] lists, which are sorted by path.
#[derive(Debug, Clone, Copy)]
pub struct LinksCodec;

impl LeafCodec for LinksCodec {
    type Item = Link;

    fn encode(items: &[Link], out: &mut Vec<u8>) {
        out.varint(items.len() as u64);
        let mut last: &[u8] = &[];
        for link in items {
            for (path, before) in [(&link.path, last), (&link.leader, &*link.path)] {
                let shared = before.iter().zip(path.iter()).take_while(|(a, b)| a == b).count();
                out.varint(shared as u64);
                out.bytes(path.get(shared..).unwrap_or_default());
            }
            last = &link.path;
        }
    }

    fn decode(mut reader: Reader<'_>) -> Result<Vec<Link>, DecodeError> {
        let count = reader.count(PAGE_ITEMS_MAX, 4)?;
        let mut links: Vec<Link> = Vec::with_capacity(count);
        for _ in 0..count {
            let last: &[u8] = links.last().map(|link| &link.path[..]).unwrap_or_default();
            let path = decode_path(&mut reader, last)?;
            let leader = decode_path(&mut reader, &path)?;
            if (!links.is_empty() && *path <= *last) || leader >= path {
                return Err(reader.invalid("its paths are out of order"));
            }
            links.push(Link { path, leader });
        }
        reader.finish()?;
        Ok(links)
    }

    fn boundary_hash(item: &Link) -> u64 {
        boundary_hash(&item.path)
    }

    fn key(item: &Link) -> &[u8] {
        &item.path
    }

    fn weight(item: &Link) -> usize {
        item.path.len().saturating_add(item.leader.len())
    }
}

fn decode_path(reader: &mut Reader<'_>, before: &[u8]) -> Result<Box<[u8]>, DecodeError> {
    let shared = reader.varint_max(before.len())?;
    let suffix = reader.bytes(PATH_BYTES_MAX)?;
    let (prefix, rest) = before.split_at(shared);
    if rest.first().is_some_and(|next| suffix.first() == Some(next)) {
        return Err(reader.invalid("a path is not in its shortest form"));
    }
    let path = [prefix, suffix].concat();
    if path.len() > PATH_BYTES_MAX || !path.split(|&byte| byte == b'/').all(Entry::is_valid_name) {
        return Err(reader.invalid("a path is not allowed"));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests;
