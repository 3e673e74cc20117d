//! The threads of a backup: a stack of directories, a queue of large files' batches, and workers
//! that empty both.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use lastgood_host::HostError;
use lastgood_host::scan::ListBuffer;
use lastgood_repo::format::chunker::{Chunker, ChunkerParams};
use lastgood_repo::format::config::DELTAS;
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::links::LinksCodec;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::page::PageWriter;
use lastgood_repo::format::snapshot::Totals;
use lastgood_repo::{
    BlobReader, BlobSet, Index, Recovery, RepoError, Repository, SnapshotRecord, Tally,
    WriteSession,
};

use super::BackupOptions;
use super::along::ReadAlong;
use super::baseline::BaselineRef;
use super::content::{Batch, SpareBuffers, Window};
use super::estimate::estimate;
use super::links::LinkTable;
use super::node::{DirectoryNode, DirectoryTask};
use super::record::Record;
use super::sink::{Sink, Stop};
use super::sources::Sources;
use crate::error::{Error, ErrorKind};
use crate::job::{Action, Control, Item, Problem, Problems, Severity};
use crate::select::Selection;
use crate::trace::Tape;

/// Everything the workers of one run share.
pub(super) struct Engine<'a> {
    pub(super) repo: &'a Arc<Repository>,
    /// The session, which partial snapshots replace; none in a dry run.
    pub(super) session: Mutex<Option<WriteSession>>,
    tally: Option<Arc<Tally>>,
    /// What the snapshots of this run say of it.
    pub(super) record: &'a Record<'a>,
    /// Seconds between partial snapshots.
    pub(super) partial_every: Option<i64>,
    /// When the last one was due.
    pub(super) partial_at: AtomicI64,
    /// Whether workers must pause for one.
    pub(super) is_pausing: AtomicBool,
    pub(super) partials: Mutex<Vec<SnapshotRecord>>,
    /// The root of the tree that is being built.
    pub(super) tree: OnceLock<Arc<DirectoryNode>>,
    pub(super) index: Arc<Index>,
    pub(super) baseline: &'a BlobReader,
    /// Whether chunks may be stored as changes of others.
    pub(super) takes_deltas: bool,
    pub(super) selection: &'a Selection,
    sources: &'a Sources,
    /// Whether somebody wants to hear of every path.
    items: bool,
    /// Whether totals are counted beside the run.
    is_estimated: bool,
    pub(super) control: &'a Control,
    /// What keeps the trace of the run.
    pub(super) trace: Option<Arc<Tape>>,
    pub(super) chunker: Chunker,
    baseline_root: Option<BaselineRef>,
    /// Files whose ctime is not before this second may have changed unseen since the baseline.
    pub(super) trusted_before: i64,
    pub(super) links: LinkTable,
    pub(super) counts: Counts,
    problems: Mutex<Problems>,
    owners: Mutex<(BTreeSet<u32>, BTreeSet<u32>)>,
    /// Blobs a dry run would have stored.
    pub(super) imagined: BlobSet,
    /// Who looks for lost blobs in a dry run.
    pub(super) recovery: Option<&'a Mutex<Recovery>>,
    /// Who wants what is read as well.
    pub(super) along: Option<&'a dyn ReadAlong>,
    pub(super) spare_buffers: SpareBuffers,
    pub(super) queue: Mutex<Queue>,
    pub(super) changed: Condvar,
    /// Tree and hints of `/`, once they are stored.
    root: Mutex<Option<(BlobId, BlobId)>>,
    pub(super) threads: usize,
}

/// Counts that all workers add to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) files: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) files_new: AtomicU64,
    pub(super) files_changed: AtomicU64,
    pub(super) excluded: AtomicU64,
    pub(super) vanished: AtomicU64,
    pub(super) imagined_bytes: AtomicU64,
    pub(super) imagined_known: AtomicU64,
}

impl Counts {
    /// Adds what a slice of a directory has.
    pub(super) fn add(&self, totals: &Totals) {
        let counters = [
            (&self.files, totals.files),
            (&self.directories, totals.directories),
            (&self.others, totals.others),
            (&self.bytes, totals.bytes),
        ];
        for (counter, count) in counters {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// What scanning all sources gave.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) tree: BlobId,
    pub(super) hints: BlobId,
    pub(super) links: BlobId,
    pub(super) chunker: ChunkerParams,
    pub(super) totals: Totals,
    pub(super) bytes_known: u64,
    pub(super) meta_bytes_new: u64,
    pub(super) excluded: u64,
    pub(super) vanished: u64,
    pub(super) problems: Problems,
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
}

#[derive(Default)]
pub(super) struct Queue {
    directories: Vec<DirectoryTask>,
    batches: VecDeque<Batch>,
    /// Workers that are at work and may add to the queue.
    busy: usize,
    pub(super) is_stopped: bool,
    /// Workers that have not ended.
    pub(super) running: usize,
    /// Workers that wait for a partial snapshot.
    pub(super) paused: usize,
    /// Whether one of them is committing it.
    pub(super) is_committing: bool,
}

/// One thread's own: its sink and its buffers.
pub(super) struct Worker<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) sink: Sink<'a>,
    pub(super) names: ListBuffer,
    pub(super) window: Window,
    pub(super) uids: BTreeSet<u32>,
    pub(super) gids: BTreeSet<u32>,
}

impl<'a> Engine<'a> {
    #[expect(clippy::too_many_arguments, reason = "called once; a struct would only rename them")]
    pub(super) fn new(
        repo: &'a Arc<Repository>,
        session: Option<WriteSession>,
        baseline_reader: &'a BlobReader,
        record: &'a Record<'a>,
        trusted_before: i64,
        selection: &'a Selection,
        sources: &'a Sources,
        options: &BackupOptions,
        control: &'a Control,
    ) -> Result<Self, Error> {
        let params = super::chunker(repo, options)?;
        let index = repo.index()?;
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
            threads => threads,
        };
        let baseline_root = record.baseline().map(|record| BaselineRef {
            tree: record.snapshot.tree,
            hints: Some(record.snapshot.hints),
        });
        Ok(Self {
            repo,
            tally: session.as_ref().map(WriteSession::tally),
            session: Mutex::new(session),
            record,
            partial_every: options.partial_every_seconds,
            partial_at: AtomicI64::new(repo.world().clock.now().seconds),
            is_pausing: AtomicBool::new(false),
            partials: Mutex::default(),
            tree: OnceLock::new(),
            imagined: BlobSet::beside(&index),
            recovery: None,
            along: None,
            index,
            baseline: baseline_reader,
            takes_deltas: repo.history().has(DELTAS),
            selection,
            sources,
            items: options.items,
            is_estimated: options.estimate,
            control,
            trace: options.trace.clone(),
            chunker: repo.chunker(params),
            baseline_root,
            trusted_before: if options.force { i64::MIN } else { trusted_before },
            links: LinkTable::new(&options.state),
            counts: Counts::default(),
            problems: Mutex::default(),
            owners: Mutex::default(),
            spare_buffers: SpareBuffers::default(),
            queue: Mutex::default(),
            changed: Condvar::new(),
            root: Mutex::default(),
            threads,
        })
    }

    /// Scans all sources and stores what is new of them.
    pub(super) fn run(&self) -> Result<Scanned, Error> {
        let root = Arc::new(DirectoryNode::new(
            None,
            usize::MAX,
            0,
            Box::default(),
            0,
            self.baseline_root,
        ));
        let root = self.tree.get_or_init(|| root);
        {
            // All count as busy from the start, so that none ends before the first has found work.
            let mut queue = lock(&self.queue);
            (queue.running, queue.busy) = (self.threads, self.threads);
        }
        let result = std::thread::scope(|scope| {
            let _guard = StopOnPanic(self);
            if self.is_estimated {
                scope.spawn(|| estimate(self));
            }
            let others: Vec<_> =
                (1..self.threads).map(|_| scope.spawn(|| self.work_alone())).collect();
            let mut first = self.worker();
            // A source that is a large file is stored in here, with the help of the others.
            let planted = first.plant(self.sources.root(), Path::new("/"), root);
            let mut result = planted.and_then(|()| first.work());
            if result.is_err() {
                self.stop();
            }
            for other in others {
                let joined = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                // The first error that is not just the echo of another one counts.
                let is_echo = matches!(
                    result,
                    Ok(()) | Err(Stop::Cancelled | Stop::Repo(RepoError::Stopped))
                );
                if let (true, Err(error)) = (is_echo, joined) {
                    result = Err(error);
                }
            }
            match result {
                Ok(()) => Ok(first),
                // What was read so far is handed over, for the next run to find; where this fails as
                // well, the first error is the one to tell.
                Err(error) => {
                    drop(first.finish());
                    Err(error)
                }
            }
        });
        let mut worker = result?;
        let (tree, hints) = lock(&self.root)
            .take()
            .ok_or_else(|| Error::new(ErrorKind::Bug, "a directory was left unfinished"))?;
        let links = worker.store_links()?;
        worker.finish()?;
        Ok(self.scanned(tree, hints, links))
    }

    fn work_alone(&self) -> Result<(), Stop> {
        let _guard = StopOnPanic(self);
        let mut worker = self.worker();
        let result = worker.work();
        if result.is_err() {
            self.stop();
        }
        // Also when it was stopped: what was read so far is handed over, for the next run to find.
        let finished = worker.finish();
        result.and(finished)
    }

    /// A place for one worker to store to.
    pub(super) fn sink(&self) -> Sink<'_> {
        match &*lock(&self.session) {
            Some(session) => Sink::Store(Box::new(session.writer())),
            None => Sink::Imagine(self),
        }
    }

    /// The session, and the partial snapshots it began with.
    pub(super) fn into_session(self) -> (Option<WriteSession>, Vec<SnapshotRecord>) {
        let session = self.session.into_inner().unwrap_or_else(PoisonError::into_inner);
        (session, self.partials.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether workers must pause.
    pub(super) fn is_pausing(&self) -> bool {
        self.is_pausing.load(Ordering::Relaxed)
    }

    /// Notes owners of entries.
    pub(super) fn note_owners(&self, uids: &BTreeSet<u32>, gids: &BTreeSet<u32>) {
        let mut owners = lock(&self.owners);
        owners.0.extend(uids);
        owners.1.extend(gids);
    }

    pub(super) fn worker(&self) -> Worker<'_> {
        Worker {
            engine: self,
            sink: self.sink(),
            names: ListBuffer::new(),
            window: Window::new(self.chunker.max_bytes()),
            uids: BTreeSet::new(),
            gids: BTreeSet::new(),
        }
    }

    pub(super) fn scanned(&self, tree: BlobId, hints: BlobId, links: BlobId) -> Scanned {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let (bytes_added, bytes_known, meta_bytes_new) = match &self.tally {
            Some(tally) => (
                load(&tally.data_bytes_new),
                load(&tally.data_bytes_known),
                load(&tally.meta_bytes_new),
            ),
            None => (load(&counts.imagined_bytes), load(&counts.imagined_known), 0),
        };
        let owners = lock(&self.owners).clone();
        Scanned {
            tree,
            hints,
            links,
            chunker: self.chunker.params(),
            totals: Totals {
                files: load(&counts.files),
                directories: load(&counts.directories),
                others: load(&counts.others),
                bytes: load(&counts.bytes),
                files_new: load(&counts.files_new),
                files_changed: load(&counts.files_changed),
                bytes_added,
                ..Totals::default()
            },
            bytes_known,
            meta_bytes_new,
            excluded: load(&counts.excluded),
            vanished: load(&counts.vanished),
            problems: lock(&self.problems).clone(),
            uids: owners.0.into_iter().collect(),
            gids: owners.1.into_iter().collect(),
        }
    }

    /// Reports trouble with one path; the run goes on.
    pub(super) fn problem(
        &self,
        path: PathBuf,
        during: &'static str,
        message: impl Into<String>,
        severity: Severity,
    ) {
        let problem = Problem { path, during, message: message.into(), severity };
        self.control.problem(&problem);
        if let Some(trace) = &self.trace {
            trace.problem(&problem);
        }
        lock(&self.problems).push(problem);
    }

    /// Reports an error of the host, with its cause.
    pub(super) fn host_problem(&self, error: &HostError, severity: Severity) {
        self.problem(error.path.clone(), error.action, error.source.to_string(), severity);
    }

    /// Tells what became of a path, where this was asked for.
    pub(super) fn item(&self, path: impl FnOnce() -> PathBuf, action: Action, bytes: u64) {
        if self.items {
            self.control.item(|| Item { path: path(), action, bytes });
        }
    }

    /// Queues the subdirectories of one directory so that the first of them is taken first.
    pub(super) fn push_directories(&self, tasks: impl DoubleEndedIterator<Item = DirectoryTask>) {
        let mut queue = lock(&self.queue);
        let before = queue.directories.len();
        queue.directories.extend(tasks.rev());
        let added = queue.directories.len() - before;
        drop(queue);
        match added {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    /// Offers a batch to idle workers; gives it back when enough wait already.
    pub(super) fn offer(&self, batch: Batch) -> Option<Batch> {
        let mut queue = lock(&self.queue);
        if self.threads == 1 || queue.batches.len() >= self.threads || queue.is_stopped {
            return Some(batch);
        }
        queue.batches.push_back(batch);
        drop(queue);
        self.changed.notify_one();
        None
    }

    /// Takes a batch back, whichever is first.
    pub(super) fn take_batch(&self) -> Option<Batch> {
        lock(&self.queue).batches.pop_front()
    }

    pub(super) fn source_paths(&self) -> &[PathBuf] {
        self.sources.paths()
    }

    /// Whether everything was read.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.root).is_some() || lock(&self.queue).is_stopped
    }

    /// Makes all workers end soon.
    fn stop(&self) {
        lock(&self.queue).is_stopped = true;
        self.changed.notify_all();
    }

    /// Has every worker that waits look again.
    pub(super) fn wake(&self) {
        drop(lock(&self.queue));
        self.changed.notify_all();
    }

    /// Waits for something to do; `None` when all is done or the run was stopped.
    fn next_work(&self) -> Option<Work> {
        let mut queue = lock(&self.queue);
        queue.busy -= 1;
        loop {
            if queue.is_stopped {
                return None;
            }
            if self.is_pausing() {
                queue.busy += 1;
                return Some(Work::Pause);
            }
            let work = match queue.batches.pop_front() {
                Some(batch) => Some(Work::Batch(batch)),
                None => queue.directories.pop_if(|next| !next.must_wait()).map(Work::Directory),
            };
            if work.is_some() {
                queue.busy += 1;
                return work;
            }
            if queue.busy == 0 {
                drop(queue);
                self.changed.notify_all();
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends all workers when one panics: they would wait for its work for ever.
struct StopOnPanic<'e, 'a>(&'e Engine<'a>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

enum Work {
    /// A partial snapshot is due.
    Pause,
    Batch(Batch),
    Directory(DirectoryTask),
}

impl Worker<'_> {
    /// Works until nothing is left. It counts as busy before.
    fn work(&mut self) -> Result<(), Stop> {
        let engine = self.engine;
        let worked = self.work_on();
        lock(&engine.queue).running -= 1;
        engine.changed.notify_all();
        worked
    }

    fn work_on(&mut self) -> Result<(), Stop> {
        while let Some(work) = self.engine.next_work() {
            if self.engine.control.is_cancelled() {
                self.engine.stop();
                return Err(Stop::Cancelled);
            }
            match work {
                Work::Pause => {
                    self.pause()?;
                    continue;
                }
                Work::Batch(batch) => self.store_batch(batch)?,
                Work::Directory(task) => self.directory(task)?,
            }
            // Only after work: else a run that commits all the time would do nothing else.
            if self.engine.partial_is_due() {
                self.pause()?;
            }
        }
        if self.engine.control.is_cancelled() { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// Stores the table of hard links.
    fn store_links(&mut self) -> Result<BlobId, Stop> {
        let mut pages = PageWriter::<LinksCodec>::default();
        let mut store = |bytes: &[u8]| self.sink.add(BlobKind::Links, bytes);
        self.engine.links.visit_rows(|row| pages.push(row, &mut store))?;
        pages.finish(&mut store)
    }

    /// Hands over what is left in buffers.
    pub(super) fn finish(self) -> Result<(), Stop> {
        self.engine.note_owners(&self.uids, &self.gids);
        self.sink.finish()
    }

    /// Notes that one thing a directory waited for is done; when it was the last, stores the
    /// directory, and so on upwards.
    pub(super) fn complete(&mut self, mut node: Arc<DirectoryNode>) -> Result<(), Stop> {
        while let Some(building) = node.complete() {
            let roots = building.finish(node.baseline, &mut self.sink)?;
            let Some((parent, index)) = node.parent() else {
                *lock(&self.engine.root) = Some(roots);
                return Ok(());
            };
            if parent.set_subtree(*index, roots, node.baseline, &mut self.sink)? {
                self.engine.wake();
            }
            let parent = parent.clone();
            node = parent;
        }
        Ok(())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads unless more are asked for. Each takes about 11 MiB, beside 105 MiB for packs.
const THREADS_MAX: usize = 8;
