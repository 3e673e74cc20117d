//! Making a mirror whole again with the help of its source and of repositories.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_format::entry::Content;
use lastgood_host::scan::Directory;
use lastgood_mirror::repair::{self, Donor, Source, Taker, Wanted};
use lastgood_mirror::{Mirror, MirrorError};
use lastgood_repo::{Repository, SnapshotRecord};

use super::{Outcome, Watching};
use crate::job::{Job, Phase};
use crate::repair::file_at;
use crate::view::SnapshotView;

pub use lastgood_mirror::repair::{Healed, RepairReport};

/// What is repaired, and who may help.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// The directory of the mirror.
    pub mirror: PathBuf,
    /// Repositories that may have backed up the same source.
    pub repositories: Vec<Arc<Repository>>,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// Reads everything, and takes what is damaged or lost from whoever has it: the mirror itself, the
/// source, the repositories. What nobody has is recorded as lost.
#[must_use]
pub fn start_repair(options: RepairOptions) -> Job<Outcome<RepairReport>> {
    Job::spawn(move |control| {
        control.enter(Phase::Verifying);
        let watch = Watching::new(control);
        let mirror = match options.dry_run {
            true => Mirror::open(&options.mirror)?,
            false => {
                let (mirror, done) = Mirror::open_to_change(&options.mirror)?;
                done.tell(&watch);
                mirror
            }
        };
        let source = mirror.subject()?.source;
        let mut donors: Vec<Box<dyn Donor>> = Vec::new();
        if let Ok(root) = Directory::open_root(&source) {
            donors.push(Box::new(Source::new(root)));
        }
        for repo in &options.repositories {
            donors.push(Box::new(Stored {
                repo: repo.clone(),
                records: repo.snapshots()?.live,
                source: source.as_os_str().as_bytes().to_vec(),
            }));
        }
        let report = repair::repair(&mirror, &mut donors, options.dry_run, &watch)?;
        Ok(watch.outcome(report))
    })
}

/// A repository that has backed up the source.
struct Stored {
    repo: Arc<Repository>,
    records: Vec<SnapshotRecord>,
    source: Vec<u8>,
}

impl Donor for Stored {
    fn name(&self) -> String {
        format!("the repository in {}", self.repo.location())
    }

    fn offer(&mut self, wanted: &Wanted<'_>, taker: &mut Taker<'_>) -> Result<bool, MirrorError> {
        let path = [&self.source, &b"/"[..], wanted.path].concat();
        // The same state is likeliest in what was made at about the same time.
        self.records.sort_by_key(|it| it.snapshot.started.seconds.abs_diff(wanted.time.seconds));
        let mut read: HashSet<Content> = HashSet::new();
        for record in &self.records {
            let Ok(view) = SnapshotView::open(&self.repo, record.clone()) else { continue };
            let Ok(Some((size, content))) = file_at(&view, &path) else { continue };
            if size == wanted.size
                && read.insert(content)
                && self.offer_file(&view, (size, content), taker)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Stored {
    /// Offers one file; a damaged one is given up.
    fn offer_file(
        &self,
        view: &SnapshotView,
        (size, content): (u64, Content),
        taker: &mut Taker<'_>,
    ) -> Result<bool, MirrorError> {
        taker.begin()?;
        let mut refused = None;
        let read = view.read_file(size, content, &mut |bytes| {
            taker.write(bytes).map_err(|error| {
                refused = Some(MirrorError::Host(error));
                crate::Error::new(crate::ErrorKind::Cancelled, "the mirror takes no more")
            })
        });
        match (refused, read) {
            (Some(error), _) => Err(error),
            (None, Err(_)) => Ok(false),
            (None, Ok(())) => Ok(taker.is_wanted()),
        }
    }
}
