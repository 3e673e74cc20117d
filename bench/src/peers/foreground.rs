//! A program that people wait for, beside a backup: it stores small records durably, and reads at
//! random from a file that is not in memory.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{Advice, fadvise};

use super::data::{Random, SEED};

/// The program, while it runs.
pub(super) struct Foreground {
    _ends: Vec<mpsc::Sender<()>>,
    writer: JoinHandle<anyhow::Result<Vec<f64>>>,
    reader: JoinHandle<anyhow::Result<Vec<f64>>>,
}

/// How long the program waited, in milliseconds: for half of its calls no longer than the first
/// figure, for 99 in 100 no longer than the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub write: [f64; 2],
    pub read: [f64; 2],
}

impl Foreground {
    /// Starts it on files in `folder`, which are made when they are not there.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let records = File::create(folder.join("records"))?;
        let path = folder.join("table");
        if std::fs::metadata(&path).map_or(0, |meta| meta.len()) != TABLE_BYTES {
            make_table(&path)?;
        }
        let table = File::open(&path).with_context(|| path.display().to_string())?;
        // What was read before is in memory.
        fadvise(&table, 0, None, Advice::DontNeed)?;
        fadvise(&table, 0, None, Advice::Random)?;
        let mut at = 0;
        let write = move || -> anyhow::Result<()> {
            records.write_all_at(&[7; RECORD_BYTES], at)?;
            at += RECORD_BYTES as u64;
            Ok(rustix::fs::fdatasync(&records)?)
        };
        let mut random = Random(SEED + 2);
        let read = move || -> anyhow::Result<()> {
            let record = random.next() % (TABLE_BYTES / RECORD_BYTES as u64);
            Ok(table.read_exact_at(&mut [0; RECORD_BYTES], record * RECORD_BYTES as u64)?)
        };
        let (end_writes, writes_end) = mpsc::channel();
        let (end_reads, reads_end) = mpsc::channel();
        Ok(Self {
            _ends: vec![end_writes, end_reads],
            writer: std::thread::spawn(move || waits(write, &writes_end)),
            reader: std::thread::spawn(move || waits(read, &reads_end)),
        })
    }

    /// Ends it, and says how it fared.
    pub(super) fn end(self) -> anyhow::Result<Latency> {
        let Self { _ends, writer, reader } = self;
        drop(_ends);
        let join = |thread: JoinHandle<anyhow::Result<Vec<f64>>>| -> anyhow::Result<[f64; 2]> {
            let waits = thread.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
            percentiles(waits).context("it came to nothing")
        };
        Ok(Latency { write: join(writer)?, read: join(reader)? })
    }
}

/// The milliseconds that each call takes, again and again until `end` is hung up.
fn waits(
    mut call: impl FnMut() -> anyhow::Result<()>,
    end: &mpsc::Receiver<()>,
) -> anyhow::Result<Vec<f64>> {
    let mut waits = Vec::new();
    loop {
        let start = Instant::now();
        call()?;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
        if end.recv_timeout(BETWEEN) == Err(RecvTimeoutError::Disconnected) {
            return Ok(waits);
        }
    }
}

/// The middle, and what 99 in 100 are no greater than.
fn percentiles(mut waits: Vec<f64>) -> Option<[f64; 2]> {
    waits.sort_by(f64::total_cmp);
    let last = waits.len().checked_sub(1)?;
    Some([0.5, 0.99].map(|share| waits[(last as f64 * share).round() as usize]))
}

fn make_table(path: &Path) -> anyhow::Result<()> {
    let mut random = Random(SEED + 3);
    let file = File::create(path)?;
    let block = random.block();
    for at in (0..TABLE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, at)?;
    }
    Ok(file.sync_all()?)
}

/// Pages of a database.
const RECORD_BYTES: usize = 4 << 10;
const TABLE_BYTES: u64 = 1 << 30;
/// What a program that people use does between two calls.
const BETWEEN: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_nearly_all_of_the_waits() {
        assert_eq!(percentiles(Vec::new()), None);
        assert_eq!(percentiles(vec![3.0]), Some([3.0, 3.0]));
        let waits = (0..=100).rev().map(f64::from).collect();
        assert_eq!(percentiles(waits), Some([50.0, 99.0]));
    }

    #[test]
    fn calls_are_timed_until_the_end() {
        let (end, ended) = mpsc::channel::<()>();
        let mut left = 5;
        let mut end = Some(end);
        let call = || {
            left -= 1;
            if left == 0 {
                end.take();
            }
            Ok(())
        };
        assert_eq!(waits(call, &ended).unwrap().len(), 5);
    }
}
