//! `lastgood snapshots`.

use std::collections::BTreeMap;

use lastgood::SnapshotRecord;
use lastgood::forget::{Group, GroupBy};
use serde_json::json;

use super::{pick, undelete};
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

/// Flags of `snapshots`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots to list [default: all]
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    /// Make a table for each: host, paths, tags, or several with commas
    #[arg(short, long, value_name = "BY", value_parser = str::parse::<GroupBy>)]
    group_by: Option<GroupBy>,
    /// Only the newest N of each host and paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Leave out paths and counts
    #[arg(short, long)]
    compact: bool,
    /// List those that were forgotten and can still be brought back
    #[arg(long, conflicts_with_all = ["names", "latest"])]
    forgotten: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        if self.forgotten {
            return undelete::list(
                app,
                lastgood::undelete::list(&repo, &pick::filter(&self.filter)?)?,
            );
        }
        let (mut records, damaged) = pick::many(app, &repo, &self.names, &self.filter)?;
        if let Some(latest) = self.latest {
            records = newest(records, latest);
        }
        show(app, &records, self.group_by.unwrap_or(GroupBy::NOTHING), self.compact);
        app.out.json("summary", json!({ "snapshots_count": records.len() }));
        pick::whole(damaged)
    }
}

/// Shows a table for each group.
pub(super) fn show(app: &App<'_>, records: &[SnapshotRecord], group_by: GroupBy, compact: bool) {
    for record in records {
        app.out.json("snapshot", pick::json(record).into());
    }
    let mut groups: BTreeMap<Group, Vec<&SnapshotRecord>> = BTreeMap::new();
    for record in records {
        groups.entry(group_by.group(record)).or_default().push(record);
    }
    for (group, records) in &groups {
        if let Some(heading) = heading(group) {
            app.out.line(format!("snapshots for ({heading}):"));
        }
        app.out.lines(table(records, compact).lines());
        app.out.line(text::count(records.len() as u64, "snapshot"));
    }
    if records.is_empty() {
        app.out.info("no snapshots");
    }
}

/// What the snapshots of a group have in common; nothing when that was not asked for.
pub(super) fn heading(group: &Group) -> Option<String> {
    let host = group.host.iter().map(|host| format!("host [{}]", text::escaped(host.as_bytes())));
    let paths = group.paths.iter().map(|paths| {
        let paths: Vec<String> = paths.iter().map(|path| text::escaped(path)).collect();
        format!("paths [{}]", paths.join(", "))
    });
    let tags = group.tags.iter();
    let tags = tags.map(|tags| format!("tags [{}]", text::escaped(tags.join(", ").as_bytes())));
    let parts: Vec<String> = host.chain(paths).chain(tags).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn table(records: &[&SnapshotRecord], compact: bool) -> Table {
    let mut columns = vec![
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Tags", Align::Left),
    ];
    if !compact {
        columns.extend([("Paths", Align::Left), ("Files", Align::Right), ("Size", Align::Right)]);
    }
    let mut table = Table::new(&columns);
    for record in records {
        let snapshot = &record.snapshot;
        let mark = match (pick::is_incomplete(record), pick::is_pinned(record)) {
            (false, false) => "",
            (true, false) => "!",
            (false, true) => "*",
            (true, true) => "!*",
        };
        let tags: Vec<_> = snapshot.tags.iter().map(|tag| text::escaped(tag.as_bytes())).collect();
        let mut cells = vec![
            format!("{}{mark}", text::short(&record.id)),
            text::time(snapshot.started),
            text::escaped(snapshot.host.as_bytes()),
            tags.join(if compact { "," } else { "\n" }),
        ];
        if !compact {
            let paths: Vec<_> = snapshot.sources.iter().map(|path| text::escaped(path)).collect();
            cells.extend([
                paths.join("\n"),
                snapshot.totals.files.to_string(),
                text::size(snapshot.totals.bytes),
            ]);
        }
        table.row(cells);
    }
    table
}

/// The last `count` of each host and sources; the order stays.
fn newest(records: Vec<SnapshotRecord>, count: usize) -> Vec<SnapshotRecord> {
    let mut seen: BTreeMap<(String, Vec<Vec<u8>>), usize> = BTreeMap::new();
    let mut kept: Vec<_> = records
        .into_iter()
        .rev()
        .filter(|record| {
            let key = (record.snapshot.host.clone(), record.snapshot.sources.clone());
            let number = seen.entry(key).or_default();
            *number += 1;
            *number <= count
        })
        .collect();
    kept.reverse();
    kept
}
