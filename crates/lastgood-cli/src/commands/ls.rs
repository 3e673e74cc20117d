//! `lastgood ls`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use lastgood::browse::{self, Seen};
use serde_json::json;

use super::entry::{self, LongArgs};
use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::Failure;
use crate::text;

/// Flags of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshot, or a path in one
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,
    /// Paths in the snapshot [default: all of it]
    #[arg(value_name = "PATH")]
    places: Vec<OsString>,
    #[command(flatten)]
    long: LongArgs,
    /// List everything below the paths
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let named = pick::resolve(app, &repo, &self.snapshot, &self.filter)?;
        let record = &named.record;
        app.out.json("snapshot", pick::json(record).into());
        let mut paths: Vec<Vec<u8>> = named.path.clone().into_iter().collect();
        paths.extend(self.places.iter().map(|path| path.as_bytes().to_vec()));
        let (mut entries, mut bytes, mut lost) = (0_u64, 0_u64, 0_u64);
        let mut visit = |seen: Seen| {
            let listed = match seen {
                Seen::Entry(listed) => listed,
                Seen::Lost { path, error } => {
                    lost += 1;
                    app.show_lost(&path, "list", error, lost);
                    return Ok(());
                }
            };
            entries += 1;
            bytes += entry::size(&listed.entry).unwrap_or(0);
            let snapshot = &record.snapshot;
            app.out.json_with("node", || entry::json(snapshot, &listed.entry, &listed.path).into());
            let (head, tail) = entry::line(snapshot, &listed.entry, self.long);
            app.out.bytes_line(&[
                head.as_bytes(),
                &app.out.path(&listed.path),
                &app.out.path(&tail),
            ]);
            app.out.exit_if_closed();
            Ok(())
        };
        if paths.is_empty() {
            browse::ls(&repo, record, None, true, &mut visit)?;
        }
        for path in &paths {
            browse::ls(&repo, record, Some(path), self.recursive, &mut visit)?;
        }
        app.out.json("summary", json!({ "entry_count": entries, "total_size": bytes }));
        if self.long.long {
            app.out.note(format!("{}, {}", text::count(entries, "entry"), text::size(bytes)));
        }
        entry::all_listed(lost)
    }
}
