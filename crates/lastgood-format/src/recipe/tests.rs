use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::page::decode;
use crate::samples::{blob_bytes, blob_id, check_leaf, numbered_id};

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (blob_id(), blob_bytes()).prop_map(|(id, bytes)| Part::Chunk { id, bytes }),
        (1..=u64::MAX).prop_map(|bytes| Part::Hole { bytes }),
        (blob_id(), blob_bytes(), 2..=u64::MAX).prop_map(|(id, bytes, count)| Part::Repeat {
            id,
            bytes,
            count
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn recipes_read_back_in_one_form(parts in vec(part(), 0..20)) {
        check_leaf::<RecipeCodec>(parts)?;
    }

    /// Joined or not, the file is the same, byte for byte.
    #[test]
    fn joining_changes_no_byte(parts in vec((0_u64..3, 1_u32..3), 0..60)) {
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(id, bytes)| match id {
                0 => Part::Hole { bytes: u64::from(bytes) },
                id => Part::Chunk { id: numbered_id(id), bytes },
            })
            .collect();
        let mut joiner = PartJoiner::default();
        let mut joined: Vec<Part> = parts.iter().filter_map(|part| joiner.push(*part)).collect();
        joined.extend(joiner.finish());
        let expand = |parts: &[Part]| -> Vec<Option<(BlobId, u32)>> {
            parts
                .iter()
                .flat_map(|part| match *part {
                    Part::Hole { bytes } => vec![None; bytes as usize],
                    Part::Chunk { id, bytes } => vec![Some((id, bytes))],
                    Part::Repeat { id, bytes, count } => vec![Some((id, bytes)); count as usize],
                })
                .collect()
        };
        prop_assert_eq!(expand(&joined), expand(&parts));
        prop_assert!(joined.windows(2).all(|pair| join(pair[0], pair[1]).is_none()));
        check_leaf::<RecipeCodec>(joined)?;
    }
}

#[test]
fn parts_that_must_not_be_are_refused() {
    let id = BlobId::new([1; 32]);
    for part in [
        Part::Chunk { id, bytes: 0 },
        Part::Chunk { id, bytes: BLOB_BYTES_MAX as u32 + 1 },
        Part::Hole { bytes: 0 },
        Part::Repeat { id, bytes: 1, count: 0 },
        Part::Repeat { id, bytes: 1, count: 1 },
        Part::Repeat { id, bytes: 0, count: 2 },
    ] {
        let mut bytes = vec![0];
        RecipeCodec::encode(&[part], &mut bytes);
        assert!(decode::<RecipeCodec>(&bytes, None).is_err(), "{part:?}");
    }
    // A fourth kind, and a hole with a length where none belongs.
    for head in [3, 5, 7] {
        let bytes = [&[0, 1, head, 1][..], &[0; 32]].concat();
        assert!(decode::<RecipeCodec>(&bytes, None).is_err(), "{head}");
    }
}

#[test]
fn lengths_past_64_bits_saturate() {
    let repeat = Part::Repeat { id: BlobId::new([1; 32]), bytes: 4096, count: u64::MAX };
    assert_eq!(repeat.file_bytes(), u64::MAX);
}
