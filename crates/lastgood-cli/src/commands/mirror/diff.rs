//! `lastgood mirror diff`.

use std::path::PathBuf;

use lastgood::Error;
use lastgood::diff::Change;
use lastgood::mirror;

use super::super::changes::Changes;
use super::version_at;
use crate::app::App;
use crate::failure::Failure;

/// Flags of `mirror diff`.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// The older side: latest, a name, or the version of a moment: @2026-11-01, @3d
    #[arg(value_name = "VERSION")]
    before: String,
    /// The newer side
    #[arg(value_name = "VERSION", default_value = "latest")]
    after: String,
    /// Only what is at or below this path, below the source
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Show entries of which only metadata differs as well
    #[arg(long)]
    metadata: bool,
}

impl DiffArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let before = version_at(&self.mirror, &self.before)?.name;
        let after = version_at(&self.mirror, &self.after)?.name;
        let mut changes = Changes::new(self.metadata);
        let mut show = |path: &[u8], change: Change| -> Result<(), Error> {
            changes.show(app, path, &change);
            Ok(())
        };
        mirror::diff(&self.mirror, (&before, &after), self.path.as_deref(), &mut show)?;
        app.out.json(
            "summary",
            changes.summary(&[("source_version", before), ("target_version", after)]),
        );
        changes.show_counts(app);
        Ok(())
    }
}
