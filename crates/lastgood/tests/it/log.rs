//! The audit log tells all that was done, notices every record that is lost or replaced, and is in
//! nobody's way.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood::log::{self, Ending, Entry, Log, Logbook};
use lastgood::snapshots::{self, Rewriter, TagChange};
use lastgood::{Credential, Event, Repository, opening, system};
use lastgood_repo::OpenOptions;
use lastgood_repo::format::object::name;
use lastgood_testkit::recording::{Call, Recording, Request};

use crate::place::Place;

fn change(place: &Place, number: u32) {
    fs::write(place.source().join("file"), format!("version {number}")).unwrap();
}

fn read(place: &mut Place) -> Log {
    place.reopen();
    log::read(&place.repo).unwrap()
}

fn problems(place: &mut Place) -> Vec<String> {
    let problems = read(place).problems.into_iter().map(lastgood::Error::from);
    problems
        .map(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", cause.unwrap_or_default())
        })
        .collect()
}

/// The records of the only writer, in order.
fn objects(place: &Place) -> Vec<PathBuf> {
    let folder = place.home.data.join("repository/log");
    let writer = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut records: Vec<PathBuf> =
        fs::read_dir(writer).unwrap().map(|entry| entry.unwrap().path()).collect();
    records.sort();
    records
}

#[test]
fn what_is_done_is_noted_in_order() {
    let mut place = Place::new();
    change(&place, 1);
    let (_, first) = place.backup();
    let tags = TagChange { add: vec!["x".into()], ..TagChange::default() };
    let tagged = snapshots::tag(&place.repo, &place.home.state, &first, &tags, "test");
    let tagged = tagged.unwrap().unwrap().record;
    place.backup_with(lastgood::backup::BackupOptions { dry_run: true, ..place.options() });
    let nowhere = vec![place.path("nowhere")];
    let failing = lastgood::backup::BackupOptions { sources: nowhere, ..place.options() };
    lastgood::backup::start(place.repo.clone(), failing).wait(|_| {}).unwrap_err();
    let logbook = Logbook::here(&place.home.state, "another program");
    let now = system::world().clock.now();
    logbook
        .write(&place.repo, Entry { counts: vec![("a", 7)], ..Entry::done("restore", now) })
        .unwrap();

    let log = read(&mut place);
    assert!(log.problems.is_empty(), "{:?}", log.problems);
    let told: Vec<_> =
        log.records.iter().map(|record| (record.verb.as_str(), record.ending)).collect();
    let expected = [
        ("backup", Ending::Done),
        ("tag", Ending::Done),
        ("backup", Ending::Failed),
        ("restore", Ending::Done),
    ];
    assert_eq!(told, expected);
    assert_eq!(log.records[0].snapshots, [first.id]);
    assert_eq!((log.records[0].host.as_str(), log.records[0].user.as_str()), ("here", "me"));
    assert!(log.records[0].counts.contains(&("files".into(), 1)));
    assert_eq!(log.records[1].snapshots, [tagged.id, first.id]);
    assert!(log.records[2].note.contains("nowhere"), "{}", log.records[2].note);
    assert_eq!(log.records[3].counts, [("a".into(), 7)]);
    assert_eq!(log.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn a_record_that_is_lost_replaced_or_damaged_is_found() {
    let mut place = Place::new();
    for number in 0..4 {
        change(&place, number);
        place.backup();
    }
    assert_eq!(problems(&mut place), Vec::<String>::new());
    let records = objects(&place);
    let whole: Vec<Vec<u8>> = records.iter().map(|path| fs::read(path).unwrap()).collect();
    for number in 0..records.len() {
        let name = format!("{:016x}", number + 1);
        let check = |place: &mut Place, what: &str| {
            let found = problems(place);
            assert!(found.iter().any(|line| line.contains(&name)), "{name} {what}: {found:?}");
            fs::write(&records[number], &whole[number]).unwrap();
            assert_eq!(problems(place), Vec::<String>::new(), "made good again");
        };
        fs::remove_file(&records[number]).unwrap();
        check(&mut place, "lost");
        fs::write(&records[number], &whole[(number + 1) % 4]).unwrap();
        check(&mut place, "replaced by another");
        fs::write(&records[number], vec![7; whole[number].len()]).unwrap();
        check(&mut place, "damaged");
    }
    // All of them, and the folder with them.
    for path in &records {
        fs::remove_file(path).unwrap();
    }
    assert!(problems(&mut place)[0].contains("this host has seen it"));
}

#[test]
fn a_log_that_was_written_anew_is_not_the_one_that_was_seen() {
    let mut place = Place::new();
    change(&place, 1);
    let copy = place.path("copy");
    let state = place.home.state.join(place.repo.config().repository.to_string());
    place.backup();
    let written = objects(&place);
    // As a clone of this host that kept its name would.
    fs::create_dir_all(&copy).unwrap();
    fs::copy(state.join("writer-0"), copy.join("writer-0")).unwrap();
    fs::remove_file(&written[0]).unwrap();
    let clone = place.path("clone");
    fs::create_dir_all(clone.join(state.file_name().unwrap())).unwrap();
    fs::copy(copy.join("writer-0"), clone.join(state.file_name().unwrap()).join("writer-0"))
        .unwrap();
    let last_seen = fs::read(state.join("last-seen")).unwrap();
    fs::remove_file(state.join("last-seen")).unwrap();
    place.reopen();
    let now = system::world().clock.now();
    Logbook::here(&clone, "clone").write(&place.repo, Entry::done("forget", now)).unwrap();
    fs::write(state.join("last-seen"), last_seen).unwrap();
    let found = problems(&mut place);
    assert!(found.iter().any(|line| line.contains("another in its place")), "{found:?}");
}

#[test]
fn writers_at_once_and_a_cloned_host_leave_whole_logs() {
    let mut place = Place::new();
    change(&place, 1);
    place.backup();
    let id = place.repo.config().repository.to_string();
    let clone = place.path("clone");
    fs::create_dir_all(clone.join(&id)).unwrap();
    fs::copy(place.home.state.join(&id).join("writer-0"), clone.join(&id).join("writer-0"))
        .unwrap();
    let now = system::world().clock.now();
    std::thread::scope(|scope| {
        for state in [&place.home.state, &place.home.state, &clone, &clone] {
            scope.spawn(|| {
                for _ in 0..10 {
                    let logbook = Logbook::here(state, "test");
                    logbook.write(&place.repo, Entry::done("restore", now)).unwrap();
                }
            });
        }
    });
    let log = read(&mut place);
    assert!(log.problems.is_empty(), "{:?}", log.problems);
    assert_eq!(log.records.len(), 41);
}

#[test]
fn a_log_that_cannot_be_written_fails_no_backup_and_is_told() {
    let place = Place::new();
    change(&place, 1);
    fs::write(place.home.data.join("repository/log"), b"in the way").unwrap();
    let start = |options| lastgood::backup::start(place.repo.clone(), options);
    let report = start(place.options()).wait(drop).unwrap();
    assert!(report.unlogged.is_some(), "{report:?}");
    let tags = TagChange { add: vec!["x".into()], ..TagChange::default() };
    let record = report.snapshot.unwrap();
    let tagged = snapshots::tag(&place.repo, &place.home.state, &record, &tags, "test").unwrap();
    assert!(tagged.unwrap().unlogged.is_some());
    let mut notes = Vec::new();
    let nowhere =
        lastgood::backup::BackupOptions { sources: vec![place.path("nowhere")], ..place.options() };
    let failed = start(nowhere).wait(|event| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
    });
    assert!(failed.is_err());
    assert!(notes.iter().any(|note| note.contains("not in the log")), "{notes:?}");
}

/// However many snapshots are changed, they are listed once, and each follows the one before.
#[test]
fn many_snapshots_are_tagged_from_one_listing() {
    let place = Place::new();
    for number in 0..8 {
        change(&place, number);
        place.backup();
    }
    let path = place.home.default_repository();
    let backend = Arc::new(Recording::new(opening::bare_backend(&path).unwrap()));
    let root = Credential::Root(place.repo.keys().root().clone());
    let options = OpenOptions { threads: 4, ..OpenOptions::default() };
    let repo = Repository::open(backend.clone(), system::world(), &root, options).unwrap();
    let repo = Arc::new(repo);
    let before = repo.snapshots().unwrap();
    // What several threads read is in the same order.
    assert_eq!(before.live, place.repo.snapshots().unwrap().live);
    let mut rewriter = Rewriter::open(&repo, &place.home.state, "a test").unwrap();
    backend.take_calls();
    let change = TagChange { add: vec!["many".to_owned()], ..TagChange::default() };
    for record in &before.live {
        rewriter.tag(record, &change).unwrap().unwrap();
    }
    drop(rewriter);
    let is_snapshot = |call: &Call| match &call.request {
        Request::Get { name, .. } => name.as_str().starts_with(name::SNAPSHOTS),
        Request::List { prefix } => prefix == name::SNAPSHOTS,
        _ => false,
    };
    let read = backend.take_calls().iter().filter(|call| is_snapshot(call)).count();
    assert!(read <= before.live.len(), "{read} snapshots were read");
    let after = repo.snapshots().unwrap();
    assert!(after.forks().is_empty() && after.missing.is_empty());
    let mut chains: Vec<_> = after.live.iter().map(|record| &record.snapshot.chain).collect();
    chains.sort_by_key(|chain| chain.sequence);
    let sequences: Vec<u64> = chains.iter().map(|chain| chain.sequence).collect();
    assert_eq!(sequences, Vec::from_iter(9..17));
    assert!(chains.is_sorted_by(|a, b| a.generation < b.generation));
}
