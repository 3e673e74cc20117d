//! The same patterns and paths, asked of git.

#![expect(clippy::print_stderr, reason = "a skipped comparison says so")]

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// What git says of every path: whether it or a parent of it is ignored. `None` without git.
///
/// Paths that end in `/` are made as directories, the others as files.
struct Git {
    directory: tempfile::TempDir,
}

impl Git {
    fn new(paths: &[String]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let git = Command::new("git").args(["init", "-q"]).current_dir(&directory).output();
        if !git.is_ok_and(|output| output.status.success()) {
            return None;
        }
        for path in paths {
            let path = directory.path().join(path);
            let is_directory = path.as_os_str().as_bytes().ends_with(b"/");
            let parent = if is_directory { Some(&*path) } else { path.parent() };
            std::fs::create_dir_all(parent.expect("a parent")).expect("directory is made");
            if !is_directory {
                std::fs::write(path, "").expect("file is written");
            }
        }
        Some(Self { directory })
    }

    fn ignored(&self, rules: &str, paths: &[String]) -> Vec<bool> {
        let file = self.directory.path().join(".git/info/exclude");
        std::fs::write(file, rules).expect("rules are written");
        let mut git = Command::new("git")
            .args(["check-ignore", "-v", "-n", "-z", "--no-index", "--stdin"])
            .current_dir(&self.directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git starts");
        let names: Vec<String> =
            paths.iter().map(|path| path.trim_end_matches('/').to_owned() + "\0").collect();
        let mut input = git.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || {
            input.write_all(names.concat().as_bytes()).expect("git reads");
        });
        let output = git.wait_with_output().expect("git ends");
        writer.join().expect("the writer ends");
        // Four fields each: file, line, pattern, path; without a match three of them are empty.
        let fields: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
        let answers = fields.chunks_exact(4);
        assert_eq!(answers.len(), paths.len(), "one answer per path");
        answers.map(|answer| !answer[2].is_empty() && !answer[2].starts_with(b"!")).collect()
    }
}

/// Patterns are refused here that git takes and then never matches; those are asked one by one.
fn compare(git: &Git, patterns: &[String], paths: &[String]) {
    let rules = patterns.join("\n");
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("rules");
    std::fs::write(&file, &rules).expect("rules are written");
    let options = SelectOptions { exclude_files: vec![file], ..SelectOptions::default() };
    let ours = match Selection::compile(&options, &["/source/root".into()]) {
        Ok(selection) => {
            paths.iter().map(|path| is_excluded(&selection, path.as_bytes())).collect()
        }
        Err(_) if patterns.len() == 1 => vec![false; paths.len()],
        Err(_) => return,
    };
    let theirs = git.ignored(&rules, paths);
    for ((path, ours), theirs) in paths.iter().zip::<Vec<bool>>(ours).zip(theirs) {
        assert_eq!(ours, theirs, "{path:?} by {patterns:?}: ours, then git's");
    }
}

fn paths() -> Vec<String> {
    let names = ["a", "b", "ab", "a.b", ".a", "a b", "a ", "[a]", "é", "aéb", "A", "b-"];
    let mut paths: Vec<String> = names.iter().map(|&name| name.into()).collect();
    for top in ["d", "e.f", "f", "d d"] {
        paths.extend(names.iter().map(|name| format!("{top}/{name}")));
        paths.push(format!("{top}/x/"));
        paths.extend(["a", "b", "d/a"].map(|name| format!("{top}/x/y/{name}")));
    }
    let odd =
        ["{a,b}", "\\", "a\\b", "#a", "!a", "a*", "]", "^", "-", "!", "\t", "a\t", "..a", "a.."];
    paths.extend(odd.map(String::from));
    paths.extend(["x/", "x/a/", "y/d/", "y/e.f/a"].map(String::from));
    paths
}

const FIXED: &[&str] = &[
    "a",
    "/a",
    "a/",
    "/a/",
    "d/a",
    "/d/a",
    "*",
    "/*",
    "*/",
    "**",
    "/**",
    "**/",
    "*/**",
    "**/a",
    "a/**",
    "d/**",
    "d/**/",
    "d/**/a",
    "**/x/**",
    "**/x/",
    "d/*/y",
    "d/*",
    "*/a",
    "*/*",
    "?",
    "??",
    "a?b",
    "a??b",
    "[a]",
    "\\[a]",
    "\\[a\\]",
    "[!a]",
    "[^a]",
    "[a-b]",
    "[b-a]",
    "[]]",
    "[!]]",
    "[]a]",
    "[]-a]",
    "[a-]",
    "[-a]",
    "[\\]]",
    "[\\\\]",
    "[[:alpha:]]",
    "[![:alpha:]]",
    "[[:punct:]]",
    "[[:space:]]",
    "[[:upper:]]",
    "[[:nope:]]",
    "[[:alpha]",
    "[[:]",
    "[a",
    "[",
    "]",
    "d[/]a",
    "d[!x]a",
    "d?a",
    "d*a",
    "{a,b}",
    "{a",
    "a}",
    "a,b",
    "\\",
    "\\\\",
    "a\\b",
    "a\\\\b",
    "\\a",
    "\\*",
    "a\\*",
    "a ",
    "a\\ ",
    "a \\ ",
    "a\\  ",
    " a",
    "a\t",
    "\t",
    "#a",
    "\\#a",
    "!a",
    "\\!a",
    "a**",
    "**a",
    "a**b",
    "***",
    "***/a",
    "d/***",
    "d/**/**/a",
    "**/**",
    "**/**/a",
    ".*",
    "*.b",
    "*.",
    "..*",
    "*..",
    ".a",
    "é",
    "a[é]b",
    "a[é][é]b",
    "[!é]",
    "-",
    "[!-]",
    "[--a]",
    "[a-a]",
    "[!!]",
    "[!^]",
    "[^^]",
    "[^!]",
    "[\\!^]",
    "[\\!-]",
    "\\^",
    "d//a",
    "//a",
    "./a",
    "d/./a",
    "/",
    "d\\/a",
    "a\\/",
    "e.f/*.b",
    "*.f/a",
    "/*/x/y/a",
    "d d",
    "d d/a",
    "d\\ d/a",
    "b[\\-]",
    "[[]a]",
];

const LISTS: &[&[&str]] = &[
    &["*", "!a"],
    &["/*", "!/d", "/d/*", "!/d/x"],
    &["/*", "!/d/", "/d/*", "!/d/x/"],
    &["d/", "!d/a"],
    &["d", "!d/"],
    &["*.b", "!d/*.b"],
    &["!a", "a"],
    &["a", "!a", "a"],
    &["**", "!**/", "!a"],
    &["# comment", "", "a  ", "!b"],
    &["x/**", "!x/**/a"],
    &["[!a-z]*", "!A"],
];

#[test]
fn patterns_and_lists_that_are_easy_to_get_wrong() {
    let paths = paths();
    let Some(git) = Git::new(&paths) else {
        eprintln!("skipped: there is no git to compare with");
        return;
    };
    for pattern in FIXED {
        compare(&git, &[(*pattern).into()], &paths);
    }
    for list in LISTS {
        let list: Vec<String> = list.iter().map(|&pattern| pattern.into()).collect();
        compare(&git, &list, &paths);
    }
}

/// Left out are `**` right behind a name in a pattern that holds a `/`: git before 2.53 takes it
/// for any number of directories there, against its own manual.
fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "d",
        "x",
        "y",
        ".",
        "f",
        "é",
        " ",
        "-",
        "?",
        "*",
        "[ab]",
        "[!a]",
        "[^d]",
        "[a-f]",
        "[[:lower:]]",
        "[]-]",
        "\\a",
        "\\*",
        "\\[",
        "{",
        "}",
        ",",
        "#",
        "!",
        "\\\\",
    ]);
    let name = prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat());
    let component = prop_oneof![5 => name, 1 => Just("**".to_owned())];
    let path = prop::collection::vec(component, 1..4).prop_map(|components| components.join("/"));
    let prefix = prop::sample::select(vec!["", "", "", "/", "!", "!/"]);
    let suffix = prop::sample::select(vec!["", "", "", "/", "/**", " "]);
    (prefix, path, suffix)
        .prop_map(|(prefix, path, suffix)| format!("{prefix}{path}{suffix}"))
        .prop_filter("git reads it its own way", |pattern| {
            let mut text = pattern.trim_start_matches('!').replace("/**", "/").replace("**/", "/");
            if text == "**" {
                text.clear();
            }
            !text.contains("**")
        })
}

#[test]
fn random_patterns() {
    let paths = paths();
    let Some(git) = Git::new(&paths) else {
        eprintln!("skipped: there is no git to compare with");
        return;
    };
    let cases = std::env::var("LASTGOOD_TEST_CASES").ok();
    let config = Config {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(150),
        failure_persistence: None,
        ..Config::default()
    };
    let lists = prop::collection::vec(pattern(), 1..4);
    TestRunner::new(config)
        .run(&lists, |patterns| {
            compare(&git, &patterns, &paths);
            Ok(())
        })
        .unwrap();
}
