use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::page::{Page, decode, encode};
use crate::samples::{check_leaf, name};

fn path() -> impl Strategy<Value = Box<[u8]>> {
    vec(name(), 1..4).prop_map(|names| names.join(&b'/').into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn links_read_back_in_one_form(paths in btree_set(path(), 0..8)) {
        let paths: Vec<_> = BTreeSet::into_iter(paths).collect();
        let links = paths.split_first().map_or_else(Vec::new, |(leader, rest)| {
            rest.iter().map(|path| Link { path: path.clone(), leader: leader.clone() }).collect()
        });
        check_leaf::<LinksCodec>(links)?;
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let decode = |path: &[u8], leader: &[u8]| {
        let mut bytes = vec![0];
        LinksCodec::encode(&[Link { path: path.into(), leader: leader.into() }], &mut bytes);
        decode::<LinksCodec>(&bytes, None)
    };
    assert!(decode(b"b/c", b"b/a").is_ok());
    for bad in
        [&b""[..], b"/", b"/b", b"b/", b"b//c", b"b/../c", b"b/./c", b"..", b"b\0", b"../../x"]
    {
        assert!(decode(bad, b"a").is_err(), "{bad:?} as path");
        assert!(decode(b"z", bad).is_err(), "{bad:?} as leader");
    }
    assert!(decode(b"a", b"b").is_err(), "a leader after its path");
    assert!(decode(b"a", b"a").is_err(), "a leader that is its own");
    let long = vec![b'n'; 255].repeat(2);
    assert!(decode(&long, b"a").is_err());
    let longest = [&b"d/".repeat(PATH_BYTES_MAX / 2 - 1)[..], b"n"].concat();
    assert!(decode(&longest, b"a").is_ok());
    assert!(decode(&[&longest[..], b"/xx"].concat(), b"a").is_err());
}

#[test]
fn links_out_of_order_are_refused() {
    let link = |path: &str| Link { path: path.as_bytes().into(), leader: b"a".to_vec().into() };
    let good = encode::<LinksCodec>(0, &Page::Leaf(vec![link("b"), link("c")]));
    assert!(decode::<LinksCodec>(&good, None).is_ok());
    for wrong in [["c", "b"], ["b", "b"]] {
        let mut bytes = vec![0];
        LinksCodec::encode(&wrong.map(link), &mut bytes);
        assert!(decode::<LinksCodec>(&bytes, None).is_err(), "{wrong:?}");
    }
}
