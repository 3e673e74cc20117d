//! A snapshot as people see it: paths in, entries out.

use std::sync::Arc;

use lastgood_diff::State;
use lastgood_repo::format::entry::{Content, Entry, Hint, Node};
use lastgood_repo::format::hints::HintsCodec;
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::recipe::{Part, RecipeCodec};
use lastgood_repo::format::snapshot::Snapshot;
use lastgood_repo::format::tree::TreeCodec;
use lastgood_repo::{BlobReader, ListCursor, Loaded, Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};

/// A snapshot that is open for looking around. Directories are read as they are entered.
#[derive(Debug)]
pub struct SnapshotView {
    record: SnapshotRecord,
    reader: Arc<BlobReader>,
}

/// A directory of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewDirectory {
    /// Root page of its tree.
    pub tree: BlobId,
    /// Root page of its hints, where they are known.
    pub hints: Option<BlobId>,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// `/` itself, which has no entry.
    Root(ViewDirectory),
    /// An entry, and what it holds when it is a directory.
    Entry(Entry, Option<ViewDirectory>),
}

impl SnapshotView {
    /// Opens a snapshot. Reads its pack set, so that it can be read without any index; where that
    /// is damaged, what the index knows can be read.
    ///
    /// # Errors
    /// When the pack set cannot be read, for another reason than damage.
    pub fn open(repo: &Arc<Repository>, record: SnapshotRecord) -> Result<Self, Error> {
        let reader = Arc::new(BlobReader::new(repo.clone()));
        match reader.add_snapshot(&record.snapshot) {
            Err(error) if !error.is_damage() => Err(error.into()),
            _ => Ok(Self { record, reader }),
        }
    }

    /// The snapshot.
    #[must_use]
    pub const fn record(&self) -> &SnapshotRecord {
        &self.record
    }

    /// Reads its blobs.
    #[must_use]
    pub const fn reader(&self) -> &Arc<BlobReader> {
        &self.reader
    }

    /// The directory that stands for `/`.
    #[must_use]
    pub const fn root(&self) -> ViewDirectory {
        let snapshot = &self.record.snapshot;
        ViewDirectory { tree: snapshot.tree, hints: Some(snapshot.hints) }
    }

    /// What `path` leads to: an absolute path, or one below the directory that holds all sources.
    /// Returns the path it was found under, from `/`, without a leading slash.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] names the path.
    pub fn find(&self, path: &[u8]) -> Result<(Vec<u8>, Found), Error> {
        let clean = |path: &[u8]| -> Vec<u8> {
            let parts = path.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b"."));
            parts.collect::<Vec<_>>().join(&b'/')
        };
        let absolute = clean(path);
        if let Some(found) = self.lookup(&absolute)? {
            return Ok((absolute, found));
        }
        if !path.starts_with(b"/") {
            let below = clean(&[&common_directory(&self.record.snapshot)[..], b"/", path].concat());
            if let Some(found) = self.lookup(&below)? {
                return Ok((below, found));
            }
        }
        let text = String::from_utf8_lossy(path);
        let id = &self.record.id.to_string()[..8];
        let text =
            format!("there is no {text:?} in snapshot {id}; `lastgood ls {id}` lists its paths");
        Err(Error::new(ErrorKind::NotFound, text))
    }

    fn lookup(&self, path: &[u8]) -> Result<Option<Found>, Error> {
        let mut at = Found::Root(self.root());
        for name in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            let directory = match at {
                Found::Root(directory) | Found::Entry(_, Some(directory)) => directory,
                Found::Entry(_, None) => return Ok(None),
            };
            let entries = self.entries(&directory)?;
            let found = entries.binary_search_by(|(entry, _)| (*entry.name).cmp(name));
            let Some((entry, below)) = found.ok().and_then(|i| entries.into_iter().nth(i)) else {
                return Ok(None);
            };
            at = Found::Entry(entry, below);
        }
        Ok(Some(at))
    }

    /// The entries of a directory, sorted by name, with what each directory among them holds.
    ///
    /// # Errors
    /// When the tree cannot be read. Hints that cannot be read are left out.
    pub fn entries(
        &self,
        directory: &ViewDirectory,
    ) -> Result<Vec<(Entry, Option<ViewDirectory>)>, Error> {
        let mut entries = Vec::new();
        self.reader.walk::<TreeCodec>(BlobKind::Tree, directory.tree, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        let with_directory = |entry: Entry| {
            let below = match entry.node {
                Node::Directory { tree } => Some(ViewDirectory { tree, hints: None }),
                _ => None,
            };
            (entry, below)
        };
        Ok(entries.into_iter().map(with_directory).collect())
    }

    /// The hints of a directory's entries, in their order; empty when they cannot be read.
    #[must_use]
    pub fn hints(&self, directory: &ViewDirectory) -> Vec<(Hint, Option<BlobId>)> {
        let Some(root) = directory.hints else { return Vec::new() };
        let mut hints = Vec::new();
        let read = self.reader.walk::<HintsCodec>(BlobKind::Hints, root, &mut |item| {
            hints.push((item.hint, item.children));
            Ok(())
        });
        if read.is_err() { Vec::new() } else { hints }
    }

    /// Gives the bytes of a file of `size` bytes to `write`, stretch by stretch, holes as zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when a chunk cannot be read; what came before was given.
    pub fn read_file(
        &self,
        size: u64,
        content: Content,
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let root = match content {
            Content::Empty => return Ok(()),
            Content::Chunk(id) => return write(&self.chunk(id)?),
            Content::Recipe(root) => root,
        };
        let zeros = [0; 64 << 10];
        let mut give = |part: Part| -> Result<(), Error> {
            match part {
                Part::Chunk { id, .. } => write(&self.chunk(id)?),
                Part::Repeat { id, count, .. } => {
                    let chunk = self.chunk(id)?;
                    (0..count).try_for_each(|_| write(&chunk))
                }
                Part::Hole { bytes } => {
                    let mut left = bytes;
                    while left > 0 {
                        let now = left.min(zeros.len() as u64);
                        write(&zeros[..now as usize])?;
                        left -= now;
                    }
                    Ok(())
                }
            }
        };
        let mut parts = ListCursor::<RecipeCodec>::open(&self.reader, BlobKind::Recipe, root)?;
        // spec: tree §3. However its pages repeat, a recipe is as long as its file says.
        if parts.measure() != size {
            let location = self.reader.repo().location();
            let message = format!("recipe {root} in {location} is not as long as its file");
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        while let Some(part) = parts.next(&self.reader)? {
            give(part)?;
        }
        Ok(())
    }

    fn chunk(&self, id: BlobId) -> Result<Loaded, Error> {
        Ok(self.reader.blob(BlobKind::Chunk, id)?)
    }
}

impl State for SnapshotView {
    type Directory = ViewDirectory;
    type Error = Error;

    fn list(
        &mut self,
        directory: &ViewDirectory,
    ) -> Result<Vec<(Entry, Option<ViewDirectory>)>, Error> {
        self.entries(directory)
    }

    fn identity(&self, directory: &ViewDirectory) -> Option<BlobId> {
        Some(directory.tree)
    }
}

/// The deepest directory that contains all sources, as an absolute path: what a snapshot is about.
/// A single source is its own common directory, whether or not it is a directory.
#[must_use]
pub fn common_directory(snapshot: &Snapshot) -> Vec<u8> {
    let mut sources = snapshot.sources.iter().map(|source| source.split(|&byte| byte == b'/'));
    let Some(first) = sources.next() else { return Vec::new() };
    let mut common: Vec<&[u8]> = first.collect();
    for source in sources {
        let shared = common.iter().zip(source).take_while(|(a, b)| **a == *b).count();
        common.truncate(shared);
    }
    common.join(&b'/')
}
