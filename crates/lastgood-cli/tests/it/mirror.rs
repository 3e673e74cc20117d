//! A mirror and a repository of the same files.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

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

/// The mount point of a disk that is not mounted is an empty directory on another one, or none.
#[test]
fn a_mirror_whose_disk_is_not_mounted_is_not_made_anew() {
    let world = World::new();
    world.write("docs/a", b"one");
    let (docs, mirror) = (world.text("docs"), world.text("disk/mirror"));
    let run = ["mirror", "run", &docs, "--to", &mirror];
    world.run(&run).code(0);
    fs::rename(world.path("disk"), world.path("unplugged")).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::create_dir_all(&mirror).unwrap();
        }
        let refused = world.run(&run).code(8);
        assert!(refused.err.contains(&mirror) && refused.err.contains("mounted"), "{refused:?}");
        world.run(&[&run[..], &["-n"]].concat()).code(8);
        world.run(&["backup", &docs, "--also-mirror", &mirror]).code(8);
        assert_eq!(fs::read_dir(&mirror).map_or(0, Iterator::count), 0, "something was written");
    }
    fs::remove_dir_all(world.path("disk")).unwrap();
    fs::rename(world.path("unplugged"), world.path("disk")).unwrap();
    world.run(&run).code(0);
    // It went for good.
    fs::remove_dir_all(&mirror).unwrap();
    world.run(&[&run[..], &["--approve"]].concat()).code(0);
    world.run(&run).code(0);
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

/// Counts how often the files of a tree are opened by somebody, by inode.
struct Opens {
    queue: rustix::fd::OwnedFd,
    directories: BTreeMap<i32, PathBuf>,
}

impl Opens {
    fn below(path: &Path) -> Self {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut directories = BTreeMap::new();
        let mut found = vec![path.to_owned()];
        while let Some(path) = found.pop() {
            // With the closing between them, no two openings become one event.
            let events = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
            let watch = inotify::add_watch(&queue, &path, events).unwrap();
            let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            found.extend(entries.filter(|path| path.is_dir()));
            directories.insert(watch, path);
        }
        Self { queue, directories }
    }

    fn count(self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        while let Ok(event) = reader.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            let Some(name) = event.file_name() else { continue };
            if event.events().contains(ReadFlags::OPEN)
                && !event.events().contains(ReadFlags::ISDIR)
            {
                let path = self.directories[&event.wd()].join(name.to_str().unwrap());
                *counts.entry(path.metadata().unwrap().ino()).or_default() += 1;
            }
        }
        counts
    }
}

/// A repository with a key, and a mirror beside it.
struct Places {
    world: World,
    source: String,
    mirror: String,
    of_repo: [String; 4],
}

impl Places {
    fn new() -> Self {
        let world = World::new();
        let (repo, key) = (world.text("repo"), world.text("key"));
        let of_repo = ["-r".to_owned(), repo, "--key-file".to_owned(), key];
        let (source, mirror) = (world.text("docs"), world.text("mirror"));
        let places = Self { world, source, mirror, of_repo };
        places.run(&["init"]).code(0);
        places
    }

    fn run(&self, args: &[&str]) -> crate::world::Run {
        let of_repo: Vec<&str> = self.of_repo.iter().map(String::as_str).collect();
        self.world.run(&[&of_repo[..], args].concat())
    }

    fn both(&self, more: &[&str]) -> crate::world::Run {
        let both = ["--json", "backup", &self.source, "--also-mirror", &self.mirror];
        self.run(&[&both[..], more].concat())
    }

    /// What came back of the newest snapshot, and of the newest version, is what the source is.
    fn check(&self) {
        let back = self.world.path("back");
        let back_text = back.to_str().unwrap();
        let source = crate::world::describe(Path::new(&self.source));
        let snapshot = format!("latest:{}", self.source);
        self.run(&["restore", &snapshot, "-t", back_text]).code(0);
        assert_eq!(crate::world::describe(&back), source);
        fs::remove_dir_all(&back).unwrap();
        self.world.run(&["mirror", "restore", &self.mirror, "-t", back_text]).code(0);
        assert_eq!(crate::world::describe(&back), source);
        fs::remove_dir_all(&back).unwrap();
        assert_eq!(crate::world::describe(&Path::new(&self.mirror).join("latest")), source);
        self.world.run(&["mirror", "verify", &self.mirror]).code(0);
    }
}

/// One message of a type.
fn message(run: &crate::world::Run, message_type: &str) -> serde_json::Value {
    let mut found = run.messages().into_iter().filter(|it| it["message_type"] == message_type);
    found.next().unwrap_or_default()
}

#[test]
fn a_file_is_read_once_for_a_repository_and_a_mirror() {
    let places = Places::new();
    let world = &places.world;
    world.write("docs/small", b"small");
    world.write("docs/a/b/large", &vec![7; 5_000_000]);
    world.write("docs/a/odd", &vec![1; (1 << 20) + 17]);
    world.write("docs/z/linked", &vec![3; 70_000]);
    // Two threads may come to names in two directories at once, and then read it twice.
    fs::hard_link(world.path("docs/z/linked"), world.path("docs/z/name of linked")).unwrap();
    let hole = fs::File::create(world.path("docs/hole")).unwrap();
    hole.set_len(9_000_000).unwrap();
    std::os::unix::fs::FileExt::write_at(&hole, b"behind a hole", 5_000_000).unwrap();
    world.write("docs/empty", b"");

    let opens = Opens::below(Path::new(&places.source));
    let first = places.both(&[]).code(0);
    let counts = opens.count();
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(message(&first, "mirror_summary")["files_new"], 7);
    // Names of one file are one file there.
    assert_eq!(first.summary()["files_new"], 6);
    places.check();

    // Files that only may have changed, so soon, are read once for both as well.
    let opens = Opens::below(Path::new(&places.source));
    let second = places.both(&[]).code(0);
    let counts = opens.count();
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(second.summary()["files_unmodified"], 7);

    // And so are a change, a move and a new file.
    world.write("docs/small", b"other");
    world.write("docs/new/file", b"new");
    fs::rename(world.path("docs/a/b/large"), world.path("docs/moved")).unwrap();
    let opens = Opens::below(Path::new(&places.source));
    let third = places.both(&[]).code(0);
    let counts = opens.count();
    assert!(counts.len() >= 3);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    let mirrored = message(&third, "mirror_summary");
    assert_eq!((&mirrored["files_moved"], &mirrored["files_changed"]), (&1.into(), &1.into()));
    assert_eq!(mirrored["bytes_written"], 8);
    places.check();
}

#[test]
fn a_mirror_that_fails_harms_no_backup_nor_the_other_way_round() {
    let places = Places::new();
    let world = &places.world;
    for number in 0..80 {
        world.write(&format!("docs/{number}"), b"content");
    }
    // Somebody else's directory: the snapshot is made, and nothing there is touched.
    world.write("mirror/theirs", b"theirs");
    let run = places.both(&[]).code(1);
    assert!(run.summary()["snapshot_id"].is_string());
    assert_eq!(message(&run, "mirror_error")["kind"], "exists");
    assert!(run.err.contains("the mirror: "), "{}", run.err);
    assert_eq!(fs::read_dir(world.path("mirror")).unwrap().count(), 1);
    fs::remove_file(world.path("mirror/theirs")).unwrap();
    places.both(&[]).code(0);
    places.check();

    // The guard of the mirror asks; the backup need not.
    for number in 0..80 {
        fs::remove_file(world.path(&format!("docs/{number}"))).unwrap();
    }
    let run = places.both(&[]).code(8);
    assert!(run.summary()["snapshot_id"].is_string());
    assert_eq!(message(&run, "mirror_error")["kind"], "held");
    assert_eq!(fs::read_dir(world.path("mirror/latest")).unwrap().count(), 80);
    world.run(&["mirror", "approve", &places.mirror]).code(0);
    places.both(&[]).code(0);
    places.check();

    // A repository that is not there: the mirror is made all the same.
    world.write("docs/later", b"later");
    fs::rename(world.path("repo"), world.path("away")).unwrap();
    let run = places.both(&[]).code(10);
    assert_eq!(message(&run, "mirror_summary")["files_new"], 1);
    assert!(world.path("mirror/latest/later").exists());
    fs::rename(world.path("away"), world.path("repo")).unwrap();
    places.both(&[]).code(0);
    places.check();

    // One that breaks on the way.
    world.write("docs/latest", b"latest");
    fs::rename(world.path("repo/packs"), world.path("away")).unwrap();
    world.write("repo/packs", b"in the way");
    let run = places.both(&[]);
    assert_ne!(run.code, Some(0));
    assert_eq!(message(&run, "mirror_summary")["files_new"], 1);
    fs::remove_file(world.path("repo/packs")).unwrap();
    fs::rename(world.path("away"), world.path("repo/packs")).unwrap();
    places.both(&[]).code(0);
    places.check();

    // Both.
    world.write("docs/last", b"last");
    fs::rename(world.path("repo"), world.path("away")).unwrap();
    fs::rename(world.path("mirror"), world.path("away-too")).unwrap();
    world.write("mirror/theirs", b"theirs");
    let run = places.both(&[]).code(10);
    assert!(run.err.contains("the backup: ") && run.err.contains("the mirror: "), "{}", run.err);
}

#[test]
fn a_dry_run_of_both_writes_nothing_and_a_mirror_is_of_one_directory() {
    let places = Places::new();
    places.world.write("docs/a", b"content");
    let run = places.both(&["-n"]).code(0);
    assert_eq!(message(&run, "mirror_summary")["files_new"], 1);
    assert!(run.summary().get("snapshot_id").is_none());
    assert!(!places.world.path("mirror").exists());
    let other = places.world.text("home");
    places.both(&[&other]).code(2);
    let file = places.world.text("docs/a");
    places.run(&["backup", &file, "--also-mirror", &places.mirror]).code(2);
}

#[test]
fn older_states_of_another_tool_are_not_given_up_unasked() {
    let world = World::new();
    for copy in ["docs", "copy"] {
        world.write(&format!("{copy}/a"), b"content");
    }
    let (docs, copy) = (world.text("docs"), world.text("copy"));
    let newest = "copy/rdiff-backup-data/mirror_metadata.2026-11-03T10:00:00+01:00.snapshot.gz";
    world.write(newest, b"of the copy itself");
    for day in [1, 2] {
        let name = format!("mirror_metadata.2026-11-0{day}T10:00:00+01:00.diff.gz");
        world.write(&format!("copy/rdiff-backup-data/{name}"), b"of an older state");
    }
    let refused = world.run(&["mirror", "adopt", &copy, "--source", &docs]).code(1);
    let told = "2 older states here, since 2026-11-01T10:00:00+01:00";
    assert!(refused.err.contains(told) && refused.err.contains("mirror insert"), "{}", refused.err);
    assert!(world.path("copy/a").exists());
    world.run(&["mirror", "adopt", &copy, "--source", &docs, "--without-history"]).code(0);
    assert!(world.path("copy/latest/a").exists() && world.path(newest).exists());
    world.run(&["mirror", "run", &docs, "--to", &copy]).code(0);
    // A copy of which it keeps nothing older loses nothing.
    fs::create_dir(world.path("other")).unwrap();
    fs::rename(world.path("copy/latest/a"), world.path("other/a")).unwrap();
    world.write(&newest.replace("copy", "other"), b"of the copy itself");
    world.run(&["mirror", "adopt", &world.text("other"), "--source", &docs]).code(0);
}
