use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::page::decode;
use crate::samples::{SESSION, check_leaf, pack_ref};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn pack_sets_read_back_in_one_form(packs in vec(pack_ref(), 0..10)) {
        let sorted: BTreeMap<_, _> =
            packs.into_iter().map(|pack| ((pack.session, pack.pack), pack)).collect();
        check_leaf::<PackSetCodec>(sorted.into_values().collect())?;
    }
}

#[test]
fn packs_out_of_order_or_too_long_are_refused() {
    let pack = |byte, bytes| PackRef {
        session: SESSION,
        pack: PackId::new([byte; 32]),
        class: Class::Data,
        bytes,
    };
    for (packs, fits) in [
        (vec![pack(1, 5), pack(2, 5)], true),
        (vec![pack(2, 5), pack(1, 5)], false),
        (vec![pack(1, 5), pack(1, 6)], false),
        (vec![pack(1, PACK_BYTES_MAX)], true),
        (vec![pack(1, PACK_BYTES_MAX + 1)], false),
    ] {
        let mut bytes = vec![0];
        PackSetCodec::encode(&packs, &mut bytes);
        assert_eq!(decode::<PackSetCodec>(&bytes, None).is_ok(), fits, "{packs:?}");
    }
}
