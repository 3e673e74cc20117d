//! Gc: removing from the repository what no live snapshot needs, as a job.

use std::path::PathBuf;
use std::sync::Arc;

pub use lastgood_repo::format::id::SessionId;
use lastgood_repo::{Gc, GcObserver, GcPhase, RepoError, Repository, Settings};
pub use lastgood_repo::{
    GcPlan, GcReport, MaxUnused, OpenSession, PlannedRemoval, PlannedRepack, Reason,
};

use crate::error::Error;
use crate::job::{Control, Job, Phase};
use crate::writer_state::WriterState;

/// How to collect.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Folder where the writers of this machine are known.
    pub state: PathBuf,
    /// How much of the packs that stay may be unused before they are repacked.
    pub max_unused: MaxUnused,
    /// Runs that were announced this many seconds ago, by the clock of the store, and are in the
    /// way are declared over: they fail when they want to commit, and the next ones use what they
    /// stored. Younger ones are waited for, by the next gc.
    pub fence_after: i64,
    /// Nobody else works on the repository, and whoever says so knows: a store is taken that gc
    /// would refuse, and nothing is waited for.
    pub exclusive: bool,
    /// How repacked packs are stored.
    pub settings: Settings,
    /// Whether some space is kept, in the repository, for the gc of a store that is full.
    pub keep_reserve: bool,
    /// Only tells what would be done.
    pub dry_run: bool,
}

/// What gc meant to do, and what it did.
#[derive(Debug, Clone)]
pub struct GcOutcome {
    /// The plan.
    pub plan: GcPlan,
    /// What was done; none in a dry run.
    pub report: Option<GcReport>,
}

/// A plan, and what is needed to do what it says.
#[derive(Debug)]
pub struct Planned {
    plan: GcPlan,
    gc: Gc,
    /// Held, so that nobody else goes by the name.
    _writer: WriterState,
}

/// Whether gc may run beside other work on the store of a repository.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) says what the store does not do.
pub fn probe(repo: &Repository) -> Result<(), Error> {
    Ok(repo.probe()?)
}

/// Starts gc. It may run beside anything, other gcs included. Progress counts objects as files.
///
/// Cancelled or killed at any point, it leaves what the next gc goes on with.
#[must_use]
pub fn start(repo: Arc<Repository>, options: GcOptions) -> Job<GcOutcome> {
    Job::spawn(move |control| {
        let is_dry = options.dry_run;
        let mut planned = make_plan(repo, options, control)?;
        let report = if is_dry { None } else { Some(planned.execute(control)?) };
        Ok(GcOutcome { plan: planned.plan, report })
    })
}

/// Looks what could be removed, and changes nothing; [`Planned::start`] does what this plans.
#[must_use]
pub fn plan(repo: Arc<Repository>, options: GcOptions) -> Job<Planned> {
    Job::spawn(move |control| make_plan(repo, options, control))
}

fn make_plan(
    repo: Arc<Repository>,
    options: GcOptions,
    control: &Control,
) -> Result<Planned, Error> {
    let writer = WriterState::claim(&options.state, &repo)?;
    let options = lastgood_repo::GcOptions {
        fence_after: options.fence_after,
        exclusive: options.exclusive,
        max_unused: options.max_unused,
        settings: options.settings,
        writer_name: *writer.name(),
        threads: THREADS,
        keep_reserve: options.keep_reserve,
    };
    let mut gc = Gc::new(repo, options);
    let plan = gc.plan(&Observer(control)).map_err(|error| failed(error, control))?;
    Ok(Planned { plan, gc, _writer: writer })
}

impl Planned {
    /// What is going to be done.
    #[must_use]
    pub const fn plan(&self) -> &GcPlan {
        &self.plan
    }

    /// Does it, as [`start`] does.
    #[must_use]
    pub fn start(mut self) -> Job<GcReport> {
        Job::spawn(move |control| self.execute(control))
    }

    fn execute(&mut self, control: &Control) -> Result<GcReport, Error> {
        let report = self.gc.execute(&self.plan, &Observer(control));
        report.map_err(|error| failed(error, control))
    }
}

fn failed(error: RepoError, control: &Control) -> Error {
    match error {
        RepoError::Stopped if control.is_cancelled() => Error::cancelled(),
        error => error.into(),
    }
}

struct Observer<'a>(&'a Control);

impl GcObserver for Observer<'_> {
    fn enter(&self, phase: GcPhase, steps: u64) {
        self.0.enter(match phase {
            GcPhase::Marking => Phase::Planning,
            GcPhase::Repacking | GcPhase::Removing => Phase::Writing,
            GcPhase::Deciding => Phase::Committing,
        });
        if phase == GcPhase::Removing {
            self.0.add_total(steps, 0);
            self.0.total_is_known();
        }
    }

    fn step(&self, phase: GcPhase, steps: u64) {
        match phase {
            GcPhase::Repacking => self.0.add_done(0, steps),
            _ => self.0.add_done(steps, 0),
        }
    }

    fn proceed(&self) -> Result<(), RepoError> {
        if self.0.is_cancelled() { Err(RepoError::Stopped) } else { Ok(()) }
    }
}

/// Requests for small objects that are under way at once.
const THREADS: usize = 8;
