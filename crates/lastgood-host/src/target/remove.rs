//! Removing, by open directories only.

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::directory::{clear_locks, unlock_name};
use crate::HostError;
use crate::scan::{Directory, Kind, ListBuffer, Listing};

/// Directories open at once while a tree is removed. Deeper ones are reached by closing those
/// above and opening them again by name.
const OPEN_MAX: usize = 32;

/// Removes what is no directory.
pub(super) fn entry(directory: &Directory, name: &[u8]) -> Result<(), HostError> {
    unlink(directory, name, AtFlags::empty())
}

fn unlink(directory: &Directory, name: &[u8], flags: AtFlags) -> Result<(), HostError> {
    let removed = match unlinkat(directory.fd(), name, flags) {
        // Immutable or append-only, as far as it can be helped.
        Err(Errno::PERM) if clear_locks(directory, name).is_ok() => {
            unlinkat(directory.fd(), name, flags)
        }
        removed => removed,
    };
    removed.map_err(|errno| directory.error("remove", name, errno))
}

/// One directory on the way down.
struct Level {
    /// Its name in the level above.
    name: Box<[u8]>,
    /// Closed while too many below it are open.
    directory: Option<Directory>,
    listing: Listing,
    /// First name that was not dealt with.
    next: usize,
}

/// Removes an entry of any kind; see [`super::TargetDirectory::remove_tree`].
pub(super) fn tree(top: &Directory, name: &[u8], failed: &mut dyn FnMut(HostError)) -> u64 {
    let stat = match top.own_stat() {
        Ok(stat) => stat,
        Err(error) => {
            failed(error);
            return 0;
        }
    };
    let mut removal = Removal {
        top,
        mount: (stat.hint.device, stat.mount_id),
        levels: Vec::new(),
        buffer: ListBuffer::new(),
        removed: 0,
    };
    match removal.visit(name) {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => failed(error),
    }
    while !removal.levels.is_empty() {
        if let Err(error) = removal.step()
            && !error.is_not_found()
        {
            failed(error);
        }
    }
    removal.removed
}

struct Removal<'a> {
    /// Where the tree hangs.
    top: &'a Directory,
    /// Device and mount of all that may be removed.
    mount: (u64, u64),
    levels: Vec<Level>,
    buffer: ListBuffer,
    removed: u64,
}

impl Removal<'_> {
    /// Deals with the next name of the deepest level, or leaves that level.
    fn step(&mut self) -> Result<(), HostError> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        if level.next < level.listing.len() {
            let name: Box<[u8]> = level.listing.name(level.next).into();
            level.next += 1;
            return self.visit(&name);
        }
        let Some(level) = self.levels.pop() else {
            return Ok(());
        };
        drop(level.directory);
        self.reopen()?;
        unlink(self.deepest(), &level.name, AtFlags::REMOVEDIR)?;
        self.removed += 1;
        Ok(())
    }

    /// Removes `name` from the deepest level, or goes down into it.
    fn visit(&mut self, name: &[u8]) -> Result<(), HostError> {
        let directory = self.deepest();
        let stat = directory.stat(name)?;
        if stat.kind != Kind::Directory {
            entry(directory, name)?;
            self.removed += 1;
            return Ok(());
        }
        if (stat.hint.device, stat.mount_id) != self.mount {
            return Err(directory.error("empty the mount point", name, Errno::BUSY));
        }
        // What its owner may not list or change now, its owner may be about to.
        unlock_name(directory, name).ok();
        let child = directory.open_child(name)?;
        let listing = child.list(&mut self.buffer)?;
        self.levels.push(Level { name: name.into(), directory: Some(child), listing, next: 0 });
        if let Some(above) = self.levels.len().checked_sub(OPEN_MAX + 1) {
            self.levels[above].directory = None;
        }
        Ok(())
    }

    /// The deepest open directory; those below it were just left.
    fn deepest(&self) -> &Directory {
        self.levels.last().map_or(self.top, |level| {
            level.directory.as_ref().expect("only levels above the deepest are closed")
        })
    }

    /// Opens the deepest level again if it was closed. If it is not the same any more, it is left
    /// with what it holds.
    fn reopen(&mut self) -> Result<(), HostError> {
        if self.levels.last().is_none_or(|level| level.directory.is_some()) {
            return Ok(());
        }
        let names: Vec<&[u8]> = self.levels.iter().map(|level| &*level.name).collect();
        match self.top.open_descendant(&names.join(&b'/')) {
            Ok(directory) => {
                if let Some(level) = self.levels.last_mut() {
                    level.directory = Some(directory);
                }
                Ok(())
            }
            Err(error) => {
                self.levels.clear();
                Err(error)
            }
        }
    }
}
