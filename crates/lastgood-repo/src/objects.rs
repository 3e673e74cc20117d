//! Reading and writing all objects but packs: guarded, and mended while they are read.

use std::collections::BTreeSet;
use std::sync::Mutex;

use lastgood_backend::{Backend, BackendError, ErrorKind, ObjectName, PutOutcome};
use lastgood_format::guard::{Guarded, Redundancy, content, guard, guarded_bytes_max};
use lastgood_format::object::{name, object_id};

use crate::error::RepoError;
use crate::packer::lock;

/// Names of the objects that were damaged when they were read, and could be mended.
#[derive(Debug, Default)]
pub(crate) struct Mended(Mutex<BTreeSet<String>>);

impl Mended {
    pub(crate) fn note(&self, object: &str) {
        lock(&self.0).insert(object.to_owned());
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// Puts an object with this content, if its name is free.
pub(crate) fn put(
    backend: &dyn Backend,
    object: &str,
    content: &[u8],
) -> Result<PutOutcome, BackendError> {
    backend.put(&object_name(object), &[&guard(content, Redundancy::of(object))])
}

/// Reads the content of an object, or nothing when there is none.
///
/// Where too much of the object is damaged, the copy that a repair made of it is read. A copy alone
/// says nothing: what has no object of its own name is not there.
pub(crate) fn read(
    backend: &dyn Backend,
    object: &str,
    content_bytes_max: u64,
    mended: &Mended,
) -> Result<Option<Vec<u8>>, RepoError> {
    let found = match inspect(backend, object, content_bytes_max) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) if error.is_damage() => {
            match inspect(backend, &name::repaired(object), content_bytes_max) {
                Ok(Some(Guarded { content, .. })) => Guarded { content, damaged: 1 },
                _ => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    if found.damaged > 0 {
        mended.note(object);
    }
    Ok(Some(found.content))
}

/// Reads an object of its own name, and says how much of it is damaged.
pub(crate) fn inspect(
    backend: &dyn Backend,
    object: &str,
    content_bytes_max: u64,
) -> Result<Option<Guarded>, RepoError> {
    let bytes_max = guarded_bytes_max(content_bytes_max);
    match read_around(backend, &object_name(object), bytes_max) {
        Ok((bytes, _)) => {
            let found = content(&bytes, content_bytes_max, &|content| is_named(object, content));
            found.map(Some).map_err(|error| RepoError::Damaged {
                object: object.to_owned(),
                location: backend.location().to_owned(),
                source: error.into(),
            })
        }
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether an object may have this content: where its name is a hash, that tells.
fn is_named(object: &str, content: &[u8]) -> bool {
    let hashed = [name::KEYS, name::INDEX, name::SNAPSHOTS, name::RELOCATIONS];
    let plain = object.rsplit(name::REPAIRED).next().unwrap_or(object);
    match hashed.iter().find_map(|kind| plain.strip_prefix(kind)) {
        Some(id) => object_id(content).to_string() == id,
        None => true,
    }
}

/// Reads a whole object; where the medium does not give all of it, zeros stand for what is missing.
/// Also says whether that was so.
pub(crate) fn read_around(
    backend: &dyn Backend,
    object: &ObjectName,
    bytes_max: u64,
) -> Result<(Vec<u8>, bool), BackendError> {
    let error = match backend.get(object, bytes_max) {
        Ok(bytes) => return Ok((bytes, false)),
        Err(error) if error.kind == ErrorKind::Unreadable => error,
        Err(error) => return Err(error),
    };
    let length = backend.stat(object)?;
    if length > bytes_max {
        return Err(error);
    }
    let mut bytes = Vec::with_capacity(length as usize);
    let mut part = Vec::new();
    // Large steps first: a disk takes seconds to give up each sector.
    let mut at = 0;
    while at < length {
        let step = length.min(at + STEP_BYTES);
        match backend.get_range(object, at..step, &mut part) {
            Ok(()) => bytes.extend_from_slice(&part),
            Err(error) if error.kind == ErrorKind::Unreadable => {
                for sector in (at..step).step_by(SECTOR_BYTES as usize) {
                    let end = step.min(sector + SECTOR_BYTES);
                    match backend.get_range(object, sector..end, &mut part) {
                        Ok(()) => bytes.extend_from_slice(&part),
                        Err(error) if error.kind == ErrorKind::Unreadable => {
                            bytes.resize(end as usize, 0);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        at = step;
    }
    Ok((bytes, true))
}

/// Turns a name made by [`name`] into the backend's type.
pub(crate) fn object_name(text: &str) -> ObjectName {
    ObjectName::new(text).expect("names made from ids are object names")
}

const STEP_BYTES: u64 = 64 << 10;
const SECTOR_BYTES: u64 = 4 << 10;
