//! A disk that loses what was not synced, under the steps with which the local backend puts.
//!
//! A put is not one step but several: missing directories are made and their parents synced, a
//! file without a name is written and synced, it is linked, its directory is synced. Each step is
//! kept, so that the power can go after any of them, and [`SimulatedDisk::after_power_cut`] decides
//! by a seed what of the unsynced ones reached the disk: each name on its own, in any order, and
//! any sectors of any file. That is less than any journaling file system promises.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

use crate::chance::Chance;

/// A directory of objects on a simulated disk, as one machine sees it through its page cache.
#[derive(Debug)]
pub struct SimulatedDisk {
    /// What the page cache shows.
    shown: MemoryBackend,
    disk: Mutex<Disk>,
    mistake: Option<Mistake>,
}

/// How a backend could be wrong about a disk. For showing that a test would see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The directory of a new name is not synced.
    NameNotSynced,
    /// The parent of a new directory is not synced.
    ParentNotSynced,
    /// The file is not synced before it gets its name.
    DataNotSynced,
    /// The name is given before the data is written and synced.
    NamedFirst,
    /// A sync that fails counts as done.
    FailedSyncIgnored,
    /// The directory of a removed name is not synced.
    RemovalNotSynced,
    /// What others have put counts as durable because it is seen.
    NothingSettled,
}

/// What happens to a file system, one call at a time.
#[derive(Debug, Clone)]
enum Step {
    MakeDirectory(Box<str>),
    SyncDirectory(Box<str>),
    Write {
        file: usize,
        bytes: Arc<[u8]>,
    },
    SyncFile(usize),
    Link {
        file: usize,
        name: ObjectName,
    },
    Unlink(ObjectName),
    /// A sync failed: the data is dropped, and later syncs know nothing of it. What a directory
    /// holds is never dropped: a file system whose journal cannot be written takes no more changes.
    DropFile(usize),
    /// A bit of what was written rots.
    Rot {
        file: usize,
        bit: usize,
    },
    /// All of what was written is gone, and zeros are there.
    Destroy(usize),
}

#[derive(Debug, Default)]
struct Disk {
    steps: Vec<Step>,
    file_count: usize,
    /// What names lead to in the page cache.
    files: BTreeMap<ObjectName, usize>,
    directories: BTreeSet<Box<str>>,
    /// What the process remembers of directories that it synced into their parents.
    durable: BTreeSet<Box<str>>,
    sync_count: usize,
    failing_sync: Option<usize>,
    /// The process is killed before this step.
    killed_at: Option<usize>,
    failed: Vec<FailedCall>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// The object or the listing that it was about.
    pub object: String,
    /// How many steps there had been.
    pub step: usize,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::with(None)
    }

    /// An empty disk and a backend that makes a mistake.
    #[must_use]
    pub fn with(mistake: Option<Mistake>) -> Self {
        Self { shown: MemoryBackend::new(), disk: Mutex::default(), mistake }
    }

    /// How many steps there were: the number of moments at which the power can go, less one.
    #[must_use]
    pub fn step_count(&self) -> usize {
        self.lock().steps.len()
    }

    /// How many syncs there were.
    #[must_use]
    pub fn sync_count(&self) -> usize {
        self.lock().sync_count
    }

    /// The calls that failed.
    #[must_use]
    pub fn failed_calls(&self) -> Vec<FailedCall> {
        self.lock().failed.clone()
    }

    /// Whether something got a name in a directory before the directory was synced for the first
    /// time after so many steps.
    ///
    /// # Panics
    /// When there were fewer steps.
    #[must_use]
    pub fn is_named_before_sync(&self, directory: &str, step_count: usize) -> bool {
        let disk = self.lock();
        let mut later = disk.steps[step_count..].iter();
        let first = later.find(|step| match step {
            Step::Link { name, .. } => directory_of(name) == directory,
            Step::SyncDirectory(synced) => **synced == *directory,
            _ => false,
        });
        matches!(first, Some(Step::Link { .. }))
    }

    /// Lets the sync of this number, counted from 0, fail and drop what it was to write.
    pub fn fail_sync(&self, number: usize) {
        self.lock().failing_sync = Some(number);
    }

    /// Kills the process before the step of this number: from there on every call fails, and what
    /// the page cache holds stays.
    pub fn kill_at(&self, step: usize) {
        self.lock().killed_at = Some(step);
    }

    /// Flips some bit of some object where it lies.
    pub fn rot(&self, chance: &mut Chance) {
        let mut disk = self.lock();
        let objects: Vec<_> = self.shown.objects().into_iter().collect();
        let (name, bytes) = chance.pick(&objects);
        let bit = chance.below(8 * bytes.len());
        let mut rotten = bytes.to_vec();
        flip(&mut rotten, bit);
        self.shown.overwrite(name, &rotten);
        let file = disk.files[name];
        disk.steps.push(Step::Rot { file, bit });
    }

    /// Destroys all that an object holds, where it lies.
    ///
    /// # Panics
    /// When there is no such object.
    pub fn destroy(&self, name: &ObjectName) {
        let mut disk = self.lock();
        let length = self.shown.objects()[name].len();
        self.shown.overwrite(name, &vec![0; length]);
        let file = disk.files[name];
        disk.steps.push(Step::Destroy(file));
    }

    /// What every process sees now.
    #[must_use]
    pub fn shown(&self) -> Objects {
        self.shown.objects()
    }

    /// Lets another process use the disk, which knows nothing of what the last one synced.
    pub fn restart(&self) {
        let mut disk = self.lock();
        disk.killed_at = None;
        disk.durable.clear();
    }

    /// What a disk holds that lost its power after so many steps. `seed` decides what of the rest
    /// was written.
    ///
    /// # Panics
    /// When there were fewer steps.
    #[must_use]
    pub fn after_power_cut(&self, step_count: usize, seed: u64) -> Objects {
        let disk = self.lock();
        let mut platter = Platter::default();
        disk.steps[..step_count].iter().for_each(|step| platter.apply(step));
        platter.survivors(&mut Chance::new(seed))
    }

    /// How many steps are not known to be on the disk after so many.
    ///
    /// # Panics
    /// When there were fewer steps.
    #[must_use]
    pub fn unsynced_count(&self, step_count: usize) -> usize {
        let disk = self.lock();
        let mut platter = Platter::default();
        disk.steps[..step_count].iter().for_each(|step| platter.apply(step));
        platter.pending.len()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // Each step is complete when the lock goes, so a panicking test thread leaves none half done.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps of a put, as `LocalBackend::put` makes them.
    fn put_by_steps(&self, name: &ObjectName, parts: &[&[u8]]) -> io::Result<PutOutcome> {
        let directory = directory_of(name);
        self.make_durable(directory)?;
        let file = self.lock().new_file();
        let write = || {
            self.step(Step::Write { file, bytes: parts.concat().into() })?;
            match self.mistake {
                Some(Mistake::DataNotSynced) => Ok(()),
                _ => self.sync(Step::SyncFile(file), Some(Step::DropFile(file))),
            }
        };
        let link = || {
            let mut disk = self.lock();
            let outcome = self.shown.put(name, parts).map_err(|error| error.source)?;
            if outcome == PutOutcome::Created {
                let linked = disk.step(Step::Link { file, name: name.clone() });
                disk.files.insert(name.clone(), file);
                if linked.is_err() {
                    self.shown.remove(name).map_err(|error| error.source)?;
                }
                linked?;
            }
            Ok::<_, io::Error>(outcome)
        };
        let outcome = if self.mistake == Some(Mistake::NamedFirst) {
            let outcome = link()?;
            write()?;
            outcome
        } else {
            write()?;
            link()?
        };
        if self.mistake != Some(Mistake::NameNotSynced) {
            self.sync_directory(directory)?;
        }
        Ok(outcome)
    }

    fn remove_by_steps(&self, name: &ObjectName) -> io::Result<()> {
        {
            let mut disk = self.lock();
            if self.shown.stat(name).is_ok() {
                disk.step(Step::Unlink(name.clone()))?;
                self.shown.remove(name).map_err(|error| error.source)?;
            }
        }
        match self.mistake {
            Some(Mistake::RemovalNotSynced) => Ok(()),
            _ => self.sync_directory(directory_of(name)),
        }
    }

    /// Makes a directory and those above it, unless the process knows that they are durable.
    fn make_durable(&self, directory: &str) -> io::Result<()> {
        if directory.is_empty() || self.lock().durable.contains(directory) {
            return Ok(());
        }
        let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
        let mut parent = "";
        for end in ends {
            let child = &directory[..end];
            self.lock().make_directory(child)?;
            if self.mistake != Some(Mistake::ParentNotSynced) {
                self.sync_directory(parent)?;
            }
            parent = child;
        }
        self.lock().durable.insert(directory.into());
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.sync(Step::SyncDirectory(directory.into()), None)
    }

    fn sync(&self, done: Step, dropped: Option<Step>) -> io::Result<()> {
        let mut disk = self.lock();
        let fails = disk.failing_sync == Some(disk.sync_count);
        disk.sync_count += 1;
        if !fails {
            return disk.step(done);
        }
        dropped.map_or(Ok(()), |dropped| disk.step(dropped))?;
        match self.mistake {
            Some(Mistake::FailedSyncIgnored) => Ok(()),
            _ => Err(io::Error::other("a test made this sync fail")),
        }
    }

    fn step(&self, step: Step) -> io::Result<()> {
        self.lock().step(step)
    }

    fn alive(&self, action: &'static str, object: &str) -> Result<(), BackendError> {
        let disk = self.lock();
        if !disk.is_killed() {
            return Ok(());
        }
        drop(disk);
        Err(self.fail(action, object, killed()))
    }

    /// The error of a call that failed, which is remembered.
    fn fail(&self, action: &'static str, object: &str, source: io::Error) -> BackendError {
        let mut disk = self.lock();
        let step = disk.steps.len();
        disk.failed.push(FailedCall { object: object.to_owned(), step });
        drop(disk);
        failed(action, object, source)
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    fn is_killed(&self) -> bool {
        self.killed_at.is_some_and(|step| self.steps.len() >= step)
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        if self.is_killed() {
            return Err(killed());
        }
        self.steps.push(step);
        Ok(())
    }

    fn has_directory(&self, path: &str) -> bool {
        path.is_empty() || self.directories.contains(path)
    }

    fn new_file(&mut self) -> usize {
        self.file_count += 1;
        self.file_count - 1
    }

    fn make_directory(&mut self, path: &str) -> io::Result<()> {
        if !self.directories.contains(path) {
            self.step(Step::MakeDirectory(path.into()))?;
            self.directories.insert(path.into());
        }
        Ok(())
    }
}

/// What is surely on the disk, and what may be.
#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<usize, Written>,
    directories: BTreeSet<Box<str>>,
    names: BTreeMap<ObjectName, usize>,
    pending: Vec<Change>,
}

#[derive(Debug)]
struct Written {
    bytes: Arc<[u8]>,
    is_synced: bool,
}

/// A change of one directory that is not synced.
#[derive(Debug)]
struct Change {
    directory: Box<str>,
    what: What,
}

#[derive(Debug)]
enum What {
    Directory(Box<str>),
    Link(ObjectName, usize),
    Unlink(ObjectName),
}

impl Platter {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::MakeDirectory(path) => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                self.change(parent, What::Directory(path.clone()));
            }
            Step::Link { file, name } => {
                self.change(directory_of(name), What::Link(name.clone(), *file));
            }
            Step::Unlink(name) => self.change(directory_of(name), What::Unlink(name.clone())),
            Step::Write { file, bytes } => {
                self.files.insert(*file, Written { bytes: bytes.clone(), is_synced: false });
            }
            Step::SyncFile(file) => {
                if let Some(written) = self.files.get_mut(file) {
                    written.is_synced = true;
                }
            }
            Step::DropFile(file) => {
                if let Some(written) = self.files.get_mut(file) {
                    written.bytes = vec![0; written.bytes.len()].into();
                }
            }
            Step::Rot { file, bit } => {
                if let Some(written) = self.files.get_mut(file) {
                    let mut rotten = written.bytes.to_vec();
                    flip(&mut rotten, *bit);
                    written.bytes = rotten.into();
                }
            }
            Step::Destroy(file) => {
                if let Some(written) = self.files.get_mut(file) {
                    written.bytes = vec![0; written.bytes.len()].into();
                }
            }
            Step::SyncDirectory(path) => {
                let (synced, rest) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|change| change.directory == *path);
                self.pending = rest;
                synced.into_iter().for_each(|change: Change| self.settle(change.what));
            }
        }
    }

    fn change(&mut self, directory: &str, what: What) {
        self.pending.push(Change { directory: directory.into(), what });
    }

    fn settle(&mut self, what: What) {
        match what {
            What::Directory(path) => {
                self.directories.insert(path);
            }
            What::Link(name, file) => {
                self.names.insert(name, file);
            }
            What::Unlink(name) => {
                self.names.remove(&name);
            }
        }
    }

    /// What is there when the power is back.
    fn survivors(mut self, chance: &mut Chance) -> Objects {
        for change in std::mem::take(&mut self.pending) {
            if chance.one_in(2) {
                self.settle(change.what);
            }
        }
        let is_reachable = |name: &ObjectName| {
            let name = name.as_str();
            name.match_indices('/').all(|(at, _)| self.directories.contains(&name[..at]))
        };
        let names = self.names.iter().filter(|(name, _)| is_reachable(name));
        names
            .map(|(name, file)| {
                let bytes = match self.files.get(file) {
                    Some(written) if written.is_synced => written.bytes.clone(),
                    Some(written) => torn(&written.bytes, chance),
                    None => Arc::default(),
                };
                (name.clone(), bytes)
            })
            .collect()
    }
}

/// A file of which some sectors were written, and perhaps not its whole length.
fn torn(bytes: &[u8], chance: &mut Chance) -> Arc<[u8]> {
    let length = if chance.one_in(2) { bytes.len() } else { chance.below(bytes.len() + 1) };
    let mut torn = bytes[..length].to_vec();
    for sector in torn.chunks_mut(SECTOR_BYTES) {
        if chance.one_in(2) {
            sector.fill(0);
        }
    }
    torn.into()
}

fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

fn directory_of(name: &ObjectName) -> &str {
    name.as_str().rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn killed() -> io::Error {
    io::Error::other("the process was killed")
}

fn failed(action: &'static str, object: &str, source: io::Error) -> BackendError {
    let kind = ErrorKind::from(&source);
    BackendError { kind, action, object: object.to_owned(), location: LOCATION.to_owned(), source }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for SimulatedDisk {
    fn location(&self) -> &str {
        self.shown.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        self.put_by_steps(name, parts).map_err(|error| self.fail("write", name.as_str(), error))
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.alive("read", name.as_str())?;
        self.shown.get(name, bytes_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.clear();
        self.alive("read", name.as_str())?;
        self.shown.get_range(name, range, out)
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.alive("stat", name.as_str())?;
        self.shown.stat(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.alive("list", prefix)?;
        self.shown.list(prefix, visit)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.remove_by_steps(name).map_err(|error| self.fail("remove", name.as_str(), error))
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        let directory = prefix.strip_suffix('/').unwrap_or(prefix);
        if self.mistake == Some(Mistake::NothingSettled) || !self.lock().has_directory(directory) {
            return Ok(());
        }
        self.sync_directory(directory).map_err(|error| self.fail("settle", prefix, error))
    }
}

/// As the page cache says it.
const LOCATION: &str = "memory";
/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;
