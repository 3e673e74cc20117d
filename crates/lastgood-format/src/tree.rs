//! Trees: the entries of one directory, columnar, so that equal columns compress to nothing.
//! Spec: `docs/format/tree.md`, section 3.

use std::collections::{HashMap, HashSet};

use crate::encoding::{DecodeError, Reader, Write};
use crate::entry::{Content, DeviceNumber, Entry, Marks, Node, Timestamp, Xattr};
use crate::id::BlobId;
use crate::limits::{
    BLOB_BYTES_MAX, ENTRY_XATTR_BYTES_MAX, PAGE_ITEMS_MAX, SYMLINK_BYTES_MAX, XATTR_BYTES_MAX,
};
use crate::page::{LeafCodec, boundary_hash};

/// Encodes [`Entry`] lists, which are sorted by name.
#[derive(Debug, Clone, Copy)]
pub struct TreeCodec;

impl LeafCodec for TreeCodec {
    type Item = Entry;

    fn encode(items: &[Entry], out: &mut Vec<u8>) {
        out.varint(items.len() as u64);
        let mut last: &[u8] = &[];
        for entry in items {
            let shared = last.iter().zip(entry.name.iter()).take_while(|(a, b)| a == b).count();
            out.varint(shared as u64);
            out.bytes(entry.name.get(shared..).unwrap_or_default());
            last = &entry.name;
        }
        out.extend(items.iter().map(entry_tag));
        for entry in items {
            out.varint(u64::from(entry.mode));
        }
        for owner in [|entry: &Entry| entry.uid, |entry: &Entry| entry.gid] {
            let mut last = 0;
            for entry in items {
                out.zigzag(i64::from(owner(entry)).wrapping_sub(last));
                last = i64::from(owner(entry));
            }
        }
        let mut last = 0_i64;
        for entry in items {
            out.zigzag(entry.mtime.seconds.wrapping_sub(last));
            last = entry.mtime.seconds;
        }
        for entry in items {
            out.extend_from_slice(&entry.mtime.nanos.to_le_bytes());
        }
        for entry in items.iter().filter(|entry| entry.flags != 0) {
            out.varint(u64::from(entry.flags));
        }
        out.extend(items.iter().filter(|e| e.marks != Marks::NONE).map(|entry| entry.marks.0));
        for entry in items {
            encode_node(&entry.node, out);
        }
        encode_xattrs(items, out);
    }

    fn decode(mut reader: Reader<'_>) -> Result<Vec<Entry>, DecodeError> {
        let count = reader.count(PAGE_ITEMS_MAX, 10)?;
        let names = decode_names(&mut reader, count)?;
        let tags = reader.take(count)?;
        let modes = decode_modes(&mut reader, count)?;
        let uids = decode_owners(&mut reader, count)?;
        let gids = decode_owners(&mut reader, count)?;
        let mut last = 0_i64;
        let seconds = (0..count)
            .map(|_| {
                last = last.wrapping_add(reader.zigzag()?);
                Ok(last)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let nanos = (0..count).map(|_| reader.u32()).collect::<Result<Vec<_>, _>>()?;
        let flags = decode_flagged(tags, HAS_FLAGS, || match reader.varint_u32()? {
            0 => Err(reader.invalid("inode flags are stored though there are none")),
            flags => Ok(flags),
        })?;
        let marks = decode_flagged(tags, HAS_MARKS, || match reader.u8()? {
            0 => Err(reader.invalid("marks are stored though there are none")),
            marks => Ok(marks),
        })?;
        let mut entries = Vec::with_capacity(count);
        let columns = names.into_iter().zip(tags).zip(modes).zip(uids).zip(gids);
        let columns = columns.zip(seconds).zip(nanos).zip(flags).zip(marks);
        for ((((((((name, tag), mode), uid), gid), seconds), nanos), flags), marks) in columns {
            if nanos >= 1_000_000_000 {
                return Err(reader.invalid("a time has more than a second of nanoseconds"));
            }
            entries.push(Entry {
                name,
                node: decode_node(tag & KIND_MASK, &mut reader)?,
                mode,
                uid,
                gid,
                mtime: Timestamp { seconds, nanos },
                flags,
                marks: Marks(marks),
                xattrs: None,
            });
        }
        decode_xattrs(&mut reader, tags, &mut entries)?;
        reader.finish()?;
        Ok(entries)
    }

    fn boundary_hash(item: &Entry) -> u64 {
        boundary_hash(&item.name)
    }

    fn key(item: &Entry) -> &[u8] {
        &item.name
    }

    /// Attribute sets count for every entry that has them, though a page stores each once: so what
    /// a page expands to is bounded as well.
    fn weight(item: &Entry) -> usize {
        let target = match &item.node {
            Node::Symlink { target } => target.len(),
            _ => 0,
        };
        let xattrs = item.xattrs.as_deref().map_or(0, xattr_bytes);
        item.name.len().saturating_add(target).saturating_add(xattrs)
    }
}

fn entry_tag(entry: &Entry) -> u8 {
    let kind = match entry.node {
        Node::File { content: Content::Empty, .. } => 0,
        Node::File { content: Content::Chunk(_), .. } => 1,
        Node::File { content: Content::Recipe(_), .. } => 2,
        Node::Directory { .. } => 3,
        Node::Symlink { .. } => 4,
        Node::Fifo => 5,
        Node::Socket => 6,
        Node::CharDevice { .. } => 7,
        Node::BlockDevice { .. } => 8,
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    kind | flag(entry.xattrs.is_some(), HAS_XATTRS)
        | flag(entry.flags != 0, HAS_FLAGS)
        | flag(entry.marks != Marks::NONE, HAS_MARKS)
}

fn encode_node(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::File { content: Content::Empty, .. } | Node::Fifo | Node::Socket => {}
        Node::File { size, content: Content::Chunk(id) | Content::Recipe(id) } => {
            out.varint(*size);
            out.extend_from_slice(id.as_bytes());
        }
        Node::Directory { tree } => out.extend_from_slice(tree.as_bytes()),
        Node::Symlink { target } => out.bytes(target),
        Node::CharDevice { device } | Node::BlockDevice { device } => {
            out.varint(u64::from(device.major));
            out.varint(u64::from(device.minor));
        }
    }
}

fn decode_node(kind: u8, reader: &mut Reader<'_>) -> Result<Node, DecodeError> {
    let file = |reader: &mut Reader<'_>, content: fn(BlobId) -> Content| {
        let size = reader.varint()?;
        if size == 0 {
            return Err(reader.invalid("an empty file has content"));
        }
        Ok(Node::File { size, content: content(BlobId::new(reader.array()?)) })
    };
    let device = |reader: &mut Reader<'_>| {
        Ok(DeviceNumber { major: reader.varint_u32()?, minor: reader.varint_u32()? })
    };
    Ok(match kind {
        0 => Node::File { size: 0, content: Content::Empty },
        1 => file(reader, Content::Chunk)?,
        2 => file(reader, Content::Recipe)?,
        3 => Node::Directory { tree: BlobId::new(reader.array()?) },
        4 => match reader.bytes(SYMLINK_BYTES_MAX)? {
            [] => return Err(reader.invalid("a symbolic link has no target")),
            target if target.contains(&0) => {
                return Err(reader.invalid("the target of a symbolic link holds a NUL"));
            }
            target => Node::Symlink { target: target.into() },
        },
        5 => Node::Fifo,
        6 => Node::Socket,
        7 => Node::CharDevice { device: device(reader)? },
        8 => Node::BlockDevice { device: device(reader)? },
        _ => return Err(reader.invalid("an entry is of a kind this program does not know")),
    })
}

fn decode_names(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Box<[u8]>>, DecodeError> {
    let mut names: Vec<Box<[u8]>> = Vec::with_capacity(count);
    for _ in 0..count {
        let last: &[u8] = names.last().map(|name| &name[..]).unwrap_or_default();
        let shared = reader.varint_max(last.len())?;
        let suffix = reader.bytes(crate::entry::NAME_BYTES_MAX)?;
        let (prefix, rest) = last.split_at(shared);
        // Front coding is canonical only when the shared prefix is as long as can be.
        if rest.first().is_some_and(|next| suffix.first() == Some(next)) {
            return Err(reader.invalid("a name is not in its shortest form"));
        }
        let name = [prefix, suffix].concat();
        if !Entry::is_valid_name(&name) || (!names.is_empty() && &name[..] <= last) {
            return Err(reader.invalid("a name is not allowed or out of order"));
        }
        names.push(name.into());
    }
    Ok(names)
}

fn decode_modes(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u16>, DecodeError> {
    (0..count)
        .map(|_| {
            u16::try_from(reader.varint()?)
                .ok()
                .filter(|&mode| mode <= 0o7777)
                .ok_or(reader.invalid("a mode has more than permission bits"))
        })
        .collect()
}

fn decode_owners(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u32>, DecodeError> {
    let mut last = 0_i64;
    (0..count)
        .map(|_| {
            last = last.wrapping_add(reader.zigzag()?);
            u32::try_from(last).map_err(|_| reader.invalid("an owner exceeds 32 bits"))
        })
        .collect()
}

/// A column that only entries with `bit` in their tag have; the others have 0.
fn decode_flagged<T: Default>(
    tags: &[u8],
    bit: u8,
    mut read: impl FnMut() -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    tags.iter().map(|tag| if tag & bit != 0 { read() } else { Ok(T::default()) }).collect()
}

/// Attribute sets are stored once a page; entries refer to them by number, in order of first use.
fn encode_xattrs(items: &[Entry], out: &mut Vec<u8>) {
    let mut sets: Vec<&[Xattr]> = Vec::new();
    let mut numbers: HashMap<&[Xattr], u64> = HashMap::new();
    let mut uses = Vec::new();
    for xattrs in items.iter().filter_map(|entry| entry.xattrs.as_deref()) {
        let number = *numbers.entry(xattrs).or_insert_with(|| {
            let number = sets.len() as u64;
            sets.push(xattrs);
            number
        });
        uses.varint(number);
    }
    out.varint(sets.len() as u64);
    for set in sets {
        out.varint(set.len() as u64);
        for xattr in set {
            out.bytes(&xattr.name);
            out.bytes(&xattr.value);
        }
    }
    out.extend_from_slice(&uses);
}

fn decode_xattrs(
    reader: &mut Reader<'_>,
    tags: &[u8],
    entries: &mut [Entry],
) -> Result<(), DecodeError> {
    let set_count = reader.count(tags.len(), 3)?;
    let mut sets: Vec<Box<[Xattr]>> = Vec::with_capacity(set_count);
    for _ in 0..set_count {
        let count = reader.count(1 << 16, 2)?;
        let mut set: Vec<Xattr> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.bytes(255)?;
            let value = reader.bytes(XATTR_BYTES_MAX)?;
            if name.is_empty()
                || name.contains(&0)
                || set.last().is_some_and(|last| *last.name >= *name)
            {
                return Err(reader.invalid("an attribute name is not allowed or out of order"));
            }
            set.push(Xattr { name: name.into(), value: value.into() });
        }
        if set.is_empty() || xattr_bytes(&set) > ENTRY_XATTR_BYTES_MAX {
            return Err(reader.invalid("a set of attributes is empty or exceeds its limit"));
        }
        sets.push(set.into());
    }
    if sets.iter().collect::<HashSet<_>>().len() != sets.len() {
        return Err(reader.invalid("a set of attributes is stored twice"));
    }
    let mut first_unused = 0;
    let mut expanded = 0_usize;
    for (entry, _) in entries.iter_mut().zip(tags).filter(|(_, tag)| **tag & HAS_XATTRS != 0) {
        let number = reader.varint_max(usize::MAX)?;
        let set = sets.get(number).filter(|_| number <= first_unused);
        let set = set.ok_or(reader.invalid("attribute sets are not in order of use"))?;
        first_unused = first_unused.max(number.saturating_add(1));
        expanded = expanded.saturating_add(xattr_bytes(set));
        if expanded > BLOB_BYTES_MAX {
            return Err(reader.invalid("its attributes exceed their limit"));
        }
        entry.xattrs = Some(set.clone());
    }
    if first_unused != sets.len() {
        return Err(reader.invalid("a set of attributes is not used"));
    }
    Ok(())
}

fn xattr_bytes(set: &[Xattr]) -> usize {
    set.iter().map(|xattr| xattr.name.len().saturating_add(xattr.value.len())).sum()
}

const KIND_MASK: u8 = 0x1f;
const HAS_MARKS: u8 = 0x20;
const HAS_FLAGS: u8 = 0x40;
const HAS_XATTRS: u8 = 0x80;

#[cfg(test)]
mod tests;
