//! Looking at snapshots: list, search, read one file, count.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use lastgood_repo::format::entry::{Content, Entry, Hint, Node, Timestamp};
use lastgood_repo::format::id::{BlobId, SnapshotId};
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::recipe::{Part, RecipeCodec};
use lastgood_repo::format::tree::TreeCodec;
use lastgood_repo::{BlobSet, Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::pages::{Gap, Pages};
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

/// What a listing comes to.
#[derive(Debug)]
pub enum Seen {
    /// An entry.
    Entry(Listed),
    /// A part of a directory that is damaged. What can be read of the rest follows.
    Lost {
        /// Absolute path of the directory, as bytes.
        path: Vec<u8>,
        /// What is wrong.
        error: Error,
    },
}

/// Lists what is at `path` in a snapshot: a directory's entries, or the entry itself. Holds a page
/// of each directory on the way.
///
/// # Errors
/// [`ErrorKind::NotFound`] names the path; whatever `visit` returns.
pub fn ls(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    path: Option<&[u8]>,
    recursive: bool,
    visit: &mut dyn FnMut(Seen) -> Result<(), Error>,
) -> Result<(), Error> {
    let view = SnapshotView::open(repo, record.clone())?;
    let (mut at, found) = match path {
        Some(path) => view.find(path)?,
        None => (Vec::new(), Found::Root(view.root())),
    };
    at.insert(0, b'/');
    match found {
        Found::Root(directory) => list_below(&view, Vec::new(), &directory, recursive, visit),
        Found::Entry(_, Some(directory)) => list_below(&view, at, &directory, recursive, visit),
        Found::Entry(entry, None) => visit(Seen::Entry(Listed { path: at, entry, hint: None })),
    }
}

/// A directory that is being listed.
struct Level<'a> {
    entries: Pages<'a, TreeCodec>,
    hints: std::vec::IntoIter<(Hint, Option<BlobId>)>,
    path_bytes: usize,
}

fn list_below(
    view: &SnapshotView,
    mut path: Vec<u8>,
    directory: &ViewDirectory,
    recursive: bool,
    visit: &mut dyn FnMut(Seen) -> Result<(), Error>,
) -> Result<(), Error> {
    let level = |directory: &ViewDirectory, path_bytes| Level {
        entries: Pages::new(view.reader(), BlobKind::Tree, directory.tree),
        hints: view.hints(directory).into_iter(),
        path_bytes,
    };
    let mut levels = vec![level(directory, path.len())];
    while let Some(last) = levels.last_mut() {
        path.truncate(last.path_bytes);
        let entry = match last.entries.next() {
            Some(Ok(entry)) => entry,
            Some(Err(Gap { error, measure })) => {
                let error = Error::from(error);
                if error.kind() != ErrorKind::Damaged {
                    return Err(error);
                }
                // Hints go with entries by their position.
                let lost = measure.and_then(|lost| usize::try_from(lost).ok());
                lost.and_then(|lost| last.hints.nth(lost.checked_sub(1)?));
                let path = if path.is_empty() { b"/".to_vec() } else { path.clone() };
                visit(Seen::Lost { path, error })?;
                continue;
            }
            None => {
                levels.pop();
                continue;
            }
        };
        let (hint, hints) = last.hints.next().unzip();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let tree = match entry.node {
            Node::Directory { tree } if recursive => Some(tree),
            _ => None,
        };
        visit(Seen::Entry(Listed { path: path.clone(), entry, hint }))?;
        if let Some(tree) = tree {
            levels.push(level(&ViewDirectory { tree, hints: hints.flatten() }, path.len()));
        }
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
    visit: &mut dyn FnMut(SnapshotId, Seen) -> Result<(), Error>,
) -> Result<(), Error> {
    let matcher = compile(options)?;
    for record in records {
        ls(repo, record, None, true, &mut |seen| {
            let Seen::Entry(listed) = &seen else { return visit(record.id, seen) };
            let path: &std::path::Path =
                <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&listed.path)
                    .as_ref();
            let mtime = listed.entry.mtime;
            let is_in_time = options.oldest_after.is_none_or(|oldest| mtime >= oldest)
                && options.newest_before.is_none_or(|newest| mtime <= newest);
            let is_match = matcher.matched(path, listed.entry.is_directory()).is_ignore();
            if is_in_time && is_match { visit(record.id, seen) } else { Ok(()) }
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
    /// Distinct contents of files.
    pub contents: u64,
    /// Bytes of files of all of them, those of the same content counted once.
    pub content_bytes: u64,
    /// Distinct blobs they refer to.
    pub blobs: u64,
    /// Plaintext bytes of distinct chunks.
    pub chunk_bytes: u64,
    /// Packs stored in the repository.
    pub packs: u64,
    /// Their bytes, whoever needs them.
    pub pack_bytes: u64,
}

/// Counts what `records` take, and tells what is damaged and not counted. Memory: 80 bytes for each
/// distinct directory, some for each blob.
///
/// # Errors
/// When a tree cannot be read that may be whole.
pub fn stats(
    repo: &Arc<Repository>,
    records: &[SnapshotRecord],
) -> Result<(Stats, Vec<Error>), Error> {
    let index = repo.index()?;
    let mut counting = Counting {
        stats: Stats { snapshots: records.len() as u64, ..Stats::default() },
        trees: HashMap::new(),
        blobs: BlobSet::beside(&index),
        contents: BlobSet::beside(&index),
        has_empty: false,
        lost: Vec::new(),
    };
    for record in records {
        let view = SnapshotView::open(repo, record.clone())?;
        let (entries, bytes) = counting.tree(&view, view.root().tree)?;
        counting.stats.entries += entries;
        counting.stats.restore_bytes += bytes;
    }
    let Counting { mut stats, trees, lost, .. } = counting;
    stats.blobs += trees.len() as u64;
    for (_, _, bytes) in repo.all_packs()? {
        stats.packs += 1;
        stats.pack_bytes += bytes;
    }
    Ok((stats, lost))
}

struct Counting {
    stats: Stats,
    /// Entries and bytes of each tree that was counted.
    trees: HashMap<BlobId, (u64, u64)>,
    blobs: BlobSet,
    /// What files are: a chunk or a recipe. A chunk may also be a part of another file.
    contents: BlobSet,
    has_empty: bool,
    /// What is damaged, and not counted.
    lost: Vec<Error>,
}

impl Counting {
    /// Goes on behind what is damaged.
    fn lose(&mut self, error: impl Into<Error>) -> Result<(), Error> {
        let error = error.into();
        if error.kind() != ErrorKind::Damaged {
            return Err(error);
        }
        self.lost.push(error);
        Ok(())
    }

    /// Entries and bytes of a tree; one that was counted before is not read again.
    fn tree(&mut self, view: &SnapshotView, tree: BlobId) -> Result<(u64, u64), Error> {
        if let Some(known) = self.trees.get(&tree) {
            return Ok(*known);
        }
        let (mut entries, mut bytes) = (0, 0);
        for entry in Pages::<TreeCodec>::new(view.reader(), BlobKind::Tree, tree) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Gap { error, .. }) => {
                    self.lose(error)?;
                    continue;
                }
            };
            entries += 1;
            if let Node::Directory { tree } = entry.node {
                let (more_entries, more_bytes) = self.tree(view, tree)?;
                entries += more_entries;
                bytes += more_bytes;
            }
            if let Node::File { size, content } = entry.node {
                bytes += size;
                self.file(view, size, content)?;
            }
        }
        self.trees.insert(tree, (entries, bytes));
        Ok((entries, bytes))
    }

    fn file(&mut self, view: &SnapshotView, size: u64, content: Content) -> Result<(), Error> {
        let is_new = match content {
            Content::Empty => !std::mem::replace(&mut self.has_empty, true),
            Content::Chunk(id) | Content::Recipe(id) => self.contents.insert(id),
        };
        if !is_new {
            return Ok(());
        }
        self.stats.contents += 1;
        self.stats.content_bytes += size;
        match content {
            Content::Empty => Ok(()),
            Content::Chunk(id) => {
                self.chunk(id, size);
                Ok(())
            }
            Content::Recipe(root) => {
                self.stats.blobs += u64::from(self.blobs.insert(root));
                for part in Pages::<RecipeCodec>::new(view.reader(), BlobKind::Recipe, root) {
                    match part {
                        Ok(Part::Chunk { id, bytes } | Part::Repeat { id, bytes, .. }) => {
                            self.chunk(id, u64::from(bytes));
                        }
                        Ok(Part::Hole { .. }) => {}
                        Err(Gap { error, .. }) => self.lose(error)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn chunk(&mut self, id: BlobId, bytes: u64) {
        if self.blobs.insert(id) {
            self.stats.blobs += 1;
            self.stats.chunk_bytes += bytes;
        }
    }
}
