//! `lastgood mirror restore`.

use std::path::{Path, PathBuf};

use lastgood::mirror::{self, RestoreOptions, RestoreReport, Version};
use serde_json::{Value, json};

use super::{resolve, unless_incomplete, unset_json, version_at};
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::text;

/// Flags of `mirror restore`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// What of the version, below the source [default: all]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Which version: latest, a name, or the one of a moment: 2026-11-01, 2026-11-01 18:30:00, 3d
    #[arg(long, value_name = "TIME", default_value = "latest")]
    at: String,
    /// Directory to write to
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Also set what gives power: setuid, setgid, file capabilities, trusted and security attributes
    #[arg(long)]
    special: bool,
    /// Write nothing; say what would be restored
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What `lastgood restore` does when a mirror is named in the place of a repository.
pub(in crate::commands) fn of_named(
    app: &App<'_>,
    mirror: &Path,
    name: &str,
    (target, special, dry_run): (&Path, bool, bool),
) -> Result<(), Failure> {
    let (at, path) = resolve(mirror, name)?;
    let (mirror, target) = (mirror.into(), target.into());
    RestoreArgs { mirror, path, at, target, special, dry_run }.run(app)
}

impl RestoreArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let version = version_at(&self.mirror, &self.at)?;
        let outcome = app.run(mirror::start_restore(RestoreOptions {
            mirror: self.mirror.clone(),
            version: version.name.clone(),
            path: self.path.clone(),
            target: self.target.clone(),
            special: self.special,
            dry_run: self.dry_run,
        }))?;
        self.show(app, &version, &outcome.report, outcome.problems.errors);
        match outcome.report.damaged.len() as u64 {
            0 => unless_incomplete(outcome.report.failed, "could not be restored"),
            count => {
                let count = text::count(count, "file");
                let message = format!("{count} could not be restored: damaged or lost");
                Err(Failure::new(Code::Damaged, message))
            }
        }
    }

    fn show(&self, app: &App<'_>, version: &Version, report: &RestoreReport, errors: u64) {
        let seconds = app.watch.elapsed().as_secs_f64();
        let mut fields = json!({
            "version": version.name,
            "dry_run": self.dry_run,
            "restored": report.restored,
            "bytes_written": report.bytes,
            "failed": report.failed,
            "damaged": report.damaged.len(),
            "unset": unset_json(&report.unset),
            "total_duration": seconds,
            "error_count": errors,
        });
        if let Value::Object(fields) = &mut fields {
            text::put_path(fields, "target", path_bytes(&self.target));
        }
        app.out.json("summary", fields);
        let would = if self.dry_run { "would be " } else { "" };
        app.out.info(format!(
            "{} of version {} {would}restored, {} in {}",
            text::count(report.restored, "entry"),
            version.name,
            text::size(report.bytes),
            text::duration(seconds)
        ));
        for (what, count) in &report.unset {
            app.out.warn(format!("not set: {what} of {}", text::count(*count, "entry")));
        }
    }
}
