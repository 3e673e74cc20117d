//! The command as a user meets it: the real binary, a home of its own, real files.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod calls;
mod contract;
mod crowd;
mod damaged;
mod exhausted;
mod forgotten;
mod killed;
mod mirror;
mod mirror_cut;
mod traced;
mod world;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::Value;

use world::World;

#[test]
fn the_first_command_ever_backs_up_and_the_files_come_back() {
    let world = World::new();
    world.write("docs/a.txt", b"hello");
    world.write("docs/sub/b.bin", &world::noise(3_000_000, 1));
    world.write("docs/empty", b"");
    symlink("a.txt", world.path("docs/link")).unwrap();
    fs::hard_link(world.path("docs/a.txt"), world.path("docs/hard")).unwrap();
    fs::create_dir(world.path("docs/none")).unwrap();
    let odd = world.path("docs").join(std::ffi::OsStr::from_bytes(b"odd\xff\n name"));
    fs::write(&odd, b"odd").unwrap();
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o640)).unwrap();

    let first = world.run(&["backup", &world.text("docs")]).code(0);
    assert!(first.out.contains("recovery code:"), "{first:?}");
    assert!(first.out.contains(" new,        0 changed"), "{first:?}");
    assert!(first.err.contains("same file system"), "{first:?}");
    let key = world.path("home/.local/share/lastgood/repository.key");
    assert_eq!(fs::metadata(key).unwrap().mode() & 0o777, 0o600);

    let second = world.run(&["backup", &world.text("docs")]).code(0);
    assert!(!second.out.contains("recovery code"), "shown twice: {second:?}");
    assert!(second.out.contains("Added to the repository: 0 B"), "{second:?}");
    assert!(second.out.contains("5 unmodified"), "{second:?}");

    world.run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");
    let inode = |name: &str| fs::metadata(world.path(name)).unwrap().ino();
    assert_eq!(inode("back/a.txt"), inode("back/hard"));

    // In place: what is right stays, what is wrong is mended, what is new stays unless told.
    world.write("back/a.txt", b"HELLO");
    world.write("back/new", b"new");
    fs::remove_file(world.path("back/empty")).unwrap();
    let dry =
        world.run(&["restore", "latest", "-t", &world.text("back"), "--delete", "-n"]).code(0);
    assert!(dry.out.contains("deleted"), "{dry:?}");
    assert!(world.path("back/new").exists());
    world.run(&["restore", "latest", "-t", &world.text("back"), "--delete", "--verify"]).code(0);
    world.assert_same("docs", "back");

    // A part of it, and one file.
    let sub = format!("latest:{}", world.text("docs/sub"));
    world.run(&["restore", &sub, "-t", &world.text("part")]).code(0);
    world.assert_same("docs/sub", "part");
    let file = format!("latest:{}", world.text("docs/a.txt"));
    assert_eq!(world.run(&["cat", &file]).code(0).out, "hello");

    // Only what is asked for.
    let only = ["restore", "latest", "-t", &world.text("only"), "-i", "*.bin"];
    world.run(&only).code(0);
    assert!(world.path("only/sub/b.bin").exists() && !world.path("only/a.txt").exists());
}

#[test]
fn what_changed_is_shown() {
    let world = World::new();
    world.write("docs/stays", b"1");
    world.write("docs/changes", b"1");
    world.write("docs/goes/x", b"1");
    world.run(&["backup", &world.text("docs")]).code(0);
    world.write("docs/changes", b"22");
    world.write("docs/comes", b"1");
    fs::remove_dir_all(world.path("docs/goes")).unwrap();
    let live = world.run(&["diff", "latest"]).code(0).out;
    world.run(&["backup", &world.text("docs")]).code(0);
    let stored = world.run(&["diff", "latest~1", "latest"]).code(0).out;
    assert_eq!(live, stored);
    let docs = world.text("docs");
    for line in [
        format!("M    {docs}/changes"),
        format!("+    {docs}/comes"),
        format!("-    {docs}/goes/"),
        format!("-    {docs}/goes/x"),
    ] {
        assert!(live.lines().any(|shown| shown == line), "no {line:?} in {live}");
    }
    assert!(!live.contains("stays"), "{live}");
    let by_content = world.run(&["diff", "latest", "--content"]).code(0).out;
    assert!(by_content.contains("0 differ"), "{by_content}");

    // What rules leave out is not new, and nothing below it is either.
    world.write("docs/changes", b"333");
    world.write("docs/cache/deep/x", b"1");
    let diff = ["diff", "latest", "--exclude", "cache", "--json"];
    for content in [&[][..], &["--content"]] {
        let run = world.run(&[&diff[..], content].concat()).code(0);
        let changes = run.messages();
        let changes: Vec<_> =
            changes.iter().filter(|change| change["message_type"] == "change").collect();
        if content.is_empty() {
            assert_eq!(changes.len(), 1, "{changes:?}");
        }
        let change = changes.iter().find(|change| change["modifier"] == "M").unwrap();
        assert_eq!(
            (&change["type"], &change["path"]),
            (&"file".into(), &format!("{docs}/changes").into())
        );
        assert_eq!((&change["size_before"], &change["size_after"]), (&2.into(), &3.into()));
    }

    let found = world.run(&["find", "change*", "--type", "f"]).code(0).out;
    assert_eq!(found.matches("/docs/changes").count(), 2, "{found}");
    let out = world.run(&["explain", &world.text("docs/stays"), "-e", "st*"]).code(0).out;
    assert!(out.contains("is excluded by pattern st* (--exclude)"), "{out}");
}

#[test]
fn passwords_and_key_files_open_and_nothing_else_does() {
    let world = World::new();
    world.write("docs/a", b"1");
    world.write("pw", b"correct horse\n");
    world.write("other", b"wrong\n");
    let (repo, pw, other) = (world.text("repo"), world.text("pw"), world.text("other"));
    let made = world.run(&["-r", &repo, "-p", &pw, "init", "--json"]).code(0);
    let code = made.messages()[0]["recovery_code"].as_str().unwrap().to_owned();
    world.write("code", code.to_lowercase().replace('-', " ").as_bytes());
    world.run(&["-r", &repo, "-p", &pw, "init"]).code(1);
    let wrong = world.run(&["-r", &repo, "-p", &other, "snapshots"]).code(12);
    assert!(wrong.err.contains("wrong password") && wrong.err.contains("hint:"), "{wrong:?}");
    world.run(&["-r", &repo, "snapshots"]).code(12);
    // The recovery code opens it, and puts a key file beside the password.
    let key = world.text("new.key");
    let by_code = ["-r", &repo, "--recovery-code-file", &world.text("code")];
    world.run(&[&by_code[..], &["key", "add", "--new-key-file", &key]].concat()).code(0);
    let by_key = ["-r", repo.as_str(), "--key-file", &key];
    world.run(&[&by_key[..], &["backup", &world.text("docs")]].concat()).code(0);
    let list = world.run(&[&by_key[..], &["key", "list", "--json"]].concat()).code(0);
    let list = list.messages();
    assert_eq!(list.len(), 2);
    let password = list.iter().find(|key| key["kind"] == "password").unwrap();
    let id = password["id"].as_str().unwrap();
    world.run(&[&by_key[..], &["key", "remove", &id[..12]]].concat()).code(0);
    world.run(&["-r", &repo, "-p", &pw, "snapshots"]).code(12);
    // Only key files are left: nobody is asked for a password.
    let none = world.run(&["-r", &repo, "snapshots"]).code(12);
    assert!(none.err.contains("opens with a key file"), "{none:?}");
    world.run(&[&by_key[..], &["snapshots"]].concat()).code(0);
}

#[test]
fn what_cannot_be_read_is_said_and_kept() {
    let world = World::new();
    world.write("docs/a", b"1");
    world.write("docs/secret", b"2");
    world.write("docs/closed/inside", b"3");
    world.write("docs/closed/deeper/inside", b"4");
    let docs = world.text("docs");
    let run = |args: &[&str]| world::Run::of(world.command_of_a_user().args(args));
    run(&["backup", &docs]).code(0);
    let close = |name: &str| {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    };
    // Opened by their owner for this test alone.
    world.write("docs/secret", b"changed, and longer");
    world.write("docs/a", b"11");
    world.write("docs/new secret", b"5");
    ["docs/secret", "docs/new secret", "docs/closed"].into_iter().for_each(close);
    for _ in 0..2 {
        let incomplete = run(&["--json", "backup", "--force", &docs]).code(3);
        let errors = incomplete.errors();
        let listed = errors.iter().filter(|error| error["severity"] == "error");
        let listed: Vec<&str> = listed.map(|error| error["item"].as_str().unwrap()).collect();
        let expected = ["closed", "new secret", "secret"].map(|name| format!("{docs}/{name}"));
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{incomplete:?}");
        assert_eq!(incomplete.summary()["error_count"], 3);
        // What it was when it could be read, and what could be read now.
        for (name, content) in
            [("a", "11"), ("secret", "2"), ("closed/inside", "3"), ("closed/deeper/inside", "4")]
        {
            let kept = run(&["cat", &format!("latest:{docs}/{name}")]).code(0);
            assert_eq!(kept.out, content, "{name}");
        }
        run(&["cat", &format!("latest:{docs}/new secret")]).code(1);
        let diff = run(&["diff", "latest~1", "latest"]).code(0);
        assert!(!diff.out.lines().any(|line| line.starts_with('-')), "deleted: {diff:?}");
    }
    let open = |name: &str, mode: u32| {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    open("docs/secret", 0o600);
    open("docs/new secret", 0o600);
    open("docs/closed", 0o700);
    run(&["backup", &docs]).code(0);
    run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");
}

#[test]
fn an_interrupted_backup_goes_on() {
    let world = World::new();
    world.write("docs/small", b"1");
    world.run(&["backup", &world.text("docs")]).code(0);
    for number in 0..24 {
        world.write(&format!("docs/{number}"), &world::noise(16 << 20, number + 2));
    }
    let child = world.spawn(&["backup", &world.text("docs"), "--json", "--threads", "1"]);
    let cut = world.interrupt_when_stored(child, 40 << 20);
    assert_eq!(cut.code, Some(130), "{cut:?}");
    assert!(cut.err.contains("\"kind\":\"interrupted\""), "{cut:?}");
    let after = world.run(&["snapshots", "--json"]).code(0);
    assert_eq!(after.messages().len(), 2, "a snapshot of half a run: {after:?}");
    let next = world.run(&["backup", &world.text("docs"), "--json"]).code(0);
    let summary = next.summary();
    let reused = summary["data_known"].as_u64().unwrap();
    assert!(reused >= 16 << 20, "nothing was reused: {summary}");
    world.run(&["restore", "latest", "-t", &world.text("back")]).code(0);
    world.assert_same("docs", "back");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new();
    for number in 0..3000 {
        world.write(&format!("docs/a-rather-long-name-so-that-the-pipe-fills-{number}"), b"");
    }
    world.run(&["backup", &world.text("docs")]).code(0);
    let script = format!("set -o pipefail; {} ls latest | head -n 1", world::BINARY);
    let output = world.command("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn streams_are_stored_unless_their_command_fails() {
    let world = World::new();
    let stream = ["backup", "--stdin-from-command", "--stdin-filename", "db.sql", "--"];
    world.run(&[&stream[..], &["printf", "rows"]].concat()).code(0);
    assert_eq!(world.run(&["cat", "latest:/db.sql"]).code(0).out, "rows");
    world.run(&[&stream[..], &["sh", "-c", "echo half; exit 3"]].concat()).code(1);
    let snapshots = world.run(&["snapshots", "--json"]).code(0);
    assert_eq!(snapshots.summary()["snapshots_count"], 1);
}

#[test]
fn damage_is_found_and_the_rest_comes_back() {
    let world = World::new();
    world.write("docs/a", &world::noise(100_000, 1));
    world.run(&["backup", &world.text("docs")]).code(0);
    world.run(&["check", "--read-data"]).code(0);
    world.write("more/b", &world::noise(100_000, 2));
    let before = world.packs();
    world.run(&["backup", &world.text("docs"), &world.text("more")]).code(0);
    let pack = world.packs().into_iter().filter(|pack| !before.contains(pack));
    let pack = pack.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    // More than parity makes up for.
    bytes[middle - 20_000..middle + 20_000].fill(0);
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let check = world.run(&["check", "--read-data", "--json"]).code(5);
    let affected = check.summary()["affected"].as_array().unwrap().clone();
    let is_b = |entry: &Value| entry["path"].as_str().unwrap().ends_with("more/b");
    assert!(affected.iter().any(is_b), "{check:?}");
    let back = world.run(&["restore", "latest", "-t", &world.text("back")]).code(5);
    assert!(back.err.contains("more/b"), "{back:?}");
    assert_eq!(fs::read(world.path("back/docs/a")).unwrap(), world::noise(100_000, 1));
}
