//! One entry that is no directory: what is to be done about it, and all of it but the content of
//! files.

use std::path::PathBuf;
use std::sync::Arc;

use lastgood_format::entry::{Content, Entry, Node};
use lastgood_host::HostError;
use lastgood_host::metadata::{Unset, flags};
use lastgood_host::scan::{Kind, ListBuffer, Stat};
use lastgood_host::source::{SourceError, SourceFile};
use lastgood_host::target::{TargetDirectory, TargetFile, TargetNode, temporary_name};

use crate::restore::compare;
use crate::restore::context::Context;
use crate::restore::folder::Folder;
use crate::restore::links::{Group, Leader, with_permission};
use crate::restore::plan::{Change, Plan};
use crate::restore::report::Outcome;

/// An entry that is being restored. Whoever has it ends it by [`finish`](Self::finish).
pub(crate) struct EntryTask {
    pub(crate) folder: Arc<Folder>,
    pub(crate) entry: Entry,
    /// What bears the name now.
    pub(crate) existing: Option<Stat>,
    pub(crate) plan: Plan,
    /// Paths that become further names of this one.
    pub(crate) group: Option<Arc<Group>>,
}

impl EntryTask {
    pub(crate) fn path(&self, ctx: &Context<'_>) -> PathBuf {
        self.folder.path(ctx, &self.entry.name)
    }

    /// Length of the file; 0 for what has none.
    pub(crate) const fn bytes(&self) -> u64 {
        match self.entry.node {
            Node::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The name that a new file has until it is whole. The same in every run, so a later one goes
    /// on with what an earlier one left.
    pub(crate) fn part_name(&self) -> Box<[u8]> {
        part_name(&self.entry.name)
    }

    pub(crate) fn done(&self, ctx: &Context<'_>, outcome: Outcome) {
        ctx.record.done(outcome, self.bytes(), || self.path(ctx));
    }

    pub(crate) fn failed(&self, ctx: &Context<'_>, error: &HostError) {
        ctx.record.failed();
        ctx.host_error(self.path(ctx), error);
    }

    /// Ends it: counts it, links its further names to it, gives its directory back.
    pub(crate) fn finish(self, ctx: &Context<'_>, result: Result<Outcome, HostError>) {
        let is_there = match result {
            Ok(outcome) => {
                self.done(ctx, outcome);
                Some(outcome)
            }
            Err(error) => {
                self.failed(ctx, &error);
                None
            }
        };
        self.leave(ctx, is_there);
    }

    /// As [`finish`](Self::finish) after it was counted; `None` when it is not there.
    pub(crate) fn leave(self, ctx: &Context<'_>, outcome: Option<Outcome>) {
        if let Some(group) = &self.group {
            let is_same_file = !ctx.writes
                || matches!(outcome, Some(Outcome::Equal | Outcome::Changed(Change::Metadata)));
            let leader = outcome.map(|_| Leader {
                directory: self.folder.relative_path(b""),
                name: self.entry.name.clone(),
                file_id: self.existing.filter(|_| is_same_file).map(|stat| stat.file_id()),
            });
            group.settle(ctx, leader);
        }
        ctx.control.add_done(1, 0);
        self.folder.release(ctx);
    }

    /// Restores an entry without content of its own, or the metadata of one whose content is
    /// taken for equal.
    pub(crate) fn restore_plain(self, ctx: &Context<'_>) {
        let result = self.plain(ctx);
        self.finish(ctx, result);
    }

    fn plain(&self, ctx: &Context<'_>) -> Result<Outcome, HostError> {
        let existing = match (self.plan, self.existing) {
            (Plan::Skip, _) => return Ok(Outcome::Skipped),
            (Plan::Trust, Some(existing)) => return self.settle_metadata(ctx, &existing),
            (_, existing) => existing,
        };
        if let (Plan::Compare, Some(existing)) = (self.plan, &existing) {
            let directory = self.folder.open(ctx)?;
            if compare::is_same_node(directory.source(), &self.entry, existing)? {
                return self.settle_metadata(ctx, existing);
            }
        }
        let is_device =
            matches!(self.entry.node, Node::CharDevice { .. } | Node::BlockDevice { .. });
        if is_device && !ctx.policy.special {
            ctx.record.withheld_device(|| self.path(ctx));
            return Ok(Outcome::Skipped);
        }
        if ctx.writes {
            match self.make(ctx) {
                Err(error) if is_device && error.is_denied() => {
                    ctx.record.refused_device(&error.source, || self.path(ctx));
                    return Ok(Outcome::Skipped);
                }
                made => made?,
            }
        }
        Ok(Outcome::Changed(self.change()))
    }

    /// What creating it, or replacing what is there, is.
    pub(crate) const fn change(&self) -> Change {
        match self.plan {
            _ if self.existing.is_none() => Change::Created,
            Plan::Replace => Change::Kind,
            _ => Change::Content,
        }
    }

    fn make(&self, ctx: &Context<'_>) -> Result<(), HostError> {
        let directory = self.folder.open(ctx)?;
        self.folder.touch();
        let name = self.make_room(ctx, &directory)?;
        let made = with_permission(&directory, || match &self.entry.node {
            Node::File { .. } => directory.create_file(&name).map(Made::File),
            Node::Symlink { target } => directory.create_symlink(&name, target).map(Made::Node),
            special => directory.create_special(&name, special).map(Made::Node),
        })?;
        if let Made::File(file) = &made {
            file.set_early_flags(self.entry.flags);
        }
        self.put_in_place(ctx, &directory, &name, || made.apply(self, ctx))
    }

    /// Makes room for a new entry and tells the name it is to be created under: its own where that
    /// is free, else one that it is renamed from when it is whole.
    pub(crate) fn make_room(
        &self,
        ctx: &Context<'_>,
        directory: &TargetDirectory,
    ) -> Result<Box<[u8]>, HostError> {
        match &self.existing {
            None => Ok(self.entry.name.clone()),
            Some(existing) if existing.kind == Kind::Directory => {
                clear(ctx, directory, &self.entry.name, existing)?;
                Ok(self.entry.name.clone())
            }
            Some(_) => {
                let part = self.part_name();
                remove_leftover(directory, &part)?;
                Ok(part)
            }
        }
    }

    /// Sets the metadata of what was made under `name`, and gives it its own name if that is
    /// another.
    pub(crate) fn put_in_place(
        &self,
        ctx: &Context<'_>,
        directory: &TargetDirectory,
        name: &[u8],
        apply: impl FnOnce() -> Vec<Unset>,
    ) -> Result<(), HostError> {
        let rename = || match name == &*self.entry.name {
            true => Ok(()),
            false => match directory.rename(name, &self.entry.name) {
                // What is replaced is immutable, or append-only.
                Err(error) if error.is_denied() => {
                    directory.unlock_entry(&self.entry.name)?;
                    directory.rename(name, &self.entry.name)
                }
                renamed => renamed,
            },
        };
        // An immutable file cannot be renamed any more. Every other one is complete when it
        // appears under its name.
        let is_locked = self.entry.flags & flags::LOCKING != 0;
        if is_locked {
            rename()?;
        }
        ctx.record.unset(apply(), || self.path(ctx));
        if is_locked { Ok(()) } else { rename() }
    }

    /// Brings the metadata of what is there to what is wanted, if it is not already.
    pub(crate) fn settle_metadata(
        &self,
        ctx: &Context<'_>,
        stat: &Stat,
    ) -> Result<Outcome, HostError> {
        let name = &self.entry.name;
        let wanted = ctx.metadata(&self.entry);
        let directory = self.folder.open(ctx)?;
        let details = || directory.source().details(name, stat);
        if !compare::metadata_differs(&wanted, stat, ctx.policy, details) {
            return Ok(Outcome::Equal);
        }
        if ctx.writes {
            let is_file = stat.kind == Kind::File;
            if is_file && stat.links > 1 && self.group.is_none() {
                // It has names that the snapshot knows nothing of: those stay as they are.
                let part = self.part_name();
                let file = copy(ctx, &directory, name, &part)?;
                self.put_in_place(ctx, &directory, &part, || file.apply(&wanted, ctx.policy))?;
                self.folder.touch();
            } else if is_file && details().flags != wanted.flags {
                directory.unlock_entry(name)?;
                let file = directory.open_file(name)?;
                ctx.record.unset(file.apply(&wanted, ctx.policy), || self.path(ctx));
            } else {
                let node = directory.open_node(name)?;
                ctx.record.unset(node.apply(&wanted, ctx.policy), || self.path(ctx));
            }
        }
        Ok(Outcome::Changed(Change::Metadata))
    }
}

/// What was made.
enum Made {
    File(TargetFile),
    Node(TargetNode),
}

impl Made {
    fn apply(&self, task: &EntryTask, ctx: &Context<'_>) -> Vec<Unset> {
        let wanted = ctx.metadata(&task.entry);
        match self {
            Self::File(file) => file.apply(&wanted, ctx.policy),
            Self::Node(node) => node.apply(&wanted, ctx.policy),
        }
    }
}

/// Whether a file has content that is stored.
pub(crate) const fn has_content(node: &Node) -> bool {
    matches!(node, Node::File { content: Content::Chunk(_) | Content::Recipe(_), .. })
}

/// See [`EntryTask::part_name`].
pub(crate) fn part_name(name: &[u8]) -> Box<[u8]> {
    temporary_name(lastgood_format::page::boundary_hash(name))
}

/// Removes what is in the way. A directory that is not empty gives way only where entries that the
/// snapshot does not have may be deleted.
pub(crate) fn clear(
    ctx: &Context<'_>,
    directory: &TargetDirectory,
    name: &[u8],
    existing: &Stat,
) -> Result<(), HostError> {
    if existing.kind != Kind::Directory {
        return with_permission(directory, || directory.remove_entry(name));
    }
    if !ctx.delete {
        let inside = directory.enter(name)?;
        if !inside.source().list(&mut ListBuffer::new())?.is_empty() {
            return Err(HostError {
                action: "replace",
                path: inside.path().into(),
                source: std::io::ErrorKind::DirectoryNotEmpty.into(),
            });
        }
    }
    let mut failure = None;
    directory.remove_tree(name, &mut |error| {
        failure.get_or_insert(error);
    });
    failure.map_or(Ok(()), Err)
}

/// Removes what a run that was cut left under a temporary name.
pub(crate) fn remove_leftover(directory: &TargetDirectory, part: &[u8]) -> Result<(), HostError> {
    match directory.remove_entry(part) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
    }
}

/// Copies the file `name` to the new file `part`, holes as holes.
pub(crate) fn copy(
    ctx: &Context<'_>,
    directory: &TargetDirectory,
    name: &[u8],
    part: &[u8],
) -> Result<TargetFile, HostError> {
    let from = open_source(directory, name)?;
    remove_leftover(directory, part)?;
    let to = with_permission(directory, || directory.create_file(part))?;
    let mut buffer = vec![0; COPY_BYTES];
    for extent in from.extents() {
        let extent = extent?;
        let mut position = extent.start;
        while position < extent.end && !ctx.is_stopped() {
            let length = (extent.end - position).min(COPY_BYTES as u64) as usize;
            let read = from.read_at(&mut buffer[..length], position)?;
            to.write_at(&buffer[..read], position)?;
            position += length as u64;
        }
    }
    to.set_len(from.stat().size)?;
    Ok(to)
}

/// Opens a file of the target to read it.
pub(crate) fn open_source(
    directory: &TargetDirectory,
    name: &[u8],
) -> Result<SourceFile, HostError> {
    let open = || match SourceFile::open(directory.source(), name) {
        Ok(file) => Ok(file),
        Err(SourceError::Host(error)) => Err(error),
        Err(SourceError::ChangedKind { path, .. }) => Err(HostError {
            action: "read",
            path,
            source: std::io::Error::other("it is no longer a regular file"),
        }),
    };
    open()
}

/// What is copied at once.
const COPY_BYTES: usize = 1 << 20;
