//! The one diff: a merge of two states in path order that skips every subtree whose identity is
//! equal. Backup, restore, verify and `diff` all are this diff, applied to something.
//!
//! This crate does no I/O and does not know where states live: a [`State`] lists its directories.

#![forbid(unsafe_code)]

mod merge;

pub use merge::{Merged, merge};

use lastgood_format::entry::{Content, Entry, Node};
use lastgood_format::id::BlobId;

/// Anything that can be listed in path order: a snapshot, a live directory, a mirror.
pub trait State {
    /// A directory of the state.
    type Directory;
    /// Why a directory cannot be listed.
    type Error;

    /// The entries of a directory, sorted by name, each with its handle when it is a directory.
    ///
    /// # Errors
    /// Whatever listing meets; the visitor of the diff says whether it goes on elsewhere.
    fn list(
        &mut self,
        directory: &Self::Directory,
    ) -> Result<Vec<(Entry, Option<Self::Directory>)>, Self::Error>;

    /// Identity of all that a directory holds; equal identities mean equal subtrees. `None` where
    /// it is not known without listing, as for a live directory.
    fn identity(&self, directory: &Self::Directory) -> Option<BlobId>;
}

/// Hears of differences. Every closure that takes changes does, and stops at what cannot be listed.
pub trait Visit<E> {
    /// Something differs.
    ///
    /// # Errors
    /// Whatever is to end the diff.
    fn change(&mut self, path: &[u8], change: Change) -> Result<(), E>;

    /// A directory of either state cannot be listed; nothing below it is compared.
    ///
    /// # Errors
    /// Whatever is to end the diff.
    fn unlisted(&mut self, path: &[u8], error: E) -> Result<(), E>;

    /// Whether an entry that only the second state has is meant, with all below it.
    fn is_meant(&mut self, path: &[u8], entry: &Entry) -> bool;
}

impl<E, F: FnMut(&[u8], Change) -> Result<(), E> + ?Sized> Visit<E> for F {
    fn change(&mut self, path: &[u8], change: Change) -> Result<(), E> {
        self(path, change)
    }

    fn unlisted(&mut self, _: &[u8], error: E) -> Result<(), E> {
        Err(error)
    }

    fn is_meant(&mut self, _: &[u8], _: &Entry) -> bool {
        true
    }
}

/// How one entry differs. At least one flag is set, or it would be no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// It became something of another kind.
    pub kind: bool,
    /// Its bytes differ (or its link's target, or its device number).
    pub content: bool,
    /// Mode, owner, times, flags or attributes differ.
    pub metadata: bool,
}

impl Differences {
    /// Whether anything differs.
    #[must_use]
    pub const fn any(self) -> bool {
        self.kind || self.content || self.metadata
    }
}

/// One difference between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second state has it. What it holds, if it is a directory, follows.
    Added(Entry),
    /// Only the first state has it. What it holds, if it is a directory, follows.
    Removed(Entry),
    /// Both have it, and it differs.
    Modified {
        /// As in the first state.
        before: Entry,
        /// As in the second state.
        after: Entry,
        /// How.
        differences: Differences,
    },
}

/// Compares the entries of two states, both of which record content ids.
#[must_use]
pub fn compare_recorded(before: &Entry, after: &Entry) -> Differences {
    let content = match (&before.node, &after.node) {
        (Node::Directory { .. }, Node::Directory { .. }) => false,
        (before, after) => before != after,
    };
    compare(before, after, content)
}

/// Compares a recorded entry with a live one, whose bytes were not read: a file counts as equal
/// when size and mtime are.
#[must_use]
pub fn compare_live(recorded: &Entry, live: &Entry) -> Differences {
    let content = match (&recorded.node, &live.node) {
        (Node::File { size: a, .. }, Node::File { size: b, .. }) => {
            a != b || recorded.mtime != live.mtime
        }
        (Node::Directory { .. }, Node::Directory { .. }) => false,
        (recorded, live) => recorded != live,
    };
    compare(recorded, live, content)
}

fn compare(before: &Entry, after: &Entry, content: bool) -> Differences {
    let is_directory = before.is_directory() && after.is_directory();
    let kind = std::mem::discriminant(&before.node) != std::mem::discriminant(&after.node);
    let metadata = before.mode != after.mode
        || before.uid != after.uid
        || before.gid != after.gid
        || before.flags != after.flags
        || before.xattrs != after.xattrs
        // A directory's mtime says that names in it changed, and those are listed themselves.
        || (!is_directory && before.mtime != after.mtime);
    Differences { kind, content: content && !kind, metadata }
}

/// Walks two states together and visits every difference in path order. `compare` decides what
/// differs in an entry that both have; a path is its components joined by `/`.
///
/// # Errors
/// What `visit` returns.
pub fn diff<A, B, E>(
    before: (&mut A, &A::Directory),
    after: (&mut B, &B::Directory),
    compare: fn(&Entry, &Entry) -> Differences,
    visit: &mut (impl Visit<E> + ?Sized),
) -> Result<(), E>
where
    A: State<Error = E>,
    B: State<Error = E>,
{
    Walk { before: before.0, after: after.0, compare, visit, path: Vec::new() }
        .both(before.1, after.1)
}

struct Walk<'a, A, B, V: ?Sized> {
    before: &'a mut A,
    after: &'a mut B,
    compare: fn(&Entry, &Entry) -> Differences,
    visit: &'a mut V,
    path: Vec<u8>,
}

impl<A, B, E, V> Walk<'_, A, B, V>
where
    A: State<Error = E>,
    B: State<Error = E>,
    V: Visit<E> + ?Sized,
{
    fn both(&mut self, before: &A::Directory, after: &B::Directory) -> Result<(), E> {
        let identities = (self.before.identity(before), self.after.identity(after));
        if let (Some(a), Some(b)) = identities
            && a == b
        {
            return Ok(());
        }
        let (before, after) = match (self.before.list(before), self.after.list(after)) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(error), _) | (_, Err(error)) => return self.visit.unlisted(&self.path, error),
        };
        for pair in merge(before, after, |(entry, _)| &entry.name, |(entry, _)| &entry.name) {
            match pair {
                Merged::First((entry, directory)) => self.removed(entry, directory.as_ref())?,
                Merged::Second((entry, directory)) => self.added(entry, directory.as_ref())?,
                Merged::Both((before, a), (after, b)) => {
                    let length = self.enter(&before.name);
                    let differences = (self.compare)(&before, &after);
                    let (was, is) = (before.is_directory(), after.is_directory());
                    if differences.any() {
                        let change = Change::Modified { before, after, differences };
                        self.visit.change(&self.path, change)?;
                    }
                    match (a, b) {
                        (Some(a), Some(b)) if was && is => self.both(&a, &b)?,
                        (a, b) => {
                            a.map_or(Ok(()), |a| self.removed_below(&a))?;
                            b.map_or(Ok(()), |b| self.added_below(&b))?;
                        }
                    }
                    self.path.truncate(length);
                }
            }
        }
        Ok(())
    }

    fn removed(&mut self, entry: Entry, directory: Option<&A::Directory>) -> Result<(), E> {
        let length = self.enter(&entry.name);
        self.visit.change(&self.path, Change::Removed(entry))?;
        directory.map_or(Ok(()), |directory| self.removed_below(directory))?;
        self.path.truncate(length);
        Ok(())
    }

    fn removed_below(&mut self, directory: &A::Directory) -> Result<(), E> {
        match self.before.list(directory) {
            Ok(entries) => entries
                .into_iter()
                .try_for_each(|(entry, below)| self.removed(entry, below.as_ref())),
            Err(error) => self.visit.unlisted(&self.path, error),
        }
    }

    fn added(&mut self, entry: Entry, directory: Option<&B::Directory>) -> Result<(), E> {
        let length = self.enter(&entry.name);
        if self.visit.is_meant(&self.path, &entry) {
            self.visit.change(&self.path, Change::Added(entry))?;
            directory.map_or(Ok(()), |directory| self.added_below(directory))?;
        }
        self.path.truncate(length);
        Ok(())
    }

    fn added_below(&mut self, directory: &B::Directory) -> Result<(), E> {
        match self.after.list(directory) {
            Ok(entries) => {
                entries.into_iter().try_for_each(|(entry, below)| self.added(entry, below.as_ref()))
            }
            Err(error) => self.visit.unlisted(&self.path, error),
        }
    }

    /// Appends a component; returns the length to cut back to.
    fn enter(&mut self, name: &[u8]) -> usize {
        let length = self.path.len();
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        length
    }
}

/// Bytes of a file, 0 for everything else.
#[must_use]
pub fn file_bytes(entry: &Entry) -> u64 {
    match entry.node {
        Node::File { size, .. } => size,
        _ => 0,
    }
}

/// Where a file's bytes are, if it is one.
#[must_use]
pub fn file_content(entry: &Entry) -> Option<Content> {
    match entry.node {
        Node::File { content, .. } => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
