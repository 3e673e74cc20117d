//! The contract of a place that keeps objects.

use std::fmt;
use std::io;
use std::ops::Range;

use rustix::io::Errno;

/// Keeps named, immutable objects. All calls block and may be made from many threads at once.
///
/// The contract, which `lastgood_testkit::backend_contract` checks of every implementation:
///
/// - **Write-once.** [`put`](Self::put) creates or reports that the name is taken; of many racing
///   creators of one name exactly one sees [`PutOutcome::Created`]. Nothing is ever overwritten.
/// - **Whole or absent.** No reader ever sees part of an object, whatever happens to the writer.
/// - **Durable.** When `put` returns, with either outcome, the object and its name survive a power
///   cut. Others may see an object shortly before that, and a power cut may then still take it, unless
///   [`settle`](Self::settle) came between.
/// - **Visible.** A `get`, `stat` or `list` that starts after `put` returned sees the object.
/// - **Ranges past the end** are refused with [`ErrorKind::OutOfRange`], never shortened. So is a
///   range that ends before it starts.
/// - **No retries.** A call is tried once; whether to try again is for the caller, by
///   [`BackendError::is_transient`], or for the layer that does so, [`crate::layer::retry::Retry`].
///
/// Callers never store both `a` and `a/b`: a directory cannot hold them, so it is refused with
/// [`ErrorKind::Failed`] where it is noticed.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Where this is, for messages: a path or a URL without secrets.
    fn location(&self) -> &str;

    /// Stores an object whose bytes are the concatenation of `parts`, unless the name is taken.
    ///
    /// # Errors
    /// Whatever went wrong, the object is then absent or, where the answer was lost, whole. It may
    /// be visible without being durable, so a caller that cannot put it again must not rely on it.
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError>;

    /// Reads a whole object of at most `bytes_max` bytes. Nothing is allocated for a longer one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::OutOfRange`] when it is longer than `bytes_max`.
    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError>;

    /// Reads exactly `range` of an object into `out`, replacing what it held. The capacity of
    /// `out` is reused; after an error `out` is empty.
    ///
    /// Of an object that somebody else removed, a range may still be read for a while.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::OutOfRange`] when the object ends before `range.end`.
    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError>;

    /// Length of an object in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none.
    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError>;

    /// Calls `visit` for every object whose name starts with `prefix`, which is empty or ends
    /// with `/`, in no particular order. Unfinished writes are never shown. An object that is put
    /// or removed meanwhile may be shown or not; every other one is shown once.
    ///
    /// `visit` must not call the backend.
    ///
    /// # Errors
    /// After an error the listing is incomplete and must not be used.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError>;

    /// Removes an object. Removing one that is not there succeeds. When it returned, the object
    /// does not come back after a power cut.
    ///
    /// # Errors
    /// The object may or may not be there afterwards.
    fn remove(&self, name: &ObjectName) -> Result<(), BackendError>;

    /// Makes durable what others have put directly below `prefix`, which ends with `/`, and what
    /// they removed there: a writer that died may have come as far as a name that is seen and no
    /// further. Whoever is about to rely on an object without knowing that its `put` returned
    /// calls this first. Where there is nothing, nothing is done.
    ///
    /// # Errors
    /// Some of it may not survive a power cut.
    fn settle(&self, prefix: &str) -> Result<(), BackendError>;
}

/// Whether [`Backend::put`] stored the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is stored, by this call.
    Created,
    /// Another object had the name already and is untouched.
    Exists,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its full name.
    pub name: ObjectName,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was put, by the clock of whoever keeps it, seconds since 1970. It tells about how
    /// much earlier than another object it was put, and nothing that safety may rest on.
    pub modified: i64,
}

/// The name of an object: 1 to 8 segments of `[a-z0-9-]`, joined by `/`, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Box<str>);

impl ObjectName {
    /// Takes `name` if it is one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_segment = |segment: &str| {
            !segment.is_empty()
                && segment.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        let valid =
            name.len() <= 255 && name.split('/').count() <= 8 && name.split('/').all(is_segment);
        valid.then(|| Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory part, empty at the top, and the last segment.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

/// The directory that a list prefix means, if it is a prefix: empty, or a name and a `/`.
pub(crate) fn listed_directory(prefix: &str) -> io::Result<&str> {
    let directory = prefix.strip_suffix('/').unwrap_or(prefix);
    let is_prefix =
        prefix.is_empty() || (directory != prefix && ObjectName::new(directory).is_some());
    is_prefix.then_some(directory).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "a prefix is empty or a name that ends with /")
    })
}

/// The error of a read that an object is too short or too long for.
pub(crate) fn out_of_range(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong at a backend, with what it was doing to which object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object} in {location}")]
pub struct BackendError {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// The verb, as in "cannot *read* …".
    pub action: &'static str,
    /// Name of the object, or a prefix for a listing.
    pub object: String,
    /// Where the backend is.
    pub location: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Errors of a backend, told apart by what the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// The object is shorter than the range, or longer than the caller allows.
    OutOfRange,
    /// The place is full, or a quota is.
    NoSpace,
    /// Permission was refused, or the place is read-only.
    Denied,
    /// The process or the system can open no more files.
    TooManyOpen,
    /// The medium failed to give the object back; others may be fine.
    Unreadable,
    /// It may work when tried again: an interrupted or timed-out call.
    Transient,
    /// Anything else.
    Failed,
}

impl BackendError {
    /// Whether the same call may succeed later without anybody mending anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Transient | ErrorKind::TooManyOpen)
    }

    /// The same error once more, for whoever hears of it later.
    #[must_use]
    pub fn again(&self) -> Self {
        let source = match self.source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        Self { object: self.object.clone(), location: self.location.clone(), source, ..*self }
    }
}

impl From<&io::Error> for ErrorKind {
    /// The kind of what the system said, as every place on this machine tells them apart.
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::UnexpectedEof => Self::OutOfRange,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Transient
            }
            _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::MFILE | Errno::NFILE) => Self::TooManyOpen,
                _ => Self::Failed,
            },
        }
    }
}
