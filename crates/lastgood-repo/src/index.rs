//! Which pack holds which blob: sorted runs with a filter in front, rebuilt from the repository's
//! index segments whenever the local copy is lost.
//!
//! The index is a hint. What it says is believed only for finding a blob, never for its content; a
//! damaged segment is skipped and a reader falls back to the snapshot's own packs.
//! Memory: 1.3 bytes a blob and 72 bytes a pack, plus [`MEMORY_ENTRIES_MAX`] entries, plus what was
//! looked into, up to 4 MiB a run.

mod blob_set;
mod marks;
mod run;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use lastgood_format::id::{BlobId, ObjectId};
use lastgood_format::index::{BlobPrefix, IndexSegment};
use lastgood_format::key::RepositoryKeys;
use lastgood_format::limits::INDEX_BYTES_MAX;
use lastgood_format::object::{name, object_id};
use lastgood_format::packset::PackRef;

use crate::error::{Damage, RepoError};
use crate::repository::Repository;
pub use blob_set::BlobSet;
pub(crate) use marks::{BlobMarks, Fingerprint, Mark};
pub(crate) use run::LocalCopy;
use run::Run;

/// Where the index is kept.
#[derive(Debug, Clone, Default)]
pub struct IndexOptions {
    /// Folder for the local copy; without one, all of it is kept in memory.
    pub cache: Option<PathBuf>,
}

impl LocalCopy {
    /// The local copy of the index of the repository with these keys.
    pub(crate) fn of(options: &IndexOptions, keys: &RepositoryKeys) -> Option<Self> {
        let key = blake3::derive_key(LOCAL_KEY_CONTEXT, keys.index().expose());
        options.cache.as_ref().map(|cache| Self::new(cache.join("index"), key))
    }
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
    runs: RwLock<Vec<Arc<Run>>>,
    local: Option<LocalCopy>,
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
        let mut index = Self::aside(LocalCopy::of(options, repo.keys()));
        let mut runs = match &index.local {
            Some(local) => local.open_all(&segments).into_iter().map(Arc::new).collect(),
            None => Vec::new(),
        };
        for run in &runs {
            run.sources.iter().for_each(|id| {
                segments.remove(id);
            });
        }
        let mut missing: Vec<ObjectId> = segments.into_iter().collect();
        missing.sort();
        let (mut fresh, mut sources) = (IndexSegment::default(), Vec::new());
        let (mut left, mut is_merged_meanwhile) = (missing.len(), false);
        for id in missing {
            left -= 1;
            match read_segment(repo, id) {
                Ok(None) => {
                    is_merged_meanwhile = true;
                    continue;
                }
                Ok(Some(segment)) => {
                    fresh.append(segment);
                    sources.push(id);
                }
                Err(error) if error.is_damage() => index.damaged.push(id),
                Err(error) => return Err(error),
            }
            // Many short segments become one run as well, so that none is fetched at every start.
            let is_long = fresh.entries.len() > MEMORY_ENTRIES_MAX;
            if (is_long || (left == 0 && sources.len() > SEGMENTS_FETCHED_MAX))
                && let Some(local) = &index.local
            {
                let mut run = Run::sorted(std::mem::take(&mut fresh), std::mem::take(&mut sources));
                // A full cache disk costs memory and stops nothing.
                if let Ok(written) = local.write(&[&run]) {
                    run = written;
                }
                runs.push(Arc::new(run));
                drop(run::compact(&mut runs, &|runs| local.write(runs)));
            }
        }
        runs.push(Arc::new(Run::sorted(fresh, sources)));
        *index.runs.get_mut().unwrap_or_else(PoisonError::into_inner) = runs;
        if is_merged_meanwhile {
            // Whoever removed a segment put one before that says the same.
            index.refresh(repo)?;
        }
        Ok(index)
    }

    /// Adds the segments that were put since the index was loaded.
    ///
    /// # Errors
    /// When segments cannot be listed, or one may be readable later.
    pub(crate) fn refresh(&self, repo: &Repository) -> Result<(), RepoError> {
        let mut segments: BTreeSet<ObjectId> = BTreeSet::new();
        repo.list(name::INDEX, &mut |id, _| segments.extend(id.parse::<ObjectId>().ok()))?;
        for run in self.runs().iter() {
            run.sources.iter().for_each(|id| {
                segments.remove(id);
            });
        }
        for id in segments.into_iter().filter(|id| !self.damaged.contains(id)) {
            match read_segment(repo, id) {
                Ok(Some(segment)) => self.add(segment, id),
                Ok(None) => {}
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// An empty index for what no segment covers. Its files have no names and are gone when it is
    /// dropped.
    pub(crate) fn aside(local: Option<LocalCopy>) -> Self {
        Self { runs: RwLock::default(), local, damaged: Vec::new(), read_errors: AtomicU64::new(0) }
    }

    /// Adds what no segment covers to an index made by [`aside`](Self::aside). Segments should be
    /// large, since each is asked in turn.
    pub(crate) fn add_aside(&self, segment: IndexSegment) {
        let mut run = Run::sorted(segment, Vec::new());
        let Some(local) = &self.local else {
            return self.push(run);
        };
        if run.entry_count() > MEMORY_ENTRIES_MAX / 8
            && let Ok(written) = local.write_nameless(&[&run])
        {
            run = written;
        }
        self.push(run);
        // Where the disk is full, there are more runs to ask; nothing is lost.
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        drop(run::compact(&mut runs, &|runs| local.write_nameless(runs)));
    }

    fn push(&self, run: Run) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(run));
    }

    fn runs(&self) -> RwLockReadGuard<'_, Vec<Arc<Run>>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first place of a blob that `accept` takes; several packs may hold it.
    pub fn find(
        &self,
        blob: BlobId,
        accept: &mut dyn FnMut(&IndexLocation) -> bool,
    ) -> Option<IndexLocation> {
        let prefix = BlobPrefix::from(blob);
        let accept = &mut |_, location: &IndexLocation| accept(location);
        self.runs().iter().rev().find_map(|run| match run.find(prefix, accept) {
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
        let mut run = Run::sorted(segment, vec![id]);
        if run.entry_count() > MEMORY_ENTRIES_MAX / 8
            && let Some(local) = &self.local
            && let Ok(written) = local.write(&[&run])
        {
            run = written;
        }
        self.push(run);
        // A process that lives long adds many, and each is asked in turn. Where the disk is full,
        // there are more to ask; nothing is lost.
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        drop(run::compact(&mut runs, &|runs| self.merged(runs)));
    }

    /// One run of several: in memory while it is short, or where there is no local copy.
    fn merged(&self, runs: &[&Run]) -> Result<Run, RepoError> {
        let entries: usize = runs.iter().map(|run| run.entry_count()).sum();
        let is_short = entries <= MEMORY_ENTRIES_MAX;
        match &self.local {
            Some(local) if !is_short => local.write(runs),
            local => match (Run::merged_in_memory(runs), local) {
                (Some(merged), _) => Ok(merged),
                (None, Some(local)) => local.write(runs),
                // Files there are only in a local copy.
                (None, None) => Err(RepoError::Stopped),
            },
        }
    }

    /// Every pack that some segment covers.
    #[must_use]
    pub fn packs(&self) -> Vec<PackRef> {
        let runs = self.runs();
        let packs: HashSet<PackRef> = runs.iter().flat_map(|run| run.packs()).copied().collect();
        packs.into_iter().collect()
    }

    /// Blobs in all segments; one that several packs hold counts several times.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.runs().iter().map(|run| run.entry_count() as u64).sum()
    }

    /// What is wrong with each segment that could not be read, and was skipped.
    pub(crate) fn damage(&self, repo: &Repository) -> impl Iterator<Item = RepoError> {
        let state = "it cannot be read; the next backup indexes its packs again";
        let damage = |id: &ObjectId| repo.damaged(&name::index(*id), Damage::State(state));
        self.damaged.iter().map(damage)
    }
}

/// Reads a segment, or nothing when it is gone by now.
pub(crate) fn read_segment(
    repo: &Repository,
    id: ObjectId,
) -> Result<Option<IndexSegment>, RepoError> {
    let object = name::index(id);
    let Some(bytes) = repo.find(&object, INDEX_BYTES_MAX)? else { return Ok(None) };
    if object_id(&bytes) != id {
        return Err(repo.damaged(&object, Damage::Name));
    }
    let segment = IndexSegment::decode(repo.keys(), &bytes);
    segment.map(Some).map_err(|error| repo.damaged(&object, error))
}

const LOCAL_KEY_CONTEXT: &str = "lastgood 2026-11 v1 local copy of the index";
/// Short segments that are fetched again at every start.
const SEGMENTS_FETCHED_MAX: usize = 16;
/// Entries that are kept in memory before a run is written to the local copy: 2 MiB.
const MEMORY_ENTRIES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests;
