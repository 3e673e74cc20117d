//! One open directory of a source, and the root a user names.

use std::ffi::CString;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lastgood_format::entry::NAME_BYTES_MAX;
use rustix::fs::{self, OFlags, Statx};
use rustix::io::Errno;

use super::{Kind, ListBuffer, Listing, Stat};
use crate::HostError;
use crate::metadata::{self, Details};
use crate::sys;

/// An open directory. Everything below is reached from here by name, never by path.
///
/// Holds one file descriptor. May be used by several threads at once.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Held while listing, because the position in the directory belongs to the descriptor;
    /// whether that has left the start.
    listed: Mutex<bool>,
}

/// What a user named as a source.
#[derive(Debug)]
pub enum Root {
    /// A directory, whose content is meant.
    Directory(Directory),
    /// Anything else.
    Entry(RootEntry),
}

/// A source that is a single entry: file, symbolic link, pipe, socket or device node.
#[derive(Debug)]
pub struct RootEntry {
    /// The directory it lies in. Open for reaching the entry only; it may not be listable.
    pub parent: Directory,
    /// Its name there.
    pub name: Box<[u8]>,
    /// Its metadata.
    pub stat: Stat,
}

impl Root {
    /// Opens a source. A symbolic link stands for itself, as everywhere below a source, unless the
    /// path ends in `/` or `/.`.
    ///
    /// # Errors
    /// When the path does not exist or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let Some((parent, name)) = split(path) else {
            return Directory::open_root(path).map(Self::Directory);
        };
        let fd = sys::open_path(parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| HostError::new("open", path.into(), errno))?;
        let parent = Directory::from_parts(fd, parent.into());
        let stat = parent.stat(name)?;
        if stat.kind != Kind::Directory {
            return Ok(Self::Entry(RootEntry { parent, name: name.into(), stat }));
        }
        let mut directory = parent.open_child(name)?;
        directory.path = path.into();
        Ok(Self::Directory(directory))
    }
}

/// Parent and last name; `None` when the path can only mean a directory.
fn split(path: &Path) -> Option<(&Path, &[u8])> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
        return None;
    }
    let name = path.file_name()?.as_bytes();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Some((parent.unwrap_or(Path::new(".")), name))
}

impl Directory {
    /// Opens a directory by path, following symbolic links: the path is the user's own.
    ///
    /// # Errors
    /// When it does not exist, is no directory or may not be read.
    pub fn open_root(path: &Path) -> Result<Self, HostError> {
        let fd = sys::open_path(path, sys::READ_DIRECTORY)
            .map_err(|errno| HostError::new("open directory", path.into(), errno))?;
        Ok(Self::from_parts(fd, path.into()))
    }

    /// Metadata of what `path` leads to, following symbolic links; it need not be readable.
    ///
    /// # Errors
    /// When it does not exist or a directory on the way may not be entered.
    pub fn stat_path(path: &Path) -> Result<Stat, HostError> {
        let stat = sys::open_path(path, OFlags::PATH)
            .and_then(|fd| known(sys::stat_open(std::os::fd::AsFd::as_fd(&fd))));
        stat.map_err(|errno| HostError::new("examine", path.into(), errno))
    }

    /// Opens a directory in this one, without following a link and where possible without
    /// touching its access time.
    ///
    /// # Errors
    /// [`HostError::is_not_directory`] when the name stands for something else by now.
    pub fn open_child(&self, name: &[u8]) -> Result<Self, HostError> {
        let fd = sys::open_name(self.fd(), name, sys::READ_DIRECTORY)
            .map_err(|errno| self.error("open directory", name, errno))?;
        Ok(Self::from_parts(fd, self.path_of(name)))
    }

    /// Opens a directory any number of levels below, `a/b/c`, of any length; no link is followed.
    ///
    /// # Errors
    /// [`HostError::is_not_directory`] when a component is a link or no directory; `EINVAL` when
    /// one is not a valid name, as in `..`.
    pub fn open_descendant(&self, relative: &[u8]) -> Result<Self, HostError> {
        let fd = sys::open_beneath(self.fd(), relative, sys::READ_DIRECTORY)
            .map_err(|errno| self.error("open directory", relative, errno))?;
        Ok(Self::from_parts(fd, self.path_of(relative)))
    }

    /// Where it is, for messages: it may have been renamed since, or be longer than the system
    /// accepts.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `name` in it is, for messages.
    #[must_use]
    pub fn path_of(&self, name: &[u8]) -> PathBuf {
        sys::join(&self.path, name)
    }

    /// Metadata of the directory itself, of what is open and not of what bears its name now.
    ///
    /// # Errors
    /// What the system says, which should be nothing.
    pub fn own_stat(&self) -> Result<Stat, HostError> {
        let raw = sys::stat_open(self.fd());
        known(raw).map_err(|errno| HostError::new("examine", self.path.clone(), errno))
    }

    /// Extended attributes and inode flags of the directory itself.
    #[must_use]
    pub fn own_details(&self) -> Details {
        metadata::capture_open(self.fd(), &self.path)
    }

    /// Reads all names, sorted. One call of the system per 64 KiB of names, none per name.
    ///
    /// # Errors
    /// An incomplete listing is never returned: a name that was not listed would look deleted.
    pub fn list(&self, buffer: &mut ListBuffer) -> Result<Listing, HostError> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let start = if *listed { fs::seek(&self.fd, fs::SeekFrom::Start(0)) } else { Ok(0) };
        *listed = true;
        start
            .and_then(|_| Listing::read(self.fd(), buffer))
            .map_err(|errno| HostError::new("list", self.path.clone(), errno))
    }

    /// Metadata of every name of `listing`, in its order, read as the iterator advances.
    #[must_use]
    pub fn scan<'a>(&'a self, listing: &'a Listing) -> Scan<'a> {
        self.scan_range(listing, 0..listing.len())
    }

    /// As [`scan`](Self::scan), for the names at `range`: several threads can share a listing.
    ///
    /// # Panics
    /// If the range ends past the listing.
    #[must_use]
    pub fn scan_range<'a>(&'a self, listing: &'a Listing, range: Range<usize>) -> Scan<'a> {
        assert!(range.end <= listing.len(), "scan past the end of a listing");
        Scan { directory: self, listing, range }
    }

    /// Metadata of one name, which is not followed.
    ///
    /// # Errors
    /// [`HostError::is_not_found`] when it is gone.
    pub fn stat(&self, name: &[u8]) -> Result<Stat, HostError> {
        let c_name = CString::new(name).map_err(|_| self.error("examine", name, Errno::INVAL))?;
        known(sys::stat_name(self.fd(), &c_name))
            .map_err(|errno| self.error("examine", name, errno))
    }

    /// Extended attributes and inode flags of one name. `stat` says what it is: what is neither
    /// file nor directory has no flags and is never opened.
    ///
    /// Two to four calls of the system: for new and changed entries only. For a file that is to be
    /// read anyway, [`crate::source::SourceFile::details`] is cheaper.
    #[must_use]
    pub fn details(&self, name: &[u8], stat: &Stat) -> Details {
        metadata::capture_name(self.fd(), name, stat.kind, &self.path)
    }

    /// Target of a symbolic link, raw.
    ///
    /// # Errors
    /// `EINVAL` when the name is no link by now.
    pub fn read_link(&self, name: &[u8]) -> Result<Box<[u8]>, HostError> {
        fs::readlinkat(&self.fd, name, Vec::with_capacity(256))
            .map(|target| target.into_bytes().into())
            .map_err(|errno| self.error("read link", name, errno))
    }

    pub(crate) const fn from_parts(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path, listed: Mutex::new(false) }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn error(&self, action: &'static str, name: &[u8], errno: Errno) -> HostError {
        HostError::new(action, self.path_of(name), errno)
    }
}

/// The entries of a directory, in the order of their names; see [`Directory::scan`].
#[derive(Debug)]
pub struct Scan<'a> {
    directory: &'a Directory,
    listing: &'a Listing,
    range: Range<usize>,
}

/// A name and what is known of it.
#[derive(Debug)]
pub struct Scanned<'a> {
    /// Raw name.
    pub name: &'a [u8],
    /// What the look at it gave.
    pub seen: Seen,
}

/// What a look at a listed name gives.
#[derive(Debug)]
pub enum Seen {
    /// Its metadata.
    Stat(Stat),
    /// It was removed since the listing: count it, nothing is wrong.
    Vanished,
    /// It is there and could not be examined: report it, and never take it for deleted.
    Unreadable(HostError),
}

impl<'a> Iterator for Scan<'a> {
    type Item = Scanned<'a>;

    fn next(&mut self) -> Option<Scanned<'a>> {
        let index = self.range.next()?;
        let name = self.listing.name(index);
        // The kernel refuses to list names with a `/`, so only the length is in question.
        let stat = if name.len() <= NAME_BYTES_MAX {
            known(sys::stat_name(self.directory.fd(), self.listing.c_name(index)))
        } else {
            Err(Errno::NAMETOOLONG)
        };
        let seen = match stat {
            Ok(stat) => Seen::Stat(stat),
            Err(Errno::NOENT) => Seen::Vanished,
            Err(errno) => Seen::Unreadable(self.directory.error("examine", name, errno)),
        };
        Some(Scanned { name, seen })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl ExactSizeIterator for Scan<'_> {}

fn known(raw: Result<Statx, Errno>) -> Result<Stat, Errno> {
    Stat::from_statx(&raw?).ok_or(Errno::OPNOTSUPP)
}
