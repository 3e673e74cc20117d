//! `lastgood mirror`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use lastgood::forget::Policy;
use lastgood::mirror::{
    self, FileVersion, RestoreOptions, RestoreReport, Rotated, RunOptions, RunReport, VerifyReport,
    Version,
};
use lastgood::{Node, system};
use serde_json::{Map, Value, json};

use super::forget::KeepArgs;
use super::select::SelectArgs;
use crate::app::App;
use crate::clock::LocalCalendar;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::table::{Align, Table};
use crate::text;

/// Flags of `mirror`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the mirror what the source is, and keep what it was; the first run makes the mirror
    Run(Box<RunArgs>),
    /// List the versions of a mirror, or of one path in it
    Versions(VersionsArgs),
    /// Bring a version back, or one path of it
    Restore(RestoreArgs),
    /// Remove versions from the history; the others stay what they are
    Drop(DropArgs),
    /// Remove the versions that no rule keeps
    Rotate(Box<RotateArgs>),
    /// Read all files of all versions and compare them with what was recorded
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
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
    /// Write nothing; say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    select: SelectArgs,
}

#[derive(Debug, clap::Args)]
struct VersionsArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// A path below the source: list what it was, and since when
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
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

#[derive(Debug, clap::Args)]
struct DropArgs {
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

#[derive(Debug, clap::Args)]
struct RotateArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    #[command(flatten)]
    keep: KeepArgs,
    /// Remove nothing; say what would go, and why the rest stays
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Run(args) => args.run(app),
            Verb::Versions(args) => args.run(app),
            Verb::Restore(args) => args.run(app),
            Verb::Drop(args) => args.run(app),
            Verb::Rotate(args) => args.run(app),
            Verb::Verify(args) => args.run(app),
        }
    }
}

impl RunArgs {
    fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let outcome = app.run(mirror::start_run(RunOptions {
            source: self.source.clone(),
            target: self.to.clone(),
            select: self.select.options(),
            is_approved: self.approve,
            forgets_excluded: self.forget_excluded,
            verifies_outgoing: !self.no_verify_outgoing,
            dry_run: self.dry_run,
            clock: system::world().clock,
        }))?;
        self.show(app, &outcome.report, outcome.problems.errors);
        let report = &outcome.report;
        if !report.rotted.is_empty() {
            let message = format!(
                "{} had rotted in the mirror; what is left of them is in .lastgood/damaged",
                text::count(report.rotted.len() as u64, "file")
            );
            return Err(Failure::new(Code::Damaged, message));
        }
        unless_incomplete(outcome.problems.errors, "could not be read, or changed meanwhile")
    }

    fn show(&self, app: &App<'_>, report: &RunReport, errors: u64) {
        let out = app.out;
        let seconds = app.watch.elapsed().as_secs_f64();
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
            "unset": unset_json(&report.unset),
            "total_duration": seconds,
            "error_count": errors,
        });
        if let Some(version) = &report.version {
            fields["version"] = version.name.as_str().into();
        }
        out.json("summary", fields);
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
}

impl VersionsArgs {
    fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        match &self.path {
            Some(path) => show_states(app, &mirror::versions_of(&self.mirror, path)?),
            None => show_versions(app, &mirror::versions(&self.mirror)?),
        }
        Ok(())
    }
}

fn show_versions(app: &App<'_>, versions: &[Version]) {
    let mut table = Table::new(&[
        ("Version", Align::Left),
        ("Time", Align::Left),
        ("Files", Align::Right),
        ("Size", Align::Right),
    ]);
    for version in versions {
        app.out.json("mirror_version", version_json(version));
        let mark = if version.kept > 0 { "!" } else { "" };
        table.row(vec![
            format!("{}{mark}", version.name),
            text::time(version.time),
            version.files.to_string(),
            text::size(version.bytes),
        ]);
    }
    app.out.lines(table.lines());
    app.out.json("summary", json!({ "versions_count": versions.len() }));
}

fn version_json(version: &Version) -> Value {
    json!({
        "name": version.name,
        "time": text::time_json(version.time),
        "files": version.files,
        "bytes": version.bytes,
        "entries_kept": version.kept,
    })
}

fn show_states(app: &App<'_>, states: &[FileVersion]) {
    let mut table = Table::new(&[
        ("Since version", Align::Left),
        ("What", Align::Left),
        ("Size", Align::Right),
        ("Modified", Align::Left),
    ]);
    for FileVersion { version, entry } in states {
        let mut fields = json!({
            "version": version.name,
            "time": text::time_json(version.time),
            "type": entry.as_ref().map_or("absent", kind),
        });
        let mut cells = vec![version.name.clone()];
        cells.push(entry.as_ref().map_or("absent", kind).to_owned());
        if let Some(entry) = entry {
            let size = match entry.node {
                Node::File { size, .. } => Some(size),
                _ => None,
            };
            fields["mtime"] = text::time_json(entry.mtime).into();
            if let Some(size) = size {
                fields["size"] = size.into();
            }
            cells.push(size.map(text::size).unwrap_or_default());
            cells.push(text::time(entry.mtime));
        } else {
            cells.extend([String::new(), String::new()]);
        }
        app.out.json("mirror_state", fields);
        table.row(cells);
    }
    app.out.lines(table.lines());
    app.out.json("summary", json!({ "states_count": states.len() }));
}

const fn kind(entry: &lastgood::Entry) -> &'static str {
    match entry.node {
        Node::File { .. } => "file",
        Node::Directory { .. } => "dir",
        Node::Symlink { .. } => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharDevice { .. } => "chardev",
        Node::BlockDevice { .. } => "dev",
    }
}

impl RestoreArgs {
    fn run(&self, app: &App<'_>) -> Result<(), Failure> {
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

/// The version that a user means.
fn version_at(mirror: &Path, at: &str) -> Result<Version, Failure> {
    let versions = mirror::versions(mirror)?;
    let none = || Failure::new(Code::Failed, format!("the mirror has no version at {at:?}"));
    if at == "latest" {
        return versions.last().cloned().ok_or_else(none);
    }
    if let Some(version) = versions.iter().find(|version| version.name == at) {
        return Ok(version.clone());
    }
    let now = system::world().clock.now();
    let moment = text::parse_moment(at.strip_prefix('@').unwrap_or(at), now).ok_or_else(|| {
        Failure::usage(format!("{at:?} is neither a version nor a time"))
            .hint("write latest, a name that `lastgood mirror versions` lists, 2026-11-01 or 3d")
    })?;
    let found = versions.iter().rfind(|version| version.time <= moment);
    found
        .cloned()
        .ok_or_else(|| none().hint("the mirror begins later: see `lastgood mirror versions`"))
}

impl DropArgs {
    fn run(&self, app: &App<'_>) -> Result<(), Failure> {
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

impl RotateArgs {
    fn run(&self, app: &App<'_>) -> Result<(), Failure> {
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

impl VerifyArgs {
    fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let outcome = app.run(mirror::start_verify(self.mirror.clone()))?;
        let report = outcome.report;
        show_verified(app, &report, outcome.problems.errors);
        let bad = report.damaged.len() + report.broken.len();
        if bad > 0 {
            let message = format!(
                "{} of the mirror damaged: {} of {} not what they should be",
                if report.broken.is_empty() { "files" } else { "files or texts" },
                bad,
                text::count(report.whole + bad as u64, "file")
            );
            return Err(Failure::new(Code::Damaged, message));
        }
        Ok(())
    }
}

fn show_verified(app: &App<'_>, report: &VerifyReport, errors: u64) {
    for path in &report.damaged {
        app.out.line(format!("damaged: {}", text::escaped(path)));
        let mut fields = Map::new();
        text::put_path(&mut fields, "path", path);
        app.out.json("mirror_damage", fields.into());
    }
    for (version, path) in &report.lost {
        app.out.note(format!("known to be lost: {} of {version}", text::escaped(path)));
    }
    for version in &report.broken {
        app.out.line(format!("the seal before {version} is missing from the chain"));
    }
    app.out.json(
        "summary",
        json!({
            "versions_count": report.versions,
            "files_whole": report.whole,
            "bytes_read": report.bytes,
            "files_damaged": report.damaged.len(),
            "files_lost": report.lost.len(),
            "broken": report.broken,
            "error_count": errors,
        }),
    );
    app.out.info(format!(
        "{}, {}: {} damaged",
        text::count(report.versions, "version"),
        text::size(report.bytes),
        text::count(report.damaged.len() as u64, "file")
    ));
}

fn unless_incomplete(count: u64, what: &str) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        count => {
            let message = format!("{} {what}", text::count(count, "entry"));
            Err(Failure::new(Code::Incomplete, message))
        }
    }
}

fn unset_json(unset: &[(String, u64)]) -> Value {
    unset.iter().map(|(what, count)| json!({ "what": what, "count": count })).collect()
}
