//! Automation of the project: `cargo xtask tidy` keeps the house rules, `cargo xtask ci` runs
//! exactly what continuous integration runs, `cargo xtask bench` measures it beside other tools,
//! `cargo xtask instructions` counts what its stages take, `cargo xtask model` searches the
//! protocol, `cargo xtask torture` treats repositories badly, `cargo xtask replay` makes a traced
//! run once more.

#![expect(clippy::print_stdout, reason = "a command that reports to people")]

use std::path::{Path, PathBuf};

mod ci;
mod instructions;
mod tidy;
mod torture;

fn main() -> anyhow::Result<()> {
    let root = root();
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::run(&root),
        Some("ci") => ci::run(&root),
        Some("bench") => bench(&root, "peers"),
        Some("mirror-acceptance") => bench(&root, "acceptance"),
        Some("instructions") => instructions::run(&root, &arguments()),
        Some("model") => model(&root),
        Some("replay") => replay(&root),
        Some("torture") => torture::run(&root, &arguments()),
        _ => anyhow::bail!(
            "usage: cargo xtask tidy | ci | bench | mirror-acceptance | instructions | model [WORD...] | replay FILE | torture [HARNESS]\n\n\
             tidy  the crate graph, spec cites, fixtures, machine paths; prints what is longest\n\
             ci    formatting, lints, tests, tidy, and the independent decoder\n\
             bench lastgood and other tools on real data; --quick, --only, --rounds\n\
             mirror-acceptance what a mirror survives, beside other tools; writes the table of docs/mirror.md\n\
             instructions what each stage of a backup takes, counted and compared; --bless\n\
             model all searches of the model of commit and gc, or those named by a word\n\
             replay a run from the trace that backup --record kept; --repository R and its key\n\
             torture the campaign that nothing is ever lost; --seeds N, --first SEED, --seeded-bugs"
        ),
    }
}

/// What follows the name of the task.
fn arguments() -> Vec<String> {
    std::env::args().skip(2).collect()
}

/// Measures the command and other tools, each built for release, and writes the report.
fn bench(root: &Path, program: &str) -> anyhow::Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args(arguments).current_dir(root);
        command
    };
    let status = cargo(&["build", "--release", "--locked", "-p", "lastgood-cli"]).status()?;
    anyhow::ensure!(status.success(), "lastgood cannot be built");
    let mut command = cargo(&["run", "--release", "--locked", "-p", "bench", "--bin", program]);
    // Where the user is, for a directory that is named.
    command.arg("--manifest-path").arg(root.join("Cargo.toml"));
    command.current_dir(std::env::current_dir()?);
    let status = command.arg("--").args(std::env::args_os().skip(2)).status()?;
    anyhow::ensure!(status.success(), "the benchmark did not end well");
    Ok(())
}

/// Searches the model of commit and gc in all its bounds: minutes, and gigabytes of memory.
fn model(root: &Path) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--release", "--locked", "--package", "lastgood-testkit"]);
    command.args(["--example", "model", "--"]).args(std::env::args_os().skip(2));
    let status = command.current_dir(root).status()?;
    anyhow::ensure!(status.success(), "the model does not do as it should");
    Ok(())
}

/// Makes a run once more from its trace, and says whether it went the same way.
fn replay(root: &Path) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--locked", "--package", "lastgood", "--example", "replay"]);
    // Where the user is, for the files that are named.
    command.arg("--manifest-path").arg(root.join("Cargo.toml"));
    let status = command.arg("--").args(std::env::args_os().skip(2)).status()?;
    anyhow::ensure!(status.success(), "the run was not made again");
    Ok(())
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}
