//! One open directory of a target.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lastgood_format::entry::{Entry, Node};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Statx};
use rustix::io::Errno;

use super::remove;
use super::{TargetFile, TargetNode};
use crate::HostError;
use crate::metadata::{self, ApplyPolicy, Handle, Metadata, Unset, flags};
use crate::scan::{Directory, Kind, Stat};
use crate::sys;

/// An open directory to write to. Holds one file descriptor; threads may share it.
///
/// Every `name` is checked as a tree checks it; one that is not valid is refused with `EINVAL`.
#[derive(Debug)]
pub struct TargetDirectory {
    directory: Directory,
}

impl TargetDirectory {
    pub(super) const fn new(directory: Directory) -> Self {
        Self { directory }
    }

    /// The same directory to read: what is there already is listed, examined and compared by it.
    #[must_use]
    pub const fn source(&self) -> &Directory {
        &self.directory
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// [`HostError::is_not_found`]; [`HostError::is_not_directory`] when a link or anything else
    /// bears the name; [`HostError::is_denied`] when its mode forbids it, see
    /// [`unlock_entry`](Self::unlock_entry).
    pub fn enter(&self, name: &[u8]) -> Result<Self, HostError> {
        self.check("open directory", name)?;
        self.directory.open_child(name).map(Self::new)
    }

    /// Opens a directory any number of levels below; the empty path is this one.
    ///
    /// # Errors
    /// As [`enter`](Self::enter), for any component.
    pub fn descend(&self, relative: &[u8]) -> Result<Self, HostError> {
        if !relative.is_empty() {
            return self.directory.open_descendant(relative).map(Self::new);
        }
        let fd = fs::openat(
            self.directory.fd(),
            c".",
            sys::READ_DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| HostError::new("open directory", self.path().into(), errno))?;
        Ok(Self::new(Directory::from_parts(fd, self.path().into())))
    }

    /// Creates a directory, open to its owner only.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the name is taken, by whatever it may be.
    pub fn create_directory(&self, name: &[u8]) -> Result<Self, HostError> {
        self.check("create directory", name)?;
        fs::mkdirat(self.directory.fd(), name, Mode::RWXU)
            .map_err(|errno| self.error("create directory", name, errno))?;
        self.enter(name)
    }

    /// Opens a directory, which is created if the name is free; tells whether it was.
    ///
    /// # Errors
    /// [`HostError::is_not_directory`] when a link or anything else bears the name.
    pub fn enter_or_create(&self, name: &[u8]) -> Result<(Self, bool), HostError> {
        match self.create_directory(name) {
            Ok(directory) => Ok((directory, true)),
            Err(error) if error.is_exists() => Ok((self.enter(name)?, false)),
            Err(error) => Err(error),
        }
    }

    /// Puts a new directory in the place of a link, file or other entry that is no directory:
    /// only where a plan says so.
    ///
    /// # Errors
    /// What stands there may already be gone.
    pub fn replace_with_directory(&self, name: &[u8]) -> Result<Self, HostError> {
        self.remove_entry(name)?;
        self.create_directory(name)
    }

    /// Creates an empty file, readable and writable by its owner only.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the name is taken; a link there is not followed.
    pub fn create_file(&self, name: &[u8]) -> Result<TargetFile, HostError> {
        self.check("create file", name)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = sys::retry(|| fs::openat(self.directory.fd(), name, flags, mode))
            .map_err(|errno| self.error("create file", name, errno))?;
        Ok(TargetFile::new(fd, self.directory.path_of(name)))
    }

    /// Opens a regular file to change it where it is. Other names of it change with it:
    /// see [`Stat::links`] of [`TargetFile::stat`].
    ///
    /// # Errors
    /// `EINVAL` when it is no regular file, [`HostError::is_not_directory`] (`ELOOP`) when it is a
    /// link; [`HostError::is_denied`] when mode or flags forbid it, see
    /// [`unlock_entry`](Self::unlock_entry).
    pub fn open_file(&self, name: &[u8]) -> Result<TargetFile, HostError> {
        self.check("open for writing", name)?;
        // Looked at before it is opened: opening a device for writing can have effects.
        self.expect(Kind::File, name)?;
        let fd = sys::open_name(self.directory.fd(), name, OFlags::RDWR | OFlags::NONBLOCK)
            .map_err(|errno| self.error("open for writing", name, errno))?;
        let file = TargetFile::new(fd, self.directory.path_of(name));
        if file.stat()?.kind == Kind::File {
            Ok(file)
        } else {
            Err(self.error("open for writing", name, Errno::INVAL))
        }
    }

    /// Creates a symbolic link; `target` is stored as it is and looked up by nobody here.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the name is taken.
    pub fn create_symlink(&self, name: &[u8], target: &[u8]) -> Result<TargetNode, HostError> {
        self.check("create symbolic link", name)?;
        fs::symlinkat(target, self.directory.fd(), name)
            .map_err(|errno| self.error("create symbolic link", name, errno))?;
        self.open_created(name, Kind::Symlink)
    }

    /// Creates a pipe, a socket or a device node as `node` says.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the name is taken; [`HostError::is_denied`] for a device when
    /// the process is not privileged; `EINVAL` when `node` is none of these.
    pub fn create_special(&self, name: &[u8], node: &Node) -> Result<TargetNode, HostError> {
        let action = "create special file";
        self.check(action, name)?;
        let (file_type, kind, device) = match node {
            Node::Fifo => (FileType::Fifo, Kind::Fifo, None),
            Node::Socket => (FileType::Socket, Kind::Socket, None),
            Node::CharDevice { device } => {
                (FileType::CharacterDevice, Kind::CharDevice, Some(device))
            }
            Node::BlockDevice { device } => {
                (FileType::BlockDevice, Kind::BlockDevice, Some(device))
            }
            Node::File { .. } | Node::Directory { .. } | Node::Symlink { .. } => {
                return Err(self.error(action, name, Errno::INVAL));
            }
        };
        let number = device.map_or(0, |device| fs::makedev(device.major, device.minor));
        let mode = Mode::RUSR | Mode::WUSR;
        fs::mknodat(self.directory.fd(), name, file_type, mode, number)
            .map_err(|errno| self.error(action, name, errno))?;
        self.open_created(name, kind)
    }

    /// Opens an entry of any kind to set its metadata; a link itself, not what it points to.
    ///
    /// For a file or directory, inode flags can only be set through [`TargetFile`] and
    /// [`TargetDirectory`].
    ///
    /// # Errors
    /// [`HostError::is_not_found`].
    pub fn open_node(&self, name: &[u8]) -> Result<TargetNode, HostError> {
        self.check("open", name)?;
        let fd = sys::open_name(self.directory.fd(), name, OFlags::PATH)
            .map_err(|errno| self.error("open", name, errno))?;
        TargetNode::open(fd, self.directory.path_of(name))
    }

    /// Gives the entry `from_name` of `from` this further name. A symbolic link is not followed,
    /// but becomes a second name of the link itself.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the name is taken.
    pub fn hard_link(&self, name: &[u8], from: &Self, from_name: &[u8]) -> Result<(), HostError> {
        self.check("link", name)?;
        from.check("link", from_name)?;
        let (old, new) = (from.directory.fd(), self.directory.fd());
        fs::linkat(old, from_name, new, name, AtFlags::empty())
            .map_err(|errno| self.error("link", name, errno))
    }

    /// Renames within this directory; what bears the name `to` is replaced in one step. A
    /// directory is only replaced by a directory, and only when it is empty.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    /// Renames within this directory unless the name `to` is taken.
    ///
    /// # Errors
    /// [`HostError::is_exists`]; nothing has changed then.
    pub fn rename_no_replace(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.rename_with(from, to, RenameFlags::NOREPLACE)
    }

    /// Renames into another directory of the same file system; what bears the name there is
    /// replaced in one step.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn rename_into(&self, from: &[u8], other: &Self, to: &[u8]) -> Result<(), HostError> {
        self.check("rename", from)?;
        other.check("rename to", to)?;
        fs::renameat(self.directory.fd(), from, other.directory.fd(), to)
            .map_err(|errno| other.error("rename to", to, errno))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`HostError::is_not_empty`]; [`HostError::is_not_found`].
    pub fn remove_directory(&self, name: &[u8]) -> Result<(), HostError> {
        self.check("remove directory", name)?;
        fs::unlinkat(self.directory.fd(), name, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error("remove directory", name, errno))
    }

    /// Removes an entry that is no directory; a link and not what it points to.
    ///
    /// # Errors
    /// [`HostError::is_not_found`]; `EISDIR` for a directory.
    pub fn remove_entry(&self, name: &[u8]) -> Result<(), HostError> {
        self.check("remove", name)?;
        remove::entry(&self.directory, name)
    }

    /// Removes an entry of any kind with all that is in it, following no link. Any depth, a
    /// bounded number of file descriptors. What is mounted inside is left alone and reported.
    ///
    /// Returns the number of names removed. Each that could not be goes to `failed`, and the rest
    /// is removed all the same.
    pub fn remove_tree(&self, name: &[u8], failed: &mut dyn FnMut(HostError)) -> u64 {
        match self.check("remove", name) {
            Ok(()) => remove::tree(&self.directory, name, failed),
            Err(error) => {
                failed(error);
                0
            }
        }
    }

    /// Makes it possible to change this directory: clears immutable and append-only, and gives its
    /// owner all permissions. [`apply`](Self::apply) sets what is wanted afterwards.
    ///
    /// # Errors
    /// [`HostError::is_denied`] when the process is neither root nor the owner.
    pub fn unlock(&self) -> Result<(), HostError> {
        let fd = self.directory.fd();
        let unlocked = unlock_open(Handle::Open(fd))
            .and_then(|()| Ok(sys::stat_open(fd)?.stx_mode))
            .and_then(|mode| permit_owner(Handle::Open(fd), mode, Mode::RWXU));
        unlocked.map_err(|errno| HostError::new("unlock", self.path().into(), errno))
    }

    /// As [`unlock`](Self::unlock), for a file or directory in this one. Anything else has no
    /// flags and needs no permissions to be replaced.
    ///
    /// # Errors
    /// [`HostError::is_denied`] when the process is neither root nor the owner.
    pub fn unlock_entry(&self, name: &[u8]) -> Result<(), HostError> {
        self.check("unlock", name)?;
        unlock_name(&self.directory, name).map_err(|errno| self.error("unlock", name, errno))
    }

    /// Sets flags that a directory can only have while it is empty ([`flags::EARLY`]); those that
    /// the file system does not know are left out and reported by [`apply`](Self::apply).
    pub fn set_early_flags(&self, bits: u32) {
        if bits & flags::EARLY != 0 {
            flags::change(self.directory.fd(), bits, flags::EARLY).ok();
        }
    }

    /// Sets all metadata of this directory; last, after everything in it.
    #[must_use]
    pub fn apply(&self, wanted: &Metadata<'_>, policy: ApplyPolicy) -> Vec<Unset> {
        metadata::apply(Handle::Open(self.directory.fd()), wanted, policy)
    }

    fn rename_with(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<(), HostError> {
        self.check("rename", from)?;
        self.check("rename to", to)?;
        let fd = self.directory.fd();
        let renamed = if flags.is_empty() {
            fs::renameat(fd, from, fd, to)
        } else {
            fs::renameat_with(fd, from, fd, to, flags)
        };
        renamed.map_err(|errno| self.error("rename to", to, errno))
    }

    /// Opens what was created a moment ago; somebody may have put something else there since.
    fn open_created(&self, name: &[u8], kind: Kind) -> Result<TargetNode, HostError> {
        let node = self.open_node(name)?;
        if node.stat().kind == kind {
            Ok(node)
        } else {
            Err(self.error("find again", name, Errno::STALE))
        }
    }

    fn expect(&self, kind: Kind, name: &[u8]) -> Result<(), HostError> {
        match self.directory.stat(name)?.kind {
            now if now == kind => Ok(()),
            Kind::Symlink => Err(self.error("open for writing", name, Errno::LOOP)),
            _ => Err(self.error("open for writing", name, Errno::INVAL)),
        }
    }

    fn check(&self, action: &'static str, name: &[u8]) -> Result<(), HostError> {
        if Entry::is_valid_name(name) {
            Ok(())
        } else {
            Err(self.error(action, name, Errno::INVAL))
        }
    }

    fn error(&self, action: &'static str, name: &[u8], errno: Errno) -> HostError {
        // `join` with an absolute name would drop the directory from the message.
        let mut path = PathBuf::from(self.path());
        path.as_mut_os_string().push("/");
        path.as_mut_os_string()
            .push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
        HostError::new(action, path, errno)
    }
}

/// Clears the flags and adds the permissions that stand in the way of changing or entering `name`.
pub(super) fn unlock_name(directory: &Directory, name: &[u8]) -> Result<(), Errno> {
    let fd = sys::open_name(directory.fd(), name, OFlags::PATH)?;
    let raw = sys::stat_open(fd.as_fd())?;
    let (permissions, flags) = match Stat::from_statx(&raw).map(|stat| stat.kind) {
        Some(Kind::File) => (Mode::RUSR | Mode::WUSR, OFlags::RDONLY | OFlags::NONBLOCK),
        Some(Kind::Directory) => (Mode::RWXU, sys::READ_DIRECTORY),
        _ => return Ok(()),
    };
    // Either may stand in the way of the other.
    let permitted = permit_owner(Handle::Path(fd.as_fd()), raw.stx_mode, permissions);
    let opened = sys::open_name(directory.fd(), name, flags)?;
    same_inode(&raw, &sys::stat_open(opened.as_fd())?)?;
    unlock_open(Handle::Open(opened.as_fd()))?;
    permitted.or_else(|_| permit_owner(Handle::Path(fd.as_fd()), raw.stx_mode, permissions))
}

/// Clears the flags that forbid removing a file, and leaves its mode alone: it may be the mode of
/// other names elsewhere.
pub(super) fn clear_locks(directory: &Directory, name: &[u8]) -> Result<(), Errno> {
    let fd = sys::open_name(directory.fd(), name, OFlags::PATH)?;
    let raw = sys::stat_open(fd.as_fd())?;
    match Stat::from_statx(&raw).map(|stat| stat.kind) {
        Some(Kind::File | Kind::Directory) => {}
        _ => return Ok(()),
    }
    let opened = sys::open_name(directory.fd(), name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    same_inode(&raw, &sys::stat_open(opened.as_fd())?)?;
    unlock_open(Handle::Open(opened.as_fd()))
}

/// Refuses when something else was put in the place of what was examined.
fn same_inode(one: &Statx, other: &Statx) -> Result<(), Errno> {
    let id = |raw: &Statx| (raw.stx_ino, raw.stx_dev_major, raw.stx_dev_minor);
    if id(one) == id(other) { Ok(()) } else { Err(Errno::STALE) }
}

fn unlock_open(handle: Handle<'_>) -> Result<(), Errno> {
    match flags::read(handle.fd())? {
        Some(bits) if bits & flags::LOCKING != 0 => {
            flags::write(handle.fd(), bits & !flags::LOCKING)
        }
        _ => Ok(()),
    }
}

fn permit_owner(handle: Handle<'_>, mode: u16, permissions: Mode) -> Result<(), Errno> {
    let mode = mode & 0o7777;
    let wanted = Mode::from_raw_mode(mode.into()) | permissions;
    let wanted = u16::try_from(wanted.as_raw_mode()).map_err(|_| Errno::INVAL)?;
    if wanted == mode { Ok(()) } else { handle.set_mode(wanted) }
}
