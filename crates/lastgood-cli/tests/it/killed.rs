//! Real processes, killed at random moments: what was committed stays, and the next run goes on.
//! `cargo xtask torture kill` makes it a campaign.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::world::{BINARY, World, noise};

#[test]
fn killed_runs_lose_nothing_that_was_committed() {
    let kills = std::env::var("LASTGOOD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let world = World::new();
    let source = world.text("source");
    for file in 0..40_u64 {
        world.write(&format!("source/{}/{file}", file % 4), &noise(1_500_000, file + 1));
    }
    world.run(&["backup", &source]).code(0);
    let mut committed = snapshots(&world);
    let mut states = BTreeMap::from([(committed[0].clone(), contents(&world.path("source")))]);
    let mut cut = 0;
    for round in 0..kills {
        for file in 0..20 {
            let name = format!("source/{}/{file}", file % 4);
            world.write(&name, &noise(1_500_000, 100 + round * 20 + file));
        }
        // From before the first write to after the commit; odd steps meet every phase.
        let delay = format!("{:.3}", 0.005 + (round * 37 % 100) as f64 * 0.005);
        let status = world
            .command("timeout")
            .args(["-s", "KILL", &delay, BINARY, "backup", &source])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        cut += u32::from(!status.success());
        let now = snapshots(&world);
        assert!(now.starts_with(&committed), "round {round}: {committed:?} became {now:?}");
        for id in &now[committed.len()..] {
            states.insert(id.clone(), contents(&world.path("source")));
        }
        committed = now;
        // Any earlier state, by turns.
        let id = &committed[round as usize % committed.len()];
        restores(&world, id, &states[id], round);
    }
    assert!(cut > 0, "no run was cut off: the delays are too long for this machine");
    world.run(&["backup", &source]).code(0);
    let last = snapshots(&world).pop().unwrap();
    restores(&world, &last, &contents(&world.path("source")), kills);
    world.run(&["check", "--read-data"]).code(0);
    tell(&format!("kill: {cut} of {kills} runs were cut off; lost committed snapshots: 0"));
}

/// Shows a figure to whoever runs the campaign.
#[expect(clippy::print_stdout, reason = "`cargo xtask torture` prints the figures")]
pub(crate) fn tell(figure: &str) {
    println!("{figure}");
}

fn snapshots(world: &World) -> Vec<String> {
    let listed = world.run(&["snapshots", "--json"]).code(0);
    let lines = listed.out.lines().map(serde_json::from_str::<serde_json::Value>);
    lines.filter_map(|line| Some(line.unwrap()["id"].as_str()?.to_owned())).collect()
}

fn restores(world: &World, id: &str, expected: &BTreeMap<String, Vec<u8>>, round: u64) {
    let target = world.path("target");
    world.run(&["restore", id, "-t", &world.text("target")]).code(0);
    assert!(&contents(&target) == expected, "round {round}: {id} restores other bytes");
    fs::remove_dir_all(target).unwrap();
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(directory).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}
