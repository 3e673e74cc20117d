//! Comparing what is there with what the snapshot has.

use std::ops::Range;

use lastgood_format::entry::{Entry, Node, Xattr};
use lastgood_format::id::BlobId;
use lastgood_format::pack::BlobKind;
use lastgood_host::HostError;
use lastgood_host::metadata::{ApplyPolicy, Details, Metadata, flags};
use lastgood_host::scan::{Directory, Kind, Stat};
use lastgood_host::source::SourceFile;
use lastgood_repo::Repository;

/// Whether `file` holds the chunk `id` of `bytes` bytes, `count` times from `offset` on.
pub(crate) fn holds_chunk(
    repo: &Repository,
    file: &SourceFile,
    id: BlobId,
    (bytes, count): (u32, u64),
    offset: u64,
    buffer: &mut Vec<u8>,
) -> Result<bool, HostError> {
    let length = bytes as usize;
    if file.stat().size < offset.saturating_add(u64::from(bytes).saturating_mul(count)) {
        return Ok(false);
    }
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let buffer = &mut buffer[..length];
    for number in 0..count {
        let position = offset + number * u64::from(bytes);
        if file.read_at(buffer, position)? != length
            || repo.keys().blob_id(BlobKind::Chunk, buffer) != id
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first stretch of `range` in which `file` has anything but zeros, in whole pieces of
/// [`PIECE_BYTES`]; what lies past its end counts as zeros. Holes are not read.
pub(crate) fn first_data(
    file: &SourceFile,
    range: &Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Range<u64>>, HostError> {
    if buffer.len() < PIECE_BYTES {
        buffer.resize(PIECE_BYTES, 0);
    }
    for extent in file.extents_from(range.start) {
        let extent = extent?;
        if extent.start >= range.end {
            break;
        }
        let end = extent.end.min(range.end);
        let mut position = extent.start.max(range.start);
        while position < end {
            let length = (end - position).min(PIECE_BYTES as u64) as usize;
            let read = file.read_at(&mut buffer[..length], position)?;
            if !is_zero(&buffer[..read]) {
                return Ok(Some(position..position + read as u64));
            }
            if read < length {
                break;
            }
            position += length as u64;
        }
        if end >= range.end {
            break;
        }
    }
    Ok(None)
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|b| *b == 0)
}

/// Whether what is there has the kind and, but for files and directories, the content of `entry`.
pub(crate) fn is_same_node(
    directory: &Directory,
    entry: &Entry,
    stat: &Stat,
) -> Result<bool, HostError> {
    Ok(match &entry.node {
        Node::File { size, .. } => stat.kind == Kind::File && stat.size == *size,
        Node::Directory { .. } => stat.kind == Kind::Directory,
        Node::Symlink { target } => {
            stat.kind == Kind::Symlink && directory.read_link(&entry.name)? == *target
        }
        special => stat.special_node().as_ref() == Some(special),
    })
}

/// Whether metadata is not as wanted, as far as `policy` would let it be set. `details` is called
/// only when all else is equal.
pub(crate) fn metadata_differs(
    wanted: &Metadata<'_>,
    stat: &Stat,
    policy: ApplyPolicy,
    details: impl FnOnce() -> Details,
) -> bool {
    let mut mode_mask = 0o7777;
    if stat.kind != Kind::Directory && !policy.special {
        mode_mask &= !0o6000;
    }
    let is_mode_set = stat.kind != Kind::Symlink;
    if is_mode_set && (stat.mode ^ wanted.mode) & mode_mask != 0
        || policy.owner && (stat.uid, stat.gid) != (wanted.uid, wanted.gid)
        || stat.mtime != wanted.mtime
    {
        return true;
    }
    let details = details();
    let has_flags = matches!(stat.kind, Kind::File | Kind::Directory);
    if has_flags && (details.flags ^ wanted.flags) & flags::SETTABLE != 0 {
        return true;
    }
    let now = details.xattrs.as_deref().unwrap_or_default();
    let is_settable = |xattr: &&Xattr| policy.special || !gives_power(&xattr.name);
    let is_missing = |xattr: &Xattr| !now.contains(xattr);
    let is_surplus = |xattr: &Xattr| {
        is_removable(&xattr.name) && !wanted.xattrs.iter().any(|other| other.name == xattr.name)
    };
    wanted.xattrs.iter().filter(is_settable).any(is_missing) || now.iter().any(is_surplus)
}

/// As `host::metadata` removes them.
fn is_removable(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

/// As `host::metadata` withholds them.
fn gives_power(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

/// What is read at once while looking for zeros.
const PIECE_BYTES: usize = 256 << 10;
