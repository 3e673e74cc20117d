//! What takes the space, and where content came from.

use std::fs;

use lastgood::gc::{GcOptions, MaxUnused};
use lastgood::lineage::{self, Fate, Run};
use lastgood::{Settings, SnapshotRecord};

use crate::place::{Place, noise};

fn freed(place: &Place, doomed: &[SnapshotRecord], kept: &[SnapshotRecord]) -> u64 {
    let (doomed, kept) = (doomed.to_vec(), kept.to_vec());
    lineage::freed_by_forgetting(place.repo.clone(), doomed, kept).wait(|_| {}).unwrap()
}

#[test]
fn space_is_what_forgetting_frees() {
    let place = Place::new();
    let write = |name: &str, bytes: Vec<u8>| {
        let path = place.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("always/same", noise(1, 300_000));
    write("twice/file", noise(2, 200_000));
    // The same content at two paths is there once.
    write("twice/copy", noise(2, 200_000));
    let first = place.backup().1;
    write("middle/only", noise(3, 500_000));
    let second = place.backup().1;
    fs::remove_dir_all(place.source().join("middle")).unwrap();
    fs::remove_dir_all(place.source().join("twice")).unwrap();
    let third = place.backup().1;

    let records = [first, second, third];
    let space = lineage::space(place.repo.clone(), records.to_vec(), 99).wait(|_| {}).unwrap();
    assert_eq!(space.unread, 0);
    assert_eq!(space.needed_bytes, freed(&place, &records, &[]));
    assert_eq!(space.directories[&b""[..]], space.needed_bytes);
    for (at, record) in records.iter().enumerate() {
        let mut rest = records.to_vec();
        rest.remove(at);
        let alone = freed(&place, std::slice::from_ref(record), &rest);
        assert_eq!(space.snapshots[at].own_bytes, alone, "snapshot {at}");
        let added = freed(&place, std::slice::from_ref(record), &records[..at]);
        assert_eq!(space.snapshots[at].added_bytes, added, "snapshot {at}");
    }
    assert!((500_000..520_000).contains(&space.snapshots[1].own_bytes), "{:?}", space.snapshots);
    let below = |name: &str| {
        let path = place.source().join(name);
        space.directories[&path.as_os_str().as_encoded_bytes()[1..]]
    };
    assert!((300_000..310_000).contains(&below("always")), "{}", below("always"));
    assert!((200_000..210_000).contains(&below("twice")), "{}", below("twice"));
    // More together than each by itself: two need what the third has not.
    assert!(freed(&place, &records[..2], &records[2..]) > 700_000);
}

#[test]
fn a_chunk_tells_the_run_that_brought_it_and_what_gc_did_with_it() {
    let mut place = Place::new();
    fs::write(place.source().join("kept"), noise(1, 40_000)).unwrap();
    fs::write(place.source().join("gone"), noise(2, 400_000)).unwrap();
    let first = place.backup().1;
    fs::remove_file(place.source().join("gone")).unwrap();
    fs::write(place.source().join("new"), noise(3, 10)).unwrap();
    let second = place.backup().1;

    let path = place.source().join("kept");
    let path = path.as_os_str().as_encoded_bytes();
    let found = lineage::of_path(&place.repo, &second, path).unwrap();
    assert_eq!(found.blobs.iter().map(|blob| blob.offset).next(), Some(0));
    for blob in &found.blobs {
        let [copy] = blob.copies.as_slice() else { panic!("{blob:?}") };
        assert!(matches!(&copy.run, Run::Committed(by) if by.id == first.id), "{copy:?}");
        assert_eq!((copy.fate, copy.stands_in_for.len()), (Fate::Kept, 0));
        let by_id = lineage::of_blob(&place.repo, blob.id).unwrap();
        assert_eq!((by_id.kind, by_id.copies.len()), (blob.kind, 1));
        let needed_by = lineage::path_in(&place.repo, &first, blob.id).unwrap().unwrap();
        assert_eq!(needed_by, path);
    }

    place.repo.retire(&first, "for the test", None).unwrap();
    let options = GcOptions {
        state: place.home.state.clone(),
        max_unused: MaxUnused::Bytes(0),
        fence_after: 0,
        exclusive: false,
        settings: Settings::default(),
        dry_run: false,
        keep_reserve: false,
    };
    for _ in 0..2 {
        lastgood::gc::start(place.repo.clone(), options.clone()).wait(|_| {}).unwrap();
    }
    place.reopen();
    let found = lineage::of_path(&place.repo, &second, path).unwrap();
    for blob in &found.blobs {
        let copy = blob.copies.iter().find(|copy| copy.fate == Fate::Kept).unwrap();
        assert!(matches!(copy.run, Run::Uncommitted), "{copy:?}");
        assert!(!copy.stands_in_for.is_empty(), "{copy:?}");
    }
}
