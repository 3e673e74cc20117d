//! One run of a command, measured: time, processor time and memory of all its processes.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use wait4::Wait4;

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// From start to end.
    pub seconds: f64,
    /// User and system time of the process and of those that it waited for.
    pub cpu_seconds: f64,
    /// The most resident memory of all processes together; what they share counts for each.
    pub resident_bytes: u64,
    /// The most memory that no file backs, of all processes together.
    pub anonymous_bytes: u64,
}

impl Cost {
    /// Of one run after the other.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            seconds: self.seconds + next.seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            resident_bytes: self.resident_bytes.max(next.resident_bytes),
            anonymous_bytes: self.anonymous_bytes.max(next.anonymous_bytes),
        }
    }

    /// Of nothing.
    pub(super) const NONE: Self =
        Self { seconds: 0.0, cpu_seconds: 0.0, resident_bytes: 0, anonymous_bytes: 0 };
}

/// Runs `command` to its end.
///
/// Memory is looked at every 5 ms, and every millisecond at first, so a peak that is shorter may
/// be missed.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(command: &mut Command) -> anyhow::Result<(Cost, ExitStatus)> {
    let start = Instant::now();
    let child =
        command.spawn().with_context(|| command.get_program().to_string_lossy().into_owned())?;
    let (ended, is_ended) = mpsc::channel::<()>();
    let pid = child.id();
    let watcher = std::thread::spawn(move || watch(pid, &is_ended));
    let used = child.wait4()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(ended);
    let (resident_bytes, anonymous_bytes) = watcher.join().unwrap_or_default();
    let cpu_seconds = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    Ok((Cost { seconds, cpu_seconds, resident_bytes, anonymous_bytes }, used.status))
}

/// The most resident and the most anonymous memory, until `is_ended` is hung up.
fn watch(pid: u32, is_ended: &mpsc::Receiver<()>) -> (u64, u64) {
    let (mut resident, mut anonymous) = (0, 0);
    for look in 0_u32.. {
        let (now_resident, now_anonymous) = memory(pid);
        resident = resident.max(now_resident);
        anonymous = anonymous.max(now_anonymous);
        let wait = Duration::from_millis(if look < FIRST_LOOKS { 1 } else { 5 });
        if is_ended.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Disconnected) {
            break;
        }
    }
    (resident, anonymous)
}

const FIRST_LOOKS: u32 = 100;

/// Resident and anonymous memory of a process and all below it.
fn memory(pid: u32) -> (u64, u64) {
    let (mut resident, mut anonymous) = (0, 0);
    let mut pending = vec![pid];
    while let Some(pid) = pending.pop() {
        if let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            resident += field(&status, "VmRSS:");
            anonymous += field(&status, "RssAnon:");
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            pending.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    (resident, anonymous)
}

/// Bytes of a line such as `VmRSS:     1234 kB`.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_status() {
        let status = "Name:\tborg\nVmRSS:\t    1234 kB\nRssAnon:\t      12 kB\n";
        assert_eq!(field(status, "VmRSS:"), 1234 << 10);
        assert_eq!(field(status, "RssAnon:"), 12 << 10);
        assert_eq!(field(status, "RssFile:"), 0);
    }

    /// A shell that has a child do the work: both are counted, and it is waited for.
    #[test]
    fn a_tree_of_processes_is_measured() {
        let mut command = Command::new("sh");
        let work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        command.args(["-c", &format!("sh -c '{work}'; exit 7")]);
        let (cost, status) = run(&mut command).unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(cost.cpu_seconds > 0.0, "{cost:?}");
        assert!(cost.resident_bytes > 0, "{cost:?}");
        assert!(cost.anonymous_bytes <= cost.resident_bytes, "{cost:?}");
    }
}
