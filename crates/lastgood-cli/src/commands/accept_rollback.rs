//! `lastgood accept-rollback`.

use lastgood::log::{self, Entry};
use lastgood::snapshots::{self, Filter, Missing, SeenBy};
use serde_json::{Map, json};

use crate::app::App;
use crate::failure::Failure;
use crate::text;

/// Flags of `accept-rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Accept it; without this flag, only say what would be accepted
    #[arg(long)]
    yes: bool,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let entry = Entry::done("accept-rollback", repo.world().clock.now());
        let (missing, records) = if self.yes {
            let missing = snapshots::accept_missing(&repo, &app.key_label())?;
            let records = log::accept_lost(&repo, &app.key_label())?;
            (missing, records)
        } else {
            // Listing compares with what was seen.
            drop(snapshots::list(&repo, &Filter::default())?);
            (snapshots::what_is_missing(&repo), log::read(&repo)?.lost)
        };
        for missing in &missing {
            app.out.line(format!("{} {missing}", if self.yes { "accepted:" } else { "missing:" }));
            app.out.json("missing_snapshot", fields(missing).into());
        }
        for (writer, sequence) in &records {
            let word = if self.yes { "accepted:" } else { "missing:" };
            app.out.line(format!("{word} record {sequence} of the log of writer {writer}"));
            let fields = json!({ "writer_id": writer.to_string(), "sequence": sequence });
            app.out.json("missing_log_record", fields);
        }
        let is_accepted = self.yes && !(missing.is_empty() && records.is_empty());
        if is_accepted {
            let counts = vec![("log-records", records.len() as u64)];
            let snapshots = missing.iter().map(|missing| missing.head.snapshot).collect();
            app.log(&repo, Entry { snapshots, counts, ..entry })?;
        }
        app.out.json(
            "summary",
            json!({
                "missing_snapshots": missing.len(),
                "missing_log_records": records.len(),
                "accepted": is_accepted,
            }),
        );
        let what = match (missing.len() as u64, records.len() as u64) {
            (0, 0) => {
                app.out.info("nothing is missing");
                return Ok(());
            }
            (0, records) => text::count(records, "record") + " of the log",
            (snapshots, 0) => text::count(snapshots, "snapshot"),
            (snapshots, records) => format!(
                "{} and {} of the log",
                text::count(snapshots, "snapshot"),
                text::count(records, "record")
            ),
        };
        if self.yes {
            let text = format!("accepted the loss of {what}; the repository can be written to");
            app.out.info(text);
        } else {
            app.out.note(
                "before you accept this, look for a copy of the repository that has them, for \
                 lastgood repair --from; then run the command again with --yes",
            );
        }
        Ok(())
    }
}

fn fields(missing: &Missing) -> Map<String, serde_json::Value> {
    let mut fields = Map::new();
    fields.insert("snapshot_id".to_owned(), missing.head.snapshot.to_string().into());
    fields.insert("writer_id".to_owned(), missing.head.writer.to_string().into());
    fields.insert("sequence".to_owned(), missing.head.sequence.into());
    let (seen_by, by) = match missing.seen_by {
        SeenBy::ThisHost => ("this-host", None),
        SeenBy::Snapshot(id) => ("snapshot", Some(id)),
        SeenBy::Retired(id) => ("retired-snapshot", Some(id)),
    };
    fields.insert("seen_by".to_owned(), seen_by.into());
    if let Some(id) = by {
        fields.insert("seen_by_snapshot_id".to_owned(), id.to_string().into());
    }
    if let Some(id) = missing.instead {
        fields.insert("instead_snapshot_id".to_owned(), id.to_string().into());
    }
    fields
}
