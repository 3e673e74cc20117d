use proptest::prelude::*;

use super::*;
use crate::samples::flips;

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn read(bytes: &[u8]) -> Result<Guarded, DecodeError> {
    content(bytes, 1 << 20, &|_| true)
}

const REDUNDANCIES: [Redundancy; 2] = [Redundancy::Full, Redundancy::Light];

#[test]
fn content_comes_back_and_starts_the_object() {
    for redundancy in REDUNDANCIES {
        for length in [1, 479, 480, 481, 7680, 7681, 30_000, 200_000] {
            let content = noise(length);
            let stored = guard(&content, redundancy);
            assert_eq!(stored[..length.min(480)], content[..length.min(480)]);
            assert!(stored.len() as u64 <= guarded_bytes_max(length as u64), "of {length}");
            assert_eq!(read(&stored), Ok(Guarded { content, damaged: 0 }));
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_mended() {
    let content = noise(700);
    let stored = guard(&content, Redundancy::Full);
    for (bit, damaged) in flips(&stored).enumerate() {
        let guarded = read(&damaged).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        assert_eq!(guarded, Guarded { content: content.clone(), damaged: 1 }, "bit {bit}");
    }
}

/// What a disk loses is a sector; what a store cuts off is an end.
#[test]
fn holes_and_cuts_are_mended_up_to_their_promise() {
    for (redundancy, lengths) in [
        (Redundancy::Full, &[1, 237, 3000, 7681, 20_000][..]),
        (Redundancy::Light, &[100, 3000, 50_000]),
    ] {
        for &length in lengths {
            let content = noise(length);
            let stored = guard(&content, redundancy);
            let half = stored.len() / 2;
            let hole = if redundancy == Redundancy::Full { half.max(4096) } else { 4096 };
            for start in (0..stored.len()).step_by(61) {
                let mut damaged = stored.clone();
                let end = (start + hole.min(4096)).min(stored.len());
                damaged[start..end].fill(0);
                assert_eq!(read(&damaged).map(|guarded| guarded.content), Ok(content.clone()));
            }
            for cut in [4096.min(hole), hole - 600, 1] {
                let cut = &stored[..stored.len().saturating_sub(cut)];
                assert_eq!(read(cut).map(|guarded| guarded.content), Ok(content.clone()));
            }
            // The first half of the blocks is lost.
            if redundancy == Redundancy::Full {
                let mut damaged = stored.clone();
                damaged[..half / 512 * 512].fill(0xff);
                assert_eq!(read(&damaged).map(|guarded| guarded.content), Ok(content.clone()));
            }
        }
    }
}

#[test]
fn what_is_not_enough_is_refused() {
    let content = noise(700);
    let stored = guard(&content, Redundancy::Full);
    let blocks = stored.len() / 512;
    let mut damaged = stored.clone();
    damaged[512..].fill(1);
    assert!(read(&damaged).is_err());
    assert!(read(&stored[..512]).is_err());
    assert!(read(&stored[..1024]).is_ok_and(|guarded| guarded.damaged == blocks - 2));
    assert!(read(&[]).is_err());
    assert!(super::content(&stored, 699, &|_| true).is_err(), "a limit is passed");
    assert!(super::content(&stored, 700, &|_| true).is_ok());
    let longer = [&stored[..], b"more"].concat();
    assert_eq!(read(&longer), Ok(Guarded { content, damaged: 1 }));
}

/// A sector that was written to the wrong object has good checksums.
#[test]
fn blocks_of_other_objects_and_places_count_as_damaged() {
    let (mine, other) = (noise(5000), noise(4999));
    let (stored, foreign) = (guard(&mine, Redundancy::Full), guard(&other, Redundancy::Full));
    let mut mixed = stored.clone();
    mixed[4096..8192].copy_from_slice(&foreign[4096..8192]);
    assert_eq!(read(&mixed), Ok(Guarded { content: mine.clone(), damaged: 8 }));
    // Where both could be it, its name decides.
    let mut mixed = stored.clone();
    let half = stored.len() / 1024 * 512;
    mixed[..half].copy_from_slice(&foreign[..half]);
    assert_eq!(read(&mixed).map(|guarded| guarded.content), Ok(mine.clone()));
    let accepted = |content: &[u8]| content == other;
    assert_eq!(content(&mixed, 1 << 20, &accepted).map(|guarded| guarded.content), Ok(other));
    let mut swapped = stored.clone();
    let (front, back) = swapped.split_at_mut(2048);
    front[..512].swap_with_slice(&mut back[..512]);
    assert_eq!(read(&swapped), Ok(Guarded { content: mine, damaged: 2 }));
}

/// One good block decides how much is allocated.
#[test]
fn blocks_that_claim_too_much_parity_are_no_blocks() {
    let good = MakeUp { content_bytes: 100_000, data: 1, parity: 3, digest: [0; 16] };
    let closed = |make_up: MakeUp| {
        let mut block = [0; 512];
        make_up.close(0, &mut block);
        MakeUp::read(0, &block)
    };
    assert_eq!(closed(MakeUp { parity: 1, ..good }), Some(MakeUp { parity: 1, ..good }));
    for wrong in [
        good,
        MakeUp { content_bytes: 0, ..good },
        MakeUp { data: 0, ..good },
        MakeUp { parity: 0, ..good },
        MakeUp { data: 128, parity: 128, ..good },
    ] {
        assert_eq!(closed(wrong), None, "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_never_changes_content(
        length in 1..20_000_usize,
        is_full in any::<bool>(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
    ) {
        let mine = noise(length);
        let redundancy = if is_full { Redundancy::Full } else { Redundancy::Light };
        let mut stored = guard(&mine, redundancy);
        let mut blocks = std::collections::BTreeSet::new();
        for (at, value) in hits {
            let at = at.index(stored.len());
            if stored[at] != value {
                stored[at] = value;
                blocks.insert(at / 512);
            }
        }
        match read(&stored) {
            Ok(guarded) => {
                prop_assert!(guarded.content == mine);
                prop_assert!(guarded.damaged <= blocks.len());
            }
            Err(_) => {
                let count = length.div_ceil(480);
                let stripes = MakeUp::of(&mine, redundancy).stripes();
                prop_assert!(blocks.len() > stripes.parity, "{count} blocks, {blocks:?}");
            }
        }
    }
}
