use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::samples::{
    OTHER_SESSION, SESSION, WRITER, keys, other_keys, pack_id, refuses_damage, session_id,
    snapshot_id,
};

fn location() -> impl Strategy<Value = PackLocation> {
    (session_id(), pack_id()).prop_map(|(session, pack)| PackLocation { session, pack })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn retired_snapshots_read_back(
        snapshot in snapshot_id(),
        time in any::<i64>(),
        reason in ".{0,40}",
        replaced_by in prop::option::of(snapshot_id()),
        link in prop::option::of((any::<[u8; 16]>(), any::<u64>(), prop::option::of(snapshot_id()))),
    ) {
        let keys = keys();
        let link = link.map(|(writer, sequence, previous)| {
            ChainLink { writer: WriterId::new(writer), sequence, previous }
        });
        let retired = Retired { snapshot, time, reason, replaced_by, link };
        let bytes = retired.encode(&keys, &keys.maintenance());
        prop_assert_eq!(Retired::decode(keys.verifier(), &bytes), Ok(retired.clone()));
        let forged = retired.encode(&keys, &keys.writer(&WRITER));
        prop_assert_eq!(Retired::decode(keys.verifier(), &forged), Err(KeyError::Signature));
        prop_assert!(Retired::decode(other_keys().verifier(), &bytes).is_err());
    }

    #[test]
    fn lost_snapshots_read_back(snapshot in snapshot_id(), time in any::<i64>(), accepted_by in ".{0,40}") {
        let keys = keys();
        let lost = Lost { snapshot, time, accepted_by };
        let bytes = lost.encode(&keys, &keys.maintenance());
        let decode = |snapshot, bytes: &[u8]| Lost::decode(keys.verifier(), snapshot, bytes);
        prop_assert_eq!(decode(snapshot, &bytes), Ok(lost.clone()));
        prop_assert!(decode(SnapshotId::new([0; 32]), &bytes).is_err());
        prop_assert!(decode(snapshot, &lost.encode(&keys, &keys.writer(&WRITER))).is_err());
        prop_assert!(Lost::decode(other_keys().verifier(), snapshot, &bytes).is_err());
    }

    #[test]
    fn round_lists_read_back(round in any::<u64>(), packs in btree_set(location(), 0..20)) {
        let keys = keys();
        let list = RoundList { round, packs: packs.into_iter().collect() };
        let kinds = [ObjectKind::Condemn, ObjectKind::Verdict];
        for (kind, other) in [(kinds[0], kinds[1]), (kinds[1], kinds[0])] {
            let bytes = list.encode(kind, &keys, &keys.maintenance());
            prop_assert_eq!(RoundList::decode(kind, keys.verifier(), round, &bytes), Ok(list.clone()));
            prop_assert!(RoundList::decode(other, keys.verifier(), round, &bytes).is_err());
            prop_assert!(RoundList::decode(kind, keys.verifier(), !round, &bytes).is_err());
            let forged = list.encode(kind, &keys, &keys.writer(&WRITER));
            prop_assert!(RoundList::decode(kind, keys.verifier(), round, &forged).is_err());
        }
        if list.packs.len() > 1 {
            let packs = list.packs.iter().rev().copied().collect();
            let disordered = RoundList { round, packs };
            let bytes = disordered.encode(kinds[0], &keys, &keys.maintenance());
            prop_assert!(RoundList::decode(kinds[0], keys.verifier(), round, &bytes).is_err());
        }
    }

    #[test]
    fn relocations_read_back(
        to in btree_set(location(), 0..20),
        moved in btree_map(location(), btree_set(0_u32..20, 0..4), 0..20),
    ) {
        let keys = keys();
        let to: Vec<PackLocation> = to.into_iter().collect();
        let within = |positions: BTreeSet<u32>| {
            positions.into_iter().filter(|position| (*position as usize) < to.len()).collect()
        };
        let moved = moved.into_iter().map(|(from, positions)| (from, within(positions))).collect();
        let relocation = Relocation { to, moved };
        let bytes = relocation.encode(&keys, &keys.maintenance());
        prop_assert_eq!(Relocation::decode(keys.verifier(), &bytes), Ok(relocation.clone()));
        let forged = relocation.encode(&keys, &keys.writer(&WRITER));
        prop_assert!(Relocation::decode(keys.verifier(), &forged).is_err());
    }

    #[test]
    fn read_sessions_read_back(
        id in session_id(),
        started in any::<i64>(),
        snapshots in vec(snapshot_id(), 0..20),
    ) {
        let keys = keys();
        let session = ReadSession { id, started, snapshots };
        let bytes = session.encode(&keys, &keys.writer(&WRITER));
        prop_assert_eq!(ReadSession::decode(keys.verifier(), id, &bytes), Ok(session.clone()));
        prop_assert!(ReadSession::decode(keys.verifier(), OTHER_SESSION, &bytes).is_err());
        let forged = session.encode(&keys, &keys.maintenance());
        prop_assert!(ReadSession::decode(keys.verifier(), id, &forged).is_err());
    }
}

#[test]
fn damaged_gc_objects_are_refused() {
    let keys = keys();
    let (writer, maintenance) = (keys.writer(&WRITER), keys.maintenance());
    let pack = PackLocation { session: SESSION, pack: PackId::new([2; 32]) };

    let retired = Retired {
        snapshot: SnapshotId::new([1; 32]),
        time: 7,
        reason: "policy".into(),
        replaced_by: Some(SnapshotId::new([3; 32])),
        link: Some(ChainLink {
            writer: WriterId::new([5; 16]),
            sequence: 4,
            previous: Some(SnapshotId::new([6; 32])),
        }),
    };
    let bytes = retired.encode(&keys, &maintenance);
    refuses_damage(&bytes, |bytes| Retired::decode(keys.verifier(), bytes).is_ok());

    let snapshot = SnapshotId::new([1; 32]);
    let bytes = Lost { snapshot, time: 7, accepted_by: "ada".into() }.encode(&keys, &maintenance);
    refuses_damage(&bytes, |bytes| Lost::decode(keys.verifier(), snapshot, bytes).is_ok());

    let kind = ObjectKind::Verdict;
    let bytes = RoundList { round: 1, packs: vec![pack] }.encode(kind, &keys, &maintenance);
    refuses_damage(&bytes, |bytes| RoundList::decode(kind, keys.verifier(), 1, bytes).is_ok());

    let relocation = Relocation { to: vec![pack], moved: vec![(pack, vec![0])] };
    let bytes = relocation.encode(&keys, &maintenance);
    refuses_damage(&bytes, |bytes| Relocation::decode(keys.verifier(), bytes).is_ok());

    let snapshots = vec![SnapshotId::new([1; 32])];
    let bytes = ReadSession { id: SESSION, started: 2, snapshots }.encode(&keys, &writer);
    refuses_damage(&bytes, |bytes| ReadSession::decode(keys.verifier(), SESSION, bytes).is_ok());
}
