//! A job: an operation that runs on threads of its own, with progress, events, cancellation and a
//! result. It needs no async runtime, and works in any.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind};

/// A running operation. Dropping it cancels the operation and does not wait.
#[derive(Debug)]
pub struct Job<T> {
    events: mpsc::Receiver<Event>,
    /// Taken when somebody waits for it.
    result: Option<oneshot::Receiver<Result<T, Error>>>,
    control: Control,
}

impl<T: Send + 'static> Job<T> {
    /// Runs `work` on a thread of its own.
    pub(crate) fn spawn(work: impl FnOnce(&Control) -> Result<T, Error> + Send + 'static) -> Self {
        let (event_sender, events) = mpsc::channel(EVENTS_MAX);
        let (result_sender, result) = oneshot::channel();
        let control = Control { state: Arc::new(State::default()), events: Some(event_sender) };
        let inner = control.clone();
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| work(&inner));
            let outcome = std::panic::catch_unwind(work)
                .unwrap_or_else(|panic| Err(Error::panicked(panic.as_ref())));
            inner.state.phase.store(Phase::Done as u8, Ordering::Relaxed);
            drop(inner);
            // The job was dropped: nobody wants the result.
            drop(result_sender.send(outcome));
        });
        let result = match spawned {
            Ok(_) => result,
            Err(error) => {
                let (sender, result) = oneshot::channel();
                let text = "cannot start a thread";
                let failed = Err(Error::caused_by(ErrorKind::Unavailable, text, error));
                drop(sender.send(failed));
                result
            }
        };
        // Only the operation sends events, so the stream ends when it does.
        let control = Control { events: None, ..control };
        Self { events, result: Some(result), control }
    }

    /// The next event; `None` when the operation has ended.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event if there is one already.
    pub fn try_next_event(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// How far the operation is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.control.progress()
    }

    /// Something that shows progress and cancels from anywhere.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Asks the operation to stop soon. It ends with [`ErrorKind::Cancelled`](crate::ErrorKind).
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// What the operation returned.
    pub async fn finish(mut self) -> Result<T, Error> {
        // An operation that reports every path would wait for somebody to read it.
        self.events.close();
        match self.result.take() {
            Some(result) => result.await.unwrap_or_else(|_| Err(Error::cancelled())),
            None => Err(Error::cancelled()),
        }
    }

    /// Waits for the result, blocking this thread; calls `on_event` for each event.
    ///
    /// # Errors
    /// What the operation returned.
    pub fn wait(mut self, mut on_event: impl FnMut(Event)) -> Result<T, Error> {
        while let Some(event) = self.events.blocking_recv() {
            on_event(event);
        }
        match self.result.take() {
            Some(result) => result.blocking_recv().unwrap_or_else(|_| Err(Error::cancelled())),
            None => Err(Error::cancelled()),
        }
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.control.cancel();
    }
}

/// Waits for a job's result like [`Job::finish`].
impl<T: Send + 'static> IntoFuture for Job<T> {
    type Output = Result<T, Error>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.finish())
    }
}

/// Progress and cancellation of a job.
#[derive(Debug, Clone)]
pub struct Control {
    state: Arc<State>,
    events: Option<mpsc::Sender<Event>>,
}

#[derive(Debug, Default)]
struct State {
    is_cancelled: AtomicBool,
    phase: AtomicU8,
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    is_total_known: AtomicBool,
    problems: AtomicU64,
    current: Mutex<Option<PathBuf>>,
}

impl Control {
    /// Asks the operation to stop soon.
    pub fn cancel(&self) {
        self.state.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state.is_cancelled.load(Ordering::Relaxed)
    }

    /// How far the operation is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = &self.state;
        let is_known = state.is_total_known.load(Ordering::Relaxed);
        Progress {
            phase: Phase::from_u8(state.phase.load(Ordering::Relaxed)),
            files_done: load(&state.files_done),
            bytes_done: load(&state.bytes_done),
            files_total: is_known.then(|| load(&state.files_total)),
            bytes_total: is_known.then(|| load(&state.bytes_total)),
            problems: load(&state.problems),
            current: state.current.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Stops with [`ErrorKind::Cancelled`](crate::ErrorKind) when somebody asked to.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.state.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn add_done(&self, files: u64, bytes: u64) {
        self.state.files_done.fetch_add(files, Ordering::Relaxed);
        self.state.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_total(&self, files: u64, bytes: u64) {
        self.state.files_total.fetch_add(files, Ordering::Relaxed);
        self.state.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that nothing will be added to the totals any more.
    pub(crate) fn total_is_known(&self) {
        self.state.is_total_known.store(true, Ordering::Relaxed);
    }

    /// Shows what is being worked on. Skipped when somebody else is doing the same.
    pub(crate) fn working_on(&self, path: impl FnOnce() -> PathBuf) {
        if let Ok(mut current) = self.state.current.try_lock() {
            *current = Some(path());
        }
    }

    /// Reports trouble with one path. The operation's report lists it as well, so an event that
    /// nobody fetches may be lost.
    pub(crate) fn problem(&self, problem: &Problem) {
        self.state.problems.fetch_add(1, Ordering::Relaxed);
        if let Some(events) = &self.events {
            drop(events.try_send(Event::Problem(problem.clone())));
        }
    }

    /// Reports what was done with one path; waits for room, so it slows down with its reader.
    pub(crate) fn item(&self, item: impl FnOnce() -> Item) {
        if let Some(events) = &self.events {
            drop(events.blocking_send(Event::Item(item())));
        }
    }

    /// Says something once that is neither progress nor trouble.
    pub(crate) fn note(&self, note: impl Into<String>) {
        if let Some(events) = &self.events {
            drop(events.try_send(Event::Note(note.into())));
        }
    }
}

/// What a job says while it runs.
#[derive(Debug, Clone)]
pub enum Event {
    /// Trouble with one path; the run goes on.
    Problem(Problem),
    /// What was done with one path, where this was asked for.
    Item(Item),
    /// Something the user should know.
    Note(String),
}

/// Trouble with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path.
    pub path: PathBuf,
    /// What was being done: a verb.
    pub during: &'static str,
    /// What happened.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is missing, but the user should know.
    Warning,
    /// Something is missing or not as it was: the run is incomplete.
    Error,
}

/// What was done with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The path.
    pub path: PathBuf,
    /// What was done.
    pub action: Action,
    /// Length of the file, in bytes; 0 for what has none.
    pub bytes: u64,
}

/// What was done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is new.
    New,
    /// It differs from before.
    Changed,
    /// It is as before.
    Unchanged,
    /// It was left out by a rule.
    Excluded,
    /// It was written.
    Restored,
    /// What was there was written over.
    Updated,
    /// It was removed.
    Deleted,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Files that are done.
    pub files_done: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Files in all; `None` until that is known.
    pub files_total: Option<u64>,
    /// Bytes in all; `None` until that is known.
    pub bytes_total: Option<u64>,
    /// Problems so far.
    pub problems: u64,
    /// A path that is being worked on.
    pub current: Option<PathBuf>,
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Opening, loading, taking stock.
    #[default]
    Preparing = 0,
    /// Reading the source and storing what is new.
    Reading = 1,
    /// Making the result durable.
    Committing = 2,
    /// Deciding what to do.
    Planning = 3,
    /// Writing to the target.
    Writing = 4,
    /// Comparing.
    Verifying = 5,
    /// Over.
    Done = 6,
    /// Reading packs, which are counted in the place of files.
    Checking = 7,
}

impl Phase {
    const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Reading,
            2 => Self::Committing,
            3 => Self::Planning,
            4 => Self::Writing,
            5 => Self::Verifying,
            6 => Self::Done,
            7 => Self::Checking,
            _ => Self::Preparing,
        }
    }
}

/// Problems of a run: the first ones in full, all of them counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first [`Problems::LISTED_MAX`] of them.
    pub listed: Vec<Problem>,
    /// How many were errors.
    pub errors: u64,
    /// How many were warnings.
    pub warnings: u64,
}

impl Problems {
    /// How many are listed in full.
    pub const LISTED_MAX: usize = 10_000;

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        match problem.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.listed.len() < Self::LISTED_MAX {
            self.listed.push(problem);
        }
    }
}

/// Room for a walk as deep as trees nest; only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;
/// Events that wait for their reader.
const EVENTS_MAX: usize = 1024;
