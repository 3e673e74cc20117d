//! What takes the space of a repository: which snapshot brought it, which alone needs it, and in
//! which directories it is.
//!
//! Below a blob that two snapshots are known to need nobody walks again, so that all snapshots
//! together cost about as much as what they store.
//!
//! Memory: six bytes a blob and a few megabytes, all but these in files beside the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use lastgood_format::config::DELTAS;
use lastgood_format::id::BlobId;
use lastgood_format::pack::BlobKind;
use lastgood_format::page::Child;

use crate::check::trees::{Reference, push_name, read_references};
use crate::error::RepoError;
use crate::index::BlobSet;
use crate::reader::BlobReader;
use crate::repository::Repository;
use crate::snapshots::SnapshotRecord;

/// What takes the space. Bytes are those that blobs take in their packs, compressed, without
/// parity and directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Space {
    /// For each snapshot, in the order given.
    pub snapshots: Vec<SnapshotSpace>,
    /// Bytes in each directory where they were needed first, and below it, down to the depth that
    /// was asked for. Paths have no leading slash; the first is `/` itself.
    pub directories: BTreeMap<Vec<u8>, u64>,
    /// All that the snapshots need.
    pub needed_bytes: u64,
    /// Blobs that could not be read or found. They and what is below are not counted.
    pub unread: u64,
}

/// What one snapshot takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotSpace {
    /// What none of the snapshots before needs.
    pub added_bytes: u64,
    /// What no other snapshot needs: forgetting it alone frees as much.
    pub own_bytes: u64,
}

/// Asked now and then; its error ends the walk.
pub type Proceed<'a> = &'a mut dyn FnMut() -> Result<(), RepoError>;

/// Finds out what takes the space of `records`, oldest first, down to `depth` directories.
///
/// # Errors
/// When a blob may be readable later; what `proceed` says.
pub fn space(
    repo: &Arc<Repository>,
    records: &[SnapshotRecord],
    depth: usize,
    proceed: Proceed<'_>,
) -> Result<Space, RepoError> {
    let mut walk = Walk::new(repo, depth, proceed)?;
    let index = repo.index()?;
    let (once, often) = (BlobSet::beside(&index), BlobSet::beside(&index));
    let mut snapshots = Vec::new();
    for record in records {
        let here = BlobSet::beside(&index);
        let added_bytes = walk.snapshot(record, true, &mut |blob| {
            if !here.insert(blob) {
                return Step::Over;
            }
            match once.insert(blob) {
                true => Step::Count,
                false if often.insert(blob) => Step::Below,
                false => Step::Over,
            }
        })?;
        snapshots.push(SnapshotSpace { added_bytes, own_bytes: 0 });
    }
    let needed_bytes = snapshots.iter().map(|it| it.added_bytes).sum();
    let counted = BlobSet::beside(&index);
    for (record, it) in records.iter().zip(&mut snapshots) {
        it.own_bytes = walk.snapshot(record, false, &mut |blob| {
            if !often.contains(blob) && counted.insert(blob) { Step::Count } else { Step::Over }
        })?;
    }
    Ok(Space { snapshots, directories: walk.directories, needed_bytes, unread: walk.unread })
}

/// The bytes that are needed by some of `doomed` and none of `kept`.
///
/// # Errors
/// As [`space`].
pub fn freed_by_forgetting(
    repo: &Arc<Repository>,
    doomed: &[SnapshotRecord],
    kept: &[SnapshotRecord],
    proceed: Proceed<'_>,
) -> Result<u64, RepoError> {
    let mut walk = Walk::new(repo, 0, proceed)?;
    let met = BlobSet::beside(&*repo.index()?);
    let mut freed = 0;
    for (records, step) in [(kept, Step::Below), (doomed, Step::Count)] {
        for record in records {
            let mut visit = |blob| if met.insert(blob) { step } else { Step::Over };
            freed += walk.snapshot(record, false, &mut visit)?;
        }
    }
    Ok(freed)
}

/// What to do with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing, nor with what is below.
    Over,
    /// Nothing, and go on below.
    Below,
    /// Count it, and go on below.
    Count,
}

struct Walk<'a> {
    reader: BlobReader,
    depth: usize,
    proceed: Proceed<'a>,
    directories: BTreeMap<Vec<u8>, u64>,
    unread: u64,
}

/// Something that is going to be visited.
struct Pending {
    kind: BlobKind,
    id: BlobId,
    /// What its parent page says of it, and the level of that.
    child: Option<(u8, Child)>,
    /// The directory that it is counted in, and how deep that is.
    directory: Arc<Vec<u8>>,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn new(repo: &Arc<Repository>, depth: usize, proceed: Proceed<'a>) -> Result<Self, RepoError> {
        repo.index()?.refresh(repo)?;
        let reader = BlobReader::new(repo.clone());
        Ok(Self { reader, depth, proceed, directories: BTreeMap::new(), unread: 0 })
    }

    /// Walks a snapshot as `visit` says; returns the bytes that it counted.
    fn snapshot(
        &mut self,
        record: &SnapshotRecord,
        is_told: bool,
        visit: &mut dyn FnMut(BlobId) -> Step,
    ) -> Result<u64, RepoError> {
        let snapshot = &record.snapshot;
        let mut bytes = 0;
        let lists = [
            (BlobKind::Tree, snapshot.tree),
            (BlobKind::Links, snapshot.links),
            (BlobKind::Hints, snapshot.hints),
        ];
        let top = Arc::new(Vec::new());
        let pending =
            |(kind, id)| Pending { kind, id, child: None, directory: top.clone(), depth: 0 };
        let mut open: Vec<Pending> = lists.into_iter().map(pending).collect();
        while let Some(at) = open.pop() {
            let step = visit(at.id);
            if step == Step::Over {
                continue;
            }
            (self.proceed)()?;
            let found = match self.blob(&at, step == Step::Count, &mut open) {
                Err(error) if error.is_damage() => {
                    self.unread += 1;
                    continue;
                }
                found => found?,
            };
            bytes += found;
            if is_told && found > 0 {
                self.count(&at.directory, found);
            }
        }
        Ok(bytes)
    }

    /// Adds bytes to a directory and those above.
    fn count(&mut self, directory: &[u8], bytes: u64) {
        let slashes = directory.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = slashes.map(|(at, _)| at).chain([0, directory.len()]);
        let mut last = None;
        let mut ends: Vec<usize> = ends.collect();
        ends.sort_unstable();
        for end in ends {
            if last.replace(end) != Some(end) {
                *self.directories.entry(directory[..end].to_vec()).or_default() += bytes;
            }
        }
    }

    /// What a chunk is a change of.
    fn base(&self, at: &Pending) -> Result<Option<BlobId>, RepoError> {
        match self.reader.repo().history().has(DELTAS) {
            true => Ok(self.reader.locate(at.kind, at.id)?.entry.base),
            false => Ok(None),
        }
    }

    /// What a blob takes, if that is asked for; what it refers to is added to `open`.
    fn blob(
        &self,
        at: &Pending,
        is_counted: bool,
        open: &mut Vec<Pending>,
    ) -> Result<u64, RepoError> {
        let mut bytes = 0;
        if is_counted {
            bytes = self.reader.stored_bytes(&self.reader.locate(at.kind, at.id)?)?;
        }
        if at.kind == BlobKind::Chunk {
            // Whoever needs a delta needs what it is a change of.
            open.extend(self.base(at)?.map(|id| {
                let (directory, depth) = (at.directory.clone(), at.depth);
                Pending { kind: at.kind, id, child: None, directory, depth }
            }));
            return Ok(bytes);
        }
        let (level, references) = read_references(&self.reader, at.kind, at.id, at.child.as_ref())?;
        for reference in references {
            let same = |kind, id, child| {
                let (directory, depth) = (at.directory.clone(), at.depth);
                Pending { kind, id, child, directory, depth }
            };
            open.push(match reference {
                Reference::Page(child) => same(at.kind, child.page, Some((level, child))),
                Reference::Chunk(_, id) => same(BlobKind::Chunk, id, None),
                Reference::List(BlobKind::Tree, name, id, _) if at.depth < self.depth => {
                    let mut directory = at.directory.to_vec();
                    push_name(&mut directory, &name);
                    let (directory, depth) = (Arc::new(directory), at.depth + 1);
                    Pending { kind: BlobKind::Tree, id, child: None, directory, depth }
                }
                Reference::List(kind, _, id, _) => same(kind, id, None),
            });
        }
        Ok(bytes)
    }
}
