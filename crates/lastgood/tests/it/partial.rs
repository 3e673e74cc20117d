//! What a long run commits before its end.

use std::fs;

use lastgood::backup::{BackupOptions, BackupReport};
use lastgood::check::{CheckOptions, ReadData};
use lastgood::{ErrorKind, Event, SnapshotFlags, SnapshotRecord};

use crate::place::{Place, Tree, noise};

/// Options of a run that commits at every opportunity.
fn eager(place: &Place) -> BackupOptions {
    BackupOptions { partial_every_seconds: Some(0), ..place.options() }
}

fn fill(place: &Place) {
    for directory in 0..20 {
        let path = place.source().join(format!("directory {directory:02}/below/and below"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..5 {
            fs::write(path.join(file.to_string()), noise(directory * 5 + file, 300_000)).unwrap();
        }
    }
    fs::create_dir(place.source().join("last")).unwrap();
    fs::write(place.source().join("last/large"), noise(1000, 20 << 20)).unwrap();
}

fn check_is_clean(place: &Place) {
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = lastgood::check::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    assert_eq!(report.damage, [] as [String; 0]);
}

/// Backs up until so many partial snapshots are there, then cancels.
fn interrupted(place: &Place, options: BackupOptions, count: usize) -> Vec<SnapshotRecord> {
    let job = lastgood::backup::start(place.repo.clone(), options);
    let control = job.control();
    let mut committed = 0;
    let result = job.wait(|event| {
        committed +=
            usize::from(matches!(event, Event::Note(note) if note.starts_with("committed")));
        if committed == count {
            control.cancel();
        }
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    let live = place.repo.snapshots().unwrap().live;
    live.into_iter()
        .filter(|record| record.snapshot.flags.contains(SnapshotFlags::PARTIAL))
        .collect()
}

#[test]
fn a_complete_snapshot_stands_in_for_its_partial_ones() {
    let place = Place::new();
    fill(&place);
    for threads in [1, 2, 5] {
        let BackupReport { partials, snapshot, problems, .. } =
            place.backup_with(BackupOptions { threads, force: true, ..eager(&place) });
        assert!(partials > 0, "no partial snapshot with {threads} threads");
        assert_eq!(problems.listed, []);
        place.check_restores(&snapshot.unwrap(), &Tree::of(&place.source()));
    }
    let live = place.repo.snapshots().unwrap().live;
    assert_eq!(live.len(), 3, "partial snapshots are retired");
    check_is_clean(&place);
}

#[test]
fn a_source_that_is_one_large_file_is_stored_by_all_threads() {
    let place = Place::new();
    let image = place.source().join("image");
    fs::write(&image, noise(1, 20 << 20)).unwrap();
    // When a partial snapshot is due, all workers pause: one that is not there yet would be
    // waited for.
    let options = BackupOptions { sources: vec![image], threads: 3, ..eager(&place) };
    let snapshot = place.backup_with(options).snapshot.unwrap();
    assert_eq!(snapshot.snapshot.totals.bytes, 20 << 20);
    check_is_clean(&place);
}

#[test]
fn an_interrupted_run_is_restored_from_and_gone_on_with() {
    let place = Place::new();
    fill(&place);
    let partials = interrupted(&place, eager(&place), 6);
    let last = partials.iter().max_by_key(|record| record.snapshot.chain.sequence).unwrap();
    check_is_clean(&place);

    // What it has is what the source has; the rest is missing.
    let (_, found) = place.restore(last, &place.path("target"));
    let source = Tree::of(&place.source());
    assert!(found.0.len() > 2, "something was reached");
    assert!(found.0.iter().all(|(path, entry)| source.0.get(path) == Some(entry)));

    let (report, snapshot) = place.backup();
    assert_eq!(report.parent, Some(last.id), "the next run goes on from the newest");
    fs::remove_dir_all(place.path("target")).unwrap();
    place.check_restores(&snapshot, &source);
    check_is_clean(&place);
}

#[test]
fn what_was_not_reached_is_as_in_the_baseline() {
    let place = Place::new();
    fill(&place);
    let (_, first) = place.backup();
    let old = Tree::of(&place.source());
    for directory in 0..20 {
        let path = place.source().join(format!("directory {directory:02}/below/and below/0"));
        fs::write(path, noise(5000 + directory, 300_000)).unwrap();
    }
    let new = Tree::of(&place.source());
    let partials = interrupted(&place, BackupOptions { threads: 1, ..eager(&place) }, 5);
    for partial in &partials {
        let target = place.path("target");
        let (_, found) = place.restore(partial, &target);
        fs::remove_dir_all(target).unwrap();
        assert!(found.0.keys().eq(old.0.keys()), "nothing is missing");
        let is_known =
            |(path, entry)| new.0.get(path) == Some(entry) || old.0.get(path) == Some(entry);
        assert!(found.0.iter().all(is_known), "every entry is the old or the new one");
    }
    // Its parent is gone by name: then nothing of the partial one is taken on trust.
    place.repo.retire(&first, "to see what the next run trusts", None).unwrap();
    let (_, snapshot) = place.backup();
    place.check_restores(&snapshot, &new);
    check_is_clean(&place);
}
