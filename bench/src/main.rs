//! Speed and memory of the `lastgood` command on this machine, each figure beside its goal and the
//! hardware's limit.
//!
//! `cargo run --release -p bench -- SCRATCH [TREE]` runs the command built in the same profile.
//! SCRATCH is a directory with 30 GiB free; TREE is a source tree of many files (default
//! `/usr/share`). The source is in the page cache, the repository is durable, and in the page cache
//! where a row says so; a figure is the median of five runs after one that does not count, with the
//! range behind it. Memory is the highest anonymous memory seen while a run lasted, looked at every
//! 5 ms. What the disk itself does is measured in turn with what waits for it.
#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use bench::{Run, lastgood, remove, report};
use lastgood_backend::Pages;
use rustix::fs::{Advice, Mode, OFlags, fadvise, open};
use rustix::io::pread;

/// Runs that count.
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let scratch = arguments.next().map(PathBuf::from);
    let scratch = scratch.filter(|path| !path.as_os_str().as_encoded_bytes().starts_with(b"-"));
    let scratch = scratch.context("usage: bench SCRATCH [TREE]")?;
    let tree = PathBuf::from(arguments.next().unwrap_or_else(|| "/usr/share".into()));
    fs::create_dir_all(&scratch)?;
    let bench = Bench { scratch: scratch.canonicalize()?, lastgood: lastgood()? };

    let random = bench.scratch.join("random");
    write_random(&random, 3 << 30)?;
    let (entries, bytes) = count(&tree)?;
    println!("tree: {} with {entries} entries, {:.2} GB", tree.display(), bytes as f64 / 1e9);
    println!(
        "{:<34} {:>9}  {:<15} {:>12} {:>8} {:>8} {:>10}",
        "", "median s", "range", "rate", "goal", "limit", "anonymous"
    );

    let gb = |seconds: f64, bytes: u64| format!("{:.2} GB/s", bytes as f64 / 1e9 / seconds);
    let per_second = |seconds: f64| format!("{:.0} k/s", entries as f64 / 1e3 / seconds);
    let random_bytes = fs::metadata(&random)?.len();

    let runs = bench.rounds(|_| bench.forget(), |run| bench.backup(run, &random))?;
    report("initial, 3 GiB incompressible", &runs, |s| gb(s, random_bytes), "2.0", "2.9");
    let runs = bench.rounds(|_| Ok(()), |run| bench.run(run, &["check".as_ref()]))?;
    report("check, 3 GiB incompressible", &runs, |s| gb(s, random_bytes), "3", "");
    let read_data = ["check", "--read-data"].map(Path::new);
    let runs = bench.rounds(|_| bench.cache_packs(), |run| bench.run(run, &read_data))?;
    report("check --read-data, packs cached", &runs, |s| gb(s, random_bytes), "1.5", "");
    let mut raw = Vec::new();
    let prepare = |_| {
        bench.drop_packs()?;
        raw.push(bench.read_packs()?);
        Ok(())
    };
    let runs = bench.rounds(prepare, |run| bench.run(run, &read_data))?;
    report("check --read-data, from disk", &runs, |s| gb(s, random_bytes), "1.5", "");
    report("the same packs, only read", &raw, |s| gb(s, random_bytes), "", "");
    let runs = bench.restores()?;
    report("restore, 3 GiB incompressible", &runs, |s| gb(s, random_bytes), "1.5", "2.9");

    let runs = bench.rounds(|_| bench.forget(), |run| bench.backup(run, &tree))?;
    report("initial, tree", &runs, |s| gb(s, bytes), "0.35", "0.63");
    let runs = bench.rounds(|_| Ok(()), |run| bench.backup(run, &tree))?;
    report("unchanged, tree", &runs, per_second, "600", "1190");
    let runs = bench.restores()?;
    report("restore, tree", &runs, per_second, "", "67");

    let small = bench.scratch.join("small");
    remove(&small)?;
    fs::create_dir_all(&small)?;
    fs::write(small.join("file"), b"a few bytes")?;
    bench.forget()?;
    bench.rounds(|_| Ok(()), |run| bench.backup(run, &small))?;
    let runs = bench.rounds(|_| Ok(()), |run| bench.run(run, &["snapshots".as_ref()]))?;
    report("snapshots, small repository", &runs, |s| format!("{:.1} ms", s * 1e3), "20", "");
    fs::remove_dir_all(&bench.scratch)?;
    Ok(())
}

struct Bench {
    scratch: PathBuf,
    lastgood: PathBuf,
}

impl Bench {
    fn rounds(
        &self,
        mut prepare: impl FnMut(usize) -> anyhow::Result<()>,
        mut work: impl FnMut(&mut Run) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Run>> {
        let mut runs = Vec::new();
        for round in 0..=ROUNDS {
            prepare(round)?;
            rustix::fs::sync();
            let mut run = Run::default();
            work(&mut run)?;
            runs.extend((round > 0).then_some(run));
        }
        Ok(runs)
    }

    fn forget(&self) -> anyhow::Result<()> {
        remove(&self.scratch.join("home"))
    }

    fn backup(&self, run: &mut Run, source: &Path) -> anyhow::Result<()> {
        self.run(run, &["backup".as_ref(), "--quiet".as_ref(), source])
    }

    /// Restores into new directories, which are removed only in the end: ext4 is slow to make
    /// files for some seconds after many were removed.
    fn restores(&self) -> anyhow::Result<Vec<Run>> {
        let folder = self.scratch.join("restored");
        fs::create_dir_all(&folder)?;
        let mut count = 0;
        let runs = self.rounds(
            |_| Ok(()),
            |run| {
                count += 1;
                let target = folder.join(count.to_string());
                let arguments = ["restore", "latest", "--quiet", "--target"].map(Path::new);
                self.run(run, &[&arguments[..], &[&target]].concat())
            },
        );
        remove(&folder)?;
        runs
    }

    /// All packs.
    fn packs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut packs = Vec::new();
        let mut pending = vec![self.scratch.join("home/.local/share/lastgood/repository/packs")];
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                let entry = entry?;
                let found = if entry.file_type()?.is_dir() { &mut pending } else { &mut packs };
                found.push(entry.path());
            }
        }
        Ok(packs)
    }

    /// Brings all packs into the page cache.
    fn cache_packs(&self) -> anyhow::Result<()> {
        self.packs()?.iter().try_for_each(|pack| {
            io::copy(&mut File::open(pack)?, &mut io::sink())?;
            Ok(())
        })
    }

    /// Takes all packs out of the page cache.
    fn drop_packs(&self) -> anyhow::Result<()> {
        rustix::fs::sync();
        self.packs()?
            .iter()
            .try_for_each(|pack| Ok(fadvise(File::open(pack)?, 0, None, Advice::DontNeed)?))
    }

    /// Reads all packs from the disk into huge pages, and does nothing with them.
    fn read_packs(&self) -> anyhow::Result<Run> {
        let packs = self.packs()?;
        let next = AtomicUsize::new(0);
        let read = || -> anyhow::Result<()> {
            let mut pages = Pages::new(DISK_READ_BYTES);
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let file = open(pack, OFlags::RDONLY | OFlags::DIRECT, Mode::empty())?;
                let mut at = 0;
                while let count @ 1.. = pread(&file, pages.as_mut(), at)? {
                    at += count as u64;
                }
            }
            Ok(())
        };
        let start = bench::now();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..DISK_READERS).map(|_| scope.spawn(read)).collect();
            readers.into_iter().try_for_each(|reader| reader.join().unwrap_or(Ok(())))
        })?;
        Ok(Run { seconds: start.elapsed().as_secs_f64(), anonymous_bytes: 0 })
    }

    fn run(&self, run: &mut Run, arguments: &[&Path]) -> anyhow::Result<()> {
        *run = bench::run(&self.lastgood, &self.scratch.join("home"), arguments)?;
        Ok(())
    }
}

/// As `check` reads.
const DISK_READ_BYTES: usize = 4 << 20;
const DISK_READERS: usize = 4;

/// Bytes that no compressor shortens and no chunk repeats in, always the same.
fn write_random(path: &Path, bytes: u64) -> anyhow::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() == bytes) {
        return Ok(());
    }
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        for word in buffer.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        }
        file.write_all(&buffer)?;
    }
    Ok(())
}

fn count(directory: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut entries, mut bytes) = (0, 0);
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            entries += 1;
            if meta.is_dir() {
                pending.push(entry.path());
            } else if meta.is_file() {
                bytes += meta.len();
            }
        }
    }
    Ok((entries, bytes))
}
