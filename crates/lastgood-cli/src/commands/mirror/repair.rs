//! `lastgood mirror repair`: a plan first, then what it says.

use std::path::PathBuf;

use lastgood::mirror::{self, Healed, RepairOptions, RepairReport};
use lastgood::{opening, system};
use serde_json::{Map, json};

use super::super::from::FromArgs;
use super::unless_incomplete;
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `mirror repair`.
#[derive(Debug, clap::Args)]
pub(super) struct RepairArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// Write nothing; say what would be done
    #[arg(short = 'n', long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    from: FromArgs,
}

impl RepairArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let plan = app.run(mirror::start_repair(self.options(app, true)?))?.report;
        show(app, &plan);
        let is_wanted = plan.has_work() && !self.dry_run && (self.yes || app.confirm("do it?")?);
        let report = match is_wanted {
            true => app.run(mirror::start_repair(self.options(app, false)?))?.report,
            false => plan,
        };
        app.out.json("summary", summary(&report, !is_wanted));
        if report.has_work() && !is_wanted && !self.dry_run {
            let message = "nothing was written yet: the mirror is damaged as before";
            return Err(Failure::new(Code::Damaged, message).hint("run it again with --yes"));
        }
        let lost = (report.lost.len() + report.still_lost.len()) as u64;
        if lost > 0 {
            let message = format!("{} lost", text::count(lost, "file"));
            return Err(Failure::new(Code::Damaged, message)
                .hint("name a repository that may have them with --from"));
        }
        app.out.info(match (report.has_work(), is_wanted) {
            (false, _) => "nothing to repair".to_owned(),
            (true, true) => {
                let count = report.healed.len() + report.texts.len();
                format!("{} healed", text::count(count as u64, "file"))
            }
            (true, false) => "dry run: nothing was written".to_owned(),
        });
        unless_incomplete(
            report.unread.len() as u64,
            "of the mirror could not be read, and were left alone",
        )
    }

    fn options(&self, app: &App<'_>, dry_run: bool) -> Result<RepairOptions, Failure> {
        let repositories = self.from.repositories.iter().map(|path| {
            let key = self.from.key(app, path)?;
            Ok(opening::open(path, &app.home()?, system::world(), &key)?)
        });
        let repositories = repositories.collect::<Result<_, Failure>>()?;
        Ok(RepairOptions { mirror: self.mirror.clone(), repositories, dry_run })
    }
}

fn show(app: &App<'_>, plan: &RepairReport) {
    let tell = |what: &str, version: &str, path: &[u8], from: Option<&str>| {
        let mut fields = Map::new();
        text::put_path(&mut fields, "path", path);
        fields.insert("version".to_owned(), version.into());
        fields.insert("what".to_owned(), what.into());
        if let Some(from) = from {
            fields.insert("from".to_owned(), from.into());
        }
        app.out.json("mirror_mend", fields.into());
        let from = from.map(|from| format!(", from {from}")).unwrap_or_default();
        app.out.line(format!("{what}: {} of {version}{from}", text::escaped(path)));
    };
    for path in &plan.texts {
        let mut fields = Map::new();
        text::put_path(&mut fields, "path", path);
        fields.insert("what".to_owned(), "heal".into());
        fields.insert("from".to_owned(), "its other copy".into());
        app.out.json("mirror_mend", fields.into());
        app.out.line(format!("heal: {}, from its other copy", text::escaped(path)));
    }
    for Healed { version, path, from, .. } in &plan.healed {
        tell("heal", version, path, Some(from));
    }
    for (version, path) in &plan.lost {
        tell("lost", version, path, None);
    }
    for (version, path) in &plan.still_lost {
        tell("known to be lost", version, path, None);
    }
}

fn summary(report: &RepairReport, dry_run: bool) -> serde_json::Value {
    json!({
        "dry_run": dry_run,
        "files_whole": report.whole,
        "files_healed": report.healed.len(),
        "bytes_healed": report.healed.iter().map(|healed| healed.bytes).sum::<u64>(),
        "texts_healed": report.texts.len(),
        "files_lost": report.lost.len(),
        "files_unread": report.unread.len(),
        "files_known_lost": report.still_lost.len(),
    })
}
