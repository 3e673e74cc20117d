//! What is to be done about one entry: decided from what the snapshot has and what is there.

use lastgood_format::entry::{Entry, Node};
use lastgood_host::scan::{Kind, Stat};

/// When something that is there gives way to what the snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Always; files are read and compared, and only what differs is written.
    #[default]
    Always,
    /// Unless length and modification time of a file are those of the snapshot: then its bytes are
    /// taken for equal without a look at them.
    IfChanged,
    /// Only where the snapshot's file is newer.
    IfNewer,
    /// Never: only what is missing is restored.
    Never,
}

/// What is to be done about an entry of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing is there.
    Create,
    /// Something of another kind is there, and gives way.
    Replace,
    /// The same kind is there; what is in it decides.
    Compare,
    /// The same kind is there and its content is taken for equal; only metadata is looked at.
    Trust,
    /// What is there stays as it is.
    Skip,
}

impl Plan {
    /// Decides for one entry that is no directory.
    pub(crate) fn of(overwrite: Overwrite, entry: &Entry, existing: Option<&Stat>) -> Self {
        let Some(existing) = existing else {
            return Self::Create;
        };
        let is_older = existing.mtime < entry.mtime;
        if overwrite == Overwrite::Never || overwrite == Overwrite::IfNewer && !is_older {
            return Self::Skip;
        }
        if existing.kind != kind(&entry.node) {
            return Self::Replace;
        }
        match entry.node {
            Node::File { size, .. }
                if overwrite == Overwrite::IfChanged
                    && (existing.size, existing.mtime) == (size, entry.mtime) =>
            {
                Self::Trust
            }
            _ => Self::Compare,
        }
    }
}

impl Plan {
    /// Decides what is compared after a restore: what that has left alone is none of its business.
    pub(crate) fn of_reread(overwrite: Overwrite, entry: &Entry, existing: Option<&Stat>) -> Self {
        let was_any = matches!(overwrite, Overwrite::Always | Overwrite::IfChanged);
        match Self::of(Overwrite::Always, entry, existing) {
            Self::Compare if !was_any && existing.is_some_and(|e| e.mtime != entry.mtime) => {
                Self::Skip
            }
            Self::Replace if !was_any => Self::Skip,
            plan => plan,
        }
    }
}

/// How an entry of the snapshot and what is there differ, or what was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// It is missing; it was created.
    Created,
    /// Something of another kind is there; it was replaced.
    Kind,
    /// Its bytes differ, or what a link points to, or which device a node stands for.
    Content,
    /// Only its metadata differs.
    Metadata,
    /// It is not the file that it should be another name of.
    Link,
    /// It is there and not in the snapshot; it was removed.
    Deleted,
}

/// The kind of a node.
pub(crate) const fn kind(node: &Node) -> Kind {
    match node {
        Node::File { .. } => Kind::File,
        Node::Directory { .. } => Kind::Directory,
        Node::Symlink { .. } => Kind::Symlink,
        Node::Fifo => Kind::Fifo,
        Node::Socket => Kind::Socket,
        Node::CharDevice { .. } => Kind::CharDevice,
        Node::BlockDevice { .. } => Kind::BlockDevice,
    }
}
