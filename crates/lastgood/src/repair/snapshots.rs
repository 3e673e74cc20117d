//! Snapshots in the place of those that have lost something for good.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_format::id::SnapshotId;
use lastgood_format::snapshot::SnapshotFlags;
use lastgood_repo::{Affected, Recovery, RepairPlan, Replacing, Repository, SnapshotRecord};

use super::proceed;
use crate::check::Observer;
use crate::error::Error;
use crate::job::{Control, Job, Phase};
use crate::writer_state::WriterState;

/// How to replace snapshots.
#[derive(Debug, Clone)]
pub struct ReplaceOptions {
    /// Folder where the writers of this machine are known.
    pub state: PathBuf,
    /// Threads that read packs; 0 for one per core.
    pub threads: usize,
    /// Only tells what would be left out.
    pub dry_run: bool,
    /// Retires what is replaced, but for what is pinned.
    pub forget: bool,
    /// Name and version of the program.
    pub program: String,
}

/// A snapshot that has lost something, and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The snapshot.
    pub old: SnapshotId,
    /// Its replacement; none in a dry run, and when nothing of it is left.
    pub new: Option<SnapshotRecord>,
    /// Paths that are lost, entirely or in part.
    pub lost: Vec<Affected>,
    /// Whether it is pinned, and stays whatever was asked for.
    pub is_pinned: bool,
}

/// Starts to replace every live snapshot that has lost something. Reads every pack first, to know
/// what is lost.
#[must_use]
pub fn replace_snapshots(repo: Arc<Repository>, options: ReplaceOptions) -> Job<Vec<Replaced>> {
    Job::spawn(move |control| run(&repo, &options, control))
}

fn run(
    repo: &Arc<Repository>,
    options: &ReplaceOptions,
    control: &Control,
) -> Result<Vec<Replaced>, Error> {
    control.enter(Phase::Checking);
    let writer = WriterState::claim(&options.state, repo)?;
    let plan = RepairPlan {
        threads: crate::check::threads(options.threads),
        dry_run: true,
        writer_name: *writer.name(),
        copies: &[],
        whole: &HashSet::new(),
    };
    let objects = lastgood_repo::repair(repo, &plan, &Observer::new(control, repo, "repair"))?;
    if objects.is_stopped {
        return Err(Error::cancelled());
    }
    let lost_packs: HashSet<_> = objects.lost_packs.into_iter().collect();
    let live = repo.snapshots()?.live;
    // What stands in the place of another already is not made again.
    let replaced: HashSet<SnapshotId> = live
        .iter()
        .filter(|record| is_replacement(record, &live))
        .flat_map(|record| record.snapshot.chain.parents.clone())
        .collect();
    let mut recovery = Recovery::new(repo, live.clone(), lost_packs.clone(), &[])?;
    let lost = recovery.search(&|| proceed(control))?;
    let replacing = Replacing {
        repo,
        lost_packs: &lost_packs,
        lost: &lost,
        writer_name: *writer.name(),
        program: &options.program,
    };
    let mut done = Vec::new();
    control.enter(Phase::Committing);
    for record in live.iter().filter(|record| !replaced.contains(&record.id)) {
        control.check()?;
        let affected = lost.affected.iter().filter(|affected| affected.snapshot == record.id);
        let affected: Vec<Affected> = affected.cloned().collect();
        if affected.is_empty() {
            continue;
        }
        let new = if options.dry_run { None } else { replacing.replace(record)? };
        let is_pinned = record.snapshot.flags.contains(SnapshotFlags::PINNED);
        if let (true, Some(new)) = (options.forget && !is_pinned, &new) {
            repo.retire(
                record,
                "a part of it is lost, and another stands in its place",
                Some(new.id),
            )?;
        }
        done.push(Replaced { old: record.id, new, lost: affected, is_pinned });
    }
    Ok(done)
}

/// Whether a snapshot was made in the place of its only parent: at the same time, without hints.
fn is_replacement(record: &SnapshotRecord, live: &[SnapshotRecord]) -> bool {
    let [parent] = record.snapshot.chain.parents[..] else { return false };
    live.iter().any(|other| {
        other.id == parent
            && other.snapshot.started == record.snapshot.started
            && other.snapshot.sources == record.snapshot.sources
            && record.snapshot.flags.contains(SnapshotFlags::INCOMPLETE)
    })
}
