//! How fast a restore is: of what is missing, of what is all there, and verified.
//!
//! `restore_speed SOURCE WORK [THREADS]` backs SOURCE up into a fresh repository in WORK (which
//! must not exist and is left there), then restores it. Beside each figure stands the limit of
//! `research/limits.md`: 2.7 GB/s for large files, 67,600 small files a second.
#![expect(clippy::print_stdout, reason = "a command line program")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lastgood::backup::BackupOptions;
use lastgood::restore::{Overwrite, RestoreOptions, RestoreReport};
use lastgood::{Home, system};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [source, work, rest @ ..] = &arguments[..] else {
        anyhow::bail!("usage: restore_speed SOURCE WORK [THREADS]");
    };
    let threads = rest.first().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(0);
    ensure!(!work.exists(), "{} exists", work.display());
    let home =
        Home { data: work.join("data"), cache: work.join("cache"), state: work.join("state") };
    let opened = lastgood::opening::open_default(&home, system::world(), "bench")?;

    let begun = Instant::now();
    let report = lastgood::backup::start(opened.repo.clone(), backup(source, &home)).wait(drop)?;
    let totals = report.totals;
    println!(
        "backup   {:6.2} s, {} files, {} bytes",
        begun.elapsed().as_secs_f64(),
        totals.files,
        totals.bytes
    );
    let snapshot = report.snapshot.context("nothing was backed up")?;

    let target = work.join("target");
    let mut options = RestoreOptions::new(snapshot, target.clone());
    options.host_id = [1; 16];
    options.threads = threads;
    let run = |name: &str, options: RestoreOptions| -> Result<()> {
        let (begun, cpu) = (Instant::now(), cpu_seconds()?);
        let report = lastgood::restore::start(opened.repo.clone(), options)
            .wait(|event| println!("{event:?}"))?;
        let seconds = begun.elapsed().as_secs_f64();
        print(name, seconds, cpu_seconds()? - cpu, &report);
        Ok(())
    };
    run("missing", options.clone())?;
    run("is there", options.clone())?;
    run("quick", RestoreOptions { overwrite: Overwrite::IfChanged, ..options.clone() })?;
    run("dry run", RestoreOptions { dry_run: true, ..options.clone() })?;
    // Into new directories: ext4 searches long for an inode right after many were freed.
    let other = |name: &str| RestoreOptions { target: work.join(name), ..options.clone() };
    run("again", other("target.2"))?;
    run("synced", RestoreOptions { sync: true, ..other("target.3") })?;
    run("verified", RestoreOptions { verify: true, ..other("target.4") })?;
    println!("peak anonymous memory {} KiB", peak_anonymous()?);
    Ok(())
}

fn print(name: &str, seconds: f64, cpu: f64, report: &RestoreReport) {
    let counts = &report.counts;
    let entries = counts.created + counts.updated + counts.unchanged + counts.skipped;
    let bytes = counts.bytes_written + counts.bytes_kept;
    println!(
        "{name:8} {seconds:6.2} s ({cpu:.2} s of processor), {:5.2} GB/s (limit 2.7), {:6.0} entries/s (limit 67600); {counts:?}; {} problems",
        bytes as f64 / seconds / 1e9,
        entries as f64 / seconds,
        report.problems.errors,
    );
}

fn backup(source: &Path, home: &Home) -> BackupOptions {
    BackupOptions {
        host: "bench".to_owned(),
        host_id: [1; 16],
        user: "bench".to_owned(),
        ..BackupOptions::new(vec![source.to_path_buf()], home.state.clone())
    }
}

/// Processor time of this process so far.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// Highest resident memory minus that of files, in KiB, as far as the kernel tells.
fn peak_anonymous() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok(field("VmHWM:").saturating_sub(field("RssFile:")))
}
