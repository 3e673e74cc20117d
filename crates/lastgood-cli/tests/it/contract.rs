//! Exit codes and JSON, as `docs/manual/scripting.md` promises them.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Map, Value};

use crate::world::{self, Run, World};

#[test]
fn exit_codes_are_as_promised() {
    let world = World::new();
    world.write("docs/a", b"1");
    let docs = world.text("docs");
    let check = |args: &[&str], variables: &[(&str, &str)], code: i32, kind: &str| {
        let run = world.run_with(args, variables);
        assert_eq!(run.code, Some(code), "{args:?} {variables:?}: {run:?}");
        let json = world.run_with(&[&["--json"], args].concat(), variables);
        assert_eq!(json.code, Some(code), "{args:?} {variables:?}: {json:?}");
        let Some(last) = json.errors().pop() else { panic!("{args:?} says nothing: {json:?}") };
        assert_eq!(last["message_type"], "exit_error");
        assert_eq!((&last["code"], &last["kind"]), (&code.into(), &kind.into()), "{last}");
        assert!(!last["message"].as_str().unwrap().is_empty());
    };
    // Nothing is there yet.
    check(&["snapshots"], &[], 10, "no-repository");
    check(&["restore", "latest", "-t", "x"], &[], 10, "no-repository");
    check(&["-r", "nowhere", "check"], &[], 10, "no-repository");
    check(&["ls", "latest"], &[("LASTGOOD_REPOSITORY", "nowhere")], 10, "no-repository");
    check(&["-r", &world.text("docs/a"), "snapshots"], &[], 10, "no-repository");
    check(&["-r", &world.text("docs/a"), "--key-file", "k", "init"], &[], 2, "invalid");
    // A slip in the first command makes no repository.
    check(&["backup", &world.text("nowhere")], &[], 1, "not-found");
    check(&["snapshots"], &[], 10, "no-repository");
    // Wrong usage, wherever it comes from.
    check(&["backup", "--exlude", "x", &docs], &[], 2, "usage");
    check(&["backup"], &[], 2, "usage");
    check(&["frobnicate"], &[], 2, "usage");
    check(&["prune", "--keep-daily", "7"], &[], 2, "usage");
    check(&["forget", "--keep-daily", "x"], &[], 2, "usage");
    check(&["forget", "latest", "--keep-daily", "1"], &[], 2, "usage");
    check(&["snapshots"], &[("LASTGOOD_PROGRESS_FPS", "fast")], 2, "usage");
    check(&["snapshots"], &[("LASTGOOD_REPOSITORY", "")], 2, "usage");
    check(&["backup", &docs], &[("LASTGOOD_BACKUP__EXCLUDE_CACHES", "perhaps")], 2, "usage");
    check(&["backup", &docs], &[("LASTGOOD_BACKUP__EXCLUED", "x")], 2, "usage");
    check(&["backup", "--exclude-larger-than", "1MB", &docs], &[], 2, "usage");
    // With a repository.
    world.run(&["backup", &docs]).code(0);
    check(&["backup", &world.text("nowhere")], &[], 1, "not-found");
    check(&["ls", "latest:/nowhere"], &[], 1, "not-found");
    check(&["ls", "0123abcd"], &[], 1, "not-found");
    check(&["ls", "not-a-snapshot"], &[], 2, "invalid");
    check(&["init"], &[], 1, "exists");
    check(&["forget"], &[], 2, "invalid");
    check(&["undelete", "latest"], &[], 1, "not-found");
    check(&["mirror", "rotate", &docs], &[], 2, "invalid");
    check(&["mirror", "versions", &docs], &[], 1, "not-found");
    check(&["mirror", "run", &docs, "--to", &docs], &[], 1, "exists");
    check(&["mirror", "run", &world.text("nowhere"), "--to", "m"], &[], 1, "not-found");
    // So it is with objects that a new repository has none of.
    world.run(&["tag", "--add", "x", "latest"]).code(0);
    check(&["init"], &[], 1, "exists");
    check(&["restore", "latest", "-t", &world.text("docs/a")], &[], 1, "exists");
    check(&["--key-file", "nowhere", "snapshots"], &[], 12, "wrong-key");
    check(&["--key-file", &world.text("docs/a"), "snapshots"], &[], 12, "wrong-key");
    let wrong = [("LASTGOOD_PASSWORD", "wrong")];
    check(&["snapshots"], &wrong, 12, "wrong-key");
    // The config has a copy, and nothing new is made on top of a repository that lost both.
    let repository = world.path("home/.local/share/lastgood/repository");
    let config = repository.join("config");
    let copy = repository.join("revisions/0000000000000001");
    let bytes = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    check(&["init"], &[], 1, "exists");
    let warned = world.run(&["snapshots"]).code(0);
    assert!(warned.err.contains("config is damaged"), "{}", warned.err);
    std::fs::remove_file(&copy).unwrap();
    check(&["backup", &docs], &[], 5, "damaged");
    check(&["init"], &[], 5, "damaged");
    std::fs::write(&copy, &bytes).unwrap();
    world.run(&["repair", "--yes"]).code(0);
    assert_eq!(std::fs::read(&config).unwrap(), bytes);
    world.run(&["check", "--read-data"]).code(0);
    world.run(&["--version"]).code(0);
    world.run(&["--help"]).code(0);
    world.run(&["unlock"]).code(0);
}

/// The page says which codes there are, and each has its case here.
#[test]
fn each_documented_exit_code_is_met() {
    let page = include_str!("../../../../docs/manual/scripting.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| code |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<i32> =
        rows.map(|row| row.split('|').nth(1).unwrap().trim().parse().unwrap()).collect();
    let cases: [(i32, fn(&World) -> Run); 11] = [
        (0, |world| world.run(&["snapshots"])),
        (1, |world| world.run(&["ls", "latest:/nowhere"])),
        (2, |world| world.run(&["backup", "--nonsense"])),
        (3, |world| {
            let secret = world.path("docs/secret");
            world.write("docs/secret", b"x");
            std::fs::set_permissions(secret, Permissions::from_mode(0o000)).unwrap();
            Run::of(world.command_of_a_user().args(["backup", &world.text("docs")]))
        }),
        (5, |world| {
            let pack = world.packs().pop().unwrap();
            let whole = std::fs::read(&pack).unwrap();
            std::fs::write(&pack, &whole[..whole.len() / 2]).unwrap();
            let run = world.run(&["check"]);
            std::fs::write(&pack, whole).unwrap();
            run
        }),
        (6, |world| {
            // Of the same length and time, so it is left alone, and is not what the snapshot has.
            world.write("back/a", b"2");
            let time = std::fs::metadata(world.path("docs/a")).unwrap().modified().unwrap();
            let file = std::fs::File::options().write(true).open(world.path("back/a")).unwrap();
            file.set_modified(time).unwrap();
            let back = world.text("back");
            world.run(&["restore", "latest", "-t", &back, "--overwrite", "if-changed", "--verify"])
        }),
        (8, |world| {
            world.write("goes/f", b"1");
            let run = ["mirror", "run", &world.text("goes"), "--to", &world.text("mirror")];
            world.run(&run).code(0);
            std::fs::remove_file(world.path("goes/f")).unwrap();
            world.run(&run)
        }),
        (10, |world| world.run(&["-r", &world.text("nowhere"), "snapshots"])),
        (12, |world| world.run_with(&["snapshots"], &[("LASTGOOD_PASSWORD", "wrong")])),
        (13, |world| {
            // A disk that is always full.
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            let mut command = world.command(world::BINARY);
            let status = command.arg("snapshots").stdout(full).status().unwrap();
            Run { code: status.code(), out: String::new(), err: String::new() }
        }),
        (130, |world| {
            world.write("large/file", &world::noise(256 << 20, 7));
            let child = world.spawn(&["backup", &world.text("large"), "--threads", "1"]);
            world.interrupt_when_stored(child, 1 << 20)
        }),
    ];
    assert_eq!(documented, cases.iter().map(|(code, _)| *code).collect());
    let world = World::new();
    world.write("docs/a", b"1");
    world.run(&["backup", &world.text("docs")]).code(0);
    for (code, run) in cases {
        run(&world).code(code);
    }
}

#[test]
fn flags_come_from_the_environment_as_well() {
    let world = World::new();
    world.write("docs/a.tmp", b"1");
    world.write("docs/b", b"1");
    let variables = [
        ("LASTGOOD_BACKUP__EXCLUDE", "*.tmp"),
        ("LASTGOOD_BACKUP__TAG", "x,y"),
        ("LASTGOOD_HOST", "there"),
        ("LASTGOOD_JSON", "true"),
    ];
    let run = world.run_with(&["backup", &world.text("docs")], &variables).code(0);
    assert_eq!(run.summary()["total_files_processed"], 1);
    let snapshot = &world.run(&["snapshots", "--json"]).code(0).messages()[0];
    assert_eq!(snapshot["hostname"], "there");
    assert_eq!(snapshot["tags"], serde_json::json!(["x", "y"]));
    // A flag beats its variable.
    let run = world
        .run_with(&["backup", "--exclude", "b", "-H", "here", &world.text("docs")], &variables);
    assert_eq!(run.code(0).summary()["total_files_processed"], 1);
    let here = world.run(&["snapshots", "--json", "-H", "here"]).code(0);
    assert_eq!(here.summary()["snapshots_count"], 1);
}

#[test]
fn every_command_speaks_the_json_of_its_schema() {
    let world = World::new();
    let schema = world.run(&["schema"]).code(0).out;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let check = |args: &[&str]| -> Run {
        let run = world.run(&[&["--json"], args].concat());
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        for message in run.messages().iter().chain(&run.errors()) {
            validate(&schema, message);
        }
        run
    };
    world.write("docs/a", b"1");
    world.write("docs/sub/b", &world::noise(200_000, 1));
    std::os::unix::fs::symlink("a", world.path("docs/l")).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"odd\xff");
    std::fs::write(world.path("docs").join(odd), b"1").unwrap();
    let docs = world.text("docs");
    check(&["backup", "-n", &docs]);
    check(&["backup", "-vv", &docs, "-e", "l"]);
    check(&["backup", &docs]);
    check(&["snapshots"]);
    let nodes = check(&["ls", "-l", "latest"]);
    let odd = nodes.messages().into_iter().find(|node| node.get("path_bytes").is_some()).unwrap();
    assert_eq!(odd["name_bytes"], "6f6464ff");
    check(&["find", "*"]);
    check(&["diff", "latest~1", "latest", "--metadata"]);
    check(&["diff", "latest"]);
    check(&["diff", "latest", "--content"]);
    check(&["restore", "latest", "-t", &world.text("back"), "-v", "--verify"]);
    check(&["restore", "latest", "-t", &world.text("back"), "-n"]);
    check(&["check", "--read-data"]);
    check(&["repair"]);
    check(&["stats"]);
    check(&["stats", "--mode", "files-by-contents"]);
    check(&["stats", "--mode", "raw-data"]);
    check(&["explain", &format!("{docs}/a"), "-e", "a"]);
    check(&["explain", &format!("{docs}/sub/b"), "--source", &docs, "-e", "sub", "-e", "!b"]);
    check(&["explain", &format!("{docs}/a@latest")]);
    check(&["explain", "--space"]);
    check(&["explain", "--space", "latest", "--depth", "1"]);
    check(&["key", "list"]);
    check(&["key", "add", "--new-key-file", &world.text("k")]);
    check(&["tag", "--add", "x", "latest"]);
    check(&["pin", "-n", "latest"]);
    check(&["pin", "latest"]);
    check(&["unpin", "latest"]);
    check(&["forget", "--keep-last", "1", "--group-by", "host,tags", "-n"]);
    check(&["forget", "--keep-last", "1"]);
    check(&["undelete"]);
    check(&["snapshots", "--forgotten"]);
    let forgotten = check(&["undelete"]).messages()[0]["id"].as_str().map(str::to_owned);
    check(&["undelete", &forgotten.unwrap()]);
    check(&["gc", "-n"]);
    check(&["forget", "--keep-last", "1", "--gc"]);
    check(&["gc"]);
    check(&["upgrade"]);
    check(&["upgrade", "--yes"]);
    check(&["key", "rotate"]);
    check(&["key", "rotate", "--yes"]);
    check(&["backup", &docs]);
    check(&["log"]);
    check(&["log", "--verify", "--verb", "backup,restore", "--since", "1d", "--latest", "1"]);
    check(&["accept-rollback"]);
    check(&["accept-rollback", "--yes"]);
    check(&["version"]);
    check(&["completions", "bash"]);
    check(&["schema"]);
    check(&["man", &world.text("man")]);
    check(&["unlock"]);
    let mirror = world.text("mirror");
    check(&["mirror", "run", &docs, "--to", &mirror, "-n"]);
    assert!(!world.path("mirror").exists());
    check(&["mirror", "run", &docs, "--to", &mirror, "--approve"]);
    world.write("docs/a", b"22");
    check(&["mirror", "run", &docs, "--to", &mirror]);
    check(&["backup", &docs, "--also-mirror", &mirror]);
    let held = world.run(&["--json", "backup", &docs, "--also-mirror", &docs]).code(1);
    held.messages().iter().chain(&held.errors()).for_each(|message| validate(&schema, message));
    check(&["mirror", "versions", &mirror]);
    check(&["mirror", "versions", &mirror, "a"]);
    check(&["mirror", "restore", &mirror, "-t", &world.text("plain"), "-n"]);
    check(&["mirror", "restore", &mirror, "a", "-t", &world.text("plain"), "--at", "0h"]);
    assert_eq!(std::fs::read(world.path("plain/a")).unwrap(), b"22");
    check(&["mirror", "verify", &mirror]);
    let versions = check(&["mirror", "versions", &mirror]).messages();
    let oldest = versions[0]["name"].as_str().unwrap();
    let diff = check(&["mirror", "diff", &mirror, oldest, "@0h"]);
    assert_eq!(diff.summary()["changed_files"], 1);
    assert_eq!(check(&["mirror", "diff", &mirror, oldest, "latest", "b"]).messages().len(), 1);
    std::fs::remove_file(world.path("mirror").join("latest/a")).unwrap();
    check(&["mirror", "repair", &mirror, "-n"]);
    check(&["mirror", "repair", &mirror, "--yes"]);
    check(&["mirror", "repair", &mirror]);
    world.write("plain/a", b"22");
    check(&["mirror", "adopt", &world.text("plain"), "--source", &docs]);
    check(&["mirror", "insert", &mirror, &docs, "--at", "2001-01-01"]);
    check(&["mirror", "drop", &mirror, oldest, "-n"]);
    check(&["mirror", "drop", &mirror, oldest]);
    world.write("docs/a", b"333");
    check(&["mirror", "run", &docs, "--to", &mirror]);
    let rotate = ["mirror", "rotate", &mirror, "--keep-last", "1"];
    check(&[&rotate[..], &["-n"]].concat());
    assert_eq!(check(&rotate).summary()["removed_versions"], 2);
    std::fs::rename(world.path("docs"), world.path("elsewhere")).unwrap();
    std::fs::create_dir(world.path("docs")).unwrap();
    world.run(&["mirror", "run", &docs, "--to", &mirror]).code(8);
    world.run(&rotate).code(8);
    check(&["mirror", "approve", &mirror]);
    world.run(&["mirror", "approve", &docs]).code(1);
    std::fs::remove_dir(world.path("docs")).unwrap();
    std::fs::rename(world.path("elsewhere"), world.path("docs")).unwrap();
    check(&["mirror", "run", &docs, "--to", &mirror]);
    assert_eq!(check(&["mirror", "versions", &mirror]).summary()["versions_count"], 1);
    check(&["-r", &world.text("other"), "--key-file", &world.text("k2"), "init", "-n"]);
    check(&["-r", &world.text("other"), "--key-file", &world.text("k2"), "init"]);
    assert!(world.path("man/lastgood-backup.1").exists());
    let content = world.run(&["--json", "cat", &format!("latest:{docs}/a")]).code(0);
    assert_eq!(content.out, "22");
    let refused = world.run(&["--json", "backup", "--nonsense"]).code(2);
    refused.errors().iter().for_each(|message| validate(&schema, message));
}

/// Asserts that one definition of the message's type has all its fields, of their types, and that
/// none it requires is missing.
fn validate(schema: &Value, message: &Value) {
    let definitions = schema["$defs"].as_object().unwrap();
    let of_type = definitions.values().filter(|definition| {
        definition["properties"]["message_type"]["const"] == message["message_type"]
    });
    let complaints: Vec<String> =
        of_type.map(|definition| complaint(definitions, definition, message)).collect();
    let is_valid = complaints.iter().any(String::is_empty);
    assert!(is_valid, "{message} is not in the schema: {complaints:?}");
}

fn complaint(definitions: &Map<String, Value>, schema: &Value, value: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return complaint(definitions, &definitions[name.trim_start_matches("#/$defs/")], value);
    }
    if let Some(constant) = schema.get("const") {
        return if constant == value {
            String::new()
        } else {
            format!("{value} is not {constant}")
        };
    }
    if let Some(options) = schema["enum"].as_array() {
        let is_one = options.contains(value);
        return if is_one { String::new() } else { format!("{value} is none of {options:?}") };
    }
    let is_type = match schema["type"].as_str().unwrap() {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if !is_type {
        return format!("{value} is no {}", schema["type"]);
    }
    let items = value.as_array().into_iter().flatten();
    let mut found = items.map(|item| complaint(definitions, &schema["items"], item));
    if let Some(bad) = found.find(|complaint| !complaint.is_empty()) {
        return bad;
    }
    let Some(properties) = schema["properties"].as_object() else {
        return String::new();
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return format!("{name} is missing");
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let Some(schema) = properties.get(name) else {
            return format!("{name} is not known");
        };
        let complaint = complaint(definitions, schema, field);
        if !complaint.is_empty() {
            return format!("{name}: {complaint}");
        }
    }
    String::new()
}
