//! Measuring the `lastgood` command: how long a run takes, and the most anonymous memory it has.
#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

pub mod peers;

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
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
