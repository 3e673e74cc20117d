//! `lastgood snapshots`.

use std::collections::BTreeMap;

use lastgood::SnapshotRecord;
use serde_json::json;

use super::pick;
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
    #[arg(short, long, value_name = "BY", value_parser = group_by)]
    group_by: Option<GroupBy>,
    /// Only the newest N of each host and paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Leave out paths and counts
    #[arg(short, long)]
    compact: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What makes a group.
#[derive(Debug, Clone, Copy, Default)]
struct GroupBy {
    host: bool,
    paths: bool,
    tags: bool,
}

/// What the snapshots of a group have in common, by name.
type Group = Vec<(&'static str, String)>;

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let (mut records, damaged) = pick::many(app, &repo, &self.names, &self.filter)?;
        if let Some(latest) = self.latest {
            records = newest(records, latest);
        }
        for record in &records {
            app.out.json("snapshot", pick::json(record).into());
        }
        let group_by = self.group_by.unwrap_or_default();
        let mut groups: BTreeMap<Group, Vec<&SnapshotRecord>> = BTreeMap::new();
        for record in &records {
            groups.entry(group_by.group(record)).or_default().push(record);
        }
        for (group, records) in &groups {
            let heading: Vec<_> =
                group.iter().map(|(name, value)| format!("{name} [{value}]")).collect();
            if !heading.is_empty() {
                app.out.line(format!("snapshots for ({}):", heading.join(", ")));
            }
            app.out.lines(self.table(records).lines());
            app.out.line(text::count(records.len() as u64, "snapshot"));
        }
        if records.is_empty() {
            app.out.info("no snapshots");
        }
        app.out.json("summary", json!({ "snapshots_count": records.len() }));
        pick::whole(damaged)
    }

    fn table(&self, records: &[&SnapshotRecord]) -> Table {
        let mut columns = vec![
            ("ID", Align::Left),
            ("Time", Align::Left),
            ("Host", Align::Left),
            ("Tags", Align::Left),
        ];
        if !self.compact {
            columns.extend([
                ("Paths", Align::Left),
                ("Files", Align::Right),
                ("Size", Align::Right),
            ]);
        }
        let mut table = Table::new(&columns);
        for record in records {
            let snapshot = &record.snapshot;
            let mark = if pick::is_incomplete(record) { "!" } else { "" };
            let tags: Vec<_> =
                snapshot.tags.iter().map(|tag| text::escaped(tag.as_bytes())).collect();
            let mut cells = vec![
                format!("{}{mark}", text::short(&record.id)),
                text::time(snapshot.started),
                text::escaped(snapshot.host.as_bytes()),
                tags.join(if self.compact { "," } else { "\n" }),
            ];
            if !self.compact {
                let paths: Vec<_> =
                    snapshot.sources.iter().map(|path| text::escaped(path)).collect();
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
}

impl GroupBy {
    fn group(self, record: &SnapshotRecord) -> Group {
        let snapshot = &record.snapshot;
        let paths = || {
            let paths: Vec<_> = snapshot.sources.iter().map(|path| text::escaped(path)).collect();
            paths.join(", ")
        };
        let mut group = Vec::new();
        if self.host {
            group.push(("host", text::escaped(snapshot.host.as_bytes())));
        }
        if self.paths {
            group.push(("paths", paths()));
        }
        if self.tags {
            group.push(("tags", text::escaped(snapshot.tags.join(", ").as_bytes())));
        }
        group
    }
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part {
            "host" | "hosts" => by.host = true,
            "path" | "paths" => by.paths = true,
            "tag" | "tags" => by.tags = true,
            _ => return Err("write host, paths or tags, or several with commas".to_owned()),
        }
    }
    Ok(by)
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
