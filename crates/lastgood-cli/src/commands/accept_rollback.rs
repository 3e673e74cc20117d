//! `lastgood accept-rollback`.

use lastgood::log::Entry;
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
        let missing = if self.yes {
            let entry = Entry::done("accept-rollback", repo.world().clock.now());
            let missing = snapshots::accept_missing(&repo, &app.key_label())?;
            if !missing.is_empty() {
                let snapshots = missing.iter().map(|missing| missing.head.snapshot).collect();
                app.log(&repo, Entry { snapshots, ..entry })?;
            }
            missing
        } else {
            // Listing compares with what was seen.
            drop(snapshots::list(&repo, &Filter::default())?);
            snapshots::what_is_missing(&repo)
        };
        for missing in &missing {
            app.out.line(format!("{} {missing}", if self.yes { "accepted:" } else { "missing:" }));
            app.out.json("missing_snapshot", fields(missing).into());
        }
        let count = missing.len() as u64;
        let is_accepted = self.yes && count > 0;
        app.out.json("summary", json!({ "missing_snapshots": count, "accepted": is_accepted }));
        match (count, self.yes) {
            (0, _) => app.out.info("no snapshot is missing"),
            (_, true) => app.out.info(format!(
                "accepted the loss of {}; the repository can be written to again",
                text::count(count, "snapshot")
            )),
            (_, false) => app.out.note(
                "before you accept this, look for a copy of the repository that has them; then \
                 run the command again with --yes",
            ),
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
