//! `lastgood repair`: a plan first, then what it says.

use std::sync::Arc;

use lastgood::log::{Ending, Entry};
use lastgood::repair::{
    self, Affected, Origin, RepairOptions, RepairReport, ReplaceOptions, Replaced,
};
use lastgood::{Repository, mirror, opening, system, this_host};
use serde_json::{Map, Value, json};

use super::from::FromArgs;
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `repair`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Store nothing; say what would be
    #[arg(short = 'n', long, conflicts_with = "yes")]
    dry_run: bool,
    /// Store it without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    from: FromArgs,
    /// Do not look for what is lost in the files of this host
    #[arg(long)]
    no_files: bool,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    threads: usize,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Commit snapshots without what is lost, in the place of those that lost something
    Snapshots(SnapshotArgs),
}

/// Flags of `repair snapshots`.
#[derive(Debug, clap::Args)]
struct SnapshotArgs {
    /// Commit nothing; say what would be left out
    #[arg(short = 'n', long, conflicts_with = "yes")]
    dry_run: bool,
    /// Commit them without asking
    #[arg(short, long)]
    yes: bool,
    /// Forget the snapshots that are replaced
    #[arg(long)]
    forget: bool,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    threads: usize,
}

impl Args {
    pub(crate) fn run(mut self, app: &App<'_>) -> Result<(), Failure> {
        if let Some(What::Snapshots(args)) = self.what.take() {
            return args.run(app);
        }
        let repo = app.open()?;
        let mut plan = app.run(repair::start(repo.clone(), self.options(app, &repo, true)?))?;
        show(app, &plan, true);
        let is_wanted = plan.has_work() && !self.dry_run && (self.yes || app.confirm("do it?")?);
        let report = if is_wanted {
            let entry = Entry::done("repair", repo.world().clock.now());
            let whole = std::mem::take(&mut plan.objects.whole);
            let options = RepairOptions { whole, ..self.options(app, &repo, false)? };
            let result = app.run(repair::start(repo.clone(), options));
            app.log(&repo, entry_of(entry, &result))?;
            let mut report = result?;
            show(app, &report, false);
            // Everything was read for the plan, and only what is damaged once more.
            report.objects.objects_read = plan.objects.objects_read;
            report.objects.bytes_read = plan.objects.bytes_read;
            report
        } else {
            plan
        };
        app.out.json("summary", summary(&report, !is_wanted));
        let objects = &report.objects;
        app.out.info(format!(
            "read {}, {}",
            text::count(objects.objects_read, "object"),
            text::size(objects.bytes_read),
        ));
        if report.has_losses() {
            return Err(Failure::new(Code::Damaged, losses(&report)).hint(
                "name another repository that may have it with --from; or run: lastgood repair \
                 snapshots",
            ));
        }
        if report.has_work() && !is_wanted && !self.dry_run {
            let message = "nothing was stored yet: the repository is damaged as before";
            return Err(Failure::new(Code::Damaged, message).hint("run it again with --yes"));
        }
        if !report.has_work() {
            app.out.info("nothing to repair");
        }
        Ok(())
    }

    fn options(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
        dry_run: bool,
    ) -> Result<RepairOptions, Failure> {
        let home = app.home()?;
        let (mut copies, mut others, mut mirrors) = (Vec::new(), Vec::new(), Vec::new());
        for path in &self.from.repositories {
            if mirror::is_mirror(path) {
                mirrors.push(path.clone());
                continue;
            }
            let copy = opening::open_copy(repo, path).map_err(|error| {
                Failure::from(error).hint(format!("is {} right?", path.display()))
            });
            if let Some(copy) = copy? {
                copies.push(copy);
            } else {
                let key = self.from.key(app, path)?;
                others.push(opening::open(path, &home, system::world(), &key)?);
            }
        }
        let host_id = match self.no_files {
            true => None,
            false => Some(this_host::id(&home, repo.world())?),
        };
        Ok(RepairOptions {
            threads: self.threads,
            dry_run,
            copies,
            others,
            mirrors,
            host_id,
            ..RepairOptions::new(home.state)
        })
    }
}

/// What is going to be done, or was.
fn show(app: &App<'_>, report: &RepairReport, is_plan: bool) {
    let word = |plan: &'static str, done: &'static str| if is_plan { plan } else { done };
    let objects = &report.objects;
    for object in &objects.repaired {
        let from = match objects.from_copies.get(object) {
            Some(copy) => format!("from {copy}"),
            None if CONFIG_COPIES.contains(&object.as_str()) => {
                "from its parity or its other copy".to_owned()
            }
            None => "from its parity".to_owned(),
        };
        app.out.line(format!("{} {object} {from}", word("to mend:", "mended:")));
    }
    if objects.indexed > 0 {
        let packs = text::count(objects.indexed, "pack");
        app.out.line(format!("{} {packs}", word("to index again:", "indexed again:")));
    }
    for segment in &objects.unindexed {
        let why = "unreadable, and packs tell all it told";
        app.out.line(format!("{} {segment}, {why}", word("to remove:", "removed:")));
    }
    for (origin, count) in &report.recovered {
        let blobs = text::count(*count, "blob");
        let from = origin_text(origin);
        app.out.line(format!("{} {blobs} from {from}", word("to recover:", "recovered:")));
    }
    if !is_plan || !report.has_work() {
        objects.lost.iter().for_each(|lost| app.out.line(format!("lost: {lost}")));
    }
    for affected in &report.lost.affected {
        app.out.line(format!("lost for good: {}", place(affected)));
    }
}

/// What is stored under two names.
const CONFIG_COPIES: [&str; 2] = ["config", "revisions/0000000000000001"];

fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::Here => "what is left of packs here".to_owned(),
        Origin::Repository(location) => location.clone(),
        Origin::Mirror(location) => format!("the mirror in {location}"),
        Origin::Files => "files of this host".to_owned(),
    }
}

/// A snapshot and what is lost of it.
fn place(affected: &Affected) -> String {
    let snapshot = text::short(&affected.snapshot);
    let path = text::escaped(&affected.path);
    match affected.what() {
        Some(what) if path.is_empty() => format!("snapshot {snapshot}: {what}"),
        Some(what) => format!("snapshot {snapshot}: /{path}: {what}"),
        None => format!("snapshot {snapshot}: /{path}"),
    }
}

fn losses(report: &RepairReport) -> String {
    let objects = text::count(report.objects.lost.len() as u64, "object");
    match report.lost.affected.len() as u64 {
        0 => format!("{objects} cannot be mended; no path of a snapshot is affected"),
        paths => format!("{} cannot be restored whole", text::count(paths, "path")),
    }
}

fn summary(report: &RepairReport, dry_run: bool) -> Value {
    let recovered = report
        .recovered
        .iter()
        .map(|(origin, count)| json!({ "from": origin_text(origin), "blobs": count }));
    json!({
        "dry_run": dry_run,
        "objects_read": report.objects.objects_read,
        "bytes_read": report.objects.bytes_read,
        "repaired": report.objects.repaired,
        "from_copies": report.objects.from_copies,
        "packs_indexed": report.objects.indexed,
        "segments_removed": report.objects.unindexed,
        "recovered": recovered.collect::<Vec<_>>(),
        "affected": affected_json(&report.lost.affected),
        "error_count": report.objects.lost.len(),
    })
}

fn affected_json(affected: &[Affected]) -> Vec<Value> {
    let fields = |affected: &Affected| {
        let mut fields = Map::new();
        fields.insert("snapshot_id".to_owned(), affected.snapshot.to_string().into());
        text::put_path(&mut fields, "path", &[b"/", &affected.path[..]].concat());
        if let Some(what) = affected.what() {
            fields.insert("what".to_owned(), what.into());
        }
        Value::from(fields)
    };
    affected.iter().map(fields).collect()
}

/// What the log says of it.
fn entry_of(entry: Entry, result: &Result<RepairReport, Failure>) -> Entry {
    let report = match result {
        Ok(report) => report,
        Err(failure) => return failure.entry(entry),
    };
    let ending = if report.has_losses() { Ending::Incomplete } else { Ending::Done };
    let counts = vec![
        ("repaired", report.objects.repaired.len() as u64),
        ("from-copies", report.objects.from_copies.len() as u64),
        ("recovered", report.recovered.iter().map(|(_, count)| count).sum()),
        ("indexed", report.objects.indexed),
        ("lost", report.objects.lost.len() as u64),
        ("affected", report.lost.affected.len() as u64),
    ];
    Entry { ending, counts, ..entry }
}

impl SnapshotArgs {
    fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let options = |dry_run| -> Result<ReplaceOptions, Failure> {
            let program = concat!("lastgood ", env!("CARGO_PKG_VERSION")).to_owned();
            let (state, forget) = (app.home()?.state, self.forget);
            Ok(ReplaceOptions { state, threads: self.threads, dry_run, forget, program })
        };
        let plan = app.run(repair::replace_snapshots(repo.clone(), options(true)?))?;
        for Replaced { lost, .. } in &plan {
            lost.iter().for_each(|lost| app.out.line(format!("lost for good: {}", place(lost))));
        }
        let is_wanted =
            !plan.is_empty() && !self.dry_run && (self.yes || app.confirm("replace them?")?);
        let replaced = if is_wanted {
            let entry = Entry::done("repair-snapshots", repo.world().clock.now());
            let result = app.run(repair::replace_snapshots(repo.clone(), options(false)?));
            app.log(&repo, replaced_entry(entry, &result))?;
            result?
        } else {
            plan
        };
        self.show(app, &replaced, is_wanted);
        if is_wanted || replaced.is_empty() || self.dry_run {
            return Ok(());
        }
        let message = "nothing was committed yet: snapshots have lost something";
        Err(Failure::new(Code::Damaged, message).hint("run it again with --yes"))
    }

    fn show(&self, app: &App<'_>, replaced: &[Replaced], is_done: bool) {
        for Replaced { old, new, is_pinned, .. } in replaced.iter().filter(|_| is_done) {
            let old = text::short(old);
            app.out.line(match new {
                Some(new) => format!("snapshot {} stands in for {old}", text::short(&new.id)),
                None => format!("nothing is left of snapshot {old}"),
            });
            if self.forget && *is_pinned {
                app.out.note(format!("snapshot {old} is pinned and stays"));
            }
        }
        if replaced.is_empty() {
            app.out.info("no snapshot has lost anything");
        } else if is_done && !self.forget {
            app.out.note("the damaged snapshots are kept as they are; forget them when you like");
        }
        let list = replaced.iter().map(|Replaced { old, new, lost, .. }| {
            let mut fields = json!({ "snapshot_id": old.to_string(), "lost": affected_json(lost) });
            if let Some(new) = new {
                fields["replaced_by"] = new.id.to_string().into();
            }
            fields
        });
        let list: Vec<Value> = list.collect();
        app.out.json("summary", json!({ "dry_run": !is_done, "snapshots": list }));
    }
}

fn replaced_entry(entry: Entry, result: &Result<Vec<Replaced>, Failure>) -> Entry {
    let replaced = match result {
        Ok(replaced) => replaced,
        Err(failure) => return failure.entry(entry),
    };
    let snapshots = replaced
        .iter()
        .flat_map(|it| it.new.iter().map(|new| new.id).chain(std::iter::once(it.old)));
    let lost = replaced.iter().map(|it| it.lost.len() as u64).sum();
    Entry { snapshots: snapshots.collect(), counts: vec![("affected", lost)], ..entry }
}
