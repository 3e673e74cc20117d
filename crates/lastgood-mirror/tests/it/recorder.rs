//! A directory that remembers each change of it, so that the power can go after any of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::metadata::Unset;
use lastgood_host::scan::Stat;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;
use lastgood_mirror::place::{HostPlace, Place};
use lastgood_testkit::chance::Chance;

type Name = Box<[u8]>;

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    MakeDirectory(Name),
    /// A file and what it held when the next change came.
    File(Name, Vec<u8>),
    Symlink(Name, Name),
    Link(Name, Name),
    Rename(Name, Name),
    Remove(Name),
    RemoveDirectory(Name),
    Look(Name, Box<Entry>),
    Sync,
}

/// Does what it is told on a real directory, and writes it down.
pub(crate) struct Recorder {
    inner: HostPlace,
    root: PathBuf,
    steps: Mutex<Vec<Step>>,
}

impl Recorder {
    pub(crate) fn new(root: &Path) -> Self {
        let inner = HostPlace::open(root).unwrap();
        Self { inner, root: root.into(), steps: Mutex::default() }
    }

    /// All changes so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.settle();
        self.steps.lock().unwrap().clone()
    }

    /// Notes what the file holds that was made last.
    fn settle(&self) {
        if let Some(Step::File(name, bytes)) = self.steps.lock().unwrap().last_mut() {
            let name = std::str::from_utf8(name).unwrap();
            *bytes = fs::read(self.root.join(name)).unwrap_or_default();
        }
    }

    fn note(&self, step: impl FnOnce() -> Step) {
        self.settle();
        self.steps.lock().unwrap().push(step());
    }
}

impl Place for Recorder {
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError> {
        self.inner.stat(path)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Name>, HostError> {
        self.inner.list(path)
    }

    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError> {
        self.inner.open(path)
    }

    fn read_link(&self, path: &[u8]) -> Result<Option<Name>, HostError> {
        self.inner.read_link(path)
    }

    fn make_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.inner.make_directory(path)?;
        self.note(|| Step::MakeDirectory(path.into()));
        Ok(())
    }

    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError> {
        self.settle();
        let file = self.inner.create(path)?;
        self.note(|| Step::File(path.into(), Vec::new()));
        Ok(file)
    }

    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), HostError> {
        self.inner.make_symlink(path, target)?;
        self.note(|| Step::Symlink(path.into(), target.into()));
        Ok(())
    }

    fn link(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.settle();
        self.inner.link(from, to)?;
        self.note(|| Step::Link(from.into(), to.into()));
        Ok(())
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.settle();
        self.inner.rename(from, to)?;
        self.steps.lock().unwrap().push(Step::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &[u8]) -> Result<(), HostError> {
        self.settle();
        self.inner.remove(path)?;
        self.steps.lock().unwrap().push(Step::Remove(path.into()));
        Ok(())
    }

    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.inner.remove_directory(path)?;
        self.note(|| Step::RemoveDirectory(path.into()));
        Ok(())
    }

    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError> {
        let unset = self.inner.look(path, entry)?;
        self.note(|| Step::Look(path.into(), Box::new(entry.clone())));
        Ok(unset)
    }

    fn dress(
        &self,
        path: &[u8],
        file: &TargetFile,
        entry: &Entry,
    ) -> Result<Vec<Unset>, HostError> {
        let unset = self.inner.dress(path, file, entry)?;
        self.note(|| Step::Look(path.into(), Box::new(entry.clone())));
        Ok(unset)
    }

    fn sync(&self) -> Result<(), HostError> {
        self.note(|| Step::Sync);
        Ok(())
    }
}

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process is killed: all that was done is there.
    Killed,
    /// The power goes: of what was not synced, a seed decides what is there, each change on its own
    /// and files cut or full of zeros.
    Power(u64),
}

/// Copies a tree with all that a user can see.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Makes of a copy of the directory, as it was before the first step, what it is after the end.
pub(crate) fn replay(steps: &[Step], end: End, root: &Path) {
    let place = HostPlace::open(root).unwrap();
    let synced = match end {
        End::Killed => steps.len(),
        End::Power(_) => steps.iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0),
    };
    steps[..synced].iter().for_each(|step| apply(step, &place, None));
    if let End::Power(seed) = end {
        let mut chance = Chance::new(seed);
        for step in &steps[synced..] {
            if chance.one_in(2) {
                apply(step, &place, Some(&mut chance));
            }
        }
    }
}

/// Does one step; what it needs may have been lost.
fn apply(step: &Step, place: &HostPlace, torn: Option<&mut Chance>) {
    match step {
        Step::MakeDirectory(path) => drop(place.make_directory(path)),
        Step::File(path, bytes) => {
            let Ok(file) = place.create(path) else { return };
            let mut bytes = bytes.clone();
            if let Some(chance) = torn {
                match chance.below(3) {
                    0 => bytes.truncate(chance.below(bytes.len() + 1)),
                    1 => bytes.fill(0),
                    _ => {}
                }
            }
            file.write_at(&bytes, 0).unwrap();
        }
        Step::Symlink(path, target) => drop(place.make_symlink(path, target)),
        Step::Link(from, to) => drop(place.link(from, to)),
        Step::Rename(from, to) => drop(place.rename(from, to)),
        Step::Remove(path) => drop(place.remove(path)),
        Step::RemoveDirectory(path) => drop(place.remove_directory(path)),
        Step::Look(path, entry) => drop(place.look(path, entry)),
        Step::Sync => {}
    }
}
