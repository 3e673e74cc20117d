//! Check: the repository against itself, as a job.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_repo::{CheckObserver, CheckPlan, Repository};
pub use lastgood_repo::{CheckReport, ReadData};

use crate::error::Error;
use crate::job::{Control, Job, Phase, Problem, Severity};

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// How much pack data to read.
    pub read_data: ReadData,
    /// Threads that read packs; 0 for one per core and two more.
    pub threads: usize,
}

/// Starts a check. Progress counts packs.
#[must_use]
pub fn start(repo: Arc<Repository>, options: CheckOptions) -> Job<CheckReport> {
    Job::spawn(move |control| {
        control.enter(Phase::Checking);
        let threads = match options.threads {
            0 => threads(0) + WAITING_THREADS,
            threads => threads,
        };
        let plan = CheckPlan { read_data: options.read_data, threads };
        let observer = Observer::new(control, &repo, "check");
        let report = lastgood_repo::check(&repo, &plan, &observer)?;
        if report.is_stopped { Err(Error::cancelled()) } else { Ok(report) }
    })
}

/// Threads beyond one per core: somebody always waits for the disk. Measured with two cores, they
/// take a sixth of the time off.
const WAITING_THREADS: usize = 2;

/// So many threads; 0 for one per core.
pub(crate) fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Tells a job's control how reading a repository goes.
pub(crate) struct Observer<'a> {
    control: &'a Control,
    location: PathBuf,
    during: &'static str,
}

impl<'a> Observer<'a> {
    pub(crate) fn new(control: &'a Control, repo: &Repository, during: &'static str) -> Self {
        Self { control, location: repo.location().into(), during }
    }
}

impl CheckObserver for Observer<'_> {
    fn total(&self, packs: u64, bytes: u64) {
        self.control.add_total(packs, bytes);
        self.control.total_is_known();
    }

    fn done(&self, packs: u64, bytes: u64) -> ControlFlow<()> {
        self.control.add_done(packs, bytes);
        if self.control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn damaged(&self, message: &str) {
        self.control.problem(&Problem {
            path: self.location.clone(),
            during: self.during,
            message: message.to_owned(),
            severity: Severity::Error,
        });
    }
}
