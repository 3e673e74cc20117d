//! Memory, for tests and simulation.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{listed_directory, out_of_range};
use crate::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

/// Keeps objects in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    objects: Objects,
    /// When each was put, where that was not at 0.
    modified: BTreeMap<ObjectName, i64>,
    now: i64,
}

/// What a [`MemoryBackend`] holds at one moment.
pub type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

impl MemoryBackend {
    /// An empty backend.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All objects as they are now. Cheap: the bytes are shared.
    #[must_use]
    pub fn objects(&self) -> Objects {
        self.lock().objects.clone()
    }

    /// Sets the clock, which stands still otherwise, in seconds since 1970. It begins at 0.
    pub fn set_now(&self, now: i64) {
        self.lock().now = now;
    }

    /// Holds exactly `objects` from now on: for tests of rollback and loss.
    pub fn replace(&self, objects: Objects) {
        self.lock().objects = objects;
    }

    /// Stores or overwrites one object, which no [`Backend`] does: for tests of damage.
    pub fn overwrite(&self, name: &ObjectName, bytes: &[u8]) {
        self.lock().objects.insert(name.clone(), bytes.into());
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No change can panic half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, action: &'static str, name: &ObjectName) -> Result<Arc<[u8]>, BackendError> {
        let found = self.lock().objects.get(name).cloned();
        found.ok_or_else(|| error(action, name.as_str(), io::ErrorKind::NotFound.into()))
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> &str {
        LOCATION
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        let bytes = parts.concat();
        let mut kept = self.lock();
        if kept.objects.contains_key(name) {
            return Ok(PutOutcome::Exists);
        }
        if is_refused_by_directories(&kept.objects, name) {
            return Err(error("write", name.as_str(), io::ErrorKind::NotADirectory.into()));
        }
        kept.objects.insert(name.clone(), bytes.into());
        let now = kept.now;
        kept.modified.insert(name.clone(), now);
        Ok(PutOutcome::Created)
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        let bytes = self.find("read", name)?;
        if bytes.len() as u64 > bytes_max {
            let why = format!("it has {} bytes, at most {bytes_max} are read", bytes.len());
            return Err(error("read", name.as_str(), out_of_range(why)));
        }
        Ok(bytes.to_vec())
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.clear();
        let bytes = self.find("read", name)?;
        let start = usize::try_from(range.start).ok();
        let end = usize::try_from(range.end).ok();
        let part = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
        let part = part.ok_or_else(|| {
            let why = format!("it has {} bytes, {range:?} were asked for", bytes.len());
            error("read", name.as_str(), out_of_range(why))
        })?;
        out.extend_from_slice(part);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.find("stat", name).map(|bytes| bytes.len() as u64)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        listed_directory(prefix).map_err(|source| error("list", prefix, source))?;
        let kept = self.lock();
        let listed: Vec<_> = below(&kept.objects, prefix)
            .map(|(name, bytes)| Listed {
                name: name.clone(),
                bytes: bytes.len() as u64,
                modified: kept.modified.get(name).copied().unwrap_or(0),
            })
            .collect();
        drop(kept);
        listed.into_iter().for_each(visit);
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        let mut kept = self.lock();
        kept.objects.remove(name);
        kept.modified.remove(name);
        Ok(())
    }

    fn settle(&self, _: &str) -> Result<(), BackendError> {
        // Nothing survives, and nothing is seen before its put is done.
        Ok(())
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("object_count", &self.lock().objects.len()).finish()
    }
}

impl Borrow<str> for ObjectName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

fn below<'a>(
    objects: &'a Objects,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a ObjectName, &'a Arc<[u8]>)> {
    objects
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(name, _)| name.as_str().starts_with(prefix))
}

/// Whether one of `objects` is a directory on the way to `name`, or the other way round.
fn is_refused_by_directories(objects: &Objects, name: &ObjectName) -> bool {
    let name = name.as_str();
    below(objects, &format!("{name}/")).next().is_some()
        || name.match_indices('/').any(|(at, _)| objects.contains_key(&name[..at]))
}

fn error(action: &'static str, object: &str, source: io::Error) -> BackendError {
    let kind = ErrorKind::from(&source);
    BackendError { kind, action, object: object.to_owned(), location: LOCATION.to_owned(), source }
}

const LOCATION: &str = "memory";
