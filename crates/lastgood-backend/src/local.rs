//! A local directory.
//!
//! An object is a file below one root directory, under its name. Anything whose name is not an
//! object's, such as `lost+found`, is left alone and never shown.
//!
//! # How a put survives a power cut
//! The bytes go into a file without a name, which is synced, then linked under the name, unless
//! that is taken; then the directory is synced. Cut before the link, nothing is left. Each
//! directory on the way is synced into its parent when a process first writes below it, whoever
//! made it. A sync that failed is never tried again on the same file: the kernel may have dropped
//! the bytes it could not write, and a second sync would succeed without them.
//!
//! Where files without a name do not exist (NFS, FUSE), the file is called `.tmp-…` until it is
//! whole. No object's name holds a dot. What a crash leaves of these,
//! [`LocalBackend::remove_stale_temporaries`] removes.
//!
//! # Who may read it
//! The root directory's owner, and nobody else: files are made 0600, directories 0700. When its
//! group may write to the root directory, the group shares it: files are 0640, directories 2770,
//! both of the root's group, whatever the umask. Files that the superuser makes belong to the
//! root's owner. Symbolic links below the root are never followed.

mod direct;
mod publishing;
mod reading;
mod writing;

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, fsync, open, openat, statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

use crate::backend::{listed_directory, out_of_range};
use crate::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};
use direct::Buffers;
use publishing::{Ownership, TEMPORARY_PREFIX};
use reading::{OpenObject, OpenObjects};

/// Keeps objects as files of a local directory. Any number of processes and users may work on one
/// directory at once; of hosts, where the network file system shows new names at once (NFS does
/// with `lookupcache=none` and `actimeo=0`).
#[derive(Debug)]
pub struct LocalBackend {
    root: Arc<OwnedFd>,
    location: String,
    /// What new files and directories get; nothing when the process's own defaults are right.
    ownership: Option<Ownership>,
    /// Directories that this process has synced into their parents.
    durable: Mutex<HashSet<Box<str>>>,
    open_objects: OpenObjects,
    buffers: Buffers,
}

impl LocalBackend {
    /// Opens a directory, which is made, with those above it, if it is missing.
    ///
    /// # Errors
    /// Some of the directories may have been made.
    pub fn create(path: &Path) -> Result<Self, BackendError> {
        make_durable_directories(path)
            .map_err(|source| error(&path.to_string_lossy(), "create", "the backend", source))?;
        Self::open(path)
    }

    /// Opens a directory. Nothing is written.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none.
    pub fn open(path: &Path) -> Result<Self, BackendError> {
        let location = path.to_string_lossy().into_owned();
        let open = || -> io::Result<_> {
            let root = open(path, DIRECTORY, Mode::empty())?;
            let ownership = Ownership::below(&fstat(&root)?);
            Ok((Arc::new(root), ownership))
        };
        let (root, ownership) =
            open().map_err(|source| error(&location, "open", "the backend", source))?;
        Ok(Self {
            root,
            location,
            ownership,
            durable: Mutex::default(),
            open_objects: OpenObjects::default(),
            buffers: Buffers::default(),
        })
    }

    /// Removes what writers that died left unfinished, if it last changed before `before`, and
    /// returns how many files and directories that were.
    ///
    /// A writer that lives fails when its file goes: a day ago is early enough.
    ///
    /// # Errors
    /// Those left may be removed by another call.
    pub fn remove_stale_temporaries(&self, before: SystemTime) -> Result<u64, BackendError> {
        let mut count = 0;
        self.walk("", &mut |directory, _, name, stat| {
            let is_temporary = name.to_bytes().starts_with(TEMPORARY_PREFIX.as_bytes());
            if is_temporary && modified(stat) < before {
                let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
                let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                match unlinkat(directory, name, flags) {
                    Ok(()) => count += 1,
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })
        .map_err(|source| self.error("remove", "stale temporaries", source))?;
        Ok(count)
    }

    /// The directory `path`, reached without following a symbolic link.
    ///
    /// One step at a time rather than by `openat2`, which old kernels and some sandboxes refuse:
    /// names are short, and this is the only way that has to be right.
    fn directory(&self, path: &str) -> rustix::io::Result<Arc<OwnedFd>> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.try_fold(Arc::clone(&self.root), |at, segment| {
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            match retry_on_intr(|| openat(&*at, segment, flags, Mode::empty())) {
                // An object, below which there is nothing. A symbolic link stays an error.
                Err(Errno::NOTDIR) if is_regular_file(&at, segment)? => Err(Errno::NOENT),
                opened => opened.map(Arc::new),
            }
        })
    }

    fn open_object(&self, name: &ObjectName) -> io::Result<OpenObject> {
        let (directory, leaf) = name.split();
        let directory = self.directory(directory)?;
        // Not blocking, for the case that somebody planted a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = retry_on_intr(|| openat(&*directory, leaf, flags, Mode::empty()))?;
        let bytes = object_bytes(&fstat(&file)?)?;
        Ok(OpenObject::new(File::from(file), bytes))
    }

    /// Calls `visit` with the directory, path, name and status of everything at and below `path`
    /// that could be an object or a temporary. Where there is nothing, nothing is visited.
    fn walk(&self, path: &str, visit: &mut Visit<'_>) -> io::Result<()> {
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            let directory = match self.directory(&path) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            for entry in Dir::read_from(&*directory)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                let separator = if path.is_empty() { "" } else { "/" };
                let path = format!("{path}{separator}{name}");
                // This bounds the depth as well.
                let is_name = ObjectName::new(&path).is_some();
                if is_name && entry.file_type().is_dir() {
                    pending.push(path);
                } else if is_name || name.starts_with(TEMPORARY_PREFIX) {
                    match statat(&*directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        // Some file systems tell no types when listing.
                        Ok(stat) if is_name && FileType::from_raw_mode(stat.st_mode).is_dir() => {
                            pending.push(path);
                        }
                        Ok(stat) => visit(&directory, &path, entry.file_name(), &stat)?,
                        Err(Errno::NOENT) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        // A cache: whatever a panicking holder left is usable.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a read. A bad sector is the object's damage and no trouble of the place.
    fn read_error(&self, name: &ObjectName, source: io::Error) -> BackendError {
        let is_bad_sector = source.raw_os_error() == Some(Errno::IO.raw_os_error());
        let error = self.error("read", name.as_str(), source);
        let kind = if is_bad_sector { ErrorKind::Unreadable } else { error.kind };
        BackendError { kind, ..error }
    }

    fn error(&self, action: &'static str, object: &str, source: io::Error) -> BackendError {
        error(&self.location, action, object, source)
    }
}

type Visit<'a> = dyn FnMut(&OwnedFd, &str, &CStr, &Stat) -> io::Result<()> + 'a;

impl Backend for LocalBackend {
    fn location(&self) -> &str {
        &self.location
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        let (directory, leaf) = name.split();
        let put = || {
            let directory = self.durable_directory(directory)?;
            let outcome = match self.put_unnamed(&directory, leaf, parts)? {
                Some(outcome) => outcome,
                None => self.put_named(&directory, leaf, parts)?,
            };
            // Also when another writer was first: it may not have come as far as this.
            sync_directory(&directory)?;
            Ok(outcome)
        };
        put().map_err(|source| self.error("write", name.as_str(), source))
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        let get = || {
            let object = self.open_object(name)?;
            let count = usize::try_from(object.bytes).ok().filter(|_| object.bytes <= bytes_max);
            let Some(count) = count else {
                let why = format!("it has {} bytes, at most {bytes_max} are read", object.bytes);
                return Err(out_of_range(why));
            };
            let mut bytes = vec![0; count];
            object.read_exact_at(&mut bytes, 0, &self.buffers)?;
            Ok(bytes)
        };
        get().map_err(|source| self.read_error(name, source))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let mut read = || {
            let object = self.open_objects.get_or_open(name, || self.open_object(name))?;
            let count = range.end.checked_sub(range.start).and_then(|n| usize::try_from(n).ok());
            let Some(count) = count.filter(|_| range.end <= object.bytes) else {
                let why = format!("it has {} bytes, {range:?} were asked for", object.bytes);
                return Err(out_of_range(why));
            };
            // Not cleared before, so that a reused buffer is not zeroed again.
            out.resize(count, 0);
            object.read_exact_at(out, range.start, &self.buffers)
        };
        let done = read();
        if done.is_err() {
            out.clear();
        }
        done.map_err(|source| self.read_error(name, source))
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        let (directory, leaf) = name.split();
        let stat = || {
            let directory = self.directory(directory)?;
            object_bytes(&statat(&*directory, leaf, AtFlags::SYMLINK_NOFOLLOW)?)
        };
        stat().map_err(|source| self.error("stat", name.as_str(), source))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let mut list = || {
            self.walk(listed_directory(prefix)?, &mut |_, path, _, stat| {
                if let Some((name, bytes)) = ObjectName::new(path).zip(object_bytes(stat).ok()) {
                    visit(Listed { name, bytes, modified: stat.st_mtime });
                }
                Ok(())
            })
        };
        let what = if prefix.is_empty() { "objects" } else { prefix };
        list().map_err(|source| self.error("list", what, source))
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        let (directory, leaf) = name.split();
        self.open_objects.forget(name);
        let remove = || -> io::Result<()> {
            let directory = match self.directory(directory) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match unlinkat(&*directory, leaf, AtFlags::empty()) {
                // Also when it was gone: whoever removed it may not have come as far as this.
                Ok(()) | Err(Errno::NOENT) => sync_directory(&directory),
                // A directory is no object.
                Err(Errno::ISDIR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        remove().map_err(|source| self.error("remove", name.as_str(), source))
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        let settle = || match self.directory(listed_directory(prefix)?) {
            // Directories are durable before anything is put in them.
            Ok(directory) => sync_directory(&directory),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        };
        settle().map_err(|source| self.error("settle", prefix, source))
    }
}

/// Makes `path` and what is missing above it, so that it survives a power cut.
fn make_durable_directories(path: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    for path in missing.into_iter().rev() {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        sync_directory(&open(path.join(".."), DIRECTORY, Mode::empty())?)?;
    }
    Ok(())
}

fn sync_directory(directory: &OwnedFd) -> io::Result<()> {
    match fsync(directory) {
        // Some network file systems have no such thing: names are as durable as their server's.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_regular_file(directory: &OwnedFd, name: &str) -> rustix::io::Result<bool> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_file())
}

/// The length of an object, which must be a regular file.
fn object_bytes(stat: &Stat) -> io::Result<u64> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => Err(Errno::NOENT.into()),
        kind => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is no regular file but a {kind:?}"),
        )),
    }
}

fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn error(location: &str, action: &'static str, object: &str, source: io::Error) -> BackendError {
    let kind = ErrorKind::from(&source);
    BackendError { kind, action, object: object.to_owned(), location: location.to_owned(), source }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests;
