//! The baseline's side of the diff: one directory at a time.

use lastgood_repo::BlobReader;
use lastgood_repo::format::entry::{Entry, Hint, Node, Timestamp};
use lastgood_repo::format::hints::{HintItem, HintsCodec};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::tree::TreeCodec;

/// Where one directory of the baseline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BaselineRef {
    /// Root page of its tree.
    pub(super) tree: BlobId,
    /// Root page of its hints.
    pub(super) hints: Option<BlobId>,
}

/// One directory of the baseline, with a place up to which it was compared.
#[derive(Debug, Default)]
pub(super) struct BaselineDirectory {
    entries: std::vec::IntoIter<Entry>,
    hints: std::vec::IntoIter<HintItem>,
    /// How many entries it has.
    pub(super) len: usize,
}

/// One entry of the baseline.
#[derive(Debug)]
pub(super) struct BaselineEntry {
    pub(super) entry: Entry,
    pub(super) hint: Option<HintItem>,
}

impl BaselineEntry {
    /// Whether a file with this state can be taken over unread. `trusted_before` is when the
    /// baseline was read: what changed in the same second may have changed again unseen.
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
            && hint.ctime.seconds < trusted_before
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
    /// Loads a directory. Hints that cannot be read only mean that files are read again.
    pub(super) fn load(
        reader: &BlobReader,
        at: BaselineRef,
    ) -> Result<Self, lastgood_repo::RepoError> {
        let mut entries = Vec::new();
        reader.walk::<TreeCodec>(BlobKind::Tree, at.tree, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        let mut hints = Vec::with_capacity(entries.len());
        if let Some(root) = at.hints {
            let read = reader.walk::<HintsCodec>(BlobKind::Hints, root, &mut |item| {
                hints.push(item);
                Ok(())
            });
            if read.is_err() || hints.len() != entries.len() {
                hints.clear();
            }
        }
        let len = entries.len();
        Ok(Self { entries: entries.into_iter(), hints: hints.into_iter(), len })
    }

    /// The next entry, whatever its name.
    pub(super) fn next(&mut self) -> Option<BaselineEntry> {
        let entry = self.entries.next()?;
        Some(BaselineEntry { entry, hint: self.hints.next() })
    }

    /// The entry called `name`. Names must be asked for in order.
    pub(super) fn advance_to(&mut self, name: &[u8]) -> Option<BaselineEntry> {
        while let Some(next) = self.entries.as_slice().first() {
            match (*next.name).cmp(name) {
                std::cmp::Ordering::Greater => return None,
                std::cmp::Ordering::Equal => {
                    return self.next();
                }
                std::cmp::Ordering::Less => {
                    self.next();
                }
            }
        }
        None
    }
}
