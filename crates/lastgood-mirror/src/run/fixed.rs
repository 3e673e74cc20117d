//! What nobody can change in `latest/`: somebody locked it, or the disk does not answer for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{self, Path};

/// Paths that stay as they are.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    /// Each with why.
    paths: BTreeMap<Path, String>,
    /// Directories of the source for which there is no place.
    missing: BTreeSet<Path>,
}

impl Fixed {
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub(super) fn add(&mut self, path: &[u8], why: &str) {
        self.paths.insert(path.into(), why.to_owned());
    }

    /// Why nothing can come to a path or go from there: because of itself, or its directory.
    pub(super) fn why(&self, path: &[u8]) -> Option<&str> {
        self.why_itself(path).or_else(|| self.why_itself(record::parent(path)?))
    }

    /// Why what lies at a path cannot be changed.
    pub(super) fn why_itself(&self, path: &[u8]) -> Option<&str> {
        self.paths.get(path).map(String::as_str)
    }

    /// A directory cannot come to be at a path.
    pub(super) fn miss(&mut self, path: &[u8]) {
        self.missing.insert(path.into());
    }

    /// Whether a path lies in a directory that cannot come to be.
    pub(super) fn is_below_missing(&self, path: &[u8]) -> bool {
        let mut above = record::parent(path);
        while let Some(directory) = above.filter(|_| !self.missing.is_empty()) {
            if self.missing.contains(directory) {
                return true;
            }
            above = record::parent(directory);
        }
        false
    }
}

/// Why somebody's file stays.
pub(super) const LOCKED: &str = "it is immutable or append-only (chattr): it stays as it is";
