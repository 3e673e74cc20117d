//! Where content came from: `lastgood explain --blob ID` and `PATH@SNAPSHOT`.

use std::sync::Arc;

use lastgood::Repository;
use lastgood::lineage::{self, BlobLineage, Fate, Run, StoredCopy};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Tells of one blob.
pub(super) fn blob(app: &App<'_>, id: &str) -> Result<(), Failure> {
    let id = id.parse().map_err(|_| {
        Failure::usage(format!("{id:?} is no id of a blob: it has 64 hex digits"))
            .hint("ids are told by: lastgood --json explain PATH@SNAPSHOT")
    })?;
    let repo = app.open()?;
    let blob = lineage::of_blob(&repo, id)?;
    app.out.line(format!("blob {id}: {}, {}", blob.kind.name(), copies(&blob)));
    for copy in &blob.copies {
        tell(app, copy);
        if let Run::Committed(record) = &copy.run
            && let Some(path) = lineage::path_in(&repo, record, id)?
        {
            app.out.line(format!("  needed first by {}", text::escaped(&path)));
        }
    }
    app.out.json("blob", fields(&blob, None).into());
    Ok(())
}

/// Tells of what stands at a path of a snapshot.
pub(super) fn path(
    app: &App<'_>,
    repo: &Arc<Repository>,
    path: &[u8],
    record: &lastgood::SnapshotRecord,
) -> Result<(), Failure> {
    let found = lineage::of_path(repo, record, path)?;
    let shown = text::escaped(&found.path);
    let first = found.blobs.iter().filter_map(|blob| blob.copies.first());
    let bytes: u64 = first.map(|copy| u64::from(copy.bytes)).sum();
    let count = text::count(found.blobs.len() as u64, "blob");
    app.out.line(format!(
        "{shown} in snapshot {}: {count}, {}",
        text::short(&record.id),
        text::size(bytes)
    ));
    // Neighbours that came the same way are told of once.
    let mut told: Option<(String, u64, u64, &StoredCopy)> = None;
    let show = |told: &Option<(String, u64, u64, &StoredCopy)>| {
        if let Some((_, count, bytes, copy)) = told {
            let count = text::count(*count, "blob");
            app.out.line(format!("{count}, {}:", text::size(*bytes)));
            tell(app, copy);
        }
    };
    for blob in &found.blobs {
        app.out.json("blob", fields(blob, Some(&found.path)).into());
        let Some(copy) = blob.copies.first() else {
            app.out.warn(format!("blob {} is in no pack that can be read", blob.id));
            continue;
        };
        let key = format!("{} {}", copy.pack.pack, copy.written_by);
        match &mut told {
            Some((last, count, bytes, _)) if *last == key => {
                *count += 1;
                *bytes += u64::from(copy.bytes);
            }
            _ => {
                show(&told);
                told = Some((key, 1, copy.bytes.into(), copy));
            }
        }
    }
    show(&told);
    match found.blobs.iter().filter(|blob| blob.copies.is_empty()).count() as u64 {
        0 => Ok(()),
        lost => {
            let message = format!("{} of {shown} cannot be found", text::count(lost, "blob"));
            Err(Failure::new(Code::Damaged, message).hint("run: lastgood repair"))
        }
    }
}

fn copies(blob: &BlobLineage) -> String {
    match blob.copies.len() as u64 {
        1 => "one copy".to_owned(),
        count => format!("{count} copies"),
    }
}

fn tell(app: &App<'_>, copy: &StoredCopy) {
    app.out.line(format!("  in pack {}", text::short(&copy.pack.pack)));
    app.out.line(match &copy.run {
        Run::Committed(record) => {
            let snapshot = &record.snapshot;
            format!(
                "  brought by snapshot {}, {} by {}@{} with {}",
                text::short(&record.id),
                text::time(snapshot.started),
                text::escaped(snapshot.user.as_bytes()),
                text::escaped(snapshot.host.as_bytes()),
                text::escaped(snapshot.program.as_bytes()),
            )
        }
        Run::Forgotten(id) => format!("  brought by snapshot {}, which is gone", text::short(id)),
        Run::Uncommitted if !copy.stands_in_for.is_empty() => format!(
            "  moved there out of {} by gc or a repair",
            text::count(copy.stands_in_for.len() as u64, "pack")
        ),
        Run::Uncommitted => "  brought by a run that was cut off; a later one used it".to_owned(),
        Run::Open => "  brought by a run of which no end is recorded".to_owned(),
    });
    let (raw, stored) = copy.group;
    let compression = copy.compression.name();
    app.out.line(format!(
        "  in a group of {}, {compression}: {} stored",
        text::size(raw.into()),
        text::size(stored.into())
    ));
    if let Some(base) = copy.base {
        app.out.line(format!("  as the difference from blob {base}"));
    }
    match copy.fate {
        Fate::Kept => {}
        Fate::Condemned => app.out.line("  gc proposed to remove it, and has not decided"),
        Fate::Decided => app.out.line("  gc decided to remove it"),
    }
}

fn fields(blob: &BlobLineage, path: Option<&[u8]>) -> Map<String, Value> {
    let copies = blob.copies.iter().map(|copy| {
        let (run, snapshot) = match &copy.run {
            Run::Committed(record) => ("committed", Some(record.id)),
            Run::Forgotten(id) => ("forgotten", Some(*id)),
            Run::Uncommitted => ("uncommitted", None),
            Run::Open => ("open", None),
        };
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("pack", copy.pack.pack.to_string().into());
        put("session", copy.written_by.to_string().into());
        put("run", run.into());
        if let Some(id) = snapshot {
            put("snapshot_id", id.to_string().into());
        }
        put("bytes", copy.bytes.into());
        put("compression", copy.compression.name().into());
        put("group_bytes", copy.group.0.into());
        put("group_stored_bytes", copy.group.1.into());
        if let Some(base) = copy.base {
            put("base", base.to_string().into());
        }
        let moved: Vec<Value> =
            copy.stands_in_for.iter().map(|place| place.pack.to_string().into()).collect();
        put("stands_in_for", moved.into());
        put(
            "fate",
            match copy.fate {
                Fate::Kept => "kept",
                Fate::Condemned => "condemned",
                Fate::Decided => "decided",
            }
            .into(),
        );
        Value::from(fields)
    });
    let mut fields = match json!({
        "id": blob.id.to_string(),
        "kind": blob.kind.name(),
        "copies": copies.collect::<Vec<Value>>(),
    }) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let Some(path) = path {
        text::put_path(&mut fields, "path", path);
        fields.insert("offset".to_owned(), blob.offset.into());
    }
    fields
}
