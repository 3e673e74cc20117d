//! Comparing a snapshot with a live source: names, kinds, metadata, and contents by the ids of
//! their chunks. Nothing is written, and no stored content is fetched.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_host::metadata::ApplyPolicy;
use lastgood_host::target::Target;
use lastgood_host::volume;
use lastgood_repo::{Repository, SnapshotRecord};

use crate::error::Error;
use crate::job::{Control, Job, Phase, Problems};
use crate::restore::{self, Choose, Difference, Overwrite, Owners, Run, Scope};

/// What is compared with what.
#[derive(Clone)]
pub struct VerifyOptions {
    /// The snapshot.
    pub snapshot: SnapshotRecord,
    /// The part of it that is meant, as in [`crate::restore::RestoreOptions::subpath`].
    pub subpath: Vec<u8>,
    /// The directory that is to have the content of the part that is meant; `None` for where it
    /// was backed up from.
    pub against: Option<PathBuf>,
    /// What is compared.
    pub choose: Option<Arc<Choose>>,
    /// Whether files of equal length and modification time are taken for equal unread.
    pub quick: bool,
    /// How owners are found.
    pub owners: Owners,
    /// Whether an [`Event::Item`](crate::Event) is sent for each path.
    pub items: bool,
    /// Workers; 0 for as many as there are cores.
    pub threads: usize,
    /// Id of this host; all zeros when it is not known.
    pub host_id: [u8; 16],
}

impl VerifyOptions {
    /// All of `snapshot` against where it was backed up from.
    #[must_use]
    pub fn new(snapshot: SnapshotRecord) -> Self {
        Self {
            snapshot,
            subpath: Vec::new(),
            against: None,
            choose: None,
            quick: false,
            owners: Owners::Auto,
            items: false,
            threads: 0,
            host_id: [0; 16],
        }
    }
}

impl std::fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyOptions({})", self.snapshot.id)
    }
}

/// What differs between a snapshot and a live source.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// The directory that was looked at.
    pub against: PathBuf,
    /// Entries that are equal.
    pub equal: u64,
    /// Entries that are not, or are on one side only.
    pub different: u64,
    /// The first [`Problems::LISTED_MAX`] of them, told as what a restore would do about them:
    /// [`Change::Created`](crate::restore::Change) is missing from the live source,
    /// [`Change::Deleted`](crate::restore::Change) is only there.
    pub differences: Vec<Difference>,
    /// Bytes of content that were read and are equal.
    pub bytes: u64,
    /// What could not be compared.
    pub problems: Problems,
}

/// Compares.
#[must_use]
pub fn start(repo: Arc<Repository>, options: VerifyOptions) -> Job<VerifyReport> {
    Job::spawn(move |control| verify(control, &repo, &options))
}

fn verify(
    control: &Control,
    repo: &Arc<Repository>,
    options: &VerifyOptions,
) -> Result<VerifyReport, Error> {
    let snapshot = &options.snapshot.snapshot;
    let reader = restore::reader(repo, &options.snapshot, control)?;
    let scope = Scope::find(&reader, snapshot, &options.subpath, false)?;
    volume::raise_open_file_limit().ok();
    let against = options
        .against
        .clone()
        .unwrap_or_else(|| PathBuf::from(OsStr::from_bytes(&[b"/", &scope.path[..]].concat())));
    let target = Target::open_existing(&against)?;
    let is_own = options.host_id == snapshot.host_id && options.host_id != [0; 16];
    let run = Run {
        reader: &reader,
        snapshot,
        scope: &scope,
        choose: options.choose.as_deref(),
        target: Some(&target),
        target_path: &against,
        apply_to_target: true,
        writes: false,
        rereads: false,
        overwrite: if options.quick { Overwrite::IfChanged } else { Overwrite::Always },
        delete: true,
        sparse: false,
        policy: ApplyPolicy { owner: true, special: true },
        items: options.items,
        list_differences: true,
        threads: options.threads,
    };
    control.enter(Phase::Planning);
    run.announce(control)?;
    control.enter(Phase::Verifying);
    let inner = run.execute(control, restore::owner_map(options.owners, is_own, snapshot)?)?;
    let counts = inner.counts;
    Ok(VerifyReport {
        against,
        equal: counts.unchanged,
        different: counts.created + counts.updated + counts.deleted,
        differences: inner.differences,
        bytes: counts.bytes_kept,
        problems: inner.problems,
    })
}
