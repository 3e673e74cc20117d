//! Measuring the `lastgood` command: how long a run takes, and the most anonymous memory it has.
#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

pub mod acceptance;
pub mod peers;
pub mod stages;

/// One run: how long, and the most anonymous memory seen.
#[derive(Debug, Default, Clone, Copy)]
pub struct Run {
    /// From start to end.
    pub seconds: f64,
    /// The most that was seen, looked at every 5 ms.
    pub anonymous_bytes: u64,
}

/// Runs `program` for the user whose home is `home`.
///
/// # Errors
/// When it cannot be started, or ends with neither 0 nor 3.
pub fn run(program: &Path, home: &Path, arguments: &[&Path]) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .env("HOME", home)
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_STATE_HOME")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let status = format!("/proc/{}/status", child.id());
    let code = loop {
        if let Some(code) = child.try_wait()? {
            break code;
        }
        run.anonymous_bytes = run.anonymous_bytes.max(anonymous(&status).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(if start.elapsed().as_millis() < 100 {
            1
        } else {
            5
        }));
    };
    run.seconds = start.elapsed().as_secs_f64();
    ensure!(matches!(code.code(), Some(0 | 3)), "lastgood {arguments:?}: {code}");
    Ok(run)
}

/// The time, to take differences of.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Prints the median of `runs` with its range, the rate that `rate` makes of it, and the memory.
pub fn report(what: &str, runs: &[Run], rate: impl Fn(f64) -> String, goal: &str, limit: &str) {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let range = format!("{:.3}–{:.3}", seconds[0], seconds[seconds.len() - 1]);
    let memory = runs.iter().map(|run| run.anonymous_bytes).max().unwrap_or(0) >> 20;
    println!(
        "{what:<34} {median:>9.3}  {range:<15} {:>12} {goal:>8} {limit:>8} {memory:>6} MiB",
        rate(median)
    );
}

/// Anonymous memory of a process, in bytes.
fn anonymous(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// The command, built in the same profile.
///
/// # Errors
/// When it is not built.
pub fn lastgood() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("lastgood");
    ensure!(path.exists(), "{} is missing: cargo build --release -p lastgood-cli", path.display());
    Ok(path)
}

/// Removes a directory, if it is there.
///
/// Many threads remove its files: a file system that tells its disk of each free block, and waits,
/// takes minutes otherwise.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound && directory == path => return Ok(()),
            entries => entries.with_context(|| directory.display().to_string())?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => pending.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    std::thread::scope(|scope| {
        let share = files.len().div_ceil(REMOVERS).max(1);
        let remove = |files: &[PathBuf]| files.iter().try_for_each(fs::remove_file);
        let threads = files.chunks(share).map(|files| scope.spawn(move || remove(files)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
    .with_context(|| path.display().to_string())?;
    fs::remove_dir_all(path).with_context(|| path.display().to_string())
}

/// Threads that wait for the disk.
const REMOVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_with_all_that_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        remove(&path).unwrap();
        fs::create_dir_all(path.join("b/c")).unwrap();
        for number in 0..50 {
            fs::write(path.join(format!("b/{number}")), "").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), path.join("link")).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists() && folder.path().exists());
    }
}
