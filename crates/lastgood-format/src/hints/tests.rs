use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::samples::{blob_id, check_leaf, hint};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hints_read_back_in_one_form(items in vec((hint(), prop::option::of(blob_id())), 0..12)) {
        // The boundary is not stored; what is read back never ends a page.
        let items = items
            .into_iter()
            .map(|(hint, children)| HintItem { hint, children, boundary: 1 })
            .collect();
        check_leaf::<HintsCodec>(items)?;
    }
}
