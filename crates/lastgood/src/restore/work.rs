//! Doing what was planned: windows of uses of chunks, sorted by where the chunks are stored, so
//! that each group is fetched and decoded once a window, and written to all its places.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use crossbeam_channel::{Receiver, Sender};
use lastgood_format::entry::{Entry, Node};
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::pack::{BlobEntry, BlobKind};
use lastgood_format::packset::PackRef;
use lastgood_host::HostError;
use lastgood_repo::{GroupBuffers, RepoError};

use crate::restore::compare;
use crate::restore::context::{Context, lock};
use crate::restore::entry::{EntryTask, open_source};
use crate::restore::folder::Folder;
use crate::restore::large::{LargeFile, write_bytes};
use crate::restore::links::with_permission;
use crate::restore::plan::{Change, Plan};
use crate::restore::report::Outcome;

/// Something for a worker to do.
pub(crate) enum Job {
    /// Uses of chunks of one group; all of the same pack and group.
    Group(Vec<Use>, PackRef, Ticket),
    /// Chunks to be compared only: where they are stored does not matter.
    Compare(Vec<Use>, Ticket),
    /// What needs nothing that is stored.
    Plain(Vec<Plain>, Ticket),
}

/// A chunk and where it goes.
pub(crate) struct Use {
    /// Number of the pack in the window.
    pack: u32,
    blob: BlobEntry,
    /// Length of the chunk.
    bytes: u32,
    to: To,
}

/// Where a chunk goes.
pub(crate) enum To {
    /// It is a whole file.
    Whole(Box<EntryTask>),
    /// It is in a file `count` times from `offset` on.
    Part { file: Arc<LargeFile>, offset: u64, count: u64 },
}

/// What needs nothing that is stored.
pub(crate) enum Plain {
    /// See [`EntryTask::restore_plain`].
    Entry(Box<EntryTask>),
    /// A hole in a file.
    Hole { file: Arc<LargeFile>, range: Range<u64> },
    /// Something that the snapshot does not have.
    Delete { folder: Arc<Folder>, name: Box<[u8]> },
}

/// Bounds what is planned and not done: [`Ticket`]s for it are given out and come back when done.
#[derive(Default)]
pub(crate) struct Gate {
    out: Mutex<usize>,
    came_back: Condvar,
}

/// For so many uses that are planned and not done.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    uses: usize,
}

impl Ticket {
    fn new(gate: &Arc<Gate>, uses: usize) -> Self {
        *lock(&gate.out) += uses;
        Self { gate: gate.clone(), uses }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        *lock(&self.gate.out) -= self.uses;
        self.gate.came_back.notify_all();
    }
}

impl Gate {
    /// Waits until no more than `uses` are out.
    fn wait(&self, uses: usize) {
        let mut out = lock(&self.out);
        while *out > uses {
            out = self.came_back.wait(out).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// Collects what is planned, and hands it to the workers window by window.
pub(crate) struct Window<'a> {
    ctx: &'a Context<'a>,
    jobs: Sender<Job>,
    gate: Arc<Gate>,
    packs: Vec<PackRef>,
    numbers: HashMap<PackId, u32>,
    uses: Vec<Use>,
    /// Uses in a window: few at first, so that workers begin soon.
    size: usize,
    plain: Vec<Plain>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(ctx: &'a Context<'a>, jobs: Sender<Job>) -> Self {
        Self {
            ctx,
            jobs,
            gate: Arc::default(),
            packs: Vec::new(),
            numbers: HashMap::new(),
            uses: Vec::new(),
            size: WINDOW_USES_FIRST,
            plain: Vec::new(),
        }
    }

    /// Plans to do something that needs no chunk.
    pub(crate) fn plain(&mut self, plain: Plain) {
        self.plain.push(plain);
        if self.plain.len() >= PLAIN_MAX {
            self.send_plain();
            self.gate.wait(OUT_MAX);
        }
    }

    /// Plans to bring a chunk of `bytes` bytes to where it belongs.
    pub(crate) fn chunk(&mut self, id: BlobId, bytes: u32, to: To) {
        let mut blob =
            BlobEntry { id, kind: BlobKind::Chunk, base: None, group: 0, offset: 0, bytes };
        let mut pack = 0;
        if self.ctx.writes {
            match self.ctx.reader.locate(BlobKind::Chunk, id) {
                Ok(place) => {
                    blob = place.entry;
                    pack = self.number(place.pack);
                }
                Err(error) => {
                    let lost = Use { pack: 0, blob, bytes, to };
                    lost.lost(self.ctx, error);
                    return;
                }
            }
        }
        self.uses.push(Use { pack, blob, bytes, to });
        if self.uses.len() >= self.size {
            self.size = (self.size * 2).min(WINDOW_USES);
            self.flush();
        }
    }

    fn number(&mut self, pack: PackRef) -> u32 {
        *self.numbers.entry(pack.pack).or_insert_with(|| {
            self.packs.push(pack);
            self.packs.len() as u32 - 1
        })
    }

    /// Hands over what was collected; waits while too much is not done.
    pub(crate) fn flush(&mut self) {
        self.send_plain();
        let mut uses = std::mem::take(&mut self.uses);
        if self.ctx.writes {
            // Packs in the order in which they were met, which is near that of the directories.
            uses.sort_by_key(|one| (one.pack, one.blob.group, one.blob.offset));
            let mut uses = uses.into_iter().peekable();
            while let Some(first) = uses.next() {
                let place = (first.pack, first.blob.group);
                let Some(&pack) = self.packs.get(first.pack as usize) else {
                    continue;
                };
                let mut group = vec![first];
                while let Some(next) = uses.next_if(|next| (next.pack, next.blob.group) == place) {
                    group.push(next);
                }
                let ticket = Ticket::new(&self.gate, group.len());
                self.send(Job::Group(group, pack, ticket));
            }
        } else {
            let mut uses = uses.into_iter().peekable();
            while uses.peek().is_some() {
                let some: Vec<Use> = uses.by_ref().take(COMPARE_USES).collect();
                let ticket = Ticket::new(&self.gate, some.len());
                self.send(Job::Compare(some, ticket));
            }
        }
        self.packs.clear();
        self.numbers.clear();
        // One window is being done while the next is planned.
        self.gate.wait(OUT_MAX);
    }

    fn send_plain(&mut self) {
        if !self.plain.is_empty() {
            let plain = std::mem::take(&mut self.plain);
            let ticket = Ticket::new(&self.gate, plain.len());
            self.send(Job::Plain(plain, ticket));
        }
    }

    fn send(&self, job: Job) {
        // Workers end early only by a panic, which is reported when they are joined.
        drop(self.jobs.send(job));
    }
}

/// Does jobs until there are no more.
pub(crate) fn work(ctx: &Context<'_>, jobs: &Receiver<Job>) {
    let mut worker = Worker { ctx, group: GroupBuffers::default(), buffer: Vec::new() };
    for job in jobs {
        match job {
            Job::Group(uses, pack, _ticket) => worker.group(uses, pack),
            Job::Compare(uses, _ticket) => {
                worker.keep_equal(uses).into_iter().for_each(|one| one.differs(ctx));
            }
            Job::Plain(plain, _ticket) => plain.into_iter().for_each(|one| worker.plain(one)),
        }
    }
}

struct Worker<'a> {
    ctx: &'a Context<'a>,
    group: GroupBuffers,
    buffer: Vec<u8>,
}

impl Worker<'_> {
    fn plain(&mut self, plain: Plain) {
        let ctx = self.ctx;
        let is_stopped = ctx.is_stopped();
        match plain {
            Plain::Entry(task) if is_stopped => task.leave(ctx, None),
            Plain::Entry(task) => task.restore_plain(ctx),
            Plain::Hole { file, range } => {
                if is_stopped {
                    file.unfinished();
                } else if let Err(error) = file.hole(ctx, range, &mut self.buffer) {
                    file.failed(error);
                }
                file.release(ctx);
            }
            Plain::Delete { folder, name } => {
                if !is_stopped {
                    delete(ctx, &folder, &name);
                }
                folder.release(ctx);
            }
        }
    }

    /// Brings the chunks of one group to where they belong.
    fn group(&mut self, uses: Vec<Use>, pack: PackRef) {
        let ctx = self.ctx;
        let uses = self.keep_equal(uses);
        if uses.is_empty() {
            return;
        }
        let packs = ctx.reader.packs();
        let group = uses.first().map_or(0, |one| one.blob.group);
        let fetched =
            packs.open(pack).and_then(|opened| packs.group(pack, &opened, group, &mut self.group));
        let lost = match fetched.map_err(|error| ctx.is_damage(error)) {
            Ok(()) => None,
            Err(Some(error)) => Some(error),
            Err(None) => return uses.into_iter().for_each(|one| one.unfinished(ctx)),
        };
        // Equal chunks are neighbours: their id is recomputed once.
        let mut last: Option<(BlobId, Result<Chunk<'_>, Option<RepoError>>)> = None;
        for one in uses {
            if ctx.is_stopped() {
                one.unfinished(ctx);
                continue;
            }
            if last.as_ref().is_none_or(|(id, _)| *id != one.blob.id) {
                let id = one.blob.id;
                let chunk = if lost.is_some() {
                    Err(None)
                } else if one.blob.base.is_some() {
                    ctx.reader.blob(BlobKind::Chunk, id).map(Chunk::Loaded).map_err(Some)
                } else {
                    packs.whole(pack, &one.blob, &self.group.raw).map(Chunk::Here).map_err(Some)
                };
                let chunk = match chunk {
                    Err(Some(error)) => match ctx.is_damage(error) {
                        Some(error) => Err(Some(error)),
                        None => {
                            one.unfinished(ctx);
                            continue;
                        }
                    },
                    other => other,
                };
                let chunk = chunk.or_else(|error| {
                    let other = ctx.reader.other_copy(BlobKind::Chunk, id, pack.pack);
                    other.map(Chunk::Loaded).ok_or(error)
                });
                last = Some((id, chunk));
            }
            match &last {
                Some((_, Ok(chunk))) if chunk.bytes().len() == one.bytes as usize => {
                    one.write(ctx, chunk.bytes());
                }
                Some((_, Ok(_))) => one.damaged(ctx, &WrongLength),
                Some((_, Err(error))) => {
                    if let Some(error) = error.as_ref().or(lost.as_ref()) {
                        one.damaged(ctx, error);
                    }
                }
                None => {}
            }
        }
    }

    /// Ends the uses of chunks that are where they belong already; returns the others.
    fn keep_equal(&mut self, mut uses: Vec<Use>) -> Vec<Use> {
        let ctx = self.ctx;
        if ctx.is_stopped() {
            uses.into_iter().for_each(|one| one.unfinished(ctx));
            return Vec::new();
        }
        // Most restores write what is missing, and compare nothing.
        if uses.iter().all(|one| !one.may_be_there()) {
            return uses;
        }
        let mut different = Vec::with_capacity(uses.len());
        for one in uses.drain(..) {
            if ctx.is_stopped() {
                one.unfinished(ctx);
                continue;
            }
            match one.is_there(ctx, &mut self.buffer) {
                Ok(true) => one.kept(ctx),
                Ok(false) => different.push(one),
                Err(error) => one.failed(ctx, error),
            }
        }
        different
    }
}

enum Chunk<'a> {
    Here(&'a [u8]),
    Loaded(lastgood_repo::Loaded),
}

impl Chunk<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Loaded(bytes) => bytes,
        }
    }
}

impl Use {
    /// Bytes of the file it stands for.
    fn file_bytes(&self) -> u64 {
        match &self.to {
            To::Whole(_) => u64::from(self.bytes),
            To::Part { count, .. } => u64::from(self.bytes).saturating_mul(*count),
        }
    }

    fn may_be_there(&self) -> bool {
        match &self.to {
            To::Whole(task) => task.plan == Plan::Compare,
            To::Part { file, .. } => file.may_hold(),
        }
    }

    fn is_there(&self, ctx: &Context<'_>, buffer: &mut Vec<u8>) -> Result<bool, HostError> {
        if !self.may_be_there() {
            return Ok(false);
        }
        let repo = ctx.reader.repo();
        let (id, bytes) = (self.blob.id, self.bytes);
        match &self.to {
            To::Whole(task) => {
                if task.existing.is_some_and(|existing| existing.size != u64::from(bytes)) {
                    return Ok(false);
                }
                let directory = task.folder.open(ctx)?;
                let file = match open_source(&directory, &task.entry.name) {
                    // It may not be read, but it may be replaced.
                    Err(error) if error.is_denied() && ctx.writes => return Ok(false),
                    file => file?,
                };
                compare::holds_chunk(repo, &file, id, (bytes, 1), 0, buffer)
            }
            To::Part { file, .. } if file.has_failed() => Ok(true),
            To::Part { file, offset, count } => {
                let reader = file.reader(ctx)?;
                compare::holds_chunk(repo, &reader, id, (bytes, *count), *offset, buffer)
            }
        }
    }

    /// It is there already.
    fn kept(self, ctx: &Context<'_>) {
        let bytes = self.file_bytes();
        ctx.record.bytes(0, bytes);
        ctx.control.add_done(0, bytes);
        match self.to {
            To::Whole(task) => {
                let result = match &task.existing {
                    Some(existing) => task.settle_metadata(ctx, existing),
                    None => Ok(Outcome::Equal),
                };
                task.finish(ctx, result);
            }
            To::Part { file, .. } => file.release(ctx),
        }
    }

    /// It is not there, and this run only compares.
    fn differs(self, ctx: &Context<'_>) {
        let bytes = self.file_bytes();
        ctx.control.add_done(0, bytes);
        ctx.record.bytes(bytes, 0);
        match self.to {
            To::Whole(task) => {
                let change = task.change();
                task.finish(ctx, Ok(Outcome::Changed(change)));
            }
            To::Part { file, .. } => {
                file.differs();
                file.release(ctx);
            }
        }
    }

    fn write(self, ctx: &Context<'_>, bytes: &[u8]) {
        match self.to {
            To::Whole(task) => {
                let result = write_whole(ctx, &task, bytes);
                ctx.control.add_done(0, task.bytes());
                task.finish(ctx, result);
            }
            To::Part { file, offset, count } => {
                if !file.has_failed()
                    && let Err(error) = file.write(ctx, bytes, offset, count)
                {
                    file.failed(error);
                }
                file.release(ctx);
            }
        }
    }

    fn failed(self, ctx: &Context<'_>, error: HostError) {
        ctx.control.add_done(0, self.file_bytes());
        match self.to {
            To::Whole(task) => task.finish(ctx, Err(error)),
            To::Part { file, .. } => {
                file.failed(error);
                file.release(ctx);
            }
        }
    }

    /// The run stops before it is done.
    fn unfinished(self, ctx: &Context<'_>) {
        match self.to {
            To::Whole(task) => task.leave(ctx, None),
            To::Part { file, .. } => {
                file.unfinished();
                file.release(ctx);
            }
        }
    }

    /// The chunk could not be found.
    fn lost(self, ctx: &Context<'_>, error: RepoError) {
        match ctx.is_damage(error) {
            Some(error) => self.damaged(ctx, &error),
            None => self.unfinished(ctx),
        }
    }

    /// The chunk cannot be read. What the file has there stays: the old bytes, or a hole.
    fn damaged(self, ctx: &Context<'_>, error: &dyn std::error::Error) {
        let bytes = self.file_bytes();
        ctx.control.add_done(0, bytes);
        match self.to {
            To::Whole(task) => {
                ctx.record.damaged(task.path(ctx), 0..bytes, error);
                ctx.record.failed();
                task.leave(ctx, None);
            }
            To::Part { file, offset, .. } => {
                let path = file.task.path(ctx);
                ctx.record.damaged(path, offset..offset.saturating_add(bytes), error);
                file.is_damaged();
                file.release(ctx);
            }
        }
    }
}

/// A chunk that is not as long as the tree or recipe that names it says.
#[derive(Debug, thiserror::Error)]
#[error("the chunk has another length than the snapshot says")]
struct WrongLength;

/// Creates a file of one chunk, writes it, sets its metadata and closes it.
fn write_whole(ctx: &Context<'_>, task: &EntryTask, bytes: &[u8]) -> Result<Outcome, HostError> {
    let directory = task.folder.open(ctx)?;
    task.folder.touch();
    let name = task.make_room(ctx, &directory)?;
    let file = with_permission(&directory, || directory.create_file(&name))?;
    let Entry { flags, node, .. } = &task.entry;
    if *flags != 0 {
        file.set_early_flags(*flags);
    }
    let write = || {
        write_bytes(&file, bytes, 0, ctx.sparse, true)?;
        if ctx.sparse
            && let Node::File { size, .. } = node
        {
            file.set_len(*size)?;
        }
        task.put_in_place(ctx, &directory, &name, || {
            file.apply(&ctx.metadata(&task.entry), ctx.policy)
        })
    };
    let written = write();
    if written.is_err() {
        // Half a file is worse than none, and what cannot be removed is reported with the rest.
        directory.remove_entry(&name).ok();
    }
    written?;
    ctx.record.bytes(bytes.len() as u64, 0);
    Ok(Outcome::Changed(task.change()))
}

/// Removes what the snapshot does not have, with all that is in it.
fn delete(ctx: &Context<'_>, folder: &Arc<Folder>, name: &[u8]) {
    let path = || folder.path(ctx, name);
    if !ctx.writes {
        ctx.record.done(Outcome::Changed(Change::Deleted), 0, path);
        return;
    }
    let directory = match folder.open(ctx) {
        Ok(directory) => directory,
        Err(error) => return ctx.host_error(path(), &error),
    };
    folder.touch();
    let mut failures = Vec::new();
    let mut removed = directory.remove_tree(name, &mut |error| failures.push(error));
    if removed == 0 && failures.iter().any(HostError::is_denied) && directory.unlock().is_ok() {
        failures.clear();
        removed = directory.remove_tree(name, &mut |error| failures.push(error));
    }
    if removed > 0 {
        ctx.record.done(Outcome::Changed(Change::Deleted), 0, path);
        ctx.record.deleted(removed - 1);
    }
    for error in failures {
        ctx.host_error(error.path.clone(), &error);
    }
}

/// Uses of chunks in a window: what is planned before it is sorted and handed over.
const WINDOW_USES: usize = 1 << 16;
/// The same for the first window.
const WINDOW_USES_FIRST: usize = 1 << 12;
/// Uses that may be planned and not done when the next window is begun.
const OUT_MAX: usize = WINDOW_USES / 2;
/// Uses that are compared by one worker.
const COMPARE_USES: usize = 32;
/// Entries without content that are handed over together.
const PLAIN_MAX: usize = 64;
