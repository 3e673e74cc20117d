//! A commit: operations that can be done again, under way until the last is done.
//! Spec: `docs/format/mirror.md`, section 6.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use lastgood_format::entry::Timestamp;
use lastgood_host::HostError;
use lastgood_host::scan::{Kind, Stat};

use crate::content;
use crate::error::{MirrorError, Trouble, Watch, told};
use crate::index::Index;
use crate::layout;
use crate::mirror::failed;
use crate::place::{self, Place};
use crate::record::{self, Path, Present, State};
use crate::sheet::{Sheet, SheetWriter};
use crate::text::{self, TextError};

/// One step of a commit. Paths are relative to the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes a directory and those above it.
    Directory(Path),
    /// Gives a file a second name; where there are no hard links, renames it.
    Keep {
        /// Where it is.
        from: Path,
        /// Where it is to be.
        to: Path,
        /// What it holds, where the second name is renamed later in the same commit.
        hash: Option<[u8; 32]>,
        /// What is to be seen of it; what looks otherwise is another's. `None` for whatever it is.
        looks: Option<Looks>,
    },
    /// Syncs the file system.
    Barrier,
    /// Removes what is no directory.
    Clear(Path),
    /// Removes a directory; what others put into it goes aside with it.
    Leave(Path),
    /// Renames, over what is there: a file, or a directory with all that is in it.
    Put {
        /// Where it is.
        from: Path,
        /// Where it is to be.
        to: Path,
    },
    /// Sets the metadata of a path below `latest/`.
    Look(Path, Box<Present>),
}

/// What is to be seen of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Its length.
    pub size: u64,
    /// When it was modified.
    pub mtime: Timestamp,
}

impl Looks {
    /// Those of a file of a record.
    #[must_use]
    pub fn of(present: &Present) -> Option<Self> {
        present.is_file().then(|| Self { size: present.size(), mtime: present.entry.mtime })
    }

    /// Whether a file looks so, as far as file systems can show it.
    #[must_use]
    pub fn are_of(self, stat: &Stat) -> bool {
        stat.kind == Kind::File && stat.size == self.size && is_shown_as(self.mtime, stat.mtime)
    }
}

/// Whether a file system may show one time for the other: FAT keeps even seconds only, others no
/// less than a hundredth, or ten of a billion, and none keeps times from ever to ever.
fn is_shown_as(wanted: Timestamp, shown: Timestamp) -> bool {
    let is_rounded = |to: u32| {
        shown.nanos.is_multiple_of(to)
            && wanted.seconds == shown.seconds
            && wanted.nanos.abs_diff(shown.nanos) < to
    };
    // What FAT shows for a time that it has not got is another with each driver.
    let is_beyond = !FAT_SECONDS.contains(&wanted.seconds) && shown.nanos == 0;
    wanted == shown
        || is_beyond
        || (shown.nanos == 0 && wanted.seconds.abs_diff(shown.seconds) <= 2)
        || GRANULES.into_iter().any(is_rounded)
}

/// In what steps file systems count time: NTFS, many over a network, exFAT; in nanoseconds.
const GRANULES: [u32; 4] = [100, 1_000, 1_000_000, 10_000_000];
/// From 1980 to 2107.
const FAT_SECONDS: std::ops::Range<i64> = 315_532_800..4_354_819_200;

/// All operations of a commit, on disk.
#[derive(Debug)]
pub struct Journal {
    /// Where things go that are in the way and are not ours.
    pub aside: Path,
    text: Sheet,
    /// Where the operations begin.
    start: u64,
    /// Operations that give something another name, by both its names: for who asks for them.
    names: OnceLock<Index>,
    /// What was in the way and was not ours.
    moved_aside: Mutex<Vec<Path>>,
}

/// What a commit came across.
#[derive(Debug, Default)]
pub struct Done {
    /// Files that were to be kept and had vanished.
    pub vanished: Vec<Path>,
    /// What was in the way and was moved aside: somebody put it there since the plan was made.
    pub aside: Vec<Path>,
    /// What could not be changed in `latest/`, and why: it is what it was.
    pub refused: BTreeMap<Path, String>,
    /// Kinds of metadata that could not be set, with how often.
    pub unset: Vec<(String, u64)>,
    /// Where a journal is of which no copy could be read, and why.
    pub unreadable: Option<(Path, String)>,
}

impl Done {
    /// Tells what did not go as it was planned.
    pub fn tell(&self, watch: &dyn Watch) {
        let tell = |path: &Path, during, message: &str| {
            let (path, message) = (path.clone(), message.to_owned());
            watch.trouble(Trouble { path, during, message });
        };
        for path in &self.vanished {
            tell(path, "keep", "somebody removed it while the run went on");
        }
        for path in &self.aside {
            let message =
                "somebody put it there while the run went on; it is in .lastgood/conflicts";
            tell(path, "keep", message);
        }
        for (path, message) in &self.refused {
            tell(path, "change", message);
        }
        if let Some((path, message)) = &self.unreadable {
            let message = format!(
                "what a run had begun is not known any more, and this one looks at everything \
                 anew: {message}"
            );
            tell(path, "roll forward", &message);
        }
    }

    /// Whether a path, or a directory above it, could not be changed before.
    fn is_refused(&self, path: &[u8]) -> bool {
        let mut above = Some(path);
        while let Some(path) = above.filter(|_| !self.refused.is_empty()) {
            if self.refused.contains_key(path) {
                return true;
            }
            above = record::parent(path);
        }
        false
    }
}

impl Operation {
    /// What it changes in `latest/`, which somebody may have made unchangeable.
    fn shown(&self) -> Option<Path> {
        match self {
            Self::Keep { from: path, .. }
            | Self::Directory(path)
            | Self::Clear(path)
            | Self::Leave(path)
            | Self::Put { to: path, .. } => is_shown(path).then(|| path.clone()),
            Self::Look(path, _) => Some(layout::latest(path)),
            Self::Barrier => None,
        }
    }
}

/// Writes a journal into the stage.
pub(crate) struct JournalWriter<'a> {
    out: SheetWriter<'a>,
    aside: Path,
    start: u64,
}

impl<'a> JournalWriter<'a> {
    pub(crate) fn new(place: &'a dyn Place, aside: Path) -> Result<Self, MirrorError> {
        let mut out = SheetWriter::new(place, layout::stage("journal"), "journal", 0);
        out.line(&[b"aside", &aside])?;
        let start = out.len();
        Ok(Self { out, aside, start })
    }

    pub(crate) fn add(&mut self, operation: &Operation) -> Result<(), MirrorError> {
        match operation {
            Operation::Directory(path) => self.out.line(&[b"directory", path]),
            Operation::Keep { from, to, hash, looks } => {
                let hash = hash.map(|hash| text::Seal(hash).to_string()).unwrap_or_default();
                let size = looks.map(|looks| looks.size.to_string()).unwrap_or_default();
                let mtime = looks.map(|looks| record::time_text(looks.mtime)).unwrap_or_default();
                let looks = [size.as_bytes(), mtime.as_bytes()];
                self.out.line(&[b"keep", from, to, hash.as_bytes(), looks[0], looks[1]])
            }
            Operation::Barrier => self.out.line(&[b"barrier"]),
            Operation::Clear(path) => self.out.line(&[b"clear", path]),
            Operation::Leave(path) => self.out.line(&[b"leave", path]),
            Operation::Put { from, to } => self.out.line(&[b"put", from, to]),
            Operation::Look(path, present) => {
                self.out.line(&[b"look"])?;
                self.out.unordered(path, &State::Present(present.clone()))
            }
        }
    }

    /// All were added.
    pub(crate) fn finish(self) -> Result<Journal, MirrorError> {
        let (text, _) = self.out.seal()?;
        Ok(Journal {
            aside: self.aside,
            text,
            start: self.start,
            names: OnceLock::new(),
            moved_aside: Mutex::default(),
        })
    }
}

impl Journal {
    /// The one that is under way; `None` when none is.
    ///
    /// # Errors
    /// When there is no copy that is whole, see [`is_unreadable`].
    pub(crate) fn open(place: &dyn Place) -> Result<Option<Self>, MirrorError> {
        let mut failure = None;
        for at in [layout::JOURNAL.into(), layout::second(layout::JOURNAL)] {
            match Self::open_copy(place, &at) {
                Ok(None) => {}
                Ok(journal) => return Ok(journal),
                // What a copy says of what it needs is heard before what another does not say.
                Err(error) if is_unreadable(&error) => failure = failure.or(Some(error)),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn open_copy(place: &dyn Place, at: &[u8]) -> Result<Option<Self>, MirrorError> {
        let Some(text) = Sheet::open_lines(place, at, "journal")? else { return Ok(None) };
        let mut journal = Self {
            aside: Path::default(),
            text,
            start: 0,
            names: OnceLock::new(),
            moved_aside: Mutex::default(),
        };
        // The first two lines say what kind of text it is.
        let mut at = 0;
        for _ in 0..2 {
            at += journal.text.line_at(at)?.map_or(0, |line| line.len() as u64 + 1);
        }
        journal.start = at;
        if let Some(line) = journal.text.line_at(at)? {
            let fields = text::fields(&line).unwrap_or_default();
            if let [word, aside, ..] = fields.as_slice()
                && word == b"aside"
                && record::is_valid(aside)
            {
                journal.aside = aside.as_slice().into();
                journal.start += line.len() as u64 + 1;
            }
        }
        // Whatever makes no sense is found before anything is done.
        journal.operations().try_for_each(|operation| operation.map(drop))?;
        Ok(Some(journal))
    }

    /// Whether this release may do what it says.
    pub(crate) fn check_writer(&self) -> Result<(), MirrorError> {
        let first = self.text.line_at(0)?.unwrap_or_default();
        let features = self.text.line_at(first.len() as u64 + 1)?.unwrap_or_default();
        text::check_writer(&features).map_err(|source| failed(layout::JOURNAL, source))
    }

    fn names(&self) -> Result<&Index, MirrorError> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let mut names = Index::default();
        for operation in self.operations() {
            let (at, operation) = operation?;
            if let Operation::Keep { from, to, .. } | Operation::Put { from, to } = operation {
                names.add(&*from, at);
                names.add(&*to, at);
            }
        }
        Ok(self.names.get_or_init(|| names.sort()))
    }

    /// All operations in order, each with where it is.
    fn operations(&self) -> impl Iterator<Item = Result<(u64, Operation), MirrorError>> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            let begin = at;
            let operation = self.operation(&mut at).transpose()?;
            if operation.is_err() {
                at = u64::MAX;
            }
            Some(operation.map(|operation| (begin, operation)))
        })
    }

    /// The operation that begins there, and where the next one does.
    fn operation(&self, at: &mut u64) -> Result<Option<Operation>, MirrorError> {
        let start = *at;
        let mut fields = || {
            let Some(line) = self.text.line_at(*at)? else { return Ok(None) };
            *at += line.len() as u64 + 1;
            text::fields(&line).map(Some).ok_or_else(|| self.text.bad_line(start))
        };
        let Some(found) = fields()? else { return Ok(None) };
        let bad = || self.text.bad_line(start);
        let path = |index: usize| {
            let path = found.get(index).filter(|path| record::is_valid(path));
            path.map(|path| Path::from(path.as_slice())).ok_or_else(bad)
        };
        let operation = match found.first().map(Vec::as_slice).unwrap_or_default() {
            b"directory" => Operation::Directory(path(1)?),
            b"keep" => {
                let hash = found.get(3).filter(|hash| !hash.is_empty());
                let hash = hash.map(|hash| {
                    let text = std::str::from_utf8(hash).map_err(|_| bad())?;
                    text.parse().map(|text::Seal(hash)| hash).map_err(|()| bad())
                });
                let hash = hash.transpose()?;
                Operation::Keep { from: path(1)?, to: path(2)?, hash, looks: looks(&found) }
            }
            b"barrier" => Operation::Barrier,
            b"clear" => Operation::Clear(path(1)?),
            b"leave" => Operation::Leave(path(1)?),
            b"put" => Operation::Put { from: path(1)?, to: path(2)? },
            b"look" => match record::parse(&fields()?.ok_or_else(bad)?) {
                Some((path, State::Present(present))) => Operation::Look(path, present),
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        };
        Ok(Some(operation))
    }

    /// What else a path may be called while the commit is under way, by itself or because a
    /// directory above it is renamed.
    pub(crate) fn others(&self, path: &[u8]) -> Result<Vec<Path>, MirrorError> {
        let mut others = Vec::new();
        let mut above = Some(path);
        while let Some(named) = above.filter(|named| !named.is_empty()) {
            for (_, at) in self.names()?.find(named) {
                let mut at = at;
                if let Some(Operation::Keep { from, to, .. } | Operation::Put { from, to }) =
                    self.operation(&mut at)?
                {
                    for (one, other) in [(&from, &to), (&to, &from)] {
                        if **one == *named {
                            others.push([other, &path[named.len()..]].concat().into());
                        }
                    }
                }
            }
            above = record::parent(named);
        }
        Ok(others)
    }

    /// Does everything. `again` when some of it may have been done before.
    ///
    /// # Errors
    /// It can be done again.
    pub fn roll_forward(&self, place: &dyn Place, again: bool) -> Result<Done, MirrorError> {
        let mut done = Done::default();
        for operation in self.operations() {
            let operation = operation?.1;
            let shown = operation.shown();
            if shown.as_ref().is_some_and(|path| done.is_refused(path)) {
                continue;
            }
            match (self.perform(&operation, place, again, &mut done), shown) {
                // The rest is done; the next run finds that this is not as it should be.
                (Err(MirrorError::Host(error)), Some(path)) if error.is_of_one_path() => {
                    done.refused.insert(path, told(&error));
                }
                (performed, _) => performed?,
            }
        }
        done.aside.append(&mut self.moved_aside.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(done)
    }

    fn perform(
        &self,
        operation: &Operation,
        place: &dyn Place,
        again: bool,
        done: &mut Done,
    ) -> Result<(), MirrorError> {
        let performed = match operation {
            Operation::Directory(path) => self.directory(path, place),
            Operation::Keep { from, to, hash, looks } => {
                let looks = looks.as_ref();
                if self.is_kept(from, to, looks, place)?
                    || (again && self.is_another(from, hash.as_ref(), looks, place)?)
                {
                    return Ok(());
                }
                let linked = match place.link(from, to) {
                    Err(error) if error.is_not_found() => {
                        place::make_way(place, to)?;
                        place.link(from, to)
                    }
                    linked => linked,
                };
                match linked {
                    Err(error) if error.is_no_link() => {
                        place::make_way(place, to)?;
                        place.rename(from, to)?;
                    }
                    Err(error) if error.is_not_found() || error.is_not_directory() => {
                        done.vanished.push(from.clone());
                        return Ok(());
                    }
                    linked => linked?,
                }
                // What somebody put there since does not become history.
                self.is_kept(from, to, looks, place)?;
                return Ok(());
            }
            Operation::Barrier => place.sync(),
            Operation::Clear(path) => match place.stat(path)? {
                // What leaves has its second name by now. Without one, somebody put it there since.
                Some(stat) if stat.kind == Kind::File && stat.links < 2 => {
                    self.set_aside(path, path, place)
                }
                Some(stat) if stat.kind != Kind::Directory => place.remove(path),
                _ => Ok(()),
            },
            Operation::Leave(path) => match place.stat(path)? {
                Some(stat) if stat.kind == Kind::Directory => self.leave(path, place),
                _ => Ok(()),
            },
            Operation::Put { from, to } => return self.put(from, to, place),
            Operation::Look(path, present) => {
                let shown = layout::latest(path);
                // Who locked it wants it as it is, and would find it unlocked.
                let stat = place.stat(&shown)?.filter(|stat| !stat.is_locked);
                let is_directory = |stat: Stat| stat.kind == Kind::Directory;
                // What somebody put there instead is for the next run to find.
                if stat.map(is_directory) == Some(present.entry.is_directory()) {
                    let unset = place.look(&shown, &present.entry)?;
                    place::count_unset(&mut done.unset, unset);
                }
                Ok(())
            }
        };
        Ok(performed?)
    }

    /// Whether a file has its second name. What bears that and looks otherwise than planned is moved
    /// aside, as what lies at the first.
    fn is_kept(
        &self,
        from: &[u8],
        to: &[u8],
        looks: Option<&Looks>,
        place: &dyn Place,
    ) -> Result<bool, HostError> {
        match place.stat(to)? {
            Some(stat) if looks.is_none_or(|looks| looks.are_of(&stat)) => Ok(true),
            Some(_) => self.set_aside(to, from, place).map(|()| false),
            None => Ok(false),
        }
    }

    /// Whether what lies at a path took the place of what was to be kept, when this was done before.
    fn is_another(
        &self,
        from: &[u8],
        hash: Option<&[u8; 32]>,
        looks: Option<&Looks>,
        place: &dyn Place,
    ) -> Result<bool, MirrorError> {
        if let Some(hash) = hash {
            match content::hash(place, from) {
                Ok(found) => return Ok(found != Some(*hash)),
                // A disk that does not answer still says what a file looks like.
                Err(error) if error.is_unreadable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let is_other = |stat: Stat| looks.is_some_and(|looks| !looks.are_of(&stat));
        Ok(place.stat(from)?.is_some_and(is_other) && self.has_put(from, place)?)
    }

    /// Whether this has put something at a path.
    fn has_put(&self, path: &[u8], place: &dyn Place) -> Result<bool, MirrorError> {
        for (_, mut at) in self.names()?.find(path) {
            if let Some(Operation::Put { from, to }) = self.operation(&mut at)?
                && *to == *path
                && place.stat(&from)?.is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Somebody may have put a file where a directory is to be since the plan was made.
    fn directory(&self, path: &[u8], place: &dyn Place) -> Result<(), HostError> {
        match place.stat(path)? {
            Some(stat) if stat.kind == Kind::Directory => return Ok(()),
            Some(_) => self.set_aside(path, path, place)?,
            None => self.make_way(path, place)?,
        }
        place::make_directories(place, path)
    }

    /// Makes the directories above a path, also where somebody put something else since the plan
    /// was made.
    fn make_way(&self, path: &[u8], place: &dyn Place) -> Result<(), HostError> {
        let parent = record::parent(path).filter(|parent| !parent.is_empty());
        parent.map_or(Ok(()), |parent| self.directory(parent, place))
    }

    fn leave(&self, path: &Path, place: &dyn Place) -> Result<(), HostError> {
        match place.remove_directory(path) {
            Err(error) if error.is_not_empty() || error.is_exists() => {
                self.set_aside(path, path, place)
            }
            removed => removed,
        }
    }

    fn put(&self, from: &Path, to: &Path, place: &dyn Place) -> Result<(), MirrorError> {
        if place.stat(from)?.is_none() {
            return Ok(());
        }
        match place.stat(to)? {
            Some(stat) if stat.kind == Kind::Directory => self.leave(to, place)?,
            Some(stat) if stat.kind == Kind::File && stat.links < 2 && is_shown(to) => {
                let hash = |path| content::hash(place, path).ok();
                // What was ours has its second name by now, or the same bytes.
                if hash(from) != hash(to) || hash(to).is_none() {
                    self.set_aside(to, to, place)?;
                }
            }
            _ => {}
        }
        self.make_way(to, place)?;
        Ok(place.rename(from, to)?)
    }

    /// Moves what is not ours to where it is in nobody's way, as what lay at another path: a name of
    /// it may be as long as names can be.
    fn set_aside(&self, path: &[u8], lay_at: &[u8], place: &dyn Place) -> Result<(), HostError> {
        let mut aside = self.aside.clone();
        let mut to = record::join(&aside, lay_at);
        while place.stat(&to)?.is_some() {
            aside = [&aside, &b"~"[..]].concat().into();
            to = record::join(&aside, lay_at);
        }
        place::make_way(place, &to)?;
        place.rename(path, &to)?;
        self.moved_aside.lock().unwrap_or_else(PoisonError::into_inner).push(lay_at.into());
        Ok(())
    }
}

/// Whether an error says that a text is damaged, or that the disk does not answer for it: not that
/// it needs something, or that it cannot be read right now.
pub(crate) fn is_unreadable(error: &MirrorError) -> bool {
    match error {
        MirrorError::Text { source, .. } => !matches!(source, TextError::Feature(_)),
        MirrorError::Host(error) => error.is_unreadable(),
        _ => false,
    }
}

/// The last fields of a line that keeps a file.
fn looks(fields: &[Vec<u8>]) -> Option<Looks> {
    let size = std::str::from_utf8(fields.get(4)?).ok()?.parse().ok()?;
    Some(Looks { size, mtime: record::parse_time(fields.get(5)?)? })
}

/// Whether a path of the mirror is what people look at.
fn is_shown(path: &[u8]) -> bool {
    record::is_below(path, layout::LATEST)
}
