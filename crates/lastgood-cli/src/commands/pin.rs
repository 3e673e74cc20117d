//! `lastgood pin` and `lastgood unpin`.

use serde_json::json;

use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::Failure;
use crate::text;

/// Flags of `pin` and `unpin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots
    #[arg(value_name = "SNAPSHOT", required = true)]
    names: Vec<String>,
    /// Change nothing; say which snapshots would be changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>, pinned: bool) -> Result<(), Failure> {
        let repo = app.open()?;
        let (records, damaged) = pick::many(app, &repo, &self.names, &self.filter)?;
        let word = if pinned { "pinned" } else { "not pinned" };
        let (mut changed, mut rewriter) = (0, None);
        for record in records.iter().filter(|record| pick::is_pinned(record) != pinned) {
            changed += 1;
            let mut fields = json!({
                "old_snapshot_id": record.id.to_string(),
                "tags": record.snapshot.tags,
                "pinned": pinned,
            });
            if self.dry_run {
                app.out.line(format!("snapshot {} would be {word}", text::short(&record.id)));
            } else if let Some(new) =
                pick::rewriter(app, &repo, &mut rewriter)?.pin(record, pinned)?
            {
                app.tell_unlogged(new.unlogged);
                let new = new.record;
                fields["new_snapshot_id"] = new.id.to_string().into();
                app.out.line(format!(
                    "snapshot {} is now {} and {word}",
                    text::short(&record.id),
                    text::short(&new.id)
                ));
            }
            app.out.json("changed_snapshot", fields);
        }
        let done = if self.dry_run { "would change" } else { "changed" };
        app.out.info(format!("{done} {}", text::count(changed, "snapshot")));
        app.out.json("summary", json!({ "changed_snapshots": changed, "dry_run": self.dry_run }));
        pick::whole(damaged)
    }
}
