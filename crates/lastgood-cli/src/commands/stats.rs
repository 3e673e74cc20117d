//! `lastgood stats`.

use clap::ValueEnum;
use lastgood::browse;
use serde_json::json;

use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots to count [default: all]
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    /// What to count
    #[arg(long, value_name = "MODE", default_value = "restore-size")]
    mode: Mode,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What a restore of each would write
    RestoreSize,
    /// Files of the same content once
    FilesByContents,
    /// What is stored: distinct blobs, and the packs of the whole repository
    RawData,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let (records, damaged) = pick::many(app, &repo, &self.names, &self.filter)?;
        let (stats, lost) = browse::stats(&repo, &records)?;
        let lost_count = lost.len() as u64;
        for (number, error) in (1..).zip(lost) {
            app.show_lost(repo.location().as_bytes(), "count", error, number);
        }
        app.out.info(format!("counted {}", text::count(stats.snapshots, "snapshot")));
        let of_files = match self.mode {
            Mode::RestoreSize => {
                Some(("restore-size", "Total entries:  ", stats.entries, stats.restore_bytes))
            }
            Mode::FilesByContents => {
                Some(("files-by-contents", "Distinct files: ", stats.contents, stats.content_bytes))
            }
            Mode::RawData => None,
        };
        if let Some((mode, label, count, bytes)) = of_files {
            app.out.line(format!("{label}  {count}"));
            app.out.line(format!("Total size:       {}", text::size(bytes)));
            app.out.json(
                "summary",
                json!({
                    "mode": mode,
                    "snapshots_count": stats.snapshots,
                    "total_size": bytes,
                    "total_file_count": count,
                }),
            );
            return whole(damaged, lost_count);
        }
        app.out.line(format!("Distinct blobs:   {}", stats.blobs));
        app.out.line(format!("Before compression: {}", text::size(stats.chunk_bytes)));
        app.out.line(format!(
            "Whole repository: {} in {}",
            text::size(stats.pack_bytes),
            text::count(stats.packs, "pack")
        ));
        let mut fields = json!({
            "mode": "raw-data",
            "snapshots_count": stats.snapshots,
            "total_size": stats.pack_bytes,
            "total_blob_count": stats.blobs,
            "total_uncompressed_size": stats.chunk_bytes,
            "objects": { "packs": { "count": stats.packs, "bytes": stats.pack_bytes } },
        });
        // What some of the snapshots hold says nothing beside the packs of all of them.
        if self.names.is_empty() && self.filter.is_empty() {
            // Metadata is stored as well, so what is stored may be more than the chunks.
            let stored = stats.pack_bytes.max(1) as f64;
            let held = stats.chunk_bytes.max(1) as f64;
            fields["compression_ratio"] = (stats.chunk_bytes as f64 / stored).into();
            fields["compression_space_saving"] = (100.0 * (1.0 - stored / held)).into();
        }
        app.out.json("summary", fields);
        whole(damaged, lost_count)
    }
}

/// Fails when snapshots or parts of them were not counted.
fn whole(damaged: usize, lost: u64) -> Result<(), Failure> {
    pick::whole(damaged)?;
    if lost == 0 {
        return Ok(());
    }
    let parts = text::count(lost, "part");
    let message =
        format!("{parts} of snapshots cannot be read, and what is in them is not counted");
    Err(Failure::new(Code::Damaged, message))
}
