//! The ladder of repair: parity, a copy, another repository, the files themselves; and snapshots
//! without what is lost after all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lastgood::check::{CheckOptions, CheckReport, ReadData};
use lastgood::gc::{GcOptions, MaxUnused};
use lastgood::repair::{Origin, RepairOptions, RepairReport, ReplaceOptions, Replaced};
use lastgood::restore::RestoreOptions;
use lastgood::system::{Home, world};
use lastgood::{SnapshotRecord, opening, repair, snapshots};
use lastgood_format::key::Class;
use lastgood_format::packset::PackRef;

use crate::place::{Place, Tree, noise};

/// A place with three snapshots of a changing source: small files, one large one with a hole, a
/// directory of many, links.
struct Kept {
    place: Place,
    states: Vec<(SnapshotRecord, Tree)>,
}

impl Kept {
    /// Forgets all states but the newest, and destroys every pack of data.
    fn lose_data_of_the_newest(&mut self) {
        let newest = self.states.pop().unwrap();
        for (record, _) in self.states.drain(..) {
            self.place.repo.retire(&record, "a test", None).unwrap();
        }
        self.states.push(newest);
        for pack in self.packs(Class::Data) {
            destroy(&self.file_of(&pack), 0);
        }
    }

    fn new(seed: u64) -> Self {
        let place = Place::new();
        let source = place.source();
        fs::create_dir_all(source.join("many")).unwrap();
        for number in 0..40_u64 {
            let path = source.join(format!("many/{number}"));
            fs::write(path, noise(seed << 8 | number, 3000 + 97 * number as usize)).unwrap();
        }
        fs::create_dir_all(source.join("deep/er")).unwrap();
        fs::hard_link(source.join("many/3"), source.join("deep/er/linked")).unwrap();
        std::os::unix::fs::symlink("../many", source.join("deep/link")).unwrap();
        let mut states = Vec::new();
        for version in 0..3_u64 {
            let mut large = noise(seed << 8 | 100, 900_000);
            large[300_000..].copy_from_slice(&noise(seed << 8 | (101 + version), 600_000));
            fs::write(source.join("deep/large"), large).unwrap();
            fs::write(source.join("deep/er/small"), format!("version {version}")).unwrap();
            let (_, record) = place.backup();
            states.push((record, Tree::of(&source)));
        }
        Self { place, states }
    }

    fn repository(&self) -> PathBuf {
        self.place.home.data.join("repository")
    }

    /// A copy of the repository as it is.
    fn copied(&self) -> PathBuf {
        let copy = self.place.path("copy");
        copy_tree(&self.repository(), &copy);
        copy
    }

    fn objects(&self, folders: &[&str]) -> Vec<PathBuf> {
        let folders = folders.iter().flat_map(|folder| files(&self.repository().join(folder)));
        folders.collect()
    }

    /// Packs of a class.
    fn packs(&self, class: Class) -> Vec<PackRef> {
        let packs = self.place.repo.index().unwrap().packs();
        packs.into_iter().filter(|pack| pack.class == class).collect()
    }

    fn file_of(&self, pack: &PackRef) -> PathBuf {
        self.repository().join(format!("packs/{}/{}", pack.session, pack.pack))
    }

    fn options(&self) -> RepairOptions {
        RepairOptions { threads: 2, ..RepairOptions::new(self.place.home.state.clone()) }
    }

    fn with_copy(&self, copy: &Path) -> RepairOptions {
        let copy = opening::open_copy(&self.place.repo, copy).unwrap().unwrap();
        RepairOptions { copies: vec![copy], ..self.options() }
    }

    fn with_files(&self) -> RepairOptions {
        RepairOptions { host_id: Some([7; 16]), ..self.options() }
    }

    /// What a plan says comes to pass, and planning changes nothing.
    fn repair(&mut self, options: impl Fn(&Self) -> RepairOptions) -> RepairReport {
        self.forget_cache();
        let before = listing(&self.repository());
        let plan = RepairOptions { dry_run: true, ..options(self) };
        let plan = repair::start(self.place.repo.clone(), plan).wait(|_| {}).unwrap();
        assert_eq!(listing(&self.repository()), before, "planning changes something");
        let done = options(self);
        let done = repair::start(self.place.repo.clone(), done).wait(|_| {}).unwrap();
        assert_eq!(plan.objects.repaired, done.objects.repaired);
        assert_eq!(plan.lost.affected, done.lost.affected);
        self.forget_cache();
        done
    }

    fn forget_cache(&mut self) {
        fs::remove_dir_all(&self.place.home.cache).ok();
        self.place.reopen();
    }

    fn check(&self) -> CheckReport {
        let options = CheckOptions { read_data: ReadData::All, threads: 2 };
        lastgood::check::start(self.place.repo.clone(), options).wait(|_| {}).unwrap()
    }

    /// Everything is as it was.
    fn assert_whole(&mut self) {
        let report = self.check();
        assert_eq!(report.damage, Vec::<String>::new());
        assert_eq!(report.affected, []);
        for (record, tree) in &self.states {
            self.place.check_restores(record, tree);
        }
    }

    /// Destroys the middle of the largest pack: some files, and a part of the large one.
    fn lose_a_part(&self) {
        let mut packs = self.packs(Class::Data);
        packs.sort_by_key(|pack| pack.bytes);
        let largest = self.file_of(packs.last().unwrap());
        let mut bytes = fs::read(&largest).unwrap();
        let (start, end) = (bytes.len() / 10 * 3, bytes.len() / 10 * 6);
        bytes[start..end].fill(0);
        fs::write(&largest, bytes).unwrap();
    }

    fn gc(&self) {
        let options = GcOptions {
            state: self.place.home.state.clone(),
            max_unused: MaxUnused::Bytes(0),
            fence_after: 0,
            settings: lastgood::Settings::default(),
            dry_run: false,
            keep_reserve: false,
            exclusive: false,
        };
        lastgood::gc::start(self.place.repo.clone(), options).wait(|_| {}).unwrap();
    }

    fn replace(&self, forget: bool) -> Vec<Replaced> {
        let options = ReplaceOptions {
            state: self.place.home.state.clone(),
            threads: 2,
            dry_run: false,
            forget,
            program: "test".to_owned(),
        };
        repair::replace_snapshots(self.place.repo.clone(), options).wait(|_| {}).unwrap()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_copy_of_before_a_rotation_has_what_was_stored_then() {
    let mut kept = Kept::new(6);
    let copy = kept.copied();
    let key = opening::read_key_file(&kept.place.home.default_key_file()).unwrap();
    lastgood::keys::rotate(&kept.place.repo, &key, "new").unwrap();
    kept.place.reopen();
    for (number, object) in kept.objects(&["packs", "snapshots", "outcomes"]).iter().enumerate() {
        destroy(object, number as u64);
    }
    let report = kept.repair(|kept| kept.with_copy(&copy));
    assert!(!report.has_losses(), "{report:?}");
    kept.assert_whole();
}

/// Destroys far more of a file than parity makes up for.
fn destroy(path: &Path, seed: u64) {
    let mut bytes = fs::read(path).unwrap();
    let start = bytes.len() / 50 * (seed % 3) as usize;
    let end = bytes.len() - bytes.len() / 50 * (seed % 2) as usize;
    bytes[start..end].fill(0xa5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_one_of_two_copies_lost_comes_from_the_other() {
    for seed in 0..12_u64 {
        let mut kept = Kept::new(seed);
        let copy = kept.copied();
        let kinds =
            ["packs", "index", "snapshots", "outcomes", "sessions", "log"].map(|kind| [kind]);
        let mut random = noise(seed + 1000, 4096).into_iter();
        let mut chosen = 0;
        for object in kinds.iter().flat_map(|kind| kept.objects(kind)) {
            match random.next().unwrap() % 5 {
                0 => destroy(&object, seed),
                1 => {
                    let mut bytes = fs::read(&object).unwrap();
                    bytes.truncate(bytes.len() / 3);
                    fs::write(&object, bytes).unwrap();
                }
                // What is gone is missed where something else tells of it.
                2 if !object.starts_with(kept.repository().join("sessions")) => {
                    fs::remove_file(&object).unwrap();
                }
                _ => continue,
            }
            chosen += 1;
        }
        assert!(chosen > 10, "seed {seed}: {chosen}");
        let report = kept.repair(|kept| kept.with_copy(&copy));
        let lost = [report.objects.lost.clone(), report.objects.damaged_packs.clone()].concat();
        assert_eq!(lost, Vec::<String>::new(), "seed {seed}");
        assert!(!report.has_losses(), "seed {seed}: {report:?}");
        kept.assert_whole();
        let again = kept.repair(Kept::options);
        assert!(!again.has_work() && !again.has_losses(), "seed {seed}: {again:?}");
    }
}

#[test]
fn what_no_repair_brings_back_stays_damage() {
    let mut kept = Kept::new(9);
    for (number, pack) in kept.packs(Class::Data).iter().enumerate() {
        destroy(&kept.file_of(pack), number as u64);
    }
    // What the newest state has comes back, and is in other packs then; the rest of these is lost.
    let report = kept.repair(Kept::with_files);
    assert!(report.has_losses(), "{report:?}");
    let report = kept.check();
    let newest = kept.states.last().unwrap().0.id;
    assert!(!report.affected.is_empty(), "{report:?}");
    assert!(report.affected.iter().all(|(id, _)| *id != newest), "{report:?}");
    assert!(!report.damage.is_empty(), "{report:?}");
}

#[test]
fn lost_blobs_come_from_the_files_and_stay_through_gc() {
    let mut kept = Kept::new(7);
    // Only the newest state is there still: what it shares with others comes back to them.
    kept.states.remove(0);
    kept.states.remove(0);
    let old = snapshots::list(&kept.place.repo, &snapshots::Filter::default()).unwrap().0;
    for record in &old[..2] {
        kept.place.repo.retire(record, "a test", None).unwrap();
    }
    let packs = kept.packs(Class::Data);
    assert!(packs.len() >= 3, "{packs:?}");
    for (number, pack) in packs.iter().enumerate() {
        match number % 2 {
            0 => destroy(&kept.file_of(pack), number as u64),
            _ => fs::remove_file(kept.file_of(pack)).unwrap(),
        }
    }
    let report = kept.repair(Kept::with_files);
    assert_eq!(report.lost.affected, [], "{report:?}");
    assert_eq!(report.recovered[0].0, Origin::Files, "{report:?}");
    kept.assert_whole();
    assert!(!kept.repair(Kept::with_files).has_work(), "it is repaired twice");
    kept.gc();
    kept.forget_cache();
    kept.assert_whole();
}

#[test]
fn what_another_repository_holds_of_the_same_files_is_taken() {
    let mut kept = Kept::new(3);
    let home = Home {
        data: kept.place.path("other-data"),
        state: kept.place.path("other-state"),
        cache: kept.place.path("other-cache"),
    };
    let other = opening::open_default(&home, world(), "other").unwrap().repo;
    let options =
        lastgood::backup::BackupOptions { state: home.state.clone(), ..kept.place.options() };
    lastgood::backup::start(other.clone(), options).wait(|_| {}).unwrap();
    fs::remove_dir_all(kept.place.source()).unwrap();
    assert!(opening::open_copy(&kept.place.repo, &home.data.join("repository")).unwrap().is_none());
    // Of the states before, the other repository knows what did not change.
    kept.lose_data_of_the_newest();
    let report =
        kept.repair(|kept| RepairOptions { others: vec![other.clone()], ..kept.options() });
    assert_eq!(report.lost.affected, [], "{report:?}");
    let location = other.location().to_owned();
    assert!(report.recovered.iter().any(|(from, _)| *from == Origin::Repository(location.clone())));
    kept.assert_whole();
}

#[test]
fn what_a_mirror_holds_of_the_same_files_is_taken() {
    let mut kept = Kept::new(5);
    let mirror = kept.place.path("mirror");
    let options = lastgood::mirror::RunOptions {
        source: kept.place.source(),
        target: mirror.clone(),
        state: kept.place.home.state.clone(),
        select: lastgood::select::SelectOptions::default(),
        is_approved: false,
        forgets_excluded: false,
        verifies_outgoing: true,
        scrub_days: 0,
        dry_run: false,
        clock: world().clock,
    };
    lastgood::mirror::start_run(options).wait(|_| {}).unwrap();
    fs::remove_dir_all(kept.place.source()).unwrap();
    kept.lose_data_of_the_newest();
    let report =
        kept.repair(|kept| RepairOptions { mirrors: vec![mirror.clone()], ..kept.options() });
    assert_eq!(report.lost.affected, [], "{report:?}");
    let from = Origin::Mirror(mirror.display().to_string());
    assert!(report.recovered.iter().any(|(known, _)| *known == from), "{report:?}");
    kept.assert_whole();
}

#[test]
fn a_snapshot_without_what_is_lost_restores_but_for_exactly_that() {
    let mut kept = Kept::new(11);
    fs::remove_dir_all(kept.place.source()).unwrap();
    kept.lose_a_part();
    let report = kept.repair(Kept::with_files);
    assert!(report.has_losses() && report.recovered.iter().all(|it| it.0 == Origin::Here));
    let lost: BTreeSet<(String, Vec<u8>)> =
        report.lost.affected.iter().map(|it| (it.snapshot.to_string(), it.path.clone())).collect();
    assert!(!lost.is_empty());
    let affected: BTreeSet<(String, Vec<u8>)> =
        kept.check().affected.into_iter().map(|(id, path)| (id.to_string(), path)).collect();
    assert_eq!(affected, lost, "check tells of the same paths");

    let replaced = kept.replace(false);
    assert!(!replaced.is_empty());
    kept.forget_cache();
    assert_eq!(kept.replace(false), [], "what was replaced is replaced again");
    let source = kept.place.source();
    let inside = |path: &[u8]| {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new("/").join(std::ffi::OsStr::from_bytes(path));
        path.strip_prefix(&source).unwrap().as_os_str().to_owned()
    };
    let mut incomplete = 0;
    for Replaced { old, new, lost, .. } in &replaced {
        let (_, expected) = kept.states.iter().find(|(record, _)| record.id == *old).unwrap();
        let target = kept.place.path("replaced");
        let mut options = RestoreOptions::new(new.clone().unwrap(), target.clone());
        options.host_id = [7; 16];
        let report =
            lastgood::restore::start(kept.place.repo.clone(), options).wait(|_| {}).unwrap();
        assert_eq!(report.problems.listed, []);
        let Tree(mut found) = Tree::of(&target);
        let Tree(mut expected) = expected.clone();
        for affected in lost {
            expected.remove(&inside(&affected.path)).unwrap();
        }
        found.retain(|path, _| {
            let is_rest = path.to_str().unwrap().ends_with(".incomplete");
            incomplete += u32::from(is_rest);
            !is_rest
        });
        let names =
            |tree: &std::collections::BTreeMap<_, _>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        fs::remove_dir_all(target).unwrap();
    }
    assert!(incomplete > 0, "no file keeps what is left of it");
    let affected: BTreeSet<String> =
        kept.check().affected.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(affected, replaced.iter().map(|it| it.old.to_string()).collect());
    for it in &replaced {
        let (record, _) = kept.states.iter().find(|(record, _)| record.id == it.old).unwrap();
        kept.place.repo.retire(record, "a test", it.new.as_ref().map(|new| new.id)).unwrap();
    }
    kept.forget_cache();
    let report = kept.check();
    assert_eq!((report.damage, report.affected), (Vec::new(), Vec::new()));
    kept.gc();
    kept.forget_cache();
    let report = kept.check();
    assert_eq!((report.damage, report.affected), (Vec::new(), Vec::new()));
}

#[test]
fn what_is_pinned_stays_when_another_stands_in_for_it() {
    let mut kept = Kept::new(12);
    let (repo, state) = (&kept.place.repo, &kept.place.home.state);
    let pinned = lastgood::snapshots::pin(repo, state, &kept.states[0].0, true, "test").unwrap();
    let pinned = pinned.unwrap().record.id;
    kept.lose_a_part();
    kept.forget_cache();
    let replaced = kept.replace(true);
    let live = kept.place.repo.snapshots().unwrap().live;
    for it in &replaced {
        assert_eq!(it.is_pinned, it.old == pinned);
        assert_eq!(live.iter().any(|record| record.id == it.old), it.is_pinned, "{it:?}");
    }
    let is_any = |is_pinned| replaced.iter().any(|it| it.is_pinned == is_pinned);
    assert!(is_any(true) && is_any(false), "{replaced:?}");
}

#[test]
fn an_index_that_is_lost_is_made_again_from_packs() {
    let mut kept = Kept::new(5);
    let segments = kept.objects(&["index"]);
    for (number, segment) in segments.iter().enumerate() {
        match number % 2 {
            0 => destroy(segment, 0),
            _ => fs::remove_file(segment).unwrap(),
        }
    }
    kept.forget_cache();
    for (record, tree) in &kept.states {
        kept.place.check_restores(record, tree);
    }
    let report = kept.repair(Kept::options);
    assert!(report.objects.indexed > 0 && !report.has_losses(), "{report:?}");
    assert_eq!(report.objects.unindexed.len(), segments.len().div_ceil(2));
    kept.assert_whole();
    let remarks = kept.check().remarks;
    assert!(remarks.iter().all(|remark| !remark.contains("index")), "{remarks:?}");
    assert!(!kept.repair(Kept::options).has_work());
}
