//! Planning: the tree of the snapshot and what is in the target, side by side, by name.
//!
//! One directory after the other, depth first. Of the way down, each level holds one page of its
//! tree and the names that are in the target; nothing here grows with the size of the snapshot.

use std::sync::Arc;

use lastgood_format::entry::{Content, Entry, Node};
use lastgood_format::id::BlobId;
use lastgood_format::limits::{BLOB_BYTES_MAX, TREE_DEPTH_MAX};
use lastgood_format::pack::BlobKind;
use lastgood_format::recipe::{Part, RecipeCodec};
use lastgood_format::tree::TreeCodec;
use lastgood_host::HostError;
use lastgood_host::scan::{Kind, ListBuffer, Listing, Stat};
use lastgood_host::target::is_temporary_name;
use lastgood_repo::RepoError;

use crate::error::Error;
use crate::job::Severity;
use crate::pages::Pages;
use crate::restore::compare;
use crate::restore::context::Context;
use crate::restore::entry::{EntryTask, clear, has_content, part_name};
use crate::restore::folder::Folder;
use crate::restore::large::LargeFile;
use crate::restore::links::{Links, Role, with_permission};
use crate::restore::plan::{Change, Overwrite, Plan};
use crate::restore::report::{Outcome, chain};
use crate::restore::work::{Plain, To, Window};

/// Whether an entry is restored. Asked with its path in the snapshot, without a leading `/`.
pub type Choose = dyn Fn(&[u8], bool) -> Choice + Send + Sync;

/// Whether an entry is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is; of a directory, what is in it is asked for one by one.
    Restore,
    /// A directory is not, but something in it may be: it is created only for that.
    Pass,
    /// It is not, nor anything in it.
    Skip,
}

/// Walks a tree and plans what is to be done.
pub(crate) struct Walk<'a> {
    pub(crate) ctx: &'a Context<'a>,
    pub(crate) window: Window<'a>,
    pub(crate) links: Links,
    pub(crate) choose: &'a dyn Fn(&[u8], bool) -> Choice,
    /// Paths that were backed up. Only in and below them a name that the snapshot does not have is
    /// surplus: the directories above are in it for the way alone.
    pub(crate) sources: &'a [Vec<u8>],
    pub(crate) buffer: ListBuffer,
}

/// A directory on the way down.
struct Level<'a> {
    folder: Arc<Folder>,
    pages: Pages<'a, TreeCodec>,
    /// What is in the target, if there is such a directory.
    existing: Option<Existing>,
    /// Length of the path of the directory in the snapshot.
    path_bytes: usize,
    /// A page before the next entry could not be read: which names are surplus is not known.
    has_gap: bool,
}

struct Existing {
    listing: Listing,
    next: usize,
    deletes: bool,
    /// Whether cut runs left anything.
    has_leftovers: bool,
    /// What they left that may become a file of this one.
    claimed: Vec<Box<[u8]>>,
}

impl<'a> Walk<'a> {
    /// Plans all that is in the directory with this tree. `path` is its path in the snapshot.
    ///
    /// # Errors
    /// When the run stops.
    pub(crate) fn directory(
        &mut self,
        folder: Arc<Folder>,
        tree: BlobId,
        mut path: Vec<u8>,
        is_there: bool,
    ) -> Result<(), Error> {
        let mut levels = Vec::new();
        match self.level(folder, tree, &path, is_there) {
            Ok(level) => levels.push(level),
            Err(error) => self.ctx.host_error(self.ctx.target_path.into(), &error),
        }
        let mut result = Ok(());
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_bytes);
            if self.ctx.is_stopped() {
                result = Err(Error::cancelled());
                break;
            }
            match level.pages.next() {
                Some(Ok(entry)) => {
                    let below = self.entry(level, entry, &mut path);
                    if levels.len() >= TREE_DEPTH_MAX
                        && let Some(below) = below
                    {
                        let message = "directories are nested too deeply".to_owned();
                        let at = below.folder.path(self.ctx, b"");
                        self.ctx.record.trouble(at, self.ctx.verb(), message, Severity::Error);
                        below.folder.release(self.ctx);
                    } else {
                        levels.extend(below);
                    }
                }
                Some(Err(gap)) => {
                    level.has_gap = true;
                    let at = level.folder.path(self.ctx, b"");
                    self.lost_entries(at, gap.error);
                }
                None => {
                    self.surplus(level, None, &mut path);
                    self.leftovers(level);
                    if let Some(level) = levels.pop() {
                        level.folder.release(self.ctx);
                    }
                }
            }
        }
        // What was planned is done or given back by the workers; the way down is given back here.
        while let Some(level) = levels.pop() {
            level.folder.release(self.ctx);
        }
        result
    }

    fn lost_entries(&self, path: std::path::PathBuf, error: RepoError) {
        let Some(error) = self.ctx.is_damage(error) else {
            return;
        };
        self.ctx.record.failed();
        let message = format!("some of what is in it is lost: {}", chain(&error));
        self.ctx.record.trouble(path, self.ctx.verb(), message, Severity::Error);
    }

    /// Begins a directory. What is in the target is listed before anything is changed.
    fn level(
        &mut self,
        folder: Arc<Folder>,
        tree: BlobId,
        path: &[u8],
        is_there: bool,
    ) -> Result<Level<'a>, HostError> {
        let existing = match is_there {
            true => match self.list(&folder, path) {
                Ok(existing) => Some(existing),
                Err(error) => {
                    folder.release(self.ctx);
                    return Err(error);
                }
            },
            false => None,
        };
        let pages = Pages::new(self.ctx.reader, BlobKind::Tree, tree);
        Ok(Level { folder, pages, existing, path_bytes: path.len(), has_gap: false })
    }

    fn list(&mut self, folder: &Arc<Folder>, path: &[u8]) -> Result<Existing, HostError> {
        let directory = folder.open(self.ctx)?;
        let listing = directory.source().list(&mut self.buffer)?;
        let deletes =
            self.ctx.delete && self.sources.iter().any(|source| is_at_or_below(path, source));
        let has_leftovers = listing.names().any(is_temporary_name);
        Ok(Existing { listing, next: 0, deletes, has_leftovers, claimed: Vec::new() })
    }

    /// Plans what is to be done about one entry. Returns the directory it is, to be gone down into.
    fn entry(
        &mut self,
        level: &mut Level<'a>,
        entry: Entry,
        path: &mut Vec<u8>,
    ) -> Option<Level<'a>> {
        self.surplus(level, Some(&entry.name), path);
        level.has_gap = false;
        push(path, &entry.name);
        let choice = (self.choose)(path, entry.is_directory());
        let name = entry.name.clone();
        let is_there = level.existing.as_mut().is_some_and(|there| there.pass(&name));
        if choice == Choice::Skip || choice == Choice::Pass && !entry.is_directory() {
            self.links.meet(path, &entry.node, false);
            return None;
        }
        let stat = match is_there {
            true => self.stat(&level.folder, &name),
            false => Ok(None),
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) => {
                self.ctx.record.failed();
                self.ctx.host_error(level.folder.path(self.ctx, &name), &error);
                return None;
            }
        };
        if let Node::Directory { tree } = entry.node {
            return self.child(level, entry, tree, stat, choice, path);
        }
        self.other(level, entry, stat, path);
        None
    }

    fn stat(&self, folder: &Folder, name: &[u8]) -> Result<Option<Stat>, HostError> {
        match folder.open(self.ctx)?.source().stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn child(
        &mut self,
        level: &mut Level<'a>,
        entry: Entry,
        tree: BlobId,
        stat: Option<Stat>,
        choice: Choice,
        path: &[u8],
    ) -> Option<Level<'a>> {
        let ctx = self.ctx;
        let name = entry.name.clone();
        let at = || level.folder.path(ctx, &name);
        let is_wanted = choice == Choice::Restore;
        let (folder, outcome) = match stat {
            Some(stat) if stat.kind == Kind::Directory => {
                match self.enter(level, entry, &stat, is_wanted) {
                    Ok(entered) => entered,
                    Err(error) => {
                        ctx.record.failed();
                        ctx.host_error(at(), &error);
                        return None;
                    }
                }
            }
            Some(_) if matches!(ctx.overwrite, Overwrite::Never | Overwrite::IfNewer) => {
                ctx.record.done(Outcome::Skipped, 0, at);
                return None;
            }
            Some(stat) => {
                // One that is only passed may turn out not to be needed.
                if ctx.writes
                    && is_wanted
                    && let Err(error) =
                        level.folder.open(ctx).and_then(|above| clear(ctx, &above, &name, &stat))
                {
                    ctx.record.failed();
                    ctx.host_error(at(), &error);
                    return None;
                }
                (Folder::missing(&level.folder, entry), Outcome::Changed(Change::Kind))
            }
            None => (Folder::missing(&level.folder, entry), Outcome::Changed(Change::Created)),
        };
        let is_there = stat.is_some_and(|stat| stat.kind == Kind::Directory);
        if is_wanted {
            if ctx.writes
                && !is_there
                && let Err(error) = folder.open(ctx)
            {
                ctx.record.failed();
                ctx.host_error(at(), &error);
                folder.release(ctx);
                return None;
            }
            ctx.record.done(outcome, 0, at);
        }
        match self.level(folder, tree, path, is_there) {
            Ok(level) => Some(level),
            Err(error) => {
                ctx.record.failed();
                ctx.host_error(at(), &error);
                None
            }
        }
    }

    /// Opens a directory that is there, and compares its metadata.
    fn enter(
        &self,
        level: &Level<'a>,
        entry: Entry,
        stat: &Stat,
        is_wanted: bool,
    ) -> Result<(Arc<Folder>, Outcome), HostError> {
        let ctx = self.ctx;
        let name = entry.name.clone();
        let above = level.folder.open(ctx)?;
        let mut is_unlocked = false;
        let directory = match above.enter(&name) {
            Err(error) if error.is_denied() && ctx.writes => {
                with_permission(&above, || above.unlock_entry(&name))?;
                is_unlocked = true;
                above.enter(&name)?
            }
            entered => entered?,
        };
        let is_wanted = is_wanted && ctx.overwrite != Overwrite::Never;
        let differs = is_wanted
            && compare::metadata_differs(&ctx.metadata(&entry), stat, ctx.policy, || {
                directory.source().own_details()
            });
        let wanted = is_wanted.then_some(entry);
        let folder = Folder::existing(ctx, &level.folder, &name, wanted, directory);
        if differs || is_unlocked {
            folder.touch();
        }
        let outcome = if differs { Outcome::Changed(Change::Metadata) } else { Outcome::Equal };
        Ok((folder, outcome))
    }

    /// Plans an entry that is no directory.
    fn other(&mut self, level: &mut Level<'a>, entry: Entry, stat: Option<Stat>, path: &[u8]) {
        let ctx = self.ctx;
        let plan = match ctx.rereads {
            true => Plan::of_reread(ctx.overwrite, &entry, stat.as_ref()),
            false => Plan::of(ctx.overwrite, &entry, stat.as_ref()),
        };
        let leftover = level.existing.as_mut().filter(|there| there.has_leftovers);
        let has_leftover =
            leftover.is_some_and(|there| there.claim(ctx, &level.folder, &entry.name));
        let role = self.links.meet(path, &entry.node, plan != Plan::Skip);
        let folder = level.folder.clone();
        let mut task = EntryTask { folder, entry, existing: stat, plan, group: None };
        match role {
            Role::Alone => {}
            Role::First(group) => task.group = Some(group),
            Role::Further(group) => return group.join(ctx, task),
        }
        if !has_content(&task.entry.node) || matches!(plan, Plan::Skip | Plan::Trust) {
            ctx.control.add_done(0, task.bytes());
            return self.window.plain(Plain::Entry(Box::new(task)));
        }
        let size = task.bytes();
        match task.entry.node {
            Node::File { content: Content::Chunk(id), .. } => {
                match u32::try_from(size).ok().filter(|&bytes| bytes as usize <= BLOB_BYTES_MAX) {
                    Some(bytes) => self.window.chunk(id, bytes, To::Whole(Box::new(task))),
                    None => {
                        ctx.record.damaged(task.path(ctx), 0..size, &WrongSize);
                        ctx.record.failed();
                        task.leave(ctx, None);
                    }
                }
            }
            Node::File { content: Content::Recipe(id), .. } => {
                let file = LargeFile::new(task, has_leftover && ctx.writes);
                self.recipe(&file, id, size);
                file.release(ctx);
            }
            _ => {}
        }
    }

    /// Plans the parts of a large file.
    fn recipe(&mut self, file: &Arc<LargeFile>, recipe: BlobId, size: u64) {
        let ctx = self.ctx;
        let mut offset = 0_u64;
        for part in Pages::<RecipeCodec>::new(ctx.reader, BlobKind::Recipe, recipe) {
            if ctx.is_stopped() {
                return file.unfinished();
            }
            let start = offset;
            let length = match &part {
                Ok(part) => part.file_bytes(),
                Err(gap) => gap.measure.unwrap_or(size - start),
            };
            // What lies past the end of the file is of no file.
            let Some(end) = start.checked_add(length).filter(|&end| end <= size) else {
                break;
            };
            offset = end;
            match part {
                Ok(Part::Chunk { id, bytes }) => {
                    let to = To::Part { file: file.clone(), offset: start, count: 1 };
                    self.window.chunk(id, bytes, to);
                }
                Ok(Part::Repeat { id, bytes, count }) => {
                    self.repeat(file, id, bytes, start, count);
                }
                Ok(Part::Hole { .. }) => {
                    ctx.control.add_done(0, length);
                    if file.may_hold() {
                        let file = file.clone();
                        self.window.plain(Plain::Hole { file, range: start..end });
                    }
                }
                Err(gap) => {
                    let Some(error) = ctx.is_damage(gap.error) else {
                        return file.unfinished();
                    };
                    ctx.control.add_done(0, length);
                    ctx.record.damaged(file.task.path(ctx), start..end, &error);
                    file.is_damaged();
                }
            }
        }
        if offset != size {
            ctx.record.damaged(file.task.path(ctx), offset..size, &WrongSize);
            file.is_damaged();
        }
    }

    /// A long run of equal chunks is shared out.
    fn repeat(&mut self, file: &Arc<LargeFile>, id: BlobId, bytes: u32, start: u64, count: u64) {
        let mut offset = start;
        let mut left = count;
        while left > 0 && !self.ctx.is_stopped() {
            let some = left.min((REPEAT_BYTES / u64::from(bytes)).max(1));
            let to = To::Part { file: file.clone(), offset, count: some };
            self.window.chunk(id, bytes, to);
            offset += some * u64::from(bytes);
            left -= some;
        }
        if left > 0 {
            file.unfinished();
        }
    }

    /// Plans to delete what is in the target before `name` (or at all) and was not passed yet.
    fn surplus(&mut self, level: &mut Level<'a>, name: Option<&[u8]>, path: &mut Vec<u8>) {
        let Some(existing) = &mut level.existing else {
            return;
        };
        while existing.next < existing.listing.len() {
            let found = existing.listing.name(existing.next);
            if name.is_some_and(|name| found >= name) {
                return;
            }
            let found: Box<[u8]> = found.into();
            let kind = existing.listing.kind(existing.next);
            existing.next += 1;
            if !existing.deletes || level.has_gap || is_temporary_name(&found) {
                continue;
            }
            let is_directory = match kind {
                Some(kind) => kind == Kind::Directory,
                None => {
                    let above = level.folder.open(self.ctx).ok();
                    let stat = above.and_then(|above| above.source().stat(&found).ok());
                    stat.is_some_and(|stat| stat.kind == Kind::Directory)
                }
            };
            path.truncate(level.path_bytes);
            push(path, &found);
            if (self.choose)(path, is_directory) == Choice::Restore {
                let folder = level.folder.clone();
                self.window.plain(Plain::Delete { folder, name: found });
            }
        }
        path.truncate(level.path_bytes);
    }

    /// Plans to delete what cut runs left, but for what this one goes on with.
    fn leftovers(&mut self, level: &Level<'a>) {
        let Some(existing) = level.existing.as_ref().filter(|there| there.deletes) else {
            return;
        };
        for name in existing.listing.names().filter(|name| is_temporary_name(name)) {
            if !existing.claimed.iter().any(|claimed| **claimed == *name) {
                let folder = level.folder.clone();
                self.window.plain(Plain::Delete { folder, name: name.into() });
            }
        }
    }
}

impl Existing {
    /// Whether `name` is there; it is passed then.
    fn pass(&mut self, name: &[u8]) -> bool {
        let is_there = self.next < self.listing.len() && self.listing.name(self.next) == name;
        self.next += usize::from(is_there);
        is_there
    }

    /// Whether a run that was cut left part of the file `name` in `folder`. It is used only if
    /// nobody else can have put it there, or write to it under another name.
    fn claim(&mut self, ctx: &Context<'_>, folder: &Folder, name: &[u8]) -> bool {
        let part = part_name(name);
        if self.listing.find(&part).is_none() {
            return false;
        }
        let stat = folder.open(ctx).and_then(|folder| folder.source().stat(&part));
        let user = rustix::process::geteuid().as_raw();
        self.claimed.push(part);
        stat.is_ok_and(|stat| stat.kind == Kind::File && stat.links == 1 && stat.uid == user)
    }
}

/// A file whose size and recipe do not go together.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot says another length than its content has")]
struct WrongSize;

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Whether `path` is that of the absolute path `source`, or below it.
fn is_at_or_below(path: &[u8], source: &[u8]) -> bool {
    let source = source.strip_prefix(b"/").unwrap_or(source);
    source.is_empty()
        || path.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Bytes of a run of equal chunks that one worker writes.
const REPEAT_BYTES: u64 = 64 << 20;
