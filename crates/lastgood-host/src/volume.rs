//! The file systems that sources and repositories lie on.

use std::path::{Path, PathBuf};

use rustix::fs::{self, StatVfs};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::HostError;
use crate::sys;

#[cfg(test)]
mod tests;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes free, those kept for root included.
    pub free: u64,
    /// Bytes free for this process.
    pub available: u64,
    /// How many more entries it can hold; `None` where it has no fixed number.
    pub entries_available: Option<u64>,
    /// What each file takes is a multiple of this.
    pub block_bytes: u64,
}

/// Room on the file system of `path`, which may not exist yet: then of what will hold it.
///
/// # Errors
/// When nothing on the way to `path` can be examined.
pub fn space(path: &Path) -> Result<Space, HostError> {
    let path = nearest_existing(path);
    let raw: StatVfs = sys::retry(|| fs::statvfs(&path))
        .map_err(|errno| HostError::new("examine the file system of", path, errno))?;
    Ok(Space {
        total: raw.f_blocks.saturating_mul(raw.f_frsize),
        free: raw.f_bfree.saturating_mul(raw.f_frsize),
        available: raw.f_bavail.saturating_mul(raw.f_frsize),
        entries_available: (raw.f_files > 0).then_some(raw.f_favail),
        block_bytes: raw.f_frsize,
    })
}

/// Whether both paths, or what will hold them, lie on one file system: losing one then likely
/// means losing the other. Two partitions of one disk are not told apart from two disks.
///
/// # Errors
/// When one cannot be examined.
pub fn same_device(one: &Path, other: &Path) -> Result<bool, HostError> {
    Ok(device(one)? == device(other)?)
}

/// Name of the kind of file system that holds `path`, as `mount` prints it; `None` for a rare one.
///
/// # Errors
/// When nothing on the way to `path` can be examined.
pub fn file_system_name(path: &Path) -> Result<Option<&'static str>, HostError> {
    let path = nearest_existing(path);
    let raw = sys::retry(|| fs::statfs(&path))
        .map_err(|errno| HostError::new("examine the file system of", path, errno))?;
    // Width and sign of the field differ between architectures; magic numbers are 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let magic = raw.f_type as u32;
    Ok(FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name))
}

/// Lets the process have as many open files as it may, and says how many that is. Directories are
/// held open while they are walked, one per level.
///
/// # Errors
/// When the system refuses; the old limit stays.
pub fn raise_open_file_limit() -> Result<u64, std::io::Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Major and minor number of the device that a path lies on, or would lie on.
///
/// # Errors
/// What the system says.
pub fn device(path: &Path) -> Result<(u32, u32), HostError> {
    let path = nearest_existing(path);
    let raw = fs::statx(fs::CWD, &path, fs::AtFlags::empty(), fs::StatxFlags::BASIC_STATS)
        .map_err(|errno| HostError::new("examine", path, errno))?;
    Ok((raw.stx_dev_major, raw.stx_dev_minor))
}

/// `path`, or the closest directory above it that exists.
fn nearest_existing(path: &Path) -> PathBuf {
    let mut candidate = path;
    loop {
        let here = if candidate.as_os_str().is_empty() { Path::new(".") } else { candidate };
        match fs::statx(fs::CWD, here, fs::AtFlags::empty(), fs::StatxFlags::TYPE) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            _ => return here.into(),
        }
        match candidate.parent() {
            Some(parent) => candidate = parent,
            None => return path.into(),
        }
    }
}

/// `linux/magic.h`, and what `mount` calls them. One number serves ext2 to ext4.
const FILE_SYSTEMS: [(u32, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x6573_5546, "fuse"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs3"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x7371_7368, "squashfs"),
];
