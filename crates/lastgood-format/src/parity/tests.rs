use proptest::prelude::*;

use super::*;

/// The field by its logarithms, as a textbook makes it.
fn tables() -> ([u8; 255], [usize; 256]) {
    let (mut powers, mut logarithms) = ([0; 255], [0; 256]);
    let mut element = 1_u16;
    for (exponent, power) in powers.iter_mut().enumerate() {
        *power = element as u8;
        logarithms[usize::from(element)] = exponent;
        element <<= 1;
        if element >= 256 {
            element ^= 0x11d;
        }
    }
    (powers, logarithms)
}

#[test]
fn the_field_is_the_one_of_its_logarithms() {
    let (powers, logarithms) = tables();
    for a in 1..=255_u8 {
        assert_eq!(power(logarithms[usize::from(a)]), a);
        assert_eq!(multiply(a, inverse(a)), 1);
        for b in 1..=255_u8 {
            let sum = logarithms[usize::from(a)] + logarithms[usize::from(b)];
            assert_eq!(multiply(a, b), powers[sum % 255]);
        }
    }
    assert_eq!((multiply(0, 7), multiply(7, 0), power(255)), (0, 0, 1));
}

/// Whether every check of every stripe is zero, by definition.
fn is_consistent(stripes: Stripes, shards: &[Vec<u8>]) -> bool {
    (0..stripes.count).all(|stripe| {
        let places: Vec<&Vec<u8>> = shards.iter().skip(stripe).step_by(stripes.count).collect();
        (0..stripes.parity).all(|check| {
            (0..shards[0].len()).all(|at| {
                let terms = places.iter().enumerate();
                let terms = terms.map(|(place, shard)| multiply(power(place * check), shard[at]));
                terms.fold(0, |sum, term| sum ^ term) == 0
            })
        })
    })
}

fn checks(stripes: Stripes, shards: &[Vec<u8>]) -> bool {
    let mut sums = RunningSums::new(stripes.count, stripes.parity, shards[0].len(), memory());
    shards.iter().for_each(|shard| sums.add(shard));
    sums.is_consistent()
}

/// Parity from running sums, taken of pieces of all lengths.
fn summed(stripes: Stripes, shards: &[Vec<u8>]) -> Vec<u8> {
    let mut sums = RunningSums::new(stripes.count, stripes.parity, shards[0].len(), memory());
    let mut before = &shards[..stripes.first_parity];
    for length in 0.. {
        let (piece, rest) = before.split_at(length.min(before.len()));
        sums.add(&piece.concat());
        before = rest;
        if before.is_empty() {
            break;
        }
    }
    let parity = stripes.first_parity..stripes.parity_shards().end;
    let mut out = vec![0xee; parity.len() * shards[0].len()];
    sums.parity(&shards[parity.end..].concat(), &mut out);
    out
}

/// Memory that holds something else, and is too short for some and longer than others need.
fn memory() -> Box<dyn crate::memory::Memory> {
    Box::new(vec![0xee; 4000])
}

fn mend(stripes: Stripes, shards: &mut [Vec<u8>], is_missing: &[bool]) -> Vec<usize> {
    let mut shards: Vec<&mut [u8]> = shards.iter_mut().map(|shard| &mut shard[..]).collect();
    stripes.mend(&mut shards, is_missing)
}

/// Stripes, and shards with their parity, of bytes that `seed` draws.
fn protected(
    data: usize,
    count: usize,
    parity: usize,
    at: usize,
    length: usize,
    seed: u64,
) -> (Stripes, Vec<Vec<u8>>) {
    let stripes = Stripes { count, parity, first_parity: at };
    let mut bytes = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut shards = vec![vec![0; length]; data + count * parity];
    for shard in &mut shards {
        bytes.fill(shard);
    }
    let mut parts: Vec<&mut [u8]> = shards.iter_mut().map(|shard| &mut shard[..]).collect();
    stripes.protect(&mut parts);
    (stripes, shards)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_is_missing_is_computed_from_the_rest(
        (data, count, parity, at) in (1..40_usize, 1..6_usize, 1..10_usize).prop_flat_map(
            |(data, count, parity)| (Just(data), Just(count), Just(parity), 0..=data)
        ),
        columns in 1..4_usize,
        seed in any::<u64>(),
        share in 0.0..0.6_f64,
    ) {
        let (stripes, shards) = protected(data, count, parity, at, columns * 32, seed);
        prop_assert!(is_consistent(stripes, &shards));
        prop_assert!(checks(stripes, &shards));
        prop_assert_eq!(summed(stripes, &shards), shards[stripes.parity_shards()].concat());
        let mut wrong = shards.clone();
        wrong[seed as usize % shards.len()][7] ^= 1;
        prop_assert!(!checks(stripes, &wrong));
        let lots = blake3::Hasher::new().update(b"lots").update(&seed.to_le_bytes()).finalize_xof();
        let mut lots = lots;
        let is_missing: Vec<bool> = shards
            .iter()
            .map(|_| {
                let mut lot = [0];
                lots.fill(&mut lot);
                f64::from(lot[0]) < share * 256.0
            })
            .collect();
        let mut damaged = shards.clone();
        for (shard, _) in damaged.iter_mut().zip(&is_missing).filter(|(_, is_missing)| **is_missing) {
            shard.fill(0xa5);
        }
        let lost = mend(stripes, &mut damaged, &is_missing);
        for stripe in 0..count {
            let missing: Vec<usize> = (stripe..shards.len())
                .step_by(count)
                .filter(|&shard| is_missing[shard])
                .collect();
            for &shard in &missing {
                prop_assert_eq!(lost.contains(&shard), missing.len() > parity);
            }
        }
        for (index, (mended, shard)) in damaged.iter().zip(&shards).enumerate() {
            if lost.contains(&index) {
                prop_assert!(mended.iter().all(|&byte| byte == 0xa5), "a lost shard was written");
            } else {
                prop_assert_eq!(mended, shard);
            }
        }
    }
}

#[test]
fn a_hole_of_as_many_shards_as_there_is_parity_is_mended_wherever_it_lies() {
    for (data, count, parity, at) in [(7, 3, 2, 4), (128, 2, 2, 120), (30, 1, 9, 30), (5, 5, 3, 0)]
    {
        let (stripes, shards) = protected(data, count, parity, at, 32, 5);
        let hole = count * parity;
        for start in 0..=shards.len() - hole {
            let is_missing: Vec<bool> =
                (0..shards.len()).map(|i| (start..start + hole).contains(&i)).collect();
            let mut damaged = shards.clone();
            damaged[start..start + hole].fill(vec![0; 32]);
            assert_eq!(mend(stripes, &mut damaged, &is_missing), []);
            assert_eq!(damaged, shards, "a hole from shard {start} on");
        }
    }
}

#[test]
fn parity_is_its_share_and_in_short_packs_enough_for_what_a_disk_loses() {
    for share in [ParityShare::default(), ParityShare::new(16, 4).unwrap()] {
        for log2 in 9..=16 {
            for frames in (1..300).chain([1000, 4096, 4097, 30_000]) {
                let size = 1 << log2;
                let parity = share.layout(frames, size).shard_count(frames);
                let hole = |bytes: usize| bytes.div_ceil(size) + 1;
                let share = share.with_parity(frames as u64) as usize - frames;
                assert!(parity >= share.max(hole(4096)), "{frames} frames of {size}");
                assert!(parity >= (frames / 8).min(hole(65536)), "{frames} frames of {size}");
                let most = share.max(frames.div_ceil(8).min(hole(65536))).max(hole(4096));
                // A stripe has a whole number of them.
                let stripes = share.div_ceil(2) + 1;
                assert!(parity <= most + stripes, "{parity} for {frames} frames of {size}");
            }
        }
    }
    assert_eq!(ParityShare::NONE.layout(100, 512), ParityLayout::NONE);
    let nothing = ParityLayout { data_shards: 64, parity_shards: 2 };
    assert_eq!(nothing.stripes(0, 0), Stripes { count: 1, parity: 0, first_parity: 0 });
    assert_eq!(nothing.shard_count(0), 0);
    let impossible = [(0, 1), (4, 5), (128, 128), (1, 0)];
    assert!(impossible.into_iter().all(|(data, parity)| ParityShare::new(data, parity).is_none()));
}

#[test]
fn a_share_is_read_as_it_is_written() {
    assert_eq!("64+2".parse(), Ok(ParityShare::default()));
    assert_eq!("none".parse(), Ok(ParityShare::NONE));
    for wrong in ["", "64", "64+", "+2", "64+0", "0+0", "2+3", "254+2", "64+2+1", "-1+1", "off"] {
        assert!(wrong.parse::<ParityShare>().is_err(), "{wrong}");
    }
}

#[test]
fn the_longest_stripe_is_mended_and_a_longer_one_is_a_bug() {
    let (stripes, shards) = protected(128, 1, 127, 60, 32, 6);
    let is_missing: Vec<bool> = (0..255).map(|i| i % 2 == 1).collect();
    let mut damaged = shards.clone();
    assert_eq!(mend(stripes, &mut damaged, &is_missing), []);
    assert_eq!(damaged, shards);
    assert!(std::panic::catch_unwind(|| protected(129, 1, 127, 60, 32, 6)).is_err());
}

/// A stripe that is read with another geometry than it was written with must not look whole.
#[test]
fn other_stripes_than_those_written_mend_to_other_bytes() {
    let (stripes, shards) = protected(40, 4, 2, 36, 32, 7);
    for wrong in
        [Stripes { count: 2, parity: 4, ..stripes }, Stripes { count: 8, parity: 1, ..stripes }]
    {
        assert!(!is_consistent(wrong, &shards));
        assert!(!checks(wrong, &shards));
        let is_missing: Vec<bool> = (0..shards.len()).map(|i| i == 3 || i == 5).collect();
        let mut damaged = shards.clone();
        mend(wrong, &mut damaged, &is_missing);
        assert!(damaged != shards);
    }
}
