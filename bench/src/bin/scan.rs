//! Scans a directory tree and prints entries per second, with one thread and with two.
//!
//! Usage: `scan PATH [ROUNDS]`. Limits, warm (`research/limits.md` B8): 606 k/s and 1,198 k/s.
#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use lastgood_host::scan::{Directory, Kind, ListBuffer, Seen};

/// Million entries per second that plain system calls reach with one and two threads.
const LIMITS: [(usize, f64); 2] = [(1, 0.606), (2, 1.198)];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let path = args.next().ok_or_else(|| anyhow::anyhow!("usage: scan PATH [ROUNDS]"))?;
    let rounds = args.next().map_or(Ok(5), |rounds| rounds.to_string_lossy().parse())?;
    for (threads, limit) in LIMITS {
        let mut rates = Vec::new();
        let mut entries = 0;
        let processor_start = processor_seconds()?;
        for _ in 0..rounds {
            let start = Instant::now();
            entries = scan(path.as_ref(), threads)?;
            rates.push(rate(entries, start.elapsed().as_secs_f64()));
        }
        let per_core = rate(entries * rounds, processor_seconds()? - processor_start);
        rates.sort_by(f64::total_cmp);
        let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
        println!(
            "{threads} thread(s): {entries} entries, {median:.3} M/s (best {best:.3}; \
             {per_core:.3} per second of processor time), limit {limit:.3}, {:.0} %",
            median / limit * 100.0
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(entries: usize, seconds: f64) -> f64 {
    entries as f64 / seconds / 1e6
}

/// Processor time of all threads so far: what the scan costs, whoever else is busy.
fn processor_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.map(|field| field.parse().unwrap_or(0.0)).sum();
    Ok(ticks / 100.0)
}

/// Directories waiting, and how many workers are busy and may add more.
struct Work {
    waiting: VecDeque<Directory>,
    busy: usize,
}

fn scan(path: &Path, threads: usize) -> anyhow::Result<usize> {
    let root = Directory::open_root(path)?;
    let work = Mutex::new(Work { waiting: VecDeque::from([root]), busy: 0 });
    let (changed, count) = (Condvar::new(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| worker(&work, &changed, &count));
        }
    });
    Ok(count.into_inner())
}

fn worker(work: &Mutex<Work>, changed: &Condvar, count: &AtomicUsize) {
    let mut buffer = ListBuffer::new();
    let mut stack = Vec::new();
    loop {
        let directory = {
            let mut work = work.lock().expect("no worker panics");
            loop {
                if let Some(directory) = work.waiting.pop_back() {
                    work.busy += 1;
                    break directory;
                }
                if work.busy == 0 {
                    changed.notify_all();
                    return;
                }
                work = changed.wait(work).expect("no worker panics");
            }
        };
        stack.push(directory);
        while let Some(directory) = stack.pop() {
            count.fetch_add(visit(&directory, &mut buffer, &mut stack), Ordering::Relaxed);
            if stack.len() > 1 {
                let mut work = work.lock().expect("no worker panics");
                if work.waiting.is_empty() {
                    work.waiting.extend(stack.drain(..1));
                    changed.notify_one();
                }
            }
        }
        work.lock().expect("no worker panics").busy -= 1;
        changed.notify_all();
    }
}

fn visit(directory: &Directory, buffer: &mut ListBuffer, stack: &mut Vec<Directory>) -> usize {
    let Ok(listing) = directory.list(buffer) else {
        return 0;
    };
    let mut newest = (0, 0);
    for scanned in directory.scan(&listing) {
        let Seen::Stat(stat) = scanned.seen else {
            continue;
        };
        newest = newest.max((stat.mtime.seconds, stat.hint.ctime.seconds));
        if stat.kind == Kind::Directory
            && let Ok(child) = directory.open_child(scanned.name)
        {
            stack.push(child);
        }
    }
    std::hint::black_box(newest);
    listing.len()
}
