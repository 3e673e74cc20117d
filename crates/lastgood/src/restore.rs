//! Restoring a snapshot, or a part of it.
//!
//! Tree and target are walked side by side. What is to be done about each entry is decided from
//! both (`plan`) before anything is changed there, and done by workers in an order of their own:
//! sorted by where the chunks are stored, window by window, so memory does not grow with the
//! snapshot. A dry run, and [`crate::verify`], take the same way and change nothing.
//!
//! What is promised of the target at any moment, also after the power went:
//! - No bytes but those that were backed up get there: every chunk's id is recomputed first.
//! - Nothing outside of it is touched. Names come checked from the tree, links are not followed,
//!   everything is reached from an open directory.
//! - A new file of several chunks has a temporary name until it is whole. A file of one chunk that
//!   was cut off has not its time, and the permissions of its owner alone. A file that is changed
//!   in place is in between while that lasts; [`Overwrite::Always`] mends it.
//! - Only what is fully restored bears the snapshot's time of modification.

mod compare;
mod context;
mod entry;
mod folder;
mod large;
mod links;
mod owners;
mod plan;
mod report;
mod run;
mod scope;
mod walk;
mod work;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood_host::identity::Accounts;
use lastgood_host::metadata::ApplyPolicy;
use lastgood_host::scan::ListBuffer;
use lastgood_host::target::Target;
use lastgood_host::volume;
use lastgood_repo::{BlobReader, Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::job::{Control, Job, Phase, Problem, Severity};

pub use owners::Owners;
pub use plan::{Change, Overwrite};
pub use report::{Counts, Damaged, Difference, NotSet, RestoreReport, Verified};
pub use walk::{Choice, Choose};

use owners::OwnerMap;
use report::chain;
pub(crate) use run::Run;
pub(crate) use scope::Scope;

/// What to restore, where to, and how.
#[derive(Clone)]
pub struct RestoreOptions {
    /// The snapshot.
    pub snapshot: SnapshotRecord,
    /// The part of it that is meant: empty for all, from the root of the snapshot when it begins
    /// with `/`, else from the deepest directory that holds all sources.
    pub subpath: Vec<u8>,
    /// Where it goes; created when missing. A directory's content goes into it, anything else
    /// itself.
    pub target: PathBuf,
    /// What of it is restored, and deleted.
    pub choose: Option<Arc<Choose>>,
    /// Whether what the snapshot does not have is deleted, in directories that were backed up.
    pub delete: bool,
    /// What gives way.
    pub overwrite: Overwrite,
    /// Whether all is read again in the end and compared.
    pub verify: bool,
    /// Whether zeros that are stored become holes too. Holes that are recorded always do.
    pub sparse: bool,
    /// Whether it is made durable before it is reported.
    pub sync: bool,
    /// Whether what gives power comes back from another host's snapshot too: setuid and setgid,
    /// file capabilities and other `security.*` and `trusted.*` attributes, devices.
    pub special: bool,
    /// How owners are found.
    pub owners: Owners,
    /// Whether the target gets the whole paths, from the root of the snapshot.
    pub full_paths: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// Whether an [`Event::Item`](crate::Event) is sent for each path.
    pub items: bool,
    /// Workers; 0 for as many as there are cores.
    pub threads: usize,
    /// Id of this host; all zeros when it is not known.
    pub host_id: [u8; 16],
}

impl RestoreOptions {
    /// All of `snapshot` into `target`.
    #[must_use]
    pub fn new(snapshot: SnapshotRecord, target: PathBuf) -> Self {
        Self {
            snapshot,
            subpath: Vec::new(),
            target,
            choose: None,
            delete: false,
            overwrite: Overwrite::Always,
            verify: false,
            sparse: false,
            sync: false,
            special: false,
            owners: Owners::Auto,
            full_paths: false,
            dry_run: false,
            items: false,
            threads: 0,
            host_id: [0; 16],
        }
    }
}

impl std::fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RestoreOptions({} to {})", self.snapshot.id, self.target.display())
    }
}

/// Restores. See [`RestoreReport`] for what may be wrong with it though it succeeds.
///
/// When it is cancelled, or the disk is full, what is restored stays; running it again goes on
/// from there.
#[must_use]
pub fn start(repo: Arc<Repository>, options: RestoreOptions) -> Job<RestoreReport> {
    Job::spawn(move |control| restore(control, &repo, &options))
}

fn restore(
    control: &Control,
    repo: &Arc<Repository>,
    options: &RestoreOptions,
) -> Result<RestoreReport, Error> {
    refuse_repository(repo, &options.target)?;
    let snapshot = &options.snapshot.snapshot;
    let reader = reader(repo, &options.snapshot, control)?;
    let scope = Scope::find(&reader, snapshot, &options.subpath, options.full_paths)?;
    // More files may be open at once; where the system refuses, the rings still bound them.
    volume::raise_open_file_limit().ok();

    let (target, is_ours) = open_target(options, &scope)?;
    let is_own = options.host_id == snapshot.host_id && options.host_id != [0; 16];
    let run = Run {
        reader: &reader,
        snapshot,
        scope: &scope,
        choose: options.choose.as_deref(),
        target: target.as_ref(),
        target_path: &options.target,
        apply_to_target: is_ours,
        writes: !options.dry_run,
        rereads: false,
        overwrite: options.overwrite,
        delete: options.delete,
        sparse: options.sparse,
        policy: ApplyPolicy { owner: true, special: options.special || is_own },
        items: options.items,
        list_differences: false,
        threads: options.threads,
    };
    let owners = || owner_map(options.owners, is_own, snapshot);
    control.enter(Phase::Planning);
    run.announce(control)?;
    control.enter(Phase::Writing);
    let inner = run.execute(control, owners()?)?;
    let mut report = RestoreReport {
        target: options.target.clone(),
        counts: inner.counts,
        unset: inner.not_set(false),
        withheld: inner.not_set(true),
        damaged: inner.damaged,
        problems: inner.problems,
        verified: None,
        is_index_wrong: reader.is_index_wrong(),
    };
    if let Some(target) = target.as_ref().filter(|_| options.sync && !options.dry_run) {
        control.enter(Phase::Committing);
        target.sync_filesystem()?;
    }
    if options.verify && !options.dry_run {
        control.enter(Phase::Verifying);
        let again = Run {
            writes: false,
            rereads: true,
            delete: false,
            items: false,
            list_differences: true,
            ..run
        };
        verify_written(control, again, owners()?, &mut report)?;
    }
    Ok(report)
}

/// Reads all that was restored again. Metadata is not looked at: what could not be set was said.
fn verify_written(
    control: &Control,
    again: Run<'_>,
    owners: OwnerMap,
    report: &mut RestoreReport,
) -> Result<(), Error> {
    let inner = again.execute(control, owners)?;
    let mut verified = Verified {
        equal: inner.counts.unchanged,
        different: inner.counts.created + inner.counts.updated,
        bytes: inner.counts.bytes_kept,
    };
    for difference in inner.differences {
        if difference.change == Change::Metadata {
            verified.different -= 1;
            verified.equal += 1;
            continue;
        }
        let problem = Problem {
            path: difference.path,
            during: "verify",
            message: "what was written is not what was read again".to_owned(),
            severity: Severity::Error,
        };
        control.problem(&problem);
        report.problems.push(problem);
    }
    inner.problems.listed.into_iter().for_each(|problem| report.problems.push(problem));
    report.verified = Some(verified);
    Ok(())
}

/// Reads the snapshot's blobs, by the index or without it.
pub(crate) fn reader(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    control: &Control,
) -> Result<BlobReader, Error> {
    let reader = BlobReader::new(repo.clone());
    match reader.add_snapshot(&record.snapshot) {
        Ok(_) => {}
        Err(error) if error.is_transient() => return Err(error.into()),
        // The index may still know everything.
        Err(error) => {
            let chain = chain(&error);
            control.note(format!("the list of the snapshot's packs cannot be read: {chain}"));
        }
    }
    Ok(reader)
}

pub(crate) fn owner_map(
    owners: Owners,
    is_own_host: bool,
    snapshot: &lastgood_format::snapshot::Snapshot,
) -> Result<OwnerMap, Error> {
    if owners == Owners::Numbers || owners == Owners::Auto && is_own_host {
        return Ok(OwnerMap::default());
    }
    Ok(OwnerMap::by_name(&snapshot.owners, &Accounts::read()?))
}

/// Opens the target, and tells whether it is to look like the directory whose content goes into
/// it: when it is new, empty, or is that very directory. Any other that something is restored into
/// keeps its own owner, permissions and time, see [`Run`].
fn open_target(options: &RestoreOptions, scope: &Scope) -> Result<(Option<Target>, bool), Error> {
    let path = &options.target;
    let is_there = path.try_exists().unwrap_or(true);
    if !is_there && options.dry_run {
        return Ok((None, true));
    }
    let target = if options.dry_run { Target::open_existing(path) } else { Target::open(path) };
    let target = target?;
    let listing = target.root().source().list(&mut ListBuffer::new());
    let is_empty = listing.is_ok_and(|listing| listing.is_empty());
    let original = [b"/", &scope.path[..]].concat();
    let is_original = path.canonicalize().is_ok_and(|path| path.as_os_str().as_bytes() == original);
    Ok((Some(target), !is_there || is_empty || is_original))
}

/// Refuses to write into the repository itself.
fn refuse_repository(repo: &Repository, target: &Path) -> Result<(), Error> {
    let Ok(location) = Path::new(repo.location()).canonicalize() else {
        // It is not on this host, or not on a disk.
        return Ok(());
    };
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_path_buf());
    let existing = absolute.ancestors().find_map(|path| path.canonicalize().ok());
    if existing.is_some_and(|path| path.starts_with(&location)) {
        let message = format!(
            "the target {} is inside the repository {}",
            target.display(),
            location.display()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}
