//! A version between two neighbours.

use std::collections::HashMap;

use lastgood_format::id::BlobId;

use super::{Delta, Manifest};
use crate::record::{At, Path, Present, State};

/// What becomes of a delta into the middle of which a version comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    /// Delta of the older neighbour to the version.
    pub older: Delta,
    /// Files that the older neighbour has to have of its own now: the path at which the newer one
    /// has the bytes, and that in the folder of the older.
    pub copies: Vec<(Path, Path)>,
}

/// The delta of a new version to the one that comes after it. What it says is `here` has to come
/// with the version. In `after`, what is lost is marked so.
#[must_use]
pub fn to_newer(new: &Manifest, after: &Manifest) -> Delta {
    let holders = Holders::of(after);
    let mut delta = Delta::new();
    for (path, is) in new.iter().filter(|(path, is)| differs(is, after.get(*path))) {
        let at = holders.place(path, is).unwrap_or_else(|| At::Here(path.clone()));
        delta.insert(path.clone(), State::Present(Box::new(is.at(at))));
    }
    let born = after.keys().filter(|path| !new.contains_key(*path));
    delta.extend(born.map(|path| (path.clone(), State::Absent)));
    delta
}

/// The delta of the older neighbour, all that it has being `before`, to a new version. So far its
/// delta was `delta`, to the version of `after`; in both, what is lost is marked so.
#[must_use]
pub fn to_new(delta: &Delta, before: &Manifest, new: &Manifest, after: &Manifest) -> Inserted {
    let holders = Holders::of(new);
    let mut inserted = Inserted { older: Delta::new(), copies: Vec::new() };
    for (path, was) in before.iter().filter(|(path, was)| differs(was, new.get(*path))) {
        let at = holders.place(path, was).unwrap_or_else(|| {
            let at = delta.get(path).and_then(State::present).map(|record| &record.at);
            let from = match at {
                Some(At::Next(from)) => from,
                Some(at) => return at.clone(),
                None => path,
            };
            let is_there = after.get(from).is_some_and(|is| is.at != At::Lost);
            if was.is_file() && !is_there {
                return At::Lost;
            }
            if was.is_file() {
                inserted.copies.push((from.clone(), path.clone()));
            }
            At::Here(path.clone())
        });
        inserted.older.insert(path.clone(), State::Present(Box::new(was.at(at))));
    }
    let born = new.keys().filter(|path| !before.contains_key(*path));
    inserted.older.extend(born.map(|path| (path.clone(), State::Absent)));
    inserted
}

fn differs(one: &Present, other: Option<&Present>) -> bool {
    !other.is_some_and(|other| other.stands_for(one))
}

/// Where a version has which bytes.
struct Holders<'a> {
    manifest: &'a Manifest,
    by_hash: HashMap<BlobId, &'a Path>,
}

impl<'a> Holders<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        let files = manifest.iter().filter(|(_, present)| present.at != At::Lost);
        let by_hash = files.filter_map(|(path, present)| Some((present.hash()?, path))).collect();
        Self { manifest, by_hash }
    }

    /// Where the version has the bytes of a file, at the same path if it can.
    fn place(&self, path: &Path, file: &Present) -> Option<At> {
        let hash = file.hash()?;
        let is_same = |is: &&Present| is.at != At::Lost && is.hash() == Some(hash);
        match self.manifest.get(path).filter(is_same) {
            Some(_) => Some(At::Next(path.clone())),
            None => self.by_hash.get(&hash).map(|holder| At::Next(Path::clone(holder))),
        }
    }
}
