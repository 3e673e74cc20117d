//! The directory of a mirror, as the run and the recovery see it.
//!
//! Every change of a mirror is one call of [`Place`], so that a test can stop after any of them and
//! lose what was not synced.

use std::sync::{Arc, Mutex, PoisonError};

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::metadata::{ApplyPolicy, Metadata, Unset, flags};
use lastgood_host::scan::{Kind, ListBuffer, Stat};
use lastgood_host::source::{SourceError, SourceFile};
use lastgood_host::target::{Target, TargetDirectory, TargetFile};

use crate::record::{self, Path};

/// A directory that can be read and changed. Paths are relative to it and follow no link.
pub trait Place: Send + Sync {
    /// What lies at a path; `None` for nothing.
    ///
    /// # Errors
    /// When it cannot be examined.
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError>;
    /// The names in a directory, sorted; none where there is no directory.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn list(&self, path: &[u8]) -> Result<Vec<Path>, HostError>;
    /// Opens a regular file; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError>;
    /// Where a symbolic link points to; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_link(&self, path: &[u8]) -> Result<Option<Path>, HostError>;
    /// Makes a directory in one that is there.
    ///
    /// # Errors
    /// [`HostError::is_exists`] among others.
    fn make_directory(&self, path: &[u8]) -> Result<(), HostError>;
    /// Makes an empty file.
    ///
    /// # Errors
    /// [`HostError::is_exists`] among others.
    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError>;
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`HostError::is_exists`] among others.
    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), HostError>;
    /// Gives a file a second name.
    ///
    /// # Errors
    /// [`HostError::is_no_link`] where there are no hard links.
    fn link(&self, from: &[u8], to: &[u8]) -> Result<(), HostError>;
    /// Renames, over what is there.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError>;
    /// Removes what is no directory.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn remove(&self, path: &[u8]) -> Result<(), HostError>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`HostError::is_not_empty`] among others.
    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError>;
    /// Sets the metadata of what lies at a path, as far as a mirror shows it.
    ///
    /// # Errors
    /// When it cannot be opened; what cannot be set is returned.
    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError>;
    /// As [`Place::look`], of a file that was made at a path and is open still.
    ///
    /// # Errors
    /// As of [`Place::look`].
    fn dress(&self, path: &[u8], file: &TargetFile, entry: &Entry)
    -> Result<Vec<Unset>, HostError>;
    /// Makes everything durable that was done so far.
    ///
    /// # Errors
    /// Then nothing is known to be durable.
    fn sync(&self) -> Result<(), HostError>;
}

/// A directory of this machine.
#[derive(Debug)]
pub struct HostPlace {
    target: Target,
    policy: ApplyPolicy,
    /// Directories that were looked into last, the latest at the end: paths come one directory after
    /// the other, and what leaves one goes to another.
    known: Mutex<Vec<(Path, Arc<TargetDirectory>)>>,
}

impl HostPlace {
    /// Opens a directory that exists.
    ///
    /// # Errors
    /// When it does not, or is no directory.
    pub fn open(path: &std::path::Path) -> Result<Self, HostError> {
        Target::open_existing(path).map(Self::new)
    }

    /// Opens a directory, which is made where it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or is no directory.
    pub fn create(path: &std::path::Path) -> Result<Self, HostError> {
        Target::open(path).map(Self::new)
    }

    fn new(target: Target) -> Self {
        // Others may own what is mirrored only where we may give it away.
        let owner = lastgood_host::identity::is_root();
        let policy = ApplyPolicy { owner, special: false };
        Self { target, policy, known: Mutex::default() }
    }

    /// The directory that a path lies in, as it was when it was looked into last, and the name there.
    fn parent<'a>(&self, path: &'a [u8]) -> Result<(Arc<TargetDirectory>, &'a [u8]), HostError> {
        let (parent, name) = (record::parent(path).unwrap_or_default(), record::name(path));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.iter().rposition(|(path, _)| **path == *parent) {
            known[index..].rotate_left(1);
        } else {
            let directory = Arc::new(self.target.directory(parent)?);
            if known.len() == KNOWN_MAX {
                known.remove(0);
            }
            known.push((parent.into(), directory));
        }
        Ok((known[known.len() - 1].1.clone(), name))
    }

    /// A name may mean another directory now, and with it all below.
    fn forget(&self, path: &[u8]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(directory, _)| !record::is_below(directory, path));
    }

    /// What a mirror shows of an entry. One that its owner cannot read or change is none; the records
    /// have the real mode.
    fn shown(entry: &Entry) -> Metadata<'_> {
        let keep = if entry.is_directory() { 0o700 } else { 0o400 };
        let flags = entry.flags & !flags::LOCKING;
        Metadata { mode: entry.mode | keep, flags, ..Metadata::from(entry) }
    }
}

/// Where there is nothing, there is none.
fn there<T>(result: Result<T, HostError>) -> Result<Option<T>, HostError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() || error.is_not_directory() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Place for HostPlace {
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError> {
        if path.is_empty() {
            return self.target.root().source().own_stat().map(Some);
        }
        there(self.parent(path).and_then(|(parent, name)| parent.source().stat(name)))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Path>, HostError> {
        let Some(directory) = there(self.target.directory(path))? else {
            return Ok(Vec::new());
        };
        let listing = directory.source().list(&mut ListBuffer::new())?;
        Ok(listing.names().map(Path::from).collect())
    }

    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError> {
        let Some((parent, name)) = there(self.parent(path))? else { return Ok(None) };
        match SourceFile::open(parent.source(), name) {
            Ok(file) => Ok(Some(file)),
            Err(SourceError::ChangedKind { .. }) => Ok(None),
            Err(SourceError::Host(error)) => there(Err(error)),
        }
    }

    fn read_link(&self, path: &[u8]) -> Result<Option<Path>, HostError> {
        there(self.parent(path).and_then(|(parent, name)| parent.source().read_link(name)))
    }

    fn make_directory(&self, path: &[u8]) -> Result<(), HostError> {
        let (parent, name) = self.parent(path)?;
        parent.create_directory(name).map(drop)
    }

    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError> {
        let (parent, name) = self.parent(path)?;
        parent.create_file(name)
    }

    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), HostError> {
        let (parent, name) = self.parent(path)?;
        parent.create_symlink(name, target).map(drop)
    }

    fn link(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        let ((from, from_name), (to, to_name)) = (self.parent(from)?, self.parent(to)?);
        to.hard_link(to_name, &from, from_name)
    }

    fn rename(&self, old: &[u8], new: &[u8]) -> Result<(), HostError> {
        let ((from, from_name), (to, to_name)) = (self.parent(old)?, self.parent(new)?);
        from.rename_into(from_name, &to, to_name)?;
        self.forget(old);
        self.forget(new);
        Ok(())
    }

    fn remove(&self, path: &[u8]) -> Result<(), HostError> {
        let (parent, name) = self.parent(path)?;
        parent.remove_entry(name)
    }

    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError> {
        let (parent, name) = self.parent(path)?;
        self.forget(path);
        parent.remove_directory(name)
    }

    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError> {
        let metadata = Self::shown(entry);
        if entry.is_directory() {
            return Ok(self.target.directory(path)?.apply(&metadata, self.policy));
        }
        let (parent, name) = self.parent(path)?;
        Ok(parent.open_node(name)?.apply(&metadata, self.policy))
    }

    fn dress(&self, _: &[u8], file: &TargetFile, entry: &Entry) -> Result<Vec<Unset>, HostError> {
        let shown = Self::shown(entry);
        // Such flags can only be set before anything is written.
        let metadata = Metadata { flags: shown.flags & !flags::EARLY, ..shown };
        Ok(file.apply(&metadata, self.policy))
    }

    fn sync(&self) -> Result<(), HostError> {
        // What others do to names while a run goes on is looked at again at each step of it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.target.sync_filesystem()
    }
}

/// Makes the directories above a path, where they are missing.
///
/// # Errors
/// When one cannot be made, or something else bears its name.
pub(crate) fn make_way(place: &dyn Place, path: &[u8]) -> Result<(), HostError> {
    match record::parent(path) {
        Some(parent) if !parent.is_empty() => make_directories(place, parent),
        _ => Ok(()),
    }
}

/// Makes a directory and those above it, where they are missing.
///
/// # Errors
/// When one cannot be made, or something else bears its name.
pub(crate) fn make_directories(place: &dyn Place, path: &[u8]) -> Result<(), HostError> {
    match place.make_directory(path) {
        Err(error) if error.is_not_found() => {
            make_way(place, path)?;
            place.make_directory(path)
        }
        Err(error) if error.is_exists() => Ok(()),
        made => made,
    }
}

/// Writes a whole small file, which is not there yet.
///
/// # Errors
/// Part of it may be there then.
pub(crate) fn write(place: &dyn Place, path: &[u8], bytes: &[u8]) -> Result<TargetFile, HostError> {
    let file = place.create(path)?;
    file.write_at(bytes, 0)?;
    Ok(file)
}

/// Reads a whole file; `None` where there is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(place: &dyn Place, path: &[u8]) -> Result<Option<Vec<u8>>, HostError> {
    let Some(file) = place.open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        bytes.resize(start + READ_BYTES, 0);
        let count = file.read_at(&mut bytes[start..], start as u64)?;
        bytes.truncate(start + count);
        if count < READ_BYTES {
            return Ok(Some(bytes));
        }
    }
}

/// Removes all that a directory holds, and not the directory.
///
/// # Errors
/// The rest is there then.
pub(crate) fn empty(place: &dyn Place, directory: &[u8]) -> Result<(), HostError> {
    for name in place.list(directory)? {
        let path = record::join(directory, &name);
        match place.stat(&path)? {
            Some(stat) if stat.kind == Kind::Directory => {
                empty(place, &path)?;
                place.remove_directory(&path)?;
            }
            Some(_) => place.remove(&path)?,
            None => {}
        }
    }
    Ok(())
}

/// Removes names below a directory of files that have others.
///
/// # Errors
/// The rest is there then.
pub(crate) fn drop_other_names(place: &dyn Place, directory: &[u8]) -> Result<(), HostError> {
    for name in place.list(directory)? {
        let path = record::join(directory, &name);
        match place.stat(&path)? {
            Some(stat) if stat.kind == Kind::Directory => drop_other_names(place, &path)?,
            Some(stat) if stat.kind == Kind::File && stat.links > 1 => place.remove(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Counts kinds of metadata that could not be set.
pub(crate) fn count_unset(counts: &mut Vec<(String, u64)>, unset: Vec<Unset>) {
    for unset in unset {
        add_unset(counts, format!("{:?}", unset.aspect).to_lowercase(), 1);
    }
}

/// Adds to the count of a kind of metadata.
pub(crate) fn add_unset(counts: &mut Vec<(String, u64)>, what: String, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == what) {
        Some((_, count)) => *count += more,
        None => counts.push((what, more)),
    }
}

/// So many directories are held open.
const KNOWN_MAX: usize = 8;
pub(crate) const READ_BYTES: usize = 256 << 10;
