//! `lastgood mirror run`.

use std::path::{Path, PathBuf};

use lastgood::mirror::{self, Outcome, RunOptions, RunReport};
use lastgood::system;
use serde_json::{Map, Value, json};

use super::super::select::SelectArgs;
use super::{unless_incomplete, unset_json};
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `mirror run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Directory to mirror
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Directory of the mirror; it is made when it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Go on where the guard asks: most files would go or change, or the source is another one
    #[arg(long)]
    approve: bool,
    /// Take what rules leave out now for deleted; else it stays as it was
    #[arg(long)]
    forget_excluded: bool,
    /// Do not read files before they go into history; rot may then go with them
    #[arg(long)]
    no_verify_outgoing: bool,
    /// Read everything that the mirror holds once in so many days, a part of it in each run, and heal
    /// what rotted; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = mirror::SCRUB_DAYS)]
    scrub_days: u32,
    /// Write nothing; say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    select: SelectArgs,
}

impl RunArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let is_first = !mirror::is_mirror(&self.to);
        let outcome = app.run(mirror::start_run(RunOptions {
            source: self.source.clone(),
            target: self.to.clone(),
            state: app.home()?.state,
            select: self.select.options(),
            is_approved: self.approve,
            forgets_excluded: self.forget_excluded,
            verifies_outgoing: !self.no_verify_outgoing,
            scrub_days: self.scrub_days,
            dry_run: self.dry_run,
            clock: system::world().clock,
        }))?;
        Ended { outcome: &outcome, target: &self.to, is_first, dry_run: self.dry_run }
            .show(app, "summary")
    }
}

/// A run that ended.
pub(in crate::commands) struct Ended<'a> {
    pub(in crate::commands) outcome: &'a Outcome<RunReport>,
    pub(in crate::commands) target: &'a Path,
    /// Whether there was no mirror before.
    pub(in crate::commands) is_first: bool,
    pub(in crate::commands) dry_run: bool,
}

impl Ended<'_> {
    /// Tells what it did, in a message of this type, and whether all is well.
    pub(in crate::commands) fn show(
        &self,
        app: &App<'_>,
        message_type: &str,
    ) -> Result<(), Failure> {
        self.tell(app, message_type);
        if self.is_first && mirror::is_on_encrypted_disk(self.target) == Some(false) {
            app.out.note(
                "the disk of the mirror is not encrypted, and neither is anything in the mirror: \
                 whoever holds it can read it",
            );
        }
        let report = &self.outcome.report;
        let lost = report.rotted.len() - report.healed.len();
        if lost + report.damaged.len() > 0 {
            let message = format!(
                "{} had rotted in the mirror, and the source has their bytes no more",
                text::count((lost + report.damaged.len()) as u64, "file")
            );
            let hint = "see lastgood mirror repair: a repository may have them";
            return Err(Failure::new(Code::Damaged, message).hint(hint));
        }
        if !report.source_rotted.is_empty() {
            let count = text::count(report.source_rotted.len() as u64, "file");
            let message = format!("{count} of the source rotted; the mirror has what was recorded");
            return Err(Failure::new(Code::Damaged, message)
                .hint("compare them with latest, and copy back what is right"));
        }
        let errors = self.outcome.problems.errors;
        unless_incomplete(errors, "could not be read, or changed meanwhile")
    }

    fn fields(&self, seconds: f64) -> Value {
        let report = &self.outcome.report;
        let paths = |paths: &[Box<[u8]>]| {
            let paths: Vec<&[u8]> = paths.iter().map(|path| &**path).collect();
            let mut fields = Map::new();
            text::put_paths(&mut fields, paths.into_iter());
            Value::from(fields)
        };
        let mut fields = json!({
            "dry_run": self.dry_run,
            "files_new": report.new,
            "files_changed": report.changed,
            "files_moved": report.moved,
            "files_deleted": report.deleted,
            "files_unmodified": report.unchanged,
            "entries_kept": report.kept,
            "total_files": report.files,
            "total_bytes": report.bytes,
            "bytes_written": report.bytes_written,
            "conflicts": paths(&report.conflicts),
            "rotted": paths(&report.rotted),
            "healed": paths(&report.healed),
            "source_rotted": paths(&report.source_rotted),
            "damaged": paths(&report.damaged),
            "bytes_checked": report.bytes_checked,
            "unset": unset_json(&report.unset),
            "total_duration": seconds,
            "error_count": self.outcome.problems.errors,
        });
        if let Some(version) = &report.version {
            fields["version"] = version.name.as_str().into();
        }
        fields
    }

    fn tell(&self, app: &App<'_>, message_type: &str) {
        let (out, report) = (app.out, &self.outcome.report);
        let seconds = app.watch.elapsed().as_secs_f64();
        out.json(message_type, self.fields(seconds));
        out.info(format!(
            "Files: {} new, {} changed, {} moved, {} deleted, {} unmodified",
            report.new, report.changed, report.moved, report.deleted, report.unchanged
        ));
        let would = if self.dry_run { "would be " } else { "" };
        out.info(format!(
            "{} of {} {would}written in {}",
            text::size(report.bytes_written),
            text::size(report.bytes),
            text::duration(seconds)
        ));
        if report.kept > 0 {
            out.warn(format!(
                "{} stay as they were: the source could not be read",
                text::count(report.kept, "entry")
            ));
        }
        for path in &report.conflicts {
            out.warn(format!(
                "{} was changed in latest; it is as in the source again, and what it was is in \
                 .lastgood/conflicts",
                text::escaped(path)
            ));
        }
        Self::show_rot(app, report);
        for (what, count) in &report.unset {
            let times = text::count(*count, "entry");
            out.note(format!("latest does not show {what} of {times}; a restore brings it back"));
        }
        match &report.version {
            Some(version) => out.info(format!("version {} made", version.name)),
            None if self.dry_run => out.info("dry run: nothing was written"),
            None => out.info("nothing changed: no version was made"),
        }
    }

    fn show_rot(app: &App<'_>, report: &RunReport) {
        let out = app.out;
        for path in &report.rotted {
            let what = match report.healed.contains(path) {
                true => "is healed",
                false => "that version of it is lost",
            };
            out.warn(format!("{} had rotted in the mirror; {what}", text::escaped(path)));
        }
        for path in &report.damaged {
            out.warn(format!("{} has rotted in the mirror", text::escaped(path)));
        }
        if report.bytes_checked > 0 {
            let size = text::size(report.bytes_checked);
            out.info(format!("{size} of the mirror were read because it was their turn"));
        }
    }
}
