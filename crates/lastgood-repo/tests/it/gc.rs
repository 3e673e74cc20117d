//! Gc by itself: what goes, what stays, what it refuses, and what a crash leaves.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, BackendError, Listed, ObjectName, PutOutcome};
use lastgood_format::gc::{PackLocation, ReadSession, RoundList};
use lastgood_format::id::SessionId;
use lastgood_format::object::{ObjectKind, name};
use lastgood_format::slot::WorkFactors;
use lastgood_repo::{
    BlobReader, Gc, GcOptions, MaxUnused, Reason, RepoError, Repository, SnapshotRecord,
    WriteSession,
};
use lastgood_testkit::recording::Recording;

use crate::place::{Place, credential, open};
use crate::small::{Quiet, SETTINGS, checked, collect, eager, store, take_over};

/// Fences whoever is in the way and repacks nothing.
fn plain() -> GcOptions {
    GcOptions { max_unused: MaxUnused::Any, ..eager() }
}

fn retire(repo: &Repository, record: &SnapshotRecord) {
    assert!(repo.retire(record, "a test", None).unwrap());
}

/// Every live snapshot can be read whole, and without the index as well.
fn assert_whole(memory: &MemoryBackend) {
    let without_index = MemoryBackend::new();
    let objects = memory.objects().into_iter();
    without_index
        .replace(objects.filter(|(name, _)| !name.as_str().starts_with("index/")).collect());
    for memory in [memory, &without_index] {
        let report = checked(&open(Arc::new(memory.clone()), 1000).unwrap());
        assert_eq!(report.damage, [""; 0]);
        assert_eq!(report.affected, []);
    }
}

fn packs(place: &Place) -> BTreeSet<String> {
    place.names("packs/").into_iter().collect()
}

#[test]
fn what_is_needed_stays_and_the_rest_goes() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2, 3, 4]).unwrap();
    let before = packs(&place);
    let second = store(&place.repo, 1, &[1, 2, 5, 6]).unwrap();

    let report = collect(&place.repo, plain()).unwrap();
    assert_eq!((report.round, report.packs_removed), (None, 0), "there is nothing to decide");
    retire(&place.repo, &second);
    let report = collect(&place.repo, plain()).unwrap();
    assert_eq!(report.round, Some(1));
    assert!(report.packs_removed > 0 && report.bytes_removed > 0);
    assert_eq!(packs(&place), before, "what only the second needed is gone");
    assert_eq!(place.names("snapshots/"), [first.id.to_string()]);
    assert_eq!(place.names("sessions/"), [""; 0], "all have ended");
    assert_eq!(place.names("probe/"), [""; 0]);
    assert_eq!((place.names("outcomes/").len(), place.names("retired/").len()), (2, 1));
    assert_whole(&place.memory);

    let report = collect(&place.repo, plain()).unwrap();
    assert_eq!((report.round, report.packs_removed, report.objects_removed), (None, 0, 0));
}

#[test]
fn a_plan_changes_nothing_and_says_why() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2]).unwrap();
    store(&place.repo, 1, &[3, 4]).unwrap();
    retire(&place.repo, &first);
    let objects = place.memory.objects();
    let plan = Gc::new(place.reopened(), plain()).plan(&Quiet).unwrap();
    assert_eq!(place.memory.objects(), objects);
    assert_eq!((plan.snapshots, plan.unfinished_round), (1, None));
    assert!(!plan.remove.is_empty());
    for removal in &plan.remove {
        assert_eq!(removal.reason, Reason::Unneeded);
        assert_eq!(removal.place.session, first.snapshot.session);
    }
    assert!(plan.objects.contains(&format!("snapshots/{}", first.id)));
}

#[test]
fn packs_of_runs_that_were_cut_off_go_when_they_are_fenced() {
    let place = Place::new();
    store(&place.repo, 1, &[1, 2]).unwrap();
    let before = packs(&place);
    let session = WriteSession::begin(&place.repo, SETTINGS, &[2; 16]).unwrap();
    let mut writer = session.writer();
    let blob = b"of a run that does not finish".repeat(20);
    writer.add(lastgood_format::pack::BlobKind::Chunk, &blob).unwrap();
    writer.finish().unwrap();
    let id = session.id();
    drop(session);
    // As if the process had died before it could say that it ends.
    place.memory.remove(&ObjectName::new(&format!("outcomes/{id}")).unwrap()).unwrap();
    let stored = packs(&place);
    assert!(stored.len() > before.len());

    // Its session is open, so what it stored is not even proposed.
    let patient = GcOptions { fence_after: i64::MAX, ..plain() };
    let report = collect(&place.repo, patient.clone()).unwrap();
    assert_eq!((report.round, report.waiting_for.len()), (None, 0));
    assert_eq!(packs(&place), stored);
    // It is in the way of a round about something else.
    let other = store(&place.repo, 1, &[7, 8]).unwrap();
    retire(&place.repo, &other);
    let report = collect(&place.repo, patient.clone()).unwrap();
    assert_eq!((report.round, report.waiting_for.len(), report.packs_removed), (None, 1, 0));
    let plan = Gc::new(place.reopened(), patient).plan(&Quiet).unwrap();
    assert_eq!(plan.unfinished_round, Some(1));
    assert_eq!((plan.sessions.len(), plan.sessions[0].is_fenced), (1, false));
    // By the clock of the store it is old enough now.
    place.memory.set_now(72 * 3600);
    let report = collect(&place.repo, GcOptions { fence_after: 72 * 3600, ..plain() }).unwrap();
    assert_eq!((report.round, report.fenced.len()), (Some(2), 1), "and one about what it left");
    assert!(report.packs_removed > 0);
    assert_eq!(packs(&place), before);
    assert_whole(&place.memory);
}

#[test]
fn of_two_places_of_a_pack_the_good_one_stays() {
    for damaged in [None, Some(0), Some(1)] {
        let place = Place::new();
        store(&place.repo, 1, &[1, 2]).unwrap();
        let old = packs(&place);
        // As repair or replication would.
        let session = WriteSession::begin(&place.repo, SETTINGS, &[2; 16]).unwrap();
        let name = |place: &str| ObjectName::new(&format!("packs/{place}")).unwrap();
        let mut places = Vec::new();
        for old in &old {
            let bytes = place.memory.get(&name(old), u64::MAX).unwrap();
            let (_, pack) = old.split_once('/').unwrap();
            let copy = format!("{}/{pack}", session.id());
            place.memory.put(&name(&copy), &[&bytes]).unwrap();
            places.push([name(old), name(&copy)]);
        }
        drop(session);
        if let Some(damaged) = damaged {
            for pair in &places {
                let mut bytes = place.memory.get(&pair[damaged], u64::MAX).unwrap();
                bytes[100] ^= 1;
                place.memory.overwrite(&pair[damaged], &bytes);
            }
        }
        let mut gc = Gc::new(place.reopened(), plain());
        let plan = gc.plan(&Quiet).unwrap();
        assert!(plan.remove.iter().all(|removal| removal.reason == Reason::Duplicate));
        gc.execute(&plan, &Quiet).unwrap();
        assert_eq!(packs(&place).len(), old.len(), "one place of each is left");
        assert_whole(&place.memory);
    }
}

#[test]
fn packs_that_are_used_in_part_are_repacked() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2, 3, 4, 5, 6]).unwrap();
    let second = store(&place.repo, 1, &[1, 3, 5, 6]).unwrap();
    retire(&place.repo, &first);
    // Half of two packs is unused; nothing is repacked while that is allowed.
    let report = collect(&place.reopened(), plain()).unwrap();
    assert_eq!(report.packs_repacked, 0);
    let generous = GcOptions { max_unused: MaxUnused::Share(0.9), ..eager() };
    assert_eq!(collect(&place.reopened(), generous).unwrap().packs_repacked, 0);
    let bytes = |place: &Place| -> u64 {
        place.repo.all_packs().unwrap().iter().map(|(_, _, bytes)| bytes).sum()
    };
    let before = bytes(&place);

    let mut gc = Gc::new(open(Arc::new(place.memory.clone()), 7).unwrap(), eager());
    let plan = gc.plan(&Quiet).unwrap();
    assert!(plan.repack.len() >= 2, "{:?}", plan.repack);
    let report = gc.execute(&plan, &Quiet).unwrap();
    assert_eq!(report.packs_repacked, plan.repack.len() as u64);
    assert!(report.packs_removed >= 2, "the old packs are gone in the same run");
    assert_eq!(report.problems, [""; 0]);
    assert!(bytes(&place) < before);
    assert_eq!(place.names("relocations/").len(), 1);
    assert_whole(&place.memory);
    let again = collect(&open(Arc::new(place.memory.clone()), 8).unwrap(), eager()).unwrap();
    assert_eq!((again.packs_repacked, again.packs_removed), (0, 0));

    // A baseline is taken over though its packs are gone, and needs no relocation then.
    let repo = open(Arc::new(place.memory.clone()), 9).unwrap();
    let copy = take_over(&repo, 2, &second).unwrap().unwrap();
    let reader = BlobReader::new(repo.clone());
    let there: BTreeSet<_> = repo.all_packs().unwrap().into_iter().map(|pack| pack.1).collect();
    let named = reader.pack_set(&copy.snapshot).unwrap().0;
    assert!(named.iter().all(|pack| there.contains(&pack.pack)));
    retire(&repo, &second);
    let report = collect(&open(Arc::new(place.memory.clone()), 10).unwrap(), eager()).unwrap();
    assert!(report.objects_removed > 0);
    assert_eq!(place.names("relocations/"), [""; 0], "nobody needs what it stood in for");
    assert_whole(&place.memory);
}

#[test]
fn a_forgotten_snapshot_is_no_baseline_once_its_packs_were_repacked() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2]).unwrap();
    store(&place.repo, 1, &[1]).unwrap();
    assert!(take_over(&place.repo, 2, &first).unwrap().is_some());
    let copies = place.repo.snapshots().unwrap();
    for record in copies.live.iter().filter(|record| record.snapshot.tree == first.snapshot.tree) {
        retire(&place.repo, record);
    }
    collect(&open(Arc::new(place.memory.clone()), 7).unwrap(), eager()).unwrap();
    let repo = open(Arc::new(place.memory.clone()), 8).unwrap();
    assert_eq!(take_over(&repo, 2, &first).ok().flatten(), None);
    assert_whole(&place.memory);
}

/// What no gc has looked at since it was forgotten is there, though its packs were repacked before.
#[test]
fn what_was_forgotten_after_its_packs_were_repacked_comes_back() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2, 3, 4, 5, 6]).unwrap();
    let second = store(&place.repo, 1, &[1, 3, 5, 6]).unwrap();
    retire(&place.repo, &first);
    assert!(collect(&place.reopened(), eager()).unwrap().packs_repacked > 0);
    let repo = open(Arc::new(place.memory.clone()), 8).unwrap();
    retire(&repo, &second);
    assert_eq!(repo.may_take_over(&[first.clone(), second.clone()]).unwrap(), [false, true]);
    let copy = take_over(&repo, 2, &second).unwrap().unwrap();
    collect(&open(Arc::new(place.memory.clone()), 9).unwrap(), eager()).unwrap();
    assert_whole(&place.memory);
    assert_eq!(place.names("snapshots/"), [copy.id.to_string()]);
}

/// A retired snapshot that an open read session holds, and one that is live.
fn held() -> (Place, SessionId) {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2]).unwrap();
    store(&place.repo, 1, &[3, 4]).unwrap();
    let keys = place.repo.keys();
    let id = SessionId::new([9; 16]);
    let reader = ReadSession { id, started: 0, snapshots: vec![first.id] };
    place.put(&format!("readers/{id}"), &reader.encode(keys, &keys.writer(&[1; 16])));
    retire(&place.repo, &first);
    (place, id)
}

/// Only with the feature `seeded-bugs`.
#[cfg(feature = "seeded-bugs")]
#[test]
fn a_reader_that_is_not_counted_loses_its_packs() {
    let (place, _) = held();
    let all = packs(&place);
    place.repo.plant(lastgood_repo::SeededBug::HeldNotCounted);
    collect(&place.repo, GcOptions { fence_after: i64::MAX, ..plain() }).unwrap();
    assert!(packs(&place).len() < all.len());
    lastgood_testkit::campaign::tell("seeded bug HeldNotCounted: a reader loses its packs");
}

#[test]
fn what_a_reader_holds_stays_until_its_session_ends() {
    let (place, id) = held();
    let all = packs(&place);
    let patient = GcOptions { fence_after: i64::MAX, ..plain() };
    let plan = Gc::new(place.reopened(), patient.clone()).plan(&Quiet).unwrap();
    assert_eq!((plan.snapshots, plan.snapshots_held, plan.remove.len()), (1, 1, 0));
    assert!(plan.sessions[0].is_reader);
    collect(&place.repo, patient).unwrap();
    assert_eq!(packs(&place), all);
    assert_eq!(place.names("snapshots/").len(), 2, "the reader's snapshot is there");
    // Old readers are fenced when a round asks; then nothing holds the snapshot any more.
    let third = store(&place.repo, 1, &[5, 6]).unwrap();
    retire(&place.repo, &third);
    let report = collect(&place.repo, plain()).unwrap();
    assert_eq!(report.fenced, [id]);
    collect(&place.repo, plain()).unwrap();
    assert!(packs(&place).len() < all.len());
    assert_eq!((place.names("snapshots/").len(), place.names("readers/").len()), (1, 0));
    assert_whole(&place.memory);
}

#[test]
fn a_sequence_is_not_given_twice() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2]).unwrap();
    let second = store(&place.repo, 1, &[3, 4]).unwrap();
    assert_eq!((first.snapshot.chain.sequence, second.snapshot.chain.sequence), (1, 2));
    retire(&place.repo, &second);
    collect(&place.repo, plain()).unwrap();
    assert_eq!(place.names("snapshots/").len(), 1);
    let third = store(&place.repo, 1, &[5, 6]).unwrap();
    let chain = &third.snapshot.chain;
    assert_eq!((chain.sequence, chain.previous), (3, Some(second.id)));
}

#[test]
fn segments_become_few_and_forget_what_is_gone() {
    let place = Place::new();
    let records: Vec<_> =
        (0..10).map(|n| store(&place.repo, 1, &[2 * n, 2 * n + 1]).unwrap()).collect();
    let before = place.names("index/").len();
    assert!(before >= 10);
    records[3..].iter().for_each(|record| retire(&place.repo, record));
    let report = collect(&place.reopened(), plain()).unwrap();
    assert_eq!((report.packs_removed > 0, report.segments_merged), (true, before as u64));
    assert_eq!(place.names("index/").len(), 1);
    let repo = place.reopened();
    let there: BTreeSet<_> = repo.all_packs().unwrap().into_iter().map(|pack| pack.1).collect();
    let covered: BTreeSet<_> = repo.index().unwrap().packs().iter().map(|it| it.pack).collect();
    let refs = |pack: &&lastgood_format::id::PackId| !covered.contains(*pack);
    assert_eq!(there.iter().filter(refs).count(), 0, "every pack is covered");
    assert!(covered.is_subset(&there) || covered.len() - there.len() < before);
    assert_whole(&place.memory);
}

/// Gc stops, and removes nothing, when it cannot read what may be needed.
#[test]
fn what_cannot_be_read_stops_gc() {
    let fine = || {
        let place = Place::new();
        let first = store(&place.repo, 1, &[1, 2]).unwrap();
        let second = store(&place.repo, 1, &[3, 4]).unwrap();
        retire(&place.repo, &first);
        let round = store(&place.repo, 1, &[5, 6]).unwrap();
        retire(&place.repo, &round);
        collect(&place.repo, plain()).unwrap();
        let third = store(&place.repo, 1, &[7, 8]).unwrap();
        retire(&place.repo, &third);
        let session = WriteSession::begin(&place.repo, SETTINGS, &[2; 16]).unwrap();
        std::mem::forget(session);
        (place, second)
    };
    let (place, second) = fine();
    let session = second.snapshot.session;
    let sets = second.snapshot.ref_packs.iter();
    let mut objects: Vec<String> =
        sets.map(|pack| format!("packs/{}/{}", pack.session, pack.pack)).collect();
    objects.push(format!("snapshots/{}", second.id));
    objects.push(format!("outcomes/{session}"));
    objects.push("verdict/0000000000000001".to_owned());
    let ended = place.names("outcomes/");
    let open = place.names("sessions/").into_iter().filter(|session| !ended.contains(session));
    objects.extend(open.map(|session| format!("sessions/{session}")));
    assert!(objects.len() >= 5);
    for object in objects {
        let (place, _) = fine();
        let name = ObjectName::new(&object).unwrap();
        // More than anything could mend.
        let bytes = place.memory.get(&name, u64::MAX).unwrap();
        place.memory.overwrite(&name, &vec![0; bytes.len()]);
        let before = packs(&place);
        assert!(collect(&place.reopened(), plain()).is_err(), "{object}");
        assert_eq!(packs(&place), before, "{object}");
    }
    let (place, second) = fine();
    place.memory.remove(&ObjectName::new(&format!("snapshots/{}", second.id)).unwrap()).unwrap();
    assert!(collect(&place.reopened(), plain()).is_err(), "a committed snapshot is missing");
}

/// A store that forgets to be a store.
#[derive(Debug)]
struct Broken {
    inner: MemoryBackend,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Overwrites,
    LiesToLosers,
    ReturnsOtherBytes,
    ListsLate,
}

impl Backend for Broken {
    fn location(&self) -> &str {
        "a broken store"
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        let outcome = self.inner.put(name, parts)?;
        if !name.as_str().starts_with("probe/") {
            return Ok(outcome);
        }
        match self.how {
            How::Overwrites => {
                self.inner.overwrite(name, &parts.concat());
                Ok(PutOutcome::Created)
            }
            How::LiesToLosers => Ok(PutOutcome::Created),
            _ => Ok(outcome),
        }
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        let mut bytes = self.inner.get(name, bytes_max)?;
        if self.how == How::ReturnsOtherBytes && name.as_str().starts_with("probe/") {
            bytes[0] ^= 0xff;
        }
        Ok(bytes)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        self.inner.get_range(name, range, out)
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.inner.stat(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        if self.how == How::ListsLate && prefix == "probe/" {
            return Ok(());
        }
        self.inner.list(prefix, visit)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.inner.remove(name)
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.inner.settle(prefix)
    }
}

#[test]
fn a_store_that_cannot_decide_races_is_refused() {
    for how in [How::Overwrites, How::LiesToLosers, How::ReturnsOtherBytes, How::ListsLate] {
        let place = Place::new();
        let first = store(&place.repo, 1, &[1, 2]).unwrap();
        retire(&place.repo, &first);
        let objects = place.memory.objects();
        let broken = Arc::new(Broken { inner: place.memory.clone(), how });
        let error = collect(&open(broken, 7).unwrap(), plain()).unwrap_err();
        assert!(matches!(error, RepoError::UnsafeStore { .. }), "{how:?}: {error}");
        assert_eq!(place.memory.objects(), objects, "{how:?}");
        // Unless somebody knows that there is nobody to race with.
        if how == How::Overwrites {
            std::mem::forget(WriteSession::begin(&place.repo, SETTINGS, &[2; 16]).unwrap());
            let broken = Arc::new(Broken { inner: place.memory.clone(), how });
            let alone = GcOptions { exclusive: true, fence_after: i64::MAX, ..plain() };
            let report = collect(&open(broken, 8).unwrap(), alone).unwrap();
            assert_eq!((report.fenced.len(), report.waiting_for.len()), (1, 0));
            assert!(report.packs_removed > 0);
            assert_whole(&place.memory);
        }
    }
}

#[test]
fn nobody_waits_for_a_run_of_the_own_name_that_was_killed() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2]).unwrap();
    retire(&place.repo, &first);
    let patient = GcOptions { fence_after: i64::MAX, ..plain() };
    for (writer_name, waiting) in [([2; 16], 1), (patient.writer_name, 0)] {
        let before = place.memory.objects();
        std::mem::forget(WriteSession::begin(&place.repo, SETTINGS, &writer_name).unwrap());
        let report = collect(&place.repo, patient.clone()).unwrap();
        assert_eq!((report.waiting_for.len(), report.fenced.len()), (waiting, 1 - waiting));
        place.memory.replace(before);
    }
}

/// Repacked packs are the only copy once the old ones are gone.
#[test]
fn nothing_goes_for_the_sake_of_a_damaged_pack() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2, 3, 4, 5, 6]).unwrap();
    store(&place.repo, 1, &[1, 3, 5, 6]).unwrap();
    retire(&place.repo, &first);
    let old = packs(&place);
    // While somebody is at work, nothing is condemned that was repacked.
    let session = WriteSession::begin(&place.repo, SETTINGS, &[2; 16]).unwrap();
    let patient = GcOptions { fence_after: i64::MAX, ..eager() };
    assert!(collect(&place.reopened(), patient).unwrap().packs_repacked > 0);
    drop(session);
    let new: Vec<String> = packs(&place).difference(&old).cloned().collect();
    assert!(!new.is_empty());
    let whole = place.memory.objects();
    for new in &new {
        // Its directory can be read.
        let name = ObjectName::new(&format!("packs/{new}")).unwrap();
        let mut bytes = place.memory.get(&name, u64::MAX).unwrap();
        bytes[150] ^= 1;
        place.memory.overwrite(&name, &bytes);
    }
    let mut gc = Gc::new(open(Arc::new(place.memory.clone()), 9).unwrap(), eager());
    let plan = gc.plan(&Quiet).unwrap();
    assert!(plan.remove.iter().all(|it| it.reason != Reason::Repacked), "{:?}", plan.remove);
    place.memory.replace(whole);
    let mut gc = Gc::new(open(Arc::new(place.memory.clone()), 10).unwrap(), eager());
    let plan = gc.plan(&Quiet).unwrap();
    assert!(plan.remove.iter().any(|it| it.reason == Reason::Repacked), "{:?}", plan.remove);
}

/// Whatever a collector has done when it dies, all live snapshots are whole, and the next one ends
/// where it would have ended itself.
#[test]
fn a_crash_anywhere_leaves_what_the_next_gc_goes_on_with() {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2, 3, 4, 5, 6]).unwrap();
    store(&place.repo, 1, &[1, 3, 5, 6]).unwrap();
    let third = store(&place.repo, 1, &[7, 8]).unwrap();
    retire(&place.repo, &first);
    retire(&place.repo, &third);
    std::mem::forget(WriteSession::begin(&place.repo, SETTINGS, &[2; 16]).unwrap());
    let recording = Arc::new(Recording::of_memory(&place.memory));
    collect(&open(recording.clone(), 7).unwrap(), eager()).unwrap();
    let left = |memory: &MemoryBackend| -> (BTreeSet<String>, usize) {
        let names = memory.objects().into_keys().map(|name| name.to_string());
        let names: BTreeSet<String> = names.collect();
        let count = names.iter().filter(|name| name.starts_with("packs/")).count();
        let kinds = ["sessions/", "snapshots/", "retired/"];
        let is_small = |name: &String| kinds.iter().any(|kind| name.starts_with(kind));
        (names.into_iter().filter(is_small).collect(), count)
    };
    assert!(recording.change_count() > 20);
    let ended = recording.state_after(recording.change_count());
    // What ended in a run of gc is removed by the next.
    collect(&open(Arc::new(ended.clone()), 100).unwrap(), eager()).unwrap();
    let expected = left(&ended);
    for count in 0..=recording.change_count() {
        let crashed = recording.state_after(count);
        assert_whole(&crashed);
        // What was repacked and not relocated costs one more round.
        for process in 0..3 {
            collect(&open(Arc::new(crashed.clone()), 100 + process).unwrap(), eager()).unwrap();
            assert_whole(&crashed);
        }
        assert_eq!(left(&crashed), expected, "after {count} changes");
    }
}

/// Whoever holds an old root may add objects, and nothing goes by its word: neither by a verdict on
/// a round that was open when the root was rotated, nor by a round of its own.
#[test]
fn nothing_goes_by_the_word_of_a_root_that_was_rotated_out() {
    let place = Place::new();
    store(&place.repo, 1, &[1, 2, 3, 4]).unwrap();
    let packs = place.repo.all_packs().unwrap().into_iter();
    let mut packs: Vec<PackLocation> =
        packs.map(|(session, pack, _)| PackLocation { session, pack }).collect();
    packs.sort();
    let thief = place.repo.keys();
    let list = |kind, round| {
        let list = RoundList { round, packs: packs.clone() };
        list.encode(kind, thief, &thief.maintenance())
    };
    place.put(&name::condemn(1), &list(ObjectKind::Condemn, 1));
    let rotated = place.reopened().rotate(&credential(), WorkFactors::DEFAULT, "new").unwrap();
    for round in [1, 2] {
        place.put(&name::condemn(round), &list(ObjectKind::Condemn, round));
        place.put(&name::verdict(round), &list(ObjectKind::Verdict, round));
    }
    let report = collect(&rotated.repo, plain()).unwrap();
    assert_eq!(report.packs_removed, 0);
    assert_whole(&place.memory);
}
