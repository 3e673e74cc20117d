//! A place to try things in: a source, a repository, and ways to compare trees.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::backup::{BackupOptions, BackupReport};
use lastgood::restore::{RestoreOptions, RestoreReport};
use lastgood::system::{Home, world};
use lastgood::{Repository, SnapshotRecord};
use lastgood_format::config::DELTAS;
use tempfile::TempDir;

/// A temporary folder with a source, a home and a repository.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) home: Home,
    pub(crate) repo: Arc<Repository>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let home = Home { data: at("data"), cache: at("cache"), state: at("state") };
        fs::create_dir(at("source")).unwrap();
        let repo = lastgood::opening::open_default(&home, world(), "test").unwrap().repo;
        Self { folder, home, repo }
    }

    /// The same, in which chunks may be stored as changes of others.
    pub(crate) fn with_deltas() -> Self {
        let place = Self::new();
        Self { repo: place.repo.upgrade(&[DELTAS]).unwrap(), ..place }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// Opens the repository again, with whatever the cache holds by now.
    pub(crate) fn reopen(&mut self) {
        self.repo = lastgood::opening::open_default(&self.home, world(), "test").unwrap().repo;
    }

    pub(crate) fn options(&self) -> BackupOptions {
        BackupOptions {
            host: "here".to_owned(),
            host_id: [7; 16],
            user: "me".to_owned(),
            threads: 2,
            ..BackupOptions::new(vec![self.source()], self.home.state.clone())
        }
    }

    /// Backs the source up; nothing may go wrong.
    pub(crate) fn backup(&self) -> (BackupReport, SnapshotRecord) {
        let report = self.backup_with(self.options());
        assert_eq!(report.problems.listed, [], "problems of a backup");
        let snapshot = report.snapshot.clone().expect("a snapshot is committed");
        (report, snapshot)
    }

    pub(crate) fn backup_with(&self, options: BackupOptions) -> BackupReport {
        lastgood::backup::start(self.repo.clone(), options).wait(|_| {}).unwrap()
    }

    /// Restores a snapshot into a new folder and compares it with `expected`.
    pub(crate) fn check_restores(
        &self,
        snapshot: &SnapshotRecord,
        expected: &Tree,
    ) -> RestoreReport {
        let target = self.path("target");
        let (report, tree) = self.restore(snapshot, &target);
        assert_eq!(&tree, expected, "the restored tree");
        fs::remove_dir_all(&target).unwrap();
        report
    }

    pub(crate) fn restore(
        &self,
        snapshot: &SnapshotRecord,
        target: &Path,
    ) -> (RestoreReport, Tree) {
        let mut options = RestoreOptions::new(snapshot.clone(), target.to_owned());
        options.host_id = [7; 16];
        let report = lastgood::restore::start(self.repo.clone(), options).wait(|_| {}).unwrap();
        assert_eq!(report.problems.listed, [], "problems of a restore");
        (report, Tree::of(target))
    }
}

/// A tree as an independent look at it finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(pub BTreeMap<OsString, Found>);

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    /// First path of the same file, when it has several.
    linked_to: Option<OsString>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    File { bytes: u64, hash: u64 },
    Link(OsString),
    Other(u64),
    Directory,
}

impl Tree {
    /// Looks at everything below `root`, by the standard library alone.
    pub(crate) fn of(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut links = BTreeMap::new();
        walk(root, root, &mut entries, &mut links);
        for paths in links.into_values() {
            let paths: Vec<OsString> = paths;
            let first = paths.iter().min().cloned();
            if paths.len() > 1 {
                for path in &paths {
                    entries.get_mut(path).unwrap().linked_to.clone_from(&first);
                }
            }
        }
        Self(entries)
    }
}

fn walk(
    root: &Path,
    directory: &Path,
    entries: &mut BTreeMap<OsString, Found>,
    links: &mut BTreeMap<(u64, u64), Vec<OsString>>,
) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let relative = path.strip_prefix(root).unwrap().as_os_str().to_owned();
        if !meta.is_dir() {
            links.entry((meta.dev(), meta.ino())).or_default().push(relative.clone());
        }
        let content = if meta.is_dir() {
            Content::Directory
        } else if meta.is_symlink() {
            Content::Link(fs::read_link(&path).unwrap().into())
        } else if meta.is_file() {
            let bytes = fs::read(&path).unwrap();
            Content::File { bytes: meta.len(), hash: hash(&bytes) }
        } else {
            Content::Other(meta.rdev())
        };
        let found = Found {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            linked_to: None,
            content,
        };
        entries.insert(relative, found);
        if meta.is_dir() {
            walk(root, &path, entries, links);
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Bytes that no chunk repeats in, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// A name of any bytes.
pub(crate) fn name(bytes: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(bytes)
}
