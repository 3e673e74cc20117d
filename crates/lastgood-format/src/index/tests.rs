use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::id::PackId;
use crate::key::Class;
use crate::limits::GROUP_BYTES_MAX;
use crate::samples::{
    SESSION, blob_bytes, flips, keys, numbered_id, other_keys, pack_ref, refuses_damage,
};

fn segment() -> impl Strategy<Value = IndexSegment> {
    let entries = |packs: usize| {
        let blob = any::<[u8; 16]>().prop_map(BlobPrefix);
        let entry = (blob, 0..packs.max(1) as u32, 0..PACK_BLOBS_MAX as u32, blob_bytes());
        let entry = entry.prop_map(|(blob, pack, ordinal, bytes)| IndexEntry {
            blob,
            pack,
            ordinal,
            bytes,
        });
        btree_set(entry, if packs == 0 { 0..1 } else { 0..20 })
    };
    vec(pack_ref(), 0..4).prop_flat_map(move |packs| {
        entries(packs.len()).prop_map(move |entries| IndexSegment {
            packs: packs.clone(),
            entries: entries.into_iter().collect(),
        })
    })
}

fn body(segment: &IndexSegment) -> Vec<u8> {
    let bytes = segment.encode(&keys(), SESSION, &[0; 32]);
    open(ObjectKind::Index, &keys(), BODY_BYTES_MAX, &bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn segments_read_back_in_one_form(segment in segment(), bit in any::<prop::sample::Index>()) {
        let keys = keys();
        let bytes = segment.encode(&keys, SESSION, &[0; 32]);
        prop_assert_eq!(IndexSegment::decode(&keys, &bytes), Ok(segment.clone()));
        prop_assert!(IndexSegment::decode(&other_keys(), &bytes).is_err());
        let good = body(&segment);
        for end in 0..good.len() {
            prop_assert!(IndexSegment::decode_body(&good[..end]).is_err());
        }
        let mut wrong = good;
        let bit = bit.index(wrong.len() * 8);
        wrong[bit / 8] ^= 1 << (bit % 8);
        if let Ok(segment) = IndexSegment::decode_body(&wrong) {
            prop_assert_eq!(body(&segment), wrong);
        }
    }

    #[test]
    fn prefixes_sort_as_their_numbers(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
        let [a, b] = [a, b].map(|id| BlobPrefix::from(BlobId::new(id)));
        if a.leading() != b.leading() {
            prop_assert_eq!(a.cmp(&b), a.leading().cmp(&b.leading()));
        }
    }
}

fn segment_of(count: u64, packs: u8) -> IndexSegment {
    let pack = |number: u8| PackRef {
        session: SESSION,
        pack: PackId::new([number; 32]),
        class: Class::Data,
        bytes: 16 << 20,
    };
    let mut entries: Vec<_> = (0..count)
        .map(|number| IndexEntry {
            blob: numbered_id(number).into(),
            pack: (number % u64::from(packs)) as u32,
            ordinal: (number / u64::from(packs)) as u32,
            bytes: 65_536,
        })
        .collect();
    entries.sort_unstable();
    IndexSegment { packs: (0..packs).map(pack).collect(), entries }
}

/// As many blobs as a segment may have: far more than the bytes of a group.
#[test]
fn the_largest_segment_reads_back() {
    let segment = segment_of(INDEX_ENTRIES_MAX as u64, 100);
    let bytes = segment.encode(&keys(), SESSION, &[0; 32]);
    assert!(bytes.len() > GROUP_BYTES_MAX);
    assert!(bytes.len() as u64 <= crate::limits::INDEX_BYTES_MAX);
    assert!(IndexSegment::decode(&keys(), &bytes) == Ok(segment));
}

#[test]
fn damaged_segments_are_refused() {
    let bytes = segment_of(3, 2).encode(&keys(), SESSION, &[0; 32]);
    refuses_damage(&bytes[..], |bytes| IndexSegment::decode(&keys(), bytes).is_ok());
    for flipped in flips(&body(&segment_of(3, 2))) {
        if let Ok(segment) = IndexSegment::decode_body(&flipped) {
            assert_eq!(body(&segment), flipped);
        }
    }
}

#[test]
fn segments_out_of_order_or_without_their_packs_are_refused() {
    let good = segment_of(5, 2);
    let mut reversed = good.clone();
    reversed.entries.reverse();
    let orphans = IndexSegment { packs: Vec::new(), ..good.clone() };
    let mut strange = good.clone();
    strange.entries[0].pack = 2;
    for wrong in [reversed, orphans, strange] {
        let bytes = wrong.encode(&keys(), SESSION, &[0; 32]);
        assert!(IndexSegment::decode(&keys(), &bytes).is_err());
    }
}
