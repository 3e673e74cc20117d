//! How a new file or directory gets its name: whole, durable, once, and of the right owner.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fdatasync, fstat,
    linkat, mkdirat, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{DIRECTORY, LocalBackend, is_regular_file, sync_directory, writing};
use crate::PutOutcome;

impl LocalBackend {
    /// Puts by way of a file without a name, or returns nothing when there is no such thing.
    pub(super) fn put_unnamed(
        &self,
        directory: &OwnedFd,
        leaf: &str,
        parts: &[&[u8]],
    ) -> io::Result<Option<PutOutcome>> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = match openat(directory, ".", flags, FILE_MODE) {
            Ok(file) => file,
            // The manual has the first two; some FUSE file systems say the third.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.fill(&file, parts)?;
        let linked = match linkat(&file, "", directory, leaf, AtFlags::EMPTY_PATH) {
            // Refused to the unprivileged by kernels before 6.10.
            Err(Errno::NOENT) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(CWD, path, directory, leaf, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        };
        match linked {
            Ok(()) => Ok(Some(PutOutcome::Created)),
            Err(Errno::EXIST) => existing(directory, leaf).map(Some),
            // No /proc either.
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts by way of a temporary name.
    pub(super) fn put_named(
        &self,
        directory: &OwnedFd,
        leaf: &str,
        parts: &[&[u8]],
    ) -> io::Result<PutOutcome> {
        let temporary = temporary_name();
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, &temporary, flags, FILE_MODE)?;
        let published =
            self.fill(&file, parts).and_then(|()| publish(directory, &temporary, &file, leaf));
        if !matches!(published, Ok(Published::Renamed)) {
            // A temporary that stays does no harm, and is stale in a day.
            unlinkat(directory, &temporary, AtFlags::empty()).ok();
        }
        match published? {
            Published::Renamed | Published::Linked => Ok(PutOutcome::Created),
            Published::Taken => existing(directory, leaf),
        }
    }

    /// Makes `file` hold `parts`, durably, and belong to whom it should.
    fn fill(&self, file: &OwnedFd, parts: &[&[u8]]) -> io::Result<()> {
        if let Some(ownership) = &self.ownership {
            ownership.apply(file, ownership.file_mode)?;
        }
        writing::write(file, parts, &self.buffers)?;
        Ok(fdatasync(file)?)
    }

    /// The directory `path`, made if it is missing, in a way that survives a power cut.
    pub(super) fn durable_directory(&self, path: &str) -> io::Result<Arc<OwnedFd>> {
        let is_durable = path.is_empty() || self.durable().contains(path);
        match self.directory(path) {
            Ok(directory) if is_durable => return Ok(directory),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut at = Arc::clone(&self.root);
        for segment in path.split('/') {
            match self.make_directory(&at, segment) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let child = openat(&*at, segment, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            sync_directory(&at)?;
            at = Arc::new(child);
        }
        let mut durable = self.durable();
        if durable.len() >= DURABLE_DIRECTORIES_MAX {
            durable.clear();
        }
        durable.insert(path.into());
        Ok(at)
    }

    /// Makes a directory, which has its owner and mode before it has its name: another user who
    /// finds it there can write in it.
    fn make_directory(&self, at: &OwnedFd, name: &str) -> rustix::io::Result<()> {
        let Some(ownership) = &self.ownership else { return mkdirat(at, name, Mode::RWXU) };
        if statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(Errno::EXIST);
        }
        let make = |name: &str| {
            mkdirat(at, name, ownership.directory_mode)?;
            let made = openat(at, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            ownership.apply(&made, ownership.directory_mode)
        };
        let temporary = temporary_name();
        let made = make(&temporary)
            .and_then(|()| renameat_with(at, &temporary, at, name, RenameFlags::NOREPLACE));
        if made.is_err() {
            unlinkat(at, &temporary, AtFlags::REMOVEDIR).ok();
        }
        match made {
            // Without such renames the mode comes a moment after the name.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => make(name),
            made => made,
        }
    }
}

/// Whose a new file or directory is, and what the owner's group may do with it.
#[derive(Debug)]
pub(super) struct Ownership {
    uid: Option<Uid>,
    gid: Gid,
    file_mode: Mode,
    directory_mode: Mode,
}

impl Ownership {
    /// What things below a root directory of this status get, unless what this process makes is
    /// right as it is.
    pub(super) fn below(root: &Stat) -> Option<Self> {
        let is_shared = Mode::from_raw_mode(root.st_mode).contains(Mode::WGRP);
        let is_superuser = rustix::process::geteuid().is_root();
        let uid = (is_superuser && root.st_uid != 0).then(|| Uid::from_raw(root.st_uid));
        let shared_directory = Mode::RWXU | Mode::RWXG | Mode::SGID;
        (is_shared || uid.is_some()).then(|| Self {
            uid,
            gid: Gid::from_raw(root.st_gid),
            file_mode: if is_shared { FILE_MODE | Mode::RGRP } else { FILE_MODE },
            directory_mode: if is_shared { shared_directory } else { Mode::RWXU },
        })
    }

    fn apply(&self, made: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
        match fchown(made, self.uid, Some(self.gid)) {
            // A user who may write here without being of the group, or an owner whom this user
            // namespace does not know. That it is stored matters more.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => fchmod(made, mode),
            Err(error) => Err(error),
        }
    }
}

/// How a temporary file got its name.
enum Published {
    Renamed,
    Linked,
    Taken,
}

/// Gives a temporary file the name `leaf`, unless that is taken.
fn publish(
    directory: &OwnedFd,
    temporary: &str,
    file: &OwnedFd,
    leaf: &str,
) -> io::Result<Published> {
    match renameat_with(directory, temporary, directory, leaf, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(Published::Renamed),
        Err(Errno::EXIST) => return Ok(Published::Taken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    // Renames cannot be told not to replace here; a link never does.
    match linkat(directory, temporary, directory, leaf, AtFlags::empty()) {
        Ok(()) => Ok(Published::Linked),
        // NFS may have linked it at a request whose answer was lost, and refused the repeated one.
        Err(Errno::EXIST) if fstat(file)?.st_nlink > 1 => Ok(Published::Linked),
        Err(Errno::EXIST) => Ok(Published::Taken),
        Err(error) => Err(error.into()),
    }
}

/// The outcome of a put that found its name taken.
fn existing(directory: &OwnedFd, leaf: &str) -> io::Result<PutOutcome> {
    match is_regular_file(directory, leaf) {
        Ok(true) => Ok(PutOutcome::Exists),
        Ok(false) => Err(Errno::EXIST.into()),
        // Removed since: the name is free again.
        Err(Errno::NOENT) => Err(Errno::AGAIN.into()),
        Err(error) => Err(error.into()),
    }
}

/// A name that no object has. It is made exclusively, so to guess it gains nothing. The keys of a
/// hasher are random enough, and a name that no object keeps needs no `Random` from the caller.
fn temporary_name() -> String {
    format!("{TEMPORARY_PREFIX}{:016x}", RandomState::new().build_hasher().finish())
}

pub(super) const TEMPORARY_PREFIX: &str = ".tmp-";
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Forgetting some costs a sync each when they are written to again.
const DURABLE_DIRECTORIES_MAX: usize = 4096;
