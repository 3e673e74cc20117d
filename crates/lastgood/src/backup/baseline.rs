//! The baseline: which snapshot it is, and its side of the diff, one directory at a time.

use std::cmp::Ordering;

use lastgood_repo::format::entry::{Entry, Hint, Node, Timestamp};
use lastgood_repo::format::hints::{HintItem, HintsCodec};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::tree::TreeCodec;
use lastgood_repo::{BlobReader, ListCursor, RepoError, SnapshotRecord, Snapshots, WriteSession};

use super::partial::is_partial;
use super::{BackupOptions, Parent};
use crate::error::{Error, ErrorKind};
use crate::job::Control;

/// Where one directory of the baseline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BaselineRef {
    /// Root page of its tree.
    pub(super) tree: BlobId,
    /// Root page of its hints.
    pub(super) hints: Option<BlobId>,
}

/// One directory of the baseline, with a place up to which it was compared. Of its pages, those at
/// that place are in memory.
#[derive(Debug, Default)]
pub(super) struct BaselineDirectory {
    entries: Option<ListCursor<TreeCodec>>,
    hints: Option<ListCursor<HintsCodec>>,
    /// The entry that is next, once it was looked at.
    next: Option<BaselineEntry>,
    /// How many entries it has.
    pub(super) len: u64,
}

/// One entry of the baseline.
#[derive(Debug)]
pub(super) struct BaselineEntry {
    pub(super) entry: Entry,
    pub(super) hint: Option<HintItem>,
}

impl BaselineEntry {
    /// Whether a file with this state can be taken over unread. `trusted_before` is when the
    /// baseline was read: what changed in the same tick may have changed again unseen.
    pub(super) fn is_unchanged(
        &self,
        size: u64,
        mtime: Timestamp,
        hint: &Hint,
        trusted_before: i64,
    ) -> bool {
        let is_same_size = match self.entry.node {
            Node::File { size: known, .. } => known == size,
            _ => true,
        };
        let was = self.hint.map(|item| item.hint);
        is_same_size
            && self.entry.mtime == mtime
            && self.entry.marks.0 == 0
            && was.is_some_and(|was| was.ctime == hint.ctime && was.inode == hint.inode)
            && hint.ctime.seconds <= trusted_before.saturating_sub(CLOCK_SECONDS_MAX)
    }

    /// The directory it stands for.
    pub(super) fn directory(&self) -> Option<BaselineRef> {
        match self.entry.node {
            Node::Directory { tree } => {
                let hints = self.hint.and_then(|item| item.children);
                Some(BaselineRef { tree, hints })
            }
            _ => None,
        }
    }
}

impl BaselineDirectory {
    /// Opens a directory. Hints that cannot be read only mean that files are read again.
    pub(super) fn open(reader: &BlobReader, at: BaselineRef) -> Result<Self, RepoError> {
        let entries = ListCursor::open(reader, BlobKind::Tree, at.tree)?;
        let len = entries.measure();
        let hints = at.hints.and_then(|root| ListCursor::open(reader, BlobKind::Hints, root).ok());
        let hints = hints.filter(|hints| hints.measure() == len);
        Ok(Self { entries: Some(entries), hints, next: None, len })
    }

    /// The next entry, whatever its name.
    ///
    /// # Errors
    /// When a page cannot be read; the rest is lost then.
    pub(super) fn next(&mut self, reader: &BlobReader) -> Result<Option<BaselineEntry>, RepoError> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        let Some(entries) = &mut self.entries else { return Ok(None) };
        let Some(entry) = entries.next(reader)? else { return Ok(None) };
        let hint = match self.hints.as_mut().map(|hints| hints.next(reader)) {
            Some(Ok(hint)) => hint,
            Some(Err(_)) | None => {
                self.hints = None;
                None
            }
        };
        Ok(Some(BaselineEntry { entry, hint }))
    }

    /// The entry called `name`. Names must be asked for in order.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(super) fn advance_to(
        &mut self,
        reader: &BlobReader,
        name: &[u8],
    ) -> Result<Option<BaselineEntry>, RepoError> {
        while let Some(next) = self.next(reader)? {
            match (*next.entry.name).cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(next)),
                Ordering::Greater => {
                    self.next = Some(next);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

/// The coarsest clock of a file system, that of FAT, ticks every two seconds.
const CLOCK_SECONDS_MAX: i64 = 2;

/// The snapshot to compare with: of the same host, and of the same sources where there is one.
pub(super) fn choose_parent(
    options: &BackupOptions,
    snapshots: &Snapshots,
    sources: &[Vec<u8>],
) -> Result<Option<SnapshotRecord>, Error> {
    // By generation and not by time: a clock may have been wrong.
    let newest = |accept: &dyn Fn(&SnapshotRecord) -> bool| {
        let accepted = snapshots.live.iter().filter(|record| accept(record));
        accepted.max_by_key(|record| record.snapshot.chain.generation).cloned()
    };
    match options.parent {
        Parent::None => Ok(None),
        Parent::Id(id) => newest(&|record| record.id == id).map(Some).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no snapshot {id} to compare with"))
        }),
        Parent::Auto => Ok(newest(&|record| {
            record.snapshot.host == options.host && record.snapshot.sources == sources
        })),
    }
}

/// The parent, if its blobs may be taken over without asking for each.
pub(super) fn usable_baseline(
    parent: Option<&SnapshotRecord>,
    session: Option<&WriteSession>,
    reader: &BlobReader,
    control: &Control,
) -> Result<Option<SnapshotRecord>, Error> {
    let Some(parent) = parent else { return Ok(None) };
    let may_reuse = match session {
        Some(session) => session.may_reuse(reader, parent),
        None => Ok::<_, RepoError>(true),
    };
    match may_reuse {
        Ok(true) => Ok(Some(parent.clone())),
        Ok(false) => {
            control.note(format!(
                "snapshot {} lost packs, so every file is read and what is missing stored again",
                parent.id
            ));
            Ok(None)
        }
        // Entries that cannot be read today are kept from it, so it is not given up lightly.
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            control.note(format!("cannot compare with snapshot {}: {error}", parent.id));
            Ok(None)
        }
    }
}

/// Before which second a change must have been made for the snapshot to have it: when it began to
/// read its source. What a partial snapshot did not reach, it has from its parents.
pub(super) fn trusted_before(record: &SnapshotRecord, snapshots: &Snapshots) -> i64 {
    let (started, finished) = (record.snapshot.started, record.snapshot.finished);
    // A start after the end, by a clock that was set back or by the user, does not say when files
    // were read, so none is old enough.
    if started > finished {
        return i64::MIN;
    }
    let parents = record.snapshot.chain.parents.iter().filter(|_| is_partial(record));
    let known = snapshots.live.iter().chain(&snapshots.retired);
    let earliest = parents.map(|id| {
        // Generations descend from child to parent, so this ends whatever the chain says.
        let parent = known.clone().find(|known| {
            known.id == *id && known.snapshot.chain.generation < record.snapshot.chain.generation
        });
        parent.map_or(i64::MIN, |parent| trusted_before(parent, snapshots))
    });
    earliest.min().unwrap_or(i64::MAX).min(started.seconds)
}
