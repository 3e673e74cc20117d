//! Naming snapshots on the command line.

use std::sync::Arc;

use lastgood::snapshots::{self, Filter, Named, Rewriter};
use lastgood::{Repository, SnapshotFlags, SnapshotRecord, system};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::settings::absolute;
use crate::text;

/// The filter of the flags.
pub(super) fn filter(args: &FilterArgs) -> Result<Filter, Failure> {
    let paths = args.paths.iter().map(|path| Ok(path_bytes(&absolute(path)?).to_vec()));
    Ok(Filter {
        hosts: args.hosts.clone(),
        paths: paths.collect::<Result<_, Failure>>()?,
        tags: args.tags.iter().map(|list| tags(std::slice::from_ref(list))).collect(),
    })
}

/// One snapshot, without a path behind it.
pub(super) fn one(app: &App<'_>, repo: &Repository, name: &str) -> Result<SnapshotRecord, Failure> {
    let named = resolve(app, repo, name, &FilterArgs::default())?;
    match named.path {
        None => Ok(named.record),
        Some(_) => Err(Failure::usage(format!("a snapshot is meant, without a path: {name}"))),
    }
}

/// `SNAPSHOT[:PATH]`: an id or the start of one, `latest`, `latest~N` or `@TIME`. Missing ones are
/// warned of: the one that is meant may be among them.
pub(super) fn resolve(
    app: &App<'_>,
    repo: &Repository,
    name: &str,
    filter_args: &FilterArgs,
) -> Result<Named, Failure> {
    let now = system::world().clock.now();
    let parse_time = |text: &str| text::parse_moment(text, now);
    let named = snapshots::resolve(repo, name, &filter(filter_args)?, &parse_time);
    if let Some(missing) = snapshots::missing(repo) {
        app.out.warn(Failure::from(missing).text());
    }
    Ok(named?)
}

/// The named snapshots, or all that the filter lets through; oldest first. Damaged ones are warned
/// of, and counted.
pub(super) fn many(
    app: &App<'_>,
    repo: &Repository,
    names: &[String],
    filter_args: &FilterArgs,
) -> Result<(Vec<SnapshotRecord>, usize), Failure> {
    let (records, damaged) = snapshots::list(repo, &filter(filter_args)?)?;
    let count = damaged.len();
    damaged.into_iter().for_each(|error| app.out.warn(Failure::from(error).text()));
    if names.is_empty() {
        return Ok((records, count));
    }
    let now = system::world().clock.now();
    let parse_time = |text: &str| text::parse_moment(text, now);
    let one = |name: &String| Ok(snapshots::find(&records, name, &parse_time)?.record);
    Ok((names.iter().map(one).collect::<Result<_, Failure>>()?, 0))
}

/// What changes snapshots, opened for the first that is changed.
pub(super) fn rewriter<'a>(
    app: &App<'_>,
    repo: &Arc<Repository>,
    opened: &'a mut Option<Rewriter>,
) -> Result<&'a mut Rewriter, Failure> {
    let program = concat!("lastgood ", env!("CARGO_PKG_VERSION"));
    match opened {
        Some(rewriter) => Ok(rewriter),
        none => Ok(none.insert(Rewriter::open(repo, &app.home()?.state, program)?)),
    }
}

/// The failure of a command that met damaged snapshots and did the rest.
pub(super) fn whole(damaged: usize) -> Result<(), Failure> {
    match damaged as u64 {
        0 => Ok(()),
        count => {
            let message = format!("{} cannot be read", text::count(count, "snapshot"));
            Err(Failure::new(Code::Damaged, message))
        }
    }
}

/// `a,b` and `c` are three tags.
pub(super) fn tags(lists: &[String]) -> Vec<String> {
    let tags = lists.iter().flat_map(|list| list.split(','));
    tags.map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// A snapshot for programs.
pub(super) fn json(record: &SnapshotRecord) -> Map<String, Value> {
    let snapshot = &record.snapshot;
    let totals = &snapshot.totals;
    let fields = json!({
        "id": record.id.to_string(),
        "short_id": text::short(&record.id),
        "time": text::time_json(snapshot.started),
        "tree": snapshot.tree.to_string(),
        "hostname": snapshot.host,
        "username": snapshot.user,
        "tags": snapshot.tags,
        "program_version": snapshot.program,
        "incomplete": is_incomplete(record),
        "pinned": is_pinned(record),
        "summary": {
            "backup_start": text::time_json(snapshot.started),
            "backup_end": text::time_json(snapshot.finished),
            "files_new": totals.files_new,
            "files_changed": totals.files_changed,
            "data_added": totals.bytes_added,
            "data_added_packed": totals.bytes_stored,
            "total_files_processed": totals.files,
            "total_bytes_processed": totals.bytes,
            "error_count": totals.errors,
        },
    });
    let mut fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    text::put_paths(&mut fields, snapshot.sources.iter().map(Vec::as_slice));
    if let Some(parent) = snapshot.chain.parents.first() {
        fields.insert("parent".to_owned(), parent.to_string().into());
    }
    if let Some(original) = &snapshot.original {
        fields.insert("original".to_owned(), original.to_string().into());
    }
    fields
}

/// Whether something of the source is missing from it.
pub(super) fn is_incomplete(record: &SnapshotRecord) -> bool {
    let flags = record.snapshot.flags;
    flags.contains(SnapshotFlags::INCOMPLETE) || flags.contains(SnapshotFlags::PARTIAL)
}

/// Whether it is not to be forgotten.
pub(super) fn is_pinned(record: &SnapshotRecord) -> bool {
    record.snapshot.flags.contains(SnapshotFlags::PINNED)
}
