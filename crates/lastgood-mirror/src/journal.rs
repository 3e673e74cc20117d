//! A commit: operations that can be done again, under way until the last is done.
//! Spec: `docs/format/mirror.md`, section 6.

use lastgood_host::HostError;
use lastgood_host::metadata::Unset;
use lastgood_host::scan::Kind;

use crate::content;
use crate::layout;
use crate::place::{self, Place};
use crate::record::{self, Path, Present, State};
use crate::text::{Reader, TextError, Writer};

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
    },
    /// Syncs the file system.
    Barrier,
    /// Removes what is no directory.
    Clear(Path),
    /// Removes a directory; what others put into it goes aside with it.
    Leave(Path),
    /// Renames, over what is there.
    Put {
        /// Where it is.
        from: Path,
        /// Where it is to be.
        to: Path,
    },
    /// Sets the metadata of a path below `latest/`.
    Look(Path, Box<Present>),
}

/// All operations of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Where things go that are in the way and are not ours.
    pub aside: Path,
    /// In order.
    pub operations: Vec<Operation>,
}

/// What a commit came across.
#[derive(Debug, Default)]
pub struct Done {
    /// Files that were to be kept and had vanished.
    pub vanished: Vec<Path>,
    /// Metadata that could not be set.
    pub unset: Vec<(Path, Unset)>,
}

impl Journal {
    /// As text.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Writer::new("journal");
        out.line(&[b"aside", &self.aside]);
        for operation in &self.operations {
            match operation {
                Operation::Directory(path) => out.line(&[b"directory", path]),
                Operation::Keep { from, to, hash } => {
                    let hash = hash.map(|hash| crate::text::Seal(hash).to_string());
                    out.line(&[b"keep", from, to, hash.unwrap_or_default().as_bytes()]);
                }
                Operation::Barrier => out.line(&[b"barrier"]),
                Operation::Clear(path) => out.line(&[b"clear", path]),
                Operation::Leave(path) => out.line(&[b"leave", path]),
                Operation::Put { from, to } => out.line(&[b"put", from, to]),
                Operation::Look(path, present) => {
                    out.line(&[b"look"]);
                    record::write(path, &State::Present(present.clone()), &mut out);
                }
            }
        }
        out.finish().0
    }

    /// From text.
    ///
    /// # Errors
    /// Nothing of a damaged journal is done.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let reader = Reader::open("journal", bytes)?;
        let mut journal = Self { aside: Path::default(), operations: Vec::new() };
        let mut lines = reader.lines();
        while let Some(line) = lines.next() {
            let (number, fields) = line?;
            let bad = || TextError::Line(number);
            let path = |index: usize| {
                let path = fields.get(index).filter(|path| record::is_valid(path));
                path.map(|path| Path::from(path.as_slice())).ok_or_else(bad)
            };
            let word = fields.first().map(Vec::as_slice).unwrap_or_default();
            let operation = match word {
                b"aside" => {
                    journal.aside = path(1)?;
                    continue;
                }
                b"directory" => Operation::Directory(path(1)?),
                b"keep" => {
                    let hash = fields.get(3).filter(|hash| !hash.is_empty());
                    let hash = hash.map(|hash| {
                        let text = std::str::from_utf8(hash).map_err(|_| bad())?;
                        text.parse().map(|crate::text::Seal(hash)| hash).map_err(|()| bad())
                    });
                    Operation::Keep { from: path(1)?, to: path(2)?, hash: hash.transpose()? }
                }
                b"barrier" => Operation::Barrier,
                b"clear" => Operation::Clear(path(1)?),
                b"leave" => Operation::Leave(path(1)?),
                b"put" => Operation::Put { from: path(1)?, to: path(2)? },
                b"look" => {
                    let (number, fields) = lines.next().ok_or_else(bad)??;
                    match record::parse(&fields) {
                        Some((path, State::Present(present))) => Operation::Look(path, present),
                        _ => return Err(TextError::Line(number)),
                    }
                }
                _ => return Err(bad()),
            };
            journal.operations.push(operation);
        }
        Ok(journal)
    }

    /// Does everything. `again` when some of it may have been done before.
    ///
    /// # Errors
    /// It can be done again.
    pub fn roll_forward(&self, place: &dyn Place, again: bool) -> Result<Done, HostError> {
        let mut done = Done::default();
        for operation in &self.operations {
            self.perform(operation, place, again, &mut done)?;
        }
        Ok(done)
    }

    fn perform(
        &self,
        operation: &Operation,
        place: &dyn Place,
        again: bool,
        done: &mut Done,
    ) -> Result<(), HostError> {
        match operation {
            Operation::Directory(path) => self.directory(path, place),
            Operation::Keep { from, to, hash } => {
                if place.stat(to)?.is_some() {
                    return Ok(());
                }
                // Its second name may have been put in place already, and the first be another's.
                if let Some(hash) = hash
                    && again
                    && content::hash(place, from)? != Some(*hash)
                {
                    return Ok(());
                }
                place::make_way(place, to)?;
                match place.link(from, to) {
                    Err(error) if error.is_no_link() => place.rename(from, to),
                    Err(error) if error.is_not_found() || error.is_not_directory() => {
                        done.vanished.push(from.clone());
                        Ok(())
                    }
                    linked => linked,
                }
            }
            Operation::Barrier => place.sync(),
            Operation::Clear(path) => match place.stat(path)? {
                // What leaves has its second name by now. Without one, somebody put it there since.
                Some(stat) if stat.kind == Kind::File && stat.links < 2 => {
                    self.set_aside(path, place)
                }
                Some(stat) if stat.kind != Kind::Directory => place.remove(path),
                _ => Ok(()),
            },
            Operation::Leave(path) => match place.stat(path)? {
                Some(stat) if stat.kind == Kind::Directory => self.leave(path, place),
                _ => Ok(()),
            },
            Operation::Put { from, to } => self.put(from, to, place),
            Operation::Look(path, present) => {
                let shown = layout::latest(path);
                if place.stat(&shown)?.is_some() {
                    let unset = place.look(&shown, &present.entry)?;
                    done.unset.extend(unset.into_iter().map(|unset| (path.clone(), unset)));
                }
                Ok(())
            }
        }
    }

    /// Somebody may have put a file where a directory is to be since the plan was made.
    fn directory(&self, path: &Path, place: &dyn Place) -> Result<(), HostError> {
        match place.stat(path)? {
            Some(stat) if stat.kind == Kind::Directory => Ok(()),
            Some(_) => {
                self.set_aside(path, place)?;
                place::make_directories(place, path)
            }
            None => place::make_directories(place, path),
        }
    }

    fn leave(&self, path: &Path, place: &dyn Place) -> Result<(), HostError> {
        match place.remove_directory(path) {
            Err(error) if error.is_not_empty() || error.is_exists() => self.set_aside(path, place),
            removed => removed,
        }
    }

    fn put(&self, from: &Path, to: &Path, place: &dyn Place) -> Result<(), HostError> {
        if place.stat(from)?.is_none() {
            return Ok(());
        }
        if place.stat(to)?.is_some_and(|stat| stat.kind == Kind::Directory) {
            self.leave(to, place)?;
        }
        place::make_way(place, to)?;
        place.rename(from, to)
    }

    /// Moves what is not ours to where it is in nobody's way.
    fn set_aside(&self, path: &Path, place: &dyn Place) -> Result<(), HostError> {
        let mut to = record::join(&self.aside, path);
        while place.stat(&to)?.is_some() {
            to = [&to, &b"~"[..]].concat().into();
        }
        place::make_way(place, &to)?;
        place.rename(path, &to)
    }
}
