//! The audit log: who did what to a repository, when, and how it ended.
//!
//! Backups and changes of tags note themselves; whoever starts anything else writes it into a
//! [`Logbook`] when it is over. A record that cannot be written never fails what it tells of.

use std::path::{Path, PathBuf};

pub use lastgood_repo::Log;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::{SnapshotId, WriterId};
use lastgood_repo::format::limits::LOG_SNAPSHOTS_MAX;
pub use lastgood_repo::format::log::{Ending, LogRecord};
use lastgood_repo::{Deed, Repository};

use crate::error::{Error, ErrorKind};
use crate::this_host;
use crate::writer_state::WriterState;

/// Who writes into the log.
#[derive(Debug, Clone)]
pub struct Logbook {
    /// Folder where this host remembers who it is to each repository.
    pub state: PathBuf,
    /// Name of this host.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Name and version of the program.
    pub program: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In one word, as in `docs/format/log.md`, section 2.
    pub verb: &'static str,
    /// When it began.
    pub began: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// Snapshots that it made, read or retired.
    pub snapshots: Vec<SnapshotId>,
    /// Counts by name.
    pub counts: Vec<(&'static str, u64)>,
    /// What else is to be said, for people.
    pub note: String,
}

impl Entry {
    /// Something that is done entirely, and began now.
    #[must_use]
    pub fn done(verb: &'static str, began: Timestamp) -> Self {
        let ending = Ending::Done;
        Self { verb, began, ending, snapshots: Vec::new(), counts: Vec::new(), note: String::new() }
    }

    /// The same, which failed.
    #[must_use]
    pub fn failed(self, error: &Error) -> Self {
        let ending = match error.kind() {
            ErrorKind::Cancelled => Ending::Cancelled,
            _ => Ending::Failed,
        };
        Self { ending, note: error.to_string(), ..self }
    }
}

impl Logbook {
    /// The logbook of this host and user.
    #[must_use]
    pub fn here(state: &Path, program: &str) -> Self {
        Self {
            state: state.to_owned(),
            host: this_host::name(),
            user: this_host::user(),
            program: program.to_owned(),
        }
    }

    /// Notes what was done. Call it when all of it is durable.
    ///
    /// # Errors
    /// When the record cannot be stored; say so, and go on.
    pub fn write(&self, repo: &Repository, entry: Entry) -> Result<(), Error> {
        let writer = WriterState::claim(&self.state, repo)?;
        Ok(repo.append_to_log(writer.name(), &self.deed(entry))?)
    }

    pub(crate) fn deed(&self, entry: Entry) -> Deed {
        let Entry { verb, began, ending, mut snapshots, counts, note } = entry;
        snapshots.truncate(LOG_SNAPSHOTS_MAX);
        let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Deed {
            verb: verb.to_owned(),
            began,
            ending,
            host: self.host.clone(),
            user: self.user.clone(),
            program: self.program.clone(),
            snapshots,
            counts,
            note,
        }
    }
}

/// Reads and verifies the whole log.
///
/// # Errors
/// When it cannot be listed, or a record may be readable later.
pub fn read(repo: &Repository) -> Result<Log, Error> {
    Ok(repo.log()?)
}

/// Accepts that records of the log which are damaged, missing or replaced now are lost. Returns
/// their places: writers and numbers.
///
/// # Errors
/// Whatever the repository says; some may be accepted then.
pub fn accept_lost(repo: &Repository, accepted_by: &str) -> Result<Vec<(WriterId, u64)>, Error> {
    Ok(repo.accept_lost_log(accepted_by)?)
}
