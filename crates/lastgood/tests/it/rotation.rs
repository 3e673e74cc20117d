//! The root secret is rotated, and features are added: what was stored stays readable, dedup goes
//! on, and nothing that old keys make afterwards counts.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lastgood::check::{CheckOptions, ReadData};
use lastgood::system::{Home, world};
use lastgood::{Credential, ErrorKind, Repository, keys, opening, parse_recovery_code};
use lastgood_repo::format::object::name;
use lastgood_repo::{RepoErrorKind, Settings, WriteSession};

use crate::place::{Place, Tree};

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
    // What was there when the root was rotated is in the power of the keys of then.
    assert!(snapshots.retired.iter().any(|record| record.id == first.id));
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
