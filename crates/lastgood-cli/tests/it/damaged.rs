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
            let is_lost = way == "empty";
            let code = if is_lost || args == ["check"] { 5 } else { 0 };
            assert_eq!(run.code, Some(code), "{way}, {args:?}: {run:?}");
            assert!(
                run.err.contains(if is_lost { "repository" } else { "config" }),
                "{way}: {run:?}"
            );
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
    let objects = files(&world.path(REPOSITORY));
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
    world.run(&["repair"]).code(0);
    let check = world.run(&["check", "--read-data"]).code(0);
    assert!(check.err.contains("stored whole again"), "{check:?}");
    let again = world.run(&["--json", "repair"]).code(0);
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

const REPOSITORY: &str = "home/.local/share/lastgood/repository";
