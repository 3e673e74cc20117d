//! Making an entry look as it did.
//!
//! The order matters. `user.*` attributes first, while the file is still writable to its owner;
//! then owner, because changing it clears setuid and file capabilities; mode; ACLs, because
//! setting the mode rewrites their mask; the other attributes; times, because all of the above may
//! touch them; flags last, because an immutable file takes nothing more.

use std::os::fd::BorrowedFd;

use lastgood_format::entry::{Timestamp, Xattr};
use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_NOW, Uid};
use rustix::io::Errno;

use super::flags;
use super::xattr::Place;
use super::{ACL_ACCESS, ACL_DEFAULT, ApplyPolicy, Aspect, CAPABILITY, Metadata, Reason, Unset};
use crate::scan::{Kind, Stat};
use crate::sys;

/// An entry that is open in one of two ways.
#[derive(Clone, Copy)]
pub(crate) enum Handle<'a> {
    /// A file or directory, open for reading or writing.
    Open(BorrowedFd<'a>),
    /// Anything, open with `O_PATH`.
    Path(BorrowedFd<'a>),
}

/// Sets everything; what could not be set is returned and nothing else is left out for it.
pub(crate) fn apply(handle: Handle<'_>, wanted: &Metadata<'_>, policy: ApplyPolicy) -> Vec<Unset> {
    let current = sys::stat_open(handle.fd()).map(|raw| Stat::from_statx(&raw));
    let Ok(Some(current)) = current else {
        return vec![Unset::refused(Aspect::Mode, current.err().unwrap_or(Errno::OPNOTSUPP))];
    };
    let mut run =
        Apply { handle, place: handle.place(), current, wanted, policy, unset: Vec::new() };
    run.unlock();
    let names = run.names();
    run.xattrs(&names, |name| name.starts_with(b"user."));
    run.owner();
    run.mode();
    run.xattrs(&names, |name| !name.starts_with(b"user."));
    run.times();
    run.flags();
    run.unset
}

struct Apply<'a> {
    handle: Handle<'a>,
    place: Place<'a>,
    /// As it is now; kept true where later steps depend on it.
    current: Stat,
    wanted: &'a Metadata<'a>,
    policy: ApplyPolicy,
    unset: Vec<Unset>,
}

impl Apply<'_> {
    /// Clears what would refuse every other step.
    fn unlock(&mut self) {
        if let (Handle::Open(fd), Ok(Some(bits))) = (self.handle, self.handle.flags())
            && bits & flags::LOCKING != 0
        {
            // If this is refused, so is the rest, and each step says so.
            flags::write(fd, bits & !flags::LOCKING).ok();
        }
    }

    fn names(&mut self) -> Vec<Box<[u8]>> {
        self.place.names().unwrap_or_else(|errno| {
            if !self.wanted.xattrs.is_empty() {
                self.refused(Aspect::Xattr(Box::default()), errno);
            }
            Vec::new()
        })
    }

    /// Brings those attributes that `part` selects to what is wanted; `names` are there now.
    fn xattrs(&mut self, names: &[Box<[u8]>], part: impl Fn(&[u8]) -> bool) {
        let is_wanted = |name: &[u8]| self.wanted.xattrs.iter().any(|xattr| *xattr.name == *name);
        let is_surplus = |name: &[u8]| part(name) && is_removable(name) && !is_wanted(name);
        for name in names.iter().filter(|name| is_surplus(name)) {
            if let Err(errno) = self.with_write_permission(|place| place.remove(name)) {
                self.refused(Aspect::of_xattr(name), errno);
            }
        }
        for xattr in self.wanted.xattrs.iter().filter(|xattr| part(&xattr.name)) {
            let is_there = names.iter().any(|name| **name == *xattr.name);
            self.xattr(xattr, is_there);
        }
    }

    fn xattr(&mut self, xattr: &Xattr, is_there: bool) {
        if !self.policy.special && gives_power(&xattr.name) {
            self.unset
                .push(Unset { aspect: Aspect::of_xattr(&xattr.name), reason: Reason::Withheld });
            return;
        }
        // Setting the mode has rewritten the mask of an ACL; capabilities went with the owner.
        if is_there && self.place.get(&xattr.name).is_ok_and(|now| now == Some(xattr.value.clone()))
        {
            return;
        }
        if let Err(errno) = self.with_write_permission(|place| place.set(xattr)) {
            self.refused(Aspect::of_xattr(&xattr.name), errno);
        }
    }

    /// The owner of a read-only file may not set `user.*` attributes, but may make it writable.
    fn with_write_permission(
        &mut self,
        change: impl Fn(&Place<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        match change(&self.place) {
            Err(Errno::ACCESS) if self.current.mode & 0o200 == 0 => {
                let mode = self.current.mode | 0o200;
                self.handle.set_mode(mode)?;
                self.current.mode = mode;
                change(&self.place)
            }
            done => done,
        }
    }

    fn owner(&mut self) {
        let uid = (self.current.uid != self.wanted.uid).then_some(self.wanted.uid);
        let gid = (self.current.gid != self.wanted.gid).then_some(self.wanted.gid);
        if !self.policy.owner || uid.is_none() && gid.is_none() {
            return;
        }
        if self.handle.set_owner(uid, gid).is_ok() {
            self.owner_is(uid, gid);
            return;
        }
        // Only root gives files away, but everyone may choose among their own groups.
        for (uid, gid, aspect) in [(uid, None, Aspect::Owner), (None, gid, Aspect::Group)] {
            if uid.is_none() && gid.is_none() {
                continue;
            }
            match self.handle.set_owner(uid, gid) {
                Ok(()) => self.owner_is(uid, gid),
                Err(errno) => self.refused(aspect, errno),
            }
        }
    }

    fn owner_is(&mut self, uid: Option<u32>, gid: Option<u32>) {
        self.current.uid = uid.unwrap_or(self.current.uid);
        self.current.gid = gid.unwrap_or(self.current.gid);
        // The kernel may have cleared setuid and setgid, so what the mode is now is not known.
        self.current.mode = u16::MAX;
    }

    fn mode(&mut self) {
        if self.current.kind == Kind::Symlink {
            return;
        }
        let mode = self.permitted_mode();
        if mode == self.current.mode {
            return;
        }
        if let Err(errno) = self.handle.set_mode(mode) {
            return self.refused(Aspect::Mode, errno);
        }
        // A group the process is not in loses its setgid bit without an error.
        if mode & (SETUID | SETGID) != 0
            && let Some(now) = self.handle.stat()
            && now.mode != mode
        {
            self.refused(Aspect::Mode, Errno::PERM);
        }
    }

    /// The wanted mode without the bits that would give away the power of the wrong account.
    fn permitted_mode(&mut self) -> u16 {
        let mut mode = self.wanted.mode & 0o7777;
        if self.current.kind == Kind::Directory {
            return mode;
        }
        let checks = [
            (SETUID, self.current.uid == self.wanted.uid, Aspect::Setuid),
            (SETGID, self.current.gid == self.wanted.gid, Aspect::Setgid),
        ];
        for (bit, is_owned, aspect) in checks {
            if mode & bit != 0 && !(self.policy.special && is_owned) {
                mode &= !bit;
                self.unset.push(Unset { aspect, reason: Reason::Withheld });
            }
        }
        mode
    }

    fn times(&mut self) {
        let mtime = self.wanted.mtime;
        if let Err(errno) = self.handle.set_mtime(mtime) {
            return self.refused(Aspect::Times, errno);
        }
        // File systems clamp what they cannot express, without an error.
        if !(0..1 << 31).contains(&mtime.seconds)
            && self.handle.stat().is_none_or(|now| now.mtime != mtime)
        {
            self.refused(Aspect::Times, Errno::RANGE);
        }
    }

    fn flags(&mut self) {
        let Handle::Open(fd) = self.handle else {
            return;
        };
        if let Err((_, errno)) = flags::change(fd, self.wanted.flags, flags::SETTABLE) {
            self.refused(Aspect::Flags, errno);
        }
    }

    fn refused(&mut self, aspect: Aspect, errno: Errno) {
        self.unset.push(Unset::refused(aspect, errno));
    }
}

impl Unset {
    fn refused(aspect: Aspect, errno: Errno) -> Self {
        Self { aspect, reason: Reason::Refused(errno.into()) }
    }
}

impl<'a> Handle<'a> {
    pub(crate) const fn fd(self) -> BorrowedFd<'a> {
        match self {
            Self::Open(fd) | Self::Path(fd) => fd,
        }
    }

    fn place(self) -> Place<'a> {
        match self {
            Self::Open(fd) => Place::Open(fd),
            Self::Path(fd) => Place::path(fd),
        }
    }

    fn stat(self) -> Option<Stat> {
        Stat::from_statx(&sys::stat_open(self.fd()).ok()?)
    }

    fn flags(self) -> Result<Option<u32>, Errno> {
        match self {
            Self::Open(fd) => flags::read(fd),
            Self::Path(_) => Ok(None),
        }
    }

    fn set_owner(self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // The highest number means "leave as it is" to the kernel.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        fs::chownat(self.fd(), c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    pub(crate) fn set_mode(self, mode: u16) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode.into());
        match self {
            Self::Open(fd) => fs::fchmod(fd, mode),
            Self::Path(fd) => fs::chmod(sys::proc_path(fd, None), mode),
        }
    }

    fn set_mtime(self, mtime: Timestamp) -> Result<(), Errno> {
        if mtime.nanos >= 1_000_000_000 {
            return Err(Errno::INVAL);
        }
        let times = Timestamps {
            // Not left out: drivers over the older FUSE library then set neither time, and say nothing.
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
        };
        match self {
            Self::Open(fd) => fs::futimens(fd, &times),
            Self::Path(fd) => match fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
                // Before Linux 5.8.
                Err(Errno::INVAL | Errno::NOENT) => {
                    let path = sys::proc_path(fd, None);
                    fs::utimensat(fs::CWD, path, &times, AtFlags::empty())
                }
                done => done,
            },
        }
    }
}

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;

/// Attributes that go when they are not wanted. Labels that the system gives every new file
/// (`security.selinux` and its kin) stay.
fn is_removable(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || matches!(name, ACL_ACCESS | ACL_DEFAULT | CAPABILITY)
}

/// Attributes that the kernel or a daemon trusts.
fn gives_power(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}
