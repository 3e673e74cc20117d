//! Lost blobs from a mirror of the same files: its files are read, cut as the repository cuts them,
//! and what has the right id is taken.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use lastgood_host::HostError;
use lastgood_host::source::SourceFile;
use lastgood_mirror::{Mirror, MirrorError, View};
use lastgood_repo::{LostBlobs, Recovery, Repository, SnapshotRecord};

use super::foreign::{Cutting, files_of};
use super::proceed;
use crate::error::Error;
use crate::job::Control;

/// Offers what the versions of a mirror hold at the paths that are affected.
pub(super) fn ask(
    repo: &Repository,
    path: &Path,
    records: &[SnapshotRecord],
    lost: &LostBlobs,
    recovery: &Mutex<Recovery>,
    control: &Control,
) -> Result<(), Error> {
    let mirror = Mirror::open(path)?;
    // Damage in the text of an old version leaves the newest.
    let view = mirror.view().or_else(|_| mirror.view_from(usize::MAX))?;
    let source = mirror.subject()?.source;
    let source = source.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default();
    for record in records {
        let snapshot = &record.snapshot;
        let Ok(params) = snapshot.chunker.params() else { continue };
        let chunker = repo.chunker(params);
        // The same state is likeliest in what was made at about the same time.
        let mut near: Vec<usize> =
            (view.first.min(view.versions.len() - 1)..view.versions.len()).collect();
        let distance =
            |k: &usize| view.versions[*k].time.seconds.abs_diff(snapshot.started.seconds);
        near.sort_by_key(distance);
        for path in files_of(record, lost) {
            let Some(below) = below(path, source) else { continue };
            let mut read = HashSet::new();
            for &k in &near {
                proceed(control)?;
                let Some(file) = unread(&mirror, &view, k, below, &mut read)? else { continue };
                let mut cutting = Cutting::new(repo, &chunker, recovery);
                offer(&file, &mut cutting)?;
            }
        }
    }
    Ok(())
}

/// A path of a snapshot as it is below the source of the mirror.
fn below<'a>(path: &'a [u8], source: &[u8]) -> Option<&'a [u8]> {
    match source {
        b"" => Some(path),
        source => path.strip_prefix(source)?.strip_prefix(b"/"),
    }
}

/// The file that a version has at a path, whole, unless its bytes were read before.
fn unread(
    mirror: &Mirror,
    view: &View,
    k: usize,
    path: &[u8],
    read: &mut HashSet<lastgood_format::id::BlobId>,
) -> Result<Option<SourceFile>, MirrorError> {
    let Some(present) = view.history().state(k - view.first, path)? else { return Ok(None) };
    match present.hash() {
        Some(hash) if read.insert(hash) => match view.open(mirror, k, path, &present) {
            // Another version may have it.
            Err(MirrorError::Host(_)) => Ok(None),
            found => found,
        },
        _ => Ok(None),
    }
}

/// Offers the chunks of a file and the pages of its recipe.
fn offer(file: &SourceFile, cutting: &mut Cutting<'_>) -> Result<(), Error> {
    let mut buffer = vec![0; READ_BYTES];
    let mut position = 0;
    for range in file.extents() {
        let Ok(range) = range else { return Ok(()) };
        if range.start > position {
            cutting.hole(range.start - position)?;
        }
        position = range.start;
        while position < range.end {
            let wanted = usize::try_from(range.end - position).unwrap_or(READ_BYTES);
            let found: Result<usize, HostError> =
                file.read_at(&mut buffer[..wanted.min(READ_BYTES)], position);
            // It was whole a moment ago; what was offered so far is right all the same.
            let Ok(count @ 1..) = found else { return Ok(()) };
            cutting.data(&buffer[..count])?;
            position += count as u64;
        }
    }
    if file.stat().size > position {
        cutting.hole(file.stat().size - position)?;
    }
    Ok(cutting.finish()?)
}

const READ_BYTES: usize = 256 << 10;
