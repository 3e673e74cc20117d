//! `lastgood repair`.

use lastgood::log::{Ending, Entry};
use lastgood::repair::{self, RepairOptions, RepairReport};
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
        let entry = Entry::done("repair", repo.world().clock.now());
        let result = app.run(repair::start(repo.clone(), options));
        if !self.dry_run {
            app.log(&repo, entry_of(entry, &result))?;
        }
        let report = result?;
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

/// What the log says of it.
fn entry_of(entry: Entry, result: &Result<RepairReport, Failure>) -> Entry {
    let report = match result {
        Ok(report) => report,
        Err(failure) => return failure.entry(entry),
    };
    let (repaired, lost) = (report.repaired.len() as u64, report.lost.len() as u64);
    let ending = if lost == 0 { Ending::Done } else { Ending::Incomplete };
    Entry { ending, counts: vec![("repaired", repaired), ("lost", lost)], ..entry }
}
