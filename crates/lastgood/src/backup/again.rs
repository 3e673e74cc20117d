//! Reading sources again without storing anything: what of them is looked for is offered to a
//! recovery.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::{BlobReader, Recovery, Repository};

use super::engine::Engine;
use super::record::Record;
use super::{BackupOptions, compile, sources};
use crate::error::Error;
use crate::job::Control;

/// Reads `paths` as a backup that knows no baseline and leaves nothing out would, and offers every
/// blob that it would store.
pub(crate) fn read_again(
    repo: &Arc<Repository>,
    paths: Vec<PathBuf>,
    chunker: Option<ChunkerParams>,
    state: PathBuf,
    recovery: &Mutex<Recovery>,
    control: &Control,
) -> Result<(), Error> {
    let mut options = BackupOptions { chunker, dry_run: true, ..BackupOptions::new(paths, state) };
    let sources = sources::absolute(&options.sources)?;
    let selection = compile(repo, &mut options.select, &sources)?;
    let clock = &repo.world().clock;
    let writer = repo.keys().writer(&[0; 16]).writer_id();
    let chain = repo.snapshots()?.next_in_chain(writer, &[]);
    let record = Record::new(&options, &sources, None, chain, clock.now(), &**clock);
    let reader = BlobReader::new(repo.clone());
    let mut engine = Engine::new(
        repo,
        None,
        &reader,
        &record,
        i64::MIN,
        &selection,
        &sources,
        &options,
        control,
    )?;
    engine.recovery = Some(recovery);
    engine.run()?;
    Ok(())
}
