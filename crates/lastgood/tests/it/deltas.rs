//! Files that change a little, in a repository that stores chunks as changes of others.

use std::fs;

use lastgood::check::{self, CheckOptions, ReadData};
use lastgood::gc::{self, GcOptions, MaxUnused};
use lastgood::{Settings, SnapshotRecord};

use crate::place::{Place, Tree, noise};

/// A long file of several chunks, short ones, and one that is compressible.
fn write_first(place: &Place) {
    fs::create_dir(place.source().join("short")).unwrap();
    for number in 0..40_u64 {
        let bytes = noise(number, 2_000 + 100 * number as usize);
        fs::write(place.source().join(format!("short/{number}")), bytes).unwrap();
    }
    fs::write(place.source().join("long"), noise(100, 700_000)).unwrap();
    fs::write(place.source().join("text"), b"the quick brown fox ".repeat(9_000)).unwrap();
}

/// Puts a few bytes into every file, as an edit does.
fn edit(place: &Place, version: u8) {
    let short = fs::read_dir(place.source().join("short")).unwrap();
    let files = short.map(|entry| entry.unwrap().path());
    let others = ["long", "text"].map(|name| place.source().join(name));
    for path in files.chain(others) {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 3;
        bytes.splice(at..at, [version; 5]);
        fs::write(path, bytes).unwrap();
    }
}

fn assert_whole(place: &Place, snapshots: &[(SnapshotRecord, Tree)]) {
    for (record, tree) in snapshots {
        place.check_restores(record, tree);
    }
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = check::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    assert_eq!((report.damage, report.affected), (vec![], vec![]));
}

fn collect(place: &mut Place) {
    place.reopen();
    let options = GcOptions {
        state: place.home.state.clone(),
        max_unused: MaxUnused::Bytes(0),
        fence_after: i64::MAX,
        exclusive: false,
        settings: Settings::default(),
        dry_run: false,
        keep_reserve: false,
    };
    gc::start(place.repo.clone(), options).wait(|_| {}).unwrap();
}

#[test]
fn ten_versions_of_a_tree_take_little_more_than_one() {
    let mut place = Place::with_deltas();
    write_first(&place);
    let mut snapshots = vec![(place.backup().1, Tree::of(&place.source()))];
    let stored = |place: &Place| -> u64 {
        place.repo.all_packs().unwrap().iter().map(|(_, _, bytes)| bytes).sum()
    };
    let first = stored(&place);
    for version in 1..10 {
        edit(&place, version);
        place.reopen();
        snapshots.push((place.backup().1, Tree::of(&place.source())));
    }
    let added = stored(&place) - first;
    assert!(added < first / 3, "{added} bytes for nine versions of {first}");
    assert_whole(&place, &snapshots);

    // The first goes, of which all others are changes.
    for number in [0, 4, 7, 0] {
        let (record, _) = snapshots.remove(number);
        assert!(place.repo.retire(&record, "a test", None).unwrap());
        collect(&mut place);
        assert_whole(&place, &snapshots);
    }
    edit(&place, 10);
    snapshots.push((place.backup().1, Tree::of(&place.source())));
    assert_whole(&place, &snapshots);
}

/// Twice the space is for both versions of all that is short.
#[test]
fn versions_are_stored_whole_where_the_repository_takes_no_deltas() {
    let place = Place::new();
    write_first(&place);
    let (first, _) = place.backup();
    edit(&place, 1);
    let (second, _) = place.backup();
    assert!(second.totals.bytes_added > 40 * 2_000, "{first:?} {second:?}");
    let stored = |report: &lastgood::backup::BackupReport| report.totals.bytes_stored;
    assert!(stored(&second) > 40 * 2_000);
}
