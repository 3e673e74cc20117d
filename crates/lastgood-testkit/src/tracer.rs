//! A program whose calls to the kernel fail, or that is killed at one: by `ptrace(2)`, so whatever
//! language or library makes the call.
//!
//! Only calls that concern files below one directory are seen. Linux on `x86_64`, as the numbers of
//! registers are.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

pub use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A call that a program is about to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// As in `pwrite64`.
    pub name: &'static str,
    /// The first file that it concerns.
    pub path: PathBuf,
    /// Whether it moves bytes, of which there may be fewer than was asked for.
    pub moves_bytes: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not made, and this is what it gives.
    Error(Errno),
    /// It is made for one byte.
    Short,
    /// It is not made, and says that it was: that all bytes were moved.
    Pretended,
    /// It is not made; the program is killed.
    Kill,
}

/// Runs a program with its arguments; `fate` says what becomes of each call that concerns a file
/// below `root`. `command` is made by [`stopped`].
///
/// # Errors
/// When it cannot be started or traced.
pub fn run(
    command: &mut Command,
    root: &Path,
    fate: &mut dyn FnMut(&Call) -> Option<Fault>,
) -> io::Result<ExitStatus> {
    let child = command.spawn()?;
    let leader = Pid::from_raw(child.id().cast_signed());
    waitpid(leader, Some(WaitPidFlag::WUNTRACED))?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(leader, options)?;
    kill(leader, Signal::SIGCONT)?;
    Tracer { leader, root, answers: HashMap::new() }.follow(fate)
}

/// A command that does nothing until [`run`] has taken hold of it.
pub fn stopped(mut command: Command, program: &str) -> Command {
    command.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\"", program]);
    command
}

struct Tracer<'a> {
    leader: Pid,
    root: &'a Path,
    /// What calls that are not made give, by thread.
    answers: HashMap<Pid, u64>,
}

impl Tracer<'_> {
    fn follow(mut self, fate: &mut dyn FnMut(&Call) -> Option<Fault>) -> io::Result<ExitStatus> {
        loop {
            // Those of this thread alone: others may trace others.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let (thread, signal) = match waitpid(None, Some(flags))? {
                WaitStatus::Exited(thread, code) if thread == self.leader => {
                    return Ok(ExitStatus::from_raw(code << 8));
                }
                WaitStatus::Signaled(thread, signal, _) if thread == self.leader => {
                    return Ok(ExitStatus::from_raw(signal as i32));
                }
                WaitStatus::PtraceSyscall(thread) => {
                    gone_is_no_error(self.at_call(thread, fate))?;
                    (thread, None)
                }
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                _ => continue,
            };
            gone_is_no_error(ptrace::syscall(thread, signal))?;
        }
    }

    /// A thread begins or ends a call.
    fn at_call(
        &mut self,
        thread: Pid,
        fate: &mut dyn FnMut(&Call) -> Option<Fault>,
    ) -> nix::Result<()> {
        if ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some(answer) = self.answers.remove(&thread) {
                let mut registers = ptrace::getregs(thread)?;
                registers.rax = answer;
                ptrace::setregs(thread, registers)?;
            }
            return Ok(());
        }
        let mut registers = ptrace::getregs(thread)?;
        let Some(call) = self.decode(thread, &registers) else { return Ok(()) };
        let answer = match fate(&call) {
            None => return Ok(()),
            Some(Fault::Kill) => return kill(self.leader, Signal::SIGKILL),
            Some(Fault::Short) => {
                registers.rdx = registers.rdx.min(1);
                return ptrace::setregs(thread, registers);
            }
            Some(Fault::Pretended) => {
                if call.moves_bytes {
                    registers.rdx
                } else {
                    0
                }
            }
            Some(Fault::Error(error)) => (-i64::from(error as i32)).cast_unsigned(),
        };
        // No call has this number.
        registers.orig_rax = u64::MAX;
        ptrace::setregs(thread, registers)?;
        self.answers.insert(thread, answer);
        Ok(())
    }

    /// The call that a thread makes, if it concerns a file below the root.
    fn decode(&self, thread: Pid, registers: &user_regs_struct) -> Option<Call> {
        let number = registers.orig_rax.cast_signed();
        let &(_, name, argument) = CALLS.iter().find(|(of, ..)| *of == number)?;
        let [first, second, third] = [registers.rdi, registers.rsi, registers.rdx];
        let path = match argument {
            Argument::File | Argument::Bytes => file(thread, first)?,
            Argument::Path => named(thread, AT_CWD, first)?,
            Argument::PathAt => named(thread, first, second)?,
            Argument::SecondPathAt => named(thread, second, third)?,
        };
        let moves_bytes = argument == Argument::Bytes;
        path.starts_with(self.root).then_some(Call { name, path, moves_bytes })
    }
}

/// What an open file of a thread is called.
fn file(thread: Pid, descriptor: u64) -> Option<PathBuf> {
    let descriptor = descriptor as i32;
    std::fs::read_link(match descriptor {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        descriptor => format!("/proc/{thread}/fd/{descriptor}"),
    })
    .ok()
}

/// The path that a thread names, below an open directory.
fn named(thread: Pid, directory: u64, address: u64) -> Option<PathBuf> {
    let mut bytes = [0; libc::PATH_MAX as usize];
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let length = memory.read_at(&mut bytes, address).ok()?;
    let name = bytes[..length].split(|byte| *byte == 0).next()?;
    let name = PathBuf::from(OsString::from_vec(name.to_vec()));
    Some(if name.is_absolute() { name } else { file(thread, directory)?.join(name) })
}

/// A process that was killed meanwhile is waited for, and asked nothing.
fn gone_is_no_error(done: nix::Result<()>) -> io::Result<()> {
    match done {
        Err(Errno::ESRCH) => Ok(()),
        done => Ok(done?),
    }
}

/// Where a call has what it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    /// An open file.
    File,
    /// An open file, and as third argument how many bytes.
    Bytes,
    /// A path.
    Path,
    /// An open directory and a path.
    PathAt,
    /// The same, as second and third argument.
    SecondPathAt,
}

const AT_CWD: u64 = i64::cast_unsigned(libc::AT_FDCWD as i64);

/// What a program can ask of a file.
const CALLS: &[(c_long, &str, Argument)] = &[
    (libc::SYS_read, "read", Argument::Bytes),
    (libc::SYS_pread64, "pread64", Argument::Bytes),
    (libc::SYS_write, "write", Argument::Bytes),
    (libc::SYS_pwrite64, "pwrite64", Argument::Bytes),
    (libc::SYS_readv, "readv", Argument::File),
    (libc::SYS_preadv, "preadv", Argument::File),
    (libc::SYS_writev, "writev", Argument::File),
    (libc::SYS_pwritev, "pwritev", Argument::File),
    (libc::SYS_copy_file_range, "copy_file_range", Argument::File),
    (libc::SYS_fsync, "fsync", Argument::File),
    (libc::SYS_fdatasync, "fdatasync", Argument::File),
    (libc::SYS_syncfs, "syncfs", Argument::File),
    (libc::SYS_sync_file_range, "sync_file_range", Argument::File),
    (libc::SYS_ftruncate, "ftruncate", Argument::File),
    (libc::SYS_fallocate, "fallocate", Argument::File),
    (libc::SYS_lseek, "lseek", Argument::File),
    (libc::SYS_flock, "flock", Argument::File),
    (libc::SYS_fcntl, "fcntl", Argument::File),
    (libc::SYS_ioctl, "ioctl", Argument::File),
    (libc::SYS_fadvise64, "fadvise64", Argument::File),
    (libc::SYS_getdents64, "getdents64", Argument::File),
    (libc::SYS_fstat, "fstat", Argument::File),
    (libc::SYS_fstatfs, "fstatfs", Argument::File),
    (libc::SYS_fchmod, "fchmod", Argument::File),
    (libc::SYS_fchown, "fchown", Argument::File),
    (libc::SYS_fgetxattr, "fgetxattr", Argument::File),
    (libc::SYS_flistxattr, "flistxattr", Argument::File),
    (libc::SYS_fsetxattr, "fsetxattr", Argument::File),
    (libc::SYS_stat, "stat", Argument::Path),
    (libc::SYS_lstat, "lstat", Argument::Path),
    (libc::SYS_statfs, "statfs", Argument::Path),
    (libc::SYS_access, "access", Argument::Path),
    (libc::SYS_open, "open", Argument::Path),
    (libc::SYS_mkdir, "mkdir", Argument::Path),
    (libc::SYS_rmdir, "rmdir", Argument::Path),
    (libc::SYS_unlink, "unlink", Argument::Path),
    (libc::SYS_rename, "rename", Argument::Path),
    (libc::SYS_readlink, "readlink", Argument::Path),
    (libc::SYS_chmod, "chmod", Argument::Path),
    (libc::SYS_chdir, "chdir", Argument::Path),
    (libc::SYS_llistxattr, "llistxattr", Argument::Path),
    (libc::SYS_lgetxattr, "lgetxattr", Argument::Path),
    (libc::SYS_lsetxattr, "lsetxattr", Argument::Path),
    (libc::SYS_openat, "openat", Argument::PathAt),
    (libc::SYS_openat2, "openat2", Argument::PathAt),
    (libc::SYS_newfstatat, "newfstatat", Argument::PathAt),
    (libc::SYS_statx, "statx", Argument::PathAt),
    (libc::SYS_faccessat, "faccessat", Argument::PathAt),
    (libc::SYS_faccessat2, "faccessat2", Argument::PathAt),
    (libc::SYS_readlinkat, "readlinkat", Argument::PathAt),
    (libc::SYS_mkdirat, "mkdirat", Argument::PathAt),
    (libc::SYS_mknodat, "mknodat", Argument::PathAt),
    (libc::SYS_unlinkat, "unlinkat", Argument::PathAt),
    (libc::SYS_renameat, "renameat", Argument::PathAt),
    (libc::SYS_renameat2, "renameat2", Argument::PathAt),
    (libc::SYS_linkat, "linkat", Argument::PathAt),
    (libc::SYS_fchmodat, "fchmodat", Argument::PathAt),
    (libc::SYS_fchownat, "fchownat", Argument::PathAt),
    (libc::SYS_utimensat, "utimensat", Argument::PathAt),
    (libc::SYS_symlinkat, "symlinkat", Argument::SecondPathAt),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sh` does to write into a file, with each call of a name meeting `fault`.
    fn write(fault_at: &str, fault: Fault) -> (ExitStatus, String, Vec<Call>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = stopped(Command::new("sh"), "dd");
        let target = folder.path().join("target");
        command.args(["if=/dev/zero", "bs=4", "count=1", "status=none"]);
        command.arg(format!("of={}", target.display()));
        let mut calls = Vec::new();
        let status = run(&mut command, folder.path(), &mut |call| {
            calls.push(call.clone());
            (call.name == fault_at).then_some(fault)
        });
        let written = std::fs::read_to_string(&target).unwrap_or_default();
        (status.expect("it can be traced"), written, calls)
    }

    #[test]
    fn calls_are_seen_and_meet_their_fate() {
        let (status, written, calls) = write("none", Fault::Kill);
        assert!(status.success() && written == "\0\0\0\0", "{status} {written:?}");
        let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
        assert_eq!(names.iter().filter(|name| **name == "write").count(), 1, "{names:?}");
        assert!(calls.iter().all(|call| call.path.ends_with("target")), "{calls:?}");

        let (status, written, _) = write("write", Fault::Error(Errno::ENOSPC));
        assert!(!status.success() && written.is_empty(), "{status} {written:?}");
        let (status, written, calls) = write("write", Fault::Short);
        assert!(status.success() && written == "\0\0\0\0", "{status} {written:?}");
        assert_eq!(calls.iter().filter(|call| call.name == "write").count(), 4);
        let (status, written, _) = write("write", Fault::Pretended);
        assert!(status.success() && written.is_empty(), "{status} {written:?}");
        let (status, written, _) = write("write", Fault::Kill);
        assert_eq!((status.signal(), written.as_str()), (Some(9), ""));
    }
}
