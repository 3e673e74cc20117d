//! `lastgood undelete`.

use std::sync::Arc;

use lastgood::forget::GroupBy;
use lastgood::log::Entry;
use lastgood::undelete::{self, Forgotten};
use lastgood::{Repository, SnapshotRecord, snapshots, system};
use serde_json::json;

use super::pick;
use super::snapshots::show;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `undelete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots to bring back; without any, those that can be brought back are listed
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let forgotten = undelete::list(&repo, &pick::filter(&self.filter)?)?;
        if self.names.is_empty() {
            return list(app, forgotten);
        }
        let records: Vec<SnapshotRecord> = forgotten.into_iter().map(|it| it.record).collect();
        let now = system::world().clock.now();
        let parse_time = |text: &str| text::parse_moment(text, now);
        let mut wanted = Vec::new();
        for name in &self.names {
            let named = snapshots::find(&records, name, &parse_time).map_err(|error| {
                Failure::from(error)
                    .hint("lastgood undelete lists what was forgotten; what gc has removed is gone")
            })?;
            wanted.push(named.record);
        }
        for record in &wanted {
            bring_back(app, &repo, record)?;
        }
        let count = wanted.len() as u64;
        app.out.info(format!("brought back {}", text::count(count, "snapshot")));
        app.out.json("summary", json!({ "changed_snapshots": count, "dry_run": false }));
        Ok(())
    }
}

/// Brings one back, and notes it.
fn bring_back(
    app: &App<'_>,
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
) -> Result<(), Failure> {
    let entry = Entry::done("undelete", repo.world().clock.now());
    let program = concat!("lastgood ", env!("CARGO_PKG_VERSION"));
    let copy = undelete::undelete(repo, &app.home()?.state, record, program).map_err(|error| {
        let hint = "what is left of it can neither be restored nor brought back";
        Failure::from(error).with_code(Code::Failed).hint(hint)
    })?;
    app.log(repo, Entry { snapshots: vec![copy.id, record.id], ..entry })?;
    app.out.line(format!(
        "snapshot {} is back as {}",
        text::short(&record.id),
        text::short(&copy.id)
    ));
    let fields = json!({
        "old_snapshot_id": record.id.to_string(),
        "new_snapshot_id": copy.id.to_string(),
        "tags": copy.snapshot.tags,
    });
    app.out.json("changed_snapshot", fields);
    Ok(())
}

/// Lists those that can be brought back, and counts those that cannot.
pub(super) fn list(app: &App<'_>, forgotten: Vec<Forgotten>) -> Result<(), Failure> {
    let all = forgotten.len();
    let whole = forgotten.into_iter().filter(|it| it.is_whole).map(|it| it.record);
    let whole: Vec<SnapshotRecord> = whole.collect();
    show(app, &whole, GroupBy::NOTHING, false);
    if whole.len() < all {
        let count = text::count((all - whole.len()) as u64, "forgotten snapshot");
        app.out.note(format!("{count} more cannot be brought back: gc has removed parts"));
    }
    app.out.json("summary", json!({ "snapshots_count": whole.len() }));
    Ok(())
}
