//! What all threads of one restore share.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::metadata::{ApplyPolicy, Metadata};
use lastgood_host::source::SourceFile;
use lastgood_host::target::{Target, TargetDirectory, TargetFile};
use lastgood_repo::{BlobReader, RepoError, RepoErrorKind};

use crate::error::{Error, ErrorKind};
use crate::job::Control;
use crate::restore::owners::OwnerMap;
use crate::restore::plan::Overwrite;
use crate::restore::report::{Record, chain};

/// What all threads of one run share.
pub(crate) struct Context<'a> {
    pub(crate) control: &'a Control,
    pub(crate) reader: &'a BlobReader,
    /// `None` when nothing is there and nothing is written.
    pub(crate) target: Option<&'a Target>,
    /// Path of the target, for messages.
    pub(crate) target_path: &'a Path,
    /// Whether anything is changed, or all is only compared.
    pub(crate) writes: bool,
    /// Whether what was just written is compared.
    pub(crate) rereads: bool,
    pub(crate) overwrite: Overwrite,
    pub(crate) delete: bool,
    pub(crate) sparse: bool,
    pub(crate) policy: ApplyPolicy,
    pub(crate) owners: OwnerMap,
    pub(crate) record: Record<'a>,
    pub(crate) folders: OpenRing<TargetDirectory>,
    pub(crate) readers: OpenRing<SourceFile>,
    pub(crate) writers: OpenRing<TargetFile>,
    pub(crate) stop: Stop,
}

impl Context<'_> {
    /// Whether to begin nothing more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.control.is_cancelled() || self.stop.is_set.load(Ordering::Relaxed)
    }

    /// What `entry` is to look like on this host.
    pub(crate) fn metadata<'e>(&self, entry: &'e Entry) -> Metadata<'e> {
        let wanted = Metadata::from(entry);
        let (uid, gid) = (self.owners.user(entry.uid), self.owners.group(entry.gid));
        Metadata { uid, gid, ..wanted }
    }

    /// Trouble with one entry of the target. A full disk ends the run, everything else only the
    /// entry.
    pub(crate) fn host_error(&self, path: PathBuf, error: &HostError) {
        if error.is_no_space() {
            let message = format!(
                "the disk of the target is full: {}; what is restored stays, and running it again \
                 with more room goes on from there",
                chain(error)
            );
            self.stop.set(Error::new(ErrorKind::NoSpace, message));
        } else {
            self.record.problem(path, self.verb(), error);
        }
    }

    /// Whether `error` says that something stored is damaged. Any other trouble with the
    /// repository ends the run: every further file would only say the same.
    pub(crate) fn is_damage(&self, error: RepoError) -> Option<RepoError> {
        if error.kind() == RepoErrorKind::Damaged {
            return Some(error);
        }
        self.stop.set(error.into());
        None
    }

    pub(crate) const fn verb(&self) -> &'static str {
        if self.writes { "restore" } else { "compare" }
    }
}

/// The first error that ends the run.
#[derive(Default)]
pub(crate) struct Stop {
    is_set: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Stop {
    pub(crate) fn set(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.is_set.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Option<Error> {
        lock(&self.error).take()
    }
}

/// Something that is open, unless it was closed to make room and must be opened again.
pub(crate) type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// Bounds how many slots are filled: the one filled first is emptied first.
pub(crate) struct OpenRing<T> {
    ring: Mutex<VecDeque<Weak<Mutex<Option<Arc<T>>>>>>,
    max: usize,
}

impl<T> OpenRing<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { ring: Mutex::default(), max }
    }

    /// Notes that `slot` was filled. The caller may hold it locked.
    pub(crate) fn filled(&self, slot: &Slot<T>) {
        let mut closed = Vec::new();
        let mut ring = lock(&self.ring);
        ring.push_back(Arc::downgrade(slot));
        for _ in 0..ring.len().saturating_sub(self.max) {
            let Some(oldest) = ring.pop_front() else {
                break;
            };
            let Some(slot) = oldest.upgrade() else {
                continue;
            };
            // One that is locked is in use. Waiting for it here could wait for ever.
            match slot.try_lock() {
                Ok(mut slot) => closed.extend(slot.take()),
                Err(_) => ring.push_back(oldest),
            };
        }
        // Closing takes time that nobody should wait for.
        drop(ring);
        drop(closed);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
