//! Sources that do not hold still, and clocks that do not go forward.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use lastgood::check::{CheckOptions, ReadData};
use lastgood::restore::RestoreOptions;
use lastgood::{Event, SnapshotFlags, Timestamp, World};
use lastgood_repo::Clock;

use crate::place::{Place, Tree, noise};

/// What may happen to a path from one moment to the next.
fn disturb(place: &Place, round: u64) {
    let path = place.source().join(format!("moving/{}", round % 7));
    let mut gone = fs::remove_file(&path);
    if gone.is_err() {
        gone = fs::remove_dir_all(&path);
    }
    drop(gone);
    match round % 6 {
        0 => fs::write(&path, noise(round, 3_000_000)).unwrap(),
        // Cut while it may be read.
        1 => {
            fs::write(&path, noise(round, 3_000_000)).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(round % 4096).unwrap();
        }
        2 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap(),
        3 => symlink("nowhere", &path).unwrap(),
        4 => {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("inside"), noise(round, 50_000)).unwrap();
        }
        _ => {}
    }
}

#[test]
fn whatever_moves_the_run_ends_and_what_stands_still_is_stored() {
    let place = Place::new();
    fs::create_dir_all(place.source().join("moving")).unwrap();
    fs::create_dir_all(place.source().join("still/deeper")).unwrap();
    fs::write(place.source().join("still/deeper/file"), noise(1, 2_000_000)).unwrap();
    let still = Tree::of(&place.source().join("still"));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..).take_while(|_| !is_over.load(Ordering::Relaxed)).for_each(|round| {
                disturb(&place, round);
            });
        });
        for _ in 0..12 {
            let report = place.backup_with(place.options());
            let snapshot = report.snapshot.unwrap();
            let is_incomplete = snapshot.snapshot.flags.contains(SnapshotFlags::INCOMPLETE);
            assert_eq!(is_incomplete, report.problems.errors > 0);
            let moved = |path: &std::path::Path| path.starts_with(place.source().join("moving"));
            let listed = &report.problems.listed;
            assert!(listed.iter().all(|problem| moved(&problem.path)), "{listed:?}");
            let target = place.path("target");
            let options = RestoreOptions {
                host_id: [7; 16],
                ..RestoreOptions::new(snapshot, target.clone())
            };
            let restored =
                lastgood::restore::start(place.repo.clone(), options).wait(drop).unwrap();
            assert_eq!(restored.problems.listed, []);
            assert_eq!(Tree::of(&target.join("still")), still);
            fs::remove_dir_all(target).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = lastgood::check::start(place.repo.clone(), options).wait(drop).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    let (_, snapshot) = place.backup();
    place.check_restores(&snapshot, &Tree::of(&place.source()));
}

#[test]
fn an_empty_source_is_a_snapshot_and_so_is_one_that_became_empty() {
    let place = Place::new();
    let (report, empty) = place.backup();
    assert_eq!((report.totals.files, report.totals.bytes), (0, 0));
    place.check_restores(&empty, &Tree::of(&place.source()));
    fs::write(place.source().join("file"), b"x").unwrap();
    let full = (place.backup().1, Tree::of(&place.source()));
    fs::remove_file(place.source().join("file")).unwrap();
    let (_, again) = place.backup();
    assert_eq!(again.snapshot.totals.files, 0);
    place.check_restores(&again, &Tree::of(&place.source()));
    place.check_restores(&full.0, &full.1);
}

/// A clock that a test sets.
#[derive(Debug, Default)]
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: self.0.load(Ordering::Relaxed), nanos: 0 }
    }
}

#[test]
fn a_clock_that_goes_back_hides_no_change_and_is_said() {
    let mut place = Place::new();
    let clock = Arc::new(Set::default());
    let world = World { clock: clock.clone(), ..lastgood::system::world() };
    place.repo = lastgood::opening::open_default(&place.home, world, "test").unwrap().repo;
    let real = lastgood::system::world().clock.now().seconds;
    let mut states = Vec::new();
    // Years ahead, years behind, before 1970, right again.
    let times = [real + (9 << 25), real - (9 << 25), -5, real + 60];
    for (number, seconds) in times.into_iter().enumerate() {
        clock.0.store(seconds, Ordering::Relaxed);
        // Of one length each time.
        fs::write(place.source().join("file"), format!("state {number}")).unwrap();
        fs::write(place.source().join(number.to_string()), b"x").unwrap();
        let mut notes = Vec::new();
        let job = lastgood::backup::start(place.repo.clone(), place.options());
        let report = job
            .wait(|event| {
                if let Event::Note(note) = event {
                    notes.push(note);
                }
            })
            .unwrap();
        assert_eq!(report.problems.listed, []);
        let snapshot = report.snapshot.unwrap();
        let before = states.last().map(|(before, _): &(lastgood::SnapshotRecord, Tree)| before.id);
        assert_eq!(report.parent, before, "the one before, whatever its time says");
        let is_behind = number > 0;
        assert_eq!(notes.iter().any(|note| note.contains("clock")), is_behind, "{notes:?}");
        states.push((snapshot, Tree::of(&place.source())));
    }
    for (snapshot, tree) in &states {
        place.check_restores(snapshot, tree);
    }
}
