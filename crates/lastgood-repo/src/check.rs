//! Checking a repository against itself.
//!
//! Three passes: every object is readable and is what its name says; every pack that a snapshot
//! names is there, and, where asked for, every byte of it decrypts to blobs that hash to their ids;
//! every blob that a tree refers to is in a pack that is fine. Nothing is changed.
//!
//! Memory: four bits a blob beyond the index ([`BlobMarks`]), about 300 bytes a pack, and for each
//! thread a window of [`packs::WINDOW_BYTES`] and a group.

mod deltas;
mod packs;
pub(crate) mod trees;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lastgood_format::id::{PackId, SessionId, SnapshotId};
use lastgood_format::limits::REVISION_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::packset::PackRef;
use lastgood_format::snapshot::Snapshot;

use crate::error::{Damage, RepoError};
use crate::index::{BlobMarks, Fingerprint};
use crate::objects::KINDS;
use crate::packer::lock;
use crate::reader::{BlobReader, GroupBuffers};
use crate::relocations::Relocations;
use crate::repository::Repository;
use crate::snapshots::SnapshotRecord;

/// How much pack data to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None: directories only.
    No,
    /// Every byte.
    All,
    /// The packs whose id falls into part `n` (from 1) of `t`.
    Part {
        /// Which part.
        n: u64,
        /// Of how many.
        t: u64,
    },
    /// Packs drawn at random, about this share of all bytes, 0 to 1.
    Share(f64),
    /// Packs drawn at random, about so many bytes.
    Bytes(u64),
}

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct CheckPlan {
    /// How much pack data to read.
    pub read_data: ReadData,
    /// Threads that read packs.
    pub threads: usize,
}

/// Hears how a check goes.
pub trait CheckObserver: Sync {
    /// So many packs and bytes are going to be read.
    fn total(&self, packs: u64, bytes: u64);
    /// So many more packs and bytes were read. Breaking stops the check.
    fn done(&self, packs: u64, bytes: u64) -> ControlFlow<()>;
    /// Something is damaged.
    fn damaged(&self, message: &str);
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Live snapshots.
    pub snapshots: u64,
    /// Packs that are stored.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Packs whose every byte was read.
    pub packs_read: u64,
    /// Bytes of these.
    pub bytes_read: u64,
    /// Blobs that trees refer to, each counted once.
    pub blobs: u64,
    /// Packs that no snapshot needs; gc may reclaim them.
    pub packs_unneeded: u64,
    /// Sessions without outcome: running now, or interrupted.
    pub sessions_open: u64,
    /// What is damaged beyond what parity makes up for, one line each.
    pub damage: Vec<String>,
    /// Names of objects that are damaged and of which nothing is lost: they can be mended.
    pub mendable: Vec<String>,
    /// Snapshots and paths that cannot be restored whole.
    pub affected: Vec<(SnapshotId, Vec<u8>)>,
    /// What works but should be known, such as a part of the index that is missing.
    pub remarks: Vec<String>,
    /// Whether the check was stopped before its end.
    pub is_stopped: bool,
}

/// Checks `repo`.
///
/// # Errors
/// When objects cannot be listed, or one could not be read and may be readable later: nothing is
/// called damaged that may be whole. Damage is in the report.
pub fn check(
    repo: &Arc<Repository>,
    plan: &CheckPlan,
    observer: &dyn CheckObserver,
) -> Result<CheckReport, RepoError> {
    let mut check = Check {
        repo,
        threads: plan.threads.max(1),
        reader: BlobReader::new(repo.clone()),
        observer,
        report: CheckReport::default(),
        needed: HashSet::new(),
        moved: HashSet::new(),
        replaced: HashMap::new(),
        with_deltas: Vec::new(),
    };
    let mut snapshots = check.objects()?;
    check.other_objects(plan)?;
    let (packs, marks) = check.packs(&mut snapshots)?;
    check.mark_deltas(&marks)?;
    check.read_packs(plan, &packs, &marks)?;
    check.mark_lost_deltas(&marks)?;
    if !check.report.is_stopped {
        check.trees(&snapshots, &marks)?;
    }
    if repo.history().is_rotation_open() {
        check.report.remarks.push(
            "the keys were rotated, and that was interrupted: until it is finished, what old keys \
             sign counts"
                .to_owned(),
        );
    }
    for object in repo.passed_over() {
        // One that is damaged was named with the objects that nothing else reads.
        if repo.find(&object, REVISION_BYTES_MAX).is_ok() {
            let why = "no root of the repository signed it as a revision; it is passed over";
            check.damage(repo.damaged(&object, Damage::State(why)))?;
        }
    }
    check.report.mendable = repo.mended();
    let repaired = repo.mended.repaired_count();
    if repaired > 0 {
        let objects = if repaired == 1 { "object is" } else { "objects are" };
        check.report.remarks.push(format!(
            "{repaired} damaged {objects} stored whole again, beside what is damaged"
        ));
    }
    if !check.replaced.is_empty() {
        let what = match check.replaced.len() {
            1 => "1 damaged pack is not needed any more: what snapshots need of it".to_owned(),
            count => format!(
                "{count} damaged packs are not needed any more: what snapshots need of them"
            ),
        };
        check.report.remarks.push(format!("{what} is stored again"));
    }
    Ok(check.report)
}

struct Check<'a> {
    repo: &'a Arc<Repository>,
    threads: usize,
    reader: BlobReader,
    observer: &'a dyn CheckObserver,
    report: CheckReport,
    /// Packs that some live snapshot names.
    needed: HashSet<PackId>,
    /// Those of which relocations tell: what was live in them is elsewhere, as the walk of the
    /// trees shows.
    moved: HashSet<PackId>,
    /// Damaged ones among these, and what is wrong with them: damage only where a blob that is needed
    /// turns out to be nowhere else.
    replaced: HashMap<PackId, Vec<RepoError>>,
    /// Packs in which blobs are stored as changes of others.
    with_deltas: Vec<PackRef>,
}

impl Check<'_> {
    /// Notes damage; an error that says nothing of what is stored ends the check.
    fn damage(&mut self, error: RepoError) -> Result<(), RepoError> {
        if error.is_transient() {
            return Err(error);
        }
        let message = chain(&error);
        self.observer.damaged(&message);
        self.report.damage.push(message);
        Ok(())
    }

    /// Notes damage of a pack; of one that others stand in for, only what is missing then counts.
    fn pack_damage(&mut self, pack: PackId, error: RepoError) -> Result<(), RepoError> {
        if self.moved.contains(&pack) && error.is_damage() {
            self.replaced.entry(pack).or_default().push(error);
            return Ok(());
        }
        self.damage(error)
    }

    /// Snapshots, index segments, key slots, sessions.
    fn objects(&mut self) -> Result<Vec<SnapshotRecord>, RepoError> {
        let snapshots = self.repo.snapshots()?;
        for (one, other) in snapshots.forks() {
            self.report.remarks.push(format!(
                "snapshots {one} and {other} have the same place in the chain of one writer: a \
                 host was cloned, or the store showed different states to different clients"
            ));
        }
        self.report.remarks.extend(snapshots.unremembered.iter().map(chain));
        for missing in snapshots.missing {
            let (location, missing) = (self.repo.location().to_owned(), vec![missing]);
            self.damage(RepoError::Missing { location, missing })?;
        }
        snapshots.damaged.into_iter().try_for_each(|error| self.damage(error))?;
        for problem in self.repo.log()?.problems {
            // What this host cannot remember is a remark already.
            if !matches!(problem, RepoError::Cache { .. }) {
                self.damage(problem)?;
            }
        }
        let index = self.repo.index()?;
        for error in index.damage(self.repo) {
            self.damage(error)?;
        }
        for (_, error) in self.repo.damaged_key_slots()? {
            self.damage(error)?;
        }
        if let Err(error) = self.repo.compare_config_copy() {
            self.damage(error)?;
        }
        let mut sessions = Vec::new();
        self.repo
            .list(name::SESSIONS, &mut |id, _| sessions.extend(id.parse::<SessionId>().ok()))?;
        for session in sessions {
            match self.repo.outcome(session) {
                Ok(Some(_)) => {}
                Ok(None) => self.report.sessions_open += 1,
                Err(error) => self.damage(error)?,
            }
        }
        Ok(snapshots.live)
    }

    /// Objects that nothing else in a check reads: whether they can be read.
    fn other_objects(&mut self, plan: &CheckPlan) -> Result<(), RepoError> {
        let others = KINDS.iter().filter(|(kind, _)| match *kind {
            name::CONFIG | name::KEYS | name::SNAPSHOTS | name::OUTCOMES | name::LOG => false,
            name::INDEX => plan.read_data != ReadData::No,
            _ => true,
        });
        for (prefix, bytes_max) in others {
            let mut names = Vec::new();
            self.repo.list(prefix, &mut |rest, _| names.push(format!("{prefix}{rest}")))?;
            for object in names.into_iter().filter(|object| !self.repo.is_void(object)) {
                if let Err(error) = self.repo.find(&object, *bytes_max) {
                    self.damage(error)?;
                }
            }
        }
        Ok(())
    }

    /// Every pack that a snapshot names is there, in its length, with a directory that opens.
    /// Returns these packs, and marks for the blobs in them. Leaves out of `snapshots` those that
    /// gc removes meanwhile.
    fn packs(
        &mut self,
        snapshots: &mut Vec<SnapshotRecord>,
    ) -> Result<(Vec<PackRef>, BlobMarks), RepoError> {
        let (existing, mut needed) = loop {
            let existing: HashMap<PackId, u64> =
                self.repo.all_packs()?.into_iter().map(|(_, pack, bytes)| (pack, bytes)).collect();
            let mut needed = self.needed_packs(snapshots)?;
            self.look_for_missing(&mut needed, &existing)?;
            if needed.lost.is_empty() || !self.leave_out_retired(snapshots)? {
                break (existing, needed);
            }
        };
        for (id, error) in std::mem::take(&mut needed.lost) {
            self.damage(error)?;
            self.report.affected.extend(id.map(|id| (id, Vec::new())));
        }
        self.report.snapshots = snapshots.len() as u64;
        self.report.packs = existing.len() as u64;
        self.report.pack_bytes = existing.values().sum();
        self.needed = needed.packs.keys().copied().collect();
        let unneeded = existing.keys().filter(|pack| !self.needed.contains(*pack));
        self.report.packs_unneeded = unneeded.count() as u64;
        drop(existing);
        self.directories(needed.present)
    }

    /// Notes packs that are not there, or not of their length. Of one that was repacked, what was
    /// live is elsewhere, as the walk of the trees shows.
    fn look_for_missing(
        &mut self,
        needed: &mut Needed,
        existing: &HashMap<PackId, u64>,
    ) -> Result<(), RepoError> {
        let relocations = match self.repo.relocations() {
            Err(error) if error.is_damage() => {
                needed.lost.push((None, error));
                Relocations::default()
            }
            relocations => relocations?,
        };
        self.moved = relocations.moved_packs().collect();
        let mut packs: Vec<PackRef> = needed.packs.values().copied().collect();
        packs.sort();
        for pack in packs {
            let state = match existing.get(&pack.pack) {
                None if self.moved.contains(&pack.pack) => continue,
                None => "it is missing",
                Some(bytes) if *bytes != pack.bytes && !self.is_mendable(pack)? => {
                    "it is not of its length"
                }
                Some(_) => {
                    needed.present.push(pack);
                    continue;
                }
            };
            let object = name::pack(pack.session, pack.pack);
            let error = self.repo.damaged(&object, Damage::State(state));
            match self.moved.contains(&pack.pack) {
                true => self.replaced.entry(pack.pack).or_default().push(error),
                false => needed.lost.push((None, error)),
            }
        }
        Ok(())
    }

    fn is_mendable(&self, pack: PackRef) -> Result<bool, RepoError> {
        Ok(self.reader.packs().heal(pack)?.is_some_and(|healed| healed.is_whole))
    }

    /// Leaves out snapshots that were retired since they were loaded, and tells whether there are
    /// any: what they needed may be gone by right.
    fn leave_out_retired(&self, snapshots: &mut Vec<SnapshotRecord>) -> Result<bool, RepoError> {
        let retired = self.repo.retired()?;
        let before = snapshots.len();
        snapshots.retain(|record| !retired.contains_key(&record.id));
        Ok(snapshots.len() < before)
    }

    /// The packs that snapshots name, each once. Pages of pack sets that several share are read
    /// once.
    fn needed_packs(&self, snapshots: &[SnapshotRecord]) -> Result<Needed, RepoError> {
        let (mut packs, mut lost, mut pages) = (HashMap::new(), Vec::new(), HashSet::new());
        for record in snapshots {
            let mut add = |pack: PackRef| {
                packs.insert(pack.pack, pack);
            };
            let Snapshot { pack_set, ref_packs, .. } = &record.snapshot;
            ref_packs.iter().copied().for_each(&mut add);
            let read = self.reader.each_pack(*pack_set, ref_packs, &mut pages, &mut add);
            lost.extend(read.err().map(|error| (Some(record.id), error)));
        }
        let named: Vec<PackId> = packs.keys().copied().collect();
        packs.extend(self.reader.relocated(named)?.into_iter().map(|pack| (pack.pack, pack)));
        Ok(Needed { packs, present: Vec::new(), lost })
    }

    /// Opens the directory of each pack and compares the index with it.
    fn directories(&mut self, packs: Vec<PackRef>) -> Result<(Vec<PackRef>, BlobMarks), RepoError> {
        let seed = u64::from_le_bytes(self.repo.world().random());
        let directories = Mutex::new(HashMap::new());
        let with_deltas = Mutex::new(Vec::new());
        let errors = Mutex::new(Vec::new());
        let this = &*self;
        this.each(&packs, &|pack, _| {
            match this.reader.packs().open(*pack) {
                Ok(opened) => {
                    let fingerprint = Fingerprint::of(&opened.directory.blobs, seed);
                    lock(&directories).insert(pack.pack, fingerprint);
                    if opened.directory.blobs.iter().any(|blob| blob.base.is_some()) {
                        lock(&with_deltas).push(*pack);
                    }
                }
                Err(error) => lock(&errors).push((pack.pack, error)),
            }
            this.observer.done(0, 0)
        });
        let directories = inner(directories);
        self.with_deltas = inner(with_deltas);
        let mut errors = inner(errors).into_iter();
        errors.try_for_each(|(pack, error)| self.pack_damage(pack, error))?;

        let mut present = packs;
        present.retain(|pack| directories.contains_key(&pack.pack));
        let mut marks = BlobMarks::new(&*self.repo.index()?, &directories, seed);
        let covered = marks.packs();
        let rest: Vec<PackRef> =
            present.iter().filter(|pack| !covered.contains(&pack.pack)).copied().collect();
        if !rest.is_empty() {
            self.report.remarks.push(format!(
                "the index does not tell truly what {} packs hold; the next backup indexes those \
                 that no segment covers",
                rest.len()
            ));
            let aside = self.repo.index_aside();
            self.reader.list_packs(rest, &aside)?;
            marks.extend(BlobMarks::new(&aside, &directories, seed));
        }
        self.reader.add_packs(Arc::new(present.clone()));
        Ok((present, marks))
    }

    /// Works on `packs` with all threads, until `work` breaks.
    fn each(
        &self,
        packs: &[PackRef],
        work: &(dyn Fn(&PackRef, &mut GroupBuffers) -> ControlFlow<()> + Sync),
    ) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    let mut buffers = GroupBuffers::default();
                    while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if work(pack, &mut buffers).is_break() {
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }
}

/// The packs that snapshots need.
struct Needed {
    packs: HashMap<PackId, PackRef>,
    /// Those of them that are there.
    present: Vec<PackRef>,
    /// What cannot be had, and of which snapshot where that is known.
    lost: Vec<(Option<SnapshotId>, RepoError)>,
}

pub(crate) fn inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An error with its causes, on one line, nothing said twice.
pub(crate) fn chain(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
