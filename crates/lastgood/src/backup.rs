//! Backup: the diff of a baseline snapshot and the live source, applied to a repository.
//!
//! Worker threads take directories from one stack, newest first, so what is held in memory is a
//! path's worth of directories and not a tree's. Each directory is compared with the baseline's; a
//! file that did not change costs one `statx` and nothing else.

mod baseline;
mod building;
mod content;
mod directory;
mod engine;
mod estimate;
mod links;
mod node;
mod partial;
mod sink;
mod sorter;
mod sources;
mod stream;

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_host::identity::Accounts;
use lastgood_host::scan::Directory;
use lastgood_host::volume;
use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;
use lastgood_repo::format::snapshot::{Chain, OwnerNames, Snapshot, SnapshotFlags, Totals};
use lastgood_repo::{
    BlobReader, Clock, RepoError, Repository, Settings, SnapshotRecord, Snapshots, Stored,
    WriteSession,
};

use crate::error::{Error, ErrorKind};
use crate::job::{Control, Job, Phase, Problems};
use crate::select::{OwnContent, OwnDirectory, SelectOptions, Selection};
use crate::writer_state::WriterState;
use engine::{Engine, Scanned};
use sources::Sources;

/// What to back up, and how.
#[derive(Debug)]
pub struct BackupOptions {
    /// Files and directories; relative ones are below the current directory. Empty with a stream.
    pub sources: Vec<PathBuf>,
    /// A stream to store as one file, instead of sources.
    pub stream: Option<Stream>,
    /// What to leave out.
    pub select: SelectOptions,
    /// What to compare with.
    pub parent: Parent,
    /// Name of this host.
    pub host: String,
    /// Stable id of this host.
    pub host_id: [u8; 16],
    /// Name of the user.
    pub user: String,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// Time of the snapshot, when it is not the present.
    pub time: Option<Timestamp>,
    /// Chunker, when it is not the repository's.
    pub chunker: Option<ChunkerParams>,
    /// How to store.
    pub settings: Settings,
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// Read every file, whatever the baseline says.
    pub force: bool,
    /// Write nothing; tell what would be stored.
    pub dry_run: bool,
    /// Commit nothing when the tree equals the parent's.
    pub skip_if_unchanged: bool,
    /// Seconds after which a run commits what it has as a partial snapshot, again and again; none
    /// where only the complete one is wanted.
    pub partial_every_seconds: Option<i64>,
    /// Count the sources beside the run, so that progress has a total.
    pub estimate: bool,
    /// Send an [`Event::Item`](crate::Event) for every path.
    pub items: bool,
    /// Folder where this host remembers who it is to each repository.
    pub state: PathBuf,
    /// Name and version of the program.
    pub program: String,
}

impl BackupOptions {
    /// Backs `sources` up with everything else as most want it; `state` is the folder where this
    /// host remembers who it is.
    #[must_use]
    pub fn new(sources: Vec<PathBuf>, state: PathBuf) -> Self {
        Self {
            sources,
            stream: None,
            select: SelectOptions::default(),
            parent: Parent::Auto,
            host: String::new(),
            host_id: [0; 16],
            user: String::new(),
            tags: Vec::new(),
            time: None,
            chunker: None,
            settings: Settings::default(),
            threads: 0,
            force: false,
            dry_run: false,
            skip_if_unchanged: false,
            partial_every_seconds: Some(300),
            estimate: false,
            items: false,
            state,
            program: concat!("lastgood ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Which snapshot to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The newest one of the same host and sources.
    Auto,
    /// None: everything is read.
    None,
    /// This one.
    Id(SnapshotId),
}

/// A stream that becomes a file.
pub struct Stream {
    /// Path of the file in the snapshot.
    pub path: PathBuf,
    /// Where the bytes come from.
    pub from: StreamFrom,
}

/// Where a stream comes from.
pub enum StreamFrom {
    /// A reader, such as standard input.
    Reader(Box<dyn Read + Send>),
    /// The standard output of a command. When it fails, there is no snapshot.
    Command(Vec<OsString>),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({})", self.path.display())
    }
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The snapshot, unless nothing was to be committed.
    pub snapshot: Option<SnapshotRecord>,
    /// What it was compared with.
    pub parent: Option<SnapshotId>,
    /// Counts; for a dry run, what would have been stored.
    pub totals: Totals,
    /// Bytes of changed files that the repository had already.
    pub bytes_known: u64,
    /// Bytes of metadata that were new, before compression.
    pub meta_bytes_added: u64,
    /// Packs of interrupted runs that were found and used.
    pub recovered_packs: usize,
    /// Partial snapshots that were committed meanwhile.
    pub partials: usize,
    /// Entries that a rule left out.
    pub excluded: u64,
    /// Files that vanished after they were listed.
    pub vanished: u64,
    /// Whether the tree equals the parent's.
    pub is_unchanged: bool,
    /// When the run began and ended.
    pub started: Timestamp,
    /// When the run ended.
    pub finished: Timestamp,
    /// What went wrong with single paths.
    pub problems: Problems,
}

/// Starts a backup.
///
/// Cancelled at any point, it commits nothing and loses nothing: the packs it stored are found and
/// used by the next run.
#[must_use]
pub fn start(repo: Arc<Repository>, options: BackupOptions) -> Job<BackupReport> {
    Job::spawn(move |control| run(&repo, options, control))
}

fn run(
    repo: &Arc<Repository>,
    mut options: BackupOptions,
    control: &Control,
) -> Result<BackupReport, Error> {
    let clock = &repo.world().clock;
    if let Some(feature) = repo.config().unknown_to_writers() {
        return Err(Error::new(
            ErrorKind::TooNew,
            format!("writing to this repository requires the feature {feature:?}"),
        ));
    }
    let begun = clock.now();
    let stream = options.stream.take();
    let sources = match &stream {
        Some(stream) => sources::of_stream(&stream.path)?,
        None => sources::absolute(&options.sources)?,
    };
    let selection = compile(repo, &mut options.select, &sources)?;
    // Many directories are open at once in a wide and deep tree; a refusal shows as an error later.
    drop(volume::raise_open_file_limit());

    // Before the listing: who held the name until now may have committed to its chain.
    let writer = WriterState::claim(&options.state, repo)?;
    let snapshots = repo.snapshots()?;
    for error in &snapshots.damaged {
        control.note(format!("ignoring a damaged snapshot: {error}"));
    }
    warn_of_the_clock(begun, &options, &snapshots, control);
    let parent = choose_parent(&options, &snapshots, &sources.snapshot_paths())?;
    let session = if options.dry_run {
        None
    } else {
        Some(WriteSession::begin(repo, options.settings, writer.name())?)
    };
    let recovered_packs = session.as_ref().map_or(0, WriteSession::recovered_packs);
    let reader = BlobReader::new(repo.clone());
    let baseline = usable_baseline(parent.as_ref(), session.as_ref(), &reader, control)?;
    // Without a baseline everything is read, so nothing need be trusted.
    let trusted_before = baseline.as_ref().map_or(i64::MIN, |b| trusted_before(b, &snapshots));
    let is_baseline = baseline.is_some();
    let writer_id = repo.keys().writer(writer.name()).writer_id();
    let parents: Vec<SnapshotId> = parent.iter().map(|parent| parent.id).collect();
    let record = Record {
        is_stream: options.sources.is_empty(),
        host: options.host.clone(),
        host_id: options.host_id,
        user: options.user.clone(),
        tags: sorted(std::mem::take(&mut options.tags)),
        program: options.program.clone(),
        sources: sources.snapshot_paths(),
        baseline,
        started: options.time.unwrap_or(begun),
        chain: snapshots.next_in_chain(writer_id, &parents),
        clock: &**clock,
    };
    let engine = Engine::new(
        repo,
        session,
        &reader,
        &record,
        trusted_before,
        &selection,
        &sources,
        &options,
        control,
    )?;
    control.enter(Phase::Reading);
    let scanned = match stream {
        Some(stream) => stream::store(&engine, stream),
        None => engine.run(),
    };
    let (session, partials) = engine.into_session();
    let stopped_by = || session.as_ref().and_then(WriteSession::stopped_by);
    let scanned = scanned.map_err(|error| stopped_by().map_or(error, Error::from))?;
    control.check()?;
    control.enter(Phase::Committing);

    let mut report = BackupReport {
        snapshot: None,
        parent: parent.as_ref().map(|parent| parent.id),
        totals: Totals { errors: scanned.problems.errors, ..scanned.totals },
        bytes_known: scanned.bytes_known,
        meta_bytes_added: scanned.meta_bytes_new,
        recovered_packs,
        partials: partials.len(),
        excluded: scanned.excluded,
        vanished: scanned.vanished,
        is_unchanged: parent.as_ref().is_some_and(|p| p.snapshot.tree == scanned.tree),
        started: record.started,
        finished: clock.now(),
        problems: scanned.problems.clone(),
    };
    // A parent that lost packs needs what was stored in their place.
    let is_skipped = options.skip_if_unchanged && report.is_unchanged && is_baseline;
    if let Some(session) = session.filter(|_| !is_skipped) {
        let committed = session.finish(&record.baselines(&partials), |stored| {
            record.snapshot(&scanned, &partials, SnapshotFlags::default(), stored)
        })?;
        report.totals = committed.snapshot.totals;
        report.snapshot = Some(committed);
    }
    let superseded = partials.iter().chain(parent.as_ref().filter(|_| report.snapshot.is_some()));
    retire_partials(repo, superseded, report.snapshot.as_ref(), control);
    Ok(report)
}

/// Retires partial snapshots, which a complete one stands in for. Where this fails they stay, and
/// cost nothing but a line in a listing.
fn retire_partials<'a>(
    repo: &Repository,
    partials: impl Iterator<Item = &'a SnapshotRecord>,
    complete: Option<&SnapshotRecord>,
    control: &Control,
) {
    for record in partials.filter(|record| is_partial(record)) {
        let by = complete.map(|record| record.id);
        if let Err(error) = repo.retire(record.id, "a complete snapshot stands in for it", by) {
            control.note(format!("partial snapshot {} stays: {error}", record.id));
        }
    }
}

fn is_partial(record: &SnapshotRecord) -> bool {
    record.snapshot.flags.contains(SnapshotFlags::PARTIAL)
}

/// Before which second a change must have been made for the snapshot to have it: when it began to
/// read its source. What a partial snapshot did not reach, it has from its parents.
fn trusted_before(record: &SnapshotRecord, snapshots: &Snapshots) -> i64 {
    let (started, finished) = (record.snapshot.started, record.snapshot.finished);
    // A start after the end, by a clock that was set back or by the user, does not say when files
    // were read, so none is old enough.
    if started > finished {
        return i64::MIN;
    }
    let parents = record.snapshot.chain.parents.iter().filter(|_| is_partial(record));
    let known = snapshots.live.iter().chain(&snapshots.retired);
    let earliest = parents.map(|id| {
        // Generations descend from child to parent, so this ends whatever the chain says.
        let parent = known.clone().find(|known| {
            known.id == *id && known.snapshot.chain.generation < record.snapshot.chain.generation
        });
        parent.map_or(i64::MIN, |parent| trusted_before(parent, snapshots))
    });
    earliest.min().unwrap_or(i64::MAX).min(started.seconds)
}

/// Compiles the rules, with what they must know of this run.
fn compile(
    repo: &Repository,
    rules: &mut SelectOptions,
    sources: &Sources,
) -> Result<Selection, Error> {
    rules.named_devices.extend(&sources.named_devices);
    rules.own_directories.extend(own_repository(repo, sources.paths())?);
    Selection::compile(rules, sources.paths()).map_err(|error| {
        Error::caused_by(ErrorKind::Invalid, "cannot use the exclude rules", error)
    })
}

/// What the snapshots of a run say of it.
struct Record<'a> {
    is_stream: bool,
    host: String,
    host_id: [u8; 16],
    user: String,
    tags: Vec<String>,
    program: String,
    sources: Vec<Vec<u8>>,
    baseline: Option<SnapshotRecord>,
    started: Timestamp,
    /// Place in the writer's chain of the first of them.
    chain: Chain,
    clock: &'a dyn Clock,
}

impl Record<'_> {
    /// The snapshots whose packs the next one needs, after these partial ones.
    fn baselines(&self, partials: &[SnapshotRecord]) -> Vec<SnapshotRecord> {
        self.baseline.iter().chain(partials.last()).cloned().collect()
    }

    /// The snapshot of what was scanned, after these partial ones.
    fn snapshot(
        &self,
        scanned: &Scanned,
        partials: &[SnapshotRecord],
        mut flags: SnapshotFlags,
        stored: Stored,
    ) -> Snapshot {
        if scanned.problems.errors > 0 {
            flags = flags.with(SnapshotFlags::INCOMPLETE);
        }
        if self.is_stream {
            flags = flags.with(SnapshotFlags::STREAM);
        }
        let before = partials.len() as u64;
        Snapshot {
            session: stored.session,
            started: self.started,
            finished: self.clock.now(),
            tree: scanned.tree,
            hints: scanned.hints,
            links: scanned.links,
            pack_set: stored.pack_set,
            ref_packs: stored.ref_packs,
            sources: self.sources.clone(),
            host: self.host.clone(),
            host_id: self.host_id,
            user: self.user.clone(),
            tags: self.tags.clone(),
            owners: owner_names(&scanned.uids, &scanned.gids),
            chunker: scanned.chunker.into(),
            chain: Chain {
                sequence: self.chain.sequence + before,
                previous: partials.last().map(|partial| partial.id).or(self.chain.previous),
                generation: self.chain.generation + before,
                ..self.chain.clone()
            },
            totals: Totals {
                errors: scanned.problems.errors,
                bytes_added: stored.bytes_added,
                bytes_stored: stored.bytes_stored,
                ..scanned.totals
            },
            flags,
            program: self.program.clone(),
            original: None,
        }
    }
}

/// The repository's own directory, which is left out of every source that holds it.
fn own_repository(repo: &Repository, sources: &[PathBuf]) -> Result<Option<OwnDirectory>, Error> {
    let path = PathBuf::from(repo.location());
    // Only a local repository has a directory.
    let (Ok(stat), Ok(real)) = (Directory::stat_path(&path), path.canonicalize()) else {
        return Ok(None);
    };
    for source in sources {
        if source.canonicalize().is_ok_and(|source| source.starts_with(&real)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} lies inside the repository {}, which cannot hold a backup of itself",
                    source.display(),
                    path.display()
                ),
            ));
        }
    }
    Ok(Some(OwnDirectory { path, file_id: stat.file_id(), holds: OwnContent::Repository }))
}

/// Says that the host's clock stands before snapshots that this host has made already.
fn warn_of_the_clock(
    now: Timestamp,
    options: &BackupOptions,
    snapshots: &Snapshots,
    control: &Control,
) {
    let own = snapshots.live.iter().filter(|record| record.snapshot.host_id == options.host_id);
    let Some(newest) = own.max_by_key(|record| record.snapshot.started) else { return };
    if options.time.is_none() && newest.snapshot.started.seconds > now.seconds {
        control.note(format!(
            "the clock stands before snapshot {} of this host, which stays the latest one; set the \
             clock right, or name snapshots by their ids",
            newest.id
        ));
    }
}

/// The chunker of this run: the one asked for, else the repository's.
fn chunker(repo: &Repository, options: &BackupOptions) -> Result<ChunkerParams, Error> {
    match options.chunker {
        Some(chunker) => Ok(chunker),
        None => repo.config().chunker.params().map_err(|error| {
            let text = "the repository's chunker is of a later release; name one that is known";
            Error::caused_by(ErrorKind::TooNew, text, error)
        }),
    }
}

/// The snapshot to compare with: of the same host, and of the same sources where there is one.
fn choose_parent(
    options: &BackupOptions,
    snapshots: &Snapshots,
    sources: &[Vec<u8>],
) -> Result<Option<SnapshotRecord>, Error> {
    // By generation and not by time: a clock may have been wrong.
    let newest = |accept: &dyn Fn(&SnapshotRecord) -> bool| {
        let accepted = snapshots.live.iter().filter(|record| accept(record));
        accepted.max_by_key(|record| record.snapshot.chain.generation).cloned()
    };
    match options.parent {
        Parent::None => Ok(None),
        Parent::Id(id) => newest(&|record| record.id == id).map(Some).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no snapshot {id} to compare with"))
        }),
        Parent::Auto => Ok(newest(&|record| {
            record.snapshot.host == options.host && record.snapshot.sources == sources
        })),
    }
}

/// The parent, if its blobs may be taken over without asking for each.
fn usable_baseline(
    parent: Option<&SnapshotRecord>,
    session: Option<&WriteSession>,
    reader: &BlobReader,
    control: &Control,
) -> Result<Option<SnapshotRecord>, Error> {
    let Some(parent) = parent else { return Ok(None) };
    let may_reuse = match session {
        Some(session) => session.may_reuse(reader, &parent.snapshot),
        None => Ok::<_, RepoError>(true),
    };
    match may_reuse {
        Ok(true) => Ok(Some(parent.clone())),
        Ok(false) => {
            control.note(format!(
                "snapshot {} lost packs, so every file is read and what is missing stored again",
                parent.id
            ));
            Ok(None)
        }
        // Entries that cannot be read today are kept from it, so it is not given up lightly.
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            control.note(format!("cannot compare with snapshot {}: {error}", parent.id));
            Ok(None)
        }
    }
}

fn owner_names(uids: &[u32], gids: &[u32]) -> OwnerNames {
    let Ok(accounts) = Accounts::read() else { return OwnerNames::default() };
    let named = |numbers: &[u32], name: &dyn Fn(u32) -> Option<String>| {
        numbers.iter().filter_map(|&number| Some((number, name(number)?))).collect()
    };
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    OwnerNames {
        users: named(uids, &|uid| accounts.user_name(uid).map(text)),
        groups: named(gids, &|gid| accounts.group_name(gid).map(text)),
    }
}

fn sorted(mut tags: Vec<String>) -> Vec<String> {
    tags.sort();
    tags.dedup();
    tags
}
