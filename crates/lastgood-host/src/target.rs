//! Writing beneath one directory, so that nothing ends up elsewhere.
//!
//! A [`Target`] is opened once by the path the user gave. From there on every name is one
//! component of an open directory: names from a snapshot are checked as a tree would check them,
//! links in the way are never followed, whoever planted them and whenever, and metadata is set on
//! what is open and never on a name. What stands in the way is replaced only by the call that says
//! so.
//!
//! An entry appears with the permissions of its owner alone; [`TargetFile::apply`] and its
//! siblings give it the wanted ones at the end.

mod directory;
mod file;
mod node;
mod remove;

#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs;

use crate::HostError;
use crate::scan::Directory;
use crate::sys;

pub use directory::TargetDirectory;
pub use file::TargetFile;
pub use node::TargetNode;

/// The directory that is written to.
#[derive(Debug)]
pub struct Target {
    root: TargetDirectory,
}

impl Target {
    /// Opens the directory at `path`, following links as the user may have set them; creates it
    /// and the directories above it where they are missing.
    ///
    /// # Errors
    /// When it cannot be created or is no directory.
    pub fn open(path: &Path) -> Result<Self, HostError> {
        std::fs::create_dir_all(path).map_err(|source| HostError {
            action: "create directory",
            path: path.into(),
            source,
        })?;
        Self::open_existing(path)
    }

    /// Opens the directory at `path`, which exists: for dry runs and comparisons.
    ///
    /// # Errors
    /// When it does not exist or is no directory.
    pub fn open_existing(path: &Path) -> Result<Self, HostError> {
        Ok(Self { root: TargetDirectory::new(Directory::open_root(path)?) })
    }

    /// The directory itself.
    #[must_use]
    pub const fn root(&self) -> &TargetDirectory {
        &self.root
    }

    /// A directory any number of levels below, by its path from here, `a/b/c`; the empty path is
    /// the target itself. One call of the system for paths under 4000 bytes.
    ///
    /// # Errors
    /// [`HostError::is_not_directory`] when a component is a link or no directory.
    pub fn directory(&self, relative: &[u8]) -> Result<TargetDirectory, HostError> {
        self.root.descend(relative)
    }

    /// Makes durable all that was written to the file system of the target: once, at the end.
    ///
    /// # Errors
    /// Also when an earlier write of anybody to this file system failed in the background.
    pub fn sync_filesystem(&self) -> Result<(), HostError> {
        let root = self.root.source();
        sys::retry(|| fs::syncfs(root.fd().as_fd()))
            .map_err(|errno| HostError::new("sync", root.path().into(), errno))
    }
}

/// Start and end of a temporary name.
const TEMPORARY: (&[u8], &[u8]) = (b".lastgood-", b".part");

/// A name for a file that will be renamed when it is whole. Different for different seeds.
#[must_use]
pub fn temporary_name(seed: u64) -> Box<[u8]> {
    let seed = format!("{seed:016x}");
    [TEMPORARY.0, seed.as_bytes(), TEMPORARY.1].concat().into()
}

/// Whether `name` is one that [`temporary_name`] makes: a leftover of a run that was cut.
#[must_use]
pub fn is_temporary_name(name: &[u8]) -> bool {
    let seed = name.strip_prefix(TEMPORARY.0).and_then(|rest| rest.strip_suffix(TEMPORARY.1));
    seed.is_some_and(|seed| {
        seed.len() == 16 && seed.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
