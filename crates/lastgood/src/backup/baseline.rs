//! The baseline's side of the diff: one directory at a time.

use std::cmp::Ordering;

use lastgood_repo::format::entry::{Entry, Hint, Node, Timestamp};
use lastgood_repo::format::hints::{HintItem, HintsCodec};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::tree::TreeCodec;
use lastgood_repo::{BlobReader, ListCursor, RepoError};

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
