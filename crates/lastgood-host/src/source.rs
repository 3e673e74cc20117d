//! Reading one regular file, while others may be writing it.
//!
//! Open first, then look at what was opened: between a listing and the open, a file may have
//! become a pipe. Never mapped into memory, where a truncation by another process would kill this
//! one.

mod extents;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{self, Advice, OFlags};
use rustix::io::{self, Errno};

use crate::HostError;
use crate::metadata::{self, Details};
use crate::scan::{Directory, Kind, Stat};
use crate::sys;

pub use extents::Extents;

/// An open regular file. Holds one file descriptor; reads by position, so threads may share it.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
    path: PathBuf,
    stat: Stat,
}

/// Why a file could not be opened for reading.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The name no longer stands for a regular file.
    #[error("{} is no longer a regular file", path.display())]
    ChangedKind {
        /// The path.
        path: PathBuf,
        /// What it is now; `None` where only that it is no file is known.
        now: Option<Kind>,
    },
    /// The system refused.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Whether a file was left alone while it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stability {
    /// Size, mtime and ctime are what they were at the opening.
    Stable,
    /// Something wrote to it, or changed its metadata; this is how it looks now. What was read may
    /// be of more than one moment.
    Changed(Box<Stat>),
}

impl AsFd for SourceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Files at least this long are announced to the kernel as read from start to end.
const SEQUENTIAL_BYTES_MIN: u64 = 1 << 20;

impl SourceFile {
    /// Opens `name` in `directory` without following a link, without waiting for a pipe's writer
    /// and, where possible, without touching the access time.
    ///
    /// # Errors
    /// [`SourceError::ChangedKind`] when it is no regular file by now;
    /// [`HostError::is_not_found`] when it is gone.
    pub fn open(directory: &Directory, name: &[u8]) -> Result<Self, SourceError> {
        let changed = |now| SourceError::ChangedKind { path: directory.path_of(name), now };
        let fd = match sys::open_name(directory.fd(), name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::LOOP) => return Err(changed(Some(Kind::Symlink))),
            // A socket, or a device without a driver.
            Err(Errno::NXIO | Errno::NODEV) => return Err(changed(None)),
            Err(errno) => return Err(directory.error("open", name, errno).into()),
        };
        let raw =
            sys::stat_open(fd.as_fd()).map_err(|errno| directory.error("examine", name, errno))?;
        let stat = Stat::from_statx(&raw).ok_or_else(|| changed(None))?;
        if stat.kind != Kind::File {
            return Err(changed(Some(stat.kind)));
        }
        if stat.size >= SEQUENTIAL_BYTES_MIN {
            // Advice only: a file system without read-ahead loses nothing.
            fs::fadvise(&fd, 0, None, Advice::Sequential).ok();
        }
        Ok(Self { fd, path: directory.path_of(name), stat })
    }

    /// Metadata of what was opened, at the opening. It, and not what a listing said earlier,
    /// belongs to the bytes read from here.
    #[must_use]
    pub const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Extended attributes and inode flags.
    #[must_use]
    pub fn details(&self) -> Details {
        metadata::capture_open(self.fd.as_fd(), &self.path)
    }

    /// Fills `buffer` from `offset`; returns fewer bytes only where the file ends.
    ///
    /// # Errors
    /// What the system says, a bad sector for instance. What `buffer` then holds is undefined.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, HostError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let position = offset.saturating_add(filled as u64);
            match io::pread(&self.fd, &mut buffer[filled..], position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("read", errno)),
            }
        }
        Ok(filled)
    }

    /// The ranges that hold data, ascending and not touching; between them, and up to the size at
    /// the opening, the file reads as zeros. One range, found without a call of the system, for a
    /// file that is fully allocated.
    #[must_use]
    pub fn extents(&self) -> Extents<'_> {
        self.extents_from(0)
    }

    /// As [`extents`](Self::extents), for what lies at `offset` or after it.
    #[must_use]
    pub fn extents_from(&self, offset: u64) -> Extents<'_> {
        Extents::new(self.fd.as_fd(), &self.path, &self.stat, offset)
    }

    /// Ends the reading with the question whether somebody wrote meanwhile.
    ///
    /// A change of metadata alone, a new hard link for instance, counts as a change: ctime is the
    /// only stamp that a writer cannot set back.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(self) -> Result<Stability, HostError> {
        let raw = sys::stat_open(self.fd.as_fd()).map_err(|errno| self.error("examine", errno))?;
        Ok(match Stat::from_statx(&raw) {
            Some(now) if !now.is_unchanged_since(&self.stat) => Stability::Changed(Box::new(now)),
            _ => Stability::Stable,
        })
    }

    fn error(&self, action: &'static str, errno: Errno) -> HostError {
        HostError::new(action, self.path.clone(), errno)
    }
}
