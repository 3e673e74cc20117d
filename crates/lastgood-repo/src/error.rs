//! What can go wrong with a repository.

use lastgood_backend::{BackendError, ErrorKind};
use lastgood_format::config::ConfigError;
use lastgood_format::encoding::DecodeError;
use lastgood_format::id::{BlobId, SessionId};
use lastgood_format::key::KeyError;
use lastgood_format::pack::PackError;
use lastgood_format::snapshot::TooLong;

use crate::last_seen::Missing;

/// An error of a repository, naming the object and where it is.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is no repository.
    #[error("there is no repository in {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// There is a repository already.
    #[error("there is a repository in {location} already")]
    Exists {
        /// Where.
        location: String,
    },
    /// No key slot takes the credential.
    #[error("wrong password or key for the repository in {location}")]
    WrongKey {
        /// Where.
        location: String,
    },
    /// The config cannot be used.
    #[error("cannot use the config of the repository in {location}")]
    Config {
        /// Where.
        location: String,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// An object is not what was written.
    #[error("{object} in {location} is damaged")]
    Damaged {
        /// Name of the object.
        object: String,
        /// Where.
        location: String,
        /// What is wrong with it.
        #[source]
        source: Damage,
    },
    /// A blob is in none of the packs that are known.
    #[error("blob {blob} is missing from the repository in {location}")]
    MissingBlob {
        /// The blob.
        blob: BlobId,
        /// Where.
        location: String,
    },
    /// Gc declared the session over while it was running.
    #[error("session {session} was fenced by gc; what it stored is kept for the next run")]
    Fenced {
        /// The session.
        session: SessionId,
    },
    /// Snapshots that were committed are neither there nor retired.
    #[error("{} missing from {location}: {}", counted(missing.len()), listed(missing))]
    Missing {
        /// Where.
        location: String,
        /// Which ones.
        missing: Vec<Missing>,
    },
    /// Its keys or features were changed since it was opened.
    #[error("the keys or features of the repository in {location} were changed meanwhile")]
    Revised {
        /// Where.
        location: String,
    },
    /// The session was stopped by an error that was reported elsewhere.
    #[error("the session was stopped by an earlier error")]
    Stopped,
    /// A key slot cannot be made or removed.
    #[error("{0}")]
    KeySlot(&'static str),
    /// A key slot may be the right one and cannot be tried.
    #[error("a key slot cannot be tried")]
    Unlock(#[source] KeyError),
    /// The snapshot would be longer than a reader takes.
    #[error("the snapshot cannot be committed")]
    SnapshotTooLong(#[from] TooLong),
    /// There are too many to be named by the revision that closes a rotation.
    #[error(
        "there are more snapshots than a rotation of the root can name; forget some, and run gc"
    )]
    TooManySnapshots,
    /// The store does not do what gc rests on.
    #[error("gc is not safe in {location}: {reason}")]
    UnsafeStore {
        /// Where.
        location: String,
        /// What the store does not do.
        reason: &'static str,
    },
    /// A later release must know of what gc may remove.
    #[error("writing to this repository requires the feature {0:?}")]
    Feature(String),
    /// A file that this host keeps of the repository: the copy of the index, what it saw last.
    #[error("cannot {action} {path}")]
    Cache {
        /// The verb.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It does not open, or is not signed by whom it should be.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is a pack with a damaged part.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// It is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its bytes do not hash to its name.
    #[error("its bytes do not hash to its name")]
    Name,
    /// It is there, and it must not be missing, or the other way round.
    #[error("{0}")]
    State(&'static str),
    /// A blob inside decodes to other content than its id says.
    #[error("blob {0} in it has other content than its id says")]
    Blob(BlobId),
    /// A blob inside is stored as a change of one that cannot be had.
    #[error("blob {blob} in it is a change of blob {base}, which no pack holds whole")]
    Base {
        /// The blob.
        blob: BlobId,
        /// What it is a change of.
        base: BlobId,
    },
}

/// Errors told apart by what the caller should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoErrorKind {
    /// There is no repository.
    NoRepository,
    /// There is one already.
    Exists,
    /// Wrong key.
    WrongKey,
    /// Written by a later release.
    TooNew,
    /// Something stored is damaged.
    Damaged,
    /// The place is full.
    NoSpace,
    /// No more files can be opened.
    TooManyOpen,
    /// Permission was refused.
    Denied,
    /// May work later.
    Transient,
    /// Gc ended the session.
    Fenced,
    /// What was there is gone.
    Missing,
    /// The store cannot do what was asked for.
    Unsupported,
    /// Anything else.
    Failed,
}

impl RepoError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> RepoErrorKind {
        match self {
            Self::NoRepository { .. } => RepoErrorKind::NoRepository,
            Self::Exists { .. } => RepoErrorKind::Exists,
            Self::WrongKey { .. } => RepoErrorKind::WrongKey,
            Self::Config { source, .. } => match source {
                ConfigError::UnknownFeature(_)
                | ConfigError::Decode(DecodeError::TooNew { .. }) => RepoErrorKind::TooNew,
                _ => RepoErrorKind::Damaged,
            },
            Self::Damaged { source, .. } if source.is_too_new() => RepoErrorKind::TooNew,
            Self::Damaged { .. } | Self::MissingBlob { .. } => RepoErrorKind::Damaged,
            Self::Backend(error) => error.kind.into(),
            Self::Fenced { .. } | Self::Revised { .. } => RepoErrorKind::Fenced,
            Self::Missing { .. } => RepoErrorKind::Missing,
            Self::UnsafeStore { .. } => RepoErrorKind::Unsupported,
            Self::Feature(_) => RepoErrorKind::TooNew,
            Self::Cache { source, .. } => match ErrorKind::from(source) {
                // What the cache lacks is not missing from the repository.
                ErrorKind::NotFound | ErrorKind::OutOfRange => RepoErrorKind::Failed,
                kind => kind.into(),
            },
            Self::KeySlot(_)
            | Self::Unlock(_)
            | Self::SnapshotTooLong(_)
            | Self::TooManySnapshots
            | Self::Stopped => RepoErrorKind::Failed,
        }
    }
}

impl RepoError {
    /// Whether a blob is in no pack that is there.
    #[must_use]
    pub const fn is_missing_blob(&self) -> bool {
        matches!(self, Self::MissingBlob { .. })
    }

    /// Whether the same call may succeed later without anybody mending anything: the error tells
    /// nothing of what is stored.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind(), RepoErrorKind::Transient | RepoErrorKind::TooManyOpen)
    }

    /// Whether it was signed with keys that had been rotated out: it is somebody's, and not ours.
    #[must_use]
    pub const fn is_rotated_out(&self) -> bool {
        matches!(self, Self::Damaged { source: Damage::Key(KeyError::RotatedOut), .. })
    }

    /// Whether it is the store that failed: what it could not read may be whole all the same.
    #[must_use]
    pub const fn is_of_store(&self) -> bool {
        matches!(self, Self::Backend(_))
    }

    /// Whether the store says that there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Backend(error) if error.kind == ErrorKind::NotFound)
    }

    /// Whether the store did not give what may be there all the same.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.is_of_store() && !self.is_not_found()
    }

    /// Whether something stored is lost, or of a later release.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self.kind(), RepoErrorKind::Damaged | RepoErrorKind::TooNew)
    }
}

fn counted(count: usize) -> String {
    match count {
        1 => "a snapshot is".to_owned(),
        count => format!("{count} snapshots are"),
    }
}

/// The first few.
fn listed(missing: &[Missing]) -> String {
    let shown = missing.iter().take(MISSING_SHOWN).map(ToString::to_string);
    let more = missing.len().saturating_sub(MISSING_SHOWN);
    let more = (more > 0).then(|| format!("and {more} more"));
    shown.chain(more).collect::<Vec<_>>().join("; ")
}

const MISSING_SHOWN: usize = 5;

impl From<ErrorKind> for RepoErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NoSpace => Self::NoSpace,
            ErrorKind::TooManyOpen => Self::TooManyOpen,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Transient => Self::Transient,
            // Asked for by name and not there, not of its length, or on a bad sector: it is lost.
            ErrorKind::NotFound | ErrorKind::OutOfRange | ErrorKind::Unreadable => Self::Damaged,
            ErrorKind::Failed => Self::Failed,
        }
    }
}

impl Damage {
    fn is_too_new(&self) -> bool {
        matches!(
            self,
            Self::Key(KeyError::Decode(DecodeError::TooNew { .. }))
                | Self::Decode(DecodeError::TooNew { .. })
                | Self::Pack(PackError::Header(DecodeError::TooNew { .. }))
        )
    }
}
