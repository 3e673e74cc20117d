//! House rules that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Which of our crates each crate may use. A crate guards a boundary: nothing points left.
///
/// `lastgood-testkit` and `bench` may use any library, and nobody uses them but tests.
const MAY_USE: &[(&str, &[&str])] = &[
    ("lastgood-format", &[]),
    ("lastgood-wire", &[]),
    ("lastgood-backend", &["lastgood-wire"]),
    ("lastgood-host", &["lastgood-format"]),
    ("lastgood-repo", &["lastgood-format", "lastgood-backend"]),
    ("lastgood-diff", &["lastgood-format"]),
    ("lastgood-mirror", &["lastgood-format", "lastgood-diff", "lastgood-host"]),
    (
        "lastgood",
        &[
            "lastgood-repo",
            "lastgood-mirror",
            "lastgood-diff",
            "lastgood-host",
            "lastgood-backend",
            "lastgood-format",
        ],
    ),
    ("lastgood-mount", &["lastgood"]),
    ("lastgood-agent", &["lastgood", "lastgood-mount", "lastgood-wire"]),
    ("lastgood-server", &["lastgood-wire", "lastgood-backend"]),
    ("lastgood-cli", &["lastgood", "lastgood-mount", "lastgood-agent"]),
    ("xtask", &[]),
];
const MAY_USE_ALL: [&str; 2] = ["lastgood-testkit", "bench"];
const TESTKIT: &str = "lastgood-testkit";

/// Checks every rule and reports all that are broken.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = Files::read(root)?;
    let mut broken = crate_graph(root)?;
    broken.extend(spec_cites(root, &files));
    broken.extend(fixtures(root, &files)?);
    broken.extend(machine_paths(root, &files));
    broken.extend(strays(&files));
    longest(&files);
    for rule in &broken {
        println!("tidy: {rule}");
    }
    ensure!(broken.is_empty(), "{} house rules are broken", broken.len());
    println!("tidy: all is in order");
    Ok(())
}

/// The files that git knows, new ones included.
#[derive(Default)]
struct Files {
    /// Names and texts.
    texts: Vec<(String, String)>,
    /// Names of what is no text.
    others: Vec<String>,
}

impl Files {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root)
            .output()
            .context("git does not run")?;
        ensure!(output.status.success(), "git does not list the files of {}", root.display());
        // A fixture may have a name of any bytes; it is no text that rules are for.
        let names = String::from_utf8_lossy(&output.stdout);
        let mut files = Self::default();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            match fs::read_to_string(root.join(name)) {
                Ok(text) => files.texts.push((name.to_owned(), text)),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    files.others.push(name.to_owned());
                }
                // What was removed but not committed yet is of no interest.
                Err(_) => {}
            }
        }
        Ok(files)
    }

    fn rust(&self) -> impl Iterator<Item = &(String, String)> {
        self.texts.iter().filter(|(name, _)| name.ends_with(".rs"))
    }
}

fn crate_graph(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo does not run")?;
    ensure!(output.status.success(), "cargo metadata fails");
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let ours: BTreeSet<&str> = packages.iter().filter_map(|it| it["name"].as_str()).collect();

    let mut broken = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let row = MAY_USE.iter().find(|(row, _)| *row == name);
        if row.is_none() && !MAY_USE_ALL.contains(&name) {
            broken.push(format!("crate {name} is not in the table of crates"));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"] == "dev";
            let allowed = row.is_none_or(|(_, may_use)| may_use.contains(&used));
            let testkit = used == TESTKIT && !in_tests && name != "bench";
            if ours.contains(used) && (testkit || !(allowed || in_tests && used == TESTKIT)) {
                broken.push(format!("crate {name} uses {used}, which its row does not allow"));
            }
        }
    }
    Ok(broken)
}

/// What is no text is a fixture, or an input of the fuzzers.
fn strays(files: &Files) -> Vec<String> {
    let is_known = |name: &&String| ["fixtures/", "fuzz/"].iter().any(|it| name.starts_with(it));
    let strays = files.others.iter().filter(|name| !is_known(name));
    strays.map(|name| format!("{name} is no text, and no fixture either")).collect()
}

/// Chapters of the specification that code refers to must be there.
fn spec_cites(root: &Path, files: &Files) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, text) in files.rust() {
        let cites = text.split("docs/").skip(1).filter_map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c)))?;
            rest.get(..end)?.strip_suffix('.').or(rest.get(..end))
        });
        let missing = cites.filter(|cite| cite.ends_with(".md"));
        for cite in missing.filter(|cite| !root.join("docs").join(cite).is_file()) {
            broken.push(format!("{name} cites docs/{cite}, which does not exist"));
        }
    }
    broken
}

/// Every golden or damaged repository must be named by a test.
fn fixtures(root: &Path, files: &Files) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for format in folders(&root.join("fixtures"))? {
        for writer in folders(&root.join("fixtures").join(&format))? {
            let fixture = format!("{format}/{writer}");
            if !files.rust().any(|(_, text)| text.contains(&fixture)) {
                broken.push(format!("fixtures/{fixture} is not used by any test"));
            }
        }
    }
    Ok(broken)
}

fn folders(path: &Path) -> anyhow::Result<Vec<String>> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry.with_context(|| path.display().to_string())?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Nothing in the repository knows where it was checked out.
fn machine_paths(root: &Path, files: &Files) -> Vec<String> {
    let own = root.to_string_lossy().into_owned();
    let common = ["/", "/tmp", "/home", "/root", "/src", "/opt", "/mnt", "/srv", "/usr", "/var"];
    let beside = root.parent().filter(|parent| !common.map(Path::new).contains(parent));
    let places: Vec<String> = beside
        .map(|parent| format!("{}/", parent.display()))
        .into_iter()
        .chain((own.len() > 1).then_some(own))
        .collect();
    let mut broken = Vec::new();
    for (name, text) in &files.texts {
        for (index, line) in text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| line.contains(place.as_str())) {
                broken.push(format!("{name}:{} names a path of this machine, {place}", index + 1));
            }
        }
    }
    broken
}

/// Prints where the missing nouns may be. A table may be long, so nothing fails.
fn longest(files: &Files) {
    let mut lengths: Vec<_> =
        files.rust().map(|(name, text)| (text.lines().count(), name.clone())).collect();
    print_longest("files", &mut lengths);
    let mut lengths: Vec<_> =
        files.rust().flat_map(|(name, text)| function_lengths(name, text)).collect();
    print_longest("functions", &mut lengths);
}

fn print_longest(what: &str, lengths: &mut [(usize, String)]) {
    lengths.sort_by(|a, b| b.cmp(a));
    println!("the longest {what}, in lines:");
    for (lines, name) in lengths.iter().take(10) {
        println!("{lines:>6}  {name}");
    }
}

/// Functions from their first line to the brace that closes them, as rustfmt indents both.
fn function_lengths(file: &str, text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut lengths = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else {
            continue;
        };
        let words =
            ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
        if !before.split_whitespace().all(|word| words.contains(&word)) {
            continue;
        }
        let indent = line.len() - code.len();
        let ends = |line: &&str| line.trim_end() == format!("{}}}", " ".repeat(indent));
        let declared = |line: &&str| {
            line.ends_with(';') && line.len() > indent && !line[indent..].starts_with(' ')
        };
        let Some(length) = lines[start..].iter().position(|line| ends(line) || declared(line))
        else {
            continue;
        };
        let name = after.split(['(', '<']).next().unwrap_or_default();
        lengths.push((length + 1, format!("{name} in {file}:{}", start + 1)));
    }
    lengths
}
