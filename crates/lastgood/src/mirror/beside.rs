//! A mirror beside a backup: the source is read once for both.
//!
//! The mirror looks first, and asks its guard. Then the backup reads, and what the mirror wants of
//! that goes into its stage on the way. What the backup had no reason to read, or what changed while
//! it was read, the mirror reads for itself. Neither side depends on how the other ends.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::source::SourceFile;
use lastgood_mirror::run::{Begun, Intake, RunReport, Taken, Taking};
use lastgood_repo::Repository;

use super::{Opened, Outcome, RunOptions, Watching, own_directory};
use crate::backup::{self, Along, BackupOptions, BackupReport, ReadAlong};
use crate::error::Error;
use crate::job::{Control, Job};

/// How a backup and the mirror beside it ended.
#[derive(Debug)]
pub struct Both {
    /// The backup.
    pub backup: Result<BackupReport, Error>,
    /// The run of the mirror.
    pub mirror: Result<Outcome<RunReport>, Error>,
}

/// Backs up a directory and mirrors it as well, with one read of what both need. The source of the
/// mirror is the only one of the backup.
#[must_use]
pub fn start_beside(
    repo: Arc<Repository>,
    options: BackupOptions,
    mirror: RunOptions,
) -> Job<Both> {
    Job::spawn(move |control| Ok(both(&repo, options, mirror, control)))
}

fn both(
    repo: &Arc<Repository>,
    mut options: BackupOptions,
    mirror: RunOptions,
    control: &Control,
) -> Both {
    let watch = Watching::new(control);
    let opened = Opened::open(mirror, &watch);
    // Not even when the mirror is held it belongs into the backup.
    if let Ok(opened) = &opened {
        options.select.own_directories.extend(own_directory(&opened.mirror).ok().flatten());
    }
    let begun = opened.and_then(|opened| Ok((opened.begin(&watch)?, opened)));
    match begun {
        Err(error) => {
            let backup = backup::logged(repo, options, None, control);
            Both { backup, mirror: Err(error) }
        }
        Ok((begun, opened)) => {
            let (backup, taken) = read(repo, options, &begun, &opened, control);
            let mirror = taken.and_then(|taken| opened.finish(begun, taken, &watch));
            Both { backup, mirror: mirror.map(|report| watch.outcome(report)) }
        }
    }
}

/// The backup, while the mirror reads along.
fn read(
    repo: &Arc<Repository>,
    options: BackupOptions,
    begun: &Begun,
    opened: &Opened,
    control: &Control,
) -> (Result<BackupReport, Error>, Result<Taken, Error>) {
    let alone = |options| backup::logged(repo, options, None, control);
    if options.dry_run {
        return (alone(options), Ok(Taken::default()));
    }
    // What is wrong with its sources the backup says itself.
    let Ok(source) = backup::only_source(&options) else {
        return (alone(options), Ok(Taken::default()));
    };
    match begun.intake(&opened.mirror) {
        Err(error) => (alone(options), Err(error.into())),
        Ok(intake) => {
            let beside = Beside { source, intake: &intake };
            let backup = backup::logged(repo, options, Some(&beside), control);
            (backup, intake.finish().map_err(Error::from))
        }
    }
}

/// What the mirror wants, by the paths of the backup, which may lead through links.
struct Beside<'t, 'a> {
    source: PathBuf,
    intake: &'t Intake<'a>,
}

impl ReadAlong for Beside<'_, '_> {
    fn open<'a>(&'a self, file: &SourceFile) -> Option<Box<dyn Along + 'a>> {
        let path = file.path().strip_prefix(&self.source).ok()?;
        let taking = self.intake.open(path.as_os_str().as_bytes(), file)?;
        Some(Box::new(taking))
    }
}

impl Along for Taking<'_, '_> {
    fn bytes(&mut self, bytes: &[u8], at: u64) -> Result<bool, HostError> {
        Taking::bytes(self, bytes, at)
    }

    fn finish(self: Box<Self>, details: &Details) {
        Taking::finish(*self, details);
    }
}
