//! Where blobs go, and why a worker stops.

use std::sync::atomic::Ordering;

use lastgood_host::HostError;
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::recipe::Part;
use lastgood_repo::{BlobWriter, RepoError};

use super::engine::{Engine, lock};
use crate::error::Error;

/// Stores blobs, or only counts them in a dry run.
pub(super) enum Sink<'a> {
    Store(Box<BlobWriter>),
    Imagine(&'a Engine<'a>),
}

impl Sink<'_> {
    /// Stores a blob and returns its id.
    pub(super) fn add(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<BlobId, Stop> {
        match self {
            Self::Store(writer) => Ok(writer.add(kind, bytes)?),
            Self::Imagine(engine) => {
                let id = engine.repo.keys().blob_id(kind, bytes);
                if let Some(recovery) = engine.recovery {
                    let mut recovery = lock(recovery);
                    if recovery.is_wanted(id) {
                        recovery.offer(kind, bytes)?;
                    }
                }
                let is_known =
                    engine.index.find(id, &mut |_| true).is_some() || !engine.imagined.insert(id);
                let counts = &engine.counts;
                if kind == BlobKind::Chunk {
                    let counter =
                        if is_known { &counts.imagined_known } else { &counts.imagined_bytes };
                    counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                Ok(id)
            }
        }
    }

    /// Hands over what is left in buffers.
    pub(super) fn finish(self) -> Result<(), Stop> {
        match self {
            Self::Store(writer) => Ok(writer.finish()?),
            Self::Imagine(_) => Ok(()),
        }
    }

    /// Stores chunks that lie one after the other, each up to one of `ends`; `previous` are those of
    /// the version before.
    pub(super) fn add_chunks(
        &mut self,
        bytes: &[u8],
        ends: &[usize],
        previous: &[BlobId],
    ) -> Result<Vec<Part>, Stop> {
        let mut ids = Vec::with_capacity(ends.len());
        let starts = std::iter::once(0).chain(ends.iter().copied());
        match self {
            Self::Store(writer) => writer.add_chunks(bytes, ends, previous, &mut ids)?,
            Self::Imagine(_) => {
                for (start, &end) in starts.clone().zip(ends) {
                    ids.push(self.add(BlobKind::Chunk, &bytes[start..end])?);
                }
            }
        }
        let lengths = starts.zip(ends).map(|(start, end)| (end - start) as u32);
        Ok(ids.into_iter().zip(lengths).map(|(id, bytes)| Part::Chunk { id, bytes }).collect())
    }
}

/// Why a worker stops before its work is done.
#[derive(Debug)]
pub(super) enum Stop {
    /// The session failed.
    Repo(RepoError),
    /// This host failed the run itself, and not one of its files.
    Host(HostError),
    /// The user cancelled.
    Cancelled,
}

impl From<RepoError> for Stop {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Repo(error) => error.into(),
            Stop::Host(error) => error.into(),
            Stop::Cancelled => Self::cancelled(),
        }
    }
}
