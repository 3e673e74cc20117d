//! `lastgood forget`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood::forget::{self, Candidates, Decision, ForgetPlan, ForgetReport, Policy};
use lastgood::log::Entry;
use lastgood::{Repository, SnapshotRecord, snapshots};
use serde_json::json;

use super::{gc, pick, snapshots as snapshots_command};
use crate::app::App;
use crate::args::FilterArgs;
use crate::clock::LocalCalendar;
use crate::failure::{Code, Failure};
use crate::table::{Align, Table};
use crate::text;

/// Flags of `forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots to forget; without any, the rules decide
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    #[command(flatten)]
    rules: RuleArgs,
    /// Forget nothing; say what would be, and why
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Run gc afterwards
    #[arg(long, visible_alias = "prune")]
    gc: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What is kept.
#[derive(Debug, clap::Args)]
struct RuleArgs {
    /// Read rules from a file, with lines such as `keep-daily = 7`; flags beat it
    #[arg(long, value_name = "FILE")]
    policy_file: Option<PathBuf>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Keep those with all these tags; may be given several times
    #[arg(long, value_name = "TAG[,TAG]")]
    keep_tag: Vec<String>,
    /// Keep those whose id starts so; may be given several times
    #[arg(long, value_name = "ID")]
    keep_id: Vec<String>,
    /// For which snapshots the rules hold together: host, paths, tags, or '' for all
    /// [default: host,paths]
    #[arg(short, long, value_name = "BY")]
    group_by: Option<String>,
    /// Forget nothing that is younger than this, by the clock of either the host or the store
    #[arg(long, value_name = "SPAN")]
    protect: Option<String>,
    /// Forget also what the next snapshot lost more than half of
    #[arg(long)]
    accept_loss: bool,
}

/// The rules that count, and those of age: the same for snapshots and for versions of a mirror.
#[derive(Debug, clap::Args)]
pub(super) struct KeepArgs {
    /// Keep the newest N (`unlimited`: all)
    #[arg(short = 'l', long, value_name = "N")]
    keep_last: Option<String>,
    /// Keep the newest of each of the newest N hours that have one
    #[arg(long, value_name = "N")]
    keep_hourly: Option<String>,
    /// The same for days
    #[arg(short = 'd', long, value_name = "N")]
    keep_daily: Option<String>,
    /// The same for weeks
    #[arg(short = 'w', long, value_name = "N")]
    keep_weekly: Option<String>,
    /// The same for months
    #[arg(short = 'm', long, value_name = "N")]
    keep_monthly: Option<String>,
    /// The same for years
    #[arg(short = 'y', long, value_name = "N")]
    keep_yearly: Option<String>,
    /// Keep all that is not older than this before the newest one, such as 1y5m7d2h
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<String>,
    /// Keep the newest of each hour that is not older than this before the newest one
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<String>,
    /// The same for days
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<String>,
    /// The same for weeks
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<String>,
    /// The same for months
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<String>,
    /// The same for years
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<String>,
}

impl KeepArgs {
    /// The rules that were given, as [`Policy::set`] takes them.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let flags = [
            ("keep-last", &self.keep_last),
            ("keep-hourly", &self.keep_hourly),
            ("keep-daily", &self.keep_daily),
            ("keep-weekly", &self.keep_weekly),
            ("keep-monthly", &self.keep_monthly),
            ("keep-yearly", &self.keep_yearly),
            ("keep-within", &self.keep_within),
            ("keep-within-hourly", &self.keep_within_hourly),
            ("keep-within-daily", &self.keep_within_daily),
            ("keep-within-weekly", &self.keep_within_weekly),
            ("keep-within-monthly", &self.keep_within_monthly),
            ("keep-within-yearly", &self.keep_within_yearly),
        ];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

impl RuleArgs {
    /// The rules of the file, and those of the flags in their place.
    fn policy(&self) -> Result<Policy, Failure> {
        let mut policy = match &self.policy_file {
            None => Policy::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::io(Code::Failed, format!("cannot read {}", path.display()), &error)
                })?;
                let wrong = |why| Failure::usage(format!("{}: {why}", path.display()));
                Policy::parse(&text).map_err(wrong)?
            }
        };
        let own = [("group-by", &self.group_by), ("protect", &self.protect)];
        let own = own.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let single = self.keep.rules().chain(own);
        let tags = self.keep_tag.iter().map(|value| ("keep-tag", value));
        let ids = self.keep_id.iter().map(|value| ("keep-id", value));
        for (key, value) in single.chain(tags).chain(ids) {
            policy.set(key, value).map_err(|why| Failure::usage(format!("--{key}: {why}")))?;
        }
        policy.accept_loss |= self.accept_loss;
        Ok(policy)
    }
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let policy = self.rules.policy()?;
        if !self.names.is_empty() && !policy.is_empty() {
            let message = "both snapshots and rules are given: name what goes, or say what stays";
            return Err(Failure::usage(message));
        }
        let repo = app.open()?;
        let entry = Entry::done("forget", repo.world().clock.now());
        let candidates = Candidates::load(&repo)?;
        for problem in &candidates.problems {
            app.out.warn(Failure::caused(Code::Damaged, &**problem).text());
        }
        let plan = self.plan(&candidates, &policy).map_err(|failure| match policy.is_empty() {
            true if self.names.is_empty() => {
                let example = app.hints().command("forget --keep-daily 7 --keep-weekly 5 -n");
                failure.hint(format!("such as: {example}; all rules: lastgood forget --help"))
            }
            _ => failure,
        })?;
        show(app, &plan);
        let (kept, forgotten) = (plan.kept().count() as u64, plan.forgotten().count() as u64);
        let entry = Entry { counts: vec![("kept", kept)], ..entry };
        let mut earlier = Vec::new();
        if !self.dry_run && forgotten > 0 {
            self.forget(app, &repo, plan, &entry, &mut earlier)?;
        }
        let done = if self.dry_run { "would forget" } else { "forgot" };
        let mut fields = json!({
            "kept_snapshots": kept,
            "forgotten_snapshots": forgotten,
            "dry_run": self.dry_run,
        });
        app.out.info(match self.names.is_empty() {
            true => format!("{done} {}, kept {kept}", text::count(forgotten, "snapshot")),
            false => format!("{done} {}", text::count(forgotten, "snapshot")),
        });
        let mut whole = Ok(());
        if self.gc {
            let (report, result) = gc::Args::plain(self.dry_run).collect(app, &repo)?;
            fields["gc"] = report;
            if !earlier.is_empty() {
                fields["gc_between"] = earlier.into();
            }
            whole = result;
        } else if forgotten > 0 && !self.dry_run {
            let (undelete, gc) = (app.hints().command("undelete"), app.hints().command("gc"));
            app.out.info(format!("until the next gc they can be brought back: {undelete}"));
            app.out.info(format!("free their space with: {gc}"));
        }
        app.out.json("summary", fields);
        whole.and_then(|()| pick::whole(candidates.problems.len()))
    }

    /// Forgets what the plan says. Where a full store has no room for all of it, gc makes some in
    /// between; `collected` gets what it did.
    fn forget(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
        mut plan: ForgetPlan,
        entry: &Entry,
        collected: &mut Vec<serde_json::Value>,
    ) -> Result<(), Failure> {
        loop {
            let report = retire(app, repo, plan, entry.clone())?;
            let Some(full) = report.full.map(Failure::from) else { return Ok(()) };
            if report.forgotten == 0 {
                return Err(full);
            }
            let left = report.left.forgotten().count() as u64;
            if !self.gc {
                let (count, gc) = (text::count(left, "snapshot"), app.hints().command("gc"));
                return Err(
                    full.hint(format!("{count} are left; free space with: {gc}; and forget again"))
                );
            }
            collected.push(gc::Args::plain(false).collect(app, repo)?.0);
            plan = report.left;
        }
    }

    fn plan(&self, candidates: &Candidates, policy: &Policy) -> Result<ForgetPlan, Failure> {
        let (filter, calendar) = (pick::filter(&self.filter)?, LocalCalendar::of_host());
        if self.names.is_empty() {
            return Ok(forget::plan(candidates, &filter, policy, &calendar)?);
        }
        let records = candidates.all.iter().map(|candidate| &candidate.record);
        let records: Vec<SnapshotRecord> =
            records.filter(|record| filter.accepts(&record.snapshot)).cloned().collect();
        let now = candidates.now;
        let parse_time = |text: &str| text::parse_moment(text, now);
        let find = |name: &String| {
            let named = snapshots::find(&records, name, &parse_time)?;
            match named.path {
                None => Ok(named.record.id),
                Some(_) => {
                    Err(Failure::usage(format!("a snapshot is meant, without a path: {name}")))
                }
            }
        };
        let ids = self.names.iter().map(find).collect::<Result<Vec<_>, Failure>>()?;
        Ok(forget::named(candidates, &ids, policy, &calendar)?)
    }
}

/// Retires what the plan says, and notes it.
fn retire(
    app: &App<'_>,
    repo: &Arc<Repository>,
    plan: ForgetPlan,
    mut entry: Entry,
) -> Result<ForgetReport, Failure> {
    entry.snapshots = plan.forgotten().map(|decision| decision.record.id).collect();
    let result = app.run(forget::start(repo.clone(), plan));
    let entry = match &result {
        Ok(report) => {
            let left: HashSet<_> = report.left.forgotten().map(|it| it.record.id).collect();
            entry.snapshots.retain(|id| !left.contains(id));
            entry.counts.push(("forgotten", report.forgotten));
            entry
        }
        Err(failure) => failure.entry(entry),
    };
    app.log(repo, entry)?;
    result
}

/// Shows each group, with what becomes of each snapshot, and why.
fn show(app: &App<'_>, plan: &ForgetPlan) {
    for (group, decisions) in &plan.groups {
        if let Some(heading) = snapshots_command::heading(group) {
            app.out.line(format!("snapshots for ({heading}):"));
        }
        let columns = [
            ("", Align::Left),
            ("ID", Align::Left),
            ("Time", Align::Left),
            ("Tags", Align::Left),
            ("Why", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for decision in decisions {
            let snapshot = &decision.record.snapshot;
            table.row(vec![
                if decision.is_kept { "keep" } else { "forget" }.to_owned(),
                text::short(&decision.record.id),
                text::time(snapshot.started),
                text::escaped(snapshot.tags.join(",").as_bytes()),
                decision
                    .reasons
                    .iter()
                    .map(|it| text::escaped(it.as_bytes()))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ]);
            app.out.json("decision", json(decision));
        }
        app.out.lines(table.lines());
    }
}

/// A decision for programs.
fn json(decision: &Decision) -> serde_json::Value {
    let mut fields = pick::json(&decision.record);
    fields.retain(|name, _| FIELDS.contains(&name.as_str()));
    fields.insert("stored".to_owned(), text::time_json(decision.stored).into());
    fields.insert("keep".to_owned(), decision.is_kept.into());
    fields.insert("reasons".to_owned(), decision.reasons.clone().into());
    fields.into()
}

/// What of a snapshot a decision repeats.
const FIELDS: [&str; 7] = ["id", "short_id", "time", "hostname", "paths", "paths_bytes", "tags"];
