use std::collections::HashMap;
use std::path::Path;

use lastgood_format::id::{BlobId, PackId, SessionId};
use lastgood_format::index::IndexEntry;
use lastgood_format::key::Class;
use lastgood_format::pack::{BlobEntry, BlobKind};

use super::*;

/// Entry `number` of a world in which every blob is where its number says.
fn entry(number: u64) -> IndexEntry {
    let hash = blake3::hash(&number.to_le_bytes());
    let prefix = *hash.as_bytes().first_chunk().unwrap();
    IndexEntry {
        blob: BlobPrefix(prefix),
        pack: (number % 3) as u32,
        ordinal: number as u32,
        bytes: 7,
    }
}

fn blob(number: u64) -> BlobPrefix {
    entry(number).blob
}

fn pack(session: u8, number: u8) -> PackRef {
    PackRef {
        session: SessionId::new([session; 16]),
        pack: PackId::new([number; 32]),
        class: Class::Data,
        bytes: 1,
    }
}

fn memory_run(session: u8, numbers: std::ops::Range<u64>) -> Run {
    let entries: Vec<IndexEntry> = numbers.map(entry).collect();
    let packs = (0..3).map(|number| pack(session, number)).collect();
    Run::sorted(IndexSegment { packs, entries }, vec![ObjectId::new([session; 32])])
}

fn local(folder: &Path) -> LocalCopy {
    LocalCopy::new(folder.to_owned(), [9; 32])
}

fn check(run: &Run, session: u8, number: u64) {
    let found = run.find(blob(number), &mut |_, _| true).unwrap();
    let expected =
        IndexLocation { pack: pack(session, (number % 3) as u8), ordinal: number as u32, bytes: 7 };
    assert_eq!(found, Some(expected), "blob {number}");
}

#[test]
fn runs_in_files_find_what_they_hold_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let small = memory_run(1, 0..30_000);
    let large = memory_run(2, 30_000..100_000);
    let written = local(folder.path()).write(&[&small, &large]).unwrap();
    assert_eq!(written.entry_count(), 100_000);
    for number in (0..100_000).step_by(97) {
        check(&written, if number < 30_000 { 1 } else { 2 }, number);
    }
    for number in 100_000..110_000 {
        assert_eq!(written.find(blob(number), &mut |_, _| true).unwrap(), None);
    }
    // A pack that the caller does not take is passed over.
    assert_eq!(written.find(blob(5), &mut |_, _| false).unwrap(), None);

    let sources = HashSet::from([ObjectId::new([1; 32]), ObjectId::new([2; 32])]);
    let opened = local(folder.path()).open_all(&sources);
    assert_eq!(opened.len(), 1);
    check(&opened[0], 1, 77);
    // Made from a segment that is gone: useless, and removed.
    let sources = HashSet::from([ObjectId::new([1; 32])]);
    assert!(local(folder.path()).open_all(&sources).is_empty());
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn runs_of_like_size_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for session in 0..8 {
        let numbers = u64::from(session) * 2000..u64::from(session + 1) * 2000;
        let run = local(folder.path()).write(&[&memory_run(session, numbers)]).unwrap();
        runs.push(Arc::new(run));
        run::compact(&mut runs, &|runs| local(folder.path()).write(runs)).unwrap();
    }
    assert!(runs.len() <= 3, "{} runs", runs.len());
    assert_eq!(files(folder.path()), runs.len());
    for number in (0..16_000).step_by(61) {
        let holds = |run: &&Arc<Run>| run.find(blob(number), &mut |_, _| true).unwrap().is_some();
        let run = runs.iter().find(holds).expect("one of the runs holds it");
        check(run, (number / 2000) as u8, number);
    }
}

/// Each run is asked for each blob, so a process that commits often must not have one for each.
#[test]
fn an_index_that_grows_by_many_segments_has_few_runs() {
    let folder = tempfile::tempdir().unwrap();
    for local in [None, Some(local(folder.path()))] {
        let index = Index::aside(local);
        // What nothing was loaded into must not keep others from being merged.
        index.push(Run::default());
        for number in 0..300 {
            let entries = (number * 400..(number + 1) * 400).map(entry).collect();
            let packs = (0..3).map(|at| pack(number as u8, at)).collect();
            index.add(IndexSegment { packs, entries }, object_id(&number.to_le_bytes()));
        }
        let runs = index.runs();
        assert!(runs.len() < 12, "{} runs", runs.len());
        assert_eq!(runs.iter().map(|run| run.sources.len()).sum::<usize>(), 300);
        drop(runs);
        for number in (0..120_000).step_by(331) {
            let found = index.find(blob_id(number), &mut |_| true).unwrap();
            assert_eq!(found.pack, pack((number / 400) as u8, (number % 3) as u8), "{number}");
        }
    }
}

#[test]
fn a_damaged_run_is_an_error_or_gone_and_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let run = local(folder.path()).write(&[&memory_run(1, 0..2000)]).unwrap();
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(501) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        for number in 0..50 {
            match run.find(blob(number), &mut |_, _| true) {
                Ok(Some(found)) => assert_eq!(found.ordinal, number as u32, "flipped at {at}"),
                Ok(None) => panic!("blob {number} silently lost by a flip at {at}"),
                Err(_) => {}
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let sources = HashSet::from([ObjectId::new([1; 32])]);
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(local(folder.path()).open_all(&sources).is_empty());
}

fn blob_id(number: u64) -> BlobId {
    BlobId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

#[test]
fn a_set_of_blobs_spills_to_files_without_names() {
    let folder = tempfile::tempdir().unwrap();
    for local in [Some(local(folder.path())), None] {
        let set = BlobSet::beside(&Index::aside(local));
        let count = MEMORY_ENTRIES_MAX as u64 * 5 / 2;
        for number in 0..count {
            assert!(set.insert(blob_id(number)), "blob {number} is new");
        }
        for number in (0..count).step_by(101) {
            assert!(!set.insert(blob_id(number)), "blob {number} is known");
        }
    }
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn marks_are_kept_for_packs_that_the_index_tells_truly_of() {
    let blobs: Vec<BlobEntry> = (0..300)
        .map(|number| BlobEntry {
            id: blob_id(number),
            kind: BlobKind::Chunk,
            base: None,
            group: 0,
            offset: 0,
            bytes: 5,
        })
        .collect();
    let (ours, other, poisoned) = (pack(1, 1), pack(1, 2), pack(1, 3));
    let mut segment = IndexSegment::default();
    segment.add_pack(ours, &blobs[..200]);
    segment.add_pack(other, &blobs[100..]);
    // It says of the third pack what is not so.
    segment.add_pack(poisoned, &blobs[..100]);
    let directories = HashMap::from([
        (ours.pack, Fingerprint::of(&blobs[..200], 7)),
        (other.pack, Fingerprint::of(&blobs[100..], 7)),
        (poisoned.pack, Fingerprint::of(&blobs[1..101], 7)),
    ]);
    let index = Index::aside(None);
    index.add_aside(segment);
    let marks = BlobMarks::new(&index, &directories, 7);
    assert_eq!(marks.packs(), HashSet::from([ours.pack, other.pack]));

    let copy = marks.find(blob_id(150)).unwrap();
    assert!(marks.set(copy, Mark::Seen) && !marks.set(copy, Mark::Seen));
    assert!(!marks.has(copy, Mark::Broken));
    assert!(!marks.has(marks.find(blob_id(151)).unwrap(), Mark::Seen));
    assert!(marks.find(blob_id(300)).is_none());

    // A blob is lost when its last copy is.
    marks.note(blob_id(150), ours.pack, Mark::Damaged);
    assert!(marks.is_readable(blob_id(150)));
    marks.note(blob_id(150), other.pack, Mark::Damaged);
    assert!(!marks.is_readable(blob_id(150)));
    marks.note(blob_id(50), ours.pack, Mark::Damaged);
    assert!(!marks.is_readable(blob_id(50)), "a false entry is no copy");
}

/// Whoever can write to the cache and has no key cannot make a blob known.
#[test]
fn a_run_made_elsewhere_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let sources = HashSet::from([ObjectId::new([1; 32])]);
    let forger = LocalCopy::new(folder.path().to_owned(), [8; 32]);
    let forged = forger.write(&[&memory_run(1, 0..2000)]).unwrap();
    check(&forged, 1, 77);
    assert!(local(folder.path()).open_all(&sources).is_empty());
    assert_eq!(files(folder.path()), 0, "what does not check is thrown away");
}

/// Numbers of packs mean nothing beside the list that they count.
#[test]
fn a_block_of_another_run_or_another_place_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let one = local(folder.path()).write(&[&memory_run(1, 0..2000)]).unwrap();
    let path = |folder: &Path| std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let path_of_one = path(folder.path());
    let elsewhere = tempfile::tempdir().unwrap();
    local(elsewhere.path()).write(&[&memory_run(2, 0..2000)]).unwrap();
    let (whole, other) =
        (std::fs::read(&path_of_one).unwrap(), std::fs::read(path(elsewhere.path())).unwrap());
    let mut swapped = whole.clone();
    swapped[..4096].copy_from_slice(&whole[4096..8192]);
    swapped[4096..8192].copy_from_slice(&whole[..4096]);
    for blocks in [&other[..8192], &swapped[..8192]] {
        std::fs::write(&path_of_one, [blocks, &whole[8192..]].concat()).unwrap();
        let refused = |number| one.find(blob(number), &mut |_, _| true).is_err();
        let answered: Vec<u64> = (0..2000).filter(|&number| !refused(number)).collect();
        assert!(!answered.is_empty() && answered.len() < 2000 - 200, "{}", answered.len());
        answered.into_iter().for_each(|number| check(&one, 1, number));
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}
