//! The root secret is rotated, and features are added: what was stored stays readable, dedup goes
//! on, and nothing that old keys make afterwards counts.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lastgood::check::{CheckOptions, ReadData};
use lastgood::system::{Home, world};
use lastgood::{Credential, ErrorKind, Repository, keys, opening, parse_recovery_code};
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, BackendError, Listed, ObjectName, PutOutcome};
use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::key::Secret;
use lastgood_repo::format::object::name;
use lastgood_repo::format::slot::WorkFactors;
use lastgood_repo::{InitOptions, OpenOptions, RepoErrorKind, Settings, WriteSession};

use crate::place::{Place, Tree, noise};

fn credential(place: &Place, file: &str) -> Credential {
    opening::write_key_file(&place.path(file), &world()).unwrap()
}

fn open(place: &Place, credential: &Credential) -> Result<Arc<Repository>, lastgood::Error> {
    opening::open(&place.home.default_repository(), &place.home, world(), credential)
}

fn old_root(place: &Place) -> Credential {
    Credential::Root(place.repo.keys().root().clone())
}

fn is_whole(repo: &Arc<Repository>) {
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = lastgood::check::start(repo.clone(), options).wait(|_| {}).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
}

#[test]
fn a_rotated_root_opens_everything_and_an_old_one_nothing() {
    let mut place = Place::new();
    fs::write(place.source().join("large"), vec![7; 3 << 20]).unwrap();
    fs::write(place.source().join("small"), "one").unwrap();
    let (_, first) = place.backup();
    let before = Tree::of(&place.source());
    let (old_root, old_file) = (old_root(&place), place.home.default_key_file());
    let old_key = opening::read_key_file(&old_file).unwrap();

    let key = credential(&place, "new-key");
    let rotation = keys::rotate(&place.repo, &key, "new").unwrap();
    assert_eq!((rotation.removed.len(), rotation.fenced.len()), (1, 0));
    for old in [&old_root, &old_key] {
        assert_eq!(open(&place, old).unwrap_err().kind(), ErrorKind::WrongKey);
    }
    let code = Credential::Root(parse_recovery_code(&rotation.recovery_code).unwrap());
    assert!(open(&place, &code).is_ok());

    // A run that holds the old keys writes nothing more.
    let report = lastgood::backup::start(place.repo.clone(), place.options()).wait(|_| {});
    assert_eq!(report.unwrap_err().kind(), ErrorKind::Conflict);

    place.repo = open(&place, &key).unwrap();
    fs::write(place.source().join("small"), "two").unwrap();
    let (report, second) = place.backup();
    assert!(report.totals.bytes_added < 1 << 20, "what was stored stays known: {report:?}");
    place.check_restores(&first, &before);
    place.check_restores(&second, &Tree::of(&place.source()));
    is_whole(&place.repo);

    // And once more.
    let newer = credential(&place, "newer-key");
    place.repo = keys::rotate(&place.repo, &newer, "newer").unwrap().repo;
    place.check_restores(&first, &before);
    place.check_restores(&second, &Tree::of(&place.source()));
    is_whole(&place.repo);
    assert_eq!(open(&place, &key).unwrap_err().kind(), ErrorKind::WrongKey);
}

#[test]
fn what_old_keys_sign_after_a_rotation_does_not_count() {
    let place = Place::new();
    fs::write(place.source().join("file"), "mine").unwrap();
    let (_, first) = place.backup();
    // The thief has the old root, and a copy of the repository as it was.
    let thief = place.path("thief");
    copy(&place.home.default_repository(), &thief);
    let old_root = old_root(&place);
    let key = credential(&place, "new-key");
    let repo = keys::rotate(&place.repo, &key, "new").unwrap().repo;

    let at = |name: &str| place.path(name);
    let home = Home { data: at("data-2"), cache: at("cache-2"), state: place.home.state.clone() };
    fs::remove_file(home.state.join(repo.config().repository.to_string()).join("last-seen"))
        .unwrap();
    let forging = opening::open(&thief, &home, world(), &old_root).unwrap();
    fs::write(place.source().join("file"), "the thief's").unwrap();
    let report = lastgood::backup::start(forging.clone(), place.options()).wait(|_| {}).unwrap();
    let forged = report.snapshot.unwrap();
    forging.retire(&first, "gone", None).unwrap();
    copy(&thief, &place.home.default_repository());

    let repo = open(&place, &key).map(|_| repo).unwrap();
    let snapshots = repo.snapshots().unwrap();
    let live: Vec<_> = snapshots.live.iter().map(|record| record.id).collect();
    assert!(!live.contains(&forged.id), "a snapshot of the thief is taken for ours");
    assert_eq!(snapshots.damaged.len(), 1, "it is reported");
    assert!(live.contains(&first.id) && snapshots.retired.is_empty(), "the thief retires nothing");
    // Who wants to forget it now is told that he cannot.
    assert_eq!(repo.retire(&first, "it is old", None).unwrap_err().kind(), RepoErrorKind::Damaged);
    fs::write(place.source().join("file"), "another").unwrap();
    let report = lastgood::backup::start(repo.clone(), place.options()).wait(|_| {}).unwrap();
    let old = [first.clone(), report.snapshot.unwrap()].map(|it| (it, "it is old".to_owned()));
    assert!(repo.retire_all(&old, 1, &|| true).is_err());
    assert!(repo.snapshots().unwrap().retired.iter().any(|it| it.id == old[1].0.id));
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = lastgood::check::start(repo.clone(), options).wait(|_| {}).unwrap();
    let kinds = ["snapshots/", "log/", "index/"];
    let is_reported = |kind: &str| report.damage.iter().any(|damage| damage.starts_with(kind));
    assert!(kinds.into_iter().all(is_reported), "{:?}", report.damage);
    assert_eq!(report.damage.len(), kinds.len(), "{:?}", report.damage);
    // What is in his packs counts as unknown.
    fs::write(place.source().join("file"), "the thief's").unwrap();
    let report = lastgood::backup::start(repo.clone(), place.options()).wait(|_| {}).unwrap();
    assert!(report.totals.bytes_added > 0, "{report:?}");
    let options = lastgood::restore::RestoreOptions::new(first, at("back"));
    lastgood::restore::start(repo, options).wait(|_| {}).unwrap();
    assert_eq!(fs::read(at("back").join("file")).unwrap(), b"mine");
}

/// What snapshots from before name is what it was, so an index that is lost after a rotation is made
/// again of all of it.
#[test]
fn an_index_that_is_lost_after_a_rotation_is_made_again() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), noise(1, 3 << 20)).unwrap();
    place.backup();
    let key = credential(&place, "new-key");
    place.repo = keys::rotate(&place.repo, &key, "new").unwrap().repo;
    fs::write(place.source().join("file"), noise(2, 3 << 20)).unwrap();
    place.backup();
    let segments = fs::read_dir(place.home.default_repository().join("index")).unwrap();
    segments.for_each(|segment| fs::remove_file(segment.unwrap().path()).unwrap());
    place.repo = open(&place, &key).unwrap();
    fs::write(place.source().join("file"), noise(1, 3 << 20)).unwrap();
    let (report, _) = place.backup();
    assert!(report.totals.bytes_added < 1 << 20, "what was stored before is known: {report:?}");
    let options = CheckOptions { read_data: ReadData::No, threads: 2 };
    let report = lastgood::check::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    assert_eq!((report.damage, report.remarks), (Vec::new(), Vec::new()));
}

#[test]
fn what_was_forgotten_before_a_rotation_can_come_back_after_it() {
    let place = Place::new();
    fs::write(place.source().join("file"), "one").unwrap();
    let (_, first) = place.backup();
    fs::write(place.source().join("file"), "two").unwrap();
    let (_, second) = place.backup();
    place.repo.retire(&first, "no rule keeps it", None).unwrap();
    let key = credential(&place, "new-key");
    let repo = keys::rotate(&place.repo, &key, "new").unwrap().repo;
    let snapshots = repo.snapshots().unwrap();
    assert_eq!((snapshots.live, snapshots.retired), (vec![second], vec![first.clone()]));
    assert!(snapshots.damaged.is_empty());
    let back = lastgood::undelete::undelete(&repo, &place.home.state, &first, "a test").unwrap();
    assert_eq!(back.snapshot.tree, first.snapshot.tree);
    is_whole(&repo);
}

/// Whoever may add objects stops nobody: what is no revision is passed over, said, and ended by the
/// next revision.
#[test]
fn garbage_in_the_place_of_a_revision_locks_nobody_out() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), "one").unwrap();
    let (_, first) = place.backup();
    let key = credential(&place, "new-key");
    let put = |number: u64, bytes: &[u8]| {
        let folder = place.home.default_repository();
        fs::write(folder.join(name::revision(number)), bytes).unwrap();
    };
    // Whole, and signed by nobody; and so much damaged that it might have been anything.
    let whole = fs::read(place.home.default_repository().join(name::CONFIG)).unwrap();
    put(2, &whole);
    // The run that was at work goes on.
    lastgood::backup::start(place.repo.clone(), place.options()).wait(|_| {}).unwrap();
    place.reopen();
    assert_eq!(place.repo.passed_over(), [name::revision(2)]);
    let state = place.home.state.clone();
    let collect = |repo: &Arc<Repository>| {
        let options = lastgood::gc::GcOptions {
            state: state.clone(),
            max_unused: lastgood::gc::MaxUnused::Any,
            fence_after: i64::MAX,
            exclusive: false,
            settings: Settings::default(),
            keep_reserve: false,
            dry_run: false,
        };
        lastgood::gc::start(repo.clone(), options).wait(|_| {})
    };
    collect(&place.repo).unwrap();
    fs::write(place.home.default_repository().join(name::revision(3)), b"garbage").unwrap();
    place.reopen();
    fs::write(place.source().join("file"), "two").unwrap();
    let (_, second) = place.backup();
    // Nothing is removed by who may not know what there is to know.
    assert_eq!(collect(&place.repo).unwrap_err().kind(), ErrorKind::Damaged);
    let options = CheckOptions { read_data: ReadData::No, threads: 2 };
    let report = lastgood::check::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);

    let plan = keys::plan_rotation(&place.repo).unwrap();
    assert_eq!(plan.passed_over, [name::revision(2), name::revision(3)]);
    let repo = keys::rotate(&place.repo, &key, "new").unwrap().repo;
    assert_eq!(repo.history().number(), 5, "the rotation is 4");
    place.repo = open(&place, &key).unwrap();
    assert!(place.repo.passed_over().is_empty());
    is_whole(&place.repo);
    collect(&place.repo).unwrap();
    let live: Vec<_> = place.repo.snapshots().unwrap().live.iter().map(|it| it.id).collect();
    assert!(live.contains(&first.id) && live.contains(&second.id));
    // With the rotation damaged, the key that is right is not called wrong.
    fs::write(place.home.default_repository().join(name::revision(4)), b"damage").unwrap();
    let last_seen = state.join(place.repo.config().repository.to_string()).join("last-seen");
    fs::remove_file(last_seen).unwrap();
    assert_eq!(open(&place, &key).unwrap_err().kind(), ErrorKind::Damaged);
}

/// A store on which the last one who puts a name wins.
#[derive(Debug)]
struct Overwriting(MemoryBackend);

impl Backend for Overwriting {
    fn location(&self) -> &str {
        self.0.location()
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        self.0.put(name, parts)?;
        self.0.overwrite(name, &parts.concat());
        Ok(PutOutcome::Created)
    }
    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.0.get(name, bytes_max)
    }
    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        self.0.get_range(name, range, out)
    }
    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.0.stat(name)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.0.list(prefix, visit)
    }
    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.0.remove(name)
    }
    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.0.settle(prefix)
    }
}

#[test]
fn where_two_could_rotate_at_once_nobody_may() {
    let memory = MemoryBackend::new();
    let init = InitOptions {
        credential: Credential::KeyFile(Secret::new([7; 32])),
        label: "a key".to_owned(),
        work: WorkFactors::DEFAULT,
        chunker: ChunkerParams::Fixed { block: 65_536 },
    };
    let store = Arc::new(Overwriting(memory.clone()));
    let repo = Repository::create(store, world(), &init, OpenOptions::default()).unwrap();
    let before = memory.objects();
    let error = keys::rotate(&repo, &init.credential, "new").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let names: Vec<&str> =
        keys::features(&repo).into_iter().map(|(feature, _)| feature.name).collect();
    assert_eq!(keys::upgrade(&repo, &names).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(memory.objects(), before);
}

/// Copies what is not there yet, as a store would take it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if !target.exists() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_rotation_that_was_interrupted_is_finished_by_the_next() {
    let place = Place::new();
    fs::write(place.source().join("file"), "content").unwrap();
    let (_, first) = place.backup();
    // A run that is at work holds the old keys.
    let session = WriteSession::begin(&place.repo, Settings::default(), &[9; 16]).unwrap();
    let key = credential(&place, "new-key");
    let rotation = keys::rotate(&place.repo, &key, "new").unwrap();
    assert_eq!(rotation.fenced, [session.id()]);
    drop(session);
    // As if it had died before it put the last revision.
    let closing = name::revision(rotation.repo.history().number());
    fs::remove_file(place.home.default_repository().join(&closing)).unwrap();
    let last_seen = place.home.state.join(rotation.repo.config().repository.to_string());
    let lost = open(&place, &key).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Damaged, "a revision that was seen is missed: {lost}");
    fs::remove_file(last_seen.join("last-seen")).unwrap();

    let repo = open(&place, &key).unwrap();
    assert!(repo.history().is_rotation_open());
    let plan = keys::plan_rotation(&repo).unwrap();
    assert!(plan.is_resumed && plan.slots.is_empty() && plan.sessions.is_empty());
    let finished = keys::rotate(&repo, &key, "new").unwrap();
    assert_eq!(*finished.recovery_code, *rotation.recovery_code, "no other root is drawn");
    assert!(!finished.repo.history().is_rotation_open());
    assert_eq!(finished.repo.snapshots().unwrap().live, [first]);
}

#[test]
fn a_golden_repository_is_upgraded_and_reads_as_before() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/1/lastgood-0.1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    copy(&fixture.join("repository"), &path);
    let at = |name: &str| folder.path().join(name);
    let home = Home { data: at("data"), cache: at("cache"), state: at("state") };
    let code = fs::read_to_string(fixture.join("recovery-code")).unwrap();
    let credential = Credential::Root(parse_recovery_code(&code).unwrap());
    let repo = opening::open(&path, &home, world(), &credential).unwrap();
    let features = keys::features(&repo);
    assert!(features.iter().all(|(_, has)| !has), "the fixture is of the first release");
    let names: Vec<&str> = features.iter().map(|(feature, _)| feature.name).collect();
    assert_eq!(keys::upgrade(&repo, &["faster"]).unwrap_err().kind(), ErrorKind::Invalid);
    keys::upgrade(&repo, &names).unwrap();
    // Nobody goes on without knowing of them.
    let error = WriteSession::begin(&repo, Settings::default(), &[9; 16]).unwrap_err();
    assert_eq!(error.kind(), RepoErrorKind::Fenced);
    let repo = opening::open(&path, &home, world(), &credential).unwrap();
    assert!(keys::features(&repo).iter().all(|(_, has)| *has));
    is_whole(&repo);
    assert_eq!(repo.snapshots().unwrap().live.len(), 2);
    let rotated = keys::rotate(&repo, &opening::write_key_file(&at("key"), &world()).unwrap(), "x");
    is_whole(&rotated.unwrap().repo);
}
