//! Files that are open for reading, kept for the next range.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ObjectName;
use crate::backend::out_of_range;

/// The objects read last, open. Objects never change, so neither does what is read from them.
#[derive(Debug, Default)]
pub(super) struct OpenObjects(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    objects: HashMap<ObjectName, (Arc<OpenObject>, u64)>,
    /// Counts uses: the entry with the lowest number was used longest ago.
    uses: u64,
}

/// An object that is open for reading.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl OpenObjects {
    /// The object under `name`, opened by `open` unless it is open.
    pub(super) fn get_or_open(
        &self,
        name: &ObjectName,
        open: impl FnOnce() -> io::Result<OpenObject>,
    ) -> io::Result<Arc<OpenObject>> {
        if let Some(object) = self.lock().get(name) {
            return Ok(object);
        }
        let object = Arc::new(open()?);
        self.lock().insert(name, &object);
        Ok(object)
    }

    pub(super) fn forget(&self, name: &ObjectName) {
        self.lock().objects.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        // A cache: whatever a panicking holder left is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn get(&mut self, name: &ObjectName) -> Option<Arc<OpenObject>> {
        self.uses += 1;
        let (object, used) = self.objects.get_mut(name)?;
        *used = self.uses;
        Some(Arc::clone(object))
    }

    fn insert(&mut self, name: &ObjectName, object: &Arc<OpenObject>) {
        if self.objects.len() >= OPEN_OBJECTS_MAX {
            let oldest = self.objects.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.objects.remove(&oldest);
            }
        }
        self.uses += 1;
        self.objects.insert(name.clone(), (Arc::clone(object), self.uses));
    }
}

impl OpenObject {
    /// Fills `out` from `offset` on; the object must be long enough.
    pub(super) fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                out_of_range(format!("its file was cut short, it had {} bytes", self.bytes))
            }
            _ => error,
        })
    }
}

/// How many files stay open. Each may keep the space of an object that others removed.
const OPEN_OBJECTS_MAX: usize = 64;
