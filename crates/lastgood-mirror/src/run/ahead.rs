//! Reading ahead: while one file is written, the next ones are read and hashed by another thread.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use lastgood_host::metadata::Details;
use lastgood_host::scan::{Directory, Stat};
use lastgood_host::source::{SourceFile, Stability};

use super::intake::Taken;
use super::scan::Wanted;
use crate::record::{self, Path};
use crate::sheet::Sheet;
use crate::text;

/// A small file that was read whole, and did not change meanwhile.
pub(super) struct Whole {
    pub(super) stat: Stat,
    pub(super) details: Details,
    pub(super) bytes: Vec<u8>,
    pub(super) hash: [u8; 32],
}

/// Files in the order of their paths. Whatever could not be read ahead, for whatever reason, is read
/// when its turn comes.
pub(super) struct Ahead {
    files: Receiver<Batch>,
    next: VecDeque<(Path, Whole)>,
}

/// Files that are handed over at once: each handover may wake a thread, which costs more than a
/// small file does.
pub(super) type Batch = Vec<(Path, Whole)>;

impl Ahead {
    /// Where files are taken, and where [`read`] puts them.
    pub(super) fn new() -> (Self, SyncSender<Batch>) {
        let (sender, files) = sync_channel(BATCHES_MAX);
        (Self { files, next: VecDeque::new() }, sender)
    }

    /// The file at a path, if it was read ahead. Those before it are not asked for any more.
    pub(super) fn take(&mut self, path: &[u8]) -> Option<Whole> {
        loop {
            while self.next.is_empty() {
                self.next = self.files.recv().ok()?.into();
            }
            match self.next.front()?.0.as_ref().cmp(path) {
                Ordering::Less => drop(self.next.pop_front()),
                Ordering::Equal => return self.next.pop_front().map(|(_, whole)| whole),
                Ordering::Greater => return None,
            }
        }
    }
}

/// Reads the small files that a sheet wants read and nobody has, until nobody takes them any more.
pub(super) fn read(root: &Directory, wanted: &Sheet, taken: &Taken, to: &SyncSender<Batch>) {
    let mut parents = Parents::default();
    let (mut batch, mut bytes) = (Batch::new(), 0);
    for line in wanted.lines() {
        // Trouble with a line is that of who looks at it next.
        let Ok(line) = line else { return };
        if !Wanted::is_read(&line) {
            continue;
        }
        let seen = match Wanted::parse(wanted, &line) {
            // The other names of a file need not be read.
            Ok(Wanted::Read(seen) | Wanted::Check(seen))
                if seen.link.is_none() && !taken.has(&line.path) =>
            {
                seen
            }
            Ok(_) => continue,
            Err(_) => return,
        };
        if seen.size() <= BYTES_MAX
            && let Some(whole) = whole(root, &mut parents, &line.path)
        {
            bytes += whole.bytes.len();
            batch.push((line.path, whole));
        }
        let is_full = batch.len() >= BATCH_FILES || bytes >= BATCH_BYTES;
        if is_full && to.send(std::mem::take(&mut batch)).is_err() {
            return;
        }
        if is_full {
            bytes = 0;
        }
    }
    // Nobody takes it where nothing more is wanted.
    drop(to.send(batch));
}

fn whole(root: &Directory, parents: &mut Parents, path: &[u8]) -> Option<Whole> {
    let directory = parents.of(root, path).ok()?;
    let file = SourceFile::open(directory.unwrap_or(root), record::name(path)).ok()?;
    let stat = *file.stat();
    if stat.size > BYTES_MAX || stat.is_sparse() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(stat.size).ok()? + 1];
    let count = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(count);
    let details = file.details();
    let is_whole = count as u64 == stat.size && details.unread.is_empty();
    if !is_whole || file.finish().ok()? != Stability::Stable {
        return None;
    }
    let hash = text::sha256(&bytes);
    Some(Whole { stat, details, bytes, hash })
}

/// The directory that was asked for last: files come one directory after the other.
#[derive(Debug, Default)]
pub(super) struct Parents(Option<(Path, Directory)>);

impl Parents {
    /// The directory that a path lies in; `None` is the root itself.
    pub(super) fn of(
        &mut self,
        root: &Directory,
        path: &[u8],
    ) -> Result<Option<&Directory>, lastgood_host::HostError> {
        let parent = record::parent(path).unwrap_or_default();
        if parent.is_empty() {
            return Ok(None);
        }
        if self.0.as_ref().is_none_or(|(known, _)| **known != *parent) {
            self.0 = Some((parent.into(), root.open_descendant(parent)?));
        }
        Ok(self.0.as_ref().map(|(_, directory)| directory))
    }
}

/// Larger files are read when they are written.
const BYTES_MAX: u64 = 256 << 10;
/// So many batches may wait: with the two at either end, not 8 MiB.
const BATCHES_MAX: usize = 4;
const BATCH_FILES: usize = 64;
const BATCH_BYTES: usize = 1 << 20;
