//! `backup --record`, and the run made once more.

use lastgood::trace::{self, Ended, Replay};
use lastgood::{Home, opening, system};

use crate::world::{World, noise};

/// Makes the run once more from the trace called `name`, with the key of the default repository.
fn replay(world: &World, name: &str) -> Replay {
    let data = world.path("home/.local/share/lastgood");
    let key = opening::read_key_file(&data.join("repository.key")).unwrap();
    let home = Home { data, cache: world.path("cache"), state: world.path("state") };
    let repo = opening::open(&home.default_repository(), &home, system::world(), &key).unwrap();
    trace::replay(&world.path(name), &repo).unwrap()
}

#[test]
fn a_run_of_the_command_is_made_once_more() {
    let world = World::new();
    world.write("docs/a", &noise(300_000, 1));
    world.write("docs/left-out", b"out");
    let (docs, trace) = (world.text("docs"), world.text("run"));
    let traced = ["backup", &docs, "--exclude", "left-out", "--tag", "t", "--record", &trace];
    world.run(&traced).code(0);
    // The first run of all, and one with a baseline.
    assert!(matches!(replay(&world, "run").ended, Ended::Same(_)));
    world.run(&traced).code(1);
    std::fs::remove_file(world.path("run")).unwrap();
    world.write("docs/b", &noise(300_000, 2));
    world.run(&traced).code(0);
    assert!(matches!(replay(&world, "run").ended, Ended::Same(_)));
    world.run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    std::fs::remove_file(world.path("docs/left-out")).unwrap();
    world.assert_same("docs", "back");

    world.run(&["backup", &docs, "--record", &world.text("docs/run")]).code(2);
    world.run(&["backup", "--stdin", "--record", &world.text("other")]).code(2);
    assert!(!world.path("other").exists());
}

#[test]
fn what_a_killed_run_left_of_its_trace_is_made_once_more() {
    let world = World::new();
    world.write("docs/a", &noise(40_000_000, 1));
    world.write("docs/b", &noise(40_000_000, 2));
    let mut child = world.spawn(&["backup", &world.text("docs"), "--record", &world.text("run")]);
    while child.try_wait().unwrap().is_none() && world.packs().is_empty() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed too late");
    let replayed = replay(&world, "run");
    assert!(matches!(replayed.ended, Ended::CutOff(_)), "{replayed:?}");
    assert!(replayed.same > 5, "{replayed:?}");
    world.run(&["backup", &world.text("docs")]).code(0);
}
