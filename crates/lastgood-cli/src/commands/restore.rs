//! `lastgood restore`.

use std::path::PathBuf;

use clap::ValueEnum;
use lastgood::log::{Ending, Entry};
use lastgood::restore::{self, Damaged, NotSet, Overwrite, Owners, RestoreOptions, RestoreReport};
use lastgood::{Action, Item, this_host, view};
use serde_json::{Map, Value, json};

use super::choose::ChooseArgs;
use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::text;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshot, or a path in one: `latest`, `1a2b3c4d`, `latest~1:/home/me/photos`
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,
    /// Directory to restore into; it is made when it is not there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Remove what is in the target and not in the snapshot
    #[arg(long)]
    delete: bool,
    /// What to do about files that are there
    #[arg(long, value_name = "WHEN", default_value = "always")]
    overwrite: When,
    /// Read everything again afterwards and compare
    #[arg(long)]
    verify: bool,
    /// Leave holes where files have long runs of zeros
    #[arg(long)]
    sparse: bool,
    /// Return only when everything is safe on the disk
    #[arg(long)]
    sync: bool,
    /// Restore setuid bits, capabilities and devices of other hosts' snapshots as well
    #[arg(long)]
    special: bool,
    /// Keep the full path of each source below the target
    #[arg(long)]
    full_paths: bool,
    /// Write nothing; say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    threads: usize,
    #[command(flatten)]
    choose: ChooseArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// When a file that is there gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// Where its content differs
    Always,
    /// Where its length or time differs
    IfChanged,
    /// Where the snapshot's is newer
    IfNewer,
    /// Never
    Never,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        if let Some(mirror) = app.named_mirror() {
            self.only_for_snapshots()?;
            let how = (&*self.target, self.special, self.dry_run);
            return super::mirror::restore_of_named(app, mirror, &self.snapshot, how);
        }
        let repo = app.open()?;
        let named = pick::resolve(app, &repo, &self.snapshot, &self.filter)?;
        let snapshot = named.record;
        let subpath = named.path.unwrap_or_default();
        if !app.out.style.quiet {
            let time = text::time(snapshot.snapshot.started);
            let host = text::escaped(snapshot.snapshot.host.as_bytes());
            let id = text::short(&snapshot.id);
            let target = text::escaped(path_bytes(&self.target));
            app.out.line(format!("restoring snapshot {id} of {time} from {host} to {target}"));
        }
        let id = snapshot.id;
        let base = match subpath.first() {
            None => Vec::new(),
            Some(b'/') => subpath.clone(),
            Some(_) => [&view::common_directory(&snapshot.snapshot)[..], b"/", &subpath].concat(),
        };
        let chosen = self.choose.chosen(trimmed(&base))?;
        let options = RestoreOptions {
            snapshot,
            subpath,
            target: self.target.clone(),
            choose: chosen.rule.clone(),
            delete: self.delete,
            overwrite: match self.overwrite {
                When::Always => Overwrite::Always,
                When::IfChanged => Overwrite::IfChanged,
                When::IfNewer => Overwrite::IfNewer,
                When::Never => Overwrite::Never,
            },
            verify: self.verify,
            sparse: self.sparse,
            sync: self.sync,
            special: self.special,
            owners: Owners::Auto,
            full_paths: self.full_paths,
            dry_run: self.dry_run,
            items: app.out.style.verbosity > 0 || self.dry_run,
            threads: self.threads,
            host_id: this_host::id(&app.home()?, repo.world())?,
        };
        let verbosity = app.out.style.verbosity;
        let entry =
            Entry { snapshots: vec![id], ..Entry::done("restore", repo.world().clock.now()) };
        let job = restore::start(repo.clone(), options);
        let result = app.run_with(job, |item| show_item(app, &item, verbosity));
        if !self.dry_run {
            app.log(&repo, self.entry(entry, &result))?;
        }
        let report = result?;
        self.show(app, &id.to_string(), &report);
        if chosen.includes_nothing() {
            app.out.warn(format!(
                "nothing in the snapshot matches --include; a pattern with a / in front or inside \
                 starts at {}, and `lastgood ls {}` lists the paths",
                text::escaped(&[b"/", trimmed(&base)].concat()),
                text::short(&id)
            ));
        }
        outcome(&report)
    }

    /// Refuses what a mirror cannot do, rather than leave it out.
    fn only_for_snapshots(&self) -> Result<(), Failure> {
        let flags = [
            ("--delete", self.delete),
            ("--overwrite", self.overwrite != When::Always),
            ("--verify", self.verify),
            ("--full-paths", self.full_paths),
            ("--include and --exclude", !self.choose.is_empty()),
            ("--host, --path and --tag", !self.filter.is_empty()),
        ];
        match flags.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => {
                Err(Failure::usage(format!("{flag}: for a repository, and this is a mirror")))
            }
            None => Ok(()),
        }
    }

    /// What the log says of it.
    fn entry(&self, entry: Entry, result: &Result<RestoreReport, Failure>) -> Entry {
        let report = match result {
            Ok(report) => report,
            Err(failure) => return failure.entry(entry),
        };
        let ending = match report.problems.errors {
            0 => Ending::Done,
            _ => Ending::Incomplete,
        };
        let counts = vec![
            ("created", report.counts.created),
            ("updated", report.counts.updated),
            ("deleted", report.counts.deleted),
            ("bytes-written", report.counts.bytes_written),
            ("errors", report.problems.errors),
        ];
        Entry { ending, counts, note: format!("to {}", report.target.display()), ..entry }
    }

    fn show(&self, app: &App<'_>, id: &str, report: &RestoreReport) {
        let out = app.out;
        let counts = &report.counts;
        let seconds = app.watch.elapsed().as_secs_f64();
        for (list, is_withheld) in [(&report.unset, false), (&report.withheld, true)] {
            list.iter().for_each(|not_set| show_not_set(app, not_set, is_withheld));
        }
        let mut fields = json!({
            "snapshot_id": id,
            "dry_run": self.dry_run,
            "created": counts.created,
            "updated": counts.updated,
            "unchanged": counts.unchanged,
            "skipped": counts.skipped,
            "deleted": counts.deleted,
            "failed": counts.failed,
            "bytes_written": counts.bytes_written,
            "bytes_kept": counts.bytes_kept,
            "unset": report.unset.iter().map(not_set_json).collect::<Vec<_>>(),
            "withheld": report.withheld.iter().map(not_set_json).collect::<Vec<_>>(),
            "damaged": report.damaged.iter().map(damaged_json).collect::<Vec<_>>(),
            "total_duration": seconds,
            "error_count": report.problems.errors,
            "warning_count": report.problems.warnings,
        });
        if let Value::Object(fields) = &mut fields {
            text::put_path(fields, "target", path_bytes(&report.target));
        }
        if let Some(verified) = &report.verified {
            fields["verified"] = json!({
                "equal": verified.equal,
                "different": verified.different,
                "bytes": verified.bytes,
            });
        }
        out.json("summary", fields);
        let would = if self.dry_run { "would be " } else { "" };
        out.info(format!(
            "{} {would}created, {} updated, {} unchanged, {} left as they are, {} deleted",
            text::count(counts.created, "entry"),
            counts.updated,
            counts.unchanged,
            counts.skipped,
            counts.deleted
        ));
        out.info(format!(
            "{} {would}written, {} there already, in {}",
            text::size(counts.bytes_written),
            text::size(counts.bytes_kept),
            text::duration(seconds)
        ));
        if let Some(verified) = &report.verified {
            out.info(format!(
                "verified {}, {}: {} differ",
                text::count(verified.equal + verified.different, "entry"),
                text::size(verified.bytes),
                verified.different
            ));
        }
        if report.is_index_wrong {
            out.note(
                "the index of the repository is incomplete; everything was found without it, and \
                 the next backup completes it",
            );
        }
    }
}

/// Without the slashes around it.
fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}

fn outcome(report: &RestoreReport) -> Result<(), Failure> {
    let different = report.verified.as_ref().map_or(0, |verified| verified.different);
    if !report.damaged.is_empty() {
        let count = text::count(report.damaged.len() as u64, "stretch of file");
        let count = count.replace("stretch of files", "stretches of files");
        return Err(Failure::new(
            Code::Damaged,
            format!("{count} could not be restored: what they need is damaged"),
        ));
    }
    if different > 0 {
        let message = format!("{} not as in the snapshot", text::count(different, "entry"));
        return Err(Failure::new(Code::VerifyFailed, message));
    }
    if report.problems.errors > 0 {
        let message =
            format!("{} could not be restored", text::count(report.problems.errors, "entry"));
        return Err(Failure::new(Code::Incomplete, message));
    }
    if let Some(first) = report.unset.first() {
        let kinds = match report.unset.len() {
            1 => String::new(),
            count => format!(" and {}", text::count(count as u64 - 1, "other thing")),
        };
        let message =
            format!("everything is restored but for what could not be set: {}{kinds}", first.what);
        return Err(Failure::new(Code::Incomplete, message).hint("root can set all of it"));
    }
    Ok(())
}

fn not_set_json(not_set: &NotSet) -> Value {
    let mut fields = Map::new();
    fields.insert("what".to_owned(), not_set.what.as_str().into());
    fields.insert("why".to_owned(), not_set.why.as_str().into());
    fields.insert("count".to_owned(), not_set.count.into());
    let paths = not_set.paths.iter().map(|path| path_bytes(path));
    text::put_paths(&mut fields, paths);
    fields.into()
}

fn damaged_json(damaged: &Damaged) -> Value {
    let mut fields = Map::new();
    text::put_path(&mut fields, "path", path_bytes(&damaged.path));
    fields.insert("start".to_owned(), damaged.range.start.into());
    fields.insert("end".to_owned(), damaged.range.end.into());
    fields.into()
}

/// A kind of metadata that could not be set, once, with where.
fn show_not_set(app: &App<'_>, not_set: &NotSet, is_withheld: bool) {
    let word = if is_withheld { "withheld" } else { "not set" };
    if app.out.is_json() {
        return;
    }
    let path = not_set.paths.first().map(|path| text::escaped(path_bytes(path)));
    let more = match not_set.count {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let path = path.unwrap_or_default();
    let hint = if is_withheld { " (--special restores it)" } else { "" };
    let text = format!("{word}: {}: {}: {path}{more}{hint}", not_set.what, not_set.why);
    app.out.error_line(&text);
}

fn show_item(app: &App<'_>, item: &Item, verbosity: u8) {
    let word = match item.action {
        Action::Restored | Action::New => "restored",
        Action::Updated | Action::Changed => "updated",
        Action::Deleted => "deleted",
        Action::Unchanged if verbosity > 1 => "unchanged",
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
