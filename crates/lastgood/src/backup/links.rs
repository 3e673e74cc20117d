//! Hard links: which paths are one file, and its content once it was read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use lastgood_host::scan::Stat;
use lastgood_repo::format::entry::Entry;
use lastgood_repo::format::limits::PATH_BYTES_MAX;
use lastgood_repo::format::links::Link;

/// Files with more than one name that were met so far.
#[derive(Debug, Default)]
pub(super) struct LinkTable(Mutex<HashMap<(u64, u64), LinkedFile>>);

#[derive(Debug)]
struct LinkedFile {
    paths: Vec<Box<[u8]>>,
    /// What was stored of it, and the state it was in.
    stored: Option<(Stat, Entry)>,
}

impl LinkTable {
    /// Notes that `path` is a name of the file; returns what another name of it has stored.
    pub(super) fn meet(&self, stat: &Stat, path: Box<[u8]>) -> Option<Entry> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = files
            .entry(stat.file_id())
            .or_insert_with(|| LinkedFile { paths: Vec::new(), stored: None });
        // No reader takes a longer one; it is stored as a file of its own.
        if path.len() <= PATH_BYTES_MAX {
            file.paths.push(path);
        }
        let (was, entry) = file.stored.as_ref()?;
        stat.is_unchanged_since(was).then(|| entry.clone())
    }

    /// Takes `path` back: what was read there is not the file that was met.
    pub(super) fn forget(&self, stat: &Stat, path: &[u8]) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get_mut(&stat.file_id()) {
            file.paths.retain(|known| **known != *path);
        }
    }

    /// Notes what was stored of the file.
    pub(super) fn stored(&self, stat: &Stat, entry: &Entry) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get_mut(&stat.file_id()) {
            file.stored.get_or_insert_with(|| (*stat, entry.clone()));
        }
    }

    /// The table of the snapshot, sorted by path.
    pub(super) fn take_rows(&self) -> Vec<Link> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let files = std::mem::take(&mut *files);
        let mut rows = Vec::new();
        for mut file in files.into_values() {
            file.paths.sort();
            let mut paths = file.paths.into_iter();
            if let Some(leader) = paths.next() {
                rows.extend(paths.map(|path| Link { path, leader: leader.clone() }));
            }
        }
        rows.sort();
        rows
    }
}
