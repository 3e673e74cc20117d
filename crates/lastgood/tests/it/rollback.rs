//! A repository that lost or replaced a snapshot that somebody knows of is not written to; what
//! happens in the normal course of things never looks like that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::check::{CheckOptions, CheckReport, ReadData};
use lastgood::snapshots::{Filter, Missing, SeenBy, TagChange};
use lastgood::system::{Home, world};
use lastgood::{ErrorKind, Repository, SnapshotRecord, snapshots};
use lastgood_format::gc::Retired;
use lastgood_format::guard::{Redundancy, guard};

use crate::place::Place;

/// Another user of the same repository, who has seen nothing yet.
fn stranger(place: &Place, name: &str) -> Home {
    Home { state: place.path(name), cache: place.path(name).join("cache"), ..place.home.clone() }
}

fn open(home: &Home) -> Arc<Repository> {
    lastgood::opening::open_default(home, world(), "test").unwrap().repo
}

fn object(place: &Place, name: &str) -> PathBuf {
    place.home.data.join("repository").join(name)
}

fn change(place: &Place, number: u32) {
    fs::write(place.source().join("file"), format!("version {number}")).unwrap();
}

/// Backs up as whoever `home` is; tells what is missing when that is refused.
fn backup(place: &Place, home: &Home) -> Result<SnapshotRecord, Vec<Missing>> {
    let repo = open(home);
    let options = lastgood::backup::BackupOptions { state: home.state.clone(), ..place.options() };
    match lastgood::backup::start(repo.clone(), options).wait(|_| {}) {
        Ok(report) => Ok(report.snapshot.unwrap()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::RolledBack, "{error}");
            let missing = snapshots::what_is_missing(&repo);
            for missing in &missing {
                assert!(error.to_string().contains(&missing.to_string()), "{error}");
            }
            Err(missing)
        }
    }
}

/// Asserts that everything but writing goes on, and says what is missing.
fn check_refused(place: &Place, home: &Home, lost: &SnapshotRecord, seen_by: SeenBy) {
    let missing = backup(place, home).unwrap_err();
    let found = missing.iter().find(|missing| missing.head.snapshot == lost.id).unwrap();
    assert_eq!((found.head.sequence, found.seen_by), (lost.snapshot.chain.sequence, seen_by));
    let repo = open(home);
    let (live, problems) = snapshots::list(&repo, &Filter::default()).unwrap();
    assert!(problems.iter().any(|problem| problem.kind() == ErrorKind::RolledBack));
    assert!(live.iter().all(|record| record.id != lost.id));
    for record in &live {
        let options = lastgood::restore::RestoreOptions::new(record.clone(), place.path("back"));
        lastgood::restore::start(repo.clone(), options).wait(|_| {}).unwrap();
        let change = TagChange { add: vec!["x".into()], ..TagChange::default() };
        let tagged = snapshots::tag(&repo, &home.state, record, &change, "test");
        assert_eq!(tagged.unwrap_err().kind(), ErrorKind::RolledBack);
    }
    let damage = check(&repo).damage;
    assert!(damage.iter().any(|line| line.contains(&lost.id.to_string())), "{damage:?}");
}

fn check(repo: &Arc<Repository>) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::No, threads: 1 };
    lastgood::check::start(repo.clone(), options).wait(|_| {}).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if !target.exists() {
            fs::copy(&path, target).unwrap();
        }
    }
}

fn replace(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy(from, to);
}

#[test]
fn a_removed_snapshot_or_commit_is_missed_until_its_loss_is_accepted() {
    for kinds in [&["snapshots"][..], &["outcomes"], &["snapshots", "outcomes"]] {
        let place = Place::new();
        change(&place, 1);
        place.backup();
        change(&place, 2);
        let (_, newest) = place.backup();
        for kind in kinds {
            let name = match *kind {
                "outcomes" => format!("outcomes/{}", newest.snapshot.session),
                kind => format!("{kind}/{}", newest.id),
            };
            fs::remove_file(object(&place, &name)).unwrap();
        }
        check_refused(&place, &place.home, &newest, SeenBy::ThisHost);
        let accepted = snapshots::accept_missing(&open(&place.home), "me").unwrap();
        assert_eq!(accepted.len(), 1);
        let next = backup(&place, &place.home).unwrap();
        assert_eq!(next.snapshot.chain.sequence, newest.snapshot.chain.sequence + 1);
        assert_eq!(check(&open(&place.home)).damage, Vec::<String>::new());
        // For whoever comes new, too.
        backup(&place, &stranger(&place, "stranger")).unwrap();
    }
}

#[test]
fn an_old_view_of_the_repository_is_refused() {
    let place = Place::new();
    change(&place, 1);
    place.backup();
    let old = place.path("old");
    copy(&object(&place, ""), &old);
    change(&place, 2);
    let (_, second) = place.backup();
    change(&place, 3);
    let (_, third) = place.backup();
    let new = place.path("new");
    copy(&object(&place, ""), &new);
    replace(&old, &object(&place, ""));
    check_refused(&place, &place.home, &third, SeenBy::ThisHost);
    // When the store comes back to itself, so does everything else.
    replace(&new, &object(&place, ""));
    let next = backup(&place, &place.home).unwrap();
    assert_eq!(next.snapshot.chain.previous, Some(third.id));
    assert_ne!(second.id, third.id);
}

#[test]
fn a_snapshot_in_the_place_of_another_is_told_and_a_fork_loses_nothing() {
    let place = Place::new();
    change(&place, 1);
    place.backup();
    // A clone of the host and its repository, which goes on in its own way.
    let before = place.path("before");
    copy(&object(&place, ""), &before);
    let clone = stranger(&place, "clone");
    copy(&place.home.state, &clone.state);
    change(&place, 2);
    let (_, ours) = place.backup();
    let after = place.path("after");
    copy(&object(&place, ""), &after);
    replace(&before, &object(&place, ""));
    change(&place, 3);
    let theirs = backup(&place, &clone).unwrap();
    let chain = &theirs.snapshot.chain;
    assert_eq!((chain.writer, chain.sequence), (ours.snapshot.chain.writer, 2));
    let missing = backup(&place, &place.home).unwrap_err();
    assert_eq!(missing[0].head.snapshot, ours.id);
    assert_eq!(missing[0].instead, Some(theirs.id));
    // Both in one repository: nothing is lost, and check tells.
    copy(&after, &object(&place, ""));
    backup(&place, &place.home).unwrap();
    let report = check(&open(&place.home));
    // Only one of the two can have noted its run under the next number of the one log.
    assert!(report.damage.iter().all(|line| line.starts_with("log/")), "{report:?}");
    assert!(report.remarks.iter().any(|remark| remark.contains("cloned")), "{report:?}");
}

#[test]
fn who_never_saw_a_snapshot_misses_it_when_another_writer_did() {
    let place = Place::new();
    change(&place, 1);
    let (_, first) = place.backup();
    let other = stranger(&place, "other");
    let witness = backup(&place, &other).unwrap();
    assert_ne!(witness.snapshot.chain.writer, first.snapshot.chain.writer);
    fs::remove_file(object(&place, &format!("snapshots/{}", first.id))).unwrap();
    let new = stranger(&place, "new");
    check_refused(&place, &new, &first, SeenBy::Snapshot(witness.id));
}

#[test]
fn only_a_record_of_the_maintenance_key_for_this_snapshot_explains_its_absence() {
    let place = Place::new();
    change(&place, 1);
    let (_, first) = place.backup();
    change(&place, 2);
    let (_, second) = place.backup();
    let keys = place.repo.keys();
    let record = |id| Retired {
        snapshot: id,
        time: 1,
        reason: String::new(),
        replaced_by: None,
        link: None,
    };
    let retired = |id| object(&place, &format!("retired/{id}"));
    fs::create_dir_all(object(&place, "retired")).unwrap();
    fs::remove_file(object(&place, &format!("snapshots/{}", second.id))).unwrap();
    let forgeries = [
        record(second.id).encode(keys, &keys.writer(&[1; 16])),
        record(first.id).encode(keys, &keys.maintenance()),
        b"gone".to_vec(),
    ];
    let write = |bytes: &[u8]| {
        let name = format!("retired/{}", second.id);
        fs::write(retired(second.id), guard(bytes, Redundancy::of(&name))).unwrap();
    };
    for forged in forgeries {
        write(&forged);
        check_refused(&place, &place.home, &second, SeenBy::ThisHost);
    }
    write(&record(second.id).encode(keys, &keys.maintenance()));
    backup(&place, &place.home).unwrap();
}

#[test]
fn a_gap_in_the_middle_of_a_chain_is_found_behind_retired_snapshots() {
    let place = Place::new();
    let records: Vec<SnapshotRecord> = (0..4)
        .map(|number| {
            change(&place, number);
            place.backup().1
        })
        .collect();
    // The third is retired and swept; the second is just gone.
    place.repo.retire(&records[2], "policy", None).unwrap();
    for record in &records[1..3] {
        fs::remove_file(object(&place, &format!("snapshots/{}", record.id))).unwrap();
    }
    let seen_by = SeenBy::Retired(records[2].id);
    check_refused(&place, &stranger(&place, "stranger"), &records[1], seen_by);
}

#[test]
fn nothing_that_happens_in_the_normal_course_looks_like_a_loss() {
    let place = Place::new();
    change(&place, 0);
    let homes: Vec<Home> =
        (0..3).map(|number| stranger(&place, &format!("user-{number}"))).collect();
    place.backup();
    for round in 1..4 {
        change(&place, round);
        // Every user backs up twice at once; who looks meanwhile sees all of it or part of it.
        std::thread::scope(|scope| {
            for home in homes.iter().flat_map(|home| [home, home]) {
                scope.spawn(|| backup(&place, home).unwrap());
            }
            scope.spawn(|| {
                for _ in 0..20 {
                    let (_, problems) =
                        snapshots::list(&open(&homes[0]), &Filter::default()).unwrap();
                    assert!(problems.is_empty(), "{problems:?}");
                }
            });
        });
        let repo = open(&homes[0]);
        let (live, _) = snapshots::list(&repo, &Filter::default()).unwrap();
        let change = TagChange { add: vec![format!("round-{round}")], ..TagChange::default() };
        snapshots::tag(&repo, &homes[1].state, &live[0], &change, "test").unwrap().unwrap();
        // Forgotten, and some of them swept.
        for (number, record) in live[1..].iter().step_by(2).enumerate() {
            repo.retire(record, "policy", None).unwrap();
            if number % 2 == 0 {
                fs::remove_file(object(&place, &format!("snapshots/{}", record.id))).unwrap();
            }
        }
        // A run that ends before its commit.
        let session = lastgood_repo::WriteSession::begin(
            &repo,
            lastgood::Settings::default(),
            &[u8::try_from(round).unwrap(); 16],
        );
        drop(session.unwrap());
        for home in homes.iter().chain([&place.home]) {
            let (_, problems) = snapshots::list(&open(home), &Filter::default()).unwrap();
            assert!(problems.is_empty(), "{problems:?}");
        }
    }
    assert_eq!(check(&open(&homes[2])).damage, Vec::<String>::new());
    assert_eq!(check(&open(&homes[2])).remarks, Vec::<String>::new());
}

#[test]
fn a_number_is_not_given_again_when_all_before_are_forgotten_and_swept() {
    let place = Place::new();
    change(&place, 1);
    place.backup();
    change(&place, 2);
    let (_, second) = place.backup();
    let (live, _) = snapshots::list(&place.repo, &Filter::default()).unwrap();
    for record in &live {
        place.repo.retire(record, "policy", None).unwrap();
        fs::remove_file(object(&place, &format!("snapshots/{}", record.id))).unwrap();
    }
    // Whether this host remembers or not: the record of the retired one tells.
    fs::remove_file(
        place.home.state.join(place.repo.config().repository.to_string()).join("last-seen"),
    )
    .unwrap();
    let next = backup(&place, &place.home).unwrap();
    assert_eq!((next.snapshot.chain.sequence, next.snapshot.chain.previous), (3, Some(second.id)));
}

#[test]
fn without_a_place_to_remember_everything_works_and_a_backup_says_so() {
    let place = Place::new();
    change(&place, 1);
    place.backup();
    let folder = place.home.state.join(place.repo.config().repository.to_string());
    fs::remove_file(folder.join("last-seen")).unwrap();
    fs::create_dir(folder.join("last-seen")).unwrap();
    let mut notes = Vec::new();
    let report = lastgood::backup::start(open(&place.home), place.options()).wait(|event| {
        if let lastgood::Event::Note(note) = event {
            notes.push(note);
        }
    });
    report.unwrap();
    assert!(notes.iter().any(|note| note.contains("not remembered")), "{notes:?}");
    assert!(snapshots::list(&open(&place.home), &Filter::default()).unwrap().1.is_empty());
}
