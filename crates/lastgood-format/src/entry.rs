//! What a tree holds: one [`Entry`] per name, with all the metadata that is part of its identity.
//!
//! What serves only to notice a change (ctime, inode, device) is a [`Hint`] and lies outside the
//! tree, so that a renumbered file system or a copied tree has the same identity.
//! Spec: `docs/format/tree.md`.

use crate::id::BlobId;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Raw name bytes: 1 to [`NAME_BYTES_MAX`], no `/`, no NUL, neither `.` nor `..`.
    pub name: Box<[u8]>,
    /// What the name is.
    pub node: Node,
    /// Permission bits with setuid, setgid and sticky: `0` to `0o7777`.
    pub mode: u16,
    /// Owner, as a number; its name is in the snapshot's owner table.
    pub uid: u32,
    /// Group, as a number; its name is in the snapshot's owner table.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Inode flags as `FS_IOC_GETFLAGS` gives them, masked to those that can be set again.
    pub flags: u32,
    /// What the run had to say of this entry.
    pub marks: Marks,
    /// Extended attributes, POSIX ACLs and file capabilities among them, sorted by name.
    /// `None` where there are none, which is nearly everywhere.
    pub xattrs: Option<Box<[Xattr]>>,
}

/// The kind of an entry, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Length in bytes, holes included.
        size: u64,
        /// Where its bytes are.
        content: Content,
    },
    /// A directory.
    Directory {
        /// Root page of its tree.
        tree: BlobId,
    },
    /// A symbolic link, never followed.
    Symlink {
        /// Raw target bytes, 1 to 4095.
        target: Box<[u8]>,
    },
    /// A named pipe.
    Fifo,
    /// A socket: only its name can come back.
    Socket,
    /// A character device.
    CharDevice {
        /// Device number.
        device: DeviceNumber,
    },
    /// A block device node (the node, never its content).
    BlockDevice {
        /// Device number.
        device: DeviceNumber,
    },
}

/// Major and minor number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Driver.
    pub major: u32,
    /// Unit.
    pub minor: u32,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// Nothing is stored: the file is empty.
    Empty,
    /// The whole file is one chunk.
    Chunk(BlobId),
    /// Root page of the recipe.
    Recipe(BlobId),
}

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; negative seconds lie before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// `0` to `999_999_999`, counted upwards from `seconds`.
    pub nanos: u32,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Full name with its namespace, 1 to 255 bytes, no NUL.
    pub name: Box<[u8]>,
    /// Raw value, up to 65,536 bytes.
    pub value: Box<[u8]>,
}

/// What the run had to say of one entry; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Marks(pub u8);

impl Marks {
    /// Nothing to say: the entry is what the source held.
    pub const NONE: Self = Self(0);
    /// The file changed while it was read: its bytes may be of more than one moment.
    pub const UNSTABLE: Self = Self(1);
    /// The entry could not be read this time: this is what the baseline held.
    pub const KEPT: Self = Self(2);
    /// Bits that a version 1 reader knows.
    pub const KNOWN: Self = Self(3);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What helps to notice that a file is unchanged, kept beside the tree and outside its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hint {
    /// Time of the last inode change.
    pub ctime: Timestamp,
    /// Birth time; all zero where the file system has none.
    pub btime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Device the file lies on, as `major << 32 | minor`.
    pub device: u64,
}

/// Longest name of an entry, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

impl Entry {
    /// Whether `name` may stand in a tree: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
    #[must_use]
    pub fn is_valid_name(name: &[u8]) -> bool {
        !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name != b"."
            && name != b".."
            && !name.iter().any(|&byte| byte == b'/' || byte == 0)
    }

    /// Whether the entry is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory { .. })
    }
}
