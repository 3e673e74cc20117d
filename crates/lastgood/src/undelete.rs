//! Undelete: bringing back snapshots that were forgotten and that gc has not removed yet.

use std::path::Path;
use std::sync::Arc;

use lastgood_repo::{Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::snapshots::{Change, Filter, Rewriter};

/// A forgotten snapshot.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// Whether all that it needs is still there, and not about to go.
    pub is_whole: bool,
}

/// The snapshots that were forgotten, whose records are still there, and in whose place no other
/// stands; oldest first.
///
/// # Errors
/// When they cannot be listed.
pub fn list(repo: &Arc<Repository>, filter: &Filter) -> Result<Vec<Forgotten>, Error> {
    let mut records = Vec::new();
    for record in repo.snapshots()?.retired {
        if filter.accepts(&record.snapshot) && repo.replaced_by(record.id)?.is_none() {
            records.push(record);
        }
    }
    let whole = repo.may_take_over(&records)?;
    let found = records.into_iter().zip(whole);
    Ok(found.map(|(record, is_whole)| Forgotten { record, is_whole }).collect())
}

/// Brings a forgotten snapshot back, as a new one with the same content. What was forgotten stays
/// forgotten: its record says so for ever.
///
/// # Errors
/// [`ErrorKind::Conflict`] when gc has removed what it needs, or is about to.
pub fn undelete(
    repo: &Arc<Repository>,
    state: &Path,
    record: &SnapshotRecord,
    program: &str,
) -> Result<SnapshotRecord, Error> {
    let gone = || {
        let text = format!("gc has removed what snapshot {} needs, or is about to", record.id);
        Error::new(ErrorKind::Conflict, text)
    };
    match Rewriter::open(repo, state, program)?.copy(record, Change::none(record)) {
        Ok(copy) => copy.ok_or_else(gone),
        // The pages that say which packs it needs are among what is gone.
        Err(error) if error.is_missing_blob() => Err(gone()),
        Err(error) => Err(error.into()),
    }
}
