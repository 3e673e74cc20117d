//! The error of the façade: coarse, told apart by what the caller should do next.

use lastgood_backend::ErrorKind as BackendErrorKind;
use lastgood_host::HostError;
use lastgood_repo::{RepoError, RepoErrorKind};

/// What went wrong, to which path or object; causes are in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Errors told apart by what the caller should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Retry later: a network or a busy host.
    Unavailable,
    /// There is no repository: check the path, or `init`.
    NoRepository,
    /// A path, snapshot or object does not exist.
    NotFound,
    /// It exists already.
    Exists,
    /// The repository changed underneath: open it again and retry.
    Conflict,
    /// Permission was refused.
    Denied,
    /// Wrong password, key file or recovery code.
    WrongKey,
    /// Something stored is damaged: check, repair, restore the rest.
    Damaged,
    /// Snapshots that were there are gone, without a reason: check, find the store that has them,
    /// or accept that they are lost.
    RolledBack,
    /// Written by a later release: upgrade.
    TooNew,
    /// The request makes no sense: fix it.
    Invalid,
    /// Much would go or change at once: look, and approve it.
    Held,
    /// A disk is full: free some space; what was stored is kept.
    NoSpace,
    /// No more files can be opened: raise the limit, or close some; what was stored is kept.
    TooManyOpen,
    /// The caller cancelled.
    Cancelled,
    /// A defect of lastgood.
    Bug,
}

impl Error {
    /// The same error, as that of a key that does not open what it should.
    pub(crate) fn of_key(self) -> Self {
        Self { kind: ErrorKind::WrongKey, ..self }
    }

    /// An error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error with its cause.
    pub fn caused_by(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// What the caller should do next.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The cancellation that the caller asked for.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "interrupted")
    }

    /// A caught panic: a defect, with what it said.
    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Self::new(ErrorKind::Bug, format!("lastgood failed in a way it never should: {text}"))
    }
}

impl From<&std::io::Error> for ErrorKind {
    /// The kind of what the system said of a file of this host.
    fn from(error: &std::io::Error) -> Self {
        match BackendErrorKind::from(error) {
            BackendErrorKind::NotFound => Self::NotFound,
            BackendErrorKind::NoSpace => Self::NoSpace,
            BackendErrorKind::TooManyOpen => Self::TooManyOpen,
            BackendErrorKind::Denied => Self::Denied,
            _ if error.kind() == std::io::ErrorKind::AlreadyExists => Self::Exists,
            _ => Self::Unavailable,
        }
    }
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        let kind = match error.kind() {
            RepoErrorKind::NoRepository => ErrorKind::NoRepository,
            RepoErrorKind::Exists => ErrorKind::Exists,
            RepoErrorKind::WrongKey => ErrorKind::WrongKey,
            RepoErrorKind::TooNew => ErrorKind::TooNew,
            RepoErrorKind::Damaged => ErrorKind::Damaged,
            RepoErrorKind::NoSpace => ErrorKind::NoSpace,
            RepoErrorKind::TooManyOpen => ErrorKind::TooManyOpen,
            RepoErrorKind::Denied => ErrorKind::Denied,
            RepoErrorKind::Transient => ErrorKind::Unavailable,
            RepoErrorKind::Fenced => ErrorKind::Conflict,
            RepoErrorKind::Missing => ErrorKind::RolledBack,
            RepoErrorKind::Unsupported => ErrorKind::Invalid,
            RepoErrorKind::Failed => ErrorKind::Unavailable,
        };
        split(kind, error)
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        let kind = match () {
            () if error.is_not_found() => ErrorKind::NotFound,
            () if error.is_denied() => ErrorKind::Denied,
            () if error.is_no_space() => ErrorKind::NoSpace,
            () if error.is_too_many_open() => ErrorKind::TooManyOpen,
            // A file lies where a directory is to be: trying again would change nothing.
            () if error.source.kind() == std::io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            () if error.source.kind() == std::io::ErrorKind::NotADirectory => ErrorKind::Exists,
            () => ErrorKind::Unavailable,
        };
        split(kind, error)
    }
}

/// Keeps the message of `error` as ours and its cause as our cause, so nothing is said twice.
pub(crate) fn split<E: std::error::Error + Send + Sync + 'static>(
    kind: ErrorKind,
    error: E,
) -> Error {
    let message = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    let source = causes.into_iter().rev().fold(None, |source: Option<Cause>, message| {
        Some(Cause { message, source: source.map(Box::new) })
    });
    Error { kind, message, source: source.map(Into::into) }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Cause {
    message: String,
    #[source]
    source: Option<Box<Self>>,
}
