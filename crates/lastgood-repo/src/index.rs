//! Which pack holds which blob: sorted runs with a filter in front, rebuilt from the repository's
//! index segments whenever the local copy is lost.
//!
//! The index is a hint. What it says is believed only for finding a blob, never for its content; a
//! damaged segment is skipped and a reader falls back to the snapshot's own packs.
//! Memory: 1.2 bytes a blob and 72 bytes a pack, plus [`MEMORY_ENTRIES_MAX`] entries.

mod run;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use lastgood_format::id::{BlobId, ObjectId};
use lastgood_format::index::{BlobPrefix, IndexSegment};
use lastgood_format::limits::INDEX_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::packset::PackRef;

use crate::error::RepoError;
use crate::repository::Repository;
use run::Run;

/// Where the index is kept.
#[derive(Debug, Clone, Default)]
pub struct IndexOptions {
    /// Folder for the local copy; without one, all of it is kept in memory.
    pub cache: Option<PathBuf>,
}

/// Where a blob is, as far as the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLocation {
    /// Its pack.
    pub pack: PackRef,
    /// Its position among the blobs of the pack's directory.
    pub ordinal: u32,
    /// Its length in bytes.
    pub bytes: u32,
}

/// The index of one repository.
#[derive(Debug)]
pub struct Index {
    runs: RwLock<Vec<Run>>,
    cache: Option<PathBuf>,
    damaged: Vec<ObjectId>,
    read_errors: AtomicU64,
}

impl Index {
    /// Brings the local copy up to date with the repository's segments.
    pub(crate) fn load(repo: &Repository, options: &IndexOptions) -> Result<Self, RepoError> {
        let mut segments = HashSet::new();
        repo.list(name::INDEX, &mut |id, _| {
            segments.extend(id.parse::<ObjectId>().ok());
        })?;
        let cache = options.cache.as_ref().map(|path| path.join("index"));
        let mut index = Self {
            runs: RwLock::new(Vec::new()),
            cache,
            damaged: Vec::new(),
            read_errors: AtomicU64::new(0),
        };
        let mut runs = match &index.cache {
            Some(folder) => run::open_all(folder, &segments),
            None => Vec::new(),
        };
        for run in &runs {
            run.sources.iter().for_each(|id| {
                segments.remove(id);
            });
        }
        let mut missing: Vec<ObjectId> = segments.into_iter().collect();
        missing.sort();
        let mut fresh = Run::default();
        for id in missing {
            match read_segment(repo, id) {
                Ok(None) => continue,
                Ok(Some(segment)) => fresh = fresh.merged_with(Run::memory(segment, vec![id])),
                Err(error) if error.is_damage() => index.damaged.push(id),
                Err(error) => return Err(error),
            }
            // A full cache disk costs memory and stops nothing.
            if fresh.entry_count() > MEMORY_ENTRIES_MAX
                && let Some(folder) = &index.cache
                && let Ok(written) = run::write(folder, &[&fresh])
            {
                runs.push(written);
                drop(run::compact(folder, &mut runs));
                fresh = Run::default();
            }
        }
        runs.push(fresh);
        *index.runs.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner) = runs;
        Ok(index)
    }

    /// The first place of a blob that `accept` takes; several packs may hold it.
    #[must_use]
    pub fn find(
        &self,
        blob: BlobId,
        accept: &mut dyn FnMut(&IndexLocation) -> bool,
    ) -> Option<IndexLocation> {
        let prefix = BlobPrefix::from(blob);
        let runs = self.runs.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.iter().rev().find_map(|run| match run.find(prefix, accept) {
            Ok(found) => found,
            Err(_) => {
                // A hint that cannot be read is no hint; the blob is stored again or found
                // through the snapshot's packs.
                self.read_errors.fetch_add(1, Ordering::Relaxed);
                None
            }
        })
    }

    /// Adds a segment that this process wrote.
    ///
    /// It goes to the local copy, or stays in memory where that cannot be written: a full cache
    /// disk is no reason to stop a backup.
    pub(crate) fn add(&self, segment: IndexSegment, id: ObjectId) {
        let mut run = Run::memory(segment, vec![id]);
        if run.entry_count() > MEMORY_ENTRIES_MAX / 8
            && let Some(folder) = &self.cache
            && let Ok(written) = run::write(folder, &[&run])
        {
            run = written;
        }
        self.runs.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(run);
    }

    /// Every pack that some segment covers.
    #[must_use]
    pub fn packs(&self) -> Vec<PackRef> {
        let runs = self.runs.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let packs: HashSet<PackRef> = runs.iter().flat_map(|run| run.packs()).copied().collect();
        packs.into_iter().collect()
    }

    /// Blobs in all segments; one that several packs hold counts several times.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        let runs = self.runs.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.iter().map(|run| run.entry_count() as u64).sum()
    }

    /// Segments that could not be read, and were skipped.
    #[must_use]
    pub fn damaged(&self) -> &[ObjectId] {
        &self.damaged
    }
}

/// Reads a segment, or nothing when it is gone by now.
fn read_segment(repo: &Repository, id: ObjectId) -> Result<Option<IndexSegment>, RepoError> {
    let object = name::index(id);
    let Some(bytes) = repo.find(&object, INDEX_BYTES_MAX)? else { return Ok(None) };
    let segment = IndexSegment::decode(repo.keys(), &bytes);
    segment.map(Some).map_err(|error| repo.damaged(&object, error))
}

/// Entries that are kept in memory before a run is written to the local copy: 2 MiB.
const MEMORY_ENTRIES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests;
