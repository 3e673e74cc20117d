//! Lost blobs from another repository that has backed up the same files: its files are read, cut
//! as this repository cuts them, and what has the right id is taken.
//!
//! The other repository has other keys, so its blobs have other ids and its files other chunks;
//! only the content of files can be compared. Pages of directories are not looked for.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use lastgood_format::chunker::Chunker;
use lastgood_format::entry::{Content, Entry, Node};
use lastgood_format::id::BlobId;
use lastgood_format::pack::BlobKind;
use lastgood_format::page::PageWriter;
use lastgood_format::recipe::{Part, PartJoiner, RecipeCodec};
use lastgood_repo::{ListCursor, LostBlobs, Recovery, RepoError, Repository, SnapshotRecord};

use super::{lock, proceed};
use crate::error::{Error, ErrorKind};
use crate::job::Control;
use crate::view::{Found, SnapshotView};

/// Offers what files of `other` hold at the paths that are affected, in snapshots of the same host.
pub(super) fn ask(
    repo: &Arc<Repository>,
    other: &Arc<Repository>,
    records: &[SnapshotRecord],
    lost: &LostBlobs,
    recovery: &Mutex<Recovery>,
    control: &Control,
) -> Result<(), Error> {
    let theirs = other.snapshots()?.live;
    for record in records {
        let snapshot = &record.snapshot;
        let Ok(params) = snapshot.chunker.params() else { continue };
        let chunker = repo.chunker(params);
        let paths = files_of(record, lost);
        if paths.is_empty() {
            continue;
        }
        let mut read: HashSet<Content> = HashSet::new();
        // The same state of the files is likeliest in what was made at about the same time.
        let mut near: Vec<&SnapshotRecord> =
            theirs.iter().filter(|it| it.snapshot.host == snapshot.host).collect();
        near.sort_by_key(|it| it.snapshot.started.seconds.abs_diff(snapshot.started.seconds));
        for their in near {
            let view = SnapshotView::open(other, their.clone())?;
            for path in &paths {
                proceed(control)?;
                let Some((size, content)) = file_at(&view, path)? else { continue };
                if read.insert(content) {
                    offer_file(repo, &view, size, content, &chunker, recovery)?;
                }
            }
        }
    }
    Ok(())
}

/// The files of a snapshot that have lost something.
pub(super) fn files_of<'a>(record: &SnapshotRecord, lost: &'a LostBlobs) -> BTreeSet<&'a [u8]> {
    let is_file = |kind| matches!(kind, BlobKind::Chunk | BlobKind::Recipe);
    let affected = lost.affected.iter();
    let affected = affected.filter(|it| it.snapshot == record.id && is_file(it.kind));
    affected.map(|affected| &affected.path[..]).collect()
}

/// The file that a snapshot has at a path.
pub(crate) fn file_at(view: &SnapshotView, path: &[u8]) -> Result<Option<(u64, Content)>, Error> {
    match view.find(&[b"/", path].concat()) {
        Ok((_, Found::Entry(Entry { node: Node::File { size, content }, .. }, _))) => {
            Ok(Some((size, content)))
        }
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
            Err(error)
        }
        _ => Ok(None),
    }
}

/// Reads one file and offers its chunks and the pages of its recipe. A damaged one is given up.
fn offer_file(
    repo: &Arc<Repository>,
    view: &SnapshotView,
    size: u64,
    content: Content,
    chunker: &Chunker,
    recovery: &Mutex<Recovery>,
) -> Result<(), Error> {
    let mut cutting = Cutting::new(repo, chunker, recovery);
    match cutting.file(view, size, content) {
        Err(error) if error.is_damage() => Ok(()),
        other => Ok(other?),
    }
}

/// A file that is being cut.
pub(super) struct Cutting<'a> {
    repo: &'a Repository,
    chunker: &'a Chunker,
    recovery: &'a Mutex<Recovery>,
    /// Data since the last cut.
    data: Vec<u8>,
    joiner: PartJoiner,
    pages: PageWriter<RecipeCodec>,
}

impl<'a> Cutting<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        chunker: &'a Chunker,
        recovery: &'a Mutex<Recovery>,
    ) -> Self {
        let (joiner, pages) = (PartJoiner::default(), PageWriter::default());
        Self { repo, chunker, recovery, data: Vec::new(), joiner, pages }
    }

    fn file(&mut self, view: &SnapshotView, size: u64, content: Content) -> Result<(), RepoError> {
        let reader = view.reader();
        match content {
            Content::Empty => return Ok(()),
            Content::Chunk(id) => {
                let bytes = reader.blob(BlobKind::Chunk, id)?;
                self.data(&bytes)?;
            }
            Content::Recipe(root) => {
                let mut parts = ListCursor::<RecipeCodec>::open(reader, BlobKind::Recipe, root)?;
                if parts.measure() != size {
                    return Ok(());
                }
                while let Some(part) = parts.next(reader)? {
                    match part {
                        Part::Chunk { id, .. } => {
                            self.data(&reader.blob(BlobKind::Chunk, id)?)?;
                        }
                        Part::Repeat { id, count, .. } => {
                            let bytes = reader.blob(BlobKind::Chunk, id)?;
                            (0..count).try_for_each(|_| self.data(&bytes))?;
                        }
                        Part::Hole { bytes } => self.hole(bytes)?,
                    }
                }
            }
        }
        self.finish()
    }

    /// All of a file was given: offers what is left of it.
    pub(super) fn finish(&mut self) -> Result<(), RepoError> {
        self.cut(true)?;
        if let Some(last) = std::mem::take(&mut self.joiner).finish() {
            self.page(last)?;
        }
        let (repo, recovery) = (self.repo, self.recovery);
        let pages = std::mem::take(&mut self.pages);
        pages.finish(&mut |bytes| offer(repo, recovery, BlobKind::Recipe, bytes))?;
        Ok(())
    }

    /// A stretch of the file that holds nothing.
    pub(super) fn hole(&mut self, bytes: u64) -> Result<(), RepoError> {
        self.cut(true)?;
        self.part(Part::Hole { bytes })
    }

    /// The next bytes of the file.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), RepoError> {
        self.data.extend_from_slice(bytes);
        if self.data.len() >= CUT_BYTES { self.cut(false) } else { Ok(()) }
    }

    /// Cuts what there is; all of it at the end of a stretch of data.
    fn cut(&mut self, is_end: bool) -> Result<(), RepoError> {
        let data = std::mem::take(&mut self.data);
        let mut at = 0;
        while at < data.len() {
            let Some(length) = self.chunker.cut(&data[at..], is_end) else { break };
            let chunk = &data[at..at + length];
            let id = offer(self.repo, self.recovery, BlobKind::Chunk, chunk)?;
            self.part(Part::Chunk { id, bytes: length as u32 })?;
            at += length;
        }
        self.data.extend_from_slice(&data[at..]);
        Ok(())
    }

    fn part(&mut self, part: Part) -> Result<(), RepoError> {
        self.joiner.push(part).map_or(Ok(()), |done| self.page(done))
    }

    fn page(&mut self, part: Part) -> Result<(), RepoError> {
        let (repo, recovery) = (self.repo, self.recovery);
        self.pages.push(part, &mut |bytes| offer(repo, recovery, BlobKind::Recipe, bytes))
    }
}

fn offer(
    repo: &Repository,
    recovery: &Mutex<Recovery>,
    kind: BlobKind,
    bytes: &[u8],
) -> Result<BlobId, RepoError> {
    let id = repo.keys().blob_id(kind, bytes);
    let mut recovery = lock(recovery);
    if recovery.is_wanted(id) {
        recovery.offer(kind, bytes)?;
    }
    Ok(id)
}

/// Data that is cut at once.
const CUT_BYTES: usize = 16 << 20;
