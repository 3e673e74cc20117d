//! A mirror on disk: its versions and texts, also while a commit is under way.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use lastgood_format::entry::Timestamp;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;

use crate::content;
use crate::delta::{self, History};
use crate::error::{MirrorError, told};
use crate::journal::{self, Done, Journal, JournalWriter, Operation};
use crate::layout;
use crate::place::{self, HostPlace, Place};
use crate::record::{self, Path, Present};
use crate::sheet::Sheet;
use crate::text::{self, Reader, Seal, TextError};
use crate::texts::{Head, parse_versions};

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
    pub deltas: Vec<Sheet>,
    /// Index of the version of the first delta that was read.
    pub first: usize,
    /// The newest version.
    pub latest: Sheet,
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
        // A text of some length is open as long as it is read, and there is one for each version.
        drop(lastgood_host::volume::raise_open_file_limit());
        let place = match HostPlace::open(path) {
            Err(error) if error.is_not_found() || error.is_not_directory() => {
                return Err(MirrorError::NoMirror(path.into()));
            }
            place => place?,
        };
        let mirror = Self::on(Arc::new(place), path);
        if mirror.is_founded()? { Ok(mirror) } else { Err(MirrorError::NoMirror(path.into())) }
    }

    /// Whether something says what it is of.
    pub(crate) fn is_founded(&self) -> Result<bool, MirrorError> {
        let second = layout::second(layout::MIRROR);
        Ok(self.place.stat(layout::MIRROR)?.is_some() || self.place.stat(&second)?.is_some())
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
        let mut mirror = match Self::open(path) {
            Err(MirrorError::NoMirror(_)) => Self::begin(path)?,
            mirror => mirror?,
        };
        mirror.lock()?;
        // Only who has the lock knows whether somebody else has made it meanwhile.
        if !mirror.is_founded()? {
            mirror.found(subject)?;
            return Ok((mirror, Done::default()));
        }
        let done = mirror.recover()?;
        let recorded = mirror.subject()?.source;
        if recorded != subject.source {
            let given = subject.source.clone();
            return Err(MirrorError::OtherSource { recorded, given });
        }
        Ok((mirror, done))
    }

    /// A directory that is to become a mirror, with what the lock lies in.
    fn begin(path: &FilePath) -> Result<Self, MirrorError> {
        let place = HostPlace::create(path)?;
        if !is_free(&place)? {
            return Err(MirrorError::Foreign(path.into()));
        }
        place::make_directories(&place, layout::STAGE)?;
        Ok(Self::on(Arc::new(place), path))
    }

    /// A directory that is to become a mirror, locked. It has a directory of ours.
    pub(crate) fn locked(place: HostPlace, path: &FilePath) -> Result<Self, MirrorError> {
        let mut mirror = Self::on(Arc::new(place), path);
        mirror.lock()?;
        Ok(mirror)
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
        self.write_texts(vec![(layout::MIRROR.into(), subject.to_text())])
    }

    /// Puts texts in place where nothing depends on them yet, the first copy last.
    pub(crate) fn write_texts(&self, texts: Vec<(Path, Vec<u8>)>) -> Result<(), MirrorError> {
        let puts = self.stage_texts(texts)?;
        self.put_texts(&puts)
    }

    /// Puts staged texts in place where nothing depends on them yet.
    pub(crate) fn put_texts(&self, puts: &[Operation]) -> Result<(), MirrorError> {
        self.place.sync()?;
        for put in puts {
            if let Operation::Put { from, to } = put {
                place::make_way(&*self.place, to)?;
                self.place.rename(from, to)?;
            }
        }
        Ok(self.place.sync()?)
    }

    /// Writes texts into the stage, each twice; the operations put them in place.
    pub(crate) fn stage_texts(
        &self,
        texts: Vec<(Path, Vec<u8>)>,
    ) -> Result<Vec<Operation>, MirrorError> {
        let mut operations = Vec::new();
        for (number, (path, bytes)) in texts.into_iter().enumerate() {
            for (copy, to) in [("second", layout::second(&path)), ("text", path)] {
                let from = layout::stage(&format!("{copy}-{number}"));
                place::write(&*self.place, &from, &bytes)?;
                operations.push(Operation::Put { from, to });
            }
        }
        Ok(seconds_first(operations))
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
        let mut failure = MirrorError::Missing(layout::MIRROR.into());
        for at in [layout::MIRROR.into(), layout::second(layout::MIRROR)] {
            match place::read(&*self.place, &at) {
                Ok(None) => {}
                Ok(Some(bytes)) => match Subject::parse(&bytes) {
                    Ok(subject) => return Ok(subject),
                    Err(source) => failure = failed(layout::MIRROR, source),
                },
                // Another copy may be on a part of the disk that answers.
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
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

    /// Stages the second copy of a text that is in the stage; the operations put both in place.
    pub(crate) fn stage_second(
        &self,
        text: &Path,
        to: Path,
    ) -> Result<[Operation; 2], MirrorError> {
        let second: Path = [text, &b"-second"[..]].concat().into();
        let file = self.place.open(text)?.ok_or_else(|| MirrorError::Missing(text.clone()))?;
        content::copy(&file, Some(&self.place.create(&second)?), &mut |_| true)?;
        let put = |from, to| Operation::Put { from, to };
        Ok([put(second, layout::second(&to)), put(text.clone(), to)])
    }

    /// Rolls a commit forward that was cut, and throws away what never became one. For who holds
    /// the lock.
    ///
    /// # Errors
    /// It can be done again.
    pub fn recover(&self) -> Result<Done, MirrorError> {
        self.check_writer()?;
        let done = match Journal::open(&*self.place) {
            Ok(None) => Done::default(),
            Ok(Some(journal)) => {
                journal.check_writer()?;
                let done = journal.roll_forward(&*self.place, true)?;
                self.close()?;
                done
            }
            Err(error) if journal::is_unreadable(&error) => self.give_up(&error)?,
            Err(error) => return Err(error),
        };
        place::empty(&*self.place, layout::STAGE)?;
        Ok(done)
    }

    /// No copy of the journal says what was to be done. Nothing is thrown away, the stage least of
    /// all; what is not as the texts say is for the next run.
    fn give_up(&self, why: &MirrorError) -> Result<Done, MirrorError> {
        let aside = self.free_place(layout::damaged("journal"))?;
        place::drop_other_names(&*self.place, layout::STAGE)?;
        place::make_directories(&*self.place, &aside)?;
        let copies = [layout::JOURNAL.into(), layout::second(layout::JOURNAL)];
        // The journal last: until it has gone, this is done again.
        for (from, name) in [Path::from(layout::STAGE)]
            .into_iter()
            .chain(copies)
            .zip(["stage", "journal", "second"])
        {
            if self.place.stat(&from)?.is_some() {
                self.place.rename(&from, &record::join(&aside, name.as_bytes()))?;
                self.place.sync()?;
            }
        }
        place::make_directories(&*self.place, layout::STAGE)?;
        self.place.sync()?;
        Ok(Done { unreadable: Some((aside, told(why))), ..Done::default() })
    }

    /// Whether this release may change the mirror: a later one may have made rules for writers. They
    /// stand in this text and in the journal, whatever they are about. A copy that is damaged says
    /// nothing.
    fn check_writer(&self) -> Result<(), MirrorError> {
        for at in [layout::MIRROR.into(), layout::second(layout::MIRROR)] {
            let Some(bytes) = place::read(&*self.place, &at).ok().flatten() else { continue };
            match Reader::open("mirror", &bytes) {
                Ok(_) => {
                    let features = bytes.split(|&byte| byte == b'\n').nth(1).unwrap_or_default();
                    text::check_writer(features).map_err(|source| failed(&at, source))?;
                }
                Err(source @ TextError::Feature(_)) => return Err(failed(&at, source)),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes a journal of operations, whose files are in the stage, and does what it says.
    pub(crate) fn commit_all(
        &self,
        aside: Path,
        operations: &[Operation],
    ) -> Result<Done, MirrorError> {
        let mut journal = JournalWriter::new(&*self.place, aside)?;
        operations.iter().try_for_each(|operation| journal.add(operation))?;
        self.commit(&journal.finish()?)
    }

    /// Makes a journal durable that is in the stage, and does what it says.
    pub(crate) fn commit(&self, journal: &Journal) -> Result<Done, MirrorError> {
        // The second copy first: what is under its own name has another.
        let puts = self.stage_second(&layout::stage("journal"), layout::JOURNAL.into())?;
        self.put_texts(&puts)?;
        let done = journal.roll_forward(&*self.place, false)?;
        self.close()?;
        place::empty(&*self.place, layout::STAGE)?;
        Ok(done)
    }

    /// Removes the journal. Only when that is durable something else may bear a name of the stage:
    /// a journal that came back would put it in place.
    fn close(&self) -> Result<(), MirrorError> {
        for copy in [layout::JOURNAL.into(), layout::second(layout::JOURNAL)] {
            match self.place.remove(&copy) {
                Err(error) if error.is_not_found() => {}
                removed => removed?,
            }
        }
        Ok(self.place.sync()?)
    }

    /// A name for a version of this moment.
    pub(crate) fn free_name(
        &self,
        versions: &[Version],
        time: Timestamp,
    ) -> Result<String, MirrorError> {
        let stem = layout::version_name(time);
        let mut name = stem.clone();
        let mut number = 2;
        while versions.iter().any(|version| version.name == name)
            || self.place.stat(name.as_bytes())?.is_some()
        {
            name = format!("{stem}-{number}");
            number += 1;
        }
        Ok(name)
    }

    /// A path at which nothing lies: what was set aside before stays.
    pub(crate) fn free_place(&self, mut path: Path) -> Result<Path, MirrorError> {
        while self.place.stat(&path)?.is_some() {
            path = [&path, &b"~"[..]].concat().into();
        }
        Ok(path)
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

    /// What the texts say, with the deltas from the oldest of these versions on: damage in the text
    /// of an older one is no matter.
    ///
    /// # Errors
    /// [`MirrorError::NoVersion`] among others.
    pub fn view_back_to(&self, names: &[&str]) -> Result<View, MirrorError> {
        let newest = self.view_from(usize::MAX)?;
        let is_there = |view: &View| {
            let found = |name: &&str| view.index(name).is_ok_and(|index| index >= view.first);
            names.iter().all(found)
        };
        let first = names.iter().filter_map(|name| newest.index(name).ok()).min();
        match self.view_from(first.unwrap_or(usize::MAX)) {
            Ok(view) if is_there(&view) => Ok(view),
            // A commit that is under way shows another list to those who need other deltas.
            _ => {
                let view = self.view()?;
                names.iter().try_for_each(|name| view.index(name).map(drop))?;
                Ok(view)
            }
        }
    }

    fn view_once(&self, first: usize) -> Result<View, MirrorError> {
        let journal = match Journal::open(&*self.place) {
            // Whoever changes the mirror next sets it aside; the texts are whole without it.
            Err(error) if journal::is_unreadable(&error) => None,
            journal => journal?,
        };
        let mut failure = None;
        for at in text_names(journal.as_ref(), layout::VERSIONS)? {
            let view = match place::read(&*self.place, &at) {
                Ok(None) => continue,
                Ok(Some(bytes)) => parse_versions(&bytes)
                    .map_err(|source| failed(layout::VERSIONS, source))
                    .and_then(|versions| self.view_of(versions, first, journal.as_ref())),
                Err(error) => Err(error.into()),
            };
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
                latest: Sheet::default(),
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
    ) -> Result<(Sheet, Head), MirrorError> {
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
    ) -> Result<(Sheet, Head), MirrorError> {
        let mut failure = MirrorError::Missing(path.into());
        for at in text_names(journal, path)? {
            match Sheet::open(&*self.place, &at, kind) {
                Ok(Some((sheet, head, found))) if found == seal => return Ok((sheet, head)),
                Ok(_) => {}
                Err(MirrorError::Text { source, .. }) => failure = failed(path, source),
                // Another copy may be on a part of the disk that answers.
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Texts in the order in which they are put in place: either all second copies are those of before,
/// or all first ones are, at any moment.
pub(crate) fn seconds_first(mut puts: Vec<Operation>) -> Vec<Operation> {
    puts.sort_by_key(|put| match put {
        Operation::Put { to, .. } => !layout::is_second(to),
        _ => true,
    });
    puts
}

/// Whether a directory may become a mirror: it is empty, or its making was cut.
fn is_free(place: &dyn Place) -> Result<bool, MirrorError> {
    let is_begun = place.stat(layout::STAGE)?.is_some();
    let is_empty = place.list(layout::LATEST)?.is_empty();
    let is_script = |name: &[u8]| crate::scripts::FILES.iter().any(|it| it.0.as_bytes() == name);
    let is_ours = |name: &Path| match &**name {
        layout::OURS | b"lost+found" => true,
        layout::LATEST => is_begun && is_empty,
        name => is_begun && is_script(name),
    };
    Ok(place.list(b"")?.iter().all(is_ours))
}

/// Wherever a text may be: its second copy last.
fn text_names(journal: Option<&Journal>, path: &[u8]) -> Result<Vec<Path>, MirrorError> {
    Ok([names(journal, path)?, names(journal, &layout::second(path))?].concat())
}

/// Whatever a path may be called while a commit is under way: its own name first.
fn names(journal: Option<&Journal>, path: &[u8]) -> Result<Vec<Path>, MirrorError> {
    let mut names = vec![Path::from(path)];
    let Some(journal) = journal else { return Ok(names) };
    let mut asked = 0;
    while let Some(name) = names.get(asked) {
        for other in journal.others(name)? {
            if !names.contains(&other) {
                names.push(other);
            }
        }
        asked += 1;
    }
    Ok(names)
}

impl View {
    /// Whatever a path may be called while the commit is under way that was, when this was read.
    pub(crate) fn names(&self, path: &[u8]) -> Result<Vec<Path>, MirrorError> {
        names(self.journal.as_ref(), path)
    }

    /// Whether a commit was under way when this was read.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.journal.is_some()
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
    ) -> Result<Option<SourceFile>, MirrorError> {
        let wanted = present.hash();
        let place = match self.history().place(k - self.first, path)? {
            delta::Place::Folder(i, at) => layout::folder(&self.versions[i + self.first].name, &at),
            delta::Place::Latest(at) => layout::latest(&at),
            delta::Place::Lost => return Ok(None),
        };
        for at in self.names(&place)? {
            let Some(file) = mirror.place.open(&at)? else { continue };
            let copied = content::copy(&file, None, &mut |_| true)?;
            if copied.map(|copied| lastgood_format::id::BlobId::new(copied.hash)) == wanted {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

pub(crate) fn failed(path: &[u8], source: TextError) -> MirrorError {
    MirrorError::Text { path: path.into(), source }
}

/// A view that fails while somebody commits is made again so often.
const VIEWS_MAX: usize = 3;
