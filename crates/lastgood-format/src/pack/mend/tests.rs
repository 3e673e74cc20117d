use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::group::FrameSize;
use crate::pack::tests::{build_with, packs};
use crate::pack::{FinishedPack, verify_bytes};
use crate::parity::ParityShare;

/// A pack of 24 frames and more, of 512 bytes each, with parity of `share`.
fn pack(share: ParityShare) -> (FinishedPack, Vec<u8>) {
    let chunk = |byte: u8, length| (crate::pack::BlobKind::Chunk, None, noise(byte, length));
    let groups = [vec![chunk(1, 9000)], vec![chunk(2, 300), chunk(3, 2000)]];
    build_with(share, crate::key::Class::Data, FrameSize::SMALLEST, &groups)
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Asserts that `damaged` is mended to `bytes`.
fn mends(damaged: &[u8], pack: &FinishedPack, bytes: &[u8], what: &dyn std::fmt::Debug) {
    match mend(damaged, pack.id) {
        Ok(mended) => assert!(mended.bytes == bytes, "{what:?} is mended to other bytes"),
        Err(error) => panic!("{what:?} is not mended: {error}"),
    }
}

#[test]
fn every_flipped_bit_is_mended() {
    let (pack, bytes) = pack(ParityShare::default());
    for (bit, damaged) in crate::samples::flips(&bytes).enumerate() {
        mends(&damaged, &pack, &bytes, &bit);
    }
}

/// The layout promises this for any one hole, whatever parts of the pack it hits.
#[test]
fn every_hole_that_is_shorter_than_parity_is_mended() {
    for share in [ParityShare::default(), ParityShare::new(8, 3).unwrap()] {
        let (pack, bytes) = pack(share);
        let longest = (pack.layout.parity_count() - 1) * 512;
        for length in [1, 511, 512, longest / 2, longest] {
            for start in (0..bytes.len()).step_by(37).chain([bytes.len() - length]) {
                let hole = start..(start + length).min(bytes.len());
                let mut damaged = bytes.clone();
                damaged[hole.clone()].fill(0);
                mends(&damaged, &pack, &bytes, &hole);
                damaged[hole.clone()].copy_from_slice(&noise(9, hole.len()));
                mends(&damaged, &pack, &bytes, &hole);
            }
        }
        for cut in (bytes.len() - longest..bytes.len()).step_by(7) {
            mends(&bytes[..cut], &pack, &bytes, &cut);
        }
        mends(&[&bytes[..], b"what was not there"].concat(), &pack, &bytes, &"a longer pack");
    }
}

/// However short the pack is, and wherever the sector lies.
#[test]
fn no_pack_is_lost_with_one_sector() {
    for (length, log2) in [(1, 9), (700, 9), (20_000, 10), (20_000, 12), (300_000, 12)] {
        let size = FrameSize::from_log2(log2).unwrap();
        let groups = [vec![(crate::pack::BlobKind::Chunk, None, noise(4, length))]];
        let share = ParityShare::new(128, 1).unwrap();
        let (pack, bytes) = build_with(share, crate::key::Class::Data, size, &groups);
        for start in (0..bytes.len()).step_by(251) {
            let mut damaged = bytes.clone();
            let sector = start..(start + 4096).min(bytes.len());
            damaged[sector.clone()].fill(0);
            mends(&damaged, &pack, &bytes, &(length, sector));
        }
    }
}

/// Where headers and checksums lie: front, middle, end.
fn tables(pack: &FinishedPack, bytes: &[u8]) -> [Range<usize>; 3] {
    let header = &pack.layout;
    let end = bytes.len() - header.tail_bytes();
    [0..header.header_bytes(), header.middle_offset()..header.parity_offset(), end..bytes.len()]
}

#[test]
fn two_headers_or_one_table_of_checksums_may_be_lost_beside_shards() {
    let (pack, bytes) = pack(ParityShare::default());
    let [front, middle, end] = tables(&pack, &bytes);
    let checksums = pack.layout.checksums_bytes();
    let header_of = |table: &Range<usize>| table.start + checksums..table.end;
    let shard = pack.layout.header_bytes()..pack.layout.header_bytes() + 1024;
    for lost in [
        vec![front.clone(), middle.clone()],
        vec![front.clone(), end.clone()],
        vec![header_of(&middle), header_of(&end), middle.clone()],
    ] {
        for lost in [lost.clone(), [lost, vec![shard.clone()]].concat()] {
            let mut damaged = bytes.clone();
            lost.iter().for_each(|range| damaged[range.clone()].fill(0xee));
            mends(&damaged, &pack, &bytes, &lost);
        }
    }
    // Halves of both tables of checksums: what is whole in one is enough.
    let mut damaged = bytes.clone();
    damaged[middle.start..middle.start + checksums / 2].fill(0);
    damaged[end.start + checksums / 2..end.start + checksums].fill(0);
    damaged[shard].fill(0);
    mends(&damaged, &pack, &bytes, &"halves of both tables");
}

#[test]
fn what_cannot_be_mended_is_refused_and_the_rest_is_kept() {
    let (pack, bytes) = pack(ParityShare::default());
    let frames = pack.layout.parity_count() + 1;
    let hole = pack.layout.header_bytes()..pack.layout.header_bytes() + frames * 512;
    let mut damaged = bytes.clone();
    damaged[hole.clone()].fill(0);
    let last = bytes.len() - 1;
    damaged[last] ^= 1;
    let error = mend(&damaged, pack.id).unwrap_err();
    assert_eq!(error.lost, frames);
    let shards = hole.end..pack.layout.middle_offset();
    assert!(error.bytes[shards.clone()] == bytes[shards], "good shards are lost");
    assert_eq!(error.bytes.last_chunk::<32>(), bytes.last_chunk(), "the footer is not made anew");
    let [front, middle, end] = tables(&pack, &bytes);
    for range in [front, middle, end] {
        damaged[range].fill(0);
    }
    assert_eq!(mend(&damaged, pack.id).unwrap_err().bytes, []);
    assert!(mend(&[], pack.id).is_err());
}

#[test]
fn another_pack_is_never_returned() {
    let (pack, bytes) = pack(ParityShare::default());
    let (other, _) = build_with(
        ParityShare::default(),
        crate::key::Class::Data,
        FrameSize::SMALLEST,
        &[vec![(crate::pack::BlobKind::Chunk, None, noise(7, 100))]],
    );
    assert!(mend(&bytes, other.id).is_err());
    // A header that somebody made up does not keep the true one from being found.
    let lie = PackHeader { group_frames: 1, ..pack.layout.clone() };
    let mut damaged = bytes.clone();
    damaged[..lie.header_bytes()].copy_from_slice(&lie.encode());
    mends(&damaged, &pack, &bytes, &"a made up header");
}

/// A header may claim anything.
#[test]
fn headers_of_nothing_and_of_too_much_mend_to_nothing() {
    let (pack, _) = pack(ParityShare::default());
    for (group_frames, directory_bytes) in [(0, 0), (0, 1), (1, 0), (1 << 17, 1 << 20)] {
        let header = PackHeader { group_frames, directory_bytes, ..pack.layout.clone() };
        for length in [0, 1000, 100_000] {
            let bytes = [header.encode(), vec![0; length]].concat();
            assert!(mend(&bytes, pack.id).is_err());
        }
    }
}

/// A writer that divides shards into other stripes than it says makes parity that is worth nothing.
/// Nothing is mended wrongly by it, and it is found before it is needed.
#[test]
fn stripes_of_another_size_than_the_header_says_are_found() {
    let (pack, mut bytes) = pack(ParityShare::new(8, 3).unwrap());
    let stripes = pack.layout.stripes();
    assert!(stripes.count >= 3, "{stripes:?}");
    let wrong =
        crate::parity::Stripes { count: stripes.count - 1, parity: stripes.parity, ..stripes };
    let mut parts = Parts::of(&pack.layout, &mut bytes);
    wrong.protect(&mut parts.shards);
    let id = parts.make_anew(&pack.layout);
    assert_eq!(verify_bytes(&bytes), Err(crate::pack::PackError::Parity));
    let mut refused = 0;
    for at in (pack.layout.header_bytes()..pack.layout.middle_offset()).step_by(512) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        match mend(&damaged, id) {
            Ok(mended) => assert!(mended.bytes == bytes, "mended wrongly"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "the mistake does no harm");
}

#[test]
fn without_parity_all_but_the_shards_is_mended() {
    let (pack, bytes) = pack(ParityShare::NONE);
    let shards = pack.layout.header_bytes()..pack.layout.middle_offset();
    let directory = pack.layout.directory_offset()..bytes.len() - pack.layout.tail_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        if shards.contains(&at) || directory.contains(&at) {
            assert!(mend(&damaged, pack.id).is_err(), "byte {at}");
        } else {
            mends(&damaged, &pack, &bytes, &at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_damage_within_parity_is_mended(
        (class, size, groups) in packs(),
        share in (1..20_u8, 1..9_u8).prop_filter_map("", |(d, p)| ParityShare::new(d, p)),
        seed in any::<u8>(),
    ) {
        let (pack, bytes) = build_with(share, class, size, &groups);
        prop_assert_eq!(verify_bytes(&bytes), Ok(pack.id));
        let stripes = pack.layout.stripes();
        let mut damaged = bytes.clone();
        let parts = Parts::of(&pack.layout, &mut damaged);
        let lots = noise(seed, parts.shards.len());
        let mut left = vec![stripes.parity; stripes.count];
        let mut hit = 0;
        for (number, shard) in parts.shards.into_iter().enumerate() {
            if lots[number] < 100 && left[number % stripes.count] > 0 {
                left[number % stripes.count] -= 1;
                hit += 1;
                let at = usize::from(lots[number]) * 37 % shard.len();
                shard[at] ^= 1 << (number % 8);
            }
        }
        prop_assert_eq!(mend(&damaged, pack.id), Ok(Mended { bytes, shards: hit }));
    }
}
