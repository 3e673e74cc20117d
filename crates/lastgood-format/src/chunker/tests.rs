use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const VECTORS: &str = include_str!("../../../../docs/format/vectors/chunker.txt");

#[test]
fn vectors_hold_on_every_path() {
    let mut key = CutKey::new([0; 32]);
    let mut counts = HashMap::new();
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        *counts.entry(fields[0]).or_insert(0) += 1;
        match fields[..] {
            ["key", hex] => key = CutKey::new(unhex(hex).try_into().unwrap()),
            ["round-keys", k0, k1, k2] => {
                let keys: Vec<u8> = [k0, k1, k2].into_iter().flat_map(unhex).collect();
                assert_eq!(RoundKeys::derive(&key).0.as_flattened(), keys);
            }
            ["value", window, value] => {
                let window = unhex(window).try_into().unwrap();
                let value = u32::from_str_radix(value, 16).unwrap();
                assert_eq!(portable::value(&RoundKeys::derive(&key), &window), value, "{line}");
            }
            ["cuts", algorithm, length, kind, argument, size, ":", ref cuts @ ..] => {
                let params = params(algorithm, length.parse().unwrap());
                let data = generate(kind, argument.parse().unwrap(), size.parse().unwrap());
                let cuts: Vec<usize> = cuts.iter().map(|cut| cut.parse().unwrap()).collect();
                check(params, &key, &data, Some(&cuts), line);
            }
            _ => panic!("line {line:?} of the vectors is not understood"),
        }
    }
    assert!(counts["key"] >= 3 && counts["value"] >= 9 && counts["cuts"] >= 50, "{counts:?}");
}

#[test]
fn params_have_one_stored_form() {
    for params in [
        ChunkerParams::MinAes { target: 4 << 10 },
        ChunkerParams::MinAes { target: 65 << 10 },
        ChunkerParams::MinAes { target: 4 << 20 },
        ChunkerParams::Fixed { block: 4 << 10 },
    ] {
        assert_eq!(ChunkerParams::from_bytes(params.to_bytes()), Ok(params));
    }
    assert_eq!(ChunkerParams::MinAes { target: 65_536 }.to_bytes(), [1, 0, 0, 1, 0]);
    assert_eq!(ChunkerParams::Fixed { block: 4096 }.to_bytes(), [2, 0, 16, 0, 0]);
}

#[test]
fn params_outside_the_format_are_refused() {
    for length in [0, 1, 4095, 4097, 5000, (4 << 20) + 1, (4 << 20) + 1024, u32::MAX] {
        let [a, b, c, d] = length.to_le_bytes();
        for algorithm in [ALGORITHM_MIN_AES, ALGORITHM_FIXED] {
            assert!(ChunkerParams::from_bytes([algorithm, a, b, c, d]).is_err(), "{length}");
        }
    }
    for algorithm in [0, 3, 255] {
        assert!(ChunkerParams::from_bytes([algorithm, 0, 0, 1, 0]).is_err(), "{algorithm}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let key = CutKey::new([0xab; 32]);
    let chunker = Chunker::new(ChunkerParams::MinAes { target: 4096 }, &key);
    for shown in [format!("{key:?}"), format!("{chunker:?}")] {
        assert!(!shown.contains("171") && !shown.contains("ab,"), "{shown}");
    }
}

#[test]
fn more_is_asked_for_until_the_longest_chunk_is_there() {
    let chunker = Chunker::new(ChunkerParams::MinAes { target: 4096 }, &CutKey::new([1; 32]));
    let data = generate("splitmix", 1, 20_000);
    assert_eq!(chunker.cut(&[], false), None);
    assert_eq!(chunker.cut(&[], true), None);
    assert_eq!(chunker.cut(&data[..6143], false), None);
    assert_eq!(chunker.cut(&data[..6143], true), Some(6143));
    let cut = chunker.cut(&data[..6144], false);
    assert!(cut.is_some());
    assert_eq!(cut, chunker.cut(&data[..6144], true));
    assert_eq!(cut, chunker.cut(&data, false));
}

#[test]
fn lengths_around_every_boundary() {
    let random = generate("splitmix", 5, 40_000);
    let zeros = vec![0; 40_000];
    for target in [4096, 5120] {
        let params = ChunkerParams::MinAes { target };
        let edges = [0, 16, 256, params.min_bytes(), target as usize, params.max_bytes()];
        let edges = edges
            .iter()
            .chain(&[0, 0, 0])
            .flat_map(|&edge| [edge, edge + params.max_bytes(), edge + 2 * params.max_bytes()]);
        for length in edges.flat_map(|edge| edge.saturating_sub(2)..edge + 3) {
            for data in [&random, &zeros] {
                check(params, &CutKey::new([9; 32]), &data[..length], None, "edge");
            }
        }
    }
}

/// The lowest value is planted at each place of a block, and twice, to see that the first counts.
#[test]
fn the_first_of_equal_minima_is_taken_wherever_it_lies() {
    let params = ChunkerParams::MinAes { target: 4096 };
    let key = CutKey::new([3; 32]);
    let keys = RoundKeys::derive(&key);
    let random = generate("splitmix", 11, 6144);
    // A window lower than all of `random`, found among other random windows.
    let low = generate("splitmix", 12, 1 << 18);
    let low = low
        .windows(16)
        .min_by_key(|&window| portable::value(&keys, window.try_into().unwrap()))
        .unwrap();
    for place in (2048..=6144).filter(|p| p % 512 < 20 || p % 512 > 492 || p % 37 == 0) {
        let mut data = random.clone();
        data[place - 16..place].copy_from_slice(low);
        data[6144 - 16..].copy_from_slice(low);
        for (path, chunker) in Chunker::on_every_path(params, &key) {
            let cut = chunker.cut(&data, false);
            // Near the end the two plants overlap and only the later is whole.
            let expected = if place > 6144 - 16 { 6144 } else { place };
            assert_eq!(cut, Some(expected), "{path} at {place}");
        }
    }
}

#[test]
fn an_insertion_moves_no_distant_cut() {
    let params = ChunkerParams::MinAes { target: 4096 };
    let chunker = Chunker::new(params, &CutKey::new([4; 32]));
    let before = generate("splitmix", 21, 1 << 20);
    let mut after = before.clone();
    after.splice(300_000..300_000, *b"inserted");
    let ends = |data: &[u8], from_end: usize| -> Vec<usize> {
        let mut at = 0;
        cut_all(&chunker, data)
            .iter()
            .map(|cut| {
                at += cut;
                from_end - at
            })
            .collect()
    };
    let (old, new) = (ends(&before, before.len()), ends(&after, after.len()));
    let same = new.iter().filter(|end| old.contains(end)).count();
    assert!(same + 90 > old.len(), "{same} of {} cuts are the same", old.len());
    assert!(new.iter().rev().zip(old.iter().rev()).take(100).all(|(a, b)| a == b));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_path_cuts_as_the_definition_says(
        key: [u8; 32],
        steps in 4_u32..12,
        seed: u64,
        shape in 0..5,
        period in 1_usize..600,
        length in 0_usize..60_000,
    ) {
        let mut data = generate("splitmix", seed, length);
        match shape {
            0 => {}
            1 => data.fill(seed.to_le_bytes()[0]),
            2 => for i in period..length { data[i] = data[i - period] },
            3 => for byte in &mut data { *byte &= 1 },
            _ => for run in data.chunks_mut(period).step_by(2) { run.fill(0) },
        }
        check(ChunkerParams::MinAes { target: steps << 10 }, &CutKey::new(key), &data, None, "");
        check(ChunkerParams::Fixed { block: steps << 10 }, &CutKey::new(key), &data, None, "");
    }
}

/// All paths give the cuts of the definition, at any read size, and they are `expected` if given.
fn check(params: ChunkerParams, key: &CutKey, data: &[u8], expected: Option<&[usize]>, what: &str) {
    let defined = define_cuts(params, key, data);
    if let Some(expected) = expected {
        assert_eq!(defined, expected, "{what}");
    }
    for (path, chunker) in Chunker::on_every_path(params, key) {
        assert_eq!(cut_all(&chunker, data), defined, "{path} {params:?} {what}");
    }
}

/// Reads no more than it must: the longest chunk at a time.
fn cut_all(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let seen = rest.len().min(chunker.max_bytes());
        let cut = chunker.cut(&rest[..seen], seen == rest.len()).unwrap();
        assert!(cut <= chunker.max_bytes());
        cuts.push(cut);
        rest = &rest[cut..];
    }
    cuts
}

/// The chapter's words, position by position.
fn define_cuts(params: ChunkerParams, key: &CutKey, data: &[u8]) -> Vec<usize> {
    let keys = RoundKeys::derive(key);
    let mut cuts = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let cut = match params {
            _ if rest.len() < params.max_bytes() => rest.len(),
            ChunkerParams::Fixed { block } => block as usize,
            ChunkerParams::MinAes { .. } => (params.min_bytes()..=params.max_bytes())
                .min_by_key(|&p| portable::value(&keys, rest[p - 16..p].try_into().unwrap()))
                .unwrap(),
        };
        cuts.push(cut);
        rest = &rest[cut..];
    }
    cuts
}

fn params(algorithm: &str, length: u32) -> ChunkerParams {
    match algorithm {
        "min-aes" => ChunkerParams::MinAes { target: length },
        "fixed" => ChunkerParams::Fixed { block: length },
        _ => panic!("algorithm {algorithm} is not known"),
    }
}

fn generate(kind: &str, argument: u64, length: usize) -> Vec<u8> {
    match kind {
        "zeros" => vec![0; length],
        "repeat" => {
            let period = usize::try_from(argument).unwrap();
            splitmix(argument, period).into_iter().cycle().take(length).collect()
        }
        "text" => splitmix(argument, length).into_iter().map(|byte| 97 + (byte & 1)).collect(),
        "splitmix" => splitmix(argument, length),
        _ => panic!("generator {kind} is not known"),
    }
}

fn splitmix(mut seed: u64, length: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
