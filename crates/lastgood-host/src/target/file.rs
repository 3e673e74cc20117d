//! A regular file that is being written.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, FallocateFlags};
use rustix::io::{self, Errno};

use crate::HostError;
use crate::metadata::{self, ApplyPolicy, Handle, Metadata, Unset, flags};
use crate::scan::Stat;
use crate::source::SourceFile;
use crate::sys;

/// An open regular file, readable and writable. Holds one file descriptor; reads and writes by
/// position, so threads may share it. Nothing is buffered: dropping it loses nothing.
#[derive(Debug)]
pub struct TargetFile {
    fd: OwnedFd,
    path: PathBuf,
}

/// What a hole is filled with where the file system knows no holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl TargetFile {
    pub(super) const fn new(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Where it was opened, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its metadata now. More than one of [`Stat::links`] means that writing here changes other
    /// names too: write a new file and rename it over this one instead.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self) -> Result<Stat, HostError> {
        let raw = sys::stat_open(self.fd.as_fd()).map_err(|errno| self.error("examine", errno))?;
        Stat::from_statx(&raw).ok_or_else(|| self.error("examine", Errno::INVAL))
    }

    /// Writes all of `bytes` at `offset`. Ranges that are never written are holes.
    ///
    /// # Errors
    /// [`HostError::is_no_space`]; part of the bytes may be written then.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), HostError> {
        let mut written = 0;
        while written < bytes.len() {
            let position = offset.saturating_add(written as u64);
            match io::pwrite(&self.fd, &bytes[written..], position) {
                Ok(0) => return Err(self.error("write", Errno::NOSPC)),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("write", errno)),
            }
        }
        Ok(())
    }

    /// Fills `buffer` from `offset`; returns fewer bytes only where the file ends.
    ///
    /// # Errors
    /// What the system says. What `buffer` then holds is undefined.
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

    /// Makes `range` read as zeros and gives its space back; where the file system cannot, writes
    /// zeros. The length of the file stays, and so does what lies past its end.
    ///
    /// # Errors
    /// What the system says.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<(), HostError> {
        let range = range.start..range.end.min(self.stat()?.size);
        if range.is_empty() {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = range.end - range.start;
        match sys::retry(|| fs::fallocate(&self.fd, flags, range.start, length)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(range),
            done => done.map_err(|errno| self.error("punch a hole into", errno)),
        }
    }

    /// Cuts the file, or extends it by a hole. The size of a sparse file is set by this.
    ///
    /// # Errors
    /// `EFBIG` when the file system has no files of this length.
    pub fn set_len(&self, bytes: u64) -> Result<(), HostError> {
        sys::retry(|| fs::ftruncate(&self.fd, bytes))
            .map_err(|errno| self.error("set the length of", errno))
    }

    /// Shares all bytes of another file, where the file system can; what is written here afterwards
    /// is shared no more. `false` where it cannot, and nothing changed.
    ///
    /// # Errors
    /// [`HostError::is_no_space`] among others.
    pub fn share(&self, from: &SourceFile) -> Result<bool, HostError> {
        match fs::ioctl_ficlone(&self.fd, from) {
            Ok(()) => Ok(true),
            // Another file system, none that shares, bytes that are not there yet (ZFS).
            Err(
                Errno::XDEV
                | Errno::OPNOTSUPP
                | Errno::NOTTY
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::AGAIN
                | Errno::PERM,
            ) => Ok(false),
            Err(errno) => Err(self.error("share bytes with", errno)),
        }
    }

    /// Locks the file against others who ask for the same lock, until it is closed or the process
    /// ends; `false` when another has it.
    ///
    /// # Errors
    /// Where the file system has no locks.
    pub fn try_lock(&self) -> Result<bool, HostError> {
        match sys::retry(|| fs::flock(&self.fd, fs::FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(self.error("lock", errno)),
        }
    }

    /// Sets flags that a file can only have while it is empty ([`flags::EARLY`]); those that the
    /// file system does not know are left out and reported by [`apply`](Self::apply).
    pub fn set_early_flags(&self, bits: u32) {
        if bits & flags::EARLY != 0 {
            flags::change(self.fd.as_fd(), bits, flags::EARLY).ok();
        }
    }

    /// Sets all metadata; after the last write, which would change it again.
    #[must_use]
    pub fn apply(&self, wanted: &Metadata<'_>, policy: ApplyPolicy) -> Vec<Unset> {
        metadata::apply(Handle::Open(self.fd.as_fd()), wanted, policy)
    }

    pub(super) fn write_zeros(&self, range: Range<u64>) -> Result<(), HostError> {
        let mut position = range.start;
        while position < range.end {
            let length = (range.end - position).min(ZEROS.len() as u64);
            let zeros = usize::try_from(length).map_or(&ZEROS[..], |length| &ZEROS[..length]);
            self.write_at(zeros, position)?;
            position += length;
        }
        Ok(())
    }

    fn error(&self, action: &'static str, errno: Errno) -> HostError {
        HostError::new(action, self.path.clone(), errno)
    }
}
