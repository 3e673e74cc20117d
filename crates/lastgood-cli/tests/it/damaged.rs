//! One object of each kind, cut or flipped, in a real repository: the command says which object is
//! damaged, ends with the documented code, and everything else comes back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::world::{Run, World, noise};

/// A repository with two snapshots of two sources, the second in packs of its own.
struct Damaged {
    world: World,
    /// Id of the older snapshot, of `old`.
    old: String,
    /// Objects that only the second run stored.
    of_new: Vec<PathBuf>,
}

impl Damaged {
    fn new() -> Self {
        let world = World::new();
        world.write("old/file", &noise(100_000, 1));
        world.write("old/sub/small", b"small");
        world.write("new/file", &noise(100_000, 2));
        let backup = |name: &str| {
            let run = world.run(&["--json", "backup", &world.text(name)]).code(0);
            run.summary()["snapshot_id"].as_str().unwrap().to_owned()
        };
        let old = backup("old");
        let before = files(&world.path(REPOSITORY));
        backup("new");
        let mut of_new = files(&world.path(REPOSITORY));
        of_new.retain(|path| !before.contains(path));
        Self { world, old, of_new }
    }

    /// Objects of the newer run below `folder`.
    fn of_new(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.world.path(REPOSITORY).join(folder);
        let found: Vec<_> = self.of_new.iter().filter(|p| p.starts_with(&folder)).collect();
        assert!(!found.is_empty(), "nothing in {}", folder.display());
        found.into_iter().cloned().collect()
    }

    /// Runs `check` with `object` damaged in every way; it is whole again afterwards.
    fn each_way(&self, object: &Path, check: impl Fn(&str)) {
        let whole = fs::read(object).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        let ways = [("flipped", &flipped[..]), ("cut", &whole[..whole.len() / 2]), ("empty", &[])];
        for (way, bytes) in ways {
            fs::write(object, bytes).unwrap();
            fs::remove_dir_all(self.world.path("home/.cache")).ok();
            check(way);
        }
        fs::write(object, whole).unwrap();
    }

    /// The older snapshot comes back whole, whatever is wrong with the newer one.
    fn assert_old_restores(&self) {
        let back = self.world.text("back");
        self.world.run(&["restore", &self.old, "-t", &back]).code(0);
        self.world.assert_same("old", "back");
        fs::remove_dir_all(back).unwrap();
    }

    fn assert_named(&self, run: &Run, object: &Path) {
        let name = object.strip_prefix(self.world.path(REPOSITORY)).unwrap().to_str().unwrap();
        assert!(run.err.contains(name) || run.out.contains(name), "{name} is not named: {run:?}");
    }
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

#[test]
fn a_damaged_config_is_damage_and_nothing_is_written_over_it() {
    let damaged = Damaged::new();
    let config = damaged.world.path(REPOSITORY).join("config");
    damaged.each_way(&config, |way| {
        let before = fs::read(&config).unwrap();
        let source = damaged.world.text("old");
        for args in [&["check"][..], &["snapshots"], &["backup", &source]] {
            let run = damaged.world.run(args);
            let code = if args == ["check"] { 5 } else { 0 };
            assert_eq!(run.code, Some(code), "{way}, {args:?}: {run:?}");
            assert!(run.err.contains("config"), "{way}: {run:?}");
        }
        assert_eq!(fs::read(&config).unwrap(), before, "{way}");
    });
    damaged.assert_old_restores();
}

#[test]
fn a_damaged_key_slot_opens_nothing_and_is_found() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    world.run(&["key", "add", "--new-key-file", &world.text("second")]).code(0);
    let slots = files(&world.path(REPOSITORY).join("keys"));
    assert_eq!(slots.len(), 2);
    for slot in slots {
        damaged.each_way(&slot, |way| {
            let by = |key: &str| {
                let key = world.text(key);
                world.run(&["-r", &world.text(REPOSITORY), "--key-file", &key, "check"])
            };
            let runs = [by("home/.local/share/lastgood/repository.key"), by("second")];
            let mut codes: Vec<_> = runs.iter().map(|run| run.code).collect();
            codes.sort();
            let closed = if way == "empty" { 12 } else { 5 };
            assert_eq!(codes, [Some(5), Some(closed)], "{way}: {runs:?}");
            let found = runs.iter().find(|run| run.code == Some(5)).unwrap();
            assert!(found.err.contains("keys"), "{way}: {found:?}");
        });
    }
    damaged.assert_old_restores();
}

#[test]
fn a_damaged_snapshot_or_outcome_is_named_and_hides_no_other() {
    let damaged = Damaged::new();
    for folder in ["snapshots", "outcomes"] {
        for object in damaged.of_new(folder) {
            damaged.each_way(&object, |way| {
                let check = damaged.world.run(&["check"]).code(5);
                damaged.assert_named(&check, &object);
                let listed = damaged.world.run(&["snapshots", "--json"]);
                assert!(listed.out.contains(&damaged.old), "{folder}, {way}: {listed:?}");
                damaged.assert_named(&listed, &object);
                damaged.assert_old_restores();
            });
        }
    }
    damaged.world.run(&["check", "--read-data"]).code(0);
}

#[test]
fn a_damaged_pack_of_any_class_is_named_and_costs_only_its_own() {
    let damaged = Damaged::new();
    let packs = damaged.of_new("packs");
    assert_eq!(packs.len(), 3, "data, metadata and references: {packs:?}");
    for pack in packs {
        damaged.each_way(&pack, |way| {
            let check = damaged.world.run(&["check", "--read-data"]).code(5);
            damaged.assert_named(&check, &pack);
            damaged.assert_old_restores();
            let back = damaged.world.text("new-back");
            let run = damaged.world.run(&["restore", "latest", "-t", &back]);
            match run.code {
                // Parity stands in for a bit, and the index for a list that is lost.
                Some(0) => damaged.world.assert_same("new", "new-back"),
                Some(5) if way != "flipped" => {}
                _ => panic!("{way}: {run:?}"),
            }
            fs::remove_dir_all(back).ok();
        });
    }
    damaged.world.run(&["check", "--read-data"]).code(0);
}

/// One bit in every object: the command goes on, warns, and repairs them all.
#[test]
fn what_is_damaged_a_little_is_repaired_and_nothing_is_written_over() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    let mut objects = files(&world.path(REPOSITORY));
    // It says nothing, so nothing is wrong with it.
    objects.retain(|object| !object.starts_with(world.path(REPOSITORY).join("reserve")));
    for object in &objects {
        let mut bytes = fs::read(object).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(object, bytes).unwrap();
    }
    fs::remove_dir_all(world.path("home/.cache")).ok();
    let with_damage: Vec<_> = objects.iter().map(|object| fs::read(object).unwrap()).collect();
    let check = world.run(&["--json", "check", "--read-data"]).code(5);
    let mendable = check.summary()["mendable"].as_array().unwrap().clone();
    assert_eq!(mendable.len(), objects.len(), "{mendable:?}");
    let back = world.text("new-back");
    let restored = world.run(&["restore", "latest", "-t", &back]).code(0);
    world.assert_same("new", "new-back");
    assert!(restored.err.contains("is damaged; nothing of it is lost"), "{restored:?}");

    // With the record of that restore.
    let before = files(&world.path(REPOSITORY));
    let dry = world.run(&["--json", "repair", "-n"]).code(0);
    assert_eq!(dry.summary()["repaired"].as_array().unwrap().len(), objects.len());
    assert_eq!(files(&world.path(REPOSITORY)), before, "a dry run stores nothing");
    world.run(&["repair"]).code(5);
    assert_eq!(files(&world.path(REPOSITORY)), before, "it is stored without being asked for");
    world.run(&["repair", "--yes"]).code(0);
    let check = world.run(&["check", "--read-data"]).code(0);
    assert!(check.err.contains("stored whole again"), "{check:?}");
    let again = world.run(&["--json", "repair", "--yes"]).code(0);
    assert_eq!(again.summary()["repaired"].as_array().unwrap().len(), 0);
    for (object, bytes) in objects.iter().zip(with_damage) {
        assert!(fs::read(object).unwrap() == bytes, "{} was changed", object.display());
        // What was damaged may now be lost.
        fs::write(object, vec![0x5a; bytes.len()]).unwrap();
    }
    fs::remove_dir_all(world.path("home/.cache")).ok();
    damaged.assert_old_restores();
    world.run(&["backup", &world.text("new")]).code(0);
    world.run(&["check", "--read-data"]).code(0);
}

#[test]
fn a_damaged_index_segment_or_session_is_no_loss() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    for object in damaged.of_new("index") {
        damaged.each_way(&object, |_| {
            let check = world.run(&["check"]).code(5);
            damaged.assert_named(&check, &object);
            world.run(&["restore", "latest", "-t", &world.text("new-back")]).code(0);
            world.assert_same("new", "new-back");
            fs::remove_dir_all(world.path("new-back")).unwrap();
            damaged.assert_old_restores();
        });
    }
    // A session that was ended says nothing any more.
    for object in damaged.of_new("sessions") {
        damaged.each_way(&object, |_| {
            damaged.assert_old_restores();
            world.run(&["backup", &world.text("old")]).code(0);
        });
    }
    world.run(&["check", "--read-data"]).code(0);
}

/// The store is set back to what it was: seen, refused, brought back from a copy or accepted.
#[test]
fn a_store_that_was_set_back_is_seen_and_comes_back_from_a_copy_or_is_accepted() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    let copy = world.path("copy");
    copy_tree(&world.path(REPOSITORY), &copy);
    let set_back = || {
        for object in &damaged.of_new {
            fs::remove_file(object).ok();
        }
        fs::remove_dir_all(world.path("home/.cache")).ok();
    };
    set_back();
    world.run(&["backup", &world.text("old")]).code(5);
    world.run(&["log", "--verify"]).code(5);
    world.run(&["log"]).code(0);
    let listed = world.run(&["--json", "accept-rollback"]).code(0);
    assert_eq!(listed.summary()["missing_snapshots"], 1);
    assert_eq!(listed.summary()["missing_log_records"], 1);
    assert_eq!(listed.summary()["accepted"], false);

    world.run(&["repair", "--from", copy.to_str().unwrap(), "--yes"]).code(0);
    world.run(&["check", "--read-data"]).code(0);
    world.run(&["log", "--verify"]).code(0);
    world.run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("new", "back");

    set_back();
    let repaired = files(&world.path(REPOSITORY).join("packs"));
    // What the repair stored goes as well.
    let old: Vec<_> = repaired.iter().filter(|pack| !copied(world, &copy, pack)).collect();
    old.into_iter().for_each(|pack| fs::remove_file(pack).unwrap());
    world.run(&["check"]).code(5);
    world.run(&["accept-rollback", "--yes"]).code(0);
    world.run(&["log", "--verify"]).code(0);
    world.run(&["check", "--read-data"]).code(0);
    world.run(&["backup", &world.text("new")]).code(0);
    damaged.assert_old_restores();
}

fn copied(world: &World, copy: &Path, object: &Path) -> bool {
    copy.join(object.strip_prefix(world.path(REPOSITORY)).unwrap()).exists()
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
}

/// What parity cannot mend comes from the files; without them, from nowhere, and snapshots without
/// it are made.
#[test]
fn lost_content_comes_from_the_files_or_is_left_out() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    let wipe = || {
        for pack in damaged.of_new("packs") {
            let mut bytes = fs::read(&pack).unwrap();
            // The pack that holds the file, and not those of its metadata.
            if bytes.len() > 50_000 {
                let length = bytes.len();
                bytes[length / 4..length / 4 * 3].fill(0);
                fs::write(&pack, bytes).unwrap();
            }
        }
        fs::remove_dir_all(world.path("home/.cache")).ok();
    };
    wipe();
    world.run(&["check", "--read-data"]).code(5);
    world.run(&["repair", "-n"]).code(0);
    let waits = world.run(&["repair"]).code(5);
    assert!(waits.err.contains("--yes"), "{waits:?}");
    let done = world.run(&["repair", "--yes"]).code(0);
    assert!(done.out.contains("from files of this host"), "{done:?}");
    world.run(&["check", "--read-data"]).code(0);
    world.run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("new", "back");

    let damaged = Damaged::new();
    let world = &damaged.world;
    let packs = damaged.of_new("packs");
    let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    world.run(&["stats", "--mode", "raw-data"]).code(0);
    let run = world.run(&["--json", "repair", "--yes", "--no-files"]).code(5);
    let summary = run.summary();
    let path = format!("{}/file", world.text("new"));
    assert_eq!(summary["affected"][0]["path"], path.as_str(), "{run:?}");
    world.run(&["repair", "snapshots"]).code(5);
    let run = world.run(&["--json", "repair", "snapshots", "--yes", "--forget"]).code(0);
    assert_eq!(run.summary()["snapshots"][0]["lost"][0]["path"], path.as_str());
    world.run(&["check", "--read-data"]).code(0);
    let back = world.text("replaced");
    world.run(&["restore", "latest", "-t", &back]).code(0);
    assert_eq!(fs::read_dir(back).unwrap().count(), 0, "the only file is lost");
    damaged.assert_old_restores();
}

#[test]
fn what_is_damaged_is_not_counted_and_the_rest_is() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    let entries = |code| {
        let run = world.run(&["--json", "stats"]).code(code);
        run.summary()["total_file_count"].as_u64().unwrap()
    };
    let all = entries(0);
    for pack in damaged.of_new("packs") {
        fs::remove_file(pack).unwrap();
    }
    fs::remove_dir_all(world.path("home/.cache")).ok();
    let left = entries(5);
    assert!(0 < left && left < all, "{left} of {all}");
}

const REPOSITORY: &str = "home/.local/share/lastgood/repository";
