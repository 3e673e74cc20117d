//! The algebra of versions: what differs between neighbours, what a path was at any time, and how a
//! version in the middle goes.
//!
//! Versions `V0 … Vn`, the last of which lies in `latest/`. Delta `i` says, for exactly the paths
//! where `Vi` differs from `Vi+1`, what `Vi` has there. So the state of a path in `Vk` is what the
//! first delta from `k` on says of it, or else what the newest version has: one lookup, whatever the
//! age. Nothing here does I/O: bytes are only named. Spec: `docs/format/mirror.md`, section 5.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use lastgood_diff::{Change, compare_recorded};

use crate::error::MirrorError;
use crate::record::{At, Path, Present, State};
use crate::sheet::{Lines, Sheet};

pub mod insert;
#[cfg(test)]
mod tests;

/// All that a version has.
pub type Manifest = BTreeMap<Path, Present>;

/// What a version has where it differs from the next.
pub type Delta = BTreeMap<Path, State>;

/// Where bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the folder of the version of this index, at this path.
    Folder(usize, Path),
    /// In `latest/`, at this path.
    Latest(Path),
    /// Nowhere.
    Lost,
}

/// All versions: a delta for each but the newest, and the newest whole.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// Oldest first.
    pub deltas: &'a [Sheet],
    /// The newest version.
    pub latest: &'a Sheet,
}

/// What a version has at a path where the next one has something else, or nothing; `None` where both
/// show the same. `other` finds a path where the next version has the bytes of a file.
pub(crate) fn difference(
    path: &Path,
    was: &Present,
    is: Option<&Present>,
    other: impl FnOnce() -> Result<Option<Path>, MirrorError>,
) -> Result<Option<Present>, MirrorError> {
    if is.is_some_and(|is| is.is_same(was)) {
        return Ok(None);
    }
    let at = match is {
        Some(is) if was.is_file() && is.entry.node == was.entry.node => At::Next(path.clone()),
        _ => other()?.map_or_else(|| At::Here(path.clone()), At::Next),
    };
    Ok(Some(was.at(at)))
}

impl<'a> History<'a> {
    /// What version `k` has at a path.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn state(&self, k: usize, path: &[u8]) -> Result<Option<Present>, MirrorError> {
        match self.first(k, path)? {
            Some((_, State::Present(present))) => Ok(Some(*present)),
            Some((_, State::Absent)) => Ok(None),
            None => self.latest.present(path),
        }
    }

    /// What version `k` has at a path, marked so where its bytes are lost.
    pub(crate) fn state_or_lost(
        &self,
        k: usize,
        path: &[u8],
    ) -> Result<Option<Present>, MirrorError> {
        let state = self.state(k, path)?;
        let is_file = state.as_ref().is_some_and(Present::is_file);
        match is_file && self.place(k, path)? == Place::Lost {
            true => Ok(state.map(|present| present.at(At::Lost))),
            false => Ok(state),
        }
    }

    /// What the first delta from `k` on says of a path.
    fn first(&self, k: usize, path: &[u8]) -> Result<Option<(usize, State)>, MirrorError> {
        for (i, delta) in (k..).zip(&self.deltas[k..]) {
            if let Some(state) = delta.get(path)? {
                return Ok(Some((i, state)));
            }
        }
        Ok(None)
    }

    /// Where the bytes are that the file at a path has in version `k`.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn place(&self, mut k: usize, path: &[u8]) -> Result<Place, MirrorError> {
        let mut path: Path = path.into();
        loop {
            match self.first(k, &path)? {
                None => {
                    return Ok(match self.latest.present(&path)? {
                        Some(present) if present.at != At::Lost => Place::Latest(path),
                        _ => Place::Lost,
                    });
                }
                Some((_, State::Absent)) => return Ok(Place::Lost),
                Some((i, State::Present(present))) => match present.at {
                    At::Here(at) => return Ok(Place::Folder(i, at)),
                    At::Lost => return Ok(Place::Lost),
                    At::Next(next) => {
                        path = next;
                        k = i + 1;
                    }
                },
            }
        }
    }

    /// Visits what differs from version `before` to version `after`, in path order. Only what deltas
    /// between them name is looked at; either may be the older one.
    ///
    /// # Errors
    /// When a text cannot be read, and what `visit` returns.
    pub fn changes<E: From<MirrorError>>(
        &self,
        before: usize,
        after: usize,
        mut visit: impl FnMut(&Path, Change) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut paths: Vec<Path> = Vec::new();
        for delta in &self.deltas[before.min(after)..before.max(after)] {
            for line in delta.lines() {
                paths.push(line?.path);
            }
        }
        paths.sort_by(|one, other| in_path_order(one, other));
        paths.dedup();
        for path in &paths {
            let entry = |k| Ok::<_, MirrorError>(self.state(k, path)?.map(|it| it.entry));
            match (entry(before)?, entry(after)?) {
                (None, None) => {}
                (None, Some(after)) => visit(path, Change::Added(after))?,
                (Some(before), None) => visit(path, Change::Removed(before))?,
                (Some(before), Some(after)) => {
                    let differences = compare_recorded(&before, &after);
                    if differences.any() {
                        visit(path, Change::Modified { before, after, differences })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// All that version `k` has, in the order of the bytes of the paths.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn version(&self, k: usize) -> Result<Version<'a>, MirrorError> {
        let sheets = self.deltas[k..].iter().chain([self.latest]);
        let mut version = Version {
            first: k,
            sheets: sheets.map(|sheet| (sheet, sheet.lines())).collect(),
            heads: BinaryHeap::new(),
            last: None,
        };
        version.seek(b"")?;
        Ok(version)
    }
}

/// What one version has, path by path: the first delta that names a path is right.
#[derive(Debug)]
pub struct Version<'a> {
    first: usize,
    sheets: Vec<(&'a Sheet, Lines<'a>)>,
    /// The next path of each sheet.
    heads: BinaryHeap<Reverse<(Path, usize)>>,
    last: Option<Path>,
}

/// What a version has at a path, and which delta says so; that behind the last one is the newest
/// version.
pub type Found = (usize, Path, Present);

impl Version<'_> {
    /// Passes over all paths before this one.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn seek(&mut self, path: &[u8]) -> Result<(), MirrorError> {
        self.heads.clear();
        for (number, (_, lines)) in self.sheets.iter_mut().enumerate() {
            lines.seek(path)?;
            self.heads.extend(lines.peek()?.map(|line| Reverse((line.path.clone(), number))));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Found>, MirrorError> {
        while let Some(Reverse((path, number))) = self.heads.pop() {
            let (sheet, lines) = &mut self.sheets[number];
            let line = lines.next().transpose()?;
            self.heads.extend(lines.peek()?.map(|line| Reverse((line.path.clone(), number))));
            if self.last.as_ref() == Some(&path) {
                continue;
            }
            self.last = Some(path.clone());
            let Some(line) = line else { continue };
            if let State::Present(present) = sheet.state(&line)? {
                return Ok(Some((self.first + number, path, *present)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Version<'_> {
    type Item = Result<Found, MirrorError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if matches!(step, Some(Err(_))) {
            self.heads.clear();
        }
        step
    }
}

/// Files that lie in the folder of a delta, with their bytes.
pub(crate) fn stored(delta: &Delta) -> impl Iterator<Item = (&Path, u64)> {
    delta.iter().filter_map(|(path, state)| Some((path, own_bytes(path, state)?)))
}

/// Bytes of a file, if it lies in the folder of the version at its own path.
pub(crate) fn own_bytes(path: &Path, state: &State) -> Option<u64> {
    let present = state.present().filter(|present| present.is_file())?;
    matches!(&present.at, At::Here(at) if at == path).then(|| present.size())
}

/// A directory before what it holds, and that before what comes after it.
fn in_path_order(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    one.split(|&byte| byte == b'/').cmp(other.split(|&byte| byte == b'/'))
}

/// Two neighbouring deltas as one, and what that means for the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The delta of the older version to what came after the newer one.
    pub delta: Delta,
    /// Files that go from the folder of the newer version to that of the older: path there, path
    /// here. All that stays behind in the newer folder is needed by nobody.
    pub moves: Vec<(Path, Path)>,
}

/// Leaves out the version between two deltas: what the older delta says wins.
///
/// `after` is what the version after both has at a path, marked so where that is lost: what is the
/// same there needs no record.
///
/// # Errors
/// Of `after`.
pub fn merge(
    older: &Delta,
    newer: &Delta,
    after: impl Fn(&[u8]) -> Result<Option<Present>, MirrorError>,
) -> Result<Merged, MirrorError> {
    let mut bytes = Bytes::default();
    let mut delta = Delta::new();
    let paths: BTreeSet<&Path> = older.keys().chain(newer.keys()).collect();
    for path in paths {
        let state = match (older.get(path), newer.get(path)) {
            (Some(State::Present(present)), _) => {
                let at = match &present.at {
                    At::Next(next) => bytes.resolve(path, next, newer),
                    at => at.clone(),
                };
                State::Present(Box::new(present.at(at)))
            }
            (None, Some(State::Present(present))) if present.is_file() => {
                State::Present(Box::new(present.at(bytes.take(path, &present.at))))
            }
            (None, Some(State::Present(present))) => State::Present(present.clone()),
            _ => State::Absent,
        };
        delta.insert(path.clone(), state);
    }
    let used: BTreeSet<Path> = delta
        .iter()
        .filter_map(|(path, state)| match &state.present()?.at {
            At::Here(at) if at != path => Some(at.clone()),
            _ => None,
        })
        .collect();
    let mut kept = Delta::new();
    for (path, state) in delta {
        let is_needless = match (state.present(), after(&path)?) {
            (None, None) => true,
            (Some(was), Some(is)) => is.stands_for(was) && !used.contains(&path),
            _ => false,
        };
        if !is_needless {
            kept.insert(path, state);
        }
    }
    let delta = kept;
    let is_kept = |(_, to): &(Path, Path)| delta.contains_key(to);
    let moves = bytes.moves.into_iter().filter(is_kept).collect();
    Ok(Merged { delta, moves })
}

/// Bytes of the newer folder on their way to the older one.
#[derive(Debug, Default)]
struct Bytes {
    taken: BTreeMap<Path, Path>,
    moves: Vec<(Path, Path)>,
}

impl Bytes {
    /// The place of bytes that `next` has in the version that goes, for the record of `path`.
    fn resolve(&mut self, path: &Path, next: &Path, newer: &Delta) -> At {
        match newer.get(next) {
            None => At::Next(next.clone()),
            Some(State::Absent) => At::Lost,
            Some(State::Present(present)) => self.take(path, &present.at),
        }
    }

    /// The place of bytes that a record of the newer delta has, for the record of `path`. Bytes go
    /// to the path of the record that asks first: paths of one version never stand in each other's
    /// way.
    fn take(&mut self, path: &Path, at: &At) -> At {
        let At::Here(from) = at else {
            return at.clone();
        };
        let to = self.taken.entry(from.clone()).or_insert_with(|| {
            self.moves.push((from.clone(), path.clone()));
            path.clone()
        });
        At::Here(to.clone())
    }
}
