//! Snapshots, stores and targets made by somebody who means harm: nothing outside the target is
//! touched, no wrong byte passes for a right one, and what is changed is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lastgood::restore::RestoreOptions;
use lastgood::{Entry, Node, Repository, SnapshotRecord};
use lastgood_backend::ObjectName;
use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_testkit::campaign::{each_seed, seeds, tell};
use lastgood_testkit::chance::Chance;

use super::world::{Source, check, create, key_file, open};
use crate::place::{Tree, noise};
use crate::restore::{Hand, World, entry};

/// What lies outside of the target and must stay as it is, with its times and links.
type Outside = BTreeMap<PathBuf, (u32, u64, i64, i64, Vec<u8>)>;

fn outside(root: &Path) -> Outside {
    let mut found = Outside::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // Links to it may be made, so the time of the inode says nothing.
        let facts = (meta.mode(), meta.len(), meta.mtime(), meta.mtime_nsec(), content);
        found.insert(path, facts);
    }
    found
}

fn make_outside(world: &World) -> PathBuf {
    let root = world.path("outside");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("file"), b"outside").unwrap();
    fs::write(root.join("sub/secret"), b"secret").unwrap();
    root
}

/// Names that a tree may hold, and that a careless program mistakes for something else.
const NAMES: [&str; 20] = [
    "...",
    "..a",
    "-rf",
    "~",
    "$HOME",
    "%n%s",
    "*",
    "?",
    "a b",
    "\n",
    "\u{202e}gpj",
    "con",
    "a:b",
    "\\..\\..",
    ".lastgood-",
    "`id`",
    "a\r",
    "\u{1b}[2J",
    "..\u{2215}x",
    "file",
];
/// Names that no tree may hold.
const BAD_NAMES: [&str; 7] =
    ["..", ".", "a/b", "../outside/file", "/etc/passwd", "a\0b", "sub/../../outside/file"];

/// A directory of hostile entries; tells how many.
fn hostile(
    hand: &mut Hand<'_>,
    chance: &mut Chance,
    outside: &Path,
    depth: usize,
    cases: &mut u64,
) -> Vec<Entry> {
    let names: BTreeSet<&str> = (0..3 + chance.below(5)).map(|_| *chance.pick(&NAMES)).collect();
    let entries = names.into_iter().map(|name| {
        *cases += 1;
        match chance.below(if depth == 0 { 4 } else { 7 }) {
            0 | 1 => hand.file(name, &noise(chance.number(), 1 + chance.below(9000))),
            2 => entry(name, Node::Fifo),
            3 => {
                let place = outside.as_os_str().as_bytes().to_vec();
                let targets: [Vec<u8>; 6] = [
                    place.clone(),
                    [&place[..], b"/file"].concat(),
                    b"../outside/file".to_vec(),
                    b"/proc/self/root".to_vec(),
                    name.as_bytes().to_vec(),
                    b"../".repeat(1000),
                ];
                entry(name, Node::Symlink { target: chance.pick(&targets).clone().into() })
            }
            _ => {
                let below = hostile(hand, chance, outside, depth - 1, cases);
                hand.directory(name, below)
            }
        }
    });
    entries.collect()
}

/// Puts things in the way of a restore.
fn plant(target: &Path, chance: &mut Chance, outside: &Path, depth: usize) {
    fs::create_dir_all(target).unwrap();
    for name in NAMES {
        let path = target.join(name);
        match chance.below(9) {
            0 => symlink(outside, path).unwrap(),
            1 => symlink(outside.join("file"), path).unwrap(),
            2 => fs::hard_link(outside.join("file"), path).unwrap(),
            3 => fs::write(path, noise(chance.number(), 5000)).unwrap(),
            4 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap(),
            5 if depth > 0 => plant(&path, chance, outside, depth - 1),
            _ => {}
        }
    }
}

/// Whatever a snapshot holds and whatever is in the way, nothing outside of the target changes, and
/// the target holds what the snapshot does.
#[test]
fn hostile_names_and_links_do_not_escape() {
    let seeds = seeds(30);
    let campaign = each_seed(seeds.clone(), names_and_links);
    let cases: u64 = campaign.figures.iter().sum();
    tell(&format!(
        "hostile, seeds {seeds:?}: {cases} hostile names and links restored or refused; seeds with \
         an escape or other files: {}",
        campaign.failed()
    ));
    campaign.end();
    assert!(cases >= 10 * (seeds.end - seeds.start), "{cases} cases");
}

/// Restores a hostile tree to where things are in its way, and counts its entries.
fn names_and_links(seed: u64, cases: &mut u64) -> Result<(), String> {
    let world = World::new();
    let root = make_outside(&world);
    let before = outside(&root);
    let mut chance = Chance::new(seed);
    let record = world.commit(|hand| hostile(hand, &mut chance, &root, 2, cases), Vec::new());
    let restore = |target: &Path, delete| {
        let target = target.to_owned();
        let options = RestoreOptions { target, delete, ..world.options(&record) };
        let report = world.try_restore(options).map_err(|why| why.to_string())?;
        match report.problems.errors {
            0 => Ok(()),
            _ => Err(format!("{:?}", report.problems)),
        }
    };
    let (clean, target) = (world.path("clean"), world.path("target"));
    restore(&clean, false)?;
    plant(&target, &mut chance, &root, 2);
    restore(&target, true)?;
    if outside(&root) != before {
        return Err("something outside of the target changed".to_owned());
    }
    if Tree::of(&target) == Tree::of(&clean) {
        Ok(())
    } else {
        Err("the target holds something else".to_owned())
    }
}

/// A name that no tree may hold is refused, and what lies beside it comes back.
#[test]
fn names_that_no_tree_may_hold_are_refused() {
    let world = World::new();
    let root = make_outside(&world);
    let before = outside(&root);
    for name in BAD_NAMES {
        let good = |hand: &mut Hand<'_>| hand.file("good", b"good");
        let record =
            world.commit(|hand| vec![good(hand), hand.bad_directory("dir", name)], Vec::new());
        let report = world.try_restore(world.options(&record)).unwrap();
        assert!(report.problems.errors > 0, "{name:?} is refused");
        assert_eq!(fs::read(world.path("target/good")).unwrap(), b"good");
        assert_eq!(outside(&root), before, "{name:?}");
        fs::remove_dir_all(world.path("target")).unwrap();
    }
}

/// Somebody swaps a directory of the target for a link to elsewhere and back, all the time.
#[test]
fn a_racing_swapper_gains_nothing() {
    let swaps = swapped(seeds(100)).unwrap();
    tell(&format!("hostile: {swaps} swaps of a directory under running restores; escapes: 0"));
    assert!(swaps > 0, "the swapper came to its turn");
}

/// Restores while somebody swaps, and returns how often that was done.
pub(super) fn swapped(seeds: std::ops::Range<u64>) -> Result<u64, String> {
    let world = World::new();
    let root = make_outside(&world);
    let before = outside(&root);
    let record = world.commit(
        |hand| {
            let files = |hand: &mut Hand<'_>, seed: u64| {
                let file =
                    |number: u64| hand.file(&format!("{number:02}"), &noise(seed + number, 3000));
                (0..12).map(file).collect::<Vec<_>>()
            };
            let mut below = files(hand, 100);
            below.push(hand.file("file", b"inside"));
            let mut entries = files(hand, 200);
            entries.push(hand.directory("sub", below));
            vec![hand.directory("swapped", entries)]
        },
        Vec::new(),
    );
    let target = world.path("target");
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut escaped = None;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (place, away) = (target.join("swapped"), world.path("away"));
            while !stop.load(Ordering::Relaxed) {
                if fs::rename(&place, &away).is_ok() {
                    let is_linked = symlink(&root, &place).is_ok();
                    swaps.fetch_add(1, Ordering::Relaxed);
                    if is_linked {
                        fs::remove_file(&place).ok();
                    }
                    // Where a directory has come meanwhile, the old one is not put back.
                    if fs::rename(&away, &place).is_err() {
                        fs::remove_dir_all(&away).ok();
                    }
                }
                std::thread::yield_now();
            }
        });
        for seed in seeds {
            let options = RestoreOptions { delete: seed % 2 == 1, ..world.options(&record) };
            // It may fail, and say so.
            drop(world.try_restore(options));
            if outside(&root) != before {
                escaped = Some(seed);
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    match escaped {
        Some(seed) => Err(format!("seed {seed}: something outside of the target changed")),
        None => Ok(swaps.into_inner()),
    }
}

/// What a store that means harm may do with its objects.
struct Attack {
    what: String,
    objects: Objects,
    /// Whether it changed bytes that are needed, so that somebody must notice.
    must_be_seen: bool,
}

/// A repository, and another with the same keys file and other secrets.
struct Store {
    source: Source,
    objects: Objects,
    foreign: Objects,
    records: Vec<(SnapshotRecord, Tree)>,
}

impl Store {
    fn new() -> Self {
        let source = Source::new(1);
        let make = |seed| {
            let memory = MemoryBackend::new();
            let repo = create(Arc::new(memory.clone()), seed).unwrap();
            let mut records = Vec::new();
            for _ in 0..3 {
                source.change();
                let record = source.backup(&repo).unwrap();
                records.push((record, Tree::of(&source.path())));
            }
            (memory.objects(), records)
        };
        let (foreign, _) = make(2);
        let (objects, records) = make(3);
        Self { source, objects, foreign, records }
    }

    fn attacks(&self) -> Vec<Attack> {
        let kind = |name: &ObjectName| name.as_str().split('/').next().unwrap_or("").to_owned();
        let mut attacks = Vec::new();
        let mut add = |what: String, must_be_seen, change: &dyn Fn(&mut Objects)| {
            let mut objects = self.objects.clone();
            change(&mut objects);
            attacks.push(Attack { what, objects, must_be_seen });
        };
        for (name, bytes) in &self.objects {
            // Session objects only say who is at work.
            let is_needed = kind(name) != "sessions";
            for (other, others) in &self.objects {
                if name < other && bytes != others {
                    let what = format!("{name} and {other} are swapped");
                    let is_needed = is_needed || kind(other) != "sessions";
                    add(what, is_needed, &|objects| {
                        objects.insert(name.clone(), others.clone());
                        objects.insert(other.clone(), bytes.clone());
                    });
                }
            }
            let same_kind = self.foreign.iter().filter(|(other, _)| kind(other) == kind(name));
            for (other, others) in same_kind.take(3) {
                let what = format!("{name} is {other} of another repository");
                add(what, is_needed, &|objects| drop(objects.insert(name.clone(), others.clone())));
            }
            let made: [(&str, Vec<u8>); 3] = [
                ("empty", Vec::new()),
                ("zeros", vec![0; bytes.len()]),
                ("garbage", noise(7, bytes.len() + 100)),
            ];
            for (how, made) in made {
                let what = format!("{name} is {how}");
                add(what, is_needed, &|objects| {
                    drop(objects.insert(name.clone(), made.as_slice().into()));
                });
            }
            // Whoever knows no newer state cannot tell that it was there.
            add(format!("{name} is gone"), false, &|objects| drop(objects.remove(name)));
        }
        for (name, bytes) in
            self.foreign.iter().filter(|(name, _)| !self.objects.contains_key(*name))
        {
            add(format!("{name} of another repository is there too"), false, &|objects| {
                objects.insert(name.clone(), bytes.clone());
            });
            let garbage = noise(9, 3000);
            add(format!("garbage is called {name}"), false, &|objects| {
                objects.insert(name.clone(), garbage.as_slice().into());
            });
        }
        attacks
    }

    /// Whether anybody noticed; wrong bytes are an error.
    fn suffer(&self, attack: &Attack, number: u64) -> Result<bool, String> {
        let memory = MemoryBackend::new();
        memory.replace(attack.objects.clone());
        let Ok(repo) = open(Arc::new(memory), 4, 0) else { return Ok(true) };
        let found = repo.snapshots().map_err(|error| format!("{error:?}"))?;
        for record in &found.live {
            let known = self.records.iter().find(|(known, _)| known.id == record.id);
            let Some((_, tree)) = known else { return Err("a snapshot from nowhere".to_owned()) };
            self.compare(&repo, record, tree, number)?;
        }
        let lost = found.live.len() < self.records.len() || !repo.mended().is_empty();
        let damage = check(&repo).map_err(|error| format!("{error:?}"));
        Ok(lost || !found.damaged.is_empty() || damage.map_or(true, |damage| !damage.is_empty()))
    }

    /// A restore that claims success gives the right files.
    fn compare(
        &self,
        repo: &Arc<Repository>,
        record: &SnapshotRecord,
        tree: &Tree,
        number: u64,
    ) -> Result<(), String> {
        let target = self.source.beside(&format!("target-{number}"));
        let options = RestoreOptions {
            host_id: [7; 16],
            threads: 1,
            ..RestoreOptions::new(record.clone(), target.clone())
        };
        let result = lastgood::restore::start(repo.clone(), options).wait(drop);
        let is_wrong = result.is_ok_and(|report| {
            let claims = report.damaged.is_empty() && report.problems.errors == 0;
            claims && &Tree::of(&target) != tree
        });
        fs::remove_dir_all(&target).ok();
        if is_wrong { Err("wrong files pass for right ones".to_owned()) } else { Ok(()) }
    }
}

/// Objects swapped, replaced by those of other kinds or of another repository, emptied, removed, and
/// garbage with good names.
#[test]
fn a_malicious_store_is_seen_and_returns_no_wrong_bytes() {
    let store = Store::new();
    let attacks = store.attacks();
    let campaign = each_seed(0..attacks.len() as u64, |number, is_seen: &mut bool| {
        let attack = &attacks[number as usize];
        *is_seen = store.suffer(attack, number).map_err(|why| format!("{}: {why}", attack.what))?;
        match *is_seen || !attack.must_be_seen {
            true => Ok(()),
            false => Err(format!("nobody noticed that {}", attack.what)),
        }
    });
    let needed = attacks.iter().filter(|attack| attack.must_be_seen).count();
    tell(&format!(
        "hostile: {} attacks of a store, {needed} of which must be seen, {} seen; unnoticed or \
         with wrong bytes: {}",
        attacks.len(),
        campaign.figures.iter().filter(|is_seen| **is_seen).count(),
        campaign.failed()
    ));
    campaign.end();
    assert!(needed > 200, "{needed}");
}

/// A tree of which every level names the next one many times: whoever walked paths would never end.
#[test]
fn a_tree_that_shares_itself_costs_no_more_than_what_is_stored() {
    let world = World::new();
    world.commit(
        |hand| {
            let mut below = vec![hand.file("bottom", b"bottom")];
            for _ in 0..60 {
                let first = hand.directory("0", below);
                let again = |number: u8| Entry {
                    name: number.to_string().into_bytes().into(),
                    ..first.clone()
                };
                below = (0..9).map(again).collect();
            }
            below
        },
        Vec::new(),
    );
    let options =
        lastgood::check::CheckOptions { read_data: lastgood::check::ReadData::All, threads: 2 };
    let report = lastgood::check::start(world.repo.clone(), options).wait(drop).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    assert!(report.blobs < 200, "{} blobs for 9^60 paths", report.blobs);
}

/// Slots of others cannot be made to open a repository, and garbage among them locks nobody out.
#[test]
fn foreign_key_slots_open_nothing() {
    let store = Store::new();
    let memory = MemoryBackend::new();
    let slots = store.foreign.iter().filter(|(name, _)| name.as_str().starts_with("keys/"));
    let mut objects = store.objects.clone();
    objects.retain(|name, _| !name.as_str().starts_with("keys/"));
    objects.extend(slots.map(|(name, bytes)| (name.clone(), bytes.clone())));
    memory.replace(objects);
    assert!(open(Arc::new(memory), 1, 0).is_err());
    let memory = MemoryBackend::new();
    let mut objects = store.objects.clone();
    for number in 0..50_u64 {
        let name = format!("keys/{:064x}", number + 1);
        objects.insert(ObjectName::new(&name).unwrap(), noise(number, 300).as_slice().into());
    }
    memory.replace(objects);
    let repo = open(Arc::new(memory), 1, 0).unwrap();
    assert!(repo.slot_of(&key_file(0)).is_ok());
}
