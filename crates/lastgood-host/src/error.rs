//! What went wrong with which path.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// A call to the operating system that failed, with what it was for.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct HostError {
    /// The verb, as in "cannot *read* …".
    pub action: &'static str,
    /// The path as the user knows it; for messages only, it may be longer than the system allows.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl HostError {
    pub(crate) fn new(action: &'static str, path: PathBuf, errno: Errno) -> Self {
        Self { action, path, source: errno.into() }
    }

    /// Error number of the system; 0 if the failure was not the system's.
    fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    fn is(&self, errnos: &[Errno]) -> bool {
        errnos.iter().any(|errno| errno.raw_os_error() == self.errno())
    }

    /// The name is gone. Between a listing and the next look this is no failure of anything.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is(&[Errno::NOENT])
    }

    /// The name is taken.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.is(&[Errno::EXIST])
    }

    /// A directory that was to be removed or replaced is not empty.
    #[must_use]
    pub fn is_not_empty(&self) -> bool {
        self.is(&[Errno::NOTEMPTY])
    }

    /// The file system has no hard links, or no more of them for this file.
    #[must_use]
    pub fn is_no_link(&self) -> bool {
        self.is(&[Errno::PERM, Errno::OPNOTSUPP, Errno::MLINK, Errno::NOSYS])
    }

    /// Permissions, flags or a read-only file system forbid it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.is(&[Errno::ACCESS, Errno::PERM, Errno::ROFS])
    }

    /// The disk or the quota is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        self.is(&[Errno::NOSPC, Errno::DQUOT])
    }

    /// The process or the system has no file descriptor left.
    #[must_use]
    pub fn is_too_many_open(&self) -> bool {
        self.is(&[Errno::MFILE, Errno::NFILE])
    }

    /// The file is a program that runs, which the system lets nobody write to.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is(&[Errno::TXTBSY])
    }

    /// The disk does not give back what it was given, as far as it says so itself.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.is(&[Errno::IO, Errno::BADMSG, Errno::UCLEAN])
    }

    /// Something about this one path: others of the same file system may well be changed.
    #[must_use]
    pub fn is_of_one_path(&self) -> bool {
        let others = [Errno::ACCESS, Errno::PERM, Errno::BUSY, Errno::TXTBSY, Errno::XDEV];
        let kinds = [Errno::NOTDIR, Errno::ISDIR, Errno::LOOP, Errno::NOTEMPTY, Errno::EXIST];
        let names = [Errno::NAMETOOLONG, Errno::INVAL, Errno::ILSEQ];
        self.is_unreadable() || [&others[..], &kinds, &names].iter().any(|errnos| self.is(errnos))
    }

    /// A directory was expected and something else is there, a symbolic link for instance.
    #[must_use]
    pub fn is_not_directory(&self) -> bool {
        self.is(&[Errno::NOTDIR, Errno::LOOP])
    }
}
