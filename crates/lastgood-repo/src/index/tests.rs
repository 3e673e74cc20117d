use std::path::Path;

use lastgood_format::id::{PackId, SessionId};
use lastgood_format::index::IndexEntry;
use lastgood_format::key::Class;

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
    let mut entries: Vec<IndexEntry> = numbers.map(entry).collect();
    entries.sort_unstable();
    let packs = (0..3).map(|number| pack(session, number)).collect();
    Run::memory(IndexSegment { packs, entries }, vec![ObjectId::new([session; 32])])
}

fn check(run: &Run, session: u8, number: u64) {
    let found = run.find(blob(number), &mut |_| true).unwrap();
    let expected =
        IndexLocation { pack: pack(session, (number % 3) as u8), ordinal: number as u32, bytes: 7 };
    assert_eq!(found, Some(expected), "blob {number}");
}

#[test]
fn runs_in_files_find_what_they_hold_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let small = memory_run(1, 0..30_000);
    let large = memory_run(2, 30_000..100_000);
    let written = run::write(folder.path(), &[&small, &large]).unwrap();
    assert_eq!(written.entry_count(), 100_000);
    for number in (0..100_000).step_by(97) {
        check(&written, if number < 30_000 { 1 } else { 2 }, number);
    }
    for number in 100_000..110_000 {
        assert_eq!(written.find(blob(number), &mut |_| true).unwrap(), None);
    }
    // A pack that the caller does not take is passed over.
    assert_eq!(written.find(blob(5), &mut |_| false).unwrap(), None);

    let sources = HashSet::from([ObjectId::new([1; 32]), ObjectId::new([2; 32])]);
    let opened = run::open_all(folder.path(), &sources);
    assert_eq!(opened.len(), 1);
    check(&opened[0], 1, 77);
    // Made from a segment that is gone: useless, and removed.
    let sources = HashSet::from([ObjectId::new([1; 32])]);
    assert!(run::open_all(folder.path(), &sources).is_empty());
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn runs_of_like_size_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for session in 0..8 {
        let numbers = u64::from(session) * 2000..u64::from(session + 1) * 2000;
        runs.push(run::write(folder.path(), &[&memory_run(session, numbers)]).unwrap());
        run::compact(folder.path(), &mut runs).unwrap();
    }
    assert!(runs.len() <= 3, "{} runs", runs.len());
    assert_eq!(files(folder.path()), runs.len());
    for number in (0..16_000).step_by(61) {
        let holds = |run: &&Run| run.find(blob(number), &mut |_| true).unwrap().is_some();
        let run = runs.iter().find(holds).expect("one of the runs holds it");
        check(run, (number / 2000) as u8, number);
    }
}

#[test]
fn a_damaged_run_is_an_error_or_gone_and_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let run = run::write(folder.path(), &[&memory_run(1, 0..2000)]).unwrap();
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(501) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        for number in 0..50 {
            match run.find(blob(number), &mut |_| true) {
                Ok(Some(found)) => assert_eq!(found.ordinal, number as u32, "flipped at {at}"),
                Ok(None) => panic!("blob {number} silently lost by a flip at {at}"),
                Err(_) => {}
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let sources = HashSet::from([ObjectId::new([1; 32])]);
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(run::open_all(folder.path(), &sources).is_empty());
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}
