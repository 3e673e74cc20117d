//! Notes about every blob that an index knows, at four bits a copy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lastgood_format::id::{BlobId, PackId};
use lastgood_format::index::{BlobPrefix, IndexEntry};
use lastgood_format::pack::BlobEntry;
use twox_hash::XxHash3_64;

use super::Index;
use super::run::Run;
use crate::error::RepoError;

/// What can be noted of a copy of a blob.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// Its bytes cannot be had.
    Damaged,
    /// Something refers to it.
    Seen,
    /// Something that it refers to cannot be had.
    Broken,
    /// It is a change of another blob.
    Delta,
}

/// A copy of a blob: its run and its position there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    run: usize,
    position: usize,
}

/// The blobs of the packs whose directories say what the index says, each with its marks.
///
/// The index is compared with the directories once, pack by pack and in the order of its entries,
/// so that no directory need be opened again for each blob. What is compared later is the first
/// half of a blob's id.
#[derive(Debug)]
pub(crate) struct BlobMarks(Vec<MarkedRun>);

#[derive(Debug)]
struct MarkedRun {
    run: Arc<Run>,
    /// For each pack of the run, whether its directory holds just what the run says.
    is_true: Vec<bool>,
    marks: [Vec<AtomicU64>; 4],
}

/// Stands for what a pack's directory holds, whatever the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    blobs: u64,
    sum: u64,
}

impl Fingerprint {
    /// Of a directory that lists `blobs`. With a `seed` that nobody knows beforehand, a false
    /// index has the fingerprint of the true one by chance alone.
    pub(crate) fn of(blobs: &[BlobEntry], seed: u64) -> Self {
        let mut fingerprint = Self::default();
        for (blob, ordinal) in blobs.iter().zip(0..) {
            fingerprint.add(blob.id.into(), ordinal, blob.bytes, seed);
        }
        fingerprint
    }

    fn add(&mut self, blob: BlobPrefix, ordinal: u32, bytes: u32, seed: u64) {
        let mut text = [0; 24];
        text[..16].copy_from_slice(&blob.0);
        text[16..20].copy_from_slice(&ordinal.to_le_bytes());
        text[20..].copy_from_slice(&bytes.to_le_bytes());
        self.blobs += 1;
        self.sum = self.sum.wrapping_add(XxHash3_64::oneshot_with_seed(seed, &text));
    }
}

impl BlobMarks {
    /// Compares `index` with directories that were opened.
    pub(crate) fn new(
        index: &Index,
        directories: &HashMap<PackId, Fingerprint>,
        seed: u64,
    ) -> Self {
        let runs = index.runs().clone();
        Self(runs.into_iter().map(|run| MarkedRun::new(run, directories, seed)).collect())
    }

    /// Believes `index` without comparing it with any directory. What is marked then says only
    /// which blobs were met, and not where they are.
    pub(crate) fn unchecked(index: &Index) -> Self {
        Self(index.runs().iter().map(|run| MarkedRun::unchecked(run.clone())).collect())
    }

    /// Sets a mark of every copy of a blob. Returns whether one was not set, or nothing when the
    /// index does not know the blob.
    ///
    /// # Errors
    /// When the local copy cannot be read: there may be copies that were not marked.
    pub(crate) fn set_all(&self, blob: BlobId, mark: Mark) -> Result<Option<bool>, RepoError> {
        let mut is_new = None;
        self.each_copy(blob, &mut |copy| {
            is_new = Some(self.set(copy, mark) | is_new.unwrap_or(false));
        })?;
        Ok(is_new)
    }

    /// Whether some copy of a blob has a mark; nothing when the index does not know the blob.
    ///
    /// # Errors
    /// As [`set_all`](Self::set_all).
    pub(crate) fn has_any(&self, blob: BlobId, mark: Mark) -> Result<Option<bool>, RepoError> {
        let mut has = None;
        self.each_copy(blob, &mut |copy| {
            has = Some(self.has(copy, mark) | has.unwrap_or(false));
        })?;
        Ok(has)
    }

    /// For each pack the bytes of all its blobs, and of those with a mark.
    ///
    /// # Errors
    /// As [`set_all`](Self::set_all).
    pub(crate) fn bytes_of_packs(
        &self,
        mark: Mark,
    ) -> Result<HashMap<PackId, (u64, u64)>, RepoError> {
        let mut packs: HashMap<PackId, (u64, u64)> = HashMap::new();
        for (number, marked) in self.0.iter().enumerate() {
            let mut bytes = vec![(0, 0); marked.run.packs().len()];
            let mut position = 0;
            let scanned = marked.run.scan(&mut |entry| {
                let copy = Copy { run: number, position };
                position += 1;
                if let Some((all, with_mark)) = bytes.get_mut(entry.pack as usize) {
                    *all += u64::from(entry.bytes);
                    *with_mark += if self.has(copy, mark) { u64::from(entry.bytes) } else { 0 };
                }
            });
            scanned.map_err(|error| marked.run.failed(error))?;
            // Two segments that cover a pack say the same of it.
            packs.extend(marked.run.packs().iter().map(|pack| pack.pack).zip(bytes));
        }
        Ok(packs)
    }

    fn each_copy(&self, blob: BlobId, visit: &mut dyn FnMut(Copy)) -> Result<(), RepoError> {
        for (number, marked) in self.0.iter().enumerate() {
            let mut accept = |position, _: &IndexEntry| {
                visit(Copy { run: number, position });
                false
            };
            let found = marked.run.find_entry(blob.into(), &mut accept);
            found.map_err(|error| marked.run.failed(error))?;
        }
        Ok(())
    }

    /// The packs that are covered truly.
    pub(crate) fn packs(&self) -> HashSet<PackId> {
        let run_packs = |run: &MarkedRun| {
            let packs = run.run.packs().iter().zip(&run.is_true);
            packs.filter(|(_, is_true)| **is_true).map(|(pack, _)| pack.pack).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(run_packs).collect()
    }

    /// Adds an index that was made of directories just now.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The copy of a blob that stands for all: always the same one.
    pub(crate) fn find(&self, blob: BlobId) -> Option<Copy> {
        self.find_copy(blob, &mut |_, _| true)
    }

    /// Whether some copy of a blob is not damaged.
    pub(crate) fn is_readable(&self, blob: BlobId) -> bool {
        self.find_copy(blob, &mut |copy, _| !self.has(copy, Mark::Damaged)).is_some()
    }

    /// The packs that hold copies of a blob.
    pub(crate) fn packs_of(&self, blob: BlobId) -> Vec<PackId> {
        let mut packs = Vec::new();
        self.find_copy(blob, &mut |_, pack| {
            packs.push(pack);
            false
        });
        packs
    }

    /// Whether some copy of a blob is whole, and not damaged.
    pub(crate) fn is_whole(&self, blob: BlobId) -> bool {
        let is_whole = |copy| !self.has(copy, Mark::Damaged) && !self.has(copy, Mark::Delta);
        self.find_copy(blob, &mut |copy, _| is_whole(copy)).is_some()
    }

    /// Sets a mark of the copy of a blob in `pack`.
    pub(crate) fn note(&self, blob: BlobId, pack: PackId, mark: Mark) {
        self.find_copy(blob, &mut |copy, found| {
            if found == pack {
                self.set(copy, mark);
            }
            false
        });
    }

    fn find_copy(
        &self,
        blob: BlobId,
        accept: &mut dyn FnMut(Copy, PackId) -> bool,
    ) -> Option<Copy> {
        self.0.iter().enumerate().find_map(|(number, marked)| {
            let mut found = None;
            let mut accept_entry = |position, entry: &IndexEntry| {
                let copy = Copy { run: number, position };
                let pack = entry.pack as usize;
                let is_true = marked.is_true.get(pack).is_some_and(|is_true| *is_true);
                let is_accepted = is_true && accept(copy, marked.run.packs()[pack].pack);
                found = is_accepted.then_some(copy);
                is_accepted
            };
            // Every block was read once already: one that cannot be read now holds nothing.
            marked.run.find_entry(blob.into(), &mut accept_entry).ok()?;
            found
        })
    }

    /// Sets a mark. Returns whether it was not set.
    pub(crate) fn set(&self, copy: Copy, mark: Mark) -> bool {
        let bit = 1 << (copy.position % 64);
        self.word(copy, mark).fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    pub(crate) fn has(&self, copy: Copy, mark: Mark) -> bool {
        self.word(copy, mark).load(Ordering::Relaxed) >> (copy.position % 64) & 1 == 1
    }

    fn word(&self, copy: Copy, mark: Mark) -> &AtomicU64 {
        &self.0[copy.run].marks[mark as usize][copy.position / 64]
    }
}

impl MarkedRun {
    fn new(run: Arc<Run>, directories: &HashMap<PackId, Fingerprint>, seed: u64) -> Self {
        let mut found = vec![Fingerprint::default(); run.packs().len()];
        let scanned = run.scan(&mut |entry| {
            if let Some(found) = found.get_mut(entry.pack as usize) {
                found.add(entry.blob, entry.ordinal, entry.bytes, seed);
            }
        });
        let packs = run.packs().iter().zip(found);
        let is_true = packs
            .map(|(pack, found)| scanned.is_ok() && directories.get(&pack.pack) == Some(&found))
            .collect();
        Self { is_true, ..Self::unchecked(run) }
    }

    fn unchecked(run: Arc<Run>) -> Self {
        let words = run.entry_count().div_ceil(64);
        let marks = [(); 4].map(|()| (0..words).map(|_| AtomicU64::new(0)).collect());
        Self { is_true: vec![true; run.packs().len()], run, marks }
    }
}
