//! Walking a source, one directory at a time.
//!
//! A directory is listed in one go, names only (16 bytes and the name each), sorted; metadata is
//! then read name by name in that order, so a directory of a million entries costs its names and
//! nothing else. What costs an extra call per entry, extended attributes and inode flags, is read
//! only when asked for: an unchanged entry takes them from its baseline.

mod directory;
mod listing;
mod stat;

#[cfg(test)]
mod tests;

pub use directory::{Directory, Root, RootEntry, Scan, Scanned, Seen};
pub use listing::{ListBuffer, Listing};
pub use stat::{Kind, Stat};
