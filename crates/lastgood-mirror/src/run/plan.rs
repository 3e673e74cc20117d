//! From the next version to the operations that make `latest/` show it.

use std::collections::BTreeSet;

use super::fit::{self, Aliases};
use super::shown::Spoiled;
use super::staged::{How, Staged};
use crate::delta;
use crate::error::MirrorError;
use crate::journal::{JournalWriter, Looks, Operation};
use crate::layout;
use crate::mirror::Mirror;
use crate::place::Place;
use crate::record::{self, At, Path, Present, State};
use crate::sheet::Sheet;

/// What comes to paths that are other names of what is there.
pub(super) fn aliases(
    mirror: &Mirror,
    old: &Sheet,
    staged: &Staged,
) -> Result<Aliases, MirrorError> {
    let mut aliases = Aliases::default();
    if staged.can.folds() {
        for item in staged.items() {
            let (path, _, is) = item?;
            if is.is_some_and(|is| staged.can.shows(&is)) && old.present(&path)?.is_none() {
                aliases.add(&*mirror.place, &path)?;
            }
        }
    }
    Ok(aliases)
}

pub(super) struct Plan<'a> {
    pub(super) old: &'a Sheet,
    pub(super) staged: &'a Staged,
    pub(super) delta: &'a Sheet,
    /// Name of the version that is the newest now.
    pub(super) from: Option<&'a str>,
    /// Where goes what is not ours.
    pub(super) conflicts: Path,
    /// Where goes what rotted.
    pub(super) damaged: Path,
    pub(super) place: &'a dyn Place,
    /// What is to be shown, where names that differ may be one name.
    pub(super) aliases: Aliases,
}

/// What goes, as far as something else comes in its place, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Blocking,
    Other,
}

impl Plan<'_> {
    pub(super) fn write(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        journal.add(&Operation::Directory(layout::LATEST.into()))?;
        self.keep(journal)?;
        journal.add(&Operation::Barrier)?;
        self.removals(Removal::Blocking, journal)?;
        self.arrive(journal)?;
        self.removals(Removal::Other, journal)?;
        self.looks(journal)
    }

    /// A second name for all that leaves its place in `latest/`.
    fn keep(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        let mut spares = 0;
        let mut keep = |from: &[u8], to: Path, hash, looks| {
            journal.add(&Operation::Keep { from: layout::latest(from), to, hash, looks })
        };
        for record in self.delta.records() {
            let (path, state) = record?;
            if let (Some(_), Some(from)) = (delta::own_bytes(&path, &state), self.from) {
                let looks = state.present().and_then(Looks::of);
                keep(&path, layout::folder(from, &path), None, looks)?;
            } else if self.is_spare(&path, &state)? {
                spares += 1;
                let looks = state.present().and_then(Looks::of);
                keep(&path, layout::stage(&format!("spare-{spares}")), None, looks)?;
            }
        }
        for (path, why) in &self.staged.spoiled {
            let to = match why {
                Spoiled::Rotted => &self.damaged,
                Spoiled::Edited => &self.conflicts,
            };
            keep(path, record::join(to, path), None, None)?;
        }
        for path in &self.staged.extras {
            keep(path, record::join(&self.conflicts, path), None, None)?;
        }
        let mut number = 0;
        for item in self.staged.items() {
            let (to, How::Moved(from), present) = item? else { continue };
            if !self.is_alias(&from, &to)? {
                let hash = present.and_then(|present| present.hash());
                let looks = self.old.present(&from)?.as_ref().and_then(Looks::of);
                keep(&from, moving(number), hash.map(|id| *id.as_bytes()), looks)?;
            }
            number += 1;
        }
        Ok(())
    }

    /// Whether a file leaves its path whose bytes another path has. Until the texts say so a reader
    /// looks for it there; and without hard links it is a file of its own, not somebody else's.
    fn is_spare(&self, path: &Path, state: &State) -> Result<bool, MirrorError> {
        let State::Present(was) = state else { return Ok(false) };
        let has_other = matches!(&was.at, At::Here(at) | At::Next(at) if at != path);
        Ok(was.is_file()
            && has_other
            && !self.staged.is_spoiled(path)
            && self.staged.moved(path)?.is_none())
    }

    /// Whether a file moves to what is the same name there.
    fn is_alias(&self, from: &[u8], to: &[u8]) -> Result<bool, MirrorError> {
        Ok(self.staged.can.folds() && fit::is_alias(self.place, from, to)?)
    }

    /// What is to be shown where a path is, under another name.
    fn under_other_name(&self, path: &[u8]) -> Result<Option<Path>, MirrorError> {
        let mut above = Some(path).filter(|_| !self.staged.masked.is_empty());
        while let Some(directory) = above {
            if let Some(other) = self.staged.masked.get(directory) {
                return Ok(Some([other, &path[directory.len()..]].concat().into()));
            }
            above = record::parent(directory);
        }
        Ok(self.aliases.of(self.place, path)?.cloned())
    }

    /// What goes, deepest first: what stands in the way of something else before that comes, and the
    /// rest when everything new is in place.
    fn removals(&self, which: Removal, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        let mut extras = self.staged.extras.iter().rev().peekable();
        for line in self.staged.sheet.reversed() {
            let line = line?;
            while let Some(extra) = extras.next_if(|extra| **extra > line.path) {
                self.removal(which, extra, None, None, journal)?;
            }
            let is_extra = extras.next_if(|extra| **extra == line.path).is_some();
            let was = self.old.present(&line.path)?.filter(|was| self.staged.can.shows(was));
            if was.is_some() || is_extra {
                let (path, _, is) = self.staged.item(line)?;
                self.removal(which, &path, was.as_ref(), is, journal)?;
            }
        }
        extras.try_for_each(|extra| self.removal(which, extra, None, None, journal))
    }

    fn removal(
        &self,
        which: Removal,
        path: &Path,
        was: Option<&Present>,
        is: Option<Present>,
        journal: &mut JournalWriter<'_>,
    ) -> Result<(), MirrorError> {
        let was_directory = was.is_some_and(|was| was.entry.is_directory());
        let is = is.filter(|is| self.staged.can.shows(is));
        let is_directory = is.as_ref().map(|is| is.entry.is_directory());
        match is_directory {
            Some(is) if is == was_directory && !self.staged.is_spoiled(path) => return Ok(()),
            // A rename replaces it, whatever it is.
            Some(false) if !was_directory => return Ok(()),
            _ => {}
        }
        // Under a name that is the same there, something else comes, and takes its place.
        let other = self.under_other_name(path)?;
        if let Some(other) = &other
            && let Some(other) = self.staged.state(self.old, other)?
            && other.entry.is_directory() == was_directory
        {
            return Ok(());
        }
        let is_blocking = other.is_some() || self.is_in_the_way(path)?;
        if is_blocking != (which == Removal::Blocking) {
            return Ok(());
        }
        let shown = layout::latest(path);
        // Only what was there is removed: when this is done again, what comes may be there.
        journal.add(&match was_directory && is_directory != Some(true) {
            true => Operation::Leave(shown),
            false => Operation::Clear(shown),
        })
    }

    /// Whether a directory is to lie where something else is, or the other way round, at a path or
    /// above it.
    fn is_in_the_way(&self, path: &[u8]) -> Result<bool, MirrorError> {
        let mut at = Some(path);
        while let Some(path) = at {
            if let Some(is) = self.staged.state(self.old, path)? {
                let is_other = is.entry.is_directory() != self.was_directory(path)?;
                return Ok(self.staged.can.shows(&is) && (is_other || self.staged.is_spoiled(path)));
            }
            at = record::parent(path);
        }
        Ok(false)
    }

    fn was_directory(&self, path: &[u8]) -> Result<bool, MirrorError> {
        Ok(self.old.present(path)?.is_some_and(|was| was.entry.is_directory()))
    }

    /// What comes: directories before what lies in them.
    fn arrive(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        let mut number = 0;
        for item in self.staged.items() {
            let (path, how, is) = item?;
            let to = layout::latest(&path);
            match how {
                How::Put(from) => journal.add(&Operation::Put { from, to })?,
                How::Moved(before) => {
                    let from = match self.is_alias(&before, &path)? {
                        true => layout::latest(&before),
                        false => moving(number),
                    };
                    number += 1;
                    journal.add(&Operation::Put { from, to })?;
                }
                How::Known if is.is_some_and(|is| is.entry.is_directory()) => {
                    if self.staged.is_spoiled(&path) || !self.was_directory(&path)? {
                        journal.add(&Operation::Directory(to))?;
                    }
                }
                How::Known | How::Gone | How::Built(_) | How::Read => {}
            }
        }
        Ok(())
    }

    /// Metadata: of what only looks different, of what moved, and last of directories, because all
    /// that happens in them changes their times.
    fn looks(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        for item in self.staged.items() {
            let (path, how, Some(is)) = item? else { continue };
            let is_dressed = matches!(how, How::Put(_) | How::Built(_));
            if !is.entry.is_directory() && !is_dressed && self.looks_new(&path, &is)? {
                self.look(path, is, journal)?;
            }
        }
        // The deepest first; what is met has all that lies in it behind it.
        let mut touched: BTreeSet<Path> = self
            .staged
            .extras
            .iter()
            .filter_map(|path| record::parent(path))
            .map(Path::from)
            .collect();
        for line in self.staged.sheet.reversed() {
            let line = line?;
            while touched.last().is_some_and(|last| *last > line.path) {
                self.look_at(touched.pop_last(), journal)?;
            }
            let (path, how, is) = self.staged.item(line)?;
            let is_changed = match &is {
                Some(is) => self.looks_new(&path, is)?,
                None => true,
            };
            if is_changed && !matches!(how, How::Built(_)) {
                touched.extend(record::parent(&path).map(Path::from));
            }
            let is_dressed = matches!(how, How::Put(_) | How::Built(_));
            if is_changed && !is_dressed && is.is_some_and(|is| is.entry.is_directory()) {
                touched.insert(path);
            }
        }
        while let Some(path) = touched.pop_last() {
            self.look_at(Some(path), journal)?;
        }
        Ok(())
    }

    /// Whether what is shown at a path is to look different from now on.
    fn looks_new(&self, path: &[u8], is: &Present) -> Result<bool, MirrorError> {
        if !self.staged.can.shows(is) {
            return Ok(false);
        }
        let was = self.old.present(path)?;
        let is_same = was.is_some_and(|was| was.entry == is.entry);
        Ok(!is_same || self.staged.is_spoiled(path))
    }

    fn look_at(
        &self,
        path: Option<Path>,
        journal: &mut JournalWriter<'_>,
    ) -> Result<(), MirrorError> {
        let Some(path) = path else { return Ok(()) };
        match self.staged.state(self.old, &path)? {
            Some(is) if is.entry.is_directory() => self.look(path, is, journal),
            _ => Ok(()),
        }
    }

    fn look(
        &self,
        path: Path,
        is: Present,
        journal: &mut JournalWriter<'_>,
    ) -> Result<(), MirrorError> {
        let is = Present { hint: Default::default(), ..is };
        journal.add(&Operation::Look(path, Box::new(is)))
    }
}

/// Where a file that moves is on its way.
fn moving(number: u64) -> Path {
    layout::stage(&format!("moved-{number}"))
}
