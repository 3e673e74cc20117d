//! Runs one stage, for whoever counts what it takes: `stages NAME COUNT`; without arguments, the
//! names and the bytes that a run takes.
#![expect(clippy::print_stdout, reason = "a command line program")]

use anyhow::Context;
use bench::stages::{STAGES, Stage};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        STAGES.iter().for_each(|stage| println!("{}\t{}", stage.name, stage.bytes));
        return Ok(());
    };
    let stage = Stage::named(&name).with_context(|| format!("there is no stage {name:?}"))?;
    let count: usize = arguments.next().context("usage: stages NAME COUNT")?.parse()?;
    let mut run = (stage.prepare)();
    (0..count).for_each(|_| run());
    Ok(())
}
