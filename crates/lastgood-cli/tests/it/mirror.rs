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
