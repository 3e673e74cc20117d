//! Nothing left: no space, no descriptors, nothing that may be written. Real disks, real limits.
//!
//! Whatever runs out, a run that says it succeeded has, what was committed comes back, nothing that
//! could not be read counts as deleted, and once there is room the next run goes on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;

use lastgood_testkit::machine::{Mounted, run};
use serde_json::Value;

use crate::world::{BINARY, Run, World, noise};

/// A small file system at `name`. Only the superuser can make one.
fn disk(world: &World, name: &str, bytes: u64) -> Option<Mounted> {
    let mounted = Mounted::in_memory(bytes, &world.path(name));
    assert!(
        mounted.is_some() || !rustix::process::geteuid().is_root(),
        "the superuser can mount a file system in memory"
    );
    mounted
}

/// Runs where no more than `count` files may be open at once.
fn with_files(world: &World, count: u32, args: &[&str]) -> Run {
    let script = format!("ulimit -n {count} && exec \"$0\" \"$@\"");
    let mut command = world.command("sh");
    command.args(["-c", &script, BINARY]).args(args);
    Run::of(&mut command)
}

/// Paths of the latest snapshot.
fn paths(world: &World) -> BTreeSet<String> {
    let listed = world.run(&["ls", "latest", "--json"]).code(0);
    let messages = listed.messages();
    let nodes = messages.iter().filter(|message| message["message_type"] == "node");
    nodes.map(|node| node["path"].as_str().unwrap().to_owned()).collect()
}

fn assert_no_panic(run: &Run) {
    assert!(!run.err.contains("panicked") && !run.err.contains("\"bug\""), "{run:?}");
    assert_ne!(run.code, Some(101), "{run:?}");
}

#[test]
fn without_descriptors_a_backup_says_so_or_names_what_it_could_not_read() {
    let world = World::new();
    for level in 0..40 {
        // A directory stays open while one in it waits until what is below another was read.
        let folder = format!("docs/{}", "a/".repeat(level));
        world.write(&format!("{folder}file"), &noise(3000, level as u64));
        world.write(&format!("{folder}z/file"), &noise(3000, 100 + level as u64));
    }
    let docs = world.text("docs");
    world.run(&["backup", &docs]).code(0);
    let all = paths(&world);
    let mut codes = BTreeSet::new();
    // Each run that fails waits a few seconds for others to close theirs.
    for count in (5..64).step_by(3) {
        // Something to read and to store in each run.
        world.write("docs/file", &noise(30_000, 10_000 + u64::from(count)));
        let threads = ["1", "2"][count as usize % 2];
        let args = ["backup", "--json", "--force", "--threads", threads, &docs];
        let run = with_files(&world, count, &args);
        // So few that the system cannot even start a program.
        if run.code == Some(127) {
            continue;
        }
        assert_no_panic(&run);
        codes.insert(run.code);
        match run.code {
            Some(0) => {}
            Some(3) => {
                let errors = run.errors();
                let listed = errors.iter().filter(|error| error["message_type"] == "error");
                assert!(listed.count() > 0, "{count} files: {run:?}");
            }
            Some(13) => {
                let last = run.errors().pop().unwrap();
                assert_eq!(last["kind"], "too-many-open", "{count} files: {run:?}");
            }
            _ => panic!("{count} files: {run:?}"),
        }
        assert_eq!(paths(&world), all, "{count} files: {run:?}");
    }
    assert_eq!(codes, BTreeSet::from([Some(0), Some(3), Some(13)]));
    world.run(&["backup", &docs]).code(0);
    world.run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");
    world.run(&["check", "--read-data"]).code(0);
}

#[test]
fn without_descriptors_nothing_else_fails_in_other_words() {
    let world = World::new();
    world.write("docs/a", &noise(100_000, 1));
    world.write("docs/sub/b", &noise(100_000, 2));
    world.run(&["backup", &world.text("docs")]).code(0);
    let target = world.text("back");
    let commands: [&[&str]; 5] = [
        &["--json", "snapshots"],
        &["--json", "ls", "latest"],
        &["--json", "check", "--read-data"],
        &["--json", "diff", "latest"],
        &["--json", "restore", "latest", "-t", &target],
    ];
    let check = |args: &[&str]| {
        let mut codes = BTreeSet::new();
        for count in (4..48).step_by(2) {
            let run = with_files(&world, count, args);
            if run.code == Some(127) {
                continue;
            }
            assert_no_panic(&run);
            codes.insert(run.code);
            let is_said = match run.code {
                Some(13) => run.errors().pop().unwrap()["kind"] == "too-many-open",
                // Something of the source or target could not be opened, and is named.
                Some(3) => run.errors().iter().any(|error| error["message_type"] == "error"),
                code => code == Some(0),
            };
            assert!(is_said, "{count} files, {args:?}: {run:?}");
        }
        assert!(codes.contains(&Some(13)) && codes.contains(&Some(0)), "{args:?}: {codes:?}");
    };
    std::thread::scope(|scope| {
        for args in commands {
            scope.spawn(|| check(args));
        }
    });
}

#[test]
fn a_full_disk_under_the_repository_costs_only_that_run() {
    let world = World::new();
    let Some(disk) = disk(&world, "disk", 8 << 20) else { return };
    let (repo, key) = (world.text("disk/repo"), world.text("key"));
    let at = |args: &[&str]| world.run(&[&["-r", &repo, "--key-file", &key], args].concat());
    at(&["init"]).code(0);
    world.write("docs/first", &noise(2 << 20, 1));
    at(&["backup", &world.text("docs")]).code(0);
    fs::copy(world.path("docs/first"), world.path("kept")).unwrap();
    for number in 2..6 {
        world.write(&format!("docs/{number}"), &noise(7 << 20, number));
    }
    for round in 0..3 {
        let run = at(&["--json", "backup", &world.text("docs")]).code(13);
        let last = run.errors().pop().unwrap();
        assert_eq!(last["kind"], "no-space", "round {round}: {run:?}");
        assert!(last["message"].as_str().unwrap().contains(&repo), "where: {run:?}");
        assert_eq!(at(&["--json", "snapshots"]).code(0).messages().len(), 2, "round {round}");
    }
    // What is committed can be read on a full disk.
    at(&["restore", "latest", "-t", &world.text("back")]).code(0);
    assert_eq!(fs::read(world.path("back/first")).unwrap(), fs::read(world.path("kept")).unwrap());
    at(&["check", "--read-data"]).code(0);
    disk.remount("size=64M");
    let next = at(&["--json", "backup", &world.text("docs")]).code(0);
    assert!(next.summary()["data_known"].as_u64().unwrap() > 0, "nothing was reused: {next:?}");
    at(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");

    // Nothing can be written any more, and everything can be read.
    disk.remount("ro");
    let refused = at(&["--json", "backup", "--force", &world.text("docs")]).code(1);
    assert_eq!(refused.errors().pop().unwrap()["kind"], "denied", "{refused:?}");
    at(&["restore", "latest", "-t", &world.text("back")]).code(0);
    at(&["check", "--read-data"]).code(0);
    disk.remount("rw");
    at(&["backup", "--force", &world.text("docs")]).code(0);
}

/// How a file system of a real disk is made, of how many bytes at least, and what fills it.
struct Kind {
    mkfs: &'static str,
    options: &'static [&'static str],
    bytes: u64,
    fill: fn(&World, &str),
    /// That are forgotten when it is full, so that there is room again.
    snapshots: u64,
}

const EXT4: Kind = Kind {
    mkfs: "mkfs.ext4",
    options: &["-qF", "-m", "0"],
    bytes: 48 << 20,
    fill: fill_with_bytes,
    snapshots: 3,
};
/// As [`EXT4`], with room for few files.
const EXT4_OF_FEW_FILES: Kind = Kind {
    options: &["-qF", "-m", "0", "-N", "512"],
    fill: fill_with_files,
    snapshots: 12,
    ..EXT4
};
const XFS: Kind = Kind { mkfs: "mkfs.xfs", options: &["-q"], bytes: 300 << 20, ..EXT4 };
const BTRFS: Kind = Kind { mkfs: "mkfs.btrfs", options: &["-q"], bytes: 128 << 20, ..EXT4 };

impl Kind {
    /// Such a file system at `name`, where it can be made.
    fn make(&self, world: &World, name: &str) -> Option<Mounted> {
        let image = world.path(&format!("{name}.image"));
        fs::File::create(&image).unwrap().set_len(self.bytes).unwrap();
        let options = self.options.iter().map(OsStr::new);
        let arguments: Vec<&OsStr> = options.chain([image.as_os_str()]).collect();
        if !run(self.mkfs, &arguments) {
            return None;
        }
        let options = ["-o".as_ref(), "loop".as_ref(), image.as_os_str()];
        Mounted::try_new(&options, &world.path(name))
    }
}

/// Fills a file system to the last byte, with a file.
fn fill_with_bytes(world: &World, name: &str) {
    let path = world.path(&format!("{name}/filler/0"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    for bytes in [1 << 20, 64 << 10, 4096, 4096] {
        while file.write_all(&noise(bytes, bytes as u64)).is_ok() {}
        // What the file system set aside for its own records meanwhile is there again.
        file.sync_all().ok();
    }
}

/// Creates files until the file system has room for no more.
fn fill_with_files(world: &World, name: &str) {
    let path = world.path(&format!("{name}/filler"));
    fs::create_dir_all(&path).unwrap();
    let first = fs::read_dir(&path).unwrap().count();
    let full =
        (first..).find(|number| fs::File::create_new(path.join(number.to_string())).is_err());
    assert!(full.is_some_and(|number| number > first), "nothing was there to fill");
}

/// Backups until nothing more fits; then what forgets and collects needs no help, and backups go on.
fn frees_space_by_itself(kind: &Kind) {
    let world = World::new();
    let Some(disk) = kind.make(&world, "disk") else { return };
    let (repo, key) = (world.text("disk/repo"), world.text("key"));
    let at = |args: &[&str]| world.run(&[&["-r", &repo, "--key-file", &key], args].concat());
    let pieces = || fs::read_dir(world.path("disk/repo/reserve")).unwrap().count();
    let docs = world.text("docs");
    let backups = |numbers: std::ops::Range<u64>, bytes| {
        for number in numbers {
            world.write("docs/large", &noise(bytes, number));
            at(&["backup", &docs]).code(0);
        }
    };
    at(&["init"]).code(0);
    let bytes = (24 << 20) / kind.snapshots as usize;
    backups(0..kind.snapshots, bytes);
    world.write("docs/large", &noise(8 << 20, 20));
    (kind.fill)(&world, "disk");
    let failed = at(&["--json", "backup", &docs]).code(13).errors().pop().unwrap();
    assert_eq!(failed["kind"], "no-space", "{failed}");
    let hint = failed["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("-r {repo} forget --keep-last 3 --gc")), "{hint}");
    // Nothing else may spend what is kept for this.
    assert_eq!(pieces(), 16);

    let run = at(&["--json", "forget", "--keep-last", "1", "--gc"]).code(0);
    let summary = run.summary();
    let between = summary["gc_between"].as_array().map_or(&[][..], Vec::as_slice);
    let removed = between.iter().chain([&summary["gc"]]);
    let removed: u64 = removed.map(|gc| gc["report"]["bytes_removed"].as_u64().unwrap()).sum();
    assert!(removed >= 16 << 20, "{run:?}");
    let report = &summary["gc"]["report"];
    assert_eq!(report["reserve_short"], false, "{run:?}");
    assert_eq!(pieces(), 16);
    at(&["backup", &docs]).code(0);
    at(&["check", "--read-data"]).code(0);
    at(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");

    // Where forgetting comes first and gc only later, there is still enough for it; and what a run
    // that failed stored is freed without forgetting anything.
    fs::remove_dir_all(world.path("disk/filler")).unwrap();
    backups(21..21 + kind.snapshots.div_ceil(2), bytes / 4);
    (kind.fill)(&world, "disk");
    at(&["forget", "--keep-last", "1"]).code(0);
    assert!((8..16).contains(&pieces()), "{} pieces are left", pieces());
    world.write("docs/large", &noise(4 << 20, 40));
    at(&["backup", &docs]).code(13);
    at(&["gc"]).code(0);
    at(&["backup", &docs]).code(0);
    at(&["check", "--read-data"]).code(0);
    drop(disk);
}

#[test]
fn a_repository_on_a_full_ext4_frees_space_by_itself() {
    frees_space_by_itself(&EXT4);
}

#[test]
fn a_repository_on_an_ext4_without_inodes_frees_some_by_itself() {
    frees_space_by_itself(&EXT4_OF_FEW_FILES);
}

#[test]
fn a_repository_on_a_full_xfs_frees_space_by_itself() {
    frees_space_by_itself(&XFS);
}

#[test]
fn a_repository_on_a_full_btrfs_frees_space_by_itself() {
    frees_space_by_itself(&BTRFS);
}

#[test]
fn a_full_home_stops_no_restore_and_is_said_by_a_backup() {
    let world = World::new();
    let (repo, key) = (world.text("repo"), world.text("key"));
    let at = |args: &[&str]| world.run(&[&["-r", &repo, "--key-file", &key], args].concat());
    world.write("docs/a", &noise(1 << 20, 1));
    at(&["init"]).code(0);
    at(&["backup", &world.text("docs")]).code(0);
    let Some(disk) = disk(&world, "home", 64 << 10) else { return };
    let fill = || while fs::write(world.path("home/full"), noise(1 << 20, 2)).is_ok() {};
    fill();
    let run = at(&["--json", "backup", &world.text("docs")]).code(13);
    assert_eq!(run.errors().pop().unwrap()["kind"], "no-space", "{run:?}");
    at(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");
    at(&["check"]).code(0);
    fs::remove_file(world.path("home/full")).unwrap();
    at(&["backup", &world.text("docs")]).code(0);
    drop(disk);
}

#[test]
fn a_full_disk_under_the_target_stops_the_restore_which_goes_on_later() {
    let world = World::new();
    for number in 0..6 {
        world.write(&format!("docs/{number}"), &noise(2 << 20, number));
    }
    world.run(&["backup", &world.text("docs")]).code(0);
    let Some(disk) = disk(&world, "back", 5 << 20) else { return };
    let restore = ["--json", "restore", "latest", "-t", &world.text("back")];
    let run = world.run(&restore).code(13);
    assert_eq!(run.errors().pop().unwrap()["kind"], "no-space", "{run:?}");
    // Nothing that bears the name of a file passes for it and is not.
    for number in 0..6 {
        let restored = fs::read(world.path(&format!("back/{number}")));
        let is_whole = |bytes: Vec<u8>| bytes == noise(2 << 20, number);
        assert!(restored.map_or(true, is_whole), "{number} is not whole");
    }
    disk.remount("size=64M");
    let run = world.run(&restore).code(0);
    assert!(run.summary()["bytes_kept"].as_u64().unwrap() > 0, "it began anew: {run:?}");
    let is_problem = |message: &Value| message["message_type"] == "error";
    assert!(!run.errors().iter().any(is_problem), "{run:?}");
    world.assert_same("docs", "back");
}
