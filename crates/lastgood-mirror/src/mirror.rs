//! A mirror on disk: its versions and texts, also while a commit is under way.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use lastgood_format::entry::Timestamp;
use lastgood_host::HostError;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;

use crate::content;
use crate::delta::{self, Delta, History, Manifest};
use crate::error::MirrorError;
use crate::journal::{Done, Journal, Operation};
use crate::layout;
use crate::place::{self, HostPlace, Place};
use crate::record::{self, Path, Present, State};
use crate::text::{Reader, Seal, TextError, Writer};

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Name of its folder and its delta.
    pub name: String,
    /// Its moment.
    pub time: Timestamp,
    /// Seal of its delta; of the manifest for the newest.
    pub seal: Seal,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths of which it has an older state, because the source could not be read.
    pub kept: u64,
    /// Bytes of the files in its folder; the newest has none.
    pub bytes_kept: u64,
}

/// What a mirror is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The directory.
    pub source: PathBuf,
    /// Its inode.
    pub root: u64,
}

/// An open mirror.
pub struct Mirror {
    pub(crate) place: Arc<dyn Place>,
    path: PathBuf,
    /// Held by who changes it.
    _lock: Option<TargetFile>,
}

/// What the texts of a mirror say at one moment.
#[derive(Debug)]
pub struct View {
    /// Oldest first; empty before the first run.
    pub versions: Vec<Version>,
    /// Delta of each version from `first` on, but the newest.
    pub deltas: Vec<Delta>,
    /// Index of the version of the first delta that was read.
    pub first: usize,
    /// The newest version.
    pub latest: Manifest,
    /// A commit that is under way.
    journal: Option<Journal>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Mirror {
    /// Opens a mirror to read it. It may be changed meanwhile.
    ///
    /// # Errors
    /// [`MirrorError::NoMirror`] among others.
    pub fn open(path: &FilePath) -> Result<Self, MirrorError> {
        let place = match HostPlace::open(path) {
            Err(error) if error.is_not_found() || error.is_not_directory() => {
                return Err(MirrorError::NoMirror(path.into()));
            }
            place => place?,
        };
        let mirror = Self::on(Arc::new(place), path);
        match mirror.place.stat(layout::MIRROR)? {
            Some(_) => Ok(mirror),
            None => Err(MirrorError::NoMirror(path.into())),
        }
    }

    /// A mirror on any place; `path` is for messages. Nobody else may change it.
    #[must_use]
    pub fn on(place: Arc<dyn Place>, path: &FilePath) -> Self {
        Self { place, path: path.into(), _lock: None }
    }

    /// Opens a mirror to change it, and rolls forward what was cut.
    ///
    /// # Errors
    /// [`MirrorError::Busy`] when another process changes it.
    pub fn open_to_change(path: &FilePath) -> Result<(Self, Done), MirrorError> {
        let mut mirror = Self::open(path)?;
        mirror.lock()?;
        let done = mirror.recover()?;
        Ok((mirror, done))
    }

    /// Opens the mirror of a source, or makes an empty one in a directory that is empty or missing.
    ///
    /// # Errors
    /// [`MirrorError::Foreign`]; [`MirrorError::OtherSource`]; [`MirrorError::Busy`].
    pub fn open_or_create(path: &FilePath, subject: &Subject) -> Result<(Self, Done), MirrorError> {
        match Self::open_to_change(path) {
            Err(MirrorError::NoMirror(_)) => {}
            Err(error) => return Err(error),
            Ok((mirror, done)) => {
                let recorded = mirror.subject()?.source;
                if recorded != subject.source {
                    let given = subject.source.clone();
                    return Err(MirrorError::OtherSource { recorded, given });
                }
                return Ok((mirror, done));
            }
        }
        let place = HostPlace::create(path)?;
        let ours = |name: &Path| **name == *layout::OURS || **name == *b"lost+found";
        if !place.list(b"")?.iter().all(ours) {
            return Err(MirrorError::Foreign(path.into()));
        }
        let mut mirror = Self::on(Arc::new(place), path);
        place::make_directories(&*mirror.place, layout::STAGE)?;
        mirror.lock()?;
        mirror.found(subject)?;
        Ok((mirror, Done::default()))
    }

    /// Writes what makes a directory a mirror, last of all its name.
    ///
    /// # Errors
    /// It is no mirror yet then.
    pub fn found(&self, subject: &Subject) -> Result<(), MirrorError> {
        for directory in [layout::STAGE, layout::DELTAS, layout::LATEST] {
            place::make_directories(&*self.place, directory)?;
        }
        place::empty(&*self.place, layout::STAGE)?;
        for (name, bytes) in crate::scripts::FILES {
            let stage = layout::stage(name);
            place::write(&*self.place, &stage, bytes.as_bytes())?;
            self.place.rename(&stage, name.as_bytes())?;
        }
        let stage = layout::stage("mirror");
        place::write(&*self.place, &stage, &subject.to_text())?;
        self.place.sync()?;
        self.place.rename(&stage, layout::MIRROR)?;
        Ok(self.place.sync()?)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// What it is of.
    ///
    /// # Errors
    /// When the text is damaged.
    pub fn subject(&self) -> Result<Subject, MirrorError> {
        let bytes = self.text(layout::MIRROR)?;
        Subject::parse(&bytes).map_err(|source| failed(layout::MIRROR, source))
    }

    /// Takes the lock.
    fn lock(&mut self) -> Result<(), MirrorError> {
        match place::write(&*self.place, layout::LOCK, b"") {
            Err(error) if !error.is_exists() => return Err(error.into()),
            _ => {}
        }
        let (directory, name) =
            (self.path.join(".lastgood"), layout::LOCK.rsplit(|&b| b == b'/').next());
        let target = lastgood_host::target::Target::open_existing(&directory)?;
        let file = target.root().open_file(name.unwrap_or_default())?;
        if !file.try_lock()? {
            return Err(MirrorError::Busy(self.path.clone()));
        }
        self._lock = Some(file);
        Ok(())
    }

    /// Rolls a commit forward that was cut, and throws away what never became one. For who holds
    /// the lock.
    ///
    /// # Errors
    /// It can be done again.
    pub fn recover(&self) -> Result<Done, MirrorError> {
        let done = match self.journal()? {
            Some(journal) => {
                let done = journal.roll_forward(&*self.place, true)?;
                self.close()?;
                done
            }
            None => Done::default(),
        };
        place::empty(&*self.place, layout::STAGE)?;
        Ok(done)
    }

    /// Makes a journal durable and does what it says. What it puts in place is in the stage.
    pub(crate) fn commit(&self, journal: &Journal) -> Result<Done, MirrorError> {
        let stage = layout::stage("journal");
        place::write(&*self.place, &stage, &journal.to_text())?;
        self.place.sync()?;
        self.place.rename(&stage, layout::JOURNAL)?;
        self.place.sync()?;
        let done = journal.roll_forward(&*self.place, false)?;
        self.close()?;
        place::empty(&*self.place, layout::STAGE)?;
        Ok(done)
    }

    /// Removes the journal. Only when that is durable something else may bear a name of the stage:
    /// a journal that came back would put it in place.
    fn close(&self) -> Result<(), MirrorError> {
        self.place.remove(layout::JOURNAL)?;
        Ok(self.place.sync()?)
    }

    /// A path at which nothing lies: what was set aside before stays.
    pub(crate) fn free_place(&self, mut path: Path) -> Result<Path, MirrorError> {
        while self.place.stat(&path)?.is_some() {
            path = [&path, &b"~"[..]].concat().into();
        }
        Ok(path)
    }

    fn journal(&self) -> Result<Option<Journal>, MirrorError> {
        let Some(bytes) = place::read(&*self.place, layout::JOURNAL)? else { return Ok(None) };
        let journal = Journal::parse(&bytes);
        Ok(Some(journal.map_err(|source| failed(layout::JOURNAL, source))?))
    }

    fn text(&self, path: &[u8]) -> Result<Vec<u8>, MirrorError> {
        place::read(&*self.place, path)?.ok_or_else(|| MirrorError::Missing(path.into()))
    }

    /// What the texts say, with the deltas of the versions from `first` on.
    ///
    /// # Errors
    /// When one that is needed is damaged or missing.
    pub fn view_from(&self, first: usize) -> Result<View, MirrorError> {
        let mut result = self.view_once(first);
        for _ in 1..VIEWS_MAX {
            // A commit that ended or began meanwhile is seen whole the next time.
            if result.is_ok() {
                break;
            }
            result = self.view_once(first);
        }
        result
    }

    /// What the texts say, all of them.
    ///
    /// # Errors
    /// When one is damaged or missing.
    pub fn view(&self) -> Result<View, MirrorError> {
        self.view_from(0)
    }

    fn view_once(&self, first: usize) -> Result<View, MirrorError> {
        let journal = self.journal()?;
        let mut failure = None;
        for at in names(journal.as_ref(), layout::VERSIONS) {
            let Some(bytes) = place::read(&*self.place, &at)? else { continue };
            let view = parse_versions(&bytes)
                .map_err(|source| failed(layout::VERSIONS, source))
                .and_then(|versions| self.view_of(versions, first, journal.as_ref()));
            match view {
                Ok(view) => return Ok(View { journal, ..view }),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if journal.is_none() && self.place.stat(layout::MANIFEST)?.is_some() => {
                Err(MirrorError::Missing(layout::VERSIONS.into()))
            }
            None => Ok(View {
                versions: Vec::new(),
                deltas: Vec::new(),
                first: 0,
                latest: Manifest::new(),
                journal,
            }),
        }
    }

    fn view_of(
        &self,
        versions: Vec<Version>,
        first: usize,
        journal: Option<&Journal>,
    ) -> Result<View, MirrorError> {
        let Some((newest, older)) = versions.split_last() else {
            return Err(MirrorError::Missing(layout::VERSIONS.into()));
        };
        let latest = self.sealed("latest", layout::MANIFEST, newest.seal, journal)?.0;
        let latest = latest
            .into_iter()
            .filter_map(|(path, state)| match state {
                State::Present(present) => Some((path, *present)),
                State::Absent => None,
            })
            .collect();
        let deltas = older.iter().skip(first).map(|version| {
            let path = layout::delta(&version.name);
            Ok(self.sealed("delta", &path, version.seal, journal)?.0)
        });
        let deltas = deltas.collect::<Result<_, MirrorError>>()?;
        Ok(View { deltas, first, latest, journal: None, versions })
    }

    /// The delta of a version, and what it says beside its records.
    pub(crate) fn delta(
        &self,
        view: &View,
        version: &Version,
    ) -> Result<(Delta, Head), MirrorError> {
        let path = layout::delta(&version.name);
        self.sealed("delta", &path, version.seal, view.journal.as_ref())
    }

    /// The records of the text with this seal, wherever a commit has it.
    fn sealed(
        &self,
        kind: &'static str,
        path: &[u8],
        seal: Seal,
        journal: Option<&Journal>,
    ) -> Result<(Delta, Head), MirrorError> {
        let mut failure = MirrorError::Missing(path.into());
        for at in names(journal, path) {
            let Some(bytes) = place::read(&*self.place, &at)? else { continue };
            match parse_records(kind, &bytes) {
                Ok((found, _, _)) if found != seal => {}
                Ok((_, records, head)) => return Ok((records, head)),
                Err(source) => failure = failed(path, source),
            }
        }
        Err(failure)
    }
}

/// Whatever a path may be called while a commit is under way: its own name first.
fn names(journal: Option<&Journal>, path: &[u8]) -> Vec<Path> {
    let mut names = vec![Path::from(path)];
    for operation in journal.iter().flat_map(|journal| &journal.operations) {
        match operation {
            Operation::Keep { from, to, .. } | Operation::Put { from, to } => {
                for (one, other) in [(from, to), (to, from)] {
                    if names.contains(one) && !names.contains(other) {
                        names.push(other.clone());
                    }
                }
            }
            _ => {}
        }
    }
    names
}

impl View {
    /// Whatever a path may be called while the commit is under way that was, when this was read.
    pub(crate) fn names(&self, path: &[u8]) -> Vec<Path> {
        names(self.journal.as_ref(), path)
    }

    /// The versions that were read.
    #[must_use]
    pub fn history(&self) -> History<'_> {
        History { deltas: &self.deltas, latest: &self.latest }
    }

    /// Index of the version with this name.
    ///
    /// # Errors
    /// [`MirrorError::NoVersion`].
    pub fn index(&self, name: &str) -> Result<usize, MirrorError> {
        let found = self.versions.iter().position(|version| version.name == name);
        found.ok_or_else(|| MirrorError::NoVersion(name.to_owned()))
    }

    /// Index of the version that was the newest at a moment.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> Option<usize> {
        self.versions.iter().rposition(|version| version.time <= time)
    }

    /// Opens the bytes that a file has in version `k`, if they are there and whole.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(
        &self,
        mirror: &Mirror,
        k: usize,
        path: &[u8],
        present: &Present,
    ) -> Result<Option<SourceFile>, HostError> {
        let wanted = present.hash();
        let place = match self.history().place(k - self.first, path) {
            delta::Place::Folder(i, at) => layout::folder(&self.versions[i + self.first].name, &at),
            delta::Place::Latest(at) => layout::latest(&at),
            delta::Place::Lost => return Ok(None),
        };
        for at in self.names(&place) {
            let Some(file) = mirror.place.open(&at)? else { continue };
            let copied = content::copy(&file, None, &mut |_| true)?;
            if copied.map(|copied| lastgood_format::id::BlobId::new(copied.hash)) == wanted {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

impl Subject {
    /// As text.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Writer::new("mirror");
        out.line(&[b"source", self.source.as_os_str().as_bytes()]);
        out.line(&[b"root", self.root.to_string().as_bytes()]);
        out.finish().0
    }

    fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let mut subject = Self { source: PathBuf::new(), root: 0 };
        for line in Reader::open("mirror", bytes)?.lines() {
            let (number, fields) = line?;
            let bad = TextError::Line(number);
            match fields.as_slice() {
                [word, path, ..] if word == b"source" => {
                    subject.source = std::ffi::OsString::from_vec(path.clone()).into();
                }
                [word, inode, ..] if word == b"root" => {
                    let text = std::str::from_utf8(inode).map_err(|_| bad.clone())?;
                    subject.root = text.parse().map_err(|_| bad)?;
                }
                _ => return Err(bad),
            }
        }
        Ok(subject)
    }
}

/// The list of versions as text.
#[must_use]
pub fn versions_text(versions: &[Version]) -> Vec<u8> {
    let mut out = Writer::new("versions");
    for version in versions {
        out.line(&[
            b"version",
            version.name.as_bytes(),
            record::time_text(version.time).as_bytes(),
            version.seal.to_string().as_bytes(),
            version.files.to_string().as_bytes(),
            version.bytes.to_string().as_bytes(),
            version.kept.to_string().as_bytes(),
            version.bytes_kept.to_string().as_bytes(),
        ]);
    }
    out.finish().0
}

fn parse_versions(bytes: &[u8]) -> Result<Vec<Version>, TextError> {
    let reader = Reader::open("versions", bytes)?;
    let versions = reader.lines().map(|line| {
        let (number, fields) = line?;
        version_of(&fields).ok_or(TextError::Line(number))
    });
    let versions: Vec<Version> = versions.collect::<Result<_, _>>()?;
    match versions.is_sorted_by(|one, other| one.time < other.time) {
        true => Ok(versions),
        false => Err(TextError::Line(3)),
    }
}

fn version_of(fields: &[Vec<u8>]) -> Option<Version> {
    let [word, name, time, seal, files, bytes, kept, bytes_kept, ..] = fields else { return None };
    let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
    let number = |field: &[u8]| text(field)?.parse().ok();
    let name = text(name).filter(|name| name.starts_with("backup-") && !name.contains('/'))?;
    (word == b"version").then_some(Version {
        name,
        time: record::parse_time(time)?,
        seal: text(seal)?.parse().ok()?,
        files: number(files)?,
        bytes: number(bytes)?,
        kept: number(kept)?,
        bytes_kept: number(bytes_kept)?,
    })
}

/// What a delta says beside its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Seal of the next older delta when this one was written.
    pub before: Option<Seal>,
    /// Seals of the deltas that it took the place of.
    pub replaces: Vec<Seal>,
}

/// The manifest of the newest version as text.
pub(crate) fn manifest_text(version: &Version, latest: &Manifest) -> (Vec<u8>, Seal) {
    let records =
        latest.iter().map(|(path, present)| (path, State::Present(Box::new(present.clone()))));
    records_text("latest", &version.name, version.time, &Head::default(), records)
}

/// A manifest or a delta as text.
pub(crate) fn records_text<'a>(
    kind: &str,
    name: &str,
    time: Timestamp,
    head: &Head,
    records: impl Iterator<Item = (&'a Path, State)>,
) -> (Vec<u8>, Seal) {
    let mut out = Writer::new(kind);
    out.line(&[b"version", name.as_bytes(), record::time_text(time).as_bytes()]);
    if kind == "delta" {
        let before = head.before.map(|seal| seal.to_string()).unwrap_or_default();
        out.line(&[b"before", before.as_bytes()]);
    }
    for seal in &head.replaces {
        out.line(&[b"replaces", seal.to_string().as_bytes()]);
    }
    for (path, state) in records {
        record::write(path, &state, &mut out);
    }
    out.finish()
}

fn parse_records(kind: &'static str, bytes: &[u8]) -> Result<(Seal, Delta, Head), TextError> {
    let reader = Reader::open(kind, bytes)?;
    let mut records = Delta::new();
    let mut head = Head::default();
    for line in reader.lines() {
        let (number, fields) = line?;
        let bad = || TextError::Line(number);
        let seal = |field: &[u8]| {
            let text = std::str::from_utf8(field).map_err(|_| bad())?;
            text.parse::<Seal>().map_err(|()| bad())
        };
        match fields.as_slice() {
            [word, ..] if word == b"version" => {}
            [word, none, ..] if word == b"before" && none.is_empty() => {}
            [word, found, ..] if word == b"before" => head.before = Some(seal(found)?),
            [word, found, ..] if word == b"replaces" => head.replaces.push(seal(found)?),
            fields => {
                let (path, state) = record::parse(fields).ok_or_else(bad)?;
                // Paths ascend, so that none is there twice.
                if records.last_key_value().is_some_and(|(last, _)| *last >= path) {
                    return Err(bad());
                }
                records.insert(path, state);
            }
        }
    }
    Ok((reader.seal(), records, head))
}

pub(crate) fn failed(path: &[u8], source: TextError) -> MirrorError {
    MirrorError::Text { path: path.into(), source }
}

/// A view that fails while somebody commits is made again so often.
const VIEWS_MAX: usize = 3;
