//! What can go wrong with a mirror.

use std::path::PathBuf;

use lastgood_host::HostError;

use crate::record::Path;
use crate::run::Held;
use crate::text::TextError;

/// Why something of a mirror was not done.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// There is no mirror.
    #[error("there is no mirror in {}", .0.display())]
    NoMirror(PathBuf),
    /// The directory holds something else.
    #[error("{} is neither empty nor a mirror", .0.display())]
    Foreign(PathBuf),
    /// It mirrors another directory.
    #[error("the mirror is one of {}, not of {}", recorded.display(), given.display())]
    OtherSource {
        /// What it mirrors.
        recorded: PathBuf,
        /// What was to be mirrored.
        given: PathBuf,
    },
    /// There is no such version.
    #[error("the mirror has no version {0}")]
    NoVersion(String),
    /// It is what `latest/` shows.
    #[error("{0} is the newest version, which latest shows; an older one can go")]
    Newest(String),
    /// No version can be made of that moment.
    #[error("no version can come in between: {0}")]
    NoPlace(&'static str),
    /// A version has nothing at a path.
    #[error("the version has nothing at {}", .0.escape_ascii())]
    NoPath(Path),
    /// Somebody else changes it.
    #[error("somebody else is changing the mirror in {}", .0.display())]
    Busy(PathBuf),
    /// The guard asks first.
    #[error("{0}")]
    Held(Held),
    /// Nothing waits for approval.
    #[error("no run of this mirror is held")]
    NotHeld,
    /// Too little room, and nothing was changed.
    #[error("the mirror needs {needed} bytes of room, and {available} are free")]
    NoSpace {
        /// What the run would write, and a reserve.
        needed: u64,
        /// What the file system has.
        available: u64,
    },
    /// Too many files and directories, and nothing was changed.
    #[error("the mirror needs {needed} more files and directories, and {available} can be made")]
    NoEntries {
        /// What the run would make, and a reserve.
        needed: u64,
        /// What the file system can take.
        available: u64,
    },
    /// A text is damaged, or too new.
    #[error("{} cannot be used", path.escape_ascii())]
    Text {
        /// Which.
        path: Path,
        /// Why.
        source: TextError,
    },
    /// A text is missing, or is not the one that another text names.
    #[error("{} is missing, or is another one than the list of versions says", .0.escape_ascii())]
    Missing(Path),
    /// The system refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
}

/// Trouble with one path; the rest goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Below the source or the version.
    pub path: Path,
    /// What was being done.
    pub during: &'static str,
    /// What happened.
    pub message: String,
}

/// Hears of a run as it goes on, and may stop it.
pub trait Watch {
    /// Whether somebody asked to stop.
    fn is_cancelled(&self) -> bool;
    /// So many bytes of a path went by.
    fn bytes(&self, path: &[u8], count: u64);
    /// A file is done.
    fn file(&self, path: &[u8]);
    /// So many files and bytes there will be.
    fn total(&self, files: u64, bytes: u64);
    /// Trouble with one path.
    fn trouble(&self, trouble: Trouble);
}

/// Stops when somebody asked to.
pub(crate) fn check(watch: &dyn Watch) -> Result<(), MirrorError> {
    if watch.is_cancelled() { Err(MirrorError::Cancelled) } else { Ok(()) }
}

/// A failure and its causes on one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
