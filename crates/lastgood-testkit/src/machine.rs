//! Parts of the machine that only the superuser can make.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system, until dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts at `at`, which is made; nothing, with a message, where that is not possible.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn try_new(arguments: &[&OsStr], at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a directory to mount at");
        let mut arguments = arguments.to_vec();
        arguments.push(at.as_os_str());
        run("mount", &arguments).then(|| Self(at.to_owned()))
    }

    /// A file system in memory with room for `bytes`.
    #[must_use]
    pub fn in_memory(bytes: u64, at: &Path) -> Option<Self> {
        let size = format!("size={bytes}");
        Self::try_new(&["-t", "tmpfs", "-o", &size, "tmpfs"].map(OsStr::new), at)
    }

    /// Changes it while it is mounted, as in `ro` or `size=64M`.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let done = run("mount", &[OsStr::new("-o"), OsStr::new(&option), self.0.as_os_str()]);
        assert!(done, "cannot {option} {}", self.0.display());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A lazy unmount of what is gone already is no failure of the test.
        let _is_done = run("umount", &[OsStr::new("-l"), self.0.as_os_str()]);
    }
}

/// Runs a program of the system; says so when it failed.
#[must_use]
#[expect(clippy::print_stderr, reason = "says why a test does nothing")]
pub fn run(program: &str, arguments: &[&OsStr]) -> bool {
    let status =
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_done = status.is_ok_and(|status| status.success());
    if !is_done {
        eprintln!("skipped what needs: {program} {arguments:?}");
    }
    is_done
}
