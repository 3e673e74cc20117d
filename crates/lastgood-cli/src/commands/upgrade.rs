//! `lastgood upgrade`.

use lastgood::keys::{self, Feature, FeatureSet};
use lastgood::log::Entry;
use serde_json::json;

use crate::app::App;
use crate::failure::Failure;
use crate::text;

/// Flags of `upgrade`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Features to add [default: all that the repository lacks]
    #[arg(value_name = "FEATURE")]
    features: Vec<String>,
    /// Add them; without this flag, only say what would be done
    #[arg(long)]
    yes: bool,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let known = keys::features(&repo);
        if let Some(unknown) =
            self.features.iter().find(|name| !known.iter().any(|(f, _)| f.name == name.as_str()))
        {
            let names: Vec<_> = known.iter().map(|(feature, _)| feature.name).collect();
            let message = format!("there is no feature {unknown:?}");
            return Err(Failure::usage(message).hint(format!("features: {}", names.join(", "))));
        }
        let is_wanted = |feature: &Feature| {
            self.features.is_empty() || self.features.iter().any(|f| f == feature.name)
        };
        let mut added = Vec::new();
        for (feature, has) in known {
            let is_added = !has && is_wanted(feature);
            let state = match (has, is_added, self.yes) {
                (true, ..) => "is there",
                (false, true, true) => "is added",
                (false, true, false) => "would be added",
                (false, false, _) => "is not there",
            };
            app.out.line(format!("{} {state}: {}", feature.name, feature.brings));
            if is_added {
                app.out.line(format!("    {}", consequence(feature.set)));
                added.push(feature.name);
            }
        }
        let passed_over = repo.passed_over();
        for object in &passed_over {
            app.out.line(format!("{object}, which is no revision, is passed over for good"));
        }
        let is_empty = added.is_empty() && passed_over.is_empty();
        let is_done = self.yes && !is_empty;
        if is_done {
            let entry = Entry::done("upgrade", repo.world().clock.now());
            let upgraded = keys::upgrade(&repo, &added)?;
            app.log(&upgraded, Entry { note: added.join(", "), ..entry })?;
        }
        app.out.json("summary", json!({ "features": added, "dry_run": !self.yes }));
        match (added.len() as u64, self.yes) {
            (0, _) if is_empty => app.out.info("there is nothing to add"),
            (count, true) => app.out.info(format!("added {}", text::count(count, "feature"))),
            (_, false) => app.out.note("there is no way back; to do this, run it again with --yes"),
        }
        Ok(())
    }
}

const fn consequence(set: FeatureSet) -> &'static str {
    match set {
        FeatureSet::Required => "programs that do not know it cannot open the repository any more",
        FeatureSet::ReadCompatible => {
            "programs that do not know it can read, and not write, any more"
        }
        FeatureSet::Optional => "programs that do not know it go on as before",
    }
}
