//! Forget, undelete, pin and gc, as a user has them.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::world::{World, noise};

/// A repository with snapshots of `docs` at these times, and their ids, oldest first.
fn with_snapshots(world: &World, times: &[&str]) -> Vec<String> {
    for (number, time) in times.iter().enumerate() {
        world.write("docs/a", &noise(300_000, number as u64));
        world.run(&["backup", &world.text("docs"), "--time", time]).code(0);
        let put = time.parse::<jiff::Timestamp>().unwrap().as_second();
        put_at(world, put);
    }
    ids(&world.run(&["--json", "snapshots"]).code(0).messages(), "snapshot")
}

/// Sets the time of the newest snapshot object, as if the store had it since then.
fn put_at(world: &World, seconds: i64) {
    let folder = world.path("home/.local/share/lastgood/repository/snapshots");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let modified = |path: &std::path::PathBuf| path.metadata().unwrap().modified().unwrap();
    let newest = files.max_by_key(modified).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    std::fs::File::options().write(true).open(newest).unwrap().set_modified(time).unwrap();
}

fn ids(messages: &[Value], message_type: &str) -> Vec<String> {
    let of_type = messages.iter().filter(|message| message["message_type"] == message_type);
    of_type.map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

fn pack_bytes(world: &World) -> u64 {
    world.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum()
}

const DAYS: [&str; 4] = [
    "2026-01-01T10:00:00Z",
    "2026-01-02T10:00:00Z",
    "2026-01-02T20:00:00Z",
    "2026-01-03T10:00:00Z",
];

#[test]
fn what_is_forgotten_comes_back_until_gc_ran() {
    let world = World::new();
    let all = with_snapshots(&world, &DAYS);
    let plan = world.run(&["--json", "forget", "--keep-daily", "2", "-n"]).code(0);
    let kept: Vec<bool> = plan
        .messages()
        .iter()
        .filter(|it| it["message_type"] == "decision")
        .map(|it| it["keep"].as_bool().unwrap())
        .collect();
    assert_eq!(kept, [false, false, true, true], "{plan:?}");
    assert_eq!(plan.summary()["dry_run"], true);
    let why = world.run(&["forget", "--keep-daily", "2", "-n"]).code(0).out;
    assert!(why.contains("keep") && why.contains("daily snapshot"), "{why}");
    assert!(why.contains("forget") && why.contains("no rule keeps it"), "{why}");
    assert_eq!(ids(&world.run(&["--json", "snapshots"]).messages(), "snapshot"), all);

    // Forgotten, listed, brought back.
    let run = world.run(&["--json", "forget", "--keep-daily", "2"]).code(0);
    assert_eq!(run.summary()["forgotten_snapshots"], 2);
    assert_eq!(ids(&world.run(&["--json", "snapshots"]).messages(), "snapshot"), all[2..]);
    for args in [&["--json", "undelete"][..], &["--json", "snapshots", "--forgotten"]] {
        assert_eq!(ids(&world.run(args).code(0).messages(), "snapshot"), all[..2]);
    }
    let back = world.run(&["--json", "undelete", &all[0]]).code(0).messages();
    let copy = back[0]["new_snapshot_id"].as_str().unwrap().to_owned();
    world.run(&["restore", &copy, "-t", &world.text("back"), "--verify"]).code(0);
    assert_eq!(std::fs::read(world.path("back/a")).unwrap(), noise(300_000, 0));

    // Forgotten again, and collected.
    world.run(&["forget", &copy]).code(0);
    let before = pack_bytes(&world);
    world.run(&["gc", "-n"]).code(0);
    assert_eq!(pack_bytes(&world), before);
    let run = world.run(&["--json", "gc"]).code(0).summary();
    assert!(run["report"]["packs_removed"].as_u64().unwrap() > 0, "{run}");
    assert!(before - pack_bytes(&world) > 500_000, "{before} {}", pack_bytes(&world));
    world.run(&["check", "--read-data"]).code(0);
    world.run(&["restore", "latest", "-t", &world.text("last"), "--verify"]).code(0);
    assert_eq!(ids(&world.run(&["--json", "undelete"]).code(0).messages(), "snapshot"), [""; 0]);
    let gone = world.run(&["undelete", &all[0]]).code(1);
    assert!(gone.err.contains("gc has removed"), "{}", gone.err);

    // No new repository is made over this one, though no session is left in it.
    let repository = world.path("home/.local/share/lastgood/repository");
    let copies = [repository.join("config"), repository.join("revisions/0000000000000001")];
    let bytes = std::fs::read(&copies[0]).unwrap();
    copies.iter().for_each(|copy| std::fs::remove_file(copy).unwrap());
    world.run(&["init"]).code(5);
    copies.iter().for_each(|copy| std::fs::write(copy, &bytes).unwrap());

    let log = world.run(&["--json", "log", "--verify"]).code(0).messages();
    let verbs: Vec<&str> = log.iter().filter_map(|record| record["verb"].as_str()).collect();
    let rest: Vec<&str> = verbs.into_iter().filter(|verb| *verb != "backup").collect();
    for verb in ["forget", "undelete", "gc"] {
        assert!(rest.contains(&verb), "{rest:?}");
    }
}

#[test]
fn forget_with_gc_is_one_command_and_a_file_says_what_stays() {
    let world = World::new();
    with_snapshots(&world, &DAYS);
    world.write("policy", b"# the last day\nkeep-daily = 1\n");
    let before = pack_bytes(&world);
    let args = ["--json", "forget", "--policy-file", &world.text("policy"), "--gc"];
    let summary = world.run(&args).code(0).summary();
    assert_eq!(
        (&summary["kept_snapshots"], &summary["forgotten_snapshots"]),
        (&1.into(), &3.into())
    );
    assert!(summary["gc"]["report"]["bytes_removed"].as_u64().unwrap() > 0);
    assert!(pack_bytes(&world) < before / 2);
    world.run(&["check", "--read-data"]).code(0);
    // A variable is a rule too, and a slip in the file is one of usage.
    let variable = [("LASTGOOD_FORGET__KEEP_LAST", "1")];
    world.run_with(&["forget"], &variable).code(0);
    world.write("policy", b"keep-dayly = 1\n");
    let slip = world.run(&args).code(2);
    assert!(slip.err.contains("line 1: no rule is called"), "{}", slip.err);
    world.run(&["forget"]).code(2);
    world.run(&["forget", "latest", "--keep-last", "1"]).code(2);
}

#[test]
fn what_is_pinned_is_not_forgotten() {
    let world = World::new();
    let all = with_snapshots(&world, &DAYS);
    let pinned = world.run(&["--json", "pin", &all[0]]).code(0).messages();
    let id = pinned[0]["new_snapshot_id"].as_str().unwrap().to_owned();
    assert_eq!(world.run(&["--json", "pin", &id]).code(0).summary()["changed_snapshots"], 0);
    let shown = world.run(&["--json", "snapshots", &id]).code(0).messages();
    assert_eq!(shown[0]["pinned"], true);
    let refused = world.run(&["forget", &id]).code(2);
    assert!(refused.err.contains("lastgood unpin"), "{}", refused.err);
    world.run(&["forget", "--keep-last", "1"]).code(0);
    let left = ids(&world.run(&["--json", "snapshots"]).messages(), "snapshot");
    assert!(left.contains(&id), "{left:?}");
    let free = world.run(&["--json", "unpin", &id]).code(0).messages();
    let id = free[0]["new_snapshot_id"].as_str().unwrap().to_owned();
    world.run(&["forget", &id]).code(0);
    let left = ids(&world.run(&["--json", "snapshots"]).messages(), "snapshot");
    assert!(!left.contains(&id), "{left:?}");
}

#[test]
fn a_source_that_lost_much_is_told_of_and_its_last_whole_snapshot_stays() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.write(&format!("docs/{name}"), b"content");
    }
    world.run(&["backup", &world.text("docs")]).code(0);
    for name in ["a", "b"] {
        std::fs::remove_file(world.path("docs").join(name)).unwrap();
    }
    let told = world.run(&["backup", &world.text("docs")]).code(0);
    assert!(told.err.contains("more than half is gone"), "{}", told.err);
    world.run(&["backup", &world.text("docs")]).code(0);
    let run = world.run(&["forget", "--keep-last", "1"]).code(0);
    assert!(run.out.contains("lost more than half of it"), "{}", run.out);
    let left = world.run(&["--json", "snapshots"]).code(0).summary();
    assert_eq!(left["snapshots_count"], 2);
    world.run(&["forget", "--keep-last", "1", "--accept-loss"]).code(0);
    let left = world.run(&["--json", "snapshots"]).code(0).summary();
    assert_eq!(left["snapshots_count"], 1);
}

/// Killed as soon as it did one thing or another, gc leaves all that is live, and what the next
/// one goes on with, which waits for nobody.
#[test]
fn a_gc_that_was_killed_is_gone_on_with() {
    for made in ["relocations", "condemn", "verdict"] {
        let world = World::new();
        for number in 0..3 {
            for file in 0..40 {
                let seed = if file % 2 == 0 { file } else { 100 * (number + 1) + file };
                world.write(&format!("docs/{file}"), &noise(40_000, seed));
            }
            world.run(&["backup", &world.text("docs")]).code(0);
        }
        world.run(&["forget", "latest~1", "latest~2"]).code(0);
        let before = pack_bytes(&world);
        let made = world.path("home/.local/share/lastgood/repository").join(made);
        let mut gc = world.spawn(&["gc", "--max-unused", "0"]);
        while !made.exists() && gc.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        gc.kill().unwrap();
        gc.wait().unwrap();
        assert!(made.exists(), "gc did not come to {made:?}");
        world.run(&["restore", "latest", "-t", &world.text("back"), "--verify"]).code(0);
        for _ in 0..2 {
            let report = world.run(&["--json", "gc", "--max-unused", "0"]).code(0).summary();
            assert_eq!(report["report"]["waiting_for"], serde_json::json!([]));
        }
        assert!(pack_bytes(&world) < before * 7 / 10, "{before} {}", pack_bytes(&world));
        world.run(&["check", "--read-data"]).code(0);
    }
}

#[test]
fn prune_is_gc_and_takes_no_policy() {
    let world = World::new();
    with_snapshots(&world, &DAYS[..2]);
    let refused = world.run(&["prune", "--keep-daily", "7"]).code(2);
    assert!(refused.err.contains("lastgood forget"), "{}", refused.err);
    for args in [&["gc", "--nonsense"][..], &["gc", "x"], &["gc", "--max-unused", "150%"]] {
        world.run(args).code(2);
    }
    for args in [
        &["prune"][..],
        &["compact", "--max-unused", "0"],
        &["gc", "--max-unused", "unlimited", "--fence-after", "0"],
        &["gc", "--max-unused", "1GiB", "--exclusive", "--fence-after", "7d"],
    ] {
        world.run(args).code(0);
    }
    world.run(&["check", "--read-data"]).code(0);
}

/// The new key file takes the place of the old one last, so a rotation that dies before leaves it
/// beside: that is said, and how to go on.
#[test]
fn a_rotation_that_was_interrupted_tells_where_the_new_key_is() {
    let world = World::new();
    with_snapshots(&world, &DAYS[..1]);
    let data = world.path("home/.local/share/lastgood");
    let (key, new) = (data.join("repository.key"), data.join("repository.key.new"));
    let old = std::fs::read(&key).unwrap();
    world.run(&["key", "rotate", "--yes"]).code(0);
    assert!(!new.exists());
    std::fs::rename(&key, &new).unwrap();
    std::fs::write(&key, &old).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = world.run(&["snapshots"]).code(12);
    let hint = format!("if --key-file {0} opens it, mv {0} {1}", new.display(), key.display());
    assert!(refused.err.contains(&hint), "{}", refused.err);
    std::fs::remove_file(data.join("repository/revisions/0000000000000003")).unwrap();
    std::fs::remove_dir_all(world.path("home/.local/state")).unwrap();

    let refused = world.run(&["backup", &world.text("docs")]).code(12);
    let new = new.to_string_lossy().into_owned();
    let hint = format!("lastgood key rotate --key-file {new} --yes");
    assert!(refused.err.contains(&hint), "{}", refused.err);
    let finished = world.run(&["key", "rotate", "--key-file", &new, "--yes"]).code(0);
    let hint = format!("mv {new} {}", key.display());
    assert!(finished.out.contains("recovery code") && finished.out.contains(&hint), "{finished:?}");
    std::fs::rename(&new, &key).unwrap();
    world.run(&["backup", &world.text("docs")]).code(0);
    world.run(&["check", "--read-data"]).code(0);
}
