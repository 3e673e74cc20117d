//! Older states that come between the versions.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use lastgood_format::entry::Timestamp;
use lastgood_mirror::repair::repair;
use lastgood_mirror::run::insert;
use lastgood_mirror::thin::drop_version;
use lastgood_mirror::{Mirror, MirrorError, Version};

use crate::world::{Names, World, tree};

impl World {
    /// Makes a version of what the source is, at a moment.
    fn insert(&self, seconds: i64) -> Result<Version, MirrorError> {
        let (mirror, _) = Mirror::open_to_change(&self.mirror("")).unwrap();
        let mut options = self.options();
        options.now = Timestamp { seconds, nanos: 0 };
        insert(&mirror, &options, &mut Names(&[]), &self.troubles)
    }
}

const DAY: i64 = 86_400;
const START: i64 = 4_000_000_000;

/// Versions of the days 1, 2 and 3, in which a state is missing.
fn world() -> World {
    let mut world = World::new();
    world.write("a", b"one");
    world.write("same", b"in all of them");
    world.write("d/x", b"x");
    world.write("moves", b"goes elsewhere");
    fs::hard_link(world.source("d/x"), world.source("y")).unwrap();
    world.run();
    world.write("a", b"two");
    fs::rename(world.source("moves"), world.source("d/moved")).unwrap();
    world.run();
    world.write("a", b"three");
    fs::remove_dir_all(world.source("d")).unwrap();
    world.run();
    world
}

/// A state like none of them.
fn missing_state(world: &World) {
    world.write("a", b"one and a half");
    world.write("d", b"a file here");
    fs::remove_file(world.source("same")).unwrap();
    world.write("only/here", b"alone");
    fs::hard_link(world.source("only/here"), world.source("only/there")).unwrap();
    symlink("only", world.source("link")).unwrap();
}

#[test]
fn a_version_comes_between_two_others_and_all_stay_what_they_are() {
    for (day, at) in [(0, 0), (1, 1), (2, 2)] {
        let mut world = world();
        missing_state(&world);
        let version = world.insert(START + DAY * day + DAY / 2).unwrap();
        world.versions.insert(at, (version.name, tree(&world.source(""))));
        assert!(!fs::exists(world.mirror(".lastgood/journal")).unwrap());
        assert_eq!(world.names(".lastgood/stage"), Vec::<String>::new());
        world.check();
        let mirror = Mirror::open(&world.mirror("")).unwrap();
        let listed: Vec<_> =
            mirror.view().unwrap().versions.into_iter().map(|it| it.name).collect();
        assert!(listed.iter().eq(world.versions.iter().map(|(name, _)| name)));
        assert!(!repair(&mirror, &mut [], true, &world.troubles).unwrap().has_work());
        // It is a version as any other: it can go, and so can those beside it.
        for index in [1, 1, 0] {
            let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
            drop_version(&mirror, &world.versions.remove(index).0, false).unwrap();
            drop(mirror);
            world.check();
        }
    }
}

#[test]
fn many_versions_come_in_between() {
    let mut world = world();
    for (number, hour) in [12, 6, 9, 7, 8].into_iter().enumerate() {
        world.write("a", format!("state {number}").as_bytes());
        world.write(&format!("new{number}"), b"one more");
        let version = world.insert(START + DAY + 3600 * hour).unwrap();
        world.versions.push((version.name, tree(&world.source(""))));
    }
    world.versions.sort();
    world.check();
    world.write("a", b"and it goes on");
    world.run();
    world.check();
}

#[test]
fn there_is_no_place_beside_or_behind_a_version() {
    let world = world();
    let before = tree(&world.mirror(""));
    let refused = |seconds| matches!(world.insert(seconds), Err(MirrorError::NoPlace(_)));
    assert!(refused(START + DAY) && refused(START + 3 * DAY) && refused(START + 9 * DAY));
    assert_eq!(tree(&world.mirror("")), before);
}

#[test]
fn what_a_later_version_has_lost_is_not_left_to_it() {
    let mut world = World::new();
    let day = |number: u64| UNIX_EPOCH + Duration::from_secs(86_400 * number);
    let write = |world: &World, bytes: &[u8], number| {
        world.write("a", bytes);
        let file = fs::File::options().write(true).open(world.source("a")).unwrap();
        file.set_modified(day(number)).unwrap();
    };
    write(&world, b"first", 1);
    world.run();
    write(&world, b"other", 2);
    world.run();
    write(&world, b"first", 1);
    world.run();
    // What the third version has rots, and is lost when it goes.
    world.rot("latest/a");
    write(&world, b"newer", 3);
    world.run();
    assert_eq!(world.verify().lost.len(), 1);
    let is_first = |name: &str| {
        let to = tempfile::tempdir().unwrap();
        world.restore(name, "a", to.path());
        fs::read(to.path().join("a")).unwrap_or_default() == b"first"
    };
    // The oldest one has it still when nothing is left between the two.
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    drop_version(&mirror, &world.folder_of(1), false).unwrap();
    drop(mirror);
    assert!(is_first(&world.folder_of(0)));
    // One that comes between them brings it along.
    write(&world, b"first", 1);
    let inserted = world.insert(START + 2 * DAY + DAY / 2).unwrap();
    assert!(is_first(&inserted.name) && is_first(&world.folder_of(0)));
}
