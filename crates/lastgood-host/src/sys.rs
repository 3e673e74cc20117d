//! The system calls all modules share. Safe wrappers of `rustix` suffice so far; if `unsafe` is
//! ever needed, it belongs here and nowhere else.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lastgood_format::entry::Entry;
use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// Longest relative path given to one call; the kernel's limit is 4096 with the final NUL.
const RELATIVE_BYTES_MAX: usize = 4000;

/// What is asked of `statx`, everywhere.
const STAT_MASK: StatxFlags =
    StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

pub(crate) const READ_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// `name` below `directory`, for messages.
pub(crate) fn join(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(name))
}

/// Metadata of a name, never following it.
pub(crate) fn stat_name(directory: BorrowedFd<'_>, name: &CStr) -> Result<Statx, Errno> {
    fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, STAT_MASK)
}

/// Metadata of what is open, `O_PATH` included.
pub(crate) fn stat_open(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    fs::statx(fd, c"", AtFlags::EMPTY_PATH, STAT_MASK)
}

/// Opens one component of `directory` without following it and without touching its access time
/// where that is allowed.
pub(crate) fn open_name(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(feature = "seeded-bugs")]
    let flags = followed(flags);
    without_atime(flags, |flags| retry(|| fs::openat(directory, name, flags, Mode::empty())))
}

/// Opens a path the user gave, following links.
pub(crate) fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    without_atime(flags, |flags| retry(|| fs::open(path, flags, Mode::empty())))
}

/// Opens `relative`, components joined by `/`, beneath `directory`; no link is followed anywhere.
pub(crate) fn open_beneath(
    directory: BorrowedFd<'_>,
    relative: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    if !relative.split(|&byte| byte == b'/').all(Entry::is_valid_name) {
        return Err(Errno::INVAL);
    }
    let mut rest = relative;
    let mut parent: Option<OwnedFd> = None;
    while rest.len() > RELATIVE_BYTES_MAX {
        let cut = rest[..RELATIVE_BYTES_MAX].iter().rposition(|&byte| byte == b'/');
        let cut = cut.ok_or(Errno::NAMETOOLONG)?;
        let from = parent.as_ref().map_or(directory, AsFd::as_fd);
        parent = Some(resolve(from, &rest[..cut], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    resolve(parent.as_ref().map_or(directory, AsFd::as_fd), rest, flags)
}

/// Without the flag that keeps links to directories from being followed, where that mistake is to
/// be made.
#[cfg(feature = "seeded-bugs")]
fn followed(flags: OFlags) -> OFlags {
    use lastgood_format::seeded::{Mistake, is_planted};
    let is_mistaken = is_planted(Mistake::LinkFollowed) && flags.contains(OFlags::DIRECTORY);
    if is_mistaken { flags - OFlags::NOFOLLOW } else { flags }
}

fn resolve(from: BorrowedFd<'_>, relative: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let whole = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(feature = "seeded-bugs")]
    if followed(whole) != whole {
        return retry(|| fs::openat(from, relative, followed(whole), Mode::empty()));
    }
    let opened = without_atime(whole, |flags| {
        retry(|| fs::openat2(from, relative, flags, Mode::empty(), rules))
    });
    match opened {
        // EPERM is how old sandboxes refuse calls they do not know.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => resolve_by_steps(from, relative, flags),
        opened => opened,
    }
}

/// What `openat2` does, one component at a time, for systems without it.
fn resolve_by_steps(
    from: BorrowedFd<'_>,
    relative: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let mut parent: Option<OwnedFd> = None;
    let mut components = relative.split(|&byte| byte == b'/').peekable();
    while let Some(component) = components.next() {
        let last = components.peek().is_none();
        let flags = if last { flags } else { OFlags::PATH | OFlags::DIRECTORY };
        let fd = open_name(parent.as_ref().map_or(from, AsFd::as_fd), component, flags)?;
        parent = Some(fd);
    }
    parent.ok_or(Errno::INVAL)
}

/// What [`open_beneath`] does on systems without `openat2`.
#[cfg(test)]
pub(crate) fn open_beneath_by_steps(
    directory: BorrowedFd<'_>,
    relative: &[u8],
) -> Result<OwnedFd, Errno> {
    resolve_by_steps(directory, relative, READ_DIRECTORY)
}

/// Tries with `O_NOATIME` first when reading; only the owner and root may ask for it.
fn without_atime(
    flags: OFlags,
    open: impl Fn(OFlags) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    if flags.contains(OFlags::PATH) || flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return open(flags);
    }
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// The name of an open file in `/proc`, for the few calls that take neither an `O_PATH`
/// descriptor nor a directory and a name. Resolving it leads to that very file, even a link.
pub(crate) fn proc_path(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}
