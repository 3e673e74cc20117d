use std::collections::BTreeSet;
use std::sync::Arc;

use lastgood_backend::{Backend, ErrorKind, ObjectName};
use lastgood_repo::format::guard::{Redundancy, guard};
use lastgood_repo::format::id::{PackId, SnapshotId};
use lastgood_repo::format::index::{IndexEntry, IndexSegment};
use lastgood_repo::format::key::Class;
use lastgood_repo::format::limits::{BLOB_BYTES_MAX, GROUP_BYTES_MAX};
use lastgood_repo::format::object::object_id;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::packset::{PackRef, PackSetCodec};
use lastgood_repo::format::page;
use lastgood_repo::format::snapshot::Snapshot;
use lastgood_repo::{BlobReader, RepoError, Repository, Settings, SnapshotRecord, WriteSession};
use lastgood_testkit::faulty::{Calls, Failure, Moment};

use crate::place::Place;

/// Gc waits for a session without an outcome, or fences it after a long time.
#[test]
fn a_session_that_cannot_begin_is_fenced() {
    let calls = {
        let place = Place::new();
        let before = place.faulty.call_count();
        let session = WriteSession::begin(&place.repo, Settings::default(), &[1; 16]).unwrap();
        assert_eq!(place.names("outcomes/"), [""; 0]);
        let calls = before..place.faulty.call_count();
        drop(session);
        calls
    };
    assert!(calls.end - calls.start >= 4, "listing, announcing, listing, taking stock");
    let mut announced = 0;
    for call in calls {
        for moment in [Moment::Before, Moment::After] {
            let place = Place::new();
            place.faulty.fail(Failure { calls: Calls::One(call), moment, kind: ErrorKind::Failed });
            let begun = WriteSession::begin(&place.repo, Settings::default(), &[1; 16]);
            assert!(begun.is_err(), "call {call} failed {moment:?}");
            let sessions = place.names("sessions/");
            announced += sessions.len();
            for session in sessions {
                assert!(place.names("outcomes/").contains(&session), "call {call} {moment:?}");
            }
        }
    }
    assert!(announced >= 3, "the session was announced in {announced} of the runs");
}

/// An index segment with the right seal may still be wrong: what it says of a blob that its pack
/// does not hold must not keep the blob from being stored.
#[test]
fn what_the_index_claims_wrongly_is_stored() {
    let place = Place::new();
    let store = |repo: &Arc<Repository>, bytes: &[u8]| {
        let session = WriteSession::begin(repo, Settings::default(), &[1; 16]).unwrap();
        let mut writer = session.writer();
        let id = repo.keys().blob_id(BlobKind::Chunk, bytes);
        let is_new = writer.add_identified(BlobKind::Chunk, id, bytes).unwrap();
        writer.finish().unwrap();
        (id, is_new)
    };
    let (held, is_new) = store(&place.repo, b"what the pack holds");
    assert!(is_new);
    assert!(
        !store(&place.repo, b"what the pack holds").1,
        "the pack of a session that ended is used"
    );

    let index = place.repo.index().unwrap();
    let pack = index.find(held, &mut |_| true).unwrap().pack;
    let absent = place.repo.keys().blob_id(BlobKind::Chunk, b"what it does not");
    let entry = IndexEntry { blob: absent.into(), pack: 0, ordinal: 0, bytes: 16 };
    let segment = IndexSegment { packs: vec![pack], entries: vec![entry] };
    let bytes = segment.encode(place.repo.keys(), pack.session, &[0; 32]);
    let name = ObjectName::new(&format!("index/{}", object_id(&bytes))).unwrap();
    place.memory.put(&name, &[&guard(&bytes, Redundancy::Light)]).unwrap();
    let repo = place.reopened();
    assert!(repo.index().unwrap().find(absent, &mut |_| true).is_some(), "the index is wrong now");
    assert!(store(&repo, b"what it does not").1);
}

/// Whether somebody with the key can pass off other bytes under the id of a chunk.
fn a_lie_is_believed(prepare: &dyn Fn(&Repository)) -> bool {
    let place = Place::new();
    let id = place.repo.keys().blob_id(BlobKind::Chunk, b"what was there");
    let session = WriteSession::begin(&place.repo, Settings::default(), &[1; 16]).unwrap();
    let mut writer = session.writer();
    writer.add_identified(BlobKind::Chunk, id, b"what is passed off").unwrap();
    writer.finish().unwrap();
    drop(session);
    let repo = place.reopened();
    prepare(&repo);
    let reader = BlobReader::new(repo);
    let at = reader.locate(BlobKind::Chunk, id).unwrap();
    reader.load(&at).is_ok()
}

#[test]
fn bytes_under_the_id_of_others_are_refused() {
    assert!(!a_lie_is_believed(&|_| ()));
}

/// Only with the feature `seeded-bugs`.
#[cfg(feature = "seeded-bugs")]
#[test]
fn mistakes_with_ids_are_seen() {
    use lastgood_repo::SeededBug;

    let bug = SeededBug::IdNotRecomputed;
    let is_seen = a_lie_is_believed(&|repo| repo.plant(bug));
    let seen = if is_seen { "other bytes pass for a chunk" } else { "MISSED" };
    lastgood_testkit::campaign::tell(&format!("seeded bug {bug:?}: {seen}"));
    assert!(is_seen);
}

/// Commits a snapshot with the tree of another, and a pack set of these pages.
pub(crate) fn with_pack_set(
    place: &Place,
    other: &SnapshotRecord,
    packs: &[PackRef],
) -> SnapshotRecord {
    let session = WriteSession::begin(&place.repo, crate::small::SETTINGS, &[1; 16]).unwrap();
    let mut writer = session.writer();
    let mut store = |bytes: &[u8]| writer.add(BlobKind::PackSet, bytes);
    let root = page::write::<PackSetCodec, RepoError>(packs.to_vec(), &mut store).unwrap();
    writer.finish().unwrap();
    let snapshots = place.repo.snapshots().unwrap();
    let chain = snapshots.next_in_chain(session.writer_id(), &[]);
    let committed = session.finish(&[], |stored| {
        let all = place.repo.all_packs().unwrap().into_iter();
        let class = Class::Refs;
        let pack = |(session, pack, bytes)| PackRef { session, pack, class, bytes };
        let reader = BlobReader::new(place.repo.clone());
        let class_of = |pack: &PackRef| reader.packs().open(*pack).unwrap().header.class;
        let mut ref_packs: Vec<PackRef> =
            all.map(pack).filter(|pack| class_of(pack) == class).collect();
        ref_packs.sort();
        let session = stored.session;
        Snapshot { session, pack_set: root, ref_packs, chain, ..other.snapshot.clone() }
    });
    committed.unwrap()
}

/// Packs are made in a bounded amount of memory, and pages of a long pack set fill many.
#[test]
fn a_pack_set_of_any_length_is_stored() {
    let place = Place::new();
    let first = crate::small::store(&place.repo, 1, &[1]).unwrap();
    let session = WriteSession::begin(&place.repo, crate::small::SETTINGS, &[1; 16]).unwrap();
    let mut writer = session.writer();
    for number in 0..9000_u32 {
        let chunk = blake3::hash(&number.to_le_bytes()).as_bytes().repeat(8);
        writer.add(BlobKind::Chunk, &chunk).unwrap();
    }
    writer.finish().unwrap();
    let snapshots = place.repo.snapshots().unwrap();
    let chain = snapshots.next_in_chain(session.writer_id(), &[]);
    let committed = session.finish(&[], |stored| Snapshot {
        session: stored.session,
        pack_set: stored.pack_set,
        ref_packs: stored.ref_packs,
        chain,
        ..first.snapshot.clone()
    });
    assert!(committed.unwrap().snapshot.ref_packs.len() > 6, "pages of the pack set");
}

#[test]
fn a_lost_page_of_a_pack_set_concerns_every_snapshot_that_shares_it() {
    let place = Place::new();
    let first = crate::small::store(&place.repo, 1, &[1]).unwrap();
    let hash = |number: u32| *blake3::hash(&number.to_le_bytes()).as_bytes();
    let pack = |number| PackRef {
        session: first.snapshot.session,
        pack: PackId::new(hash(number)),
        class: Class::Data,
        bytes: 1000,
    };
    let mut packs: Vec<PackRef> = (0..5000).map(pack).collect();
    packs.sort();
    let sharing = [(); 2].map(|()| with_pack_set(&place, &first, &packs));
    assert_eq!(sharing[0].snapshot.pack_set, sharing[1].snapshot.pack_set);
    // The largest leaf, which each session stored for itself.
    let all = place.repo.all_packs().unwrap();
    let largest = all.iter().map(|it| it.2).max().unwrap();
    for (session, pack, _) in all.iter().filter(|it| it.2 == largest) {
        let name = lastgood_repo::format::object::name::pack(*session, *pack);
        place.memory.remove(&ObjectName::new(&name).unwrap()).unwrap();
    }

    let report = crate::small::checked(&place.reopened());
    let affected: BTreeSet<SnapshotId> = report.affected.iter().map(|(id, _)| *id).collect();
    assert!(sharing.iter().all(|record| affected.contains(&record.id)), "{affected:?}");
}

/// A group that is half full takes no blob that would make it longer than readers accept.
#[test]
fn groups_stay_within_their_limit_however_they_are_set() {
    let place = Place::new();
    let settings = Settings { group_bytes: usize::MAX, ..Settings::default() };
    let session = WriteSession::begin(&place.repo, settings, &[1; 16]).unwrap();
    let mut writers = [session.writer(), session.writer(), session.writer()];
    // Two that are left open make one group; the longest blob does not fit behind the third.
    let half = GROUP_BYTES_MAX / 2 - 1;
    let mut blobs = Vec::new();
    for (writer, length) in [(0, half), (1, half), (2, half), (2, BLOB_BYTES_MAX)] {
        let bytes = vec![writer as u8; length];
        let id = writers[writer].add(BlobKind::Chunk, &bytes).unwrap();
        blobs.push((id, bytes));
    }
    writers.into_iter().for_each(|writer| writer.finish().unwrap());
    drop(session);
    let reader = BlobReader::new(place.reopened());
    for (id, bytes) in blobs {
        assert!(*reader.blob(BlobKind::Chunk, id).unwrap() == bytes[..], "{id} is read back");
    }
}
