//! `lastgood gc`.

use std::ffi::OsString;
use std::sync::Arc;

use lastgood::forget::{Calendar, Span};
use lastgood::gc::{self, GcOptions, GcPlan, GcReport, MaxUnused, OpenSession, Reason};
use lastgood::log::{Ending, Entry};
use lastgood::select::ByteSize;
use lastgood::{ParityShare, Repository, Settings};
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::LocalCalendar;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `gc`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Remove nothing; say what would be
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How much of the packs that stay may be unused before they are repacked: a share such as 5%,
    /// a size such as 2GiB, or `unlimited` [default: 5%]
    #[arg(long, value_name = "LIMIT", value_parser = max_unused)]
    max_unused: Option<MaxUnused>,
    /// End runs that began longer ago than this and are in the way; younger ones are waited for, by
    /// the next gc (0: end them all) [default: 3d]
    #[arg(long, value_name = "SPAN", value_parser = fence_after)]
    fence_after: Option<Patience>,
    /// Parity in each pack that is made: none, or data and parity shards [default: 64+2]
    #[arg(long, value_name = "D+P")]
    parity: Option<ParityShare>,
    /// Nobody else works on the repository now, and you know it: take a store that is refused
    /// otherwise, and end every run that was not finished
    #[arg(long)]
    exclusive: bool,
    /// Refused, with what to use
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// How old a run has to be to be ended; none: any age.
#[derive(Debug, Clone, Copy)]
struct Patience(Option<Span>);

impl Args {
    /// Nothing is said but whether it is meant.
    pub(super) fn plain(dry_run: bool) -> Self {
        Self { dry_run, ..Self::default() }
    }

    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        if let Some(argument) = self.rest.first() {
            return Err(refused(&argument.to_string_lossy()));
        }
        let (report, result) = self.collect(app, &app.open()?)?;
        app.out.json("summary", report);
        result
    }

    /// Collects; returns what was done, for programs, and how the command ends.
    pub(super) fn collect(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
    ) -> Result<(Value, Result<(), Failure>), Failure> {
        let entry = Entry::done("gc", repo.world().clock.now());
        let max_unused = self.max_unused.unwrap_or(MaxUnused::Share(UNUSED_SHARE));
        let options = GcOptions {
            state: app.home()?.state,
            max_unused,
            fence_after: self.fence_seconds(repo),
            exclusive: self.exclusive,
            settings: Settings { parity: self.parity.unwrap_or_default(), ..Settings::default() },
            keep_reserve: true,
            dry_run: self.dry_run,
        };
        let planned = app.run(gc::plan(repo.clone(), options)).map_err(hinted)?;
        show_plan(app, planned.plan());
        if self.dry_run {
            let fields = json!({ "dry_run": true, "plan": plan_json(planned.plan()) });
            return Ok((fields, Ok(())));
        }
        let plan = plan_json(planned.plan());
        let result = app.run(planned.start());
        app.log(repo, entry_of(entry, &result))?;
        let report = result.map_err(hinted)?;
        show_report(app, &report);
        let fields = json!({ "dry_run": false, "plan": plan, "report": report_json(&report) });
        let whole = match report.problems.as_slice() {
            [] => Ok(()),
            problems => {
                problems.iter().for_each(|problem| app.out.warn(problem));
                let count = text::count(problems.len() as u64, "pack");
                Err(Failure::new(Code::Incomplete, format!("{count} stayed as they were")))
            }
        };
        Ok((fields, whole))
    }

    /// How many seconds ago a run has to have begun to be ended.
    fn fence_seconds(&self, repo: &Repository) -> i64 {
        let patience = self.fence_after.unwrap_or(Patience(Some(FENCE_AFTER)));
        let Some(span) = patience.0 else { return i64::MIN };
        let now = repo.world().clock.now();
        now.seconds.saturating_sub(LocalCalendar::of_host().before(now, span).seconds)
    }
}

/// Guessing what `prune --keep-daily 7` means has cost people their backups.
fn refused(argument: &str) -> Failure {
    let wants_policy = argument.starts_with("--keep");
    if wants_policy {
        Failure::usage(
            "gc takes no retention policy: in some tools prune thins out snapshots, in others it \
             frees space, and this one does not guess",
        )
        .hint("choose snapshots with: lastgood forget --keep-daily 7 --gc")
    } else {
        Failure::usage(format!("unexpected argument {}", text::quoted(argument)))
    }
}

/// What to do about a gc that refuses.
fn hinted(failure: Failure) -> Failure {
    match failure.code {
        Code::Usage => failure.hint(
            "gc beside other work needs a store that lets exactly one of several create a name; \
             when nobody else works on the repository, and nobody begins to: lastgood gc \
             --exclusive",
        ),
        Code::Damaged => failure.hint(
            "gc removes nothing while it cannot tell what is needed; see lastgood repair and \
             lastgood check, or leave the content of packs alone with --max-unused unlimited",
        ),
        _ => failure,
    }
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Any);
    }
    if let Some(share) = text.strip_suffix('%') {
        let share = share.parse().ok().filter(|share: &f64| (0.0..=100.0).contains(share));
        let share = share.ok_or_else(|| format!("{text:?} is no share: write 0% to 100%"))?;
        return Ok(MaxUnused::Share(share / 100.0));
    }
    let size: ByteSize =
        text.parse().map_err(|error: lastgood::select::ByteSizeError| error.to_string())?;
    Ok(MaxUnused::Bytes(size.0))
}

fn fence_after(text: &str) -> Result<Patience, String> {
    if text == "0" { Ok(Patience(None)) } else { Ok(Patience(Some(text.parse()?))) }
}

fn show_plan(app: &App<'_>, plan: &GcPlan) {
    let out = app.out;
    let held = match plan.snapshots_held {
        0 => String::new(),
        held => format!(" and {held} forgotten that somebody reads"),
    };
    out.line(format!(
        "there are {}{held}, and {} of {}",
        text::count(plan.snapshots, "snapshot"),
        text::count(plan.packs, "pack"),
        text::size(plan.pack_bytes)
    ));
    if let Some(round) = plan.unfinished_round {
        out.line(format!("goes on with round {round}, which was not finished"));
    }
    for (reason, what) in [
        (Reason::Unneeded, "that no snapshot needs"),
        (Reason::Duplicate, "that lie in another place too"),
        (Reason::Repacked, "that were repacked"),
        (Reason::Decided, "that an earlier gc decided on"),
    ] {
        let (count, bytes) = of_reason(plan, reason);
        if count > 0 {
            let packs = text::count(count, "pack");
            out.line(format!("remove {packs} of {} {what}", text::size(bytes)));
        }
    }
    if !plan.repack.is_empty() {
        let bytes = plan.repack.iter().map(|it| it.bytes).sum();
        let unused = plan.repack.iter().map(|it| it.unused_bytes).sum();
        out.line(format!(
            "repack {} of {}, of which {} are unused",
            text::count(plan.repack.len() as u64, "pack"),
            text::size(bytes),
            text::size(unused)
        ));
    }
    if let Some(unused) = plan.unused_bytes.filter(|unused| *unused > 0) {
        out.line(format!("leave {} unused in packs that stay", text::size(unused)));
    }
    if !plan.objects.is_empty() {
        let objects = text::count(plan.objects.len() as u64, "small object");
        out.line(format!("remove {objects} that say nothing any more"));
    }
    if !plan.segments.is_empty() {
        let segments = text::count(plan.segments.len() as u64, "segment");
        out.line(format!("merge {segments} of the index"));
    }
    for session in &plan.sessions {
        let what = if session.is_reader { "reader" } else { "run" };
        let becomes = if session.is_fenced { "is ended" } else { "is waited for" };
        let age = text::duration(session.age.max(0) as f64);
        out.line(format!("{what} {} of {age} ago {becomes} if it is in the way", session.id));
    }
    app.out.json("gc_plan", plan_json(plan));
}

fn of_reason(plan: &GcPlan, reason: Reason) -> (u64, u64) {
    let of_it = plan.remove.iter().filter(|it| it.reason == reason);
    of_it.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.bytes))
}

fn show_report(app: &App<'_>, report: &GcReport) {
    let freed = report.bytes_removed.saturating_sub(report.bytes_repacked);
    app.out.info(format!(
        "removed {}, repacked {}: {} are free",
        text::count(report.packs_removed, "pack"),
        report.packs_repacked,
        text::size(freed)
    ));
    if report.packs_spared > 0 {
        let packs = text::count(report.packs_spared, "pack");
        app.out.info(format!("{packs} turned out to be needed, or are left for the next gc"));
    }
    if report.is_short_of_space {
        let command = app.hints().command("gc");
        app.out.note(format!(
            "there was no space for new packs, so what is used in part stays; go on with: {command}"
        ));
    }
    if report.is_reserve_short {
        app.out.note(
            "there is no room for the reserve, with which gc goes on when the store is full: \
             forget more, or free some space",
        );
    }
    for session in &report.waiting_for {
        app.out.note(format!(
            "run {session} has not ended, so what it may need stays: the gc after its end goes on, \
             or the one that finds it older than --fence-after. When it is not alive any more: {}",
            app.hints().command("gc --fence-after 0")
        ));
    }
}

fn plan_json(plan: &GcPlan) -> Value {
    let sum = |reason| {
        let (count, bytes) = of_reason(plan, reason);
        json!({ "packs": count, "bytes": bytes })
    };
    let session = |it: &OpenSession| {
        json!({
            "id": it.id.to_string(),
            "reader": it.is_reader,
            "seconds_old": it.age,
            "ended": it.is_fenced,
        })
    };
    let mut fields = json!({
        "snapshots": plan.snapshots,
        "snapshots_held": plan.snapshots_held,
        "packs": plan.packs,
        "pack_bytes": plan.pack_bytes,
        "remove_unneeded": sum(Reason::Unneeded),
        "remove_duplicate": sum(Reason::Duplicate),
        "remove_repacked": sum(Reason::Repacked),
        "remove_decided": sum(Reason::Decided),
        "repack_packs": plan.repack.len(),
        "repack_bytes": plan.repack.iter().map(|it| it.bytes).sum::<u64>(),
        "repack_unused_bytes": plan.repack.iter().map(|it| it.unused_bytes).sum::<u64>(),
        "remove_objects": plan.objects.len(),
        "merge_segments": plan.segments.len(),
        "sessions": plan.sessions.iter().map(session).collect::<Vec<_>>(),
    });
    if let Some(unused) = plan.unused_bytes {
        fields["unused_bytes_left"] = unused.into();
    }
    if let Some(round) = plan.unfinished_round {
        fields["unfinished_round"] = round.into();
    }
    fields
}

fn report_json(report: &GcReport) -> Value {
    let ids = |sessions: &[_]| -> Vec<String> {
        sessions.iter().map(|id: &lastgood::gc::SessionId| id.to_string()).collect()
    };
    let mut fields = json!({
        "packs_removed": report.packs_removed,
        "bytes_removed": report.bytes_removed,
        "packs_spared": report.packs_spared,
        "packs_repacked": report.packs_repacked,
        "bytes_repacked": report.bytes_repacked,
        "objects_removed": report.objects_removed,
        "segments_merged": report.segments_merged,
        "ended_sessions": ids(&report.fenced),
        "waiting_for": ids(&report.waiting_for),
        "problems": report.problems,
        "short_of_space": report.is_short_of_space,
        "reserve_short": report.is_reserve_short,
    });
    if let Some(round) = report.round {
        fields["round"] = round.into();
    }
    fields
}

/// What the log says of it.
fn entry_of(entry: Entry, result: &Result<GcReport, Failure>) -> Entry {
    let report = match result {
        Ok(report) => report,
        Err(failure) => return failure.entry(entry),
    };
    let ending = match report.problems.is_empty() && report.waiting_for.is_empty() {
        true => Ending::Done,
        false => Ending::Incomplete,
    };
    let counts = vec![
        ("packs-removed", report.packs_removed),
        ("bytes-removed", report.bytes_removed),
        ("packs-repacked", report.packs_repacked),
        ("bytes-repacked", report.bytes_repacked),
        ("sessions-ended", report.fenced.len() as u64),
        ("sessions-waited-for", report.waiting_for.len() as u64),
    ];
    let note = match report.round {
        Some(round) => format!("by the verdict of round {round}"),
        None => "nothing was decided".to_owned(),
    };
    Entry { ending, counts, note, ..entry }
}

/// Of the packs that stay; as in restic.
const UNUSED_SHARE: f64 = 0.05;
/// A laptop that sleeps over a weekend goes on with its run.
const FENCE_AFTER: Span = Span { years: 0, months: 0, days: 3, hours: 0 };
