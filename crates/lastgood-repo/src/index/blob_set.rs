//! A set of blobs that takes as little memory as the index does, however many there are.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use lastgood_format::id::BlobId;
use lastgood_format::index::{BlobPrefix, IndexEntry, IndexSegment};

use super::run::{self, LocalCopy, Run};
use super::{Index, MEMORY_ENTRIES_MAX};
use crate::error::RepoError;
use crate::packer::lock;

/// Blobs that were met, for runs that store nothing and so fill no index.
///
/// Two bytes a blob and a few megabytes; the rest is in files without names beside the local copy
/// of the index, which are gone with the set. Where these cannot be written, or there is no local
/// copy, all of it is in memory. May be shared by threads.
#[derive(Debug)]
pub struct BlobSet(Mutex<Blobs>);

#[derive(Debug)]
struct Blobs {
    local: Option<LocalCopy>,
    newest: HashSet<BlobPrefix>,
    runs: Vec<Arc<Run>>,
}

impl BlobSet {
    /// An empty set that keeps its files beside those of `index`.
    #[must_use]
    pub fn beside(index: &Index) -> Self {
        let local = index.local.clone();
        Self(Mutex::new(Blobs { local, newest: HashSet::new(), runs: Vec::new() }))
    }

    /// Adds a blob. Returns whether it was not in the set.
    pub fn insert(&self, blob: BlobId) -> bool {
        let blob = BlobPrefix::from(blob);
        let mut blobs = lock(&self.0);
        if blobs.contains(blob) {
            return false;
        }
        blobs.newest.insert(blob);
        if blobs.newest.len() >= MEMORY_ENTRIES_MAX && blobs.spill().is_err() {
            blobs.local = None;
        }
        true
    }

    /// Whether a blob is in the set.
    #[must_use]
    pub fn contains(&self, blob: BlobId) -> bool {
        lock(&self.0).contains(blob.into())
    }
}

impl Blobs {
    fn contains(&self, blob: BlobPrefix) -> bool {
        // A file that cannot be read any more makes a blob count twice and nothing else.
        let is_in = |run: &Arc<Run>| run.find_entry(blob, &mut |_, _| true).unwrap_or(false);
        self.newest.contains(&blob) || self.runs.iter().any(is_in)
    }

    fn spill(&mut self) -> Result<(), RepoError> {
        let Some(local) = &self.local else { return Ok(()) };
        let entry = |&blob| IndexEntry { blob, pack: 0, ordinal: 0, bytes: 0 };
        let entries = self.newest.iter().map(entry).collect();
        let run = Run::sorted(IndexSegment { packs: Vec::new(), entries }, Vec::new());
        self.runs.push(Arc::new(local.write_nameless(&[&run])?));
        self.newest.clear();
        run::compact(&mut self.runs, &|runs| local.write_nameless(runs))
    }
}
