//! An older state becomes a version.

use std::path::PathBuf;

use lastgood_format::entry::Timestamp;
use lastgood_host::volume;
use lastgood_mirror::run::{self, RunOptions};
use lastgood_mirror::{Mirror, Version};

use super::{Outcome, Selected, Watching, real, selection};
use crate::job::{Job, Phase};
use crate::select::SelectOptions;

/// What comes in between, and where.
#[derive(Clone)]
pub struct InsertOptions {
    /// The directory of the mirror.
    pub mirror: PathBuf,
    /// A directory that shows the source as it was.
    pub directory: PathBuf,
    /// When it was so.
    pub time: Timestamp,
    /// What of it is left out.
    pub select: SelectOptions,
}

impl std::fmt::Debug for InsertOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InsertOptions({} to {})", self.directory.display(), self.mirror.display())
    }
}

/// Makes a version of an older state, between two versions or before the oldest; all others stay
/// what they are.
#[must_use]
pub fn start_insert(options: InsertOptions) -> Job<Outcome<Option<Version>>> {
    Job::spawn(move |control| {
        control.enter(Phase::Reading);
        let directory = real(&options.directory)?;
        let watch = Watching::new(control);
        let (mirror, done) = Mirror::open_to_change(&options.mirror)?;
        done.tell(&watch);
        let selection = selection(&mirror, &options.select, &directory)?;
        let mut rules = Selected::new(&selection, &directory)?;
        let options = RunOptions {
            source: directory,
            now: options.time,
            is_approved: true,
            forgets_excluded: false,
            verifies_outgoing: true,
            scrub_days: 0,
            is_dry: false,
            room: volume::space(mirror.path())?.into(),
        };
        let version = run::insert(&mirror, &options, &mut rules, &watch)?;
        Ok(watch.outcome(Some(version)))
    })
}
