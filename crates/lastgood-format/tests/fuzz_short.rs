//! A short fuzz run of every decoder, seeded and without a nightly compiler: starts from the test
//! vectors, damages them at random, and asserts that nothing panics, that whatever is accepted has
//! no second form, and that memory stays bounded.
//!
//! `LASTGOOD_FUZZ_ROUNDS=1000000` runs longer, `LASTGOOD_FUZZ_SEED=7` elsewhere. `LASTGOOD_BLESS=1`
//! writes the vectors to `fuzz/corpus`, for cargo-fuzz to start from.

#![expect(unsafe_code, reason = "counting what is allocated takes an allocator")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test from end to end")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use decoders::{DECODERS, World};

#[allow(missing_docs, unreachable_pub, reason = "shared with the fuzz targets")]
mod decoders;

/// Counts bytes in use, and the most that ever were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; counting has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most that decoding may allocate beyond four times its input.
const ALLOCATED_BYTES_MAX: usize = 64 << 20;

/// Decoders that take nothing but what was sealed or signed as a whole.
const SEALED: [&str; 2] = ["signed_object", "sealed_object"];

#[test]
fn no_damage_makes_a_decoder_panic_or_allocate_without_bound() {
    let rounds = number("LASTGOOD_FUZZ_ROUNDS").unwrap_or(20_000);
    let mut random = Random(number("LASTGOOD_FUZZ_SEED").unwrap_or(1));
    let (world, seeds) = (World::new(), seeds());
    for &(name, check) in DECODERS {
        let seeds = seeds.get(name).unwrap_or_else(|| panic!("there is no vector for {name}"));
        assert!(seeds.iter().any(|seed| check(&world, seed)), "no vector of {name} is accepted");
        let mut accepted = 0;
        for round in 0..rounds_of(name, rounds) {
            let bytes = random.damage(seeds);
            let before = IN_USE.load(Ordering::Relaxed);
            PEAK.store(before, Ordering::Relaxed);
            let outcome = std::panic::catch_unwind(|| check(&world, &bytes));
            let allocated = PEAK.load(Ordering::Relaxed).saturating_sub(before);
            match outcome {
                Ok(taken) => {
                    accepted += u64::from(taken);
                    assert!(
                        !taken || !SEALED.contains(&name) || seeds.contains(&bytes),
                        "{name} accepts what nobody sealed: {}",
                        hex(&bytes)
                    );
                }
                Err(_) => panic!("{name} panics in round {round} on {}", hex(&bytes)),
            }
            assert!(
                allocated <= ALLOCATED_BYTES_MAX + 4 * bytes.len(),
                "{name} allocates {allocated} bytes in round {round} for {}",
                hex(&bytes)
            );
        }
        println!("{name}: {accepted} damaged inputs accepted");
    }
}

/// What costs signatures or compression is run less often.
fn rounds_of(name: &str, rounds: u64) -> u64 {
    match name {
        "config" | "session" | "outcome" | "retired" | "condemn" | "verdict" | "relocation"
        | "read_session" | "slot" | "signed_object" | "index_body" | "snapshot" | "index"
        | "lost" | "log" => rounds / 10,
        _ => rounds,
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A seed with a few changes.
    fn damage(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, seeds);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        match self.below(8) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            2 => {
                let lies = [0, 1, 0x7f, 0x80, 0xff, self.next() as u8];
                let lie = lies[self.below(lies.len())];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = lie;
                }
            }
            3 => bytes.truncate(at),
            // A length or count that lies: the longest integers there are.
            4 => {
                let huge: &[u8] = match self.below(3) {
                    0 => &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                    1 => &[0xff, 0xff, 0xff, 0x7f],
                    _ => &[0x80, 0x80, 4],
                };
                let end = (at + self.below(3)).min(bytes.len());
                bytes.splice(at..end, huge.iter().copied());
            }
            5 => {
                bytes.remove_range(at, self.below(40));
            }
            // A piece of it again, or of another.
            6 => {
                let from = &seeds[self.below(seeds.len())];
                let start = self.below(from.len());
                let end = (start + self.below(80)).min(from.len());
                bytes.splice(at..at, from[start..end].iter().copied());
            }
            _ => {
                let noise: Vec<u8> = (0..self.below(16)).map(|_| self.next() as u8).collect();
                bytes.splice(at..at, noise);
            }
        }
    }
}

trait RemoveRange {
    fn remove_range(&mut self, at: usize, count: usize);
}

impl RemoveRange for Vec<u8> {
    fn remove_range(&mut self, at: usize, count: usize) {
        let end = at.saturating_add(count).min(self.len());
        self.drain(at..end);
    }
}

/// The bytes of all vectors by decoder; refused ones too, which are nearly good.
fn seeds() -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut seeds: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("docs/format/vectors"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut decoder = String::new();
        for line in text.lines() {
            match line.split_once(" = ") {
                Some(("decoder", name)) => decoder = name.trim_matches('"').to_owned(),
                Some(("bytes", bytes)) if !decoder.is_empty() => {
                    seeds.entry(decoder.clone()).or_default().push(unhex(bytes));
                }
                Some(("code", code)) => {
                    let code = code.trim_matches('"').as_bytes().to_vec();
                    seeds.entry("recovery_code".into()).or_default().push(code);
                }
                None => decoder.clear(),
                _ => {}
            }
        }
    }
    // Bodies that sealed vectors hide are known in plain.
    let bodies = seeds["index_body"].clone();
    seeds.entry("index".into()).or_default().extend(bodies);
    if std::env::var_os("LASTGOOD_BLESS").is_some() {
        write_corpus(&root.join("fuzz/corpus"), &seeds);
    }
    seeds
}

fn write_corpus(folder: &Path, seeds: &BTreeMap<String, Vec<Vec<u8>>>) {
    for (decoder, seeds) in seeds {
        let folder = folder.join(decoder);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("vector-{number:02}")), seed).unwrap();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
