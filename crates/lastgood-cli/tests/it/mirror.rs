//! A mirror and a repository of the same files.

use std::fs;

use crate::world::World;

#[test]
fn a_repository_heals_a_mirror() {
    let world = World::new();
    world.write("docs/a", &[b'a'; 3_000_000]);
    world.write("docs/b", b"small");
    let (docs, mirror, repo) = (world.text("docs"), world.text("mirror"), world.text("repo"));
    let key = world.text("key");
    let stored = |args: &[&str]| world.run(&[&["-r", &repo, "--key-file", &key], args].concat());
    stored(&["init"]).code(0);
    stored(&["backup", &docs]).code(0);
    world.run(&["mirror", "run", &docs, "--to", &mirror]).code(0);
    world.write("docs/a", b"changed");
    world.write("docs/b", b"changed as well");
    world.run(&["mirror", "run", &docs, "--to", &mirror]).code(0);
    let versions = world.run(&["--json", "mirror", "versions", &mirror]).code(0).messages();
    let old = world.path("mirror").join(versions[0]["name"].as_str().unwrap());
    fs::remove_dir_all(&old).unwrap();
    let repair = ["mirror", "repair", &mirror];
    // A plan, and nobody to ask.
    let plan = world.run(&repair).code(5);
    assert!(plan.out.contains("lost: a of backup-"), "{}", plan.out);
    let from = ["--from", &repo, "--from-key-file", &key];
    world.run(&[&repair[..], &from].concat()).code(5);
    assert!(!old.exists());
    let done = world.run(&[&["--json"], &repair[..], &from, &["--yes"]].concat()).code(0);
    assert_eq!(done.summary()["files_healed"], 2);
    assert_eq!(fs::read(old.join("a")).unwrap(), [b'a'; 3_000_000]);
    world.run(&["mirror", "verify", &mirror]).code(0);
    world.run(&repair).code(0);
}

#[test]
fn a_version_stands_where_a_snapshot_does() {
    let world = World::new();
    world.write("docs/d/a", b"old");
    let (docs, mirror) = (world.text("docs"), world.text("mirror"));
    world.run(&["mirror", "run", &docs, "--to", &mirror]).code(0);
    world.write("docs/d/a", b"newer");
    world.run(&["mirror", "run", &docs, "--to", &mirror]).code(0);
    let of = |args: &[&str]| world.run(&[&["--json", "-r", &mirror], args].concat());
    let back = world.text("back");
    of(&["restore", "latest~1:d", "-t", &back]).code(0);
    assert_eq!(fs::read(world.path("back/a")).unwrap(), b"old");
    // The path of the source may stand before it.
    of(&["restore", &format!("latest:{docs}/d/a"), "-t", &back]).code(0);
    assert_eq!(fs::read(world.path("back/a")).unwrap(), b"newer");
    of(&["restore", "latest", "-t", &back, "--delete"]).code(2);
    of(&["restore", "latest~2", "-t", &back]).code(1);
    assert_eq!(of(&["diff", "latest~1", "latest"]).code(0).summary()["changed_files"], 1);
    assert_eq!(of(&["diff", "latest~1:d", "latest"]).code(0).summary()["changed_files"], 1);
    // The source as it is now, but for what rules leave out.
    world.write("docs/d/b", b"not there yet");
    world.write("docs/d/c.tmp", b"not meant");
    let diff = of(&["diff", "latest", "--exclude", "*.tmp"]).code(0);
    let paths: Vec<_> =
        diff.messages().iter().filter_map(|it| it["path"].as_str().map(str::to_owned)).collect();
    assert_eq!(paths, ["d/b"]);
    assert_eq!(
        world
            .run(&["mirror", "diff", &mirror, "latest", "live", "d"])
            .code(0)
            .out
            .lines()
            .filter(|line| line.starts_with('+'))
            .count(),
        2
    );
    of(&["diff", "latest", "--content"]).code(2);
}
