//! The algebra of versions: what differs between neighbours, what a path was at any time, and how a
//! version in the middle goes.
//!
//! Versions `V0 … Vn`, the last of which lies in `latest/`. Delta `i` says, for exactly the paths
//! where `Vi` differs from `Vi+1`, what `Vi` has there. So the state of a path in `Vk` is what the
//! first delta from `k` on says of it, or else what the newest version has: one lookup, whatever the
//! age. Nothing here does I/O: bytes are only named. Spec: `docs/format/mirror.md`, section 5.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lastgood_diff::{Change, compare_recorded};

use crate::record::{At, Path, Present, State};

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
    pub deltas: &'a [Delta],
    /// The newest version.
    pub latest: &'a Manifest,
}

/// Names that share one file in either of two versions.
struct Names<'a>(HashMap<(u64, u64), Vec<&'a Path>>);

impl<'a> Names<'a> {
    fn new(before: &'a Manifest, after: &'a Manifest) -> Self {
        let mut names: HashMap<_, Vec<&Path>> = HashMap::new();
        for (path, present) in before.iter().chain(after) {
            if let Some(link) = present.link {
                names.entry(link).or_default().push(path);
            }
        }
        Self(names)
    }

    /// A name that has the bytes in the next version that a file had.
    fn with_bytes_of(&self, was: &Present, after: &Manifest) -> Option<&'a Path> {
        let mut names = self.0.get(&was.link?)?.iter().copied();
        names.find(|path| {
            let is = after.get(*path);
            is.is_some_and(|is| is.entry.node == was.entry.node && is.at != At::Lost)
        })
    }
}

/// What differs between two neighbours. `moved` says which files went where: path before, path
/// after; it names each path at most once on either side.
#[must_use]
pub fn between(before: &Manifest, after: &Manifest, moved: &BTreeMap<Path, Path>) -> Delta {
    let mut delta = Delta::new();
    let names = Names::new(before, after);
    for (path, was) in before {
        let is = after.get(path);
        if is.is_some_and(|is| is.is_same(was)) {
            continue;
        }
        let at = match (is, moved.get(path)) {
            (Some(is), _) if was.is_file() && is.entry.node == was.entry.node => {
                At::Next(path.clone())
            }
            (_, Some(to)) => At::Next(to.clone()),
            _ => match names.with_bytes_of(was, after) {
                Some(other) => At::Next(other.clone()),
                None => At::Here(path.clone()),
            },
        };
        delta.insert(path.clone(), State::Present(Box::new(was.at(at))));
    }
    let born = after.keys().filter(|path| !before.contains_key(*path));
    delta.extend(born.map(|path| (path.clone(), State::Absent)));
    delta
}

impl<'a> History<'a> {
    /// What version `k` has at a path.
    #[must_use]
    pub fn state(&self, k: usize, path: &[u8]) -> Option<&'a Present> {
        match self.deltas[k..].iter().find_map(|delta| delta.get(path)) {
            Some(state) => state.present(),
            None => self.latest.get(path),
        }
    }

    /// Where the bytes are that the file at a path has in version `k`.
    #[must_use]
    pub fn place(&self, mut k: usize, path: &[u8]) -> Place {
        let mut path: Path = path.into();
        loop {
            let found = (k..)
                .zip(&self.deltas[k..])
                .find_map(|(i, delta)| delta.get(&path).map(|state| (i, state)));
            match found {
                None if self.latest.contains_key(&path) => return Place::Latest(path),
                None | Some((_, State::Absent)) => return Place::Lost,
                Some((i, State::Present(present))) => match &present.at {
                    At::Here(at) => return Place::Folder(i, at.clone()),
                    At::Lost => return Place::Lost,
                    At::Next(next) => {
                        path = next.clone();
                        k = i + 1;
                    }
                },
            }
        }
    }

    /// What differs from version `before` to version `after`, in path order. Only what deltas
    /// between them name is looked at; either may be the older one.
    #[must_use]
    pub fn changes(&self, before: usize, after: usize) -> Vec<(&'a Path, Change)> {
        let between = &self.deltas[before.min(after)..before.max(after)];
        let mut paths: Vec<&Path> = between.iter().flat_map(BTreeMap::keys).collect();
        paths.sort_by(|one, other| in_path_order(one, other));
        paths.dedup();
        let entry = |k: usize, path: &[u8]| self.state(k, path).map(|it| it.entry.clone());
        let change = |path: &'a Path| match (entry(before, path), entry(after, path)) {
            (None, None) => None,
            (None, Some(after)) => Some((path, Change::Added(after))),
            (Some(before), None) => Some((path, Change::Removed(before))),
            (Some(before), Some(after)) => {
                let differences = compare_recorded(&before, &after);
                let change = Change::Modified { before, after, differences };
                differences.any().then_some((path, change))
            }
        };
        paths.into_iter().filter_map(change).collect()
    }

    /// All that version `k` has.
    #[must_use]
    pub fn version(&self, k: usize) -> BTreeMap<&'a [u8], &'a Present> {
        let mut all: BTreeMap<&[u8], &Present> =
            self.latest.iter().map(|(path, present)| (&**path, present)).collect();
        for delta in self.deltas[k..].iter().rev() {
            for (path, state) in delta {
                match state {
                    State::Absent => all.remove(&**path),
                    State::Present(present) => all.insert(path, present),
                };
            }
        }
        all
    }
}

/// Files that lie in the folder of a delta, with their bytes.
pub(crate) fn stored(delta: &Delta) -> impl Iterator<Item = (&Path, u64)> {
    delta.iter().filter_map(|(path, state)| {
        let present = state.present().filter(|present| present.is_file())?;
        (present.at == At::Here(path.clone())).then(|| (path, present.size()))
    })
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
/// `after` is what the version after both has at a path: what is the same there needs no record.
#[must_use]
pub fn merge<'a>(
    older: &Delta,
    newer: &Delta,
    after: impl Fn(&[u8]) -> Option<&'a Present>,
) -> Merged {
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
    let is_needless = |path: &Path, state: &State| match (state.present(), after(path)) {
        (None, None) => true,
        (Some(was), Some(is)) => was.is_same(is) && !used.contains(path),
        _ => false,
    };
    delta.retain(|path, state| !is_needless(path, state));
    let is_kept = |(_, to): &(Path, Path)| delta.contains_key(to);
    let moves = bytes.moves.into_iter().filter(is_kept).collect();
    Merged { delta, moves }
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
