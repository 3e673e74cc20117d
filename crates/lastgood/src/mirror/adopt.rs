//! What another tool made becomes a mirror.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_host::scan::{Directory, Stat};
use lastgood_mirror::Version;
use lastgood_mirror::run::{self, Choice, Room, Rules, RunOptions};
use lastgood_repo::Clock;

use super::{Outcome, Watching, real};
use crate::job::{Job, Phase};

/// What becomes a mirror, and of what.
#[derive(Clone)]
pub struct AdoptOptions {
    /// The directory that holds a plain copy of the source.
    pub target: PathBuf,
    /// The source.
    pub source: PathBuf,
    /// Names in the target that are not part of the copy and stay where they are.
    pub leave: Vec<PathBuf>,
    /// Says when that is.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for AdoptOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AdoptOptions({} of {})", self.target.display(), self.source.display())
    }
}

/// Makes a mirror of a plain copy, as rsync makes it, without copying it: it moves into `latest/` and
/// is read once. What rdiff-backup keeps beside its copy stays where it is.
#[must_use]
pub fn start_adopt(options: AdoptOptions) -> Job<Outcome<Option<Version>>> {
    Job::spawn(move |control| {
        control.enter(Phase::Reading);
        let (source, target) = (real(&options.source)?, real(&options.target)?);
        let subject = run::subject(&source)?;
        let named = options.leave.iter().map(|name| name.as_os_str().as_bytes().into());
        let leave: Vec<Box<[u8]>> = named.chain([RDIFF_DATA.into()]).collect();
        let watch = Watching::new(control);
        let options = RunOptions {
            source: target.clone(),
            now: options.clock.now(),
            is_approved: true,
            forgets_excluded: false,
            verifies_outgoing: true,
            scrub_days: 0,
            is_dry: false,
            room: Room::ENDLESS,
        };
        let version = run::adopt(&target, &subject, &leave, &options, &mut Everything, &watch)?;
        Ok(watch.outcome(Some(version)))
    })
}

/// What was copied is meant.
struct Everything;

impl Rules for Everything {
    fn enter(&mut self, _: &[u8], _: &Directory) {}
    fn leave(&mut self) {}
    fn choose(&mut self, _: &[u8], _: &Stat) -> Choice {
        Choice::In
    }
}

/// History of rdiff-backup, in a form that only that program reads.
const RDIFF_DATA: &[u8] = b"rdiff-backup-data";
