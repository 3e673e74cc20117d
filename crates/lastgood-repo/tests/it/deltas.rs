//! Blobs that are stored as changes of others: what is read, what is refused, what keeps their bases,
//! and who says so when these are lost.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use lastgood_backend::{Backend, ObjectName};
use lastgood_format::delta;
use lastgood_format::group::{Compression, FrameSize};
use lastgood_format::id::{BlobId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::{ClassSecret, Secret};
use lastgood_format::object::{name, object_id};
use lastgood_format::pack::{BlobKind, GroupPayload, PackBuilder, PackedBlob};
use lastgood_format::packset::PackRef;
use lastgood_format::parity::ParityShare;
use lastgood_format::snapshot::Snapshot;
use lastgood_repo::{
    BlobReader, CheckPlan, CheckReport, ReadData, Recovery, RepairPlan, RepoError, Repository,
    WriteSession, check, path_of, repair, space,
};

use crate::place::{Place, open};
use crate::small::{
    Quiet, SETTINGS, checked, collect, content, deltas, eager, read_back, store, take_over,
};

/// A blob as it stands in a pack that anybody with the key could have made.
struct Made {
    id: BlobId,
    kind: BlobKind,
    base: Option<BlobId>,
    bytes: Vec<u8>,
}

/// Content that does not compress, with a change at `change`.
fn version(change: u8) -> Vec<u8> {
    let mut bytes = vec![0; 5_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes[100 + usize::from(change)] ^= change;
    bytes
}

/// A pack in the store and an index segment for it.
fn put_pack(place: &Place, blobs: &[Made]) -> PackRef {
    let keys = place.repo.keys();
    let class = blobs[0].kind.class();
    let session = SessionId::new(place.repo.world().random());
    let secret = ClassSecret::create(keys, class, session, Secret::new([9; 32]));
    let mut pack = PackBuilder::new(&secret, FrameSize::ORDINARY, Box::new(Vec::new()));
    let packed = blobs.iter().map(|made| PackedBlob {
        id: made.id,
        kind: made.kind,
        base: made.base,
        bytes: made.bytes.len() as u32,
    });
    let packed: Vec<PackedBlob> = packed.collect();
    let raw = blobs.iter().map(|made| &made.bytes[..]).collect::<Vec<_>>().concat();
    let group = GroupPayload {
        payload: &raw,
        raw_bytes: raw.len() as u32,
        compression: Compression::Stored,
        level: 1,
        blobs: &packed,
    };
    pack.add_group(&secret, &group, 0, &[0; 32]);
    let pack = pack.finish(ParityShare::NONE, &secret, 1, &[0; 32]);
    let bytes = pack.bytes.to_vec();
    let at = PackRef { session, pack: pack.id, class, bytes: bytes.len() as u64 };
    let object = ObjectName::new(&name::pack(session, pack.id)).unwrap();
    place.memory.overwrite(&object, &bytes);
    let mut segment = IndexSegment::default();
    segment.add_pack(at, &pack.directory.blobs);
    segment.entries.sort_unstable();
    let segment = segment.encode(keys, session, &[0; 32]);
    place.put(&name::index(object_id(&segment)), &segment);
    at
}

fn whole(place: &Place, kind: BlobKind, bytes: &[u8]) -> Made {
    let id = place.repo.keys().blob_id(kind, bytes);
    Made { id, kind, base: None, bytes: bytes.to_vec() }
}

/// `bytes` as a change of `base`, which is told to be a change of `told`.
fn delta_of(place: &Place, bytes: &[u8], base: &[u8], told: BlobId) -> Made {
    let stored = delta::encode(bytes, base, bytes.len() / 8).unwrap();
    Made { base: Some(told), bytes: stored, ..whole(place, BlobKind::Chunk, bytes) }
}

fn chunk_id(place: &Place, bytes: &[u8]) -> BlobId {
    place.repo.keys().blob_id(BlobKind::Chunk, bytes)
}

#[test]
fn a_change_of_a_whole_blob_is_read_wherever_that_lies() {
    let place = Place::new();
    let [base, one, other] = [1, 2, 3].map(version);
    let base_id = chunk_id(&place, &base);
    // The base lies as a change of another as well, which is of no use.
    let third = version(4);
    let of_third = delta_of(&place, &base, &third, chunk_id(&place, &third));
    put_pack(&place, &[of_third, delta_of(&place, &one, &base, base_id)]);
    put_pack(&place, &[whole(&place, BlobKind::Chunk, &base)]);
    put_pack(&place, &[delta_of(&place, &other, &base, base_id)]);
    let reader = BlobReader::new(place.reopened());
    for bytes in [one, other, base] {
        let found = reader.blob(BlobKind::Chunk, chunk_id(&place, &bytes)).unwrap();
        assert!(*found == bytes[..]);
    }
}

/// What a delta says of its base is somebody's word. None of these is read, and the blob beside it
/// is.
#[test]
fn what_is_no_change_of_a_whole_blob_is_refused() {
    let place = Place::new();
    let [base, blob, other] = [1, 2, 3].map(version);
    let ids = [&base, &blob, &other].map(|bytes| chunk_id(&place, bytes));
    let [base_id, blob_id, other_id] = ids;
    let lonely = chunk_id(&place, b"of which there is no more");
    // Only a page of a tree holds these bytes.
    let page = whole(&place, BlobKind::Tree, &base);
    let page_id = page.id;
    let no_change = "which no pack holds whole";
    let cases = [
        ("a base that is nowhere", lonely, vec![], no_change),
        ("itself", blob_id, vec![], no_change),
        ("a page", page_id, vec![page], no_change),
        ("a page's bytes", base_id, vec![whole(&place, BlobKind::Tree, &base)], no_change),
        ("a delta", base_id, vec![delta_of(&place, &base, &other, other_id)], no_change),
        ("a delta of itself", base_id, vec![delta_of(&place, &base, &blob, blob_id)], no_change),
        (
            "another base",
            other_id,
            vec![whole(&place, BlobKind::Chunk, &other)],
            "other content than its id says",
        ),
    ];
    for (case, told, others, why) in cases {
        let place = Place::new();
        for made in others {
            put_pack(&place, &[made]);
        }
        let beside = whole(&place, BlobKind::Chunk, b"beside it");
        let beside_id = beside.id;
        let pack = put_pack(&place, &[delta_of(&place, &blob, &base, told), beside]);
        let reader = BlobReader::new(place.reopened());
        let error = reader.blob(BlobKind::Chunk, blob_id).expect_err(case);
        assert!(error.is_damage(), "{case}");
        let source = std::error::Error::source(&error).expect(case).to_string();
        assert!(source.contains(why), "{case}: {source}");
        assert!(error.to_string().contains(&pack.pack.to_string()), "{case}: {error}");
        assert!(reader.blob(BlobKind::Chunk, beside_id).is_ok(), "{case}");
    }
}

#[test]
fn damage_of_a_base_is_named_as_such() {
    let place = Place::new();
    let [base, blob] = [1, 2].map(version);
    let base_pack = put_pack(&place, &[whole(&place, BlobKind::Chunk, &base)]);
    put_pack(&place, &[delta_of(&place, &blob, &base, chunk_id(&place, &base))]);
    let object = ObjectName::new(&name::pack(base_pack.session, base_pack.pack)).unwrap();
    let mut bytes = place.memory.objects()[&object].to_vec();
    bytes[1_000] ^= 1;
    place.memory.overwrite(&object, &bytes);
    let reader = BlobReader::new(place.reopened());
    let error = reader.blob(BlobKind::Chunk, chunk_id(&place, &blob)).unwrap_err();
    assert!(
        matches!(&error, RepoError::Damaged { object: found, .. } if *found == object.as_str())
    );

    // Another pack that holds it whole will do.
    put_pack(
        &place,
        &[whole(&place, BlobKind::Chunk, &base), whole(&place, BlobKind::Chunk, b"x")],
    );
    let reader = BlobReader::new(place.reopened());
    assert!(*reader.blob(BlobKind::Chunk, chunk_id(&place, &blob)).unwrap() == blob[..]);
}

fn file(place: &Place, number: u8) -> BlobId {
    chunk_id(place, &content(number))
}

/// What is wrong with the repository as another process finds it.
fn wrong(place: &Place) -> CheckReport {
    checked(&place.reopened())
}

fn assert_whole(place: &Place) {
    let report = wrong(place);
    assert_eq!((report.damage, report.affected), (vec![], vec![]));
    let repo = place.reopened();
    for record in repo.snapshots().unwrap().live {
        assert_eq!(read_back(&repo, &record).unwrap(), [""; 0]);
    }
}

fn retire(repo: &Repository, record: &lastgood_repo::SnapshotRecord) {
    assert!(repo.retire(record, "a test", None).unwrap());
}

/// The repository as a process of its own finds it.
fn process(place: &Place, number: u64) -> Arc<Repository> {
    open(Arc::new(place.memory.clone()), number).unwrap()
}

fn collect_as(place: &Place, number: u64) -> lastgood_repo::GcReport {
    collect(&process(place, number), eager()).unwrap()
}

#[test]
fn nothing_is_a_change_of_another_where_the_repository_does_not_say_so() {
    let place = Place::new();
    store(&place.repo, 1, &[1]).unwrap();
    store(&place.repo, 1, &[0]).unwrap();
    assert_eq!(deltas(&place.repo), []);
    let place = Place::with_deltas();
    store(&place.repo, 1, &[1]).unwrap();
    store(&place.repo, 1, &[0]).unwrap();
    assert_eq!(deltas(&place.repo), [(file(&place, 0), file(&place, 1))]);
    assert_whole(&place);
}

/// Over ten versions, each of which is like the one before.
#[test]
fn no_change_is_of_a_change() {
    let place = Place::with_deltas();
    let versions: Vec<Vec<u8>> = (1..=10).map(version).collect();
    let first = chunk_id(&place, &versions[0]);
    let mut last = first;
    for (bytes, number) in versions.iter().zip(0..) {
        let repo = process(&place, number);
        let session = WriteSession::begin(&repo, SETTINGS, &[1; 16]).unwrap();
        let mut writer = session.writer();
        last = writer.add_like(last, bytes).unwrap();
        writer.finish().unwrap();
    }
    let found = deltas(&place.reopened());
    assert_eq!(found.len(), 9);
    assert!(found.iter().all(|(_, base)| *base == first));
    let reader = BlobReader::new(place.reopened());
    for bytes in &versions {
        let found = reader.blob(BlobKind::Chunk, chunk_id(&place, bytes)).unwrap();
        assert!(*found == bytes[..]);
    }
}

/// A snapshot of nothing but changes, whose bases only retired ones need.
fn of_changes() -> Place {
    let place = Place::with_deltas();
    let first = store(&place.repo, 1, &[1, 5, 9, 13, 17, 21]).unwrap();
    let second = store(&process(&place, 101), 1, &[0, 8, 16, 24]).unwrap();
    assert_eq!(deltas(&place.reopened()).len(), 3);
    retire(&place.repo, &first);
    let named = BlobReader::new(place.reopened()).pack_set(&second.snapshot).unwrap().0;
    assert!(named.len() >= 5, "the packs of the bases are named");
    place
}

#[test]
fn gc_keeps_the_base_wherever_it_keeps_the_change() {
    let place = of_changes();
    let report = collect_as(&place, 7);
    assert!(report.packs_repacked > 0 && report.packs_removed > 0, "{report:?}");
    assert_eq!(report.problems, [""; 0]);
    assert_whole(&place);
    let repo = place.reopened();
    let reader = BlobReader::new(repo.clone());
    for (number, is_there) in [(1, true), (5, false), (9, true), (13, false), (17, true)] {
        let found = reader.blob(BlobKind::Chunk, file(&place, number));
        assert_eq!(found.is_ok(), is_there, "{number}");
    }
    // What is repacked stays a change, and so does what is taken over from there.
    let second = repo.snapshots().unwrap().live.remove(0);
    take_over(&process(&place, 8), 2, &second).unwrap().unwrap();
    store(&process(&place, 102), 1, &[0, 12]).unwrap();
    retire(&repo, &second);
    for record in repo.snapshots().unwrap().live {
        if record.snapshot.tree == second.snapshot.tree {
            retire(&repo, &record);
        }
    }
    for number in 9..11 {
        collect_as(&place, number);
        assert_whole(&place);
    }
    assert_eq!(deltas(&place.reopened()), [(file(&place, 0), file(&place, 1))]);
    let reader = BlobReader::new(place.reopened());
    assert!(reader.blob(BlobKind::Chunk, file(&place, 9)).is_err(), "nobody needs it any more");
}

/// Only with the feature `seeded-bugs`.
#[cfg(feature = "seeded-bugs")]
#[test]
fn bases_that_gc_does_not_mark_are_lost() {
    let place = of_changes();
    let repo = process(&place, 7);
    repo.plant(lastgood_repo::SeededBug::BasesNotMarked);
    collect(&repo, eager()).unwrap();
    assert_eq!(wrong(&place).affected.len(), 3);
    lastgood_testkit::campaign::tell("seeded bug BasesNotMarked: three files are lost");
}

/// Removes the packs that hold a blob whole.
fn lose(place: &Place, blob: BlobId) {
    let repo = place.reopened();
    let reader = BlobReader::new(repo.clone());
    for (session, pack, bytes) in repo.all_packs().unwrap() {
        let at = PackRef { session, pack, class: lastgood_format::key::Class::Data, bytes };
        let opened = reader.packs().open(at).unwrap();
        if opened.directory.blobs.iter().any(|it| it.id == blob && it.base.is_none()) {
            let object = ObjectName::new(&name::pack(session, pack)).unwrap();
            place.memory.remove(&object).unwrap();
        }
    }
}

#[test]
fn a_lost_base_is_damage_of_every_change_of_it_and_named_by_path() {
    let place = Place::with_deltas();
    let first = store(&place.repo, 1, &[1]).unwrap();
    store(&process(&place, 103), 1, &[0, 4, 8]).unwrap();
    store(&process(&place, 104), 1, &[0, 5]).unwrap();
    retire(&place.repo, &first);
    lose(&place, file(&place, 1));
    for read_data in [ReadData::No, ReadData::All] {
        let plan = CheckPlan { read_data, threads: 1 };
        let report = check(&place.reopened(), &plan, &Quiet).unwrap();
        let paths: Vec<_> = report.affected.iter().map(|(_, path)| path.as_slice()).collect();
        assert_eq!(paths, [b"file 000", b"file 000"], "{read_data:?} {:?}", report.damage);
        let why = "is a change of blob";
        assert!(report.damage.iter().any(|line| line.contains(why)), "{:?}", report.damage);
    }
    // Stored once more, it is whole, and so is what is stored of it.
    let third = store(&process(&place, 105), 1, &[0, 1]).unwrap();
    let repo = place.reopened();
    assert_eq!(read_back(&repo, &third).unwrap(), [""; 0]);
}

/// As check finds it that only reads directories: a base that is in no pack that a snapshot names.
#[test]
fn a_change_of_what_no_snapshot_names_is_damage() {
    let place = Place::with_deltas();
    let base = put_pack(&place, &[whole(&place, BlobKind::Chunk, &content(1))]);
    let delta = delta_of(&place, &content(0), &content(1), file(&place, 1));
    let pack = put_pack(&place, &[delta]);
    let record = store(&process(&place, 106), 1, &[0]).unwrap();
    assert_whole(&place);
    let named = BlobReader::new(place.reopened()).pack_set(&record.snapshot).unwrap().0;
    assert!([base, pack].iter().all(|it| named.iter().any(|named| named.pack == it.pack)));

    // A writer that does not name it.
    let without: Vec<PackRef> = named.into_iter().filter(|it| it.pack != base.pack).collect();
    let liar = crate::session::with_pack_set(&place, &record, &without);
    retire(&place.repo, &record);
    let report = wrong(&place);
    assert_eq!(report.affected, [(liar.id, b"file 000".to_vec())]);
    assert!(report.damage[0].contains("no snapshot names it"), "{:?}", report.damage);
}

/// Its base may go once nobody needs it, though the pack stays for the sake of others.
#[test]
fn a_change_that_nobody_needs_is_no_damage_without_its_base() {
    let place = Place::with_deltas();
    let first = store(&place.repo, 1, &[1]).unwrap();
    let settings = lastgood_repo::Settings { group_bytes: 1 << 20, ..SETTINGS };
    let second = crate::small::store_as(&process(&place, 107), settings, 1, &[0, 8]).unwrap();
    let third = store(&process(&place, 108), 1, &[8]).unwrap();
    [first, second].iter().for_each(|record| retire(&place.repo, record));
    let options = lastgood_repo::GcOptions { max_unused: lastgood_repo::MaxUnused::Any, ..eager() };
    let repo = process(&place, 7);
    assert!(collect(&repo, options).unwrap().packs_removed > 0);
    assert_eq!(deltas(&place.reopened()).len(), 1);
    let reader = BlobReader::new(place.reopened());
    assert!(reader.blob(BlobKind::Chunk, file(&place, 0)).is_err(), "it has no base any more");
    assert_whole(&place);
    assert_eq!(place.reopened().snapshots().unwrap().live[0].id, third.id);
    // It is stored whole where somebody has it again.
    let record = store(&process(&place, 109), 1, &[0, 8]).unwrap();
    assert_whole(&place);
    assert_eq!(read_back(&place.reopened(), &record).unwrap(), [""; 0]);
}

/// A run that was killed left packs that no segment covers.
#[test]
fn what_a_killed_run_left_is_used_only_while_its_bases_may_be() {
    for is_base_there in [true, false] {
        let place = Place::with_deltas();
        let first = store(&place.repo, 1, &[1]).unwrap();
        let segments: BTreeSet<String> = place.names("index/").into_iter().collect();
        {
            let repo = process(&place, 6);
            let session = WriteSession::begin(&repo, SETTINGS, &[3; 16]).unwrap();
            let mut writer = session.writer();
            writer.add_like(file(&place, 1), &content(0)).unwrap();
            writer.finish().unwrap();
        }
        for segment in place.names("index/").iter().filter(|it| !segments.contains(*it)) {
            place.memory.remove(&ObjectName::new(&format!("index/{segment}")).unwrap()).unwrap();
        }
        assert_eq!(deltas(&place.reopened()).len(), 1);
        retire(&place.repo, &first);
        if !is_base_there {
            lose(&place, file(&place, 1));
        }
        let record = store(&process(&place, 110), 1, &[0]).unwrap();
        collect_as(&place, 7);
        assert_whole(&place);
        let left = deltas(&place.reopened()).len();
        assert_eq!(left, usize::from(is_base_there), "{}", record.id);
    }
}

/// What was forgotten comes back only with the bases of what it needs.
#[test]
fn a_forgotten_snapshot_is_taken_over_with_its_bases() {
    let place = Place::with_deltas();
    let first = store(&place.repo, 1, &[1, 5, 9]).unwrap();
    let second = store(&process(&place, 111), 1, &[0, 4]).unwrap();
    let third = store(&process(&place, 112), 1, &[0, 1, 4, 9]).unwrap();
    retire(&place.repo, &first);
    assert!(collect_as(&place, 7).packs_repacked > 0);
    retire(&place.repo, &second);
    let copy = take_over(&process(&place, 8), 2, &second).unwrap();
    let copy = copy.expect("all of it is there");
    retire(&place.repo, &third);
    for number in 9..11 {
        collect_as(&place, number);
        assert_whole(&place);
    }
    let Snapshot { tree, .. } = copy.snapshot;
    assert_eq!(tree, second.snapshot.tree);
}

/// Neither parity nor a copy brings its base back; whoever has the file does not have that either.
#[test]
fn what_was_a_change_of_something_lost_is_stored_again_whole() {
    let place = Place::with_deltas();
    let first = store(&place.repo, 1, &[1]).unwrap();
    let second = store(&process(&place, 20), 1, &[0, 8]).unwrap();
    retire(&place.repo, &first);
    lose(&place, file(&place, 1));
    let repo = process(&place, 21);
    let (writer_name, whole) = ([2; 16], HashSet::new());
    let plan = RepairPlan { threads: 1, dry_run: false, writer_name, copies: &[], whole: &whole };
    let lost_packs: HashSet<_> =
        repair(&repo, &plan, &Quiet).unwrap().lost_packs.into_iter().collect();
    assert_eq!(lost_packs.len(), 1);
    let mut recovery = Recovery::new(&repo, vec![second.clone()], lost_packs, &[]).unwrap();
    let lacking = recovery.search(&|| Ok(())).unwrap();
    assert_eq!(lacking.lost.keys().collect::<Vec<_>>(), [&file(&place, 0)]);
    assert_eq!(lacking.affected[0].path, b"file 000");
    recovery.store(&writer_name).unwrap();
    assert!(recovery.offer(BlobKind::Chunk, &content(0)).unwrap());
    assert_eq!(recovery.finish().unwrap().blobs, 1);
    assert_whole(&place);
    collect_as(&place, 22);
    assert_whole(&place);
    assert_eq!(read_back(&process(&place, 23), &second).unwrap(), [""; 0]);
}

#[test]
fn whoever_needs_a_change_takes_the_space_of_what_it_is_of() {
    let place = Place::with_deltas();
    let records =
        [store(&place.repo, 1, &[1]).unwrap(), store(&process(&place, 20), 1, &[0]).unwrap()];
    let repo = process(&place, 21);
    let base_bytes = content(1).len() as u64;
    let both = space(&repo, &records, 0, &mut || Ok(())).unwrap();
    let [first, second] = both.snapshots[..] else { panic!("{both:?}") };
    assert!(first.added_bytes - first.own_bytes >= base_bytes, "forgetting it frees no base");
    assert!(second.added_bytes < base_bytes + first.added_bytes);
    let alone = space(&repo, &records[1..], 0, &mut || Ok(())).unwrap();
    assert!(alone.needed_bytes >= second.added_bytes + base_bytes, "{alone:?} {both:?}");
    let path = path_of(&BlobReader::new(repo), &records[1], file(&place, 1)).unwrap();
    assert_eq!(path.as_deref(), Some(&b"file 000"[..]));
}
