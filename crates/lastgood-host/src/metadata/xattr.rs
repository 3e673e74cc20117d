//! Extended attributes by whichever route reaches the entry.

use std::os::fd::BorrowedFd;

use lastgood_format::entry::Xattr;
use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use crate::sys;

/// An entry whose attributes are meant. No route follows a link that the entry may be.
pub(super) enum Place<'a> {
    /// Open for reading or writing.
    Open(BorrowedFd<'a>),
    /// Open with `O_PATH`: its name in `/proc`, which must be resolved to the end.
    Path(Vec<u8>),
    /// A name in an open directory, by the directory's name in `/proc`; the last component is not
    /// resolved.
    Name(Vec<u8>),
}

/// Linux's limits of the list of names and of one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const BYTES_MAX: usize = 64 << 10;

impl Place<'_> {
    pub(super) fn path(fd: BorrowedFd<'_>) -> Self {
        Self::Path(sys::proc_path(fd, None))
    }

    pub(super) fn name(directory: BorrowedFd<'_>, name: &[u8]) -> Self {
        Self::Name(sys::proc_path(directory, Some(name)))
    }

    /// All names, sorted. Empty where the file system has no attributes.
    pub(super) fn names(&self) -> Result<Vec<Box<[u8]>>, Errno> {
        let mut small = [0; 1024];
        let mut large = Vec::new();
        let list = match self.list_into(&mut small) {
            Ok(length) => &small[..length],
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) => {
                large.resize(BYTES_MAX, 0);
                let length = self.list_into(&mut large)?;
                &large[..length]
            }
            Err(errno) => return Err(errno),
        };
        let names = list.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<Box<[u8]>> = names.map(Box::from).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// One value; `None` when there is none of that name.
    pub(super) fn get(&self, name: &[u8]) -> Result<Option<Box<[u8]>>, Errno> {
        let mut small = [0; 1024];
        match self.get_into(name, &mut small) {
            Ok(length) => Ok(Some(small[..length].into())),
            Err(Errno::NODATA) => Ok(None),
            Err(Errno::RANGE) => {
                let mut large = vec![0; BYTES_MAX];
                let length = self.get_into(name, &mut large)?;
                Ok(Some(large[..length].into()))
            }
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn set(&self, xattr: &Xattr) -> Result<(), Errno> {
        let (name, value, flags) = (&*xattr.name, &*xattr.value, XattrFlags::empty());
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, flags),
            Self::Path(path) => fs::setxattr(&**path, name, value, flags),
            Self::Name(path) => fs::lsetxattr(&**path, name, value, flags),
        }
    }

    pub(super) fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        let removed = match self {
            Self::Open(fd) => fs::fremovexattr(fd, name),
            Self::Path(path) => fs::removexattr(&**path, name),
            Self::Name(path) => fs::lremovexattr(&**path, name),
        };
        match removed {
            Err(Errno::NODATA) => Ok(()),
            removed => removed,
        }
    }

    fn list_into(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fs::flistxattr(fd, buffer),
            Self::Path(path) => fs::listxattr(&**path, buffer),
            Self::Name(path) => fs::llistxattr(&**path, buffer),
        }
    }

    fn get_into(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fs::fgetxattr(fd, name, buffer),
            Self::Path(path) => fs::getxattr(&**path, name, buffer),
            Self::Name(path) => fs::lgetxattr(&**path, name, buffer),
        }
    }
}
