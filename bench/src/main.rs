//! Speed and memory of the `lastgood` command on this machine, each figure beside its goal and the
//! hardware's limit.
//!
//! `cargo run --release -p bench -- SCRATCH [TREE]` runs the command built in the same profile.
//! SCRATCH is a directory with 30 GiB free; TREE is a source tree of many files (default
//! `/usr/share`). Caches are warm, the repository is durable; a figure is the median of five runs
//! after one that does not count, with the range behind it. Memory is the highest anonymous memory
//! seen while a run lasted, looked at every 5 ms.
#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bench::{Run, lastgood, remove, report};

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
    let runs = bench.rounds(|_| Ok(()), |run| bench.run(run, &read_data))?;
    report("check --read-data, the same", &runs, |s| gb(s, random_bytes), "1.5", "");
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

    fn run(&self, run: &mut Run, arguments: &[&Path]) -> anyhow::Result<()> {
        *run = bench::run(&self.lastgood, &self.scratch.join("home"), arguments)?;
        Ok(())
    }
}

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
