//! The power goes: after every step of a workload, with every fate of what was not synced.
//!
//! Before that a process may be killed, so that the next one finds what no sync ever covered. After
//! it, a repository opens with the keys it should, what was committed is whole, what was forgotten
//! stays so, and the next backup succeeds.
//!
//! A call that fails, fails what it belongs to, but for a few that nothing that was promised hangs
//! on, and which `Workload::is_excused` names.

use std::sync::Arc;

use lastgood::keys;
use lastgood::repair::{RepairOptions, RepositoryCopy};
use lastgood::restore::RestoreOptions;
use lastgood::snapshots::TagChange;
use lastgood::{Error, ErrorKind, Repository, Settings, SnapshotRecord, WorkFactors};
use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_backend::{Backend as _, ObjectName};
use lastgood_format::id::SnapshotId;
use lastgood_format::object::name;
use lastgood_repo::{Gc, GcObserver, GcOptions, GcPhase, MaxUnused, RepoError};
use lastgood_testkit::campaign::{each_seed, first_failure, seeds, tell};
use lastgood_testkit::chance::{Chance, mix};
use lastgood_testkit::disk::{FailedCall, Mistake, SimulatedDisk};

use super::world::{Source, check, create, key_file, open};
use crate::place::Tree;

/// Something that was done to a repository, and between which steps of the disk.
struct Deed {
    began: usize,
    /// None when it failed, so that it may have happened or not.
    ended: Option<usize>,
    what: What,
}

impl Deed {
    fn is_done(&self, steps: usize) -> bool {
        self.ended.is_some_and(|ended| ended <= steps)
    }
}

enum What {
    Created,
    Committed(SnapshotId, Arc<Tree>),
    Forgotten(SnapshotId),
    KeyAdded(u8),
    KeyRemoved(u8),
    /// Another root, which this key opens, and no older one.
    Rotated(u8),
    /// A pack, of which there is a copy of the repository.
    Destroyed(MemoryBackend),
    /// Gc, and whatever else changes nothing of what there must be.
    Tended,
}

/// Why something may succeed although a call of it failed.
#[derive(Debug, Clone, Copy)]
enum Excuse {
    /// None.
    None,
    /// The log lacks it, and it said so.
    Unlogged,
    /// A session that commits nothing is left for gc to end.
    LeftOpen,
}

/// A workload, and what its user was told.
struct Workload {
    seed: u64,
    disk: Arc<SimulatedDisk>,
    source: Source,
    deeds: Vec<Deed>,
    /// Calls that failed in something that succeeded, with no excuse.
    unsaid: Vec<FailedCall>,
    /// What is done to a repository before it is used: nothing, or a mistake is planted.
    prepare: fn(&Repository),
}

/// What opens a repository, and what does not.
#[derive(Default)]
struct Keys {
    opening: Vec<u8>,
    removed: Vec<u8>,
    /// While a rotation may have happened or not: one of them opens.
    either: Vec<u8>,
}

type Verdict = Result<(), String>;

impl Workload {
    fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let disk = Arc::new(SimulatedDisk::with(mistake));
        Self {
            seed,
            disk,
            source: Source::new(seed),
            deeds: Vec::new(),
            unsaid: Vec::new(),
            prepare: |_| (),
        }
    }

    /// Init, backups, tags, keys, rotation, upgrade, forgetting and bringing back, gc with
    /// repacking, rot and repair, also from a copy, in an order that the seed decides.
    fn run(&mut self) -> Result<(), Error> {
        let mut chance = Chance::new(self.seed);
        let mut repo = self.deed(|this| {
            Ok((create(this.disk.clone(), this.seed)?, What::Created, Excuse::None))
        })?;
        (self.prepare)(&repo);
        let mut live = vec![self.backup(&repo)?];
        let mut keys = vec![0];
        let mut forgotten: Vec<SnapshotRecord> = Vec::new();
        let mut next_key = 1;
        for number in 1..=10 {
            match chance.below(18) {
                0 => self.tag(&repo, &mut live)?,
                1 => {
                    self.add_key(&repo, next_key)?;
                    keys.push(next_key);
                    next_key += 1;
                }
                2 if keys.len() > 1 => {
                    let key = keys.swap_remove(chance.below(keys.len()));
                    self.remove_key(&repo, key)?;
                }
                3 => {
                    // As a password is changed.
                    self.add_key(&repo, next_key)?;
                    let old = std::mem::replace(chance.pick_mut(&mut keys), next_key);
                    next_key += 1;
                    self.remove_key(&repo, old)?;
                }
                4..=6 if live.len() > 1 => {
                    let record = live.remove(chance.below(live.len()));
                    self.forget(&repo, &record)?;
                    forgotten.push(record);
                    if chance.one_in(2) {
                        self.collect(&repo)?;
                    }
                }
                7 => self.collect(&repo)?,
                8 => {
                    (0..1 + chance.below(3)).for_each(|_| self.disk.rot(&mut chance));
                    self.repair(&repo)?;
                }
                15 => {
                    repo = self.rotate(&repo, next_key)?;
                    keys = vec![next_key];
                    next_key += 1;
                }
                16 => repo = self.upgrade(&repo)?,
                17 => self.repair_from_copy(&repo, &mut chance)?,
                9 | 10 if !forgotten.is_empty() => {
                    let record = forgotten.remove(chance.below(forgotten.len()));
                    live.extend(self.undelete(&repo, &record)?);
                }
                _ => {
                    (0..1 + chance.below(3)).for_each(|_| self.source.change());
                    // As another process does, or the same.
                    let again = chance.one_in(2);
                    let repo = if again { self.open(1000 + number)? } else { repo.clone() };
                    live.push(self.backup(&repo)?);
                }
            }
        }
        Ok(())
    }

    fn open(&self, number: u64) -> Result<Arc<Repository>, Error> {
        let seed = self.seed * 10_000 + number;
        let keys = self.keys(usize::MAX);
        let keys = if keys.opening.is_empty() { keys.either } else { keys.opening };
        let mut opened = keys.iter().map(|key| open(self.disk.clone(), seed, *key));
        let first = opened.next().expect("there is a key");
        let repo = first.or_else(|error| opened.find_map(Result::ok).ok_or(error))?;
        (self.prepare)(&repo);
        Ok(repo)
    }

    fn deed<T>(
        &mut self,
        run: impl FnOnce(&Self) -> Result<(T, What, Excuse), Error>,
    ) -> Result<T, Error> {
        let began = self.disk.step_count();
        let failed_before = self.disk.failed_calls().len();
        let (result, what, excuse) = run(self)?;
        self.note_failed(failed_before, excuse, matches!(what, What::Committed(..)));
        self.deeds.push(Deed { began, ended: Some(self.disk.step_count()), what });
        Ok(result)
    }

    /// The same for what takes something away, and may have done so when it fails.
    fn removal(
        &mut self,
        what: What,
        run: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let number = self.deeds.len();
        self.deeds.push(Deed { began: self.disk.step_count(), ended: None, what });
        self.deed(|this| Ok(((), What::Tended, run(this).map(|()| Excuse::None)?)))?;
        self.deeds[number].ended = Some(self.disk.step_count());
        Ok(())
    }

    /// Notes the calls that failed in something that succeeded.
    fn note_failed(&mut self, failed_before: usize, excuse: Excuse, commits: bool) {
        let failed = self.disk.failed_calls().split_off(failed_before);
        let unsaid = failed.into_iter().filter(|call| !self.is_excused(call, excuse, commits));
        let unsaid: Vec<FailedCall> = unsaid.collect();
        self.unsaid.extend(unsaid);
    }

    fn is_excused(&self, call: &FailedCall, excuse: Excuse, commits: bool) -> bool {
        let object = call.object.as_str();
        if object == name::revision(name::FIRST_REVISION) {
            // The second copy of the config: the next run stores it, which each judgement checks.
            return true;
        }
        if object == name::OUTCOMES {
            // A listing that cannot make durable which commits it saw does not remember them, says
            // so where that is told, and the next one tries again. A commit names what it saw, so
            // that no outcome of one may come before another try that succeeds; a fence names
            // nothing.
            let directory = name::OUTCOMES.trim_end_matches('/');
            return !commits || !self.disk.is_named_before_sync(directory, call.step);
        }
        match excuse {
            Excuse::None => false,
            Excuse::Unlogged => object.starts_with(name::LOG),
            Excuse::LeftOpen => object.starts_with(name::OUTCOMES),
        }
    }

    fn backup(&mut self, repo: &Arc<Repository>) -> Result<SnapshotRecord, Error> {
        self.deed(|this| {
            let report = this.source.backup_reporting(repo, this.source.options())?;
            let record = report.snapshot.expect("a run that succeeds commits");
            let excuse = report.unlogged.map_or(Excuse::None, |_| Excuse::Unlogged);
            let tree = Arc::new(Tree::of(&this.source.path()));
            Ok((record.clone(), What::Committed(record.id, tree), excuse))
        })
    }

    fn collect(&mut self, repo: &Arc<Repository>) -> Result<(), Error> {
        self.deed(|this| {
            collect(repo, this.source.options().settings)?;
            Ok(((), What::Tended, Excuse::LeftOpen))
        })
    }

    fn repair(&mut self, repo: &Arc<Repository>) -> Result<(), Error> {
        self.deed(|this| {
            let state = this.source.beside("state");
            let options = RepairOptions { threads: 1, ..RepairOptions::new(state) };
            let report = lastgood::repair::start(repo.clone(), options).wait(drop)?.objects;
            let lost = [report.lost, report.damaged_packs].concat();
            assert_eq!(lost, Vec::<String>::new(), "a bit is within what parity makes up");
            Ok(((), What::Tended, Excuse::LeftOpen))
        })
    }

    fn rotate(&mut self, repo: &Repository, key: u8) -> Result<Arc<Repository>, Error> {
        let number = self.deeds.len();
        let began = self.disk.step_count();
        self.deeds.push(Deed { began, ended: None, what: What::Rotated(key) });
        let rotated = self.deed(|this| {
            let rotated = repo.rotate(&key_file(key), WorkFactors::DEFAULT, "rotated")?.repo;
            (this.prepare)(&rotated);
            Ok((rotated, What::Tended, Excuse::None))
        })?;
        self.deeds[number].ended = Some(self.disk.step_count());
        Ok(rotated)
    }

    fn upgrade(&mut self, repo: &Repository) -> Result<Arc<Repository>, Error> {
        let names: Vec<&str> =
            keys::features(repo).into_iter().map(|(feature, _)| feature.name).collect();
        self.deed(|this| {
            let upgraded = repo.upgrade(&names)?;
            (this.prepare)(&upgraded);
            Ok((upgraded, What::Tended, Excuse::None))
        })
    }

    /// A pack is destroyed beyond all parity, and comes back from a copy of the repository.
    fn repair_from_copy(
        &mut self,
        repo: &Arc<Repository>,
        chance: &mut Chance,
    ) -> Result<(), Error> {
        let copy = MemoryBackend::new();
        copy.replace(self.disk.shown());
        let packs = self.disk.shown().into_keys();
        let packs: Vec<_> = packs.filter(|name| name.as_str().starts_with(name::PACKS)).collect();
        let number = self.deeds.len();
        let (began, what) = (self.disk.step_count(), What::Destroyed(copy.clone()));
        self.deeds.push(Deed { began, ended: None, what });
        self.disk.destroy(chance.pick(&packs));
        self.deed(|this| {
            this.mend(repo, &copy)?;
            Ok(((), What::Tended, Excuse::LeftOpen))
        })?;
        self.deeds[number].ended = Some(self.disk.step_count());
        Ok(())
    }

    /// Repairs from a copy of the repository.
    fn mend(&self, repo: &Arc<Repository>, copy: &MemoryBackend) -> Result<(), Error> {
        let copy =
            RepositoryCopy::open(repo, Arc::new(copy.clone()))?.expect("the same repository");
        let options = RepairOptions {
            threads: 1,
            copies: vec![copy],
            ..RepairOptions::new(self.source.beside("state"))
        };
        let report = lastgood::repair::start(repo.clone(), options).wait(drop)?.objects;
        let lost = [report.lost, report.damaged_packs].concat();
        assert_eq!(lost, Vec::<String>::new(), "the copy has all of it");
        Ok(())
    }

    /// Copies of which something may be missing after so many steps.
    fn copies(&self, steps: usize) -> impl Iterator<Item = &MemoryBackend> {
        let begun = self.deeds.iter().filter(move |deed| deed.began < steps);
        begun.filter(move |deed| !deed.is_done(steps)).filter_map(|deed| match &deed.what {
            What::Destroyed(copy) => Some(copy),
            _ => None,
        })
    }

    fn tag(&mut self, repo: &Arc<Repository>, live: &mut Vec<SnapshotRecord>) -> Result<(), Error> {
        let old = live.pop().expect("there is one");
        let forgotten = self.deeds.len();
        let began = self.disk.step_count();
        self.deeds.push(Deed { began, ended: None, what: What::Forgotten(old.id) });
        let copy = self.deed(|this| {
            let change = TagChange { add: vec![format!("tag-{began}")], ..TagChange::default() };
            let state = this.source.beside("state");
            let copy = lastgood::snapshots::tag(repo, &state, &old, &change, "test")?;
            let lastgood::snapshots::Changed { record, unlogged } = copy.expect("the tag is new");
            let what = What::Committed(record.id, this.tree_of(old.id));
            Ok((record, what, unlogged.map_or(Excuse::None, |_| Excuse::Unlogged)))
        })?;
        self.deeds[forgotten].ended = Some(self.disk.step_count());
        live.push(copy);
        Ok(())
    }

    fn tree_of(&self, id: SnapshotId) -> Arc<Tree> {
        let tree = self.deeds.iter().find_map(|deed| match &deed.what {
            What::Committed(committed, tree) if *committed == id => Some(tree.clone()),
            _ => None,
        });
        tree.expect("it was committed")
    }

    fn forget(&mut self, repo: &Arc<Repository>, record: &SnapshotRecord) -> Result<(), Error> {
        self.removal(What::Forgotten(record.id), |_| {
            repo.retire(record, "a test forgets it", None)?;
            Ok(())
        })
    }

    /// Brings back what was forgotten, unless gc has taken something of it.
    fn undelete(
        &mut self,
        repo: &Arc<Repository>,
        record: &SnapshotRecord,
    ) -> Result<Option<SnapshotRecord>, Error> {
        self.deed(|this| {
            let state = this.source.beside("state");
            match lastgood::undelete::undelete(repo, &state, record, "test") {
                Ok(copy) => {
                    let what = What::Committed(copy.id, this.tree_of(record.id));
                    Ok((Some(copy), what, Excuse::None))
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    Ok((None, What::Tended, Excuse::LeftOpen))
                }
                Err(error) => Err(error),
            }
        })
    }

    fn add_key(&mut self, repo: &Arc<Repository>, key: u8) -> Result<(), Error> {
        self.deed(|_| {
            repo.add_key(&key_file(key), WorkFactors::DEFAULT, "another")?;
            Ok(((), What::KeyAdded(key), Excuse::None))
        })
    }

    fn remove_key(&mut self, repo: &Arc<Repository>, key: u8) -> Result<(), Error> {
        self.removal(What::KeyRemoved(key), |_| {
            repo.remove_key(repo.slot_of(&key_file(key))?)?;
            Ok(())
        })
    }

    /// Keys that open after so many steps, and those that do not.
    fn keys(&self, steps: usize) -> Keys {
        let mut keys = Keys::default();
        for deed in self.deeds.iter().filter(|deed| deed.began < steps) {
            let is_done = deed.is_done(steps);
            match deed.what {
                What::Created if is_done => keys.opening.push(0),
                What::KeyAdded(key) if is_done => keys.opening.push(key),
                What::KeyRemoved(key) => {
                    keys.opening.retain(|other| *other != key);
                    keys.removed.extend(is_done.then_some(key));
                }
                What::Rotated(key) if is_done => {
                    keys.removed.append(&mut keys.opening);
                    keys.opening.push(key);
                }
                What::Rotated(key) => {
                    keys.either.append(&mut keys.opening);
                    keys.either.push(key);
                }
                _ => {}
            }
        }
        keys
    }

    /// Everything that must hold of what a disk has that lost its power after so many steps.
    fn judge(&self, steps: usize, objects: Objects, seed: u64) -> Verdict {
        let memory = MemoryBackend::new();
        memory.replace(objects);
        let keys = self.keys(steps);
        if keys.opening.is_empty() && keys.either.is_empty() {
            // Nobody was told that there is a repository; it can be made.
            let is_there = Repository::exists(&memory).map_err(text)?;
            return if is_there {
                Ok(())
            } else {
                create(Arc::new(memory), seed).map(drop).map_err(text)
            };
        }
        let mut repo = self.judge_keys(&keys, &memory, seed)?;
        for copy in self.copies(steps) {
            self.mend(&repo, copy).map_err(text)?;
            repo = self.judge_keys(&keys, &memory, seed ^ 1 << 40)?;
        }
        let whole = self.judge_snapshots(&repo, steps)?;
        let damage = check(&repo).map_err(text)?;
        if !damage.is_empty() {
            return Err(format!("damage: {damage:?}"));
        }
        if let Some((record, tree)) = whole.filter(|_| seed.is_multiple_of(RESTORED_ONCE_IN)) {
            self.judge_restored(&repo, record, &tree)?;
        }
        let next = self.source.backup(&repo).map_err(|error| format!("next backup: {error:?}"))?;
        let copy = ObjectName::new(&name::revision(name::FIRST_REVISION)).expect("a name of ours");
        memory.stat(&copy).map_err(|why| format!("no second copy of the config: {why}"))?;
        if seed % RESTORED_ONCE_IN == 1 {
            self.judge_restored(&repo, next, &Tree::of(&self.source.path()))?;
        }
        if seed % COLLECTED_ONCE_IN == 2 {
            collect(&repo, self.source.options().settings).map_err(|why| format!("gc: {why:?}"))?;
            self.judge_snapshots(&repo, steps)?;
            let damage = check(&repo).map_err(text)?;
            if !damage.is_empty() {
                return Err(format!("damage after gc: {damage:?}"));
            }
        }
        Ok(())
    }

    /// What should open a repository does, and nothing else. A rotation that was interrupted is
    /// finished in every other state, and then only the newest key opens.
    fn judge_keys(
        &self,
        keys: &Keys,
        memory: &MemoryBackend,
        seed: u64,
    ) -> Result<Arc<Repository>, String> {
        let open = |key: u8| open(Arc::new(memory.clone()), seed, key);
        if let Some(key) = keys.removed.iter().find(|key| open(**key).is_ok()) {
            return Err(format!("key {key} was removed and opens"));
        }
        let mut first = None;
        for &key in &keys.opening {
            let repo = open(key).map_err(|why| format!("key {key} does not open: {why:?}"))?;
            first.get_or_insert(repo);
        }
        let opened = keys.either.iter().find_map(|key| Some((*key, open(*key).ok()?)));
        let Some(repo) = first.or(opened.as_ref().map(|(_, repo)| repo.clone())) else {
            return Err(format!("none of the keys {:?} opens", keys.either));
        };
        let (Some((key, _)), true, true) =
            (opened, repo.history().is_rotation_open(), seed.is_multiple_of(2))
        else {
            return Ok(repo);
        };
        let rotated = repo.rotate(&key_file(key), WorkFactors::DEFAULT, "again").map_err(text)?;
        let opening = keys.either.iter().filter(|key| open(**key).is_ok()).count();
        match opening {
            1 => Ok(rotated.repo),
            count => Err(format!("{count} of the keys {:?} open", keys.either)),
        }
    }

    /// What was committed is live, unless it was forgotten. Returns one of them.
    fn judge_snapshots(
        &self,
        repo: &Repository,
        steps: usize,
    ) -> Result<Option<(SnapshotRecord, Arc<Tree>)>, String> {
        let live = repo.snapshots().map_err(text)?;
        if let Some(damaged) = live.damaged.first() {
            return Err(format!("damaged: {damaged:?}"));
        }
        let find = |id: SnapshotId| live.live.iter().find(|record| record.id == id);
        let mut whole = None;
        for deed in self.deeds.iter().filter(|deed| deed.is_done(steps)) {
            match &deed.what {
                What::Committed(id, tree) => match find(*id) {
                    Some(record) => whole = Some((record.clone(), tree.clone())),
                    None if self.may_be_forgotten(*id, steps) => {}
                    None => return Err(format!("committed snapshot {id} is lost")),
                },
                What::Forgotten(id) if find(*id).is_some() => {
                    return Err(format!("forgotten snapshot {id} is back"));
                }
                _ => {}
            }
        }
        Ok(whole)
    }

    fn may_be_forgotten(&self, id: SnapshotId, steps: usize) -> bool {
        let mut begun = self.deeds.iter().filter(|deed| deed.began < steps);
        begun.any(|deed| matches!(deed.what, What::Forgotten(forgotten) if forgotten == id))
    }

    fn judge_restored(
        &self,
        repo: &Arc<Repository>,
        record: SnapshotRecord,
        expected: &Tree,
    ) -> Verdict {
        let target = self.source.beside("target");
        let options = RestoreOptions {
            host_id: [7; 16],
            threads: 1,
            ..RestoreOptions::new(record, target.clone())
        };
        let restored = lastgood::restore::start(repo.clone(), options).wait(drop).map_err(text);
        let found = restored.map(|_| Tree::of(&target));
        std::fs::remove_dir_all(&target).ok();
        if &found? == expected { Ok(()) } else { Err("other files are restored".to_owned()) }
    }
}

/// Gc: everybody who is in the way is fenced, and whatever is unused in part is repacked.
fn collect(repo: &Arc<Repository>, settings: Settings) -> Result<(), Error> {
    let options = GcOptions {
        fence_after: i64::MIN,
        max_unused: MaxUnused::Bytes(0),
        settings,
        writer_name: [0xcc; 16],
        threads: 1,
        keep_reserve: false,
        exclusive: false,
    };
    let mut gc = Gc::new(repo.clone(), options);
    let plan = gc.plan(&Quiet)?;
    gc.execute(&plan, &Quiet)?;
    Ok(())
}

/// Nobody listens.
struct Quiet;

impl GcObserver for Quiet {
    fn enter(&self, _: GcPhase, _: u64) {}
    fn step(&self, _: GcPhase, _: u64) {}
    fn proceed(&self) -> Result<(), RepoError> {
        Ok(())
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// What a campaign met.
#[derive(Debug, Default)]
struct Figures {
    states: u64,
    /// States in which something was not synced, so that the seed had a choice.
    unsure: u64,
    /// Workloads in which a process was killed before.
    killed: u64,
    /// Workloads in which a sync failed before.
    failed: u64,
}

impl Figures {
    const fn and(self, other: &Self) -> Self {
        Self {
            states: self.states + other.states,
            unsure: self.unsure + other.unsure,
            killed: self.killed + other.killed,
            failed: self.failed + other.failed,
        }
    }
}

/// What happens before the power goes.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// Nothing: it goes after each step of a workload.
    Nothing,
    /// A process is killed at some step, and others go on.
    Kill,
    /// A sync fails, and others go on.
    FailedSync,
}

impl Before {
    const ALL: [Self; 3] = [Self::Nothing, Self::Kill, Self::FailedSync];

    /// A workload to which it happened, and the step from which on that shows.
    fn workload(
        self,
        seed: u64,
        mistake: Option<Mistake>,
        prepare: fn(&Repository),
    ) -> Result<(Workload, usize), String> {
        let new = || Workload { prepare, ..Workload::new(seed, mistake) };
        let mut workload = new();
        let result = workload.run();
        let (steps, syncs) = (workload.disk.step_count(), workload.disk.sync_count());
        if matches!(self, Self::Nothing) {
            return result.map(|()| (workload, 0)).map_err(text);
        }
        let mut workload = new();
        match self {
            Self::FailedSync => workload.disk.fail_sync(Chance::new(!seed).below(syncs)),
            _ => workload.disk.kill_at(Chance::new(!seed).below(steps)),
        }
        let result = workload.run();
        if result.is_ok() && !workload.unsaid.is_empty() && mistake.is_none() {
            let unsaid = &workload.unsaid;
            return Err(format!("seed {seed}, {self:?}: reported as success: {unsaid:?}"));
        }
        let first = workload.disk.step_count();
        workload.disk.restart();
        let keys = workload.keys(usize::MAX);
        if !keys.opening.is_empty() || !keys.either.is_empty() {
            let repo = workload.open(2000).map_err(text)?;
            for copy in workload.copies(usize::MAX) {
                workload.mend(&repo, copy).map_err(text)?;
            }
            for number in 1..=2 {
                let repo = workload.open(2000 + number).map_err(text)?;
                workload.backup(&repo).map_err(text)?;
                if number == 1 && seed.is_multiple_of(2) {
                    workload.collect(&repo).map_err(text)?;
                }
            }
        }
        Ok((workload, first))
    }

    /// Runs a workload and lets the power go after each step.
    fn torture(
        self,
        seed: u64,
        mistake: Option<Mistake>,
        prepare: fn(&Repository),
        figures: &mut Figures,
    ) -> Result<(), String> {
        let (workload, first) = self.workload(seed, mistake, prepare)?;
        figures.killed += u64::from(matches!(self, Self::Kill));
        figures.failed += u64::from(matches!(self, Self::FailedSync));
        for steps in first..=workload.disk.step_count() {
            // Twice where there is a choice.
            let is_unsure = workload.disk.unsynced_count(steps) > 0;
            for fate in 0..=u64::from(is_unsure) {
                figures.states += 1;
                figures.unsure += u64::from(is_unsure);
                let fate = mix(seed ^ mix(steps as u64 * 2 + fate)) >> 33;
                let objects = workload.disk.after_power_cut(steps, fate);
                workload.judge(steps, objects, fate).map_err(|why| {
                    format!("seed {seed}, {self:?}, cut after step {steps}, fate {fate}: {why}")
                })?;
            }
        }
        Ok(())
    }
}

#[test]
fn nothing_committed_is_lost_when_the_power_goes() {
    let seeds = seeds(SEEDS);
    let campaign = each_seed(seeds.clone(), |seed, figures| {
        let torture = |before: Before| before.torture(seed, None, |_| (), figures);
        let broken: Vec<String> =
            Before::ALL.into_iter().map(torture).filter_map(Result::err).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    });
    let Figures { states, unsure, killed, failed } =
        campaign.figures.iter().fold(Figures::default(), Figures::and);
    tell(&format!(
        "crash, seeds {seeds:?}: {states} states ({unsure} with unsynced writes, after {killed} \
         kills and {failed} failed syncs); seeds that lost a committed snapshot or needed a repair \
         by hand: {}",
        campaign.failed()
    ));
    campaign.end();
    assert!(unsure > states / 4 && killed > 0 && failed > 0, "{states} states, {unsure} unsure");
}

/// A mistake is seen by the campaign: in a disk, or in what is planted in a repository.
#[track_caller]
fn assert_seen(
    mistake: impl std::fmt::Debug,
    before: Before,
    disk: Option<Mistake>,
    prepare: fn(&Repository),
) {
    let seen = first_failure(0..SEEDS_PER_MISTAKE, |seed| {
        before.torture(seed, disk, prepare, &mut Figures::default())
    });
    let why = seen.as_ref().map_or("MISSED", |(_, why)| why);
    tell(&format!("seeded bug {mistake:?}: {why}"));
    assert!(seen.is_some(), "{mistake:?} was not seen");
}

/// The same, and a backend that makes a mistake: the campaign sees each of them.
#[test]
fn mistakes_with_a_disk_are_seen() {
    for (mistake, before) in [
        (Mistake::NameNotSynced, Before::Nothing),
        (Mistake::ParentNotSynced, Before::Nothing),
        (Mistake::DataNotSynced, Before::Nothing),
        (Mistake::NamedFirst, Before::Nothing),
        (Mistake::RemovalNotSynced, Before::Nothing),
        (Mistake::FailedSyncIgnored, Before::FailedSync),
        (Mistake::NothingSettled, Before::Kill),
    ] {
        assert_seen(mistake, before, Some(mistake), |_| ());
    }
}

/// The same, and a repository that makes one. Only with the feature `seeded-bugs`.
#[cfg(feature = "seeded-bugs")]
#[test]
fn mistakes_with_a_repository_are_seen() {
    use lastgood_repo::SeededBug;

    // Nothing opens what the power is cut off between.
    let slots_first: fn(&Repository) = |repo| repo.plant(SeededBug::SlotsRemovedFirst);
    assert_seen(SeededBug::SlotsRemovedFirst, Before::Nothing, None, slots_first);
    // A power cut may leave the commit, and take away the one that it names.
    let unsettled: fn(&Repository) = |repo| repo.plant(SeededBug::UnsettledNamed);
    assert_seen(SeededBug::UnsettledNamed, Before::FailedSync, None, unsettled);
}

/// One state of so many restores to files.
const RESTORED_ONCE_IN: u64 = 16;
/// One state of so many in which gc runs after the next backup.
const COLLECTED_ONCE_IN: u64 = 8;
/// More than 5,000 states.
const SEEDS: u64 = 8;
/// Some mistakes show only by chance.
const SEEDS_PER_MISTAKE: u64 = 100;
