//! `lastgood mirror adopt`.

use std::path::PathBuf;

use lastgood::mirror::{self, AdoptOptions};
use lastgood::system;

use super::{unless_incomplete, versions};
use crate::app::App;
use crate::failure::Failure;

/// Flags of `mirror adopt`.
#[derive(Debug, clap::Args)]
pub(super) struct AdoptArgs {
    /// Directory that holds a plain copy, and becomes a mirror
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What it is a copy of
    #[arg(long, value_name = "SOURCE")]
    source: PathBuf,
    /// A name in the directory that is no part of the copy, and stays where it is
    #[arg(long, value_name = "NAME")]
    leave: Vec<PathBuf>,
    /// Give up older states that only rdiff-backup can read
    #[arg(long)]
    without_history: bool,
}

impl AdoptArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let adopted = app.run(mirror::start_adopt(AdoptOptions {
            target: self.directory.clone(),
            source: self.source.clone(),
            leave: self.leave.clone(),
            without_history: self.without_history,
            clock: system::world().clock,
        }));
        let is_history_kept =
            !self.without_history && !mirror::states_of_rdiff(&self.directory).is_empty();
        let outcome = adopted.map_err(|failure| match is_history_kept {
            true => failure.hint(
                "restore what is wanted of them with rdiff-backup, adopt with --without-history, and \
                 bring them in with lastgood mirror insert --at TIME",
            ),
            false => failure,
        })?;
        if let Some(version) = &outcome.report {
            versions::show_made(app, version, outcome.problems.errors);
        }
        unless_incomplete(outcome.problems.errors, "could not be read")
    }
}
