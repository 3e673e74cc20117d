//! A mirror: `latest/` is a plain copy of the newest state, and the past is plain reverse deltas.
//! See `docs/manual/mirror.md`.

mod adopt;
mod beside;
mod compare;
mod disk;
mod insert;
mod known;
mod repair;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lastgood_host::metadata::ApplyPolicy;
use lastgood_host::scan::{Directory, ListBuffer, Stat};
use lastgood_host::volume;
use lastgood_mirror::place::{HostPlace, Place};
use lastgood_mirror::run::{self, Begun, Choice, Rules, Taken};
use lastgood_mirror::text::TextError;
use lastgood_mirror::{Mirror, MirrorError, Trouble, Watch, restore, thin, verify};
use lastgood_repo::Clock;

use crate::error::{Error, ErrorKind};
use crate::forget::{Calendar, Policy, counted};
use crate::job::{Control, Job, Phase, Problem, Problems, Severity};
use crate::select::{
    Decision, Facts, FileSystems, OwnContent, OwnDirectory, Scope, SelectOptions, Selection,
};
use crate::snapshots::{ParseTime, latest_back, split_path};

pub use self::adopt::{AdoptOptions, start_adopt, states_of_rdiff};
pub use self::beside::{Both, start_beside};
pub use self::compare::{diff, diff_live};
pub use self::disk::is_on_encrypted_disk;
pub use self::insert::{InsertOptions, start_insert};
pub use self::repair::{Healed, RepairOptions, RepairReport, start_repair};
pub use lastgood_mirror::Version;
pub use lastgood_mirror::restore::RestoreReport;
pub use lastgood_mirror::run::{Held, Hold, RunReport};
pub use lastgood_mirror::thin::Dropped;
pub use lastgood_mirror::verify::VerifyReport;

/// What is mirrored, and where.
#[derive(Clone)]
pub struct RunOptions {
    /// The directory.
    pub source: PathBuf,
    /// The directory of the mirror; made where it is missing.
    pub target: PathBuf,
    /// Folder where this host notes where it has made mirrors.
    pub state: PathBuf,
    /// What of the source is left out.
    pub select: SelectOptions,
    /// Whether the run goes on where the guard would ask.
    pub is_approved: bool,
    /// Whether what rules leave out now goes from the newest version.
    pub forgets_excluded: bool,
    /// Whether files are read before they go into history.
    pub verifies_outgoing: bool,
    /// In so many days everything that the mirror holds is read once; 0 for never.
    pub scrub_days: u32,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Says when the run is.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunOptions({} to {})", self.source.display(), self.target.display())
    }
}

/// What a job on a mirror ended with.
#[derive(Debug, Clone, Default)]
pub struct Outcome<T> {
    /// What was done.
    pub report: T,
    /// What went wrong with single paths.
    pub problems: Problems,
}

/// Makes the mirror what the source is, and keeps what it was.
#[must_use]
pub fn start_run(options: RunOptions) -> Job<Outcome<RunReport>> {
    Job::spawn(move |control| {
        let watch = Watching::new(control);
        let opened = Opened::open(options, &watch)?;
        let begun = opened.begin(&watch)?;
        let report = opened.finish(begun, Taken::default(), &watch)?;
        Ok(watch.outcome(report))
    })
}

/// A directory by its path without links.
fn real(source: &Path) -> Result<PathBuf, Error> {
    let real = std::path::absolute(source).and_then(|source| source.canonicalize());
    real.map_err(|error| {
        let message = format!("cannot mirror {}", source.display());
        Error::caused_by(ErrorKind::from(&error), message, error)
    })
}

/// A mirror that is locked for a run, and what is to be done.
struct Opened {
    mirror: Mirror,
    /// Of a first dry run: it is seen from an empty mirror that goes again.
    _folder: Option<tempfile::TempDir>,
    select: SelectOptions,
    options: run::RunOptions,
}

impl Opened {
    fn open(options: RunOptions, watch: &Watching<'_>) -> Result<Self, Error> {
        let source = real(&options.source)?;
        let subject = run::subject(&source)?;
        let is_there = match Mirror::open(&options.target) {
            Err(MirrorError::NoMirror(_)) if !options.is_approved => {
                known::refuse_another(&options.state, &options.target)?;
                false
            }
            opened => opened.is_ok(),
        };
        let folder = match options.dry_run && !is_there {
            true => Some(tempfile::tempdir().map_err(|error| {
                let message = "cannot make a directory for this run";
                Error::caused_by(ErrorKind::from(&error), message, error)
            })?),
            false => None,
        };
        let target = folder.as_ref().map_or(&*options.target, tempfile::TempDir::path);
        let (mirror, done) = Mirror::open_or_create(target, &subject)?;
        done.tell(watch);
        if !options.dry_run
            && let Err(error) = known::remember(&options.state, &options.target)
        {
            watch.trouble(Trouble {
                path: options.state.as_os_str().as_bytes().into(),
                during: "note",
                message: format!("cannot note that there is a mirror: {error}"),
            });
        }
        let room = volume::space(mirror.path())?.into();
        let run = run::RunOptions {
            source,
            now: options.clock.now(),
            is_approved: options.is_approved,
            forgets_excluded: options.forgets_excluded,
            verifies_outgoing: options.verifies_outgoing,
            scrub_days: options.scrub_days,
            is_dry: options.dry_run,
            room,
        };
        Ok(Self { mirror, _folder: folder, select: options.select, options: run })
    }

    /// Looks at what there is, and asks the guard.
    fn begin(&self, watch: &Watching<'_>) -> Result<Begun, Error> {
        watch.control.enter(Phase::Reading);
        let selection = selection(&self.mirror, &self.select, &self.options.source)?;
        let mut rules = Selected::new(&selection, &self.options.source)?;
        Ok(run::begin(&self.mirror, &self.options, &mut rules, watch)?)
    }

    fn finish(&self, begun: Begun, taken: Taken, watch: &Watching<'_>) -> Result<RunReport, Error> {
        Ok(begun.finish(&self.mirror, &self.options, taken, watch)?)
    }
}

/// The rules of a backup for one directory; the mirror itself is never in.
fn selection(mirror: &Mirror, select: &SelectOptions, source: &Path) -> Result<Selection, Error> {
    let mut select = select.clone();
    if let Ok(mounts) = std::fs::read("/proc/self/mountinfo") {
        select.file_systems = FileSystems::parse(&mounts);
    }
    select.own_directories.extend(own_directory(mirror)?);
    Selection::compile(&select, &[source.to_owned()])
        .map_err(|error| Error::caused_by(ErrorKind::Invalid, "a rule makes no sense", error))
}

/// What no rule need leave out of a backup: the mirror itself.
fn own_directory(mirror: &Mirror) -> Result<Option<OwnDirectory>, Error> {
    let place = HostPlace::open(mirror.path())?;
    let (path, holds) = (mirror.path().into(), OwnContent::Mirror);
    Ok(place.stat(b"")?.map(|stat| OwnDirectory { path, file_id: stat.file_id(), holds }))
}

/// Lets the next run do what the guard kept the last one from, and no more than that.
///
/// # Errors
/// [`ErrorKind::NotFound`] when no run is held.
pub fn approve(target: &Path) -> Result<Held, Error> {
    Ok(Mirror::open_to_change(target)?.0.approve()?)
}

/// The versions of a mirror, oldest first.
///
/// # Errors
/// When there is no mirror, or its texts are damaged.
pub fn versions(target: &Path) -> Result<Vec<Version>, Error> {
    Ok(Mirror::open(target)?.view_from(usize::MAX)?.versions)
}

/// What a mirror is of.
///
/// # Errors
/// When there is no mirror, or its text is damaged.
pub fn source(target: &Path) -> Result<PathBuf, Error> {
    Ok(Mirror::open(target)?.subject()?.source)
}

/// Whether there is a mirror in a directory.
#[must_use]
pub fn is_mirror(path: &Path) -> bool {
    Mirror::open(path).is_ok()
}

/// The version that a user means: a name, `latest`, `latest~N`, or a moment with or without an `@`
/// before it, which means the one that was the newest then.
///
/// # Errors
/// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] for what is no name and no moment.
pub fn version_named(
    target: &Path,
    name: &str,
    parse_time: ParseTime<'_>,
) -> Result<Version, Error> {
    let versions = versions(target)?;
    let found = if let Some(back) = latest_back(name)? {
        versions.len().checked_sub(back + 1).and_then(|index| versions.get(index))
    } else if let Some(version) = versions.iter().find(|version| version.name == name) {
        Some(version)
    } else {
        let time = parse_time(name.strip_prefix('@').unwrap_or(name)).ok_or_else(|| {
            let text =
                format!("{name:?} is neither a version nor a time, as in @2026-11-01 or @3d");
            Error::new(ErrorKind::Invalid, text)
        })?;
        versions.iter().rfind(|version| version.time <= time)
    };
    found.cloned().ok_or_else(|| {
        let text =
            format!("the mirror has no version {name:?}; `lastgood mirror versions` lists them");
        Error::new(ErrorKind::NotFound, text)
    })
}

/// `VERSION[:PATH]`, as [`crate::snapshots::resolve`] takes them of snapshots.
///
/// # Errors
/// As [`version_named`].
pub fn resolve(
    target: &Path,
    text: &str,
    parse_time: ParseTime<'_>,
) -> Result<(Version, Option<PathBuf>), Error> {
    let (name, path) = split_path(text);
    Ok((version_named(target, name, parse_time)?, path.map(PathBuf::from)))
}

/// What one version has at a path.
#[derive(Debug, Clone)]
pub struct FileVersion {
    /// The oldest version that has it so.
    pub version: Version,
    /// What there is; `None` for nothing.
    pub entry: Option<crate::Entry>,
}

/// The states that a path has had, oldest first, each once.
///
/// # Errors
/// [`ErrorKind::NotFound`] when no version has the path.
pub fn versions_of(target: &Path, path: &Path) -> Result<Vec<FileVersion>, Error> {
    let mirror = Mirror::open(target)?;
    let path = below_source(&mirror, path)?;
    let view = mirror.view()?;
    let history = view.history();
    let mut found: Vec<FileVersion> = Vec::new();
    for (k, version) in view.versions.iter().enumerate() {
        let entry = history.state(k, &path)?.map(|present| present.entry);
        let is_known = match found.last() {
            Some(last) => last.entry == entry,
            None => entry.is_none(),
        };
        if !is_known {
            found.push(FileVersion { version: version.clone(), entry });
        }
    }
    if found.is_empty() {
        return Err(MirrorError::NoPath(path).into());
    }
    Ok(found)
}

/// A path below the source, also when it is given with the path of the source before it.
fn below_source(mirror: &Mirror, path: &Path) -> Result<Box<[u8]>, Error> {
    let source = mirror.subject()?.source;
    Ok(restore::below_source(path.strip_prefix(source).unwrap_or(path))?)
}

/// What is restored, and where to.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The directory of the mirror.
    pub mirror: PathBuf,
    /// Name of the version.
    pub version: String,
    /// What of it, below the source; `None` for all.
    pub path: Option<PathBuf>,
    /// Where to.
    pub target: PathBuf,
    /// Whether setuid, capabilities and the like are set.
    pub special: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// Brings a version back, at any moment: also while a run goes on, or after one was cut.
#[must_use]
pub fn start_restore(options: RestoreOptions) -> Job<Outcome<RestoreReport>> {
    Job::spawn(move |control| {
        control.enter(Phase::Writing);
        let mirror = Mirror::open(&options.mirror)?;
        let path = options.path.as_deref().map(|path| below_source(&mirror, path)).transpose()?;
        let watch = Watching::new(control);
        let options = restore::RestoreOptions {
            version: options.version,
            path: path.unwrap_or_default(),
            target: options.target,
            policy: ApplyPolicy {
                owner: lastgood_host::identity::is_root(),
                special: options.special,
            },
            is_dry: options.dry_run,
        };
        let report = restore::restore(&mirror, &options, &watch)?;
        Ok(watch.outcome(report))
    })
}

/// Reads all files of all versions and compares them with what was recorded of them.
#[must_use]
pub fn start_verify(mirror: PathBuf) -> Job<Outcome<VerifyReport>> {
    Job::spawn(move |control| {
        control.enter(Phase::Verifying);
        let watch = Watching::new(control);
        let report = verify::verify(&Mirror::open(&mirror)?, &watch)?;
        Ok(watch.outcome(report))
    })
}

/// Whether a version stays, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The version.
    pub version: Version,
    /// Why it stays; none when it goes.
    pub reasons: Vec<String>,
}

/// What a policy keeps of a mirror, newest first, as [`crate::forget`] would of snapshots. The
/// newest version always stays. Tags, ids, groups and protection mean nothing to a mirror.
///
/// # Errors
/// [`ErrorKind::Invalid`] when no rule keeps anything; [`ErrorKind::Held`] while a run is held: what
/// it would take away may have to come from what a rotation would.
pub fn plan_rotation(
    target: &Path,
    policy: &Policy,
    calendar: &dyn Calendar,
) -> Result<Vec<Rotated>, Error> {
    if policy.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no rule says what to keep"));
    }
    let mirror = Mirror::open(target)?;
    if let Some(hold) = mirror.hold()? {
        return Err(MirrorError::Held(hold.held).into());
    }
    let mut versions = mirror.view_from(usize::MAX)?.versions;
    versions.reverse();
    let times: Vec<_> = versions.iter().map(|version| version.time).collect();
    let newest = times.first().copied();
    let within = policy.within.and_then(|span| Some((span, calendar.before(newest?, span))));
    let counted = counted(&times, policy, calendar);
    let rotated = versions.into_iter().zip(counted).map(|(version, mut reasons)| {
        if let Some((span, from)) = within
            && version.time > from
        {
            reasons.push(format!("within {span}"));
        }
        if Some(version.time) == newest {
            reasons.push("it is the newest".to_owned());
        }
        Rotated { version, reasons }
    });
    Ok(rotated.collect())
}

/// Removes versions; every other one stays what it is. What is removed is gone.
///
/// # Errors
/// When one is not there, or is the newest: those before it in the list are removed then.
pub fn drop_versions(target: &Path, names: &[String], dry_run: bool) -> Result<Dropped, Error> {
    let mirror = match dry_run {
        true => Mirror::open(target)?,
        false => Mirror::open_to_change(target)?.0,
    };
    let mut all = Dropped::default();
    for name in names {
        let dropped = thin::drop_version(&mirror, name, dry_run)?;
        all.files_needed += dropped.files_needed;
        all.files_freed += dropped.files_freed;
        all.bytes_freed += dropped.bytes_freed;
    }
    Ok(all)
}

/// The rules of a backup, as a mirror asks for them.
struct Selected<'a> {
    selection: &'a Selection,
    root_device: u64,
    scopes: Vec<Scope<'a>>,
}

impl<'a> Selected<'a> {
    fn new(selection: &'a Selection, source: &Path) -> Result<Self, Error> {
        let root_device = Directory::open_root(source)?.own_stat()?.hint.device;
        Ok(Self { selection, root_device, scopes: Vec::new() })
    }
}

impl Rules for Selected<'_> {
    fn enter(&mut self, path: &[u8], directory: &Directory) {
        let scope = self.selection.enter(0, path, |name, count| {
            let listing = directory.list(&mut ListBuffer::new()).ok()?;
            crate::backup::directory::head(directory, &listing, name, count)
        });
        self.scopes.push(scope);
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    fn choose(&mut self, name: &[u8], stat: &Stat) -> Choice {
        let Some(scope) = self.scopes.last_mut() else { return Choice::In };
        if let Decision::Exclude(_) = scope.decide(name, &Facts::from(stat)) {
            return Choice::Out;
        }
        match self.selection.descend(self.root_device, stat.hint.device) {
            Decision::Include => Choice::In,
            Decision::Exclude(_) => Choice::Shallow,
        }
    }
}

/// Shows a mirror's work as that of a job.
struct Watching<'a> {
    control: &'a Control,
    problems: Mutex<Problems>,
}

impl<'a> Watching<'a> {
    fn new(control: &'a Control) -> Self {
        Self { control, problems: Mutex::default() }
    }

    fn outcome<T>(self, report: T) -> Outcome<T> {
        let problems = self.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        Outcome { report, problems }
    }
}

impl Watch for Watching<'_> {
    fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    fn bytes(&self, path: &[u8], count: u64) {
        self.control.add_done(0, count);
        self.control.working_on(|| PathBuf::from(OsStr::from_bytes(path)));
    }

    fn file(&self, _: &[u8]) {
        self.control.add_done(1, 0);
    }

    fn total(&self, files: u64, bytes: u64) {
        self.control.add_total(files, bytes);
        self.control.total_is_known();
    }

    fn trouble(&self, trouble: Trouble) {
        let problem = Problem {
            path: PathBuf::from(OsStr::from_bytes(&trouble.path)),
            during: trouble.during,
            message: trouble.message,
            severity: Severity::Error,
        };
        self.control.problem(&problem);
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }
}

impl From<MirrorError> for Error {
    fn from(error: MirrorError) -> Self {
        let kind = match error {
            MirrorError::Host(error) => return error.into(),
            MirrorError::NoMirror(_)
            | MirrorError::NoVersion(_)
            | MirrorError::NoPath(_)
            | MirrorError::NotHeld => ErrorKind::NotFound,
            MirrorError::Foreign(_) => ErrorKind::Exists,
            MirrorError::OtherSource { .. } | MirrorError::Newest(_) | MirrorError::NoPlace(_) => {
                ErrorKind::Invalid
            }
            MirrorError::Busy(_) => ErrorKind::Conflict,
            MirrorError::Held(_) => ErrorKind::Held,
            MirrorError::NoSpace { .. } | MirrorError::NoEntries { .. } => ErrorKind::NoSpace,
            MirrorError::Text { source: TextError::Feature(_), .. } => ErrorKind::TooNew,
            MirrorError::Text { .. } | MirrorError::Missing(_) => ErrorKind::Damaged,
            MirrorError::Cancelled => ErrorKind::Cancelled,
        };
        crate::error::split(kind, error)
    }
}

/// In so many days everything that a mirror holds is read once, unless somebody says otherwise.
pub const SCRUB_DAYS: u32 = 30;
