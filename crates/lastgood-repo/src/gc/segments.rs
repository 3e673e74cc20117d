//! Merging index segments, so that few say what many said, and nothing of packs that are gone.
//! Spec: `docs/format/index.md`, section 4.

use std::collections::HashSet;

use lastgood_format::id::{ObjectId, PackId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::limits::INDEX_ENTRIES_MAX;
use lastgood_format::object::{name, object_id};

use twox_hash::XxHash3_64;

use super::GcObserver;
use super::mark::Mark;
use crate::error::RepoError;
use crate::index::read_segment;
use crate::objects;
use crate::repository::Repository;

/// The segments to merge: the small ones when there are many, and all when many of their packs are
/// gone.
pub(super) fn plan(repo: &Repository, mark: &Mark) -> Result<Vec<ObjectId>, RepoError> {
    let mut segments: Vec<(ObjectId, u64)> = Vec::new();
    repo.list(name::INDEX, &mut |id, bytes| {
        segments.extend(id.parse().ok().map(|id| (id, bytes)));
    })?;
    segments.sort();
    let covered = repo.index()?.packs();
    let gone = covered.iter().filter(|pack| mark.places.of(pack.pack).next().is_none()).count();
    if gone * GONE_SHARE <= covered.len() {
        segments.retain(|(_, bytes)| *bytes < SMALL_BYTES);
        if segments.len() < SMALL_COUNT {
            segments.clear();
        }
    }
    Ok(segments.into_iter().map(|(id, _)| id).collect())
}

/// Merges `segments` into as few as their length allows. Each is removed only after one that holds
/// what it said was put by this very call. Returns how many are gone.
pub(super) fn merge(
    repo: &Repository,
    segments: &[ObjectId],
    observer: &dyn GcObserver,
) -> Result<u64, RepoError> {
    let mut merged_count = 0;
    let mut rest = segments.iter().peekable();
    // Read, and too long for the segment before.
    let mut next = None;
    while next.is_some() || rest.peek().is_some() {
        observer.proceed()?;
        let (mut merged, mut sources) = (Merged::default(), Vec::new());
        while let Some((id, segment)) = match next.take() {
            Some(read) => Some(read),
            None => read_next(repo, &mut rest)?,
        } {
            if !sources.is_empty() && !merged.has_room_for(&segment) {
                next = Some((id, segment));
                break;
            }
            merged.add(segment);
            sources.push(id);
        }
        // Listed after the segments were read: a pack is put before its segment is.
        let there: HashSet<PackId> =
            repo.all_packs()?.into_iter().map(|(_, pack, _)| pack).collect();
        merged.retain(&there);
        let is_alone = sources.len() == 1 && merged.removed == 0;
        if is_alone {
            continue;
        }
        if !merged.segment.packs.is_empty() {
            let session = SessionId::new(repo.world().random());
            let bytes = merged.segment.encode(repo.keys(), session, &repo.world().random());
            repo.put(&name::index(object_id(&bytes)), &bytes)?;
        }
        for id in sources {
            objects::remove(repo.backend().as_ref(), &name::index(id))?;
            merged_count += 1;
        }
    }
    Ok(merged_count)
}

/// The next segment that is there and can be read. One that cannot says nothing, and check tells
/// of it.
fn read_next<'a>(
    repo: &Repository,
    rest: &mut impl Iterator<Item = &'a ObjectId>,
) -> Result<Option<(ObjectId, IndexSegment)>, RepoError> {
    for &id in rest {
        match read_segment(repo, id) {
            Ok(Some(segment)) => return Ok(Some((id, segment))),
            Ok(None) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What several segments say, each thing that one says of a pack once.
#[derive(Default)]
struct Merged {
    segment: IndexSegment,
    said: HashSet<(PackId, u64)>,
    removed: usize,
}

impl Merged {
    fn has_room_for(&self, segment: &IndexSegment) -> bool {
        let of = &self.segment;
        of.entries.len() + segment.entries.len() <= MERGED_ENTRIES
            && of.packs.len() + segment.packs.len() <= MERGED_ENTRIES
    }

    fn add(&mut self, segment: IndexSegment) {
        // Two that say the same of a pack are one; of two that do not, one is false, and which one
        // is told by the pack's directory.
        let mut sums = vec![0_u64; segment.packs.len()];
        for entry in &segment.entries {
            if let Some(sum) = sums.get_mut(entry.pack as usize) {
                let text = [&entry.blob.0[..], &entry.ordinal.to_le_bytes()].concat();
                *sum = sum.wrapping_add(XxHash3_64::oneshot(&text));
            }
        }
        let mut renumbered = Vec::with_capacity(segment.packs.len());
        for (pack, sum) in segment.packs.into_iter().zip(sums) {
            let number = self.segment.packs.len() as u32;
            let is_new = self.said.insert((pack.pack, sum));
            if is_new {
                self.segment.packs.push(pack);
            } else {
                self.removed += 1;
            }
            renumbered.push(is_new.then_some(number));
        }
        let entries = segment.entries.into_iter().filter_map(|mut entry| {
            entry.pack = renumbered.get(entry.pack as usize).copied().flatten()?;
            Some(entry)
        });
        self.segment.entries.extend(entries);
    }

    /// Leaves out packs that are not in `there`.
    fn retain(&mut self, there: &HashSet<PackId>) {
        let all = std::mem::take(self);
        self.removed = all.removed;
        let before = all.segment.packs.len();
        let is_there: Vec<bool> =
            all.segment.packs.iter().map(|pack| there.contains(&pack.pack)).collect();
        let mut number = 0;
        let numbers: Vec<Option<u32>> = is_there
            .iter()
            .map(|is_there| {
                number += u32::from(*is_there);
                is_there.then(|| number - 1)
            })
            .collect();
        let IndexSegment { packs, entries } = all.segment;
        let packs = packs.into_iter().zip(&is_there).filter(|(_, is_there)| **is_there);
        self.segment.packs = packs.map(|(pack, _)| pack).collect();
        self.segment.entries = entries
            .into_iter()
            .filter_map(|mut entry| {
                entry.pack = numbers.get(entry.pack as usize).copied().flatten()?;
                Some(entry)
            })
            .collect();
        self.segment.entries.sort_unstable();
        self.removed += before - self.segment.packs.len();
    }
}

/// Segments are merged when one pack in this many is gone.
const GONE_SHARE: usize = 4;
/// What counts as small: about fifty thousand blobs.
const SMALL_BYTES: u64 = 1 << 20;
/// How many small segments are many.
const SMALL_COUNT: usize = 8;
/// Entries, and packs, of a merged segment: half of what a reader takes.
const MERGED_ENTRIES: usize = INDEX_ENTRIES_MAX / 2;
