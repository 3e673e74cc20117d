//! Reading what one entry has beyond its `statx`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use lastgood_format::entry::Xattr;
use lastgood_format::limits::ENTRY_XATTR_BYTES_MAX;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::xattr::Place;
use super::{Details, flags};
use crate::HostError;
use crate::scan::{Kind, Stat};
use crate::sys;

/// Details of what is open for reading.
pub(crate) fn capture_open(fd: BorrowedFd<'_>, path: &Path) -> Details {
    let mut details = Details::default();
    details.read_xattrs(&Place::Open(fd), || path.into());
    details.read_flags(fd, || path.into());
    details
}

/// Details of a name that was a `kind` a moment ago. Only files and directories are opened.
pub(crate) fn capture_name(
    directory: BorrowedFd<'_>,
    name: &[u8],
    kind: Kind,
    directory_path: &Path,
) -> Details {
    let path = || sys::join(directory_path, name);
    let mut details = Details::default();
    let flags = match kind {
        Kind::File => OFlags::RDONLY | OFlags::NONBLOCK,
        Kind::Directory => sys::READ_DIRECTORY,
        _ => {
            details.read_xattrs(&Place::name(directory, name), path);
            return details;
        }
    };
    match open_again(directory, name, flags, kind) {
        Ok(fd) => {
            details.read_xattrs(&Place::Open(fd.as_fd()), path);
            details.read_flags(fd.as_fd(), path);
        }
        Err(errno) => {
            details.unread.push(HostError::new("read the inode flags of", path(), errno));
            details.read_xattrs(&Place::name(directory, name), path);
        }
    }
    details
}

/// Opens a name and makes sure that it still is a `kind`: a driver must never see our requests.
fn open_again(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    kind: Kind,
) -> Result<std::os::fd::OwnedFd, Errno> {
    let fd = sys::open_name(directory, name, flags)?;
    let now = Stat::from_statx(&sys::stat_open(fd.as_fd())?).map(|stat| stat.kind);
    if now == Some(kind) { Ok(fd) } else { Err(Errno::STALE) }
}

impl Details {
    fn read_xattrs(&mut self, place: &Place<'_>, path: impl Fn() -> PathBuf) {
        let names = match place.names() {
            Ok(names) if names.is_empty() => return,
            Ok(names) => names,
            Err(errno) => return self.unread("list the extended attributes of", path(), errno),
        };
        let mut xattrs = Vec::with_capacity(names.len());
        let mut room = ENTRY_XATTR_BYTES_MAX;
        for name in names {
            match place.get(&name) {
                // XFS lets one entry have a gigabyte of them, and any user may set them.
                Ok(Some(value)) if name.len() + value.len() > room => {
                    self.unread("keep all extended attributes of", path(), Errno::TOOBIG);
                    break;
                }
                Ok(Some(value)) => {
                    room -= name.len() + value.len();
                    xattrs.push(Xattr { name, value });
                }
                // Removed since they were listed.
                Ok(None) => {}
                Err(errno) => self.unread("read an extended attribute of", path(), errno),
            }
        }
        self.xattrs = (!xattrs.is_empty()).then(|| xattrs.into());
    }

    fn read_flags(&mut self, fd: BorrowedFd<'_>, path: impl Fn() -> PathBuf) {
        match flags::read(fd) {
            Ok(bits) => self.flags = bits.unwrap_or(0) & flags::SETTABLE,
            Err(errno) => self.unread("read the inode flags of", path(), errno),
        }
    }

    fn unread(&mut self, action: &'static str, path: PathBuf, errno: Errno) {
        self.unread.push(HostError::new(action, path, errno));
    }
}
