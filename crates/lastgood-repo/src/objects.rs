//! Reading and writing all objects but packs: guarded, and mended while they are read.

use std::collections::BTreeMap;
use std::sync::Mutex;

use lastgood_backend::{Backend, BackendError, ErrorKind, ObjectName, PutOutcome};
use lastgood_format::guard::{Guarded, Redundancy, content, guard, guarded_bytes_max};
use lastgood_format::limits::{
    GC_LIST_BYTES_MAX, INDEX_BYTES_MAX, REVISION_BYTES_MAX, SMALL_OBJECT_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
};
use lastgood_format::object::{name, object_id};
use lastgood_format::session::Outcome;

use crate::error::RepoError;
use crate::packer::lock;

/// Objects that were damaged when they were read, and of which nothing is lost.
#[derive(Debug, Default)]
pub(crate) struct Mended(Mutex<BTreeMap<String, bool>>);

impl Mended {
    /// Notes an object, and whether it is stored whole under another name or in another place.
    pub(crate) fn note(&self, object: &str, is_repaired: bool) {
        lock(&self.0).insert(object.to_owned(), is_repaired);
    }

    /// Names of those that are whole nowhere.
    pub(crate) fn names(&self) -> Vec<String> {
        let noted = lock(&self.0);
        noted
            .iter()
            .filter(|(_, is_repaired)| !**is_repaired)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// How many there are that were repaired.
    pub(crate) fn repaired_count(&self) -> usize {
        lock(&self.0).values().filter(|&&is_repaired| is_repaired).count()
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
pub(crate) fn read(
    backend: &dyn Backend,
    object: &str,
    content_bytes_max: u64,
    mended: &Mended,
) -> Result<Option<Vec<u8>>, RepoError> {
    let Some(remains) = survey(backend, object, content_bytes_max)? else { return Ok(None) };
    let content = remains.content?;
    if remains.is_damaged {
        mended.note(object, remains.is_whole);
    }
    Ok(Some(content))
}

/// What is left of an object, and of what repairs made of it.
#[derive(Debug)]
pub(crate) struct Remains {
    /// The content of the first that can be read, or why the object cannot.
    pub(crate) content: Result<Vec<u8>, RepoError>,
    /// Whether the object itself has any damage.
    pub(crate) is_damaged: bool,
    /// Whether one of them has none.
    pub(crate) is_whole: bool,
    /// The name under which the next repair goes.
    pub(crate) free: Option<String>,
}

/// Looks at an object and, where it is damaged, at what repairs made of it. That alone says
/// nothing: what has no object of its own name is not there.
pub(crate) fn survey(
    backend: &dyn Backend,
    object: &str,
    content_bytes_max: u64,
) -> Result<Option<Remains>, RepoError> {
    let found = match inspect(backend, object, content_bytes_max) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => return Ok(None),
        Err(error) if error.is_damage() => Err(error),
        Err(error) => return Err(error),
    };
    let is_whole = found.as_ref().is_ok_and(|found| found.damaged == 0);
    let content = found.map(|found| found.content);
    let mut remains = Remains { content, is_damaged: !is_whole, is_whole, free: None };
    let mut at = object.to_owned();
    for _ in 1..REPAIRS_MAX {
        if remains.is_whole {
            break;
        }
        at = name::repaired(&at);
        match inspect(backend, &at, content_bytes_max) {
            Ok(Some(found)) => {
                remains.is_whole = found.damaged == 0;
                if remains.is_whole || remains.content.is_err() {
                    remains.content = Ok(found.content);
                }
            }
            Ok(None) => {
                remains.free = Some(at);
                break;
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(remains))
}

/// Removes an object, and what repairs made of it before: nothing of it is left then.
pub(crate) fn remove(backend: &dyn Backend, object: &str) -> Result<(), BackendError> {
    let mut names = vec![object.to_owned()];
    for number in 1..REPAIRS_MAX {
        names.push(name::repaired(&names[number - 1]));
    }
    names.iter().rev().try_for_each(|name| backend.remove(&object_name(name)))
}

/// Every kind of object but packs: the name or prefix, and the most content one has.
pub(crate) const KINDS: &[(&str, u64)] = &[
    (name::CONFIG, SMALL_OBJECT_BYTES_MAX),
    (name::REVISIONS, REVISION_BYTES_MAX),
    (name::KEYS, SMALL_OBJECT_BYTES_MAX),
    (name::SESSIONS, SMALL_OBJECT_BYTES_MAX),
    (name::INDEX, INDEX_BYTES_MAX),
    (name::SNAPSHOTS, SNAPSHOT_BYTES_MAX),
    (name::OUTCOMES, Outcome::BYTES_MAX),
    (name::RETIRED, SMALL_OBJECT_BYTES_MAX),
    (name::LOST, SMALL_OBJECT_BYTES_MAX),
    (name::CONDEMN, GC_LIST_BYTES_MAX),
    (name::VERDICT, GC_LIST_BYTES_MAX),
    (name::RELOCATIONS, GC_LIST_BYTES_MAX),
    (name::READERS, SMALL_OBJECT_BYTES_MAX),
    (name::LOG, SMALL_OBJECT_BYTES_MAX),
];

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
    let plain = object.trim_start_matches(name::REPAIRED);
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

/// Names that are looked at for one object: its own, and those of repairs of repairs.
const REPAIRS_MAX: usize = 4;
const STEP_BYTES: u64 = 64 << 10;
const SECTOR_BYTES: u64 = 4 << 10;
