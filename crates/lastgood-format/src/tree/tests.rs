use proptest::prelude::*;

use super::*;
use crate::page::{Page, decode, encode};
use crate::samples::{check_canonical, check_leaf, entries, flips, numbered_file};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn trees_read_back_in_one_form(entries in entries(8)) {
        check_leaf::<TreeCodec>(entries)?;
    }
}

fn refused(bytes: &[u8], why: &str) {
    let error = decode::<TreeCodec>(bytes, Some(0)).unwrap_err();
    assert!(error.to_string().contains(why), "{why:?} is refused for another reason: {error}");
}

fn bytes(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0];
    TreeCodec::encode(entries, &mut bytes);
    bytes
}

/// Entries that no writer may store: were one stored, its directory could not be read back.
#[test]
fn entries_that_must_not_be_are_refused() {
    let file = numbered_file(1);
    let named = |name: &[u8]| Entry { name: name.into(), ..file.clone() };
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
        assert!(decode::<TreeCodec>(&bytes(&[named(name)]), None).is_err(), "{name:?}");
    }
    refused(&bytes(&[named(b"b"), named(b"a")]), "order");
    refused(&bytes(&[named(b"a"), named(b"a")]), "order");
    let late = Timestamp { seconds: 0, nanos: 1_000_000_000 };
    refused(&bytes(&[Entry { mtime: late, ..file.clone() }]), "second");
    refused(&bytes(&[Entry { mode: 0o10_000, ..file.clone() }]), "mode");
    let link =
        |target: &[u8]| Entry { node: Node::Symlink { target: target.into() }, ..file.clone() };
    refused(&bytes(&[link(b"")]), "target");
    refused(&bytes(&[link(b"a\0b")]), "NUL");
    assert!(decode::<TreeCodec>(&bytes(&[link(&[b'a'; 4096])]), None).is_err());
    let content = Content::Chunk(BlobId::new([1; 32]));
    refused(
        &bytes(&[Entry { node: Node::File { size: 0, content }, ..file.clone() }]),
        "empty file",
    );

    let xattr =
        |name: &[u8], bytes: usize| Xattr { name: name.into(), value: vec![1; bytes].into() };
    let with = |set: Vec<Xattr>| bytes(&[Entry { xattrs: Some(set.into()), ..file.clone() }]);
    refused(&with(vec![]), "cut short");
    refused(&with(vec![xattr(b"b", 1), xattr(b"a", 1)]), "attribute name");
    refused(&with(vec![xattr(b"a", 1), xattr(b"a", 1)]), "attribute name");
    refused(&with(vec![xattr(b"", 1)]), "attribute name");
    refused(&with(vec![xattr(b"a\0", 1)]), "attribute name");
    refused(&with(vec![xattr(&[b'a'; 256], 1)]), "limit");
    refused(&with(vec![xattr(b"a", XATTR_BYTES_MAX + 1)]), "limit");
    let many = (100..170).map(|n: u8| xattr(&[n], XATTR_BYTES_MAX)).collect();
    refused(&with(many), "exceeds its limit");
}

/// Each way in which a page could say the same in other bytes.
#[test]
fn second_forms_are_refused() {
    let entries: Vec<_> =
        ["ab", "ac"].map(|name| Entry { name: name.as_bytes().into(), ..numbered_file(1) }).into();
    let good = encode::<TreeCodec>(0, &Page::Leaf(entries.clone()));
    // level, count, (0, 2, "ab"), (1, 1, "c")
    assert_eq!(good[..9], [0, 2, 0, 2, b'a', b'b', 1, 1, b'c']);
    let unshared = [&good[..6], &[0, 2, b'a', b'c'], &good[9..]].concat();
    refused(&unshared, "shortest form");

    // The same set of attributes twice.
    let set: Box<[Xattr]> = [Xattr { name: b"u".to_vec().into(), value: [].into() }].into();
    let both: Vec<_> =
        entries.iter().map(|entry| Entry { xattrs: Some(set.clone()), ..entry.clone() }).collect();
    let good = encode::<TreeCodec>(0, &Page::Leaf(both));
    // One set of one attribute "u" without a value, used twice.
    let (front, back) = good.split_at(good.len() - 7);
    assert_eq!(back, [1, 1, 1, b'u', 0, 0, 0]);
    let doubled = [front, &[2, 1, 1, b'u', 0, 1, 1, b'u', 0, 0, 1]].concat();
    refused(&doubled, "stored twice");
    let disordered = [front, &[2, 1, 1, b'u', 0, 1, 1, b'v', 0, 1, 0]].concat();
    refused(&disordered, "order of use");
    let unused = [front, &[2, 1, 1, b'u', 0, 1, 1, b'v', 0, 0, 0]].concat();
    refused(&unused, "not used");

    for flipped in flips(&good) {
        check_canonical::<TreeCodec>(&flipped);
    }
}

/// A page of a few kilobytes cannot expand to gigabytes.
#[test]
fn shared_attributes_are_bounded_where_they_expand() {
    let value: Box<[u8]> = vec![0; XATTR_BYTES_MAX].into();
    let set: Box<[Xattr]> = [Xattr { name: b"u".to_vec().into(), value }].into();
    let entries: Vec<_> = (0..1000)
        .map(|number| Entry { xattrs: Some(set.clone()), ..numbered_file(number) })
        .collect();
    refused(&bytes(&entries), "limit");
    assert!(decode::<TreeCodec>(&bytes(&entries[..17]), None).is_ok());
}
