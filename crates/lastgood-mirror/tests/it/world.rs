//! A source, a mirror, and what the source was at each version.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use lastgood_format::entry::Timestamp;
use lastgood_host::metadata::ApplyPolicy;
use lastgood_host::scan::{Directory, Stat};
use lastgood_mirror::restore::{RestoreOptions, RestoreReport, restore};
use lastgood_mirror::run::{Choice, Room, Rules, RunOptions, RunReport, run, subject};
use lastgood_mirror::text::{Seal, sha256};
use lastgood_mirror::verify::{VerifyReport, verify};
use lastgood_mirror::{Mirror, MirrorError, Trouble, Watch};

/// All that a user can see of a tree: kind, mode, time, content.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    clock: i64,
    /// What the source was at each version, oldest first.
    pub(crate) versions: Vec<(String, Tree)>,
    pub(crate) excluded: Vec<&'static str>,
    pub(crate) troubles: Troubles,
    pub(crate) is_approved: bool,
    pub(crate) forgets_excluded: bool,
    pub(crate) scrub_days: u32,
}

#[derive(Default)]
pub(crate) struct Troubles(pub(crate) Mutex<Vec<Trouble>>);

impl Watch for Troubles {
    fn is_cancelled(&self) -> bool {
        false
    }
    fn bytes(&self, _: &[u8], _: u64) {}
    fn file(&self, _: &[u8]) {}
    fn total(&self, _: u64, _: u64) {}
    fn trouble(&self, trouble: Trouble) {
        self.0.lock().unwrap().push(trouble);
    }
}

/// Leaves out names.
pub(crate) struct Names<'a>(pub(crate) &'a [&'static str]);

impl Rules for Names<'_> {
    fn enter(&mut self, _: &[u8], _: &Directory) {}
    fn leave(&mut self) {}
    fn choose(&mut self, name: &[u8], _: &Stat) -> Choice {
        if self.0.iter().any(|out| out.as_bytes() == name) { Choice::Out } else { Choice::In }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        Self {
            folder,
            // Far from the real clock: what was written in the test is not racy.
            clock: 4_000_000_000,
            versions: Vec::new(),
            excluded: Vec::new(),
            troubles: Troubles::default(),
            is_approved: true,
            forgets_excluded: false,
            scrub_days: 0,
        }
    }

    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.folder.path().join("source").join(name)
    }

    pub(crate) fn mirror(&self, name: &str) -> PathBuf {
        self.folder.path().join("mirror").join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.source(name).parent().unwrap()).unwrap();
        fs::write(self.source(name), bytes).unwrap();
    }

    pub(crate) fn options(&self) -> RunOptions {
        RunOptions {
            source: self.source("").join(""),
            now: Timestamp { seconds: self.clock, nanos: 0 },
            is_approved: self.is_approved,
            forgets_excluded: self.forgets_excluded,
            verifies_outgoing: true,
            scrub_days: self.scrub_days,
            is_dry: false,
            room: Room::ENDLESS,
        }
    }

    /// Those of a run a day later.
    pub(crate) fn next_options(&mut self) -> RunOptions {
        self.clock += 86_400;
        self.options()
    }

    pub(crate) fn try_run(&mut self) -> Result<RunReport, MirrorError> {
        let options = self.next_options();
        let subject = subject(&options.source)?;
        let (mirror, _) = Mirror::open_or_create(&self.mirror(""), &subject)?;
        let report = run(&mirror, &options, &mut Names(&self.excluded), &self.troubles)?;
        if let Some(version) = &report.version {
            self.versions.push((version.name.clone(), tree(&self.source(""))));
        }
        Ok(report)
    }

    pub(crate) fn run(&mut self) -> RunReport {
        self.try_run().unwrap()
    }

    pub(crate) fn set_clock(&mut self, seconds: i64) {
        self.clock = seconds;
    }

    pub(crate) fn restore_options(&self, version: &str, path: &str, to: &Path) -> RestoreOptions {
        RestoreOptions {
            version: version.to_owned(),
            path: path.as_bytes().into(),
            target: to.into(),
            policy: ApplyPolicy { owner: true, special: true },
            is_dry: false,
        }
    }

    pub(crate) fn restore(&self, version: &str, path: &str, to: &Path) -> RestoreReport {
        let mirror = Mirror::open(&self.mirror("")).unwrap();
        restore(&mirror, &self.restore_options(version, path, to), &self.troubles).unwrap()
    }

    pub(crate) fn verify(&self) -> VerifyReport {
        verify(&Mirror::open(&self.mirror("")).unwrap(), &self.troubles).unwrap()
    }

    /// Every version comes back as the source was, by us and by both scripts; the newest lies there
    /// plain; nothing is damaged.
    pub(crate) fn check(&self) {
        let report = self.verify();
        assert_eq!((report.damaged, report.lost, report.broken), Default::default());
        for (name, expected) in &self.versions {
            let to = tempfile::tempdir().unwrap();
            let report = self.restore(name, "", &to.path().join("back"));
            assert_eq!((report.damaged, report.failed), (Vec::new(), 0));
            assert_eq!(tree(&to.path().join("back")), *expected, "{name}");
            for script in ["restore.sh", "restore.py"] {
                let back = to.path().join(script);
                self.script(script, &[name.as_ref(), back.as_os_str()]);
                assert_eq!(tree(&back), *expected, "{name} by {script}");
            }
        }
    }

    pub(crate) fn script(&self, script: &str, arguments: &[&std::ffi::OsStr]) -> String {
        let program = if script.ends_with(".sh") { "sh" } else { "python3" };
        let output =
            Command::new(program).arg(self.mirror(script)).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{script}: {said}");
        said
    }

    /// Names below a folder of the mirror.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let tree = tree(&self.mirror(below));
        let names = tree.keys().map(|path| path.to_string_lossy().into_owned());
        names.filter(|name| !name.is_empty()).collect()
    }

    /// Other bytes of the same length, as if nobody had written them.
    pub(crate) fn rot(&self, name: &str) {
        let path = self.mirror(name);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }

    /// Makes the mirror believe that a file of the source held other bytes when it was read: as if
    /// the source had rotted since.
    pub(crate) fn rot_source(&self, name: &str, was: &[u8]) {
        let hex = |bytes: &[u8]| Seal(sha256(bytes)).to_string();
        let is = fs::read(self.source(name)).unwrap();
        let modified = fs::metadata(self.source(name)).unwrap().modified().unwrap();
        fs::write(self.mirror("latest").join(name), was).unwrap();
        let file = fs::File::options().write(true).open(self.mirror("latest").join(name)).unwrap();
        file.set_modified(modified).unwrap();
        let seals = self.reseal(".lastgood/latest", &hex(&is), &hex(was));
        self.reseal(".lastgood/versions", &seals.0, &seals.1);
    }

    /// Puts one word in the place of another, and the right seal below it; returns both seals.
    pub(crate) fn reseal(&self, text: &str, from: &str, to: &str) -> (String, String) {
        let path = self.mirror(text);
        let text = fs::read_to_string(&path).unwrap();
        let (body, seal) = text.trim_end().rsplit_once("seal\t").unwrap();
        let body = body.replace(from, to);
        let new = Seal(sha256(body.as_bytes())).to_string();
        fs::write(&path, format!("{body}seal\t{new}\n")).unwrap();
        (seal.to_owned(), new)
    }

    pub(crate) fn folder_of(&self, version: usize) -> String {
        self.versions[version].0.clone()
    }
}

/// All that a user can see.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut paths = vec![root.to_owned()];
    let mut files = BTreeMap::new();
    while let Some(path) = paths.pop() {
        let Ok(stat) = path.symlink_metadata() else { continue };
        let kind = stat.file_type();
        let relative = path.strip_prefix(root).unwrap().to_owned();
        let content = if kind.is_file() {
            format!("{:?}", fs::read(&path).map(|bytes| bytes.escape_ascii().to_string()))
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii().to_string()
        } else {
            String::new()
        };
        let mut text = format!("{kind:?} {:o} {content}", stat.permissions().mode());
        if !kind.is_symlink() {
            text += &format!(" {}.{:09}", stat.mtime(), stat.mtime_nsec());
        }
        if kind.is_file() && stat.nlink() > 1 {
            let first = files.entry((stat.dev(), stat.ino())).or_insert_with(|| relative.clone());
            text += &format!(" = {}", first.display());
        }
        tree.insert(relative, text);
        if kind.is_dir() {
            let mut children: Vec<PathBuf> =
                fs::read_dir(&path).into_iter().flatten().map(|it| it.unwrap().path()).collect();
            children.sort();
            paths.extend(children);
        }
    }
    tree
}
