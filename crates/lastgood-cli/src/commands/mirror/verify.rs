//! `lastgood mirror verify`.

use std::path::PathBuf;

use lastgood::mirror::{self, VerifyReport};
use serde_json::{Map, json};

use super::unless_incomplete;
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `mirror verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
}

impl VerifyArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let outcome = app.run(mirror::start_verify(self.mirror.clone()))?;
        let report = outcome.report;
        show_verified(app, &report, outcome.problems.errors);
        let bad = report.damaged.len() + report.broken.len();
        if bad > 0 {
            let message = format!(
                "{} of the mirror damaged: {} of {} not what they should be",
                if report.broken.is_empty() { "files" } else { "files or texts" },
                bad,
                text::count(report.whole + bad as u64, "file")
            );
            let hint = "lastgood mirror repair takes them from whoever has them";
            return Err(Failure::new(Code::Damaged, message).hint(hint));
        }
        unless_incomplete(report.unread.len() as u64, "of the mirror could not be read")
    }
}

fn show_verified(app: &App<'_>, report: &VerifyReport, errors: u64) {
    for path in &report.damaged {
        app.out.line(format!("damaged: {}", text::escaped(path)));
        let mut fields = Map::new();
        text::put_path(&mut fields, "path", path);
        app.out.json("mirror_damage", fields.into());
    }
    for (version, path) in &report.lost {
        app.out.note(format!("known to be lost: {} of {version}", text::escaped(path)));
    }
    for path in &report.texts {
        app.out.warn(format!(
            "{} is damaged, and its other copy is not: lastgood mirror repair writes it again",
            text::escaped(path)
        ));
    }
    for version in &report.broken {
        app.out.line(format!("the seal before {version} is missing from the chain"));
    }
    app.out.json(
        "summary",
        json!({
            "versions_count": report.versions,
            "files_whole": report.whole,
            "bytes_read": report.bytes,
            "files_damaged": report.damaged.len(),
            "files_unread": report.unread.len(),
            "files_lost": report.lost.len(),
            "broken": report.broken,
            "texts_damaged": report.texts.len(),
            "error_count": errors,
        }),
    );
    app.out.info(format!(
        "{}, {}: {} damaged",
        text::count(report.versions, "version"),
        text::size(report.bytes),
        text::count(report.damaged.len() as u64, "file")
    ));
}
