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
}

impl AdoptArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let outcome = app.run(mirror::start_adopt(AdoptOptions {
            target: self.directory.clone(),
            source: self.source.clone(),
            leave: self.leave.clone(),
            clock: system::world().clock,
        }))?;
        if let Some(version) = &outcome.report {
            versions::show_made(app, version, outcome.problems.errors);
        }
        unless_incomplete(outcome.problems.errors, "could not be read")
    }
}
