//! Repair: what is damaged and can be mended is stored whole again, as a job.

use std::path::PathBuf;
use std::sync::Arc;

pub use lastgood_repo::RepairReport;
use lastgood_repo::{RepairPlan, Repository};

use crate::check::Observer;
use crate::error::Error;
use crate::job::{Job, Phase};
use crate::writer_state::WriterState;

/// How to repair.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// Folder where the writers of this machine are known.
    pub state: PathBuf,
    /// Threads that read packs; 0 for one per core.
    pub threads: usize,
    /// Only tells what would be stored.
    pub dry_run: bool,
}

/// Starts a repair, which reads everything. Progress counts packs as files.
#[must_use]
pub fn start(repo: Arc<Repository>, options: RepairOptions) -> Job<RepairReport> {
    Job::spawn(move |control| {
        control.enter(Phase::Verifying);
        let writer = WriterState::claim(&options.state, &repo)?;
        let plan = RepairPlan {
            threads: crate::check::threads(options.threads),
            dry_run: options.dry_run,
            writer_name: *writer.name(),
        };
        let observer = Observer::new(control, &repo, "repair");
        let report = lastgood_repo::repair(&repo, &plan, &observer)?;
        if report.is_stopped { Err(Error::cancelled()) } else { Ok(report) }
    })
}
