//! The directories that a run is at: who waits for whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use lastgood_host::scan::Directory;
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::limits::TREE_DEPTH_MAX;

use super::baseline::BaselineRef;
use super::building::{Building, Slice};
use super::directory::DirectoryScan;
use super::engine::lock;
use super::sink::{Sink, Stop};

/// A directory that waits for a worker.
pub(super) struct DirectoryTask {
    pub(super) open: Opening,
    pub(super) node: Arc<DirectoryNode>,
}

/// How a directory is opened once its turn comes, so that few are open at a time.
pub(super) enum Opening {
    /// By name in its parent, which stays open until then.
    In(Arc<Directory>, Box<[u8]>),
    /// A source.
    Root(Directory),
    /// It is open, and a part of it was scanned.
    Rest(Box<DirectoryScan>),
}

impl DirectoryTask {
    /// Whether so many entries of the directory are open already that somebody's slow work on a
    /// subdirectory must be waited for. Then somebody is at that work: what lies below a slice is
    /// taken before the rest.
    pub(super) fn must_wait(&self) -> bool {
        matches!(self.open, Opening::Rest(_))
            && self.node.open_len.load(Ordering::Relaxed) > OPEN_ENTRIES_MAX
    }
}

/// A directory of the tree that is being built.
pub(super) struct DirectoryNode {
    parent: Option<(Arc<Self>, usize)>,
    /// Index of its source; `usize::MAX` on the way to sources.
    pub(super) source: usize,
    /// Device that its source lies on.
    pub(super) root_device: u64,
    /// Path in the snapshot, components joined by `/`.
    pub(super) path: Box<[u8]>,
    /// Path below its source.
    pub(super) below_source: usize,
    pub(super) baseline: Option<BaselineRef>,
    /// Its own scan and its subdirectories that are not done yet.
    pending: AtomicUsize,
    building: Mutex<Building>,
    /// Its entries that are in no page yet.
    open_len: AtomicUsize,
    /// Subdirectories that are not done, by their places.
    children: Mutex<HashMap<usize, Weak<Self>>>,
}

impl DirectoryNode {
    pub(super) fn new(
        parent: Option<(Arc<Self>, usize)>,
        source: usize,
        root_device: u64,
        path: Box<[u8]>,
        below_source: usize,
        baseline: Option<BaselineRef>,
    ) -> Self {
        Self {
            parent,
            source,
            root_device,
            path,
            below_source,
            baseline,
            pending: AtomicUsize::new(1),
            building: Mutex::default(),
            open_len: AtomicUsize::new(0),
            children: Mutex::default(),
        }
    }

    /// A subdirectory of `parent` that must be done before it is.
    pub(super) fn child(
        parent: &Arc<Self>,
        index: usize,
        source: usize,
        root_device: u64,
        path: Box<[u8]>,
        below_source: usize,
        baseline: Option<BaselineRef>,
    ) -> Arc<Self> {
        parent.pending.fetch_add(1, Ordering::Relaxed);
        let above = Some((parent.clone(), index));
        let child = Self::new(above, source, root_device, path, below_source, baseline);
        let child = Arc::new(child);
        lock(&parent.children).insert(index, Arc::downgrade(&child));
        child
    }

    /// Notes that one thing it waited for is done; gives what was found when that was the last.
    pub(super) fn complete(&self) -> Option<Building> {
        (self.pending.fetch_sub(1, Ordering::AcqRel) == 1)
            .then(|| std::mem::take(&mut *self.building()))
    }

    /// The directory it lies in, and its place there.
    pub(super) const fn parent(&self) -> Option<&(Arc<Self>, usize)> {
        self.parent.as_ref()
    }

    /// The subdirectory at `index`, if it is not done.
    pub(super) fn child_at(&self, index: usize) -> Option<Arc<Self>> {
        lock(&self.children).get(&index).and_then(Weak::upgrade)
    }

    /// What was found of it so far.
    pub(super) fn building(&self) -> MutexGuard<'_, Building> {
        lock(&self.building)
    }

    /// Adds entries, of which the baseline has `baseline_len` in all, and says whether they were
    /// the last.
    pub(super) fn append(&self, slice: Slice, baseline_len: u64, is_whole: bool) {
        let mut building = self.building();
        building.append(slice, baseline_len, is_whole);
        self.open_len.store(building.open_len(), Ordering::Relaxed);
    }

    /// How many entries it has so far.
    pub(super) fn len(&self) -> usize {
        lock(&self.building).len()
    }

    /// Notes that it is not the baseline's, whatever its entries are.
    pub(super) fn set_changed(&self) {
        lock(&self.building).set_changed();
    }

    /// Writes pages from now on.
    pub(super) fn begin_pages(&self, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let mut building = lock(&self.building);
        building.begin_pages();
        building.page_out(sink)?;
        self.open_len.store(building.open_len(), Ordering::Relaxed);
        Ok(())
    }

    /// Gives the subdirectory at `index` its tree. Returns whether the directory has fewer entries
    /// open now.
    pub(super) fn set_subtree(
        &self,
        index: usize,
        roots: (BlobId, BlobId),
        baseline: Option<BaselineRef>,
        sink: &mut Sink<'_>,
    ) -> Result<bool, Stop> {
        lock(&self.children).remove(&index);
        let mut building = lock(&self.building);
        building.set_subtree(index, roots, baseline);
        building.page_out(sink)?;
        let open_len = building.open_len();
        Ok(self.open_len.swap(open_len, Ordering::Relaxed) != open_len)
    }

    /// Path below the source, for the exclude rules.
    pub(super) fn path_below_source(&self) -> &[u8] {
        self.path.get(self.below_source..).unwrap_or_default()
    }

    /// Whether no reader enters what lies below its subdirectories.
    pub(super) fn is_deepest(&self) -> bool {
        // Each level takes two bytes at least, so nearly always the length tells.
        self.path.len() >= 2 * (TREE_DEPTH_MAX - 8)
            && self.path.split(|&byte| byte == b'/').count() >= TREE_DEPTH_MAX - 4
    }

    /// Path in the snapshot of an entry.
    pub(super) fn path_of(&self, name: &[u8]) -> Box<[u8]> {
        join(&self.path, name)
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Box<[u8]> {
    if directory.is_empty() { name.into() } else { [directory, b"/", name].concat().into() }
}

/// Entries of one directory that may wait for the tree of a subdirectory before them, beyond a
/// slice: about 16 MiB.
const OPEN_ENTRIES_MAX: usize = 1 << 16;
