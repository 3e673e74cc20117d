use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::chunker::ChunkerParams;
use crate::key::Class;
use crate::samples::{
    SESSION, WRITER, blob_id, keys, other_keys, pack_ref, refuses_damage, secret, snapshot_id,
    timestamp, writer_id,
};

pub(crate) fn sample() -> Snapshot {
    let id = |byte| BlobId::new([byte; 32]);
    Snapshot {
        session: SESSION,
        started: Timestamp { seconds: 1_795_000_000, nanos: 5 },
        finished: Timestamp { seconds: 1_795_000_009, nanos: 999_999_999 },
        tree: id(1),
        hints: id(2),
        links: id(3),
        pack_set: id(4),
        ref_packs: Vec::new(),
        sources: vec![b"/home/\xff".to_vec()],
        host: "büro".into(),
        host_id: [9; 16],
        user: "ada".into(),
        tags: vec!["weekly".into()],
        owners: OwnerNames { users: vec![(0, "root".into())], groups: vec![(100, "users".into())] },
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
        chain: Chain {
            writer: keys().writer(&WRITER).writer_id(),
            sequence: 2,
            previous: Some(SnapshotId::new([5; 32])),
            parents: vec![SnapshotId::new([5; 32])],
            generation: 3,
            heads: vec![Head {
                writer: WriterId::new([6; 16]),
                sequence: 1,
                snapshot: SnapshotId::new([7; 32]),
            }],
        },
        totals: Totals { files: 1, bytes: 2, errors: 3, ..Totals::default() },
        flags: SnapshotFlags::INCOMPLETE,
        program: "lastgood 0.1.0".into(),
        original: Some(SnapshotId::new([8; 32])),
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let keys = keys();
    snapshot.encode(&keys, &keys.writer(&WRITER), &secret(Class::Meta), &[0; 32]).unwrap()
}

prop_compose! {
    fn snapshot()(
        (started, finished) in (timestamp(), timestamp()),
        (tree, hints, links, pack_set) in (blob_id(), blob_id(), blob_id(), blob_id()),
        ref_packs in vec(pack_ref(), 0..4),
        sources in vec(vec(any::<u8>(), 0..300), 0..4),
        (host, host_id, user) in (".{0,20}", any::<[u8; 16]>(), ".{0,20}"),
        tags in vec(".{0,20}", 0..4),
        (users, groups) in (vec((any::<u32>(), ".{0,9}"), 0..4), vec((any::<u32>(), ".{0,9}"), 0..4)),
        (previous, original) in (option::of(snapshot_id()), option::of(snapshot_id())),
        parents in vec(snapshot_id(), 0..4),
        heads in vec((writer_id(), any::<u64>(), snapshot_id()), 0..4),
        counts in any::<[u64; 9]>(),
        (sequence, generation, flags) in (any::<u64>(), any::<u64>(), any::<u64>()),
    ) -> Snapshot {
        let heads = heads.into_iter();
        let heads = heads.map(|(writer, sequence, snapshot)| Head { writer, sequence, snapshot });
        let [files, directories, others, bytes, files_new, files_changed, bytes_added, bytes_stored, errors] = counts;
        Snapshot {
            started, finished, tree, hints, links, pack_set, ref_packs, sources,
            host, host_id, user, tags,
            owners: OwnerNames { users, groups },
            chain: Chain { sequence, previous, parents, generation, heads: heads.collect(), ..sample().chain },
            totals: Totals { files, directories, others, bytes, files_new, files_changed, bytes_added, bytes_stored, errors },
            flags: SnapshotFlags(flags),
            original,
            ..sample()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn snapshots_read_back(snapshot in snapshot()) {
        let bytes = encode(&snapshot);
        prop_assert_eq!(Snapshot::decode(&keys(), &bytes), Ok(snapshot.clone()));
        prop_assert!(Snapshot::decode(&other_keys(), &bytes).is_err());
        let record = snapshot.encode_record();
        prop_assert_eq!(Snapshot::decode_record(&record), Ok(snapshot));
    }
}

#[test]
fn damaged_snapshots_are_refused() {
    refuses_damage(&encode(&sample()), |bytes| Snapshot::decode(&keys(), bytes).is_ok());
}

#[test]
fn snapshots_signed_by_those_who_may_not_are_refused() {
    let keys = keys();
    let meta = secret(Class::Meta);
    let writer = keys.writer(&WRITER);
    // The maintenance key, another writer in this one's name, another repository's writer.
    for signer in
        [keys.maintenance(), keys.writer(b"another writer!!"), other_keys().writer(&WRITER)]
    {
        let forged = sample().encode(&keys, &signer, &meta, &[0; 32]).unwrap();
        assert_eq!(Snapshot::decode(&keys, &forged), Err(KeyError::Signature));
    }
    for class in [Class::Data, Class::Refs] {
        let forged = sample().encode(&keys, &writer, &secret(class), &[0; 32]).unwrap();
        assert_eq!(Snapshot::decode(&keys, &forged), Err(KeyError::Forged), "{class:?}");
    }
}

/// A session's outcome names a snapshot; the snapshot must name that session.
#[test]
fn snapshots_of_another_session_are_refused() {
    let snapshot = Snapshot { session: SessionId::new([0x77; 16]), ..sample() };
    assert_eq!(Snapshot::decode(&keys(), &encode(&snapshot)), Err(KeyError::Forged));
}

#[test]
fn snapshots_that_no_reader_takes_are_not_made() {
    let keys = keys();
    let encode = |snapshot: &Snapshot| {
        snapshot.encode(&keys, &keys.writer(&WRITER), &secret(Class::Meta), &[0; 32])
    };
    let with_tag = |bytes| Snapshot { tags: vec!["x".repeat(bytes)], ..sample() };
    let long = with_tag(16 << 20);
    assert_eq!(encode(&long), Err(TooLong { bytes: long.encode_record().len() }));
    let stored = encode(&with_tag((16 << 20) - 5000)).unwrap();
    assert!(Snapshot::decode(&keys, &stored).is_ok());
}

#[test]
fn heads_are_bounded() {
    let head = |number: usize| Head {
        writer: WriterId::new([6; 16]),
        sequence: number as u64,
        snapshot: SnapshotId::new([7; 32]),
    };
    let with_heads = |count| {
        let chain = Chain { heads: (0..count).map(head).collect(), ..sample().chain };
        Snapshot { chain, ..sample() }.encode_record()
    };
    assert!(Snapshot::decode_record(&with_heads(SNAPSHOT_HEADS_MAX)).is_ok());
    assert!(Snapshot::decode_record(&with_heads(SNAPSHOT_HEADS_MAX + 1)).is_err());
}

/// `--files-from` may name very many paths, and a big host has very many users.
#[test]
fn snapshots_of_very_many_sources_and_owners_read_back() {
    let snapshot = Snapshot {
        sources: (0..200_000).map(|n| format!("/source/{n:06}").into_bytes()).collect(),
        tags: vec!["x".repeat(10_000)],
        owners: OwnerNames {
            users: (0..100_000).map(|n| (n, format!("user{n}"))).collect(),
            groups: Vec::new(),
        },
        ..sample()
    };
    assert!(Snapshot::decode(&keys(), &encode(&snapshot)) == Ok(snapshot));
}

#[test]
fn records_with_fields_of_a_later_release_read_as_before() {
    let mut record = sample().encode_record();
    record.extend_from_slice(&[100, 3, 1, 2, 3]);
    assert_eq!(Snapshot::decode_record(&record), Ok(sample()));
}

#[test]
fn times_past_a_second_are_refused() {
    let finished = Timestamp { seconds: 0, nanos: 1_000_000_000 };
    let record = Snapshot { finished, ..sample() }.encode_record();
    assert!(Snapshot::decode_record(&record).is_err());
}
