//! An index that lies, here or in the repository: it costs time and nothing else. No backup refers
//! to what no pack holds, and no restore gives other bytes.

use std::fs;
use std::path::{Path, PathBuf};

use lastgood::check::{CheckOptions, CheckReport, ReadData};
use lastgood::{ChunkerParams, SnapshotRecord};

use crate::place::{Place, Tree, noise};

/// A repository whose index is long enough that its local copy has runs in files.
struct Poisoned {
    place: Place,
    snapshot: SnapshotRecord,
    tree: Tree,
}

impl Poisoned {
    fn new(seed: u64) -> Self {
        let mut place = Place::new();
        let mut snapshot = None;
        // Runs of like size would be merged.
        for (number, times) in [(0, 3), (1, 1)] {
            let bytes: Vec<u8> =
                (0..times).flat_map(|at| blocks(seed + number + 10 * at)).collect();
            fs::write(place.source().join(number.to_string()), bytes).unwrap();
            snapshot = Some(backup(&place));
            place.reopen();
        }
        let tree = Tree::of(&place.source());
        Self { place, snapshot: snapshot.unwrap(), tree }
    }

    /// Files of the local copy's runs.
    fn runs(&self) -> Vec<PathBuf> {
        let mut runs = files(&self.place.home.cache);
        runs.retain(|path| path.extension().is_some_and(|extension| extension == "run"));
        assert!(runs.len() >= 2, "two segments were kept: {runs:?}");
        runs
    }

    fn segments(&self) -> Vec<PathBuf> {
        files(&self.place.home.data.join("repository/index"))
    }

    /// After something was done to the index: everything that is asked of it comes out right, as
    /// somebody sees it who has no local copy at all.
    fn assert_harmless(&mut self, poison: &str) -> CheckReport {
        self.place.reopen();
        self.place.check_restores(&self.snapshot, &self.tree);
        self.place.reopen();
        // Everything is read, so the index is asked about every chunk.
        let next = backup(&self.place);
        fs::remove_dir_all(&self.place.home.cache).ok();
        self.place.reopen();
        self.place.check_restores(&next, &self.tree);
        let report = check(&self.place);
        let is_other = |damage: &&String| !damage.starts_with("index/");
        assert_eq!(report.damage.iter().find(is_other), None, "{poison}");
        report
    }
}

/// Chunks of which no two are the same, and which take little room.
fn blocks(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; ENTRIES * BLOCK_BYTES];
    for (number, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        block[..8].copy_from_slice(&(seed << 32 | number as u64).to_le_bytes());
    }
    bytes
}

/// Reads and cuts everything, whatever is known of it.
fn backup(place: &Place) -> SnapshotRecord {
    let mut options = place.options();
    options.chunker = Some(ChunkerParams::Fixed { block: BLOCK_BYTES as u32 });
    options.force = true;
    let report = place.backup_with(options);
    assert_eq!(report.problems.listed, []);
    report.snapshot.unwrap()
}

fn check(place: &Place) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::No, threads: 2 };
    lastgood::check::start(place.repo.clone(), options).wait(drop).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What can become of a file beside others of its kind.
fn poisons(whole: &[u8], sibling: &[u8], foreign: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x20;
        bytes
    };
    // The first half of another, of the same length in all.
    let mixed = |other: &[u8]| {
        let half = (whole.len().min(other.len()) / 2) & !4095;
        [&other[..half], &whole[half..]].concat()
    };
    vec![
        ("flipped at its start", flipped(20)),
        ("flipped at its end", flipped(whole.len() - 3)),
        ("empty", Vec::new()),
        ("cut", whole[..whole.len() * 2 / 3].to_vec()),
        ("garbage", noise(99, whole.len())),
        ("another repository's", foreign.to_vec()),
        ("its sibling", sibling.to_vec()),
        ("half another repository's", mixed(foreign)),
        ("half its sibling", mixed(sibling)),
    ]
}

#[test]
fn a_poisoned_local_index_makes_nothing_known_and_nothing_wrong() {
    let mut poisoned = Poisoned::new(1);
    let other = Poisoned::new(100);
    let foreign = fs::read(&other.runs()[0]).unwrap();
    let kept = poisoned.place.path("kept");
    copy_tree(&poisoned.place.home.cache, &kept);
    let runs = poisoned.runs();
    let read = |path: &PathBuf| fs::read(path).unwrap();
    for (poison, bytes) in poisons(&read(&runs[0]), &read(&runs[1]), &foreign) {
        fs::remove_dir_all(&poisoned.place.home.cache).ok();
        copy_tree(&kept, &poisoned.place.home.cache);
        fs::write(&runs[0], bytes).unwrap();
        let report = poisoned.assert_harmless(poison);
        assert_eq!(report.damage, Vec::<String>::new(), "the repository has nothing: {poison}");
    }
}

#[test]
fn a_poisoned_index_segment_is_named_and_does_no_harm() {
    let mut poisoned = Poisoned::new(1);
    let foreign = fs::read(&Poisoned::new(100).segments()[0]).unwrap();
    let segments = poisoned.segments();
    let whole: Vec<Vec<u8>> = segments.iter().map(|path| fs::read(path).unwrap()).collect();
    for (poison, bytes) in poisons(&whole[0], &whole[1], &foreign) {
        fs::write(&segments[0], bytes).unwrap();
        fs::remove_dir_all(&poisoned.place.home.cache).ok();
        let report = poisoned.assert_harmless(poison);
        let name = segments[0].file_name().unwrap().to_str().unwrap();
        let found = [report.damage, report.mendable].concat();
        assert!(found.iter().any(|damage| damage.contains(name)), "{poison}: {found:?}");
        fs::write(&segments[0], &whole[0]).unwrap();
    }
    // Longer than any segment: not read, named, and no reason to stop.
    fs::File::options().write(true).open(&segments[0]).unwrap().set_len(1 << 30).unwrap();
    fs::remove_dir_all(&poisoned.place.home.cache).ok();
    poisoned.assert_harmless("a gigabyte");
}

/// As when the disk that holds it was replaced by its copy of last week.
#[test]
fn a_repository_set_back_lacks_what_the_local_index_knows_and_gets_it_again() {
    let mut poisoned = Poisoned::new(1);
    let repository = poisoned.place.home.data.join("repository");
    let old = poisoned.place.path("old");
    copy_tree(&repository, &old);
    fs::write(poisoned.place.source().join("new"), blocks(7)).unwrap();
    backup(&poisoned.place);
    let with_new = Tree::of(&poisoned.place.source());
    fs::remove_dir_all(&repository).unwrap();
    copy_tree(&old, &repository);
    poisoned.place.reopen();
    let accepted = lastgood::snapshots::accept_missing(&poisoned.place.repo, "test").unwrap();
    assert_eq!(accepted.len(), 1);
    let lost = poisoned.place.repo.accept_lost_log("test").unwrap();
    assert_eq!(lost.len(), 1, "the record of the backup that is lost");
    let next = backup(&poisoned.place);
    poisoned.place.check_restores(&next, &with_new);
    let report = check(&poisoned.place);
    assert_eq!((report.damage, report.affected), (Vec::new(), Vec::new()));
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
}

const BLOCK_BYTES: usize = 4 << 10;
/// A segment of as many is kept in a file.
const ENTRIES: usize = 9000;
