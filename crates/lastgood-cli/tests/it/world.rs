//! A home, a place for files, and the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_lastgood");

/// What the files of a source hold: a name and the seed of its bytes.
pub(crate) type Files = BTreeMap<String, u64>;

pub(crate) struct World {
    folder: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Writes the bytes of a seed.
    pub(crate) fn write_content(&self, name: &str, bytes: usize, content: u64) {
        self.write(name, &noise(bytes, content));
    }

    /// Restores a snapshot and compares it, byte by byte.
    pub(crate) fn restores(&self, id: &str, files: &Files, bytes: usize) -> Result<(), String> {
        let target = self.path("target");
        let run = self.run(&["restore", id, "-t", &self.text("target")]);
        if run.code != Some(0) {
            return Err(format!("{id} does not restore: {run:?}"));
        }
        let found = describe(&target).len() - directories(files).len();
        let is_right = |(name, content): (&String, &u64)| {
            fs::read(target.join(name)).is_ok_and(|found| found == noise(bytes, *content))
        };
        let wrong = files.iter().find(|(name, content)| !is_right((name, content)));
        fs::remove_dir_all(target).unwrap();
        match wrong {
            Some((name, _)) => Err(format!("{id}: {name} holds other bytes")),
            None if found != files.len() => Err(format!("{id}: {found} files")),
            None => Ok(()),
        }
    }

    /// A command that knows nothing of whoever runs the tests.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[])
    }

    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Run {
        Run::of(self.command(BINARY).args(args).envs(variables.iter().copied()))
    }

    /// A command of the binary whose user may not do everything: nobody, when the tests run as root.
    ///
    /// Everything in this world then belongs to nobody.
    pub(crate) fn command_of_a_user(&self) -> Command {
        if !rustix::process::geteuid().is_root() {
            return self.command(BINARY);
        }
        // The build directory need not be open to others.
        let binary = self.path("lastgood");
        if !binary.exists() && fs::hard_link(BINARY, &binary).is_err() {
            fs::copy(BINARY, &binary).unwrap();
        }
        let mut found = vec![self.folder.path().to_owned()];
        while let Some(path) = found.pop() {
            if path != binary {
                std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            if path.symlink_metadata().unwrap().is_dir() {
                found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        let mut command = self.command(binary.to_str().unwrap());
        command.uid(NOBODY).gid(NOBODY);
        command
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(BINARY);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Sends Ctrl-C as soon as the repository holds so much.
    pub(crate) fn interrupt_when_stored(&self, mut child: Child, bytes: u64) -> Run {
        let stored = || {
            let sizes = self.packs().into_iter().filter_map(|pack| fs::metadata(pack).ok());
            sizes.map(|metadata| metadata.len()).sum::<u64>()
        };
        while child.try_wait().unwrap().is_none() && stored() < bytes {
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Run { code: child.wait().unwrap().code(), out, err }
    }

    /// Files below the packs of the default repository, temporary ones too.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("home/.local/share/lastgood/repository/packs")];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(folder) else {
                continue;
            };
            for entry in entries.flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => found.push(entry.path()),
                }
            }
        }
        found
    }

    /// Compares two trees by everything that a user can see, and with `rsync` where it is there.
    pub(crate) fn assert_same(&self, one: &str, other: &str) {
        assert_eq!(describe(&self.path(one)), describe(&self.path(other)));
        let is_there = Command::new("rsync").arg("--version").output().is_ok();
        if is_there {
            let (one, other) = (format!("{}/", self.text(one)), format!("{}/", self.text(other)));
            let output = self
                .command("rsync")
                .args(["-naHAXi", "--checksum", "--delete", &one, &other])
                .output()
                .unwrap();
            // A target that was there before keeps its own metadata.
            let text = String::from_utf8_lossy(&output.stdout);
            let differs = text.lines().any(|line| !line.ends_with(" ./"));
            assert!(!differs, "{text}");
        }
    }
}

/// Every path below `root` with what it is.
pub(crate) fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    String::new()
                }
                _ => {
                    let bytes = fs::read(&path).unwrap();
                    format!("{} {:x}", bytes.len(), sum(&bytes))
                }
            };
            let (mode, links) = (metadata.mode(), metadata.nlink());
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            let text = format!("{mode:o} {links} {seconds}.{nanos} {content}");
            found.insert(path.strip_prefix(root).unwrap().to_owned(), text);
        }
    }
    found
}

/// The directories that files lie in.
fn directories(files: &Files) -> BTreeSet<&Path> {
    let above = files.keys().flat_map(|name| Path::new(name).ancestors().skip(1));
    above.filter(|path| !path.as_os_str().is_empty()).collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Bytes that do not compress, always the same for a seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Run {
    /// Runs to the end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "{}\n{}", self.out, self.err);
        self
    }

    /// The messages on standard output.
    #[track_caller]
    pub(crate) fn messages(&self) -> Vec<Value> {
        parse(&self.out)
    }

    /// The messages on standard error.
    #[track_caller]
    pub(crate) fn errors(&self) -> Vec<Value> {
        parse(&self.err)
    }

    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        let summary = self.messages().pop().unwrap();
        assert_eq!(summary["message_type"], "summary");
        summary
    }
}

#[track_caller]
fn parse(text: &str) -> Vec<Value> {
    let parse = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(message)) => Value::Object(message),
        other => panic!("{line:?} is no JSON object: {other:?}"),
    };
    text.lines().map(parse).collect()
}

/// What the user without rights is on every system.
const NOBODY: u32 = 65534;
