//! Names of one file: read once, and one file in `latest/` as well.

use std::collections::{BTreeMap, HashMap};

use super::scan::{self, Wanted};
use crate::delta::Manifest;
use crate::layout;
use crate::record::{At, Path, Present};

/// What names of one file share: device and inode of the source.
type Link = (u64, u64);

/// The files of more than one name.
#[derive(Debug)]
pub(super) struct Links {
    /// Where the bytes of a file are, in `latest/` or the stage, and what it is.
    at: HashMap<Link, (Path, Present)>,
    /// Names of one file in the newest version, each with what it shares in the next one; `None`
    /// when it is no file any more.
    shared: HashMap<Link, Vec<(Path, Option<Option<Link>>)>>,
}

impl Links {
    pub(super) fn new(old: &Manifest, wanted: &BTreeMap<Path, Wanted>) -> Self {
        let mut links = Self { at: HashMap::new(), shared: HashMap::new() };
        for (path, was) in old {
            let Some(link) = was.link else { continue };
            let is = match wanted.get(path) {
                Some(Wanted::Read(stat)) => Some(scan::link(stat)),
                Some(Wanted::Known(is) | Wanted::Check(is)) if is.is_file() => Some(is.link),
                _ => None,
            };
            links.shared.entry(link).or_default().push((path.clone(), is));
        }
        for (path, wanted) in wanted {
            if let Wanted::Known(is) | Wanted::Check(is) = wanted
                && is.at != At::Lost
            {
                links.add(layout::latest(path), is);
            }
        }
        links
    }

    /// The bytes of a file are here now.
    pub(super) fn add(&mut self, at: Path, present: &Present) {
        if let Some(link) = present.link {
            self.at.insert(link, (at, present.clone()));
        }
    }

    /// Where the bytes of a file are, and what it is.
    pub(super) fn get(&self, link: Option<Link>) -> Option<(Path, Present)> {
        self.at.get(&link?).cloned()
    }

    /// Whether a name has to leave the file that it shares with others in `latest/`, because it is
    /// another file from now on than those that stay.
    pub(super) fn part(&self, path: &Path, was: Option<Link>, is: Option<Link>) -> bool {
        let names = was.and_then(|was| self.shared.get(&was));
        let mut names = names.into_iter().flatten().filter_map(|(name, is)| Some((name, (*is)?)));
        let same = names.clone().find(|(_, is)| *is == was);
        match same.or_else(|| names.next()) {
            Some((_, Some(stays))) => is != Some(stays),
            Some((stays, None)) => path != stays,
            None => false,
        }
    }
}
