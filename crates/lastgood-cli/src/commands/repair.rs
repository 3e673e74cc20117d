//! `lastgood repair`.

use lastgood::repair::{self, RepairOptions};
use serde_json::json;

use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `repair`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Store nothing; say what would be
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    threads: usize,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let (repo, state) = (app.open()?, app.home()?.state);
        let options = RepairOptions { state, threads: self.threads, dry_run: self.dry_run };
        let report = app.run(repair::start(repo, options))?;
        let out = app.out;
        let would = if self.dry_run { "would store whole" } else { "stored whole again" };
        for object in &report.repaired {
            out.line(format!("{would}: {object}"));
        }
        out.json(
            "summary",
            json!({
                "dry_run": self.dry_run,
                "objects_read": report.objects_read,
                "bytes_read": report.bytes_read,
                "repaired": report.repaired,
                "error_count": report.lost.len(),
            }),
        );
        out.info(format!(
            "read {}, {}: {} repaired",
            text::count(report.objects_read, "object"),
            text::size(report.bytes_read),
            report.repaired.len()
        ));
        if report.lost.is_empty() {
            return Ok(());
        }
        let count = text::count(report.lost.len() as u64, "object");
        let message = format!("{count} cannot be mended: more is damaged than parity makes up for");
        Err(Failure::new(Code::Damaged, message)
            .hint("see what is affected with: lastgood check --read-data"))
    }
}
