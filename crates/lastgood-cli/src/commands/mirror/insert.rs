//! `lastgood mirror insert`.

use std::path::PathBuf;

use lastgood::mirror::{self, InsertOptions};
use lastgood::system;

use super::super::select::SelectArgs;
use super::{unless_incomplete, versions};
use crate::app::App;
use crate::failure::Failure;
use crate::text;

/// Flags of `mirror insert`.
#[derive(Debug, clap::Args)]
pub(super) struct InsertArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// Directory that shows the source as it was
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// When it was so: 2026-11-01 18:30:00, 2026-11-01 (the end of that day) or 3d
    #[arg(long, value_name = "TIME")]
    at: String,
    #[command(flatten)]
    select: SelectArgs,
}

impl InsertArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let now = system::world().clock.now();
        let moment = self.at.strip_prefix('@').unwrap_or(&self.at);
        let time = text::parse_moment(moment, now)
            .ok_or_else(|| Failure::usage(format!("{:?} is no time", self.at)))?;
        let outcome = app.run(mirror::start_insert(InsertOptions {
            mirror: self.mirror.clone(),
            directory: self.directory.clone(),
            time,
            select: self.select.options(),
        }))?;
        if let Some(version) = &outcome.report {
            versions::show_made(app, version, outcome.problems.errors);
        }
        unless_incomplete(outcome.problems.errors, "could not be read")
    }
}
