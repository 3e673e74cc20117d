//! A world whose randomness a seed makes, and a repository that lives in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lastgood::backup::{BackupOptions, BackupReport};
use lastgood::check::{CheckOptions, ReadData};
use lastgood::{
    ChunkerParams, Credential, Error, Repository, Settings, SnapshotRecord, WorkFactors, World,
    system,
};
use lastgood_backend::Backend;
use lastgood_format::key::Secret;
use lastgood_repo::{InitOptions, OpenOptions, Random};
use lastgood_testkit::chance::Chance;

use crate::place::noise;

/// The real clock, since real files have real times, and randomness by a seed.
pub(super) fn world(seed: u64) -> World {
    World { random: Arc::new(Seeded(AtomicU64::new(seed << 32))), ..system::world() }
}

struct Seeded(AtomicU64);

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut chance = Chance::new(self.0.fetch_add(1, Ordering::Relaxed));
        for bytes in out.chunks_mut(8) {
            bytes.copy_from_slice(&chance.number().to_le_bytes()[..bytes.len()]);
        }
    }
}

pub(super) fn key_file(number: u8) -> Credential {
    Credential::KeyFile(Secret::new([number; 32]))
}

pub(super) fn create(backend: Arc<dyn Backend>, seed: u64) -> Result<Arc<Repository>, Error> {
    let init = InitOptions {
        credential: key_file(0),
        label: "first".to_owned(),
        work: WorkFactors::DEFAULT,
        chunker: ChunkerParams::Fixed { block: 4 << 10 },
    };
    let made = Repository::create(backend, world(seed), &init, OpenOptions::default())?;
    Ok(Arc::new(made))
}

pub(super) fn open(
    backend: Arc<dyn Backend>,
    seed: u64,
    key: u8,
) -> Result<Arc<Repository>, Error> {
    let opened = Repository::open(backend, world(seed), &key_file(key), OpenOptions::default())?;
    Ok(Arc::new(opened))
}

/// Everything is read and compared with its id.
pub(super) fn check(repo: &Arc<Repository>) -> Result<Vec<String>, Error> {
    let options = CheckOptions { read_data: ReadData::All, threads: 1 };
    Ok(lastgood::check::start(repo.clone(), options).wait(drop)?.damage)
}

/// A small tree that changes.
pub(super) struct Source {
    folder: tempfile::TempDir,
    chance: Mutex<Chance>,
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir_in(fastest()).unwrap();
        for directory in ["a", "b/c"] {
            fs::create_dir_all(folder.path().join("source").join(directory)).unwrap();
        }
        let this = Self { folder, chance: Mutex::new(Chance::new(seed)) };
        (0..4).for_each(|_| this.change());
        this
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes or removes one of eight files, or changes a little of it.
    pub(super) fn change(&self) {
        let mut chance = self.chance.lock().unwrap();
        let folder = *chance.pick(&["", "a", "b", "b/c"]);
        let path = self.path().join(folder).join(*chance.pick(&["one", "two"]));
        if chance.one_in(5) && path.exists() {
            fs::remove_file(path).unwrap();
        } else if chance.one_in(3) && path.exists() {
            let mut bytes = fs::read(&path).unwrap();
            let at = chance.below(bytes.len());
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        } else {
            let bytes = 1 + chance.below(20_000);
            // Some content comes again.
            fs::write(path, noise(chance.number() % 16, bytes)).unwrap();
        }
    }

    pub(super) fn options(&self) -> BackupOptions {
        BackupOptions {
            host: "here".to_owned(),
            host_id: [7; 16],
            user: "me".to_owned(),
            threads: 1,
            partial_every_seconds: None,
            settings: Settings {
                group_bytes: 8 << 10,
                pack_bytes: 16 << 10,
                uploads: 1,
                ..Settings::default()
            },
            ..BackupOptions::new(vec![self.path()], self.beside("state"))
        }
    }

    pub(super) fn backup(&self, repo: &Arc<Repository>) -> Result<SnapshotRecord, Error> {
        self.backup_with(repo, self.options())
    }

    pub(super) fn backup_with(
        &self,
        repo: &Arc<Repository>,
        options: BackupOptions,
    ) -> Result<SnapshotRecord, Error> {
        let report = self.backup_reporting(repo, options)?;
        Ok(report.snapshot.expect("a run that succeeds commits"))
    }

    pub(super) fn backup_reporting(
        &self,
        repo: &Arc<Repository>,
        options: BackupOptions,
    ) -> Result<BackupReport, Error> {
        let report = lastgood::backup::start(repo.clone(), options).wait(drop)?;
        assert_eq!(report.problems.listed, [], "the source is whole");
        Ok(report)
    }
}

/// Memory, where the system has it as a folder: the disk that is tortured is a simulated one.
fn fastest() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
