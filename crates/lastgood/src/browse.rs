//! Looking at snapshots: list, search, read one file, count.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use lastgood_repo::format::entry::{Content, Entry, Hint, Node, Timestamp};
use lastgood_repo::format::id::{BlobId, SnapshotId};
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::recipe::{Part, RecipeCodec};
use lastgood_repo::{Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::view::{Found, SnapshotView, ViewDirectory};

/// One listed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Absolute path, as bytes.
    pub path: Vec<u8>,
    /// The entry.
    pub entry: Entry,
    /// Change time, birth time, inode and device, where they were read.
    pub hint: Option<Hint>,
}

/// Lists what is at `path` in a snapshot: a directory's entries, or the entry itself.
///
/// # Errors
/// [`ErrorKind::NotFound`] names the path; whatever `visit` returns.
pub fn ls(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    path: Option<&[u8]>,
    recursive: bool,
    visit: &mut dyn FnMut(Listed) -> Result<(), Error>,
) -> Result<(), Error> {
    let view = SnapshotView::open(repo, record.clone())?;
    let (mut at, found) = match path {
        Some(path) => view.find(path)?,
        None => (Vec::new(), Found::Root(view.root())),
    };
    at.insert(0, b'/');
    match found {
        Found::Root(directory) => list_below(&view, &mut Vec::new(), &directory, recursive, visit),
        Found::Entry(_, Some(directory)) => {
            list_below(&view, &mut at, &directory, recursive, visit)
        }
        Found::Entry(entry, None) => visit(Listed { path: at, entry, hint: None }),
    }
}

fn list_below(
    view: &SnapshotView,
    path: &mut Vec<u8>,
    directory: &ViewDirectory,
    recursive: bool,
    visit: &mut dyn FnMut(Listed) -> Result<(), Error>,
) -> Result<(), Error> {
    let hints = view.hints(directory);
    for (index, (entry, below)) in view.entries(directory)?.into_iter().enumerate() {
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let hint = hints.get(index).copied();
        visit(Listed { path: path.clone(), entry, hint: hint.map(|(hint, _)| hint) })?;
        if let (true, Some(below)) = (recursive, below) {
            let hints = hint.and_then(|(_, children)| children);
            list_below(view, path, &ViewDirectory { hints, ..below }, true, visit)?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// Patterns as in a gitignore file; a name or a path matches any of them.
    pub patterns: Vec<String>,
    /// Ignore the case of letters.
    pub ignore_case: bool,
    /// Modified at or after this moment.
    pub newest_before: Option<Timestamp>,
    /// Modified at or before this moment.
    pub oldest_after: Option<Timestamp>,
}

/// Searches snapshots; subtrees that several share are searched once for each, read once.
///
/// # Errors
/// [`ErrorKind::Invalid`] names a pattern; whatever `visit` returns.
pub fn find(
    repo: &Arc<Repository>,
    records: &[SnapshotRecord],
    options: &FindOptions,
    visit: &mut dyn FnMut(SnapshotId, Listed) -> Result<(), Error>,
) -> Result<(), Error> {
    let matcher = compile(options)?;
    for record in records {
        ls(repo, record, None, true, &mut |listed| {
            let path: &std::path::Path =
                <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&listed.path)
                    .as_ref();
            let mtime = listed.entry.mtime;
            let is_in_time = options.oldest_after.is_none_or(|oldest| mtime >= oldest)
                && options.newest_before.is_none_or(|newest| mtime <= newest);
            let is_match = matcher.matched(path, listed.entry.is_directory()).is_ignore();
            if is_in_time && is_match { visit(record.id, listed) } else { Ok(()) }
        })?;
    }
    Ok(())
}

fn compile(options: &FindOptions) -> Result<Gitignore, Error> {
    let mut builder = GitignoreBuilder::new("/");
    let invalid = |pattern: &str, source: ignore::Error| {
        Error::caused_by(ErrorKind::Invalid, format!("{pattern:?} is not a pattern"), source)
    };
    builder.case_insensitive(options.ignore_case).map_err(|source| invalid("", source))?;
    for pattern in &options.patterns {
        builder.add_line(None, pattern).map_err(|source| invalid(pattern, source))?;
    }
    builder.build().map_err(|source| invalid(&options.patterns.join(" "), source))
}

/// Writes the bytes of one file to `out`.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the path is no file; [`ErrorKind::Damaged`] when a part of it
/// cannot be read: what came before was written.
pub fn cat(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<(), Error> {
    let view = SnapshotView::open(repo, record.clone())?;
    let Found::Entry(Entry { node: Node::File { size, content }, .. }, _) = view.find(path)?.1
    else {
        let path = String::from_utf8_lossy(path);
        return Err(Error::new(ErrorKind::Invalid, format!("{path:?} is not a regular file")));
    };
    view.read_file(size, content, &mut |bytes| {
        out.write_all(bytes).map_err(|source| {
            Error::caused_by(ErrorKind::Unavailable, "cannot write the file out", source)
        })
    })?;
    out.flush().map_err(|source| {
        Error::caused_by(ErrorKind::Unavailable, "cannot write the file out", source)
    })
}

/// What some snapshots take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots counted.
    pub snapshots: u64,
    /// Entries of all of them, as restoring each would make.
    pub entries: u64,
    /// Bytes of files of all of them, as restoring each would write.
    pub restore_bytes: u64,
    /// Distinct blobs they refer to.
    pub blobs: u64,
    /// Plaintext bytes of distinct chunks.
    pub chunk_bytes: u64,
    /// Packs stored in the repository.
    pub packs: u64,
    /// Their bytes, whoever needs them.
    pub pack_bytes: u64,
}

/// Counts what `records` take. Memory: 40 bytes for each distinct blob.
///
/// # Errors
/// When a tree cannot be read.
pub fn stats(repo: &Arc<Repository>, records: &[SnapshotRecord]) -> Result<Stats, Error> {
    let mut stats = Stats { snapshots: records.len() as u64, ..Stats::default() };
    let mut blobs = HashSet::new();
    let mut trees: HashMap<BlobId, (u64, u64)> = HashMap::new();
    for record in records {
        let view = SnapshotView::open(repo, record.clone())?;
        let (entries, bytes) =
            count(&view, view.root().tree, &mut trees, &mut blobs, &mut stats.chunk_bytes)?;
        stats.entries += entries;
        stats.restore_bytes += bytes;
    }
    stats.blobs = (blobs.len() + trees.len()) as u64;
    for (_, _, bytes) in repo.all_packs()? {
        stats.packs += 1;
        stats.pack_bytes += bytes;
    }
    Ok(stats)
}

/// Entries and bytes of a tree; one that was counted before is not read again.
fn count(
    view: &SnapshotView,
    tree: BlobId,
    trees: &mut HashMap<BlobId, (u64, u64)>,
    blobs: &mut HashSet<BlobId>,
    chunk_bytes: &mut u64,
) -> Result<(u64, u64), Error> {
    if let Some(known) = trees.get(&tree) {
        return Ok(*known);
    }
    let (mut entries, mut bytes) = (0, 0);
    for (entry, below) in view.entries(&ViewDirectory { tree, hints: None })? {
        entries += 1;
        if let Some(below) = below {
            let (more_entries, more_bytes) = count(view, below.tree, trees, blobs, chunk_bytes)?;
            entries += more_entries;
            bytes += more_bytes;
        }
        if let Node::File { size, content } = entry.node {
            bytes += size;
            match content {
                Content::Empty => {}
                Content::Chunk(id) => {
                    if blobs.insert(id) {
                        *chunk_bytes += size;
                    }
                }
                Content::Recipe(root) if blobs.insert(root) => {
                    view.reader().walk::<RecipeCodec>(BlobKind::Recipe, root, &mut |part| {
                        if let Part::Chunk { id, bytes } | Part::Repeat { id, bytes, .. } = part
                            && blobs.insert(id)
                        {
                            *chunk_bytes += u64::from(bytes);
                        }
                        Ok(())
                    })?;
                }
                Content::Recipe(_) => {}
            }
        }
    }
    trees.insert(tree, (entries, bytes));
    Ok((entries, bytes))
}
