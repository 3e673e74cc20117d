//! Where the content of a file came from, and what takes the space of a repository.

use std::sync::Arc;

use lastgood_repo::format::entry::{Content, Entry, Node};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::recipe::{Part, RecipeCodec};
pub use lastgood_repo::{Fate, Run, SnapshotSpace, Space, StoredCopy};
use lastgood_repo::{Lineage, RepoError, Repository, SnapshotRecord, path_of};

use crate::error::{Error, ErrorKind};
use crate::job::{Job, Phase};
use crate::view::{Found, SnapshotView};

/// A blob and where it came from.
#[derive(Debug, Clone)]
pub struct BlobLineage {
    /// The blob.
    pub id: BlobId,
    /// What it is.
    pub kind: BlobKind,
    /// Where it is in its file, in bytes; 0 where no file was asked for.
    pub offset: u64,
    /// Every copy of it.
    pub copies: Vec<StoredCopy>,
}

/// Where the content of a path of a snapshot came from.
#[derive(Debug, Clone)]
pub struct PathLineage {
    /// The path, absolute.
    pub path: Vec<u8>,
    /// What stands there; `None` is `/`.
    pub entry: Option<Entry>,
    /// Its chunks, in order; of a directory, the first page of its list.
    pub blobs: Vec<BlobLineage>,
}

/// Finds where a blob came from.
///
/// # Errors
/// [`ErrorKind::NotFound`] when no pack has it.
pub fn of_blob(repo: &Arc<Repository>, id: BlobId) -> Result<BlobLineage, Error> {
    let mut lineage = Lineage::new(repo)?;
    for kind in BlobKind::ALL {
        let copies = lineage.of(kind, id)?;
        if !copies.is_empty() {
            return Ok(BlobLineage { id, kind, offset: 0, copies });
        }
    }
    Err(Error::new(ErrorKind::NotFound, format!("there is no blob {id}")))
}

/// The first path of a snapshot that needs a blob, absolute.
///
/// # Errors
/// When the snapshot cannot be read.
pub fn path_in(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    id: BlobId,
) -> Result<Option<Vec<u8>>, Error> {
    let lineage = Lineage::new(repo)?;
    let path = path_of(lineage.reader(), record, id)?;
    Ok(path.map(|path| [b"/", path.as_slice()].concat()))
}

/// Finds where the content of `path` came from.
///
/// # Errors
/// [`ErrorKind::NotFound`] names the path; when something on the way cannot be read.
pub fn of_path(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    path: &[u8],
) -> Result<PathLineage, Error> {
    let view = SnapshotView::open(repo, record.clone())?;
    let (mut path, found) = view.find(path)?;
    path.insert(0, b'/');
    let mut lineage = Lineage::new(repo)?;
    let (entry, list) = match found {
        Found::Root(directory) => (None, vec![(BlobKind::Tree, directory.tree, 0)]),
        Found::Entry(entry, directory) => {
            let list = match (&entry.node, directory) {
                (_, Some(directory)) => vec![(BlobKind::Tree, directory.tree, 0)],
                (Node::File { content, .. }, None) => chunks(&lineage, content)?,
                _ => Vec::new(),
            };
            (Some(entry), list)
        }
    };
    let mut blobs = Vec::new();
    for (kind, id, offset) in list {
        blobs.push(BlobLineage { id, kind, offset, copies: lineage.of(kind, id)? });
    }
    Ok(PathLineage { path, entry, blobs })
}

/// The chunks of a file, with their offsets.
fn chunks(lineage: &Lineage, content: &Content) -> Result<Vec<(BlobKind, BlobId, u64)>, Error> {
    let mut chunks = Vec::new();
    match *content {
        Content::Chunk(id) => chunks.push((BlobKind::Chunk, id, 0)),
        Content::Recipe(id) => {
            let mut offset = 0;
            lineage.reader().walk::<RecipeCodec>(BlobKind::Recipe, id, &mut |part| {
                if let Part::Chunk { id, .. } | Part::Repeat { id, .. } = part {
                    chunks.push((BlobKind::Chunk, id, offset));
                }
                offset += part.file_bytes();
                Ok(())
            })?;
        }
        _ => {}
    }
    Ok(chunks)
}

/// Finds out what takes the space of snapshots, oldest first, down to `depth` directories.
#[must_use]
pub fn space(repo: Arc<Repository>, records: Vec<SnapshotRecord>, depth: usize) -> Job<Space> {
    Job::spawn(move |control| {
        control.enter(Phase::Planning);
        let mut proceed = || control.check().map_err(|_| RepoError::Stopped);
        let space = lastgood_repo::space(&repo, &records, depth, &mut proceed);
        control.check()?;
        Ok(space?)
    })
}

/// The bytes that forgetting `doomed` would free, once gc has run.
#[must_use]
pub fn freed_by_forgetting(
    repo: Arc<Repository>,
    doomed: Vec<SnapshotRecord>,
    kept: Vec<SnapshotRecord>,
) -> Job<u64> {
    Job::spawn(move |control| {
        control.enter(Phase::Planning);
        let mut proceed = || control.check().map_err(|_| RepoError::Stopped);
        let freed = lastgood_repo::freed_by_forgetting(&repo, &doomed, &kept, &mut proceed);
        control.check()?;
        Ok(freed?)
    })
}
