//! What a repository costs by chunker and target: the experiment behind ADR 2.
//!
//! `chunk_target [--grown] STATE…` backs up the directories STATE one after the other into a
//! repository of numbers: chunks are deduplicated, new chunks gather in path order in groups of
//! 1 MiB, groups are compressed with zstd 1 or stored. With `--grown` the first state is backed
//! up once more before it, every file cut off after three quarters of its length.
//!
//! One row for each chunker: after the first state, and what all later ones add. Metadata is
//! counted as 64 bytes for each new chunk (pack directory 40, index 24) and 36 for each part of a
//! recipe page that is new, at 1024 parts a page. Trees are the same for every chunker and not
//! counted.
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use aes::hazmat::cipher_round;
use anyhow::{Context, Result, ensure};
use fastcdc::v2020::FastCDC;
use lastgood_format::chunker::{Chunker, ChunkerParams, CutKey};

fn main() -> Result<()> {
    let mut states: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let is_grown = states.first().is_some_and(|first| first.as_os_str() == "--grown");
    if is_grown {
        states.remove(0);
    }
    ensure!(!states.is_empty(), "usage: chunk_target [--grown] STATE...");
    let files: Vec<Vec<PathBuf>> = states.iter().map(|state| list(state)).collect::<Result<_>>()?;

    println!(
        "| chunker | first: chunks | mean KiB | unique MiB | stored MiB | metadata MiB | total MiB \
         | later: chunks | new MiB | stored MiB | metadata MiB | total MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for kib in [16, 32, 64, 128] {
        for cutter in Cutter::all(kib << 10) {
            let mut repository = Repository::default();
            if is_grown {
                repository.back_up(&files[0], &cutter, |length| length - length / 4)?;
            }
            let first_count = usize::from(!is_grown);
            for state in files.iter().take(first_count) {
                repository.back_up(state, &cutter, |length| length)?;
            }
            let first = std::mem::take(&mut repository.cost);
            for state in files.iter().skip(first_count) {
                repository.back_up(state, &cutter, |length| length)?;
            }
            println!(
                "| {} {kib} | {} | {} |",
                cutter.name(),
                first.full(),
                repository.cost.added()
            );
        }
    }
    Ok(())
}

/// The files below `path` in path order.
fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot list {}", path.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(list(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// What decides the length of the next chunk.
enum Cutter {
    /// The chunker of the format.
    Format(Chunker),
    /// min-AES as in the format, but what is left below the longest chunk is cut once more at
    /// its minimum: the tail rule that was rejected.
    CutTail(Chunker, Keys),
    /// FastCDC 2020 with normal chunking, for comparison; a quarter to four times the target.
    Fast(u32),
}

impl Cutter {
    fn all(target: u32) -> [Self; 4] {
        let key = [42; 32];
        let new = |params| Chunker::new(params, &CutKey::new(key));
        [
            Self::Format(new(ChunkerParams::MinAes { target })),
            Self::CutTail(new(ChunkerParams::MinAes { target }), Keys::derive(key)),
            Self::Fast(target),
            Self::Format(new(ChunkerParams::Fixed { block: target })),
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Format(chunker) => match chunker.params() {
                ChunkerParams::MinAes { .. } => "min-AES",
                ChunkerParams::Fixed { .. } => "fixed",
            },
            Self::CutTail(..) => "min-AES, tail cut",
            Self::Fast(_) => "FastCDC",
        }
    }

    /// Length of the first chunk of `data`, the rest of a file that is not used up.
    fn cut(&self, data: &[u8]) -> usize {
        match self {
            Self::Format(chunker) => chunker.cut(data, true).unwrap_or(data.len()),
            Self::CutTail(chunker, _) if data.len() >= chunker.max_bytes() => {
                chunker.cut(data, true).unwrap_or(data.len())
            }
            Self::CutTail(chunker, keys) => (chunker.params().min_bytes()..=data.len())
                .min_by_key(|&position| keys.value(&data[position - 16..position]))
                .unwrap_or(data.len()),
            Self::Fast(target) => {
                let target = *target as usize;
                FastCDC::new(data, target / 4, target, target * 4)
                    .next()
                    .map_or(data.len(), |chunk| chunk.length)
            }
        }
    }
}

/// Round keys of min-AES, written once more from `docs/format/chunker.md`.
struct Keys([aes::Block; 3]);

impl Keys {
    fn derive(key: [u8; 32]) -> Self {
        let mut keys = [[0; 16]; 3];
        blake3::Hasher::new_derive_key("lastgood 2026-11 v1 min-aes round keys")
            .update(&key)
            .finalize_xof()
            .fill(keys.as_flattened_mut());
        Self(keys.map(Into::into))
    }

    fn value(&self, window: &[u8]) -> u32 {
        let [k0, k1, k2] = &self.0;
        let mut state = *k0;
        state.iter_mut().zip(window).for_each(|(state, byte)| *state ^= byte);
        cipher_round(&mut state, k1);
        cipher_round(&mut state, k2);
        u32::from_le_bytes([state[0], state[1], state[2], state[3]])
    }
}

/// What is stored so far, by hash only.
#[derive(Default)]
struct Repository {
    known: HashSet<blake3::Hash>,
    group: Vec<u8>,
    cost: Cost,
}

/// What one or more states took.
#[derive(Default)]
struct Cost {
    chunk_count: u64,
    logical_bytes: u64,
    new_chunk_count: u64,
    new_bytes: u64,
    stored_bytes: u64,
    recipe_bytes: u64,
}

impl Repository {
    fn back_up(
        &mut self,
        files: &[PathBuf],
        cutter: &Cutter,
        visible: impl Fn(usize) -> usize,
    ) -> Result<()> {
        for path in files {
            let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.file(&data[..visible(data.len())], cutter)?;
        }
        self.seal()
    }

    fn file(&mut self, data: &[u8], cutter: &Cutter) -> Result<()> {
        let mut rest = data;
        let mut parts: Vec<blake3::Hash> = Vec::new();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cutter.cut(rest));
            rest = after;
            let id = blake3::hash(chunk);
            if parts.last() != Some(&id) {
                parts.push(id); // neighbours that are equal are one repeat
            }
            self.cost.chunk_count += 1;
            self.cost.logical_bytes += chunk.len() as u64;
            if self.known.insert(id) {
                self.chunk(chunk)?;
            }
        }
        if parts.len() > 1 {
            self.recipe(&parts);
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.cost.new_chunk_count += 1;
        self.cost.new_bytes += chunk.len() as u64;
        if self.group.len() + chunk.len() > GROUP_BYTES {
            self.seal()?;
        }
        self.group.extend_from_slice(chunk);
        Ok(())
    }

    fn recipe(&mut self, parts: &[blake3::Hash]) {
        let is_boundary = |part: &blake3::Hash| {
            let [low, high, ..] = part.as_bytes();
            u16::from_le_bytes([*low, *high]).is_multiple_of(1024)
        };
        for page in parts.split_inclusive(is_boundary) {
            let mut hasher = blake3::Hasher::new();
            page.iter().for_each(|part| {
                hasher.update(part.as_bytes());
            });
            if self.known.insert(hasher.finalize()) {
                self.cost.recipe_bytes += 36 * page.len() as u64;
            }
        }
    }

    fn seal(&mut self) -> Result<()> {
        let compressed = zstd::bulk::compress(&self.group, 1)?.len();
        let is_worth_it = compressed < self.group.len() / 100 * 97;
        self.cost.stored_bytes += if is_worth_it { compressed } else { self.group.len() } as u64;
        self.group.clear();
        Ok(())
    }
}

impl Cost {
    fn full(&self) -> String {
        let mean = self.logical_bytes as f64 / self.chunk_count as f64 / 1024.0;
        format!("{} | {mean:.1} | {}", self.new_chunk_count, self.bytes())
    }

    fn added(&self) -> String {
        format!("{} | {}", self.new_chunk_count, self.bytes())
    }

    fn bytes(&self) -> String {
        let metadata_bytes = 64 * self.new_chunk_count + self.recipe_bytes;
        [self.new_bytes, self.stored_bytes, metadata_bytes, self.stored_bytes + metadata_bytes]
            .map(|bytes| format!("{:.2}", bytes as f64 / 1_048_576.0))
            .join(" | ")
    }
}

const GROUP_BYTES: usize = 1 << 20;
