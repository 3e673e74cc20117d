//! Metadata beyond what one `statx` gives, and setting all of it again.
//!
//! Kept: mode, owner, group, modification time, every extended attribute that the process may
//! list (`user.*`, `trusted.*` for root, POSIX ACLs, file capabilities, security labels) and the
//! inode flags in [`flags::SETTABLE`]. Not kept: access time (reading should not be an event),
//! change time (no system lets it be set), project ids.

mod apply;
mod capture;
pub mod flags;
mod xattr;

#[cfg(test)]
mod tests;

use std::io;

use lastgood_format::entry::{Entry, Timestamp, Xattr};

use crate::HostError;

pub(crate) use apply::{Handle, apply};
pub(crate) use capture::{capture_name, capture_open};

/// What one entry has beyond its [`crate::scan::Stat`].
#[derive(Debug, Default)]
pub struct Details {
    /// Inode flags, masked to [`flags::SETTABLE`].
    pub flags: u32,
    /// Extended attributes sorted by name; `None` where there are none.
    pub xattrs: Option<Box<[Xattr]>>,
    /// What could not be read and is missing above; to be reported.
    pub unread: Vec<HostError>,
}

/// What an entry is to look like.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner on this host.
    pub uid: u32,
    /// Group on this host.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Inode flags; those outside [`flags::SETTABLE`] are ignored.
    pub flags: u32,
    /// All extended attributes it is to have.
    pub xattrs: &'a [Xattr],
}

impl<'a> From<&'a Entry> for Metadata<'a> {
    /// Owner and group are taken as numbers; a caller that maps them by name replaces them.
    fn from(entry: &'a Entry) -> Self {
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            flags: entry.flags,
            xattrs: entry.xattrs.as_deref().unwrap_or_default(),
        }
    }
}

/// What may be set at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyPolicy {
    /// Owner and group. When not, they stay those of the process, and nothing is said of it.
    pub owner: bool,
    /// What gives power to whoever runs or holds the entry: setuid and setgid on files, and the
    /// attributes `security.*` (file capabilities among them) and `trusted.*`. When not, each one
    /// that was wanted is [`Reason::Withheld`].
    pub special: bool,
}

/// Something of an entry that is not as wanted.
#[derive(Debug)]
pub struct Unset {
    /// What.
    pub aspect: Aspect,
    /// Why.
    pub reason: Reason,
}

/// A part of an entry's metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// Owner.
    Owner,
    /// Group.
    Group,
    /// Permission bits.
    Mode,
    /// The setuid bit.
    Setuid,
    /// The setgid bit of a file.
    Setgid,
    /// The extended attribute of this name.
    Xattr(Box<[u8]>),
    /// A POSIX ACL.
    Acl,
    /// File capabilities.
    Capability,
    /// Inode flags.
    Flags,
    /// Modification time.
    Times,
}

/// Why something was not set.
#[derive(Debug)]
pub enum Reason {
    /// The policy, or an owner that could not be set, forbids it.
    Withheld,
    /// The system refused.
    Refused(io::Error),
}

/// POSIX ACL of an entry.
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// POSIX ACL that new entries of a directory inherit.
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// File capabilities.
const CAPABILITY: &[u8] = b"security.capability";

impl Aspect {
    fn of_xattr(name: &[u8]) -> Self {
        match name {
            ACL_ACCESS | ACL_DEFAULT => Self::Acl,
            CAPABILITY => Self::Capability,
            name => Self::Xattr(name.into()),
        }
    }
}
