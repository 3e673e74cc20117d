//! What differs from a version of a mirror.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use lastgood_diff::{State, compare_live};
use lastgood_format::entry::Entry;
use lastgood_format::id::BlobId;
use lastgood_host::scan::Directory;
use lastgood_mirror::delta::History;
use lastgood_mirror::record;
use lastgood_mirror::{Mirror, MirrorError};

use super::below_source;
use crate::diff::{LiveDirectory, LiveState, Visit};
use crate::error::{Error, ErrorKind};

/// Visits what differs from one version to another, in path order; with a path, only at and below
/// it. Paths are those below the source.
///
/// # Errors
/// [`ErrorKind::NotFound`] names a version; whatever `visit` returns.
pub fn diff(
    target: &Path,
    (before, after): (&str, &str),
    path: Option<&Path>,
    visit: &mut dyn Visit<Error>,
) -> Result<(), Error> {
    let mirror = Mirror::open(target)?;
    let below = path.map(|path| below_source(&mirror, path)).transpose()?.unwrap_or_default();
    let view = mirror.view_back_to(&[before, after])?;
    let (before, after) = (view.index(before)?, view.index(after)?);
    view.history().changes(before - view.first, after - view.first, |path, change| {
        if record::is_below(path, &below) { visit.change(path, change) } else { Ok(()) }
    })
}

/// Visits what changed in the source since a version, or in one directory of it. Files are told
/// apart by size and time, not read. Paths are those below the source.
///
/// # Errors
/// [`ErrorKind::NotFound`] names a version or a path; whatever `visit` returns.
pub fn diff_live(
    target: &Path,
    version: &str,
    path: Option<&Path>,
    visit: &mut dyn Visit<Error>,
) -> Result<(), Error> {
    let mirror = Mirror::open(target)?;
    let below = path.map(|path| below_source(&mirror, path)).transpose()?.unwrap_or_default();
    let view = mirror.view_back_to(&[version])?;
    let k = view.index(version)? - view.first;
    match view.history().state(k, &below)? {
        None => return Err(MirrorError::NoPath(below).into()),
        Some(present) if !present.entry.is_directory() => {
            let path = String::from_utf8_lossy(&below);
            return Err(Error::new(ErrorKind::Invalid, format!("{path:?} is not a directory")));
        }
        Some(_) => {}
    }
    let live = mirror.subject()?.source.join(std::ffi::OsStr::from_bytes(&below));
    let live = LiveDirectory::Open(Arc::new(Directory::open_root(&live)?));
    let mut below = Below { base: &below.clone(), visit };
    lastgood_diff::diff(
        (&mut Recorded { history: view.history(), k }, &Box::from(below.base)),
        (&mut LiveState::default(), &live),
        compare_live,
        &mut below,
    )
}

/// A version as a state: a directory of it is its path.
struct Recorded<'a> {
    history: History<'a>,
    k: usize,
}

impl State for Recorded<'_> {
    type Directory = Box<[u8]>;
    type Error = Error;

    fn list(&mut self, path: &Box<[u8]>) -> Result<Vec<(Entry, Option<Box<[u8]>>)>, Error> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, &b"/"[..]].concat() };
        let mut version = self.history.version(self.k)?;
        version.seek(&prefix)?;
        let mut children = Vec::new();
        while let Some((_, found, present)) = version.next().transpose()? {
            let Some(rest) = found.strip_prefix(&*prefix) else { break };
            match rest.iter().position(|&byte| byte == b'/') {
                // All that lies below a child is passed over.
                Some(end) => version.seek(&[&prefix, &rest[..end], b"0"].concat())?,
                None if rest.is_empty() => {}
                None => {
                    let is_directory = present.entry.is_directory();
                    children.push((present.entry, is_directory.then_some(found)));
                }
            }
        }
        children.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(children)
    }

    fn identity(&self, _: &Box<[u8]>) -> Option<BlobId> {
        None
    }
}

/// Makes paths below the source of those below a directory of it.
struct Below<'a> {
    base: &'a [u8],
    visit: &'a mut dyn Visit<Error>,
}

impl Visit<Error> for Below<'_> {
    fn change(&mut self, path: &[u8], change: crate::diff::Change) -> Result<(), Error> {
        self.visit.change(&record::join(self.base, path), change)
    }

    fn unlisted(&mut self, path: &[u8], error: Error) -> Result<(), Error> {
        self.visit.unlisted(&record::join(self.base, path), error)
    }

    fn is_meant(&mut self, path: &[u8], entry: &Entry) -> bool {
        self.visit.is_meant(&record::join(self.base, path), entry)
    }
}
