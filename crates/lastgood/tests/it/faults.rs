//! Every call of a run to its repository fails in turn, in every way: full, out of descriptors,
//! refused, slow, broken; once or from then on; before it is done or after.
//!
//! Whatever fails: a run that says it succeeded has, one that failed says why in the right words,
//! what was committed comes back bit by bit, and the next run goes on and succeeds.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood::backup::BackupOptions;
use lastgood::check::{CheckOptions, ReadData};
use lastgood::repair::RepairOptions;
use lastgood::restore::RestoreOptions;
use lastgood::{
    ChunkerParams, Credential, Error, ErrorKind, Repository, Settings, SnapshotRecord, WorkFactors,
    system,
};
use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_backend::{Backend, ErrorKind as BackendErrorKind};
use lastgood_format::config::DELTAS;
use lastgood_format::guard::{self, Redundancy};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::Secret;
use lastgood_repo::{
    Gc, GcObserver, GcOptions, GcPhase, IndexOptions, InitOptions, MaxUnused, OpenOptions,
    RepoError, WriteSession,
};
use lastgood_testkit::campaign::{attempt, is_asked, tell};
use lastgood_testkit::chance::mix;
use lastgood_testkit::faulty::{Calls, Failure, Faulty, Moment};
use lastgood_testkit::recording::{Recording, Request};

use crate::place::{Tree, noise};

/// A source of which the repository has an older state.
struct Faults {
    folder: tempfile::TempDir,
    memory: MemoryBackend,
    credential: Credential,
    /// The repository with its first snapshot.
    before: Objects,
    first: SnapshotRecord,
    first_tree: Tree,
}

type Verdict = Result<(), String>;

impl Faults {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("sub/deeper")).unwrap();
        fs::write(source.join("stays"), noise(1, 40_000)).unwrap();
        fs::write(source.join("sub/changes"), noise(2, 90_000)).unwrap();
        fs::write(source.join("sub/goes"), noise(3, 10_000)).unwrap();
        let mut edited = noise(7, 50_000);
        fs::write(source.join("sub/edited"), &edited).unwrap();
        let memory = MemoryBackend::new();
        let init = InitOptions {
            credential: Credential::KeyFile(Secret::new([7; 32])),
            label: "test".to_owned(),
            work: WorkFactors::DEFAULT,
            chunker: ChunkerParams::Fixed { block: 16 << 10 },
        };
        let backend = Arc::new(memory.clone());
        let made =
            Repository::create(backend, system::world(), &init, OpenOptions::default()).unwrap();
        let credential = Credential::Root(made.keys().root().clone());
        // So that a chunk is stored as a change of another.
        let made = made.upgrade(&[DELTAS]).unwrap();
        let first = backup(&made, folder.path().to_owned()).unwrap();
        let first_tree = Tree::of(&source);
        let before = memory.objects();
        fs::write(source.join("sub/changes"), noise(4, 120_000)).unwrap();
        fs::remove_file(source.join("sub/goes")).unwrap();
        fs::write(source.join("sub/deeper/comes"), noise(5, 70_000)).unwrap();
        edited[20_000] ^= 1;
        fs::write(source.join("sub/edited"), &edited).unwrap();
        Self { folder, memory, credential, before, first, first_tree }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> Tree {
        Tree::of(&self.path("source"))
    }

    fn open(&self, backend: Arc<dyn Backend>) -> Result<Arc<Repository>, Error> {
        let options = OpenOptions {
            index: IndexOptions { cache: Some(self.path("cache")) },
            // What is cut off here was seen; rollback.rs is about that.
            last_seen: None,
            threads: 1,
        };
        Ok(Arc::new(Repository::open(backend, system::world(), &self.credential, options)?))
    }

    /// Opens through a faulty backend and runs; where nothing fails, returns how many calls it made.
    fn run<T>(
        &self,
        failure: Option<Failure>,
        run: impl FnOnce(Arc<Repository>) -> Result<T, Error>,
    ) -> (Result<T, Error>, u64) {
        let faulty = Arc::new(Faulty::new(Arc::new(self.memory.clone())));
        if let Some(failure) = failure {
            faulty.fail(failure);
        }
        let result = self.open(faulty.clone()).and_then(run);
        (result, faulty.call_count())
    }

    fn backup(&self, failure: Option<Failure>) -> (Result<SnapshotRecord, Error>, u64) {
        self.run(failure, |repo| backup(&repo, self.folder.path().to_owned()))
    }

    fn restores(&self, snapshot: &SnapshotRecord, expected: &Tree) -> Verdict {
        let repo = self.open(Arc::new(self.memory.clone())).map_err(|error| error.to_string())?;
        restore(&repo, snapshot, &self.path("target"), expected)
    }

    /// A backup from the state before, with a failure; then all that must hold afterwards.
    fn check_backup(&self, failure: Failure) -> Verdict {
        self.memory.replace(self.before.clone());
        let (result, _) = self.backup(Some(failure));
        match &result {
            Ok(snapshot) => self.restores(snapshot, &self.source())?,
            Err(error) => is_right_kind(failure.kind, error)?,
        }
        self.restores(&self.first, &self.first_tree)?;
        let (next, _) = self.backup(None);
        let next = next.map_err(|error| format!("the next run failed: {error:?}"))?;
        self.restores(&next, &self.source())?;
        let repo = self.open(Arc::new(self.memory.clone())).unwrap();
        let live = repo.snapshots().unwrap().live.len();
        // An outcome whose answer was lost is a commit that the run cannot know of.
        let expected = if result.is_ok() { 3..=3 } else { 2..=3 };
        if !expected.contains(&live) {
            return Err(format!("{live} snapshots"));
        }
        let damage = check(&repo).map_err(|error| error.to_string())?;
        if damage.is_empty() { Ok(()) } else { Err(format!("damage: {damage:?}")) }
    }
}

fn backup(repo: &Arc<Repository>, folder: PathBuf) -> Result<SnapshotRecord, Error> {
    let options = BackupOptions {
        host: "here".to_owned(),
        host_id: [7; 16],
        user: "me".to_owned(),
        threads: 1,
        // Small enough that several packs are put.
        settings: lastgood::Settings {
            group_bytes: 32 << 10,
            pack_bytes: 64 << 10,
            uploads: 1,
            ..Default::default()
        },
        ..BackupOptions::new(vec![folder.join("source")], folder.join("state"))
    };
    let report = lastgood::backup::start(repo.clone(), options).wait(drop)?;
    assert_eq!(report.problems.listed, [], "the source is whole");
    Ok(report.snapshot.expect("a run that succeeds commits"))
}

fn restore(
    repo: &Arc<Repository>,
    snapshot: &SnapshotRecord,
    target: &std::path::Path,
    expected: &Tree,
) -> Verdict {
    let options = RestoreOptions {
        host_id: [7; 16],
        threads: 2,
        ..RestoreOptions::new(snapshot.clone(), target.to_owned())
    };
    let report = lastgood::restore::start(repo.clone(), options).wait(drop);
    let verdict = match report {
        Err(error) => Err(format!("a snapshot does not restore: {error:?}")),
        Ok(report) if report.problems.errors > 0 || !report.damaged.is_empty() => {
            Err(format!("a snapshot restores in part: {:?}", report.problems.listed))
        }
        Ok(_) if &Tree::of(target) == expected => Ok(()),
        Ok(_) => Err("a snapshot restores to something else".to_owned()),
    };
    fs::remove_dir_all(target).ok();
    verdict
}

fn check(repo: &Arc<Repository>) -> Result<Vec<String>, Error> {
    let options = CheckOptions { read_data: ReadData::All, threads: 1 };
    Ok(lastgood::check::start(repo.clone(), options).wait(drop)?.damage)
}

/// What a caller is told to do about it fits what happened.
fn is_right_kind(cause: BackendErrorKind, error: &Error) -> Verdict {
    let expected = match cause {
        BackendErrorKind::NoSpace => ErrorKind::NoSpace,
        BackendErrorKind::TooManyOpen => ErrorKind::TooManyOpen,
        BackendErrorKind::Denied => ErrorKind::Denied,
        BackendErrorKind::Unreadable => ErrorKind::Damaged,
        _ => ErrorKind::Unavailable,
    };
    if error.kind() == expected { Ok(()) } else { Err(format!("{cause:?} became {error:?}")) }
}

/// How a call can fail.
const KINDS: [BackendErrorKind; 6] = [
    BackendErrorKind::NoSpace,
    BackendErrorKind::TooManyOpen,
    BackendErrorKind::Denied,
    BackendErrorKind::Unreadable,
    BackendErrorKind::Transient,
    BackendErrorKind::Failed,
];

/// Every failure of every one of `count` calls.
fn failures(count: u64) -> impl Iterator<Item = Failure> {
    let moments = [Moment::Before, Moment::After];
    (0..count).flat_map(move |number| {
        [Calls::One(number), Calls::From(number)].into_iter().flat_map(move |calls| {
            KINDS.into_iter().flat_map(move |kind| {
                moments.into_iter().map(move |moment| Failure { calls, moment, kind })
            })
        })
    })
}

/// Runs `verdict` for every failure of every call, or in the slice of every test run those that are
/// `meant`, and names all that broke a promise.
#[track_caller]
fn assert_meant(
    what: impl std::fmt::Display,
    count: u64,
    meant: impl Fn(usize, &Failure) -> bool,
    verdict: impl Fn(Failure) -> Verdict,
) {
    let (mut runs, mut broken) = (0, Vec::new());
    for (number, failure) in failures(count).enumerate() {
        if is_asked() || meant(number, &failure) {
            runs += 1;
            broken.extend(
                attempt(|| verdict(failure)).err().map(|why| format!("{failure:?}: {why}")),
            );
        }
    }
    tell(&format!(
        "faults, {what}: {runs} failures of {count} calls; broken promises: {}",
        broken.len()
    ));
    assert!(broken.is_empty(), "{} broken promises:\n{}", broken.len(), broken.join("\n"));
}

/// The same, and all of them are always meant.
#[track_caller]
fn assert_all(what: impl std::fmt::Display, count: u64, verdict: impl Fn(Failure) -> Verdict) {
    assert_meant(what, count, |_, _| true, verdict);
}

#[test]
fn whatever_fails_in_a_backup_nothing_is_lost_and_the_next_run_succeeds() {
    let faults = Faults::new();
    let (result, count) = faults.backup(None);
    result.unwrap();
    assert!(count >= 25, "{count} calls: what is there to fail?");
    assert_all("Backup", count, |failure| faults.check_backup(failure));
}

/// The same promises, and a backend that breaks its own: it says that it stored, and did not.
#[test]
fn a_put_that_is_lost_unnoticed_would_be_seen() {
    let faults = Faults::new();
    let count = faults.backup(None).1;
    let seen = (0..count)
        .filter(|&number| {
            let calls = Calls::One(number);
            let kind = BackendErrorKind::Failed;
            faults.check_backup(Failure { calls, moment: Moment::Unnoticed, kind }).is_err()
        })
        .count();
    tell(&format!("seeded bug PutNotDone: seen after {seen} of {count} calls"));
    assert!(seen >= 4, "packs, snapshot and outcome: {seen} of {count} calls were missed");
}

/// Objects are written once; packs before the index that names them, before the snapshot, before the
/// outcome; and cut after any of them, what was committed is whole and the next run goes on.
#[test]
fn a_run_is_in_order_and_may_be_cut_after_any_change() {
    let faults = Faults::new();
    faults.memory.replace(faults.before.clone());
    let recording = Arc::new(Recording::of_memory(&faults.memory));
    let repo = faults.open(recording.clone()).unwrap();
    let second = backup(&repo, faults.folder.path().to_owned()).unwrap();

    let calls = recording.calls();
    let mut puts: Vec<(&str, &[u8])> = Vec::new();
    for call in calls.iter().filter(|call| call.is_change()) {
        let Request::Put { name, bytes } = &call.request else { panic!("{call:?}") };
        assert!(!faults.before.contains_key(name), "{name} was there before");
        puts.push((name.as_str(), bytes));
    }
    let kinds: Vec<&str> = puts.iter().map(|(name, _)| name.split('/').next().unwrap()).collect();
    assert_eq!(kinds.first(), Some(&"sessions"));
    assert_eq!(kinds[kinds.len() - 3..], ["snapshots", "outcomes", "log"]);
    let rest = &kinds[1..kinds.len() - 3];
    assert!(rest.iter().all(|kind| matches!(*kind, "packs" | "index")), "{kinds:?}");
    for (number, (name, bytes)) in puts.iter().enumerate() {
        if name.starts_with("index/") {
            let found = guard::content(bytes, bytes.len() as u64, &|_| true).unwrap();
            for pack in IndexSegment::decode(repo.keys(), &found.content).unwrap().packs {
                let object = lastgood_format::object::name::pack(pack.session, pack.pack);
                let is_stored = puts[..number].iter().any(|(name, _)| *name == object);
                assert!(is_stored, "{name} names {object} before it is stored");
            }
        }
    }

    let source = faults.source();
    for count in 0..=recording.change_count() {
        let cut = recording.state_after(count);
        faults.memory.replace(cut.objects());
        faults.restores(&faults.first, &faults.first_tree).unwrap();
        let live = faults.open(Arc::new(cut)).unwrap().snapshots().unwrap().live;
        // Only the record of the log comes after the commit.
        let is_committed = count + 1 >= recording.change_count();
        assert_eq!(live.iter().any(|record| record.id == second.id), is_committed, "after {count}");
        let next = faults.backup(None).0.unwrap();
        faults.restores(&next, &source).unwrap();
        let repo = faults.open(Arc::new(faults.memory.clone())).unwrap();
        assert_eq!(check(&repo).unwrap(), Vec::<String>::new(), "cut after {count} changes");
    }
}

/// What a later release requires is refused by name on every open; what it only adds is not.
#[test]
fn a_feature_that_must_be_known_is_refused_by_name() {
    let faults = Faults::new();
    let repo = faults.open(Arc::new(faults.memory.clone())).unwrap();
    let name = lastgood_backend::ObjectName::new("config").unwrap();
    let with = |change: &dyn Fn(&mut lastgood_format::config::Config)| {
        let mut config = repo.config().clone();
        change(&mut config);
        let bytes = guard::guard(&config.encode(repo.keys()), Redundancy::Full);
        faults.memory.overwrite(&name, &bytes);
        faults.open(Arc::new(faults.memory.clone()))
    };
    let refused = with(&|config| config.required.push("time-travel".into())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooNew);
    let text = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("time-travel"), "{refused:?}");

    let readable = with(&|config| config.read_compatible.push("time-travel".into())).unwrap();
    restore(&readable, &faults.first, &faults.path("target"), &faults.first_tree).unwrap();
    let refused = backup(&readable, faults.folder.path().to_owned()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooNew);
    assert!(refused.to_string().contains("time-travel"), "{refused}");

    with(&|config| config.optional.push("time-travel".into())).unwrap();
    faults.backup(None).0.unwrap();
}

#[test]
fn whatever_fails_in_a_restore_it_never_claims_success() {
    let faults = Faults::new();
    let target = faults.path("target");
    let restore = |failure: Option<Failure>| {
        let (result, count) = faults.run(failure, |repo| {
            let mut snapshots = repo.snapshots()?;
            let damaged = snapshots.damaged.pop();
            let Some(snapshot) = snapshots.live.pop() else {
                return Err(damaged.expect("it was committed").into());
            };
            let options = RestoreOptions {
                host_id: [7; 16],
                threads: 1,
                ..RestoreOptions::new(snapshot, target.clone())
            };
            lastgood::restore::start(repo, options).wait(drop)
        });
        let is_whole = target.exists() && Tree::of(&target) == faults.first_tree;
        fs::remove_dir_all(&target).ok();
        (result, is_whole, count)
    };
    let (result, is_whole, count) = restore(None);
    assert!(result.is_ok() && is_whole);
    assert_all("Restore", count, |failure| match restore(Some(failure)) {
        (Ok(report), false, _) if report.problems.errors == 0 && report.damaged.is_empty() => {
            Err("it claims success".to_owned())
        }
        (Ok(_), _, _) => Ok(()),
        (Err(error), _, _) => is_right_kind(failure.kind, &error),
    });
}

#[test]
fn whatever_fails_in_a_check_it_calls_nothing_damaged_that_may_be_whole() {
    let faults = Faults::new();
    let check = |failure| faults.run(failure, |repo| check(&repo));
    let (damage, count) = check(None);
    assert_eq!(damage.unwrap(), Vec::<String>::new());
    assert_all("Check", count, |failure| {
        let may_pass =
            matches!(failure.kind, BackendErrorKind::TooManyOpen | BackendErrorKind::Transient);
        match check(Some(failure)).0 {
            Ok(damage) if may_pass && !damage.is_empty() => Err(format!("{damage:?}")),
            Ok(_) => Ok(()),
            Err(error) => is_right_kind(failure.kind, &error),
        }
    });
}

/// What is done to a repository beside storing and restoring.
#[derive(Debug, Clone, Copy)]
enum Tending {
    Forget,
    Undelete,
    Gc,
    Repair,
}

/// A repository with a snapshot that stays, one that is to be forgotten, one that was forgotten, and
/// an object with a wrong bit.
struct Tended {
    faults: Faults,
    stays: (SnapshotRecord, Tree),
    goes: SnapshotRecord,
    gone: (SnapshotRecord, Tree),
}

impl Tended {
    fn new() -> Self {
        let mut faults = Faults::new();
        faults.memory.replace(faults.before.clone());
        let gone = (faults.first.clone(), faults.first_tree.clone());
        let goes = faults.backup(None).0.unwrap();
        fs::write(faults.path("source/sub/deeper/comes"), noise(6, 60_000)).unwrap();
        let stays = (faults.backup(None).0.unwrap(), faults.source());
        let repo = faults.open(Arc::new(faults.memory.clone())).unwrap();
        repo.retire(&gone.0, "a test", None).unwrap();
        // A pack that the snapshot needs which stays.
        let objects = faults.memory.objects();
        let (name, bytes) =
            objects.iter().find(|(name, _)| name.as_str().starts_with("packs/")).unwrap();
        let mut rotten = bytes.to_vec();
        let middle = rotten.len() / 2;
        rotten[middle] ^= 4;
        faults.memory.overwrite(name, &rotten);
        faults.before = faults.memory.objects();
        Self { faults, stays, goes, gone }
    }

    /// Does it; returns whether all of it was done.
    fn tend(&self, tending: Tending, repo: &Arc<Repository>) -> Result<bool, Error> {
        let state = self.faults.path("state");
        match tending {
            Tending::Forget => Ok(repo.retire(&self.goes, "a test", None).map(|_| true)?),
            Tending::Undelete => {
                lastgood::undelete::undelete(repo, &state, &self.gone.0, "test").map(|_| true)
            }
            Tending::Gc => {
                let options = GcOptions {
                    fence_after: i64::MIN,
                    max_unused: MaxUnused::Bytes(0),
                    settings: Settings { uploads: 0, ..Settings::default() },
                    writer_name: [3; 16],
                    exclusive: false,
                    threads: 1,
                    keep_reserve: false,
                };
                let mut gc = Gc::new(repo.clone(), options);
                let plan = gc.plan(&Quiet)?;
                Ok(gc.execute(&plan, &Quiet)?.problems.is_empty())
            }
            Tending::Repair => {
                let options = RepairOptions { threads: 1, ..RepairOptions::new(state) };
                let report = lastgood::repair::start(repo.clone(), options).wait(drop)?;
                Ok(!report.has_losses() && report.objects.damaged_packs.is_empty())
            }
        }
    }

    /// Does it with a failure; then all that must hold afterwards, and it can be done again.
    fn check(&self, tending: Tending, failure: Failure) -> Verdict {
        self.faults.memory.replace(self.faults.before.clone());
        let (result, _) = self.faults.run(Some(failure), |repo| self.tend(tending, &repo));
        match &result {
            Ok(is_done) => self.is_done(tending, *is_done)?,
            Err(error) => is_right_kind(failure.kind, error)?,
        }
        self.faults.restores(&self.stays.0, &self.stays.1)?;
        let (again, _) = self.faults.run(None, |repo| self.tend(tending, &repo));
        let again = again.map_err(|error| format!("again: {error:?}"))?;
        if !again {
            return Err("again: not all of it could be done".to_owned());
        }
        self.is_done(tending, again)?;
        self.faults.restores(&self.stays.0, &self.stays.1)?;
        let repo = self.faults.open(Arc::new(self.faults.memory.clone())).unwrap();
        let damage = check(&repo).map_err(|error| error.to_string())?;
        if damage.is_empty() { Ok(()) } else { Err(format!("damage: {damage:?}")) }
    }

    /// What says that it was done was done.
    fn is_done(&self, tending: Tending, all: bool) -> Verdict {
        let repo = self.faults.open(Arc::new(self.faults.memory.clone())).unwrap();
        let live = repo.snapshots().map_err(|error| error.to_string())?.live;
        let is_so = match tending {
            Tending::Forget => !live.iter().any(|record| record.id == self.goes.id),
            Tending::Undelete => {
                let back = live.iter().find(|it| it.snapshot.original == Some(self.gone.0.id));
                let back = back.ok_or("it is not back")?;
                return self.faults.restores(back, &self.gone.1);
            }
            Tending::Gc => true,
            Tending::Repair => {
                let options = CheckOptions { read_data: ReadData::All, threads: 1 };
                let report = lastgood::check::start(repo, options).wait(drop);
                !all || report.is_ok_and(|report| report.mendable.is_empty())
            }
        };
        if is_so { Ok(()) } else { Err(format!("{tending:?} was not done")) }
    }
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

/// In the slice of every run, one failure of each call; in the campaign, all of them.
fn tended_without_loss(tending: Tending) {
    let tended = Tended::new();
    tended.faults.memory.replace(tended.faults.before.clone());
    let (result, count) = tended.faults.run(None, |repo| tended.tend(tending, &repo));
    assert!(result.unwrap(), "all of it is done when nothing fails");
    let per_call = failures(1).count();
    let is_meant = |number, _: &Failure| {
        number % per_call == mix(number as u64 / per_call as u64) as usize % per_call
    };
    assert_meant(format!("{tending:?}"), count, is_meant, |failure| tended.check(tending, failure));
}

#[test]
fn whatever_fails_in_forget_nothing_is_lost() {
    tended_without_loss(Tending::Forget);
}

#[test]
fn whatever_fails_in_undelete_nothing_is_lost() {
    tended_without_loss(Tending::Undelete);
}

#[test]
fn whatever_fails_in_gc_nothing_is_lost() {
    tended_without_loss(Tending::Gc);
}

#[test]
fn whatever_fails_in_repair_nothing_is_lost() {
    tended_without_loss(Tending::Repair);
}

/// A repository of which the root is about to be rotated, with a run at work.
struct Rotated {
    faults: Faults,
    new: Credential,
}

impl Rotated {
    fn new() -> Self {
        let mut faults = Faults::new();
        faults.memory.replace(faults.before.clone());
        let repo = faults.open(Arc::new(faults.memory.clone())).unwrap();
        let session = WriteSession::begin(&repo, Settings::default(), &[9; 16]).unwrap();
        faults.before = faults.memory.objects();
        drop(session);
        Self { faults, new: Credential::KeyFile(Secret::new([8; 32])) }
    }

    fn open(&self, credential: &Credential) -> Result<Arc<Repository>, Error> {
        let backend = Arc::new(self.faults.memory.clone());
        let options = OpenOptions::default();
        Ok(Arc::new(Repository::open(backend, system::world(), credential, options)?))
    }

    /// What must hold of a rotation that ended somehow: one of the keys opens the repository,
    /// another rotation is all that it takes, and all of it is as if nothing had happened.
    fn check(&self, is_done: bool) -> Verdict {
        let opened = match self.open(&self.new) {
            Ok(repo) => repo,
            Err(error) if is_done => return Err(format!("the new key is refused: {error:?}")),
            Err(_) => self
                .open(&self.faults.credential)
                .map_err(|error| format!("neither key opens it: {error:?}"))?,
        };
        let is_resumed = opened.history().is_rotation_open();
        if is_done && is_resumed {
            return Err("it says that it is done, and is not".to_owned());
        }
        let newer = Credential::KeyFile(Secret::new([9; 32]));
        let next = lastgood::keys::rotate(&opened, &newer, "newer")
            .map_err(|error| format!("the next rotation failed: {error:?}"))?;
        let key = if is_resumed { &self.new } else { &newer };
        for old in [&self.faults.credential, &newer, &self.new] {
            if !std::ptr::eq(old, key) && self.open(old).is_ok() {
                return Err("another key still opens it".to_owned());
            }
        }
        let repo = self.open(key).map_err(|error| format!("the key is refused: {error:?}"))?;
        if next.recovery_code != lastgood_format::slot::recovery_code(repo.keys().root()) {
            return Err("another recovery code was shown".to_owned());
        }
        let Faults { folder, first, first_tree, .. } = &self.faults;
        let target = self.faults.path("target");
        restore(&repo, first, &target, first_tree)?;
        let second = backup(&repo, folder.path().to_owned())
            .map_err(|error| format!("the next run failed: {error:?}"))?;
        restore(&repo, &second, &target, &self.faults.source())?;
        let damage = check(&repo).map_err(|error| error.to_string())?;
        if damage.is_empty() { Ok(()) } else { Err(format!("damage: {damage:?}")) }
    }
}

#[test]
fn whatever_fails_in_a_rotation_a_key_opens_it_and_the_next_one_finishes() {
    let rotated = Rotated::new();
    let faults = &rotated.faults;
    let rotate = |failure| {
        faults.memory.replace(faults.before.clone());
        faults.run(failure, |repo| lastgood::keys::rotate(&repo, &rotated.new, "new"))
    };
    let (result, count) = rotate(None);
    assert_eq!(result.unwrap().fenced.len(), 1);
    rotated.check(true).unwrap();
    let is_meant = |_, failure: &Failure| failure.kind == BackendErrorKind::Transient;
    assert_meant("Rotation", count, is_meant, |failure| {
        let (result, _) = rotate(Some(failure));
        if let Err(error) = &result {
            is_right_kind(failure.kind, error)?;
        }
        rotated.check(result.is_ok())
    });
}

#[test]
fn a_rotation_may_be_cut_after_any_change() {
    let rotated = Rotated::new();
    let faults = &rotated.faults;
    faults.memory.replace(faults.before.clone());
    let recording = Arc::new(Recording::of_memory(&faults.memory));
    let repo = faults.open(recording.clone()).unwrap();
    lastgood::keys::rotate(&repo, &rotated.new, "new").unwrap();
    let count = recording.change_count();
    assert!(count >= 5, "slot, revision, old slot, fence, revision: {count} changes");
    for at in 0..=count {
        faults.memory.replace(recording.state_after(at).objects());
        rotated.check(at == count).unwrap_or_else(|why| panic!("cut after {at} changes: {why}"));
    }
}
