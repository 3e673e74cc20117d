//! Repair, as a job: from parity, from copies, from other repositories that hold the same files,
//! and from the files themselves where they are still what they were.

mod foreign;
mod mirrored;
mod snapshots;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub(crate) use foreign::file_at;
use lastgood_format::id::PackId;
use lastgood_format::pack::BlobKind;
pub use lastgood_repo::{Affected, LostBlobs, Recovered, RepositoryCopy};
use lastgood_repo::{BlobReader, Recovery, RepairPlan, Repository, SnapshotRecord};
pub use snapshots::{ReplaceOptions, Replaced, replace_snapshots};

use crate::backup::read_again;
use crate::check::Observer;
use crate::error::Error;
use crate::job::{Control, Job, Phase};
use crate::writer_state::WriterState;

/// How to repair.
#[derive(Debug)]
pub struct RepairOptions {
    /// Folder where the writers of this machine are known.
    pub state: PathBuf,
    /// Threads that read packs; 0 for one per core.
    pub threads: usize,
    /// Only tells what would be stored.
    pub dry_run: bool,
    /// Copies of the repository, in which objects are looked for.
    pub copies: Vec<RepositoryCopy>,
    /// Other repositories, in which files are looked for.
    pub others: Vec<Arc<Repository>>,
    /// Mirrors of the same files, see [`mirror`](crate::mirror).
    pub mirrors: Vec<PathBuf>,
    /// Id of this host, where its own files are to be looked at.
    pub host_id: Option<[u8; 16]>,
    /// Packs that the plan of this repair, a dry run just now, found whole: they are not read again.
    pub whole: HashSet<PackId>,
}

impl RepairOptions {
    /// Repairs from parity alone; `state` is the folder where this host remembers who it is.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        Self {
            state,
            threads: 0,
            dry_run: false,
            copies: Vec::new(),
            others: Vec::new(),
            mirrors: Vec::new(),
            host_id: None,
            whole: HashSet::new(),
        }
    }
}

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was mended object by object.
    pub objects: lastgood_repo::RepairReport,
    /// Blobs that were recovered, or would be in a dry run, by where they came from.
    pub recovered: Vec<(Origin, u64)>,
    /// What packs stand in for now; nothing in a dry run.
    pub stored: Recovered,
    /// What is lost for good.
    pub lost: LostBlobs,
}

/// Where a lost blob was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In another pack of the repository, or in what can be read of a damaged one.
    Here,
    /// In a copy, or a file of another repository.
    Repository(String),
    /// In a mirror.
    Mirror(String),
    /// In files of this host.
    Files,
}

impl RepairReport {
    /// Whether there is something to store.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let objects = &self.objects;
        !objects.repaired.is_empty()
            || objects.indexed > 0
            || !objects.unindexed.is_empty()
            || !self.recovered.is_empty()
    }

    /// Whether something is lost for good.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        !self.objects.lost.is_empty() || !self.lost.affected.is_empty()
    }
}

/// Starts a repair, which reads everything. Progress counts packs.
#[must_use]
pub fn start(repo: Arc<Repository>, options: RepairOptions) -> Job<RepairReport> {
    Job::spawn(move |control| {
        control.enter(Phase::Checking);
        let writer = WriterState::claim(&options.state, &repo)?;
        let plan = RepairPlan {
            threads: crate::check::threads(options.threads),
            dry_run: options.dry_run,
            writer_name: *writer.name(),
            copies: &options.copies,
            whole: &options.whole,
        };
        let observer = Observer::new(control, &repo, "repair");
        let objects = lastgood_repo::repair(&repo, &plan, &observer)?;
        if objects.is_stopped {
            return Err(Error::cancelled());
        }
        let mut blobs = Blobs { repo: &repo, options: &options, control, objects };
        let report = blobs.recover(writer.name());
        report.map_err(|error| if control.is_cancelled() { Error::cancelled() } else { error })
    })
}

/// The second half of a repair: what packs have lost.
struct Blobs<'a> {
    repo: &'a Arc<Repository>,
    options: &'a RepairOptions,
    control: &'a Control,
    objects: lastgood_repo::RepairReport,
}

impl Blobs<'_> {
    fn recover(&mut self, writer_name: &[u8; 16]) -> Result<RepairReport, Error> {
        let records = self.records()?;
        let lost_packs: HashSet<_> = self.objects.lost_packs.iter().copied().collect();
        let copies = if self.options.dry_run { &self.options.copies[..] } else { &[] };
        let new = || Recovery::new(self.repo, records.clone(), lost_packs.clone(), copies);
        let mut recovery = new()?;
        if !self.options.dry_run {
            recovery.search(&|| proceed(self.control))?;
            if !recovery.has_work() {
                let objects = std::mem::take(&mut self.objects);
                return Ok(RepairReport { objects, ..RepairReport::default() });
            }
            recovery = new()?;
            recovery.store(writer_name)?;
        }
        let recovery = Mutex::new(recovery);
        let (lost, recovered) = self.ask_all(&recovery, &records)?;
        let recovery = recovery.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stored = recovery.finish()?;
        let objects = std::mem::take(&mut self.objects);
        Ok(RepairReport { objects, recovered, stored, lost })
    }

    /// The live snapshots; those that a copy would bring back, too.
    fn records(&self) -> Result<Vec<SnapshotRecord>, Error> {
        let mut records = self.repo.snapshots()?.live;
        let known: HashSet<_> = records.iter().map(|record| record.id).collect();
        let back = self.objects.snapshots.iter().filter(|record| !known.contains(&record.id));
        records.extend(back.cloned());
        Ok(records)
    }

    /// Asks for what is lost wherever it may be, again and again as pages that come back show what
    /// is below them. Returns what is lost after all.
    fn ask_all(
        &self,
        recovery: &Mutex<Recovery>,
        records: &[SnapshotRecord],
    ) -> Result<(LostBlobs, Vec<(Origin, u64)>), Error> {
        let mut recovered: Vec<(Origin, u64)> = Vec::new();
        let mut note = |origin: Origin, count: u64| match recovered
            .iter_mut()
            .find(|(known, _)| *known == origin)
        {
            Some((_, counted)) => *counted += count,
            None if count > 0 => recovered.push((origin, count)),
            None => {}
        };
        let found = || lock(recovery).found_count();
        loop {
            let before = found();
            let lost = lock(recovery).search(&|| proceed(self.control))?;
            note(Origin::Here, found() - before);
            let searched = found();
            if lost.lost.is_empty() {
                return Ok((lost, recovered));
            }
            for copy in &self.options.copies {
                let before = found();
                self.ask_copy(copy, &lost, recovery)?;
                note(Origin::Repository(copy.repo().location().to_owned()), found() - before);
            }
            for other in &self.options.others {
                let before = found();
                foreign::ask(self.repo, other, records, &lost, recovery, self.control)?;
                note(Origin::Repository(other.location().to_owned()), found() - before);
            }
            for mirror in &self.options.mirrors {
                let before = found();
                mirrored::ask(self.repo, mirror, records, &lost, recovery, self.control)?;
                note(Origin::Mirror(mirror.display().to_string()), found() - before);
            }
            if let Some(host_id) = self.options.host_id {
                let before = found();
                let own = records.iter().filter(|record| record.snapshot.host_id == host_id);
                let own: Vec<&SnapshotRecord> = own.collect();
                self.ask_files(&own, &lost, recovery)?;
                note(Origin::Files, found() - before);
            }
            if found() == searched {
                return Ok((lost, recovered));
            }
        }
    }

    fn ask_copy(
        &self,
        copy: &RepositoryCopy,
        lost: &LostBlobs,
        recovery: &Mutex<Recovery>,
    ) -> Result<(), Error> {
        let reader = BlobReader::new(copy.repo().clone());
        for record in copy.repo().snapshots()?.live {
            // What the index does not tell of is looked for in all packs that can be read.
            drop(reader.add_snapshot(&record.snapshot));
        }
        for (id, kind) in &lost.lost {
            proceed(self.control)?;
            if !lock(recovery).is_wanted(*id) {
                continue;
            }
            match reader.blob(*kind, *id) {
                Ok(bytes) => drop(lock(recovery).offer(*kind, &bytes)?),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads the files and directories that are affected as a backup of their snapshot would.
    fn ask_files(
        &self,
        records: &[&SnapshotRecord],
        lost: &LostBlobs,
        recovery: &Mutex<Recovery>,
    ) -> Result<(), Error> {
        let mut asked: HashSet<(Vec<u8>, PathBuf)> = HashSet::new();
        for record in records {
            let snapshot = &record.snapshot;
            let mut paths = Vec::new();
            for affected in lost.affected.iter().filter(|it| it.snapshot == record.id) {
                paths.extend(live_paths(affected, &snapshot.sources));
            }
            let chunker = snapshot.chunker.params().ok();
            let key = format!("{chunker:?}").into_bytes();
            paths.retain(|path| {
                path.symlink_metadata().is_ok() && asked.insert((key.clone(), path.clone()))
            });
            if !paths.is_empty() && chunker.is_some() {
                let state = self.options.state.clone();
                read_again(self.repo, paths, chunker, state, recovery, self.control)?;
            }
        }
        Ok(())
    }
}

/// The paths of this host that lead to what is affected: the path itself where it lies in a
/// source; all sources for what lies above them.
fn live_paths(affected: &Affected, sources: &[Vec<u8>]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let path_of = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let path = path_of(&[b"/", &affected.path[..]].concat());
    let is_in_source = sources.iter().any(|source| path.starts_with(path_of(source)));
    match affected.kind {
        BlobKind::Hints | BlobKind::PackSet => Vec::new(),
        BlobKind::Links => sources.iter().map(|source| path_of(source)).collect(),
        _ if is_in_source => vec![path],
        _ => sources.iter().map(|source| path_of(source)).collect(),
    }
}

/// Stops what the user cancelled.
fn proceed(control: &Control) -> Result<(), lastgood_repo::RepoError> {
    if control.is_cancelled() { Err(lastgood_repo::RepoError::Stopped) } else { Ok(()) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
