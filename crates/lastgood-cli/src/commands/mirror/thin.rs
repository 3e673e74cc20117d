//! `lastgood mirror drop` and `lastgood mirror rotate`.

use std::path::PathBuf;

use lastgood::forget::Policy;
use lastgood::mirror::{self, Rotated};
use serde_json::json;

use super::super::forget::KeepArgs;
use crate::app::App;
use crate::clock::LocalCalendar;
use crate::failure::Failure;
use crate::text;

/// Flags of `mirror drop`.
#[derive(Debug, clap::Args)]
pub(super) struct DropArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// Versions to remove, by their names
    #[arg(value_name = "VERSION", required = true)]
    versions: Vec<String>,
    /// Remove nothing; say what would be freed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl DropArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let dropped = mirror::drop_versions(&self.mirror, &self.versions, self.dry_run)?;
        let count = self.versions.len() as u64;
        app.out.json(
            "summary",
            json!({
                "dry_run": self.dry_run,
                "versions_removed": count,
                "files_needed": dropped.files_needed,
                "files_freed": dropped.files_freed,
                "bytes_freed": dropped.bytes_freed,
            }),
        );
        let would = if self.dry_run { "would be " } else { "" };
        app.out.info(format!(
            "{} {would}removed, {} {would}freed; {} {would}kept for older versions",
            text::count(count, "version"),
            text::size(dropped.bytes_freed),
            text::count(dropped.files_needed, "file")
        ));
        Ok(())
    }
}

/// Flags of `mirror rotate`.
#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    #[command(flatten)]
    keep: KeepArgs,
    /// Remove nothing; say what would go, and why the rest stays
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl RotateArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let mut policy = Policy::default();
        for (key, value) in self.keep.rules() {
            policy.set(key, value).map_err(|why| Failure::usage(format!("--{key}: {why}")))?;
        }
        let plan = mirror::plan_rotation(&self.mirror, &policy, &LocalCalendar::of_host())?;
        for Rotated { version, reasons } in &plan {
            app.out.json(
                "mirror_decision",
                json!({
                    "name": version.name,
                    "time": text::time_json(version.time),
                    "keep": !reasons.is_empty(),
                    "reasons": reasons,
                }),
            );
            app.out.info(match reasons.is_empty() {
                true => format!("{} goes", version.name),
                false => format!("{} stays: {}", version.name, reasons.join(", ")),
            });
        }
        let gone = plan.iter().filter(|rotated| rotated.reasons.is_empty());
        let gone: Vec<String> = gone.map(|rotated| rotated.version.name.clone()).collect();
        // In a plan each counts as if it went alone; done, each is what it then is.
        let dropped = mirror::drop_versions(&self.mirror, &gone, self.dry_run)?;
        let kept = plan.len() - gone.len();
        app.out.json(
            "summary",
            json!({
                "dry_run": self.dry_run,
                "kept_versions": kept,
                "removed_versions": gone.len(),
                "bytes_freed": dropped.bytes_freed,
            }),
        );
        let would = if self.dry_run { "would be " } else { "" };
        app.out.info(format!(
            "{} {would}removed, {kept} kept; {} {would}freed",
            text::count(gone.len() as u64, "version"),
            text::size(dropped.bytes_freed)
        ));
        Ok(())
    }
}
