//! `lastgood tag`.

use lastgood::snapshots::TagChange;
use serde_json::json;

use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::Failure;
use crate::text;

/// Flags of `tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots to change [default: all that the filter lets through]
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    /// Replace all tags by these; '' removes all
    #[arg(long, value_name = "TAG[,TAG]", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    /// Add these
    #[arg(long, value_name = "TAG[,TAG]")]
    add: Vec<String>,
    /// Remove these
    #[arg(long, value_name = "TAG[,TAG]")]
    remove: Vec<String>,
    /// Change nothing; say which snapshots would be changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        if self.set.is_empty() && self.add.is_empty() && self.remove.is_empty() {
            return Err(Failure::usage("nothing to change: give --set, --add or --remove"));
        }
        let change = TagChange {
            set: (!self.set.is_empty()).then(|| pick::tags(&self.set)),
            add: pick::tags(&self.add),
            remove: pick::tags(&self.remove),
        };
        let repo = app.open()?;
        let (records, damaged) = pick::many(app, &repo, &self.names, &self.filter)?;
        let (mut changed, mut rewriter) = (0, None);
        for record in &records {
            let old = record.id.to_string();
            if self.dry_run {
                let tags = change.apply(&record.snapshot.tags);
                if tags == record.snapshot.tags {
                    continue;
                }
                changed += 1;
                app.out.line(format!(
                    "snapshot {} would have tags [{}]",
                    text::short(&record.id),
                    text::escaped(tags.join(", ").as_bytes())
                ));
                let fields = json!({ "old_snapshot_id": old, "tags": tags });
                app.out.json("changed_snapshot", fields);
                continue;
            }
            let Some(new) = pick::rewriter(app, &repo, &mut rewriter)?.tag(record, &change)? else {
                continue;
            };
            changed += 1;
            app.tell_unlogged(new.unlogged);
            let new = new.record;
            app.out.line(format!(
                "snapshot {} is now {} with tags [{}]",
                text::short(&record.id),
                text::short(&new.id),
                text::escaped(new.snapshot.tags.join(", ").as_bytes())
            ));
            let fields = json!({
                "old_snapshot_id": old,
                "new_snapshot_id": new.id.to_string(),
                "tags": new.snapshot.tags,
            });
            app.out.json("changed_snapshot", fields);
        }
        let done = if self.dry_run { "would change" } else { "changed" };
        app.out.info(format!("{done} {}", text::count(changed, "snapshot")));
        app.out.json("summary", json!({ "changed_snapshots": changed, "dry_run": self.dry_run }));
        pick::whole(damaged)
    }
}
