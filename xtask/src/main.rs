//! Automation of the project: `cargo xtask tidy` keeps the house rules, `cargo xtask ci` runs
//! exactly what continuous integration runs.

#![expect(clippy::print_stdout, reason = "a command that reports to people")]

use std::path::{Path, PathBuf};

mod ci;
mod tidy;

fn main() -> anyhow::Result<()> {
    let root = root();
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::run(&root),
        Some("ci") => ci::run(&root),
        _ => anyhow::bail!(
            "usage: cargo xtask tidy | ci\n\n\
             tidy  the crate graph, spec cites, fixtures, machine paths; prints what is longest\n\
             ci    formatting, lints, tests, tidy, and the independent decoder"
        ),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}
