//! The metadata of one entry that one call gives.

use lastgood_format::entry::{DeviceNumber, Entry, Hint, Marks, Node, Timestamp};
use rustix::fs::{FileType, Statx, StatxAttributes, StatxTimestamp};

use crate::metadata::Details;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What `statx` says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub links: u32,
    /// Length in bytes, holes included.
    pub size: u64,
    /// Allocated units of 512 bytes.
    pub blocks: u64,
    /// Which device a device node stands for; zero for everything else.
    pub device_number: DeviceNumber,
    /// Last modification.
    pub mtime: Timestamp,
    /// What helps to notice a change.
    pub hint: Hint,
    /// Mount the entry was seen through; differs from that of the parent at a mount point.
    pub mount_id: u64,
    /// Whether it is immutable or append-only: nobody may remove it, or put anything in its place.
    pub is_locked: bool,
}

impl Stat {
    /// `None` for a kind no Linux file system has.
    pub(crate) fn from_statx(raw: &Statx) -> Option<Self> {
        let device_number = DeviceNumber { major: raw.stx_rdev_major, minor: raw.stx_rdev_minor };
        Some(Self {
            kind: Kind::from_file_type(FileType::from_raw_mode(raw.stx_mode.into()))?,
            mode: raw.stx_mode & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            links: raw.stx_nlink,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            device_number,
            mtime: timestamp(raw.stx_mtime),
            hint: Hint {
                ctime: timestamp(raw.stx_ctime),
                btime: timestamp(raw.stx_btime),
                inode: raw.stx_ino,
                device: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
            },
            mount_id: raw.stx_mnt_id,
            is_locked: raw.stx_attributes.intersects(LOCKS),
        })
    }

    /// The node of an entry that is nothing but its metadata: pipe, socket or device.
    #[must_use]
    pub const fn special_node(&self) -> Option<Node> {
        match self.kind {
            Kind::Fifo => Some(Node::Fifo),
            Kind::Socket => Some(Node::Socket),
            Kind::CharDevice => Some(Node::CharDevice { device: self.device_number }),
            Kind::BlockDevice => Some(Node::BlockDevice { device: self.device_number }),
            Kind::File | Kind::Directory | Kind::Symlink => None,
        }
    }

    /// The entry a tree keeps of it.
    #[must_use]
    pub fn entry(&self, name: &[u8], node: Node, details: Details) -> Entry {
        Entry {
            name: name.into(),
            node,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            flags: details.flags,
            marks: Marks::NONE,
            xattrs: details.xattrs,
        }
    }

    /// Bytes allocated on disk.
    #[must_use]
    pub const fn allocated_bytes(&self) -> u64 {
        self.blocks.saturating_mul(512)
    }

    /// Whether fewer bytes are allocated than the file is long: it may have holes.
    #[must_use]
    pub const fn is_sparse(&self) -> bool {
        self.allocated_bytes() < self.size
    }

    /// What two names of one file share: device and inode.
    #[must_use]
    pub const fn file_id(&self) -> (u64, u64) {
        (self.hint.device, self.hint.inode)
    }

    /// Whether nothing a writer leaves behind differs from `earlier`: kind, size, mtime, ctime,
    /// inode and device.
    ///
    /// Time stamps have the granularity of the kernel's clock tick. A write in the very tick in
    /// which `earlier` was taken may stay unnoticed.
    #[must_use]
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        self.kind == earlier.kind
            && self.size == earlier.size
            && self.mtime == earlier.mtime
            && self.hint.ctime == earlier.hint.ctime
            && self.file_id() == earlier.file_id()
    }

    /// Whether both lie on one file system, by device number as `find -xdev` has it: a bind mount
    /// of the same file system is inside, a btrfs subvolume is not.
    #[must_use]
    pub const fn same_file_system(&self, other: &Self) -> bool {
        self.hint.device == other.hint.device
    }
}

impl Kind {
    pub(crate) const fn from_file_type(file_type: FileType) -> Option<Self> {
        match file_type {
            FileType::RegularFile => Some(Self::File),
            FileType::Directory => Some(Self::Directory),
            FileType::Symlink => Some(Self::Symlink),
            FileType::Fifo => Some(Self::Fifo),
            FileType::Socket => Some(Self::Socket),
            FileType::CharacterDevice => Some(Self::CharDevice),
            FileType::BlockDevice => Some(Self::BlockDevice),
            FileType::Unknown => None,
        }
    }
}

const fn timestamp(raw: StatxTimestamp) -> Timestamp {
    Timestamp {
        seconds: raw.tv_sec,
        // A damaged inode may say anything.
        nanos: if raw.tv_nsec < 1_000_000_000 { raw.tv_nsec } else { 999_999_999 },
    }
}

const LOCKS: StatxAttributes = StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND);
