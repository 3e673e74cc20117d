//! Parts of the machine that only the superuser can make.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system, until dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts at `at`, which is made; nothing, with a message, where that is not possible.
    pub(crate) fn try_new(arguments: &[&OsStr], at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut arguments = arguments.to_vec();
        arguments.push(at.as_os_str());
        run("mount", &arguments).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[OsStr::new("-l"), self.0.as_os_str()]);
    }
}

/// Runs a program of the system; says so when it failed.
#[expect(clippy::print_stderr, reason = "says why a test does nothing")]
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> bool {
    let status =
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_done = status.is_ok_and(|status| status.success());
    if !is_done {
        eprintln!("skipped what needs: {program} {arguments:?}");
    }
    is_done
}
