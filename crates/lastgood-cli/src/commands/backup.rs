//! `lastgood backup`.

mod beside;

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::backup::{self, BackupOptions, BackupReport, Parent, Stream, StreamFrom, UNLOGGED};
use lastgood::select::{ListKind, SourceList};
use lastgood::{
    Action, Error, ErrorKind, Item, ParityShare, Repository, Settings, Timestamp, this_host,
};
use serde_json::{Map, Value, json};

use super::pick;
use super::select::SelectArgs;
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::text;

/// Flags of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and directories to back up; after --stdin-from-command the command and its arguments
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Tag of the snapshot; may be given several times, or as TAG,TAG
    #[arg(long, value_name = "TAG[,TAG]")]
    tag: Vec<String>,
    /// Name of this host, when it is not what the system says
    #[arg(short = 'H', long, value_name = "NAME", env = "LASTGOOD_HOST", hide_env = true)]
    host: Option<String>,
    /// Time of the snapshot, when it is not now: 2026-11-21 18:30:00 or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = text::parse_time)]
    time: Option<Timestamp>,
    /// Snapshot to compare with [default: the newest of the same host and paths]
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "no_parent")]
    parent: Option<String>,
    /// Compare with no snapshot
    #[arg(long)]
    no_parent: bool,
    /// Read every file, even those that look unchanged
    #[arg(short, long)]
    force: bool,
    /// Make no snapshot when nothing changed
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Write nothing; say what would be stored
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How hard to compress: auto, fastest, better, max, off, or a zstd level
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = level)]
    compression: Level,
    /// Parity in each pack: none, or data and parity shards
    #[arg(long, value_name = "D+P", default_value = "64+2")]
    parity: ParityShare,
    /// Threads [default: one for each core]
    #[arg(
        long,
        alias = "read-concurrency",
        value_name = "N",
        default_value = "0",
        hide_default_value = true
    )]
    threads: usize,
    /// Do not count the files first; progress then has no percentage
    #[arg(long)]
    no_scan: bool,
    /// Keep a trace of the run in FILE, sealed with the repository's key; the run has one thread then
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["threads", "dry_run", "stdin", "stdin_from_command"]
    )]
    record: Option<PathBuf>,
    /// Mirror the directory into DIR as well, as `lastgood mirror run` does; it is read once for both
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["record", "time", "stdin", "stdin_from_command"]
    )]
    also_mirror: Option<PathBuf>,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    lists: ListArgs,
    #[command(flatten)]
    stream: StreamArgs,
}

/// Paths from lists.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Lists of paths")]
struct ListArgs {
    /// File with a path or pattern on each line; - is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// File with a path on each line, taken as it is
    #[arg(long, value_name = "FILE")]
    files_from_verbatim: Vec<PathBuf>,
    /// File with paths that each end with a NUL
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
}

/// A stream in place of paths.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Streams")]
struct StreamArgs {
    /// Back up standard input as one file
    #[arg(long, conflicts_with = "stdin_from_command")]
    stdin: bool,
    /// Path of that file in the snapshot
    #[arg(long, value_name = "PATH", default_value = "stdin")]
    stdin_filename: PathBuf,
    /// Back up what a command prints, unless it fails: --stdin-from-command -- COMMAND ARG…
    #[arg(long)]
    stdin_from_command: bool,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let (sources, stream) = self.sources(app)?;
        // A slip in the first command ever makes no repository.
        sources.iter().try_for_each(|path| there(path))?;
        match &self.also_mirror {
            None => self.back_up(app, self.prepare(app, sources, stream)?),
            Some(target) => beside::run(&self, app, target, sources),
        }
    }

    /// Opens the repository, and says what to do.
    fn prepare(
        &self,
        app: &App<'_>,
        sources: Vec<PathBuf>,
        stream: Option<Stream>,
    ) -> Result<Prepared, Failure> {
        let (repo, repo_path) = app.open_for_backup(self.dry_run)?;
        let parent = match &self.parent {
            Some(name) => Parent::Id(pick::one(app, &repo, name)?.id),
            None if self.no_parent => Parent::None,
            None => Parent::Auto,
        };
        let home = app.home()?;
        let mut select = self.select.options();
        this_host::add_rules(&mut select, &home, &repo_path);
        let options = BackupOptions {
            stream,
            select,
            parent,
            host: self.host.clone().unwrap_or_else(this_host::name),
            host_id: this_host::id(&home, repo.world())?,
            user: this_host::user(),
            tags: pick::tags(&self.tag),
            time: self.time,
            settings: Settings {
                level: self.compression.0,
                parity: self.parity,
                ..Settings::default()
            },
            threads: self.threads,
            force: self.force,
            dry_run: self.dry_run,
            skip_if_unchanged: self.skip_if_unchanged,
            estimate: !self.no_scan && !app.out.style.quiet,
            items: app.out.style.verbosity > 0,
            ..BackupOptions::new(sources, home.state.clone())
        };
        Ok(Prepared { repo, repo_path, options })
    }

    fn back_up(&self, app: &App<'_>, prepared: Prepared) -> Result<(), Failure> {
        let Prepared { repo, repo_path, mut options } = prepared;
        let named = options.sources.clone();
        let verbosity = app.out.style.verbosity;
        let repo = match &self.record {
            Some(file) => app.open_traced(&repo, &repo_path, file, &mut options)?,
            None => repo,
        };
        let location = repo.location().to_owned();
        let job = backup::start(repo, options);
        let report = match app.run_with(job, |item| show_item(app, &item, verbosity)) {
            // The command to back up from failed, not the command line.
            Err(failure) if self.stream.stdin_from_command && failure.code == Code::Usage => {
                return Err(failure.with_code(Code::Failed));
            }
            result => result.map_err(|failure| full(app, &location, failure))?,
        };
        self.end(app, &report, &named, &repo_path)
    }

    /// Shows what was done, and says whether all is well.
    fn end(
        &self,
        app: &App<'_>,
        report: &BackupReport,
        named: &[PathBuf],
        repo_path: &Path,
    ) -> Result<(), Failure> {
        self.show(app, report);
        if !self.dry_run {
            warn_of_same_disk(app, named, repo_path);
        }
        match report.problems.errors {
            0 => Ok(()),
            count => Err(Failure::new(
                Code::Incomplete,
                match &report.snapshot {
                    Some(record) => format!(
                        "snapshot {} is incomplete: {} could not be read, or changed meanwhile",
                        text::short(&record.id),
                        text::count(count, "entry")
                    ),
                    None => format!(
                        "{} could not be read, or changed meanwhile",
                        text::count(count, "entry")
                    ),
                },
            )),
        }
    }

    /// What to back up: paths, or a stream.
    fn sources(&self, app: &App<'_>) -> Result<(Vec<PathBuf>, Option<Stream>), Failure> {
        let is_stdin = |list: &PathBuf| list == Path::new("-");
        let has_lists = !self.lists.all().is_empty();
        let stdin_lists = self.lists.all().iter().filter(|(_, list)| is_stdin(list)).count();
        if self.stream.is_any() && (has_lists || (self.stream.stdin && !self.paths.is_empty())) {
            return Err(Failure::usage("a stream is backed up instead of paths, not beside them"));
        }
        if stdin_lists > 1 {
            return Err(Failure::usage("only one list can come from standard input"));
        }
        if self.stream.is_any() {
            return Ok((Vec::new(), Some(self.stream.open(&self.paths)?)));
        }
        let mut sources = self.paths.clone();
        for (kind, file) in self.lists.all() {
            let list = if is_stdin(file) {
                let mut content = Vec::new();
                std::io::stdin().lock().read_to_end(&mut content).map_err(|error| {
                    Failure::io(Code::Failed, "cannot read the list from standard input", &error)
                })?;
                SourceList::parse(kind, file, &content)
            } else {
                SourceList::read(kind, file)
            };
            let list = list.map_err(|error| Failure::caused(Code::Usage, &error))?;
            list.problems.iter().for_each(|problem| app.out.warn(problem.to_string()));
            sources.extend(list.sources);
        }
        if sources.is_empty() {
            let message = if has_lists { "the lists name no path" } else { "no path was given" };
            return Err(
                Failure::usage(message).hint("name what to back up: lastgood backup ~/Documents")
            );
        }
        Ok((sources, None))
    }

    fn show(&self, app: &App<'_>, report: &BackupReport) {
        let out = app.out;
        let totals = &report.totals;
        let unmodified =
            totals.files.saturating_sub(totals.files_new).saturating_sub(totals.files_changed);
        let seconds = app.watch.elapsed().as_secs_f64();
        out.json("summary", self.summary(report, unmodified, seconds));
        out.info(format!(
            "Files:       {:>8} new, {:>8} changed, {:>8} unmodified",
            totals.files_new, totals.files_changed, unmodified
        ));
        out.info(format!(
            "Directories: {:>8}, other entries: {}, left out by rules: {}",
            totals.directories, totals.others, report.excluded
        ));
        let would = if self.dry_run { "Would add" } else { "Added" };
        out.info(format!(
            "{would} to the repository: {} ({} stored)",
            text::size(totals.bytes_added),
            text::size(totals.bytes_stored)
        ));
        if report.bytes_known > 0 {
            out.info(format!(
                "Found in the repository already: {} of the files that were read",
                text::size(report.bytes_known)
            ));
        }
        if report.recovered_packs > 0 {
            out.info(format!(
                "Reused from interrupted runs: {}",
                text::count(report.recovered_packs as u64, "pack")
            ));
        }
        if let Some(why) = &report.unlogged {
            out.note(format!("{UNLOGGED}: {why}"));
        }
        out.info("");
        out.info(format!(
            "processed {}, {} in {}",
            text::count(totals.files, "file"),
            text::size(totals.bytes),
            text::duration(seconds)
        ));
        match &report.snapshot {
            Some(record) => out.info(format!("snapshot {} saved", text::short(&record.id))),
            None if self.dry_run => out.info("dry run: nothing was stored"),
            None => out.info("nothing changed: no snapshot was made"),
        }
    }

    fn summary(&self, report: &BackupReport, unmodified: u64, seconds: f64) -> Value {
        let totals = &report.totals;
        let mut fields = json!({
            "dry_run": self.dry_run,
            "files_new": totals.files_new,
            "files_changed": totals.files_changed,
            "files_unmodified": unmodified,
            "directories": totals.directories,
            "other_entries": totals.others,
            "entries_excluded": report.excluded,
            "files_vanished": report.vanished,
            "data_added": totals.bytes_added,
            "data_added_packed": totals.bytes_stored,
            "data_known": report.bytes_known,
            "packs_recovered": report.recovered_packs,
            "total_files_processed": totals.files,
            "total_bytes_processed": totals.bytes,
            "total_duration": seconds,
            "backup_start": text::time_json(report.started),
            "backup_end": text::time_json(report.finished),
            "unchanged": report.is_unchanged,
            "error_count": report.problems.errors,
            "warning_count": report.problems.warnings,
        });
        if let Some(record) = &report.snapshot {
            fields["snapshot_id"] = record.id.to_string().into();
        }
        if let Some(why) = &report.unlogged {
            fields["unlogged"] = why.as_str().into();
        }
        if let Some(parent) = &report.parent {
            fields["parent"] = parent.to_string().into();
        }
        fields
    }
}

/// What is needed to back up.
struct Prepared {
    repo: Arc<Repository>,
    repo_path: PathBuf,
    options: BackupOptions,
}

/// Says what helps where the disk of the repository is full: not that of the home, which no snapshot
/// takes space of.
fn full(app: &App<'_>, location: &str, failure: Failure) -> Failure {
    if !failure.is_full(location) {
        return failure;
    }
    let forget = app.hints().command("forget --keep-last 3 --gc");
    failure.hint(format!(
        "free some space there, or forget old snapshots: {forget}; then run the command again: what \
         was stored is kept and reused"
    ))
}

/// Refuses a path that leads to nothing.
fn there(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("cannot back up {}", path.display());
            Err(Error::caused_by(ErrorKind::NotFound, message, error).into())
        }
        _ => Ok(()),
    }
}

impl ListArgs {
    fn all(&self) -> Vec<(ListKind, &PathBuf)> {
        let lists = [
            (ListKind::Patterns, &self.files_from),
            (ListKind::Verbatim, &self.files_from_verbatim),
            (ListKind::Raw, &self.files_from_raw),
        ];
        lists.iter().flat_map(|(kind, files)| files.iter().map(|file| (*kind, file))).collect()
    }
}

impl StreamArgs {
    const fn is_any(&self) -> bool {
        self.stdin || self.stdin_from_command
    }

    fn open(&self, command: &[PathBuf]) -> Result<Stream, Failure> {
        let from = if self.stdin {
            StreamFrom::Reader(Box::new(std::io::stdin()))
        } else if command.is_empty() {
            return Err(Failure::usage("no command was given")
                .hint("write it behind two dashes: --stdin-from-command -- COMMAND ARG…"));
        } else {
            StreamFrom::Command(command.iter().cloned().map(OsString::from).collect())
        };
        Ok(Stream { path: self.stdin_filename.clone(), from })
    }
}

/// Names each path with `-v`; those that did not change with `-vv`.
fn show_item(app: &App<'_>, item: &Item, verbosity: u8) {
    let word = match item.action {
        Action::New => "new",
        Action::Changed => "modified",
        Action::Unchanged if verbosity > 1 => "unchanged",
        Action::Excluded if verbosity > 1 => "excluded",
        _ => return,
    };
    let path = path_bytes(&item.path);
    if app.out.is_json() {
        let mut fields = Map::new();
        fields.insert("action".to_owned(), word.into());
        text::put_path(&mut fields, "item", path);
        fields.insert("size".to_owned(), item.bytes.into());
        app.out.json("verbose_status", fields.into());
    } else {
        let head = format!("{word:<10}");
        app.out.bytes_line(&[head.as_bytes(), &app.out.path(path)]);
    }
}

/// A copy on the disk of its original goes when the original goes.
fn warn_of_same_disk(app: &App<'_>, sources: &[PathBuf], repo_path: &Path) {
    let shares =
        |source: &&PathBuf| this_host::same_file_system(source, repo_path).unwrap_or(false);
    if let Some(source) = sources.iter().find(shares) {
        app.out.warn(format!(
            "this copy of {} is on the same file system as the original: when the disk fails, both \
             are lost; keep one on another disk with -r PATH",
            text::escaped(source.as_os_str().as_bytes())
        ));
    }
}

/// zstd level; `None` does not compress.
#[derive(Debug, Clone, Copy)]
struct Level(Option<i32>);

fn level(text: &str) -> Result<Level, String> {
    match text {
        "auto" => Ok(Level(Settings::default().level)),
        "fastest" => Ok(Level(Some(1))),
        "better" => Ok(Level(Some(6))),
        "max" => Ok(Level(Some(19))),
        "off" => Ok(Level(None)),
        number => match number.parse() {
            Ok(level) if (-7..=22).contains(&level) => Ok(Level(Some(level))),
            _ => Err("write auto, fastest, better, max, off or a level from -7 to 22".to_owned()),
        },
    }
}
