//! `lastgood mirror approve`.

use std::path::PathBuf;

use lastgood::mirror;
use serde_json::json;

use crate::app::App;
use crate::failure::Failure;

/// Flags of `mirror approve`.
#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
}

impl ApproveArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let held = mirror::approve(&self.mirror)?;
        app.out.json(
            "summary",
            json!({
                "files": held.files,
                "files_deleted": held.deleted,
                "files_changed": held.changed,
                "other_root": held.is_other_root,
            }),
        );
        app.out.info(format!("the next run may do it: {held}"));
        Ok(())
    }
}
