//! Backup: the diff of a baseline snapshot and the live source, applied to a repository.
//!
//! Worker threads take directories from one stack, newest first, so what is held in memory is a
//! path's worth of directories and not a tree's. Each directory is compared with the baseline's; a
//! file that did not change costs one `statx` and nothing else.

mod again;
mod along;
mod baseline;
mod building;
mod content;
pub(crate) mod directory;
mod engine;
mod estimate;
mod links;
mod node;
mod partial;
mod previous;
mod record;
mod sink;
mod sorter;
mod sources;
mod stream;

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_host::scan::Directory;
use lastgood_host::volume;
use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;
use lastgood_repo::format::snapshot::{SnapshotFlags, Totals};
use lastgood_repo::{BlobReader, Repository, Settings, SnapshotRecord, Snapshots, WriteSession};

use crate::error::{Error, ErrorKind};
use crate::forget::{self, Group, GroupBy};
use crate::job::{Control, Job, Phase, Problems};
use crate::log::{Ending, Entry, Logbook};
use crate::select::{OwnContent, OwnDirectory, SelectOptions, Selection};
use crate::trace::Tape;
use crate::writer_state::WriterState;
pub(crate) use again::read_again;
pub(crate) use along::{Along, ReadAlong};
use baseline::{choose_parent, trusted_before, usable_baseline};
use engine::{Engine, Scanned};
use partial::{is_partial, retire_partials};
use record::Record;
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
    /// What keeps the trace of the run, see [`trace::record`](crate::trace::record).
    pub trace: Option<Arc<Tape>>,
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
            trace: None,
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
    /// Why the log does not tell of this run, if it does not. Everything else is done, so this is
    /// no failure; but it has to be said.
    pub unlogged: Option<String>,
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
    Job::spawn(move |control| logged(&repo, options, None, control))
}

/// Backs up, and notes that in the log.
pub(crate) fn logged(
    repo: &Arc<Repository>,
    options: BackupOptions,
    along: Option<&dyn ReadAlong>,
    control: &Control,
) -> Result<BackupReport, Error> {
    let log = (!options.dry_run).then(|| logbook(&options));
    let trace = options.trace.clone();
    let entry = Entry::done("backup", repo.world().clock.now());
    let mut result = run(repo, options, along, control);
    let entry = match &result {
        Ok(report) => report.entry(entry),
        Err(error) => entry.failed(error),
    };
    if let Some(Err(error)) = log.map(|log| log.write(repo, entry)) {
        match &mut result {
            Ok(report) => report.unlogged = Some(error.to_string()),
            Err(_) => control.note(format!("{UNLOGGED}: {error}")),
        }
    }
    if let Some(Err(error)) = trace.map(|trace| trace.end_of(&result)) {
        control.note(format!("the trace of this run is not whole: {error}"));
    }
    result
}

/// The source of a backup that has one, as it names what it reads.
pub(crate) fn only_source(options: &BackupOptions) -> Result<PathBuf, Error> {
    match sources::absolute(&options.sources)?.paths() {
        [source] => Ok(source.clone()),
        _ => Err(Error::new(ErrorKind::Invalid, "a mirror is of one directory")),
    }
}

/// What is said of a run that its log does not tell of.
pub const UNLOGGED: &str = "this run is not in the log of the repository";

fn logbook(options: &BackupOptions) -> Logbook {
    let BackupOptions { state, host, user, program, .. } = options;
    let (host, user) = (host.clone(), user.clone());
    Logbook { state: state.clone(), host, user, program: program.clone() }
}

fn run(
    repo: &Arc<Repository>,
    mut options: BackupOptions,
    along: Option<&dyn ReadAlong>,
    control: &Control,
) -> Result<BackupReport, Error> {
    let clock = &repo.world().clock;
    if let Some(feature) = repo.history().unknown_to_writers() {
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
    tell_of(&snapshots, control);
    warn_of_the_clock(begun, &options, &snapshots, control);
    let parent = choose_parent(&options, &snapshots, &sources.snapshot_paths())?;
    let session = if options.dry_run {
        repo.refuse_if_missing().unwrap_or_else(|error| control.note(error.to_string()));
        None
    } else {
        Some(WriteSession::begin(repo, options.settings, writer.name())?)
    };
    let recovered_packs = session.as_ref().map_or(0, WriteSession::recovered_packs);
    let reader = BlobReader::new(repo.clone());
    let baseline = usable_baseline(parent.as_ref(), session.as_ref(), &reader, control)?;
    let writer_id = repo.keys().writer(writer.name()).writer_id();
    let parents: Vec<SnapshotId> = parent.iter().map(|parent| parent.id).collect();
    // Without a baseline everything is read, so nothing need be trusted.
    let trusted_before = baseline.as_ref().map_or(i64::MIN, |b| trusted_before(b, &snapshots));
    let chain = snapshots.next_in_chain(writer_id, &parents);
    let record = Record::new(&options, &sources, baseline, chain, begun, &**clock);
    let mut engine = Engine::new(
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
    engine.along = along;
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
        recovered_packs,
        partials: partials.len(),
        ..BackupReport::of(&scanned, &record, parent.as_ref())
    };
    // A parent that lost packs, or is only a part, needs what was stored in their place.
    let is_skipped = options.skip_if_unchanged
        && report.is_unchanged
        && record.baseline().is_some_and(|baseline| !is_partial(baseline));
    if let Some(session) = session.filter(|_| !is_skipped) {
        let committed = session.finish(&record.baselines(&partials), |stored| {
            record.snapshot(&scanned, &partials, SnapshotFlags::default(), stored)
        })?;
        report.totals = committed.snapshot.totals;
        warn_of_a_loss(parent.as_ref(), &committed, control);
        report.snapshot = Some(committed);
    }
    let superseded = partials.iter().chain(parent.as_ref().filter(|_| report.snapshot.is_some()));
    retire_partials(repo, superseded, report.snapshot.as_ref(), control);
    Ok(report)
}

impl BackupReport {
    /// What the log says of it.
    fn entry(&self, entry: Entry) -> Entry {
        let ending = match self.problems.errors {
            0 => Ending::Done,
            _ => Ending::Incomplete,
        };
        let totals = &self.totals;
        let counts = vec![
            ("files", totals.files),
            ("bytes", totals.bytes),
            ("bytes-added", totals.bytes_added),
            ("bytes-stored", totals.bytes_stored),
            ("errors", self.problems.errors),
            ("partials", self.partials as u64),
        ];
        let snapshots = self.snapshot.iter().map(|record| record.id).collect();
        Entry { ending, counts, snapshots, ..entry }
    }

    /// What was scanned, before anything of it is committed.
    fn of(scanned: &Scanned, record: &Record<'_>, parent: Option<&SnapshotRecord>) -> Self {
        Self {
            snapshot: None,
            parent: parent.map(|parent| parent.id),
            totals: Totals { errors: scanned.problems.errors, ..scanned.totals },
            bytes_known: scanned.bytes_known,
            meta_bytes_added: scanned.meta_bytes_new,
            recovered_packs: 0,
            partials: 0,
            excluded: scanned.excluded,
            vanished: scanned.vanished,
            is_unchanged: parent.is_some_and(|parent| parent.snapshot.tree == scanned.tree),
            unlogged: None,
            started: record.started(),
            finished: record.now(),
            problems: scanned.problems.clone(),
        }
    }
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

/// Says what is wrong with the listing, and not for this run.
fn tell_of(snapshots: &Snapshots, control: &Control) {
    for error in &snapshots.damaged {
        control.note(format!("ignoring a damaged snapshot: {error}"));
    }
    if let Some(error) = &snapshots.unremembered {
        control.note(format!("what this host saw of the repository is not remembered: {error}"));
    }
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

/// Tells of a source that lost much: a disk that is not mounted, or worse.
fn warn_of_a_loss(parent: Option<&SnapshotRecord>, new: &SnapshotRecord, control: &Control) {
    let Some(parent) = parent.filter(|parent| !is_partial(parent)) else { return };
    let is_same = |of: fn(&SnapshotRecord) -> Group| of(parent) == of(new);
    let (before, after) = (&parent.snapshot.totals, &new.snapshot.totals);
    if is_same(|record| GroupBy::default().group(record)) && forget::is_loss(before, after) {
        control.note(format!(
            "more than half is gone since snapshot {}: {} of {} files and {} of {} bytes are left; \
             no policy forgets that snapshot before it is said to be right",
            parent.id, after.files, before.files, after.bytes, before.bytes
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
