//! What takes the space: `lastgood explain --space`.

use lastgood::lineage::{self, Space};
use lastgood::{SnapshotRecord, Timestamp};
use serde_json::{Map, json};

use super::super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};
use crate::table::{Align, Table};
use crate::text;

/// Tells of all snapshots; and of those that are named, what forgetting them would free.
pub(super) fn run(app: &App<'_>, names: &[String], depth: Option<usize>) -> Result<(), Failure> {
    let repo = app.open()?;
    let (records, damaged) = pick::many(app, &repo, &[], &FilterArgs::default())?;
    let (named, _) = match names {
        [] => (Vec::new(), 0),
        names => pick::many(app, &repo, names, &FilterArgs::default())?,
    };
    let depth_of = |source: &Vec<u8>| source.iter().filter(|byte| **byte == b'/').count();
    let sources = records.iter().flat_map(|record| &record.snapshot.sources);
    let depth = depth.unwrap_or_else(|| sources.map(depth_of).max().unwrap_or(0) + 2);
    let space = app.run(lineage::space(repo.clone(), records.clone(), depth))?;
    let packs = repo.all_packs().map_err(lastgood::Error::from)?;
    let pack_bytes: u64 = packs.iter().map(|(_, _, bytes)| bytes).sum();
    by_snapshot(app, &records, &space);
    by_age(app, &records, &space, repo.world().clock.now());
    by_path(app, &space);
    app.out.line(format!(
        "packs take {}: {} that snapshots need, the rest is parity, directories, and what gc \
         has not removed",
        text::size(pack_bytes),
        text::size(space.needed_bytes)
    ));
    let mut fields = Map::new();
    fields.insert("pack_bytes".to_owned(), pack_bytes.into());
    fields.insert("needed_bytes".to_owned(), space.needed_bytes.into());
    fields.insert("unread_blobs".to_owned(), space.unread.into());
    if !named.is_empty() {
        let is_named = |record: &SnapshotRecord| named.iter().any(|it| it.id == record.id);
        let (doomed, kept): (Vec<_>, Vec<_>) = records.into_iter().partition(is_named);
        let count = text::count(doomed.len() as u64, "snapshot");
        let freed = app.run(lineage::freed_by_forgetting(repo, doomed, kept))?;
        app.out
            .line(format!("forgetting {count} would free {}, once gc has run", text::size(freed)));
        fields.insert("freed_bytes".to_owned(), freed.into());
    }
    app.out.json("summary", fields.into());
    pick::whole(damaged)?;
    match space.unread {
        0 => Ok(()),
        count => {
            let message = format!("{} cannot be read", text::count(count, "blob"));
            Err(Failure::new(Code::Damaged, message).hint("run: lastgood repair"))
        }
    }
}

fn by_snapshot(app: &App<'_>, records: &[SnapshotRecord], space: &Space) {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Brought", Align::Right),
        ("Alone needs", Align::Right),
    ]);
    for (record, it) in records.iter().zip(&space.snapshots) {
        app.out.json(
            "snapshot_space",
            json!({
                "id": record.id.to_string(),
                "time": text::time_json(record.snapshot.started),
                "added_bytes": it.added_bytes,
                "own_bytes": it.own_bytes,
            }),
        );
        table.row(vec![
            text::short(&record.id),
            text::time(record.snapshot.started),
            text::escaped(record.snapshot.host.as_bytes()),
            text::size(it.added_bytes),
            text::size(it.own_bytes),
        ]);
    }
    app.out.lines(table.lines());
}

fn by_age(app: &App<'_>, records: &[SnapshotRecord], space: &Space, now: Timestamp) {
    let mut table = Table::new(&[("Age", Align::Left), ("Brought", Align::Right)]);
    let mut from = 0;
    for (name, days) in AGES {
        let to = days.map_or(i64::MAX, |days| days * 86_400);
        let is_of = |record: &&SnapshotRecord| {
            let age = now.seconds.saturating_sub(record.snapshot.started.seconds).max(0);
            (from..to).contains(&age)
        };
        let both = records.iter().zip(&space.snapshots);
        let bytes: u64 = both.filter(|(r, _)| is_of(r)).map(|(_, it)| it.added_bytes).sum();
        app.out.json("age_space", json!({ "age": name, "added_bytes": bytes }));
        table.row(vec![name.to_owned(), text::size(bytes)]);
        from = to;
    }
    app.out.lines(table.lines());
}

/// The largest directories, those above before those below.
fn by_path(app: &App<'_>, space: &Space) {
    let mut largest: Vec<_> = space.directories.iter().collect();
    largest.sort_by_key(|(path, bytes)| (std::cmp::Reverse(**bytes), path.len()));
    largest.truncate(DIRECTORIES_SHOWN);
    largest.sort();
    let mut table = Table::new(&[("Directory", Align::Left), ("Brought", Align::Right)]);
    for (path, bytes) in largest {
        let path = [b"/", path.as_slice()].concat();
        let mut fields = Map::new();
        text::put_path(&mut fields, "path", &path);
        fields.insert("added_bytes".to_owned(), (*bytes).into());
        app.out.json("path_space", fields.into());
        table.row(vec![text::escaped(&path), text::size(*bytes)]);
    }
    app.out.lines(table.lines());
}

const AGES: [(&str, Option<i64>); 6] = [
    ("last day", Some(1)),
    ("last week", Some(7)),
    ("last month", Some(30)),
    ("last quarter", Some(91)),
    ("last year", Some(365)),
    ("older", None),
];
const DIRECTORIES_SHOWN: usize = 25;
