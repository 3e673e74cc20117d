//! Names of one file: read once, and one file in `latest/` as well.

use std::collections::HashMap;

use crate::error::MirrorError;
use crate::layout;
use crate::record::{At, Path, Present};

/// What names of one file share: device and inode of the source.
type Link = (u64, u64);

/// The files of more than one name.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Where the bytes of a file are, in `latest/` or the stage, and what it is.
    at: HashMap<Link, (Path, Present)>,
    /// Names of one file in the newest version, each with what it shares in the next one; `None`
    /// when it is no file any more.
    shared: HashMap<Link, Vec<(Path, Option<Option<Link>>)>>,
    /// Names of one file in the newest version or the next.
    names: HashMap<Link, Vec<Path>>,
}

impl Links {
    /// What a path was, is to be, and whether the bytes of that are in `latest/`.
    pub(super) fn meet(
        &mut self,
        path: &[u8],
        was: Option<&Present>,
        is: Option<&Present>,
        is_there: bool,
    ) {
        let file = is.filter(|is| is.is_file());
        let (old, new) = (was.and_then(|was| was.link), file.and_then(|is| is.link));
        if let Some(link) = old {
            let is = file.map(|is| is.link);
            self.shared.entry(link).or_default().push((path.into(), is));
            self.names.entry(link).or_default().push(path.into());
        }
        if let Some(link) = new.filter(|new| old != Some(*new)) {
            self.names.entry(link).or_default().push(path.into());
        }
        if let Some(is) = file.filter(|is| is_there && is.at != At::Lost) {
            self.add(layout::latest(path), is);
        }
    }

    /// Whether a name of a file was met.
    pub(super) fn knows(&self, link: Option<Link>) -> bool {
        link.is_some_and(|link| self.names.contains_key(&link))
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
    pub(super) fn part(&self, path: &[u8], was: Option<Link>, is: Option<Link>) -> bool {
        let names = was.and_then(|was| self.shared.get(&was));
        let mut names = names.into_iter().flatten().filter_map(|(name, is)| Some((name, (*is)?)));
        let same = names.clone().find(|(_, is)| *is == was);
        match same.or_else(|| names.next()) {
            Some((_, Some(stays))) => is != Some(stays),
            Some((stays, None)) => *path != **stays,
            None => false,
        }
    }

    /// A name that has the bytes in the next version, as `state` tells it, that a file had.
    pub(super) fn with_bytes_of(
        &self,
        was: &Present,
        state: impl Fn(&[u8]) -> Result<Option<Present>, MirrorError>,
    ) -> Result<Option<Path>, MirrorError> {
        let names = was.link.and_then(|link| self.names.get(&link));
        for path in names.into_iter().flatten() {
            let is = state(path)?;
            if is.is_some_and(|is| is.entry.node == was.entry.node && is.at != At::Lost) {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }
}
