//! Inode flags, `FS_*_FL` of `linux/fs.h`.

use std::os::fd::BorrowedFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

/// Compress (btrfs, f2fs).
pub const COMPRESSED: u32 = 0x4;
/// The file cannot be changed, renamed, linked or removed.
pub const IMMUTABLE: u32 = 0x10;
/// The file can only grow.
pub const APPEND: u32 = 0x20;
/// `dump` leaves the file out.
pub const NODUMP: u32 = 0x40;
/// Reading does not touch the access time.
pub const NOATIME: u32 = 0x80;
/// Written in place (btrfs); can only be set while the file is empty.
pub const NOCOW: u32 = 0x80_0000;
/// Names are compared without case; can only be set while the directory is empty.
pub const CASEFOLD: u32 = 0x4000_0000;

/// Flags that are kept and can be set again: the above, and secrm, undelete, sync, no-compress,
/// journal-data, no-tail, dirsync, topdir and DAX. Everything else describes how the file system
/// keeps the file (extents, hashed directory, inline data, encryption, verity), or needs a project
/// id.
pub const SETTABLE: u32 = COMPRESSED
    | IMMUTABLE
    | APPEND
    | NODUMP
    | NOATIME
    | NOCOW
    | CASEFOLD
    | 0x1
    | 0x2
    | 0x8
    | 0x400
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x200_0000;

/// Flags that mean something only, or can be set only, while the file or directory is empty.
pub const EARLY: u32 = COMPRESSED | NOCOW | CASEFOLD | 0x400;

/// Flags that stand in the way of any change.
pub const LOCKING: u32 = IMMUTABLE | APPEND;

/// All flags of an open file or directory; `None` where the file system has none.
pub(crate) fn read(fd: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    match ioctl_getflags(fd) {
        Ok(flags) => Ok(Some(flags.bits())),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets exactly `bits`, as [`read`] gave them with changes.
pub(crate) fn write(fd: BorrowedFd<'_>, bits: u32) -> Result<(), Errno> {
    ioctl_setflags(fd, IFlags::from_bits_retain(bits))
}

/// Brings the bits in `mask` to those in `wanted`; where the file system or the process cannot
/// have them all, as many as possible.
///
/// Returns the bits that are not as wanted, with why the first is not.
pub(crate) fn change(fd: BorrowedFd<'_>, wanted: u32, mask: u32) -> Result<(), (u32, Errno)> {
    let wanted = wanted & mask;
    let current = match read(fd) {
        Ok(Some(current)) => current,
        Ok(None) if wanted == 0 => return Ok(()),
        Ok(None) => return Err((wanted, Errno::OPNOTSUPP)),
        Err(errno) => return Err((wanted, errno)),
    };
    let goal = current & !mask | wanted;
    if goal == current {
        return Ok(());
    }
    let Err(mut reason) = write(fd, goal) else {
        return Ok(());
    };
    let mut now = current;
    for bit in (0..32).map(|shift| 1 << shift).filter(|bit| (current ^ goal) & bit != 0) {
        match write(fd, now ^ bit) {
            Ok(()) => now ^= bit,
            Err(errno) => reason = errno,
        }
    }
    if now == goal { Ok(()) } else { Err((now ^ goal, reason)) }
}
