//! Rounds of tools that copy, well or badly.

use serde_json::json;

use super::super::change::Switch;
use super::*;

/// A tool that copies, and then does `spoil` to what it restored.
macro_rules! copier {
    ($spoil:literal) => {
        Tool {
            name: "copier",
            is_encrypting: false,
            version: &["true"],
            environment: &[("COPY", "{repo}")],
            init: &[&["mkdir", "{repo}"]],
            operations: &[
                (Operation::Initial, &[&["sh", "-c", "cp -a . $COPY; exit 3"]]),
                (Operation::Changed, &[&["rm", "-r", "{repo}"], &["cp", "-a", ".", "{repo}"]]),
                (Operation::Restore, &[&["sh", "-c", concat!("cp -a $COPY/. .; ", $spoil)]]),
                (
                    Operation::RestoreFile,
                    &[&["sh", "-c", concat!("cat $COPY/$0; ", $spoil), "{file}"]],
                ),
                (Operation::RestoreInPlace, &[&["sh", "-c", "cp -a $COPY/. ."]]),
                (Operation::Check, &[&["false"]]),
            ],
            snapshots: None,
            warnings: &[3],
            one_file: PRINTED,
        }
    };
}

/// What a tool did, and what it failed to do.
fn run(tool: &Tool) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let [earlier, later] = ["earlier", "later"].map(|name| folder.path().join(name));
    for (tree, text) in [(&earlier, "old"), (&later, "new")] {
        fs::create_dir_all(tree.join("d")).unwrap();
        fs::write(tree.join("same"), "same").unwrap();
        fs::write(tree.join("d/file"), text).unwrap();
    }
    let ready = Ready {
        switch: Switch::create(folder.path(), &earlier, &later).unwrap(),
        facts: json!({}),
        file: Some("d/file".into()),
    };
    let installed = Installed::new(folder.path());
    let place =
        Place { installed: &installed, lastgood: Path::new(""), folder: folder.path().join("run") };
    let series = Series { data: "d".to_owned(), state: State::Warm, tool: "copier".to_owned() };
    let outcome = place.run(tool, &ready, &series, 7).unwrap();
    assert_eq!(fs::read_to_string(ready.switch.source().join("d/file")).unwrap(), "old");
    assert!(!place.folder.exists());
    outcome
}

#[test]
fn a_round_measures_what_the_tool_can() {
    let outcome = run(&copier!("true"));
    let done = outcome.samples.iter().map(|sample| (sample.operation, sample.stored_bytes));
    let expected = [
        (Operation::Initial, Some(7)),
        (Operation::Changed, Some(7)),
        (Operation::Restore, None),
        (Operation::RestoreFile, None),
        (Operation::RestoreInPlace, None),
    ];
    assert_eq!(done.collect::<Vec<_>>(), expected);
    assert!(outcome.samples.iter().all(|sample| sample.round == 7 && sample.cost.seconds > 0.0));
    let [failure] = outcome.failures.as_slice() else { panic!("{:?}", outcome.failures) };
    assert_eq!(failure.operation, Operation::Check);
    assert_eq!(failure.what, "false: exit status: 1: ");
}

#[test]
fn a_tool_whose_restore_is_wrong_fails() {
    let outcome = run(&copier!("printf X; printf new- > same"));
    let failed = outcome.failures.iter().map(|failure| (failure.operation, failure.what.as_str()));
    let expected = [
        (Operation::Restore, "same is not restored: its content differs"),
        (Operation::RestoreFile, "d/file is not restored"),
        (Operation::Check, "false: exit status: 1: "),
    ];
    assert_eq!(failed.collect::<Vec<_>>(), expected);
    assert!(outcome.samples.iter().any(|sample| sample.operation == Operation::RestoreInPlace));
}

#[test]
fn one_percent_of_a_tree_is_altered() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..250 {
        fs::write(folder.path().join(format!("{number:03}")), "content").unwrap();
    }
    fs::write(folder.path().join("large"), vec![0; LARGE_BYTES as usize]).unwrap();
    alter(folder.path()).unwrap();
    let differs =
        |number: &u32| fs::read(folder.path().join(format!("{number:03}"))).unwrap() != b"content";
    assert_eq!((0..250).filter(differs).collect::<Vec<u32>>(), [99, 199]);
    let large = fs::read(folder.path().join("large")).unwrap();
    assert_eq!(large.len() as u64, LARGE_BYTES);
    assert_eq!(large.chunks(64 << 10).filter(|block| block[0] != 0).count(), 1);
}

#[test]
fn the_first_and_the_last_snapshot_are_found() {
    let printed = r#"[{"id": "aa"}, {"id": "bb"}, {"id": "cc"}]"#;
    assert_eq!(ends(printed), Some(vec![("first", "aa".into()), ("last", "cc".into())]));
    assert_eq!(ends("[]"), None);
    assert_eq!(ends("no JSON"), None);
}
