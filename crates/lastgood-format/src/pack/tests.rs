use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::group::{GroupCompressor, GroupDecompressor, open_frames};
use crate::parity::ParityShare;
use crate::samples::{blob_id, flips, keys, other_keys, refuses_damage, secret, truncations};

const RANDOM: [u8; 32] = [8; 32];

/// A blob's kind, base and bytes.
pub(super) type Blob = (BlobKind, Option<BlobId>, Vec<u8>);

/// Memory that holds something else.
fn used_memory() -> Box<dyn crate::memory::Memory> {
    Box::new(vec![0xee; 20_000])
}

fn build(class: Class, size: FrameSize, groups: &[Vec<Blob>]) -> (FinishedPack, Vec<u8>) {
    build_with(ParityShare::default(), class, size, groups)
}

pub(super) fn build_with(
    parity: ParityShare,
    class: Class,
    size: FrameSize,
    groups: &[Vec<Blob>],
) -> (FinishedPack, Vec<u8>) {
    let counter = groups.len() as u64;
    let builder = PackBuilder::new(&secret(class), size, used_memory());
    let pack = fill(builder, class, groups).finish(parity, &secret(class), counter, &RANDOM);
    let bytes = pack.bytes.to_vec();
    (pack, bytes)
}

fn fill(mut builder: PackBuilder, class: Class, groups: &[Vec<Blob>]) -> PackBuilder {
    let (keys, secret) = (keys(), secret(class));
    let mut compressor = GroupCompressor::new(1);
    for (counter, group) in groups.iter().enumerate() {
        let raw: Vec<u8> = group.iter().flat_map(|(_, _, bytes)| bytes).copied().collect();
        let blobs: Vec<PackedBlob> = group
            .iter()
            .map(|(kind, base, bytes)| PackedBlob {
                id: keys.blob_id(*kind, bytes),
                kind: *kind,
                base: *base,
                bytes: bytes.len() as u32,
            })
            .collect();
        let (compression, payload) = compressor.compress(&raw);
        let payload = GroupPayload {
            payload,
            raw_bytes: raw.len() as u32,
            compression,
            level: 1,
            blobs: &blobs,
        };
        builder.add_group(&secret, &payload, counter as u64, &RANDOM);
    }
    builder
}

/// Reads a pack as a repository does: footer, end, directory, then each group by its range.
fn read(bytes: &[u8]) -> Result<Vec<Vec<Blob>>, PackError> {
    let footer = bytes.last_chunk().ok_or(PackError::Footer(TOO_SHORT))?;
    let footer = PackFooter::decode(footer).map_err(PackError::Footer)?;
    if footer.pack_bytes != bytes.len() as u64 {
        return Err(PackError::Footer(TOO_SHORT));
    }
    let mut end = bytes[bytes.len() - footer.end_bytes as usize..].to_vec();
    let opened = open_end(&keys(), &mut end)?;
    let mut groups = Vec::new();
    for (index, group) in opened.directory.groups.iter().enumerate() {
        let range = opened.header.group_range(group);
        let mut frames = bytes[range.start as usize..range.end as usize].to_vec();
        let (size, mut payload, mut raw) = (opened.header.frame_size, Vec::new(), Vec::new());
        let bytes = group.stored_bytes as usize;
        open_frames(&opened.secret, group.salt, size, &mut frames, bytes, &mut payload)
            .map_err(|error| PackError::Key(error.source))?;
        GroupDecompressor::default()
            .decompress(group.compression, &mut payload, group.raw_bytes as usize, &mut raw)
            .map_err(PackError::Directory)?;
        let blobs = opened.directory.blobs.iter().filter(|blob| blob.group as usize == index);
        groups.push(
            blobs
                .map(|blob| {
                    let bytes = raw[blob.offset as usize..][..blob.bytes as usize].to_vec();
                    assert_eq!(blob.id, keys().blob_id(blob.kind, &bytes));
                    (blob.kind, blob.base, bytes)
                })
                .collect(),
        );
    }
    Ok(groups)
}

fn blobs(class: Class) -> impl Strategy<Value = Vec<Blob>> {
    let kinds: Vec<_> = BlobKind::ALL.into_iter().filter(|kind| kind.class() == class).collect();
    let bytes = prop_oneof![vec(any::<u8>(), 0..300), (0..3000_usize).prop_map(|n| vec![b'z'; n])];
    vec((prop::sample::select(kinds), prop::option::of(blob_id()), bytes), 0..6)
}

pub(super) fn packs() -> impl Strategy<Value = (Class, FrameSize, Vec<Vec<Blob>>)> {
    crate::samples::class().prop_flat_map(|class| {
        let size = (9_u8..=16).prop_map(|log2| FrameSize::from_log2(log2).unwrap());
        (Just(class), size, vec(blobs(class), 0..5))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn packs_read_back((class, size, groups) in packs()) {
        let (pack, bytes) = build(class, size, &groups);
        prop_assert_eq!(bytes.len(), pack.layout.pack_bytes());
        prop_assert_eq!(verify_bytes(&bytes), Ok(pack.id));
        prop_assert_eq!(PackHeader::decode(&bytes), Ok(pack.layout.clone()));
        prop_assert_eq!(read(&bytes), Ok(groups));
        let encoded = pack.directory.encode();
        prop_assert_eq!(Directory::decode(&encoded, class, size), Ok(pack.directory));
    }

    #[test]
    fn joined_packs_read_back((class, size, groups) in packs(), at in any::<prop::sample::Index>()) {
        let (front, back) = groups.split_at(at.index(groups.len() + 1));
        let builder = || PackBuilder::new(&secret(class), size, used_memory());
        let mut joined = fill(builder(), class, front);
        joined.append(&fill(builder(), class, back));
        let pack = joined.finish(ParityShare::default(), &secret(class), 0, &RANDOM);
        let bytes = pack.bytes.to_vec();
        prop_assert_eq!(verify_bytes(&bytes), Ok(pack.id));
        prop_assert_eq!(read(&bytes), Ok(groups));
    }

    #[test]
    fn what_decodes_as_a_directory_is_its_encoding(
        (class, size, groups) in packs(),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = build(class, size, &groups).0.directory.encode();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(directory) = Directory::decode(&bytes, class, size) {
            prop_assert_eq!(directory.encode(), bytes);
        }
    }
}

fn small() -> (FinishedPack, Vec<u8>) {
    let chunk = |bytes: &[u8]| (BlobKind::Chunk, None, bytes.to_vec());
    let groups = [vec![chunk(b"one"), chunk(b"two")], vec![chunk(&[5; 900])]];
    build(Class::Data, FrameSize::SMALLEST, &groups)
}

#[test]
fn damage_anywhere_in_a_pack_is_noticed_without_any_key() {
    let (pack, bytes) = small();
    refuses_damage(&bytes, |bytes| verify_bytes(bytes) == Ok(pack.id));
    // A shard's checksum says which shard.
    let layout = &pack.layout;
    let groups = (layout.header_bytes()..layout.middle_offset()).step_by(512);
    let rest = (layout.parity_offset()..bytes.len() - layout.tail_bytes()).step_by(512);
    for (index, at) in groups.chain(rest).enumerate() {
        let mut damaged = bytes.clone();
        damaged[at + 511] ^= 1;
        assert_eq!(verify_bytes(&damaged), Err(PackError::Shard(index)));
    }
}

#[test]
fn damage_is_noticed_by_those_who_read() {
    let (pack, bytes) = small();
    let end = &pack_end(&bytes, pack.layout.footer().end_bytes)[..];
    let checksums = pack.layout.directory_frames_bytes()
        ..pack.layout.directory_frames_bytes() + pack.layout.checksums_bytes();
    for damaged in truncations(end) {
        assert!(open_end(&keys(), &mut damaged.clone()).is_err());
    }
    for (bit, damaged) in flips(end).enumerate() {
        // Checksums are for those without keys: who decrypts has the tags.
        if !checksums.contains(&(bit / 8)) {
            assert!(open_end(&keys(), &mut damaged.clone()).is_err(), "bit {bit}");
        }
    }
    let frames = pack.layout.header_bytes()..pack.layout.middle_offset();
    for (bit, damaged) in flips(&bytes[frames.clone()]).enumerate() {
        let bytes = [&bytes[..frames.start], &damaged, &bytes[frames.end..]].concat();
        assert_eq!(read(&bytes), Err(PackError::Key(KeyError::Forged)), "bit {bit}");
    }
}

/// Footers are outside the id, so each field must follow from the header.
#[test]
fn footers_that_lie_with_a_good_checksum_are_refused() {
    let (pack, bytes) = small();
    let footer = pack.layout.footer();
    let lies = [
        PackFooter { pack_bytes: footer.pack_bytes + 1, ..footer },
        PackFooter { header_bytes: footer.header_bytes - 1, ..footer },
        PackFooter { header_bytes: footer.header_bytes + 512, ..footer },
        PackFooter { end_bytes: footer.end_bytes - 1, ..footer },
        PackFooter { end_bytes: footer.end_bytes + 512, ..footer },
        PackFooter { end_bytes: 0, ..footer },
    ];
    for lie in lies {
        let bytes = [&bytes[..bytes.len() - FOOTER_BYTES], &lie.encode()].concat();
        assert!(verify_bytes(&bytes).is_err(), "{lie:?}");
        assert!(open_end(&keys(), &mut pack_end(&bytes, footer.end_bytes)).is_err(), "{lie:?}");
        assert!(open_end(&keys(), &mut pack_end(&bytes, lie.end_bytes)).is_err(), "{lie:?}");
    }
}

fn pack_end(bytes: &[u8], end_bytes: u32) -> Vec<u8> {
    bytes[bytes.len() - end_bytes as usize..].to_vec()
}

#[test]
fn headers_that_lie_with_a_good_checksum_are_refused() {
    let (pack, _) = small();
    let header = &pack.layout;
    let huge = [
        PackHeader { group_frames: u32::MAX, ..header.clone() },
        PackHeader { directory_bytes: u32::MAX, ..header.clone() },
        PackHeader {
            parity: ParityLayout { data_shards: 1, parity_shards: 254 },
            group_frames: 1 << 17,
            ..header.clone()
        },
        PackHeader {
            parity: ParityLayout { data_shards: 128, parity_shards: 128 },
            ..header.clone()
        },
        PackHeader { parity: ParityLayout { data_shards: 0, parity_shards: 1 }, ..header.clone() },
        PackHeader { parity: ParityLayout { data_shards: 1, parity_shards: 0 }, ..header.clone() },
    ];
    for lie in huge {
        assert!(PackHeader::decode(&lie.encode()).is_err(), "{lie:?}");
    }
    // Lies that parse are refused by the seals, which cover class, session, frame size.
    let lies = [
        PackHeader { class: Class::Meta, ..header.clone() },
        PackHeader { session: crate::samples::OTHER_SESSION, ..header.clone() },
        PackHeader { commitment: [0; 32], ..header.clone() },
        PackHeader { directory_salt: GroupSalt([0; 16]), ..header.clone() },
        PackHeader { directory_bytes: header.directory_bytes - 1, ..header.clone() },
        PackHeader { group_frames: header.group_frames - 1, ..header.clone() },
        PackHeader { wrapped: Vec::new(), ..header.clone() },
    ];
    let (_, bytes) = small();
    let directory = &bytes[header.directory_offset()..][..header.directory_frames_bytes()];
    for lie in lies {
        let checksums = vec![0; lie.checksums_bytes()];
        let footer = lie.footer().encode();
        let mut end = [directory, &checksums, &lie.encode(), &footer].concat();
        let error = open_end(&keys(), &mut end).unwrap_err();
        assert!(
            matches!(error, PackError::Key(_) | PackError::Directory(_)),
            "{lie:?} is refused for another reason: {error}"
        );
    }
}

#[test]
fn packs_of_others_and_of_later_versions_are_refused() {
    let (pack, mut bytes) = small();
    let mut end = pack_end(&bytes, pack.layout.footer().end_bytes);
    assert_eq!(open_end(&other_keys(), &mut end).unwrap_err(), PackError::Foreign);
    bytes[6] = 2;
    let too_new = DecodeError::TooNew { what: "pack", version: 2, known: 1 };
    assert_eq!(PackHeader::decode(&bytes), Err(too_new.clone()));
    assert_eq!(verify_bytes(&bytes), Err(PackError::Header(too_new)));
}

#[test]
fn a_directory_that_does_not_add_up_is_refused() {
    let (pack, _) = small();
    let decode = |directory: &Directory| {
        Directory::decode(&directory.encode(), Class::Data, FrameSize::SMALLEST)
    };
    assert!(decode(&pack.directory).is_ok());
    let mut wrong = pack.directory.clone();
    wrong.groups[0].raw_bytes += 1;
    assert!(decode(&wrong).is_err());
    let mut wrong = pack.directory.clone();
    wrong.blobs[0].bytes += 1;
    assert!(decode(&wrong).is_err());
    let mut wrong = pack.directory.clone();
    wrong.blobs[0].kind = BlobKind::Tree;
    assert!(decode(&wrong).is_err(), "a blob of another class is accepted");
}

#[test]
fn packs_with_more_blobs_than_any_reader_takes_are_never_made() {
    let secret = secret(Class::Data);
    let blob = PackedBlob { id: BlobId::new([0; 32]), kind: BlobKind::Chunk, base: None, bytes: 0 };
    let blobs = vec![blob; PACK_BLOBS_MAX / 2 + 1];
    let group = GroupPayload {
        payload: &[],
        raw_bytes: 0,
        compression: Compression::Stored,
        level: 1,
        blobs: &blobs,
    };
    let overfull = |join: bool| {
        let mut pack = PackBuilder::new(&secret, FrameSize::SMALLEST, used_memory());
        pack.add_group(&secret, &group, 0, &RANDOM);
        let mut other = PackBuilder::new(&secret, FrameSize::SMALLEST, used_memory());
        let second = if join { &mut other } else { &mut pack };
        second.add_group(&secret, &group, 1, &RANDOM);
        if join {
            pack.append(&other);
        }
    };
    for join in [false, true] {
        assert!(std::panic::catch_unwind(|| overfull(join)).is_err(), "join: {join}");
    }
}

#[test]
fn parity_that_was_summed_up_while_a_pack_filled_is_its_parity() {
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let groups: Vec<Vec<Blob>> = (0..12)
        .map(|_| {
            let mut bytes = vec![0; 30_000];
            noise.fill(&mut bytes);
            vec![(BlobKind::Chunk, None, bytes)]
        })
        .collect();
    let (size, share) = (FrameSize::SMALLEST, ParityShare::default());
    let counts = [200_000, 330_000, 360_000, 390_000, 3_000_000].map(|expected| {
        let secret = secret(Class::Data);
        let builder = PackBuilder::new(&secret, size, used_memory());
        let builder = builder.expecting(expected, share, used_memory());
        let builder = fill(builder, Class::Data, &groups);
        let pack = builder.finish(share, &secret, 20, &RANDOM);
        let bytes = pack.bytes.to_vec();
        assert_eq!(verify_bytes(&bytes), Ok(pack.id), "{expected} bytes were expected");
        assert!(read(&bytes).as_ref() == Ok(&groups));
        let mut damaged = bytes.clone();
        damaged[100_000..130_000].fill(0);
        assert!(mend(&damaged, pack.id).is_ok_and(|mended| mended.bytes == bytes));
        pack.layout.stripes().count
    });
    // What was expected, where that was not far from what came; else what the share says.
    assert_eq!(counts, [12, 11, 11, 12, 12], "stripes");
}
