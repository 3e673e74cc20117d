//! `cargo xtask instructions`: what each stage takes, counted and not timed, so that a regression
//! shows on a machine that others use as well.
//!
//! valgrind's callgrind counts. It knows no register wider than AVX2, so that is the path that it
//! counts; what another allocator or compiler makes of a stage differs by a little.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Counts every stage and compares it with what is committed; `--bless` commits what it is now.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let bless = match arguments {
        [] => false,
        [flag] if flag == "--bless" => true,
        _ => bail!("usage: cargo xtask instructions [--bless]"),
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--locked", "-p", "bench", "--bin", "stages"]);
    ensure!(build.current_dir(root).status()?.success(), "the stages cannot be built");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let stages = target.join("release/stages");
    let list = Command::new(&stages).output().with_context(|| stages.display().to_string())?;
    let list = String::from_utf8(list.stdout)?;

    let path = root.join("bench/instructions.tsv");
    let before = if bless { BTreeMap::new() } else { committed(&path)? };
    let mut table = String::new();
    let mut slower = Vec::new();
    println!("{:<24} {:>14} {:>10} {:>8}", "stage", "instructions", "a KiB", "change");
    for line in list.lines() {
        let (name, bytes) = line.split_once('\t').context("a stage has a name and bytes")?;
        // What it takes to make its data is in both, and goes.
        let more = counted(&stages, name, RUNS + 1)?;
        let count = more.saturating_sub(counted(&stages, name, 1)?) / RUNS;
        let kib = count as f64 / (bytes.parse::<f64>()? / 1024.0);
        let change = before.get(name).map(|&before| (kib / before - 1.0) * 100.0);
        let shown = change.map_or("new".to_owned(), |change| format!("{change:+.1} %"));
        println!("{name:<24} {count:>14} {kib:>10.1} {shown:>8}");
        slower.extend(change.filter(|&change| change > TOLERANCE).map(|_| name.to_owned()));
        writeln!(table, "{name}\t{kib:.1}")?;
    }
    if bless {
        return Ok(fs::write(&path, table)?);
    }
    ensure!(
        slower.is_empty(),
        "more instructions than before, by over {TOLERANCE} %: {}; mend it, or commit them with --bless and say why",
        slower.join(", ")
    );
    Ok(())
}

/// Instructions of a stage that runs so many times.
fn counted(stages: &Path, name: &str, runs: u64) -> anyhow::Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    let output = command.arg(stages).arg(name).arg(runs.to_string()).output();
    let output =
        output.context("valgrind cannot be run: install it, as in apt-get install valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "stage {name} does not run under valgrind:\n{text}");
    let count = text.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.with_context(|| format!("valgrind counted nothing:\n{text}"))?;
    Ok(count.trim().parse()?)
}

/// Instructions per KiB of each stage, as committed.
fn committed(path: &Path) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = |line: &str| {
        let (name, count) =
            line.split_once('\t').with_context(|| format!("not a count: {line}"))?;
        Ok((name.to_owned(), count.parse()?))
    };
    text.lines().map(line).collect()
}

const RUNS: u64 = 4;
/// What compilers and libraries differ by, in per cent.
const TOLERANCE: f64 = 3.0;
