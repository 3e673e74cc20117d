//! What another tool made becomes a mirror.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood_host::scan::{Directory, Stat};
use lastgood_mirror::Version;
use lastgood_mirror::run::{self, Choice, Room, Rules, RunOptions};
use lastgood_repo::Clock;

use super::{Outcome, Watching, real};
use crate::error::{Error, ErrorKind};
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
    /// Whether older states that only rdiff-backup can read are given up.
    pub without_history: bool,
    /// Says when that is.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for AdoptOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AdoptOptions({} of {})", self.target.display(), self.source.display())
    }
}

/// Makes a mirror of a plain copy, as rsync makes it, without copying it: it moves into `latest/` and
/// is read once. What rdiff-backup keeps beside its copy stays where it is; it is of no use there, so
/// older states are given up only when that is asked for.
#[must_use]
pub fn start_adopt(options: AdoptOptions) -> Job<Outcome<Option<Version>>> {
    Job::spawn(move |control| {
        control.enter(Phase::Reading);
        let (source, target) = (real(&options.source)?, real(&options.target)?);
        let subject = run::subject(&source)?;
        let states = states_of_rdiff(&target);
        if let ([oldest, ..], false) = (&states[..], options.without_history) {
            let message = format!(
                "rdiff-backup keeps {} older states here, since {oldest}, which only it can read, and \
                 only while its copy stays where it is",
                states.len()
            );
            return Err(Error::new(ErrorKind::Exists, message));
        }
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

/// The moments of which rdiff-backup keeps a state older than its copy in `target`, oldest first, as
/// it names them.
#[must_use]
pub fn states_of_rdiff(target: &Path) -> Vec<String> {
    let data = target.join(OsStr::from_bytes(RDIFF_DATA));
    let names = std::fs::read_dir(data).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let time =
        |name: String| Some(name.strip_prefix("mirror_metadata.")?.split('.').next()?.to_owned());
    let mut times: Vec<String> = names.filter_map(time).collect();
    times.sort();
    times.dedup();
    // The newest is the copy itself.
    times.pop();
    times
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
