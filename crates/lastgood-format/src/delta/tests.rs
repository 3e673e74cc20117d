use proptest::prelude::*;

use super::{encode, resolve};
use crate::encoding::Write;
use crate::limits::BLOB_BYTES_MAX;
use crate::samples::noise;

/// A base that zstd would take for a dictionary, if it were given it as one.
#[test]
fn a_base_is_bytes_whatever_it_begins_with() {
    let mut base = noise(1, 20_000);
    base[..4].copy_from_slice(&0xec30_a437_u32.to_le_bytes());
    let mut blob = base.clone();
    blob[9_000] ^= 1;
    let delta = encode(&blob, &base, 1000).unwrap();
    assert!(delta.len() < 100, "{} bytes for one that changed", delta.len());
    assert_eq!(resolve(&delta, &base).unwrap(), blob);
}

#[test]
fn a_delta_that_does_not_pay_is_none() {
    let (base, blob) = (noise(1, 20_000), noise(2, 20_000));
    for bytes_max in [0, 1, 3, 2_500, 19_999] {
        assert_eq!(encode(&blob, &base, bytes_max), None);
    }
    let delta = encode(&blob, &base, 20_100).unwrap();
    assert_eq!(resolve(&delta, &base).unwrap(), blob);
}

/// The frame reaches back to the very start of a base that is longer than chunks ordinarily are.
#[test]
fn a_long_blob_is_a_delta_of_a_long_one() {
    let base = noise(3, 1 << 20);
    let blob = [&base[5..], b"moved"].concat();
    let delta = encode(&blob, &base, blob.len() / 8).unwrap();
    assert!(resolve(&delta, &base).unwrap() == blob);
}

#[test]
fn the_longest_blob_can_be_a_delta() {
    let blob = noise(3, BLOB_BYTES_MAX);
    let delta = encode(&blob, b"base", BLOB_BYTES_MAX + (1 << 16)).unwrap();
    assert!(resolve(&delta, b"base").unwrap() == blob);
}

#[test]
fn what_is_no_delta_is_refused() {
    let base = noise(1, 5_000);
    let blob = [&base[..3_000], b"something else", &base[3_000..]].concat();
    let delta = encode(&blob, &base, 1_000).unwrap();
    let refused = |delta: &[u8]| resolve(delta, &base).unwrap_err().to_string();
    let (_, frame) = delta.split_at(2);
    let of_length = |length: u64| {
        let mut delta = Vec::new();
        delta.varint(length);
        delta.extend_from_slice(frame);
        delta
    };
    assert_eq!(of_length(blob.len() as u64), delta);
    let wrong = "delta is invalid: it does not decompress to its length";
    for length in [0, 1, blob.len() as u64 - 1, blob.len() as u64 + 1, BLOB_BYTES_MAX as u64] {
        assert_eq!(refused(&of_length(length)), wrong);
    }
    let limit = "delta is invalid: a count or length exceeds its limit";
    assert_eq!(refused(&of_length(BLOB_BYTES_MAX as u64 + 1)), limit);
    let frames = "delta is invalid: it is not one zstd frame";
    assert_eq!(refused(&delta[..delta.len() - 1]), frames);
    assert_eq!(refused(&[&delta[..], &[0]].concat()), frames);
    assert_eq!(refused(&[&delta[..], frame].concat()), frames);
    assert_eq!(refused(&[0]), frames);
    assert_eq!(refused(&[]), "delta is cut short");
    // Two frames that together have the length.
    let two = [encode(&blob[..4_000], &base, 1_000).unwrap(), frame.to_vec()].concat();
    assert_eq!(refused(&two), frames);
}

proptest! {
    #[test]
    fn what_was_encoded_is_resolved(
        base in proptest::collection::vec(0_u8..4, 0..3_000),
        blob in proptest::collection::vec(0_u8..4, 1..3_000),
    ) {
        let delta = encode(&blob, &base, 4_000).unwrap();
        prop_assert_eq!(resolve(&delta, &base).unwrap(), blob);
    }
}
