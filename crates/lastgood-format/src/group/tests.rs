use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::key::Class;
use crate::pack::{BlobKind, GroupPayload, PackBuilder, PackedBlob};
use crate::samples::{OTHER_SESSION, flips, keys, other_keys, secret, truncations};

const SALT: GroupSalt = GroupSalt([3; 16]);

fn sealed(size: FrameSize, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0xee; size.count(payload.len()) * size.stored()];
    seal_frames(&secret(Class::Data), SALT, size, payload, &mut out);
    out
}

fn open(
    secret: &ClassSecret,
    salt: GroupSalt,
    size: FrameSize,
    frames: &[u8],
    bytes: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut out = b"kept".to_vec();
    let result = open_frames(secret, salt, size, &mut frames.to_vec(), bytes, &mut out);
    assert_eq!(&out[..4], b"kept");
    assert!(result.is_ok() || out.len() == 4, "bytes of a refused group are handed out");
    result.map(|()| out[4..].to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn frames_read_back(payload in vec(any::<u8>(), 0..5000), log2 in 9_u8..=16) {
        let size = FrameSize::from_log2(log2).unwrap();
        let frames = sealed(size, &payload);
        prop_assert_eq!(open(&secret(Class::Data), SALT, size, &frames, payload.len()), Ok(payload));
    }

    #[test]
    fn groups_decompress_to_what_was_compressed(
        seed in vec(any::<u8>(), 0..2000),
        repeats in 1_usize..8,
        level in -5..10,
    ) {
        let raw = seed.repeat(repeats);
        let mut compressor = GroupCompressor::new(level);
        let (compression, stored) = compressor.compress(&raw);
        prop_assert!(stored.len() <= raw.len());
        let mut decompressor = GroupDecompressor::default();
        let mut decompress = |raw_bytes| {
            let (mut stored, mut out) = (stored.to_vec(), b"what was there".to_vec());
            let result = decompressor.decompress(compression, &mut stored, raw_bytes, &mut out);
            assert!(result.is_ok() || out.is_empty());
            result.map(|()| out)
        };
        prop_assert_eq!(decompress(raw.len()), Ok(raw.clone()));
        prop_assert!(decompress(raw.len() + 1).is_err());
        prop_assert!(raw.is_empty() || decompress(raw.len() - 1).is_err());
        prop_assert!(decompress(GROUP_BYTES_MAX + 1).is_err());
    }
}

#[test]
fn frames_open_only_as_they_were_sealed() {
    let (size, payload) = (FrameSize::SMALLEST, vec![9; 1200]);
    let frames = sealed(size, &payload);
    let own = secret(Class::Data);
    assert_eq!(open(&own, SALT, size, &frames, 1200), Ok(payload));

    // Another length, class, session, repository, salt, purpose or frame size.
    for bytes in [0, 992, 1199, 1489] {
        assert!(open(&own, SALT, size, &frames, bytes).is_err(), "{bytes}");
    }
    assert!(open(&secret(Class::Meta), SALT, size, &frames, 1200).is_err());
    let stranger = ClassSecret { session: OTHER_SESSION, ..own.clone() };
    assert!(open(&stranger, SALT, size, &frames, 1200).is_err());
    let stranger = ClassSecret { repository: other_keys().repository(), ..own.clone() };
    assert!(open(&stranger, SALT, size, &frames, 1200).is_err());
    assert!(open(&own, GroupSalt([4; 16]), size, &frames, 1200).is_err());
    let mut as_directory = frames.clone();
    let purpose = Purpose::Directory;
    let mut out = Vec::new();
    assert!(open_frames_as(purpose, &own, SALT, size, &mut as_directory, 1200, &mut out).is_err());
    assert!(open(&own, SALT, FrameSize::from_log2(10).unwrap(), &frames, 1200).is_err());

    // Swapped, missing, doubled.
    let (a, rest) = frames.split_at(512);
    let (b, c) = rest.split_at(512);
    for (wrong, first) in [([b, a, c], 0), ([a, c, b], 1), ([a, a, c], 1)] {
        assert_eq!(open(&own, SALT, size, &wrong.concat(), 1200).unwrap_err().frame, first);
    }
    assert!(open(&own, SALT, size, &[a, b].concat(), 1200).is_err());
    assert!(open(&own, SALT, size, &[a, b].concat(), 992).is_err());
}

#[test]
fn damaged_frames_are_refused_and_named() {
    let own = secret(Class::Data);
    let size = FrameSize::SMALLEST;
    let frames = sealed(size, &[9; 700]);
    for damaged in truncations(&frames) {
        assert!(open(&own, SALT, size, &damaged, 700).is_err());
    }
    for (bit, damaged) in flips(&frames).enumerate() {
        let error = open(&own, SALT, size, &damaged, 700).unwrap_err();
        assert_eq!(error.frame, bit / 8 / 512);
    }
}

#[test]
fn padding_is_zeros_or_the_group_is_refused() {
    let own = secret(Class::Data);
    let size = FrameSize::SMALLEST;
    // Sealed as full, opened as shorter: what follows is not padding.
    let frames = sealed(size, &[1; 496]);
    assert!(open(&own, SALT, size, &frames, 495).is_err());
    let frames = sealed(size, &[[1; 495].as_slice(), &[0]].concat());
    assert_eq!(open(&own, SALT, size, &frames, 495), Ok(vec![1; 495]));
}

/// A cloned machine with a stuck random source: every counter and every random number repeats.
/// Keys may repeat as well, but only where every byte sealed under them does.
#[test]
fn no_key_and_nonce_seal_two_messages_whatever_repeats() {
    let keys = keys();
    let random = [0; 32];
    let mut sealed: HashMap<[u8; 32], [u8; 32]> = HashMap::new();
    let mut repeats = 0;
    let mut note = |secret: &ClassSecret, aad: [u8; 40], salt: GroupSalt, bytes: &[u8]| {
        let key = *group_key(secret, salt, &aad).expose();
        let digest = *blake3::hash(bytes).as_bytes();
        match sealed.insert(key, digest) {
            Some(before) if before != digest => panic!("one key seals two messages"),
            Some(_) => repeats += 1,
            None => {}
        }
    };
    let mut compressor = GroupCompressor::new(1);
    let mut groups = 0_u64;
    let mut pack_number = 0_u64;
    while groups < 100_000 {
        pack_number += 1;
        let class = if pack_number.is_multiple_of(3) { Class::Meta } else { Class::Data };
        let size = FrameSize::from_log2(9 + (pack_number % 3) as u8).unwrap();
        let secret = secret(class);
        let mut pack = PackBuilder::new(&secret, size, Box::new(Vec::new()));
        for counter in 0..50 {
            groups += 1;
            // Every seventh group has content that was sealed before.
            let content = if groups.is_multiple_of(7) { groups % 1000 } else { groups };
            let mut raw = content.to_le_bytes().repeat(1 + (content % 9) as usize);
            let kind = match class {
                Class::Data => BlobKind::Chunk,
                _ if content.is_multiple_of(2) => BlobKind::Tree,
                _ => BlobKind::Recipe,
            };
            // Ids of the whole content even where two payloads differ, as a delta's do.
            let id = keys.blob_id(kind, &(content / 3).to_le_bytes());
            let base = content.is_multiple_of(5).then(|| keys.blob_id(kind, &[0]));
            if base.is_some() {
                raw.push(content as u8);
            }
            let blob = PackedBlob { id, kind, base, bytes: raw.len() as u32 };
            let (compression, payload) = compressor.compress(&raw);
            let group = GroupPayload {
                payload,
                raw_bytes: raw.len() as u32,
                compression,
                level: 1,
                blobs: &[blob],
            };
            pack.add_group(&secret, &group, counter, &random);
        }
        let pack = pack.finish(crate::parity::ParityShare::default(), &secret, 50, &random);
        for group in &pack.directory.groups {
            let count = size.count(group.stored_bytes as usize);
            let range = pack.layout.group_range(group);
            let frames = &pack.bytes[range.start as usize..range.end as usize];
            note(&secret, frame_aad(Purpose::Group, &secret, size, count), group.salt, frames);
        }
        let count = pack.layout.directory_frames();
        note(
            &secret,
            frame_aad(Purpose::Directory, &secret, size, count),
            pack.layout.directory_salt,
            &pack.bytes[pack.layout.directory_offset()..][..count * size.stored()],
        );
    }
    assert!(repeats > 100, "the test repeats content, so keys must repeat too: {repeats}");
}
