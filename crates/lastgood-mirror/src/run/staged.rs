//! The next version, complete: what of it is not in `latest/` yet is in the stage.

use std::collections::{BTreeMap, BTreeSet};

use super::RunReport;
use super::fit::Abilities;
use super::links::Links;
use super::scan::{self, Same};
use super::shown::Spoiled;
use crate::error::MirrorError;
use crate::index::Index;
use crate::record::{Path, Present, State};
use crate::sheet::{Line, Sheet, WORDS};
use crate::text;

/// What differs from the newest version, and how it comes about.
#[derive(Debug)]
pub(super) struct Staged {
    /// What the next version has where it differs from the newest, or where `latest/` has to be set
    /// right; see [`How`].
    pub(super) sheet: Sheet,
    /// Files that go elsewhere in `latest/`: lines of the sheet, by the path before.
    pub(super) moved: Index,
    /// Paths in `latest/` that are not as the manifest says.
    pub(super) spoiled: BTreeMap<Path, Spoiled>,
    /// Paths in `latest/` that are in no manifest.
    pub(super) extras: BTreeSet<Path>,
    /// Paths of the newest version that are other names of others, each with that.
    pub(super) masked: BTreeMap<Path, Path>,
    /// Files of more than one name.
    pub(super) links: Links,
    /// What of it the newest version has just so.
    pub(super) same: Same,
    /// What the file system of the mirror can do.
    pub(super) can: Abilities,
    /// What is known so far.
    pub(super) report: RunReport,
}

/// How what the next version has at a path gets into `latest/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// The next version has nothing there.
    Gone,
    /// It is there, or is not shown.
    Known,
    /// From this path in the stage: a file or link, or a directory with all that was built in it.
    Put(Path),
    /// With the directory above it that is put in place; so far it is here.
    Built(Path),
    /// From this path in `latest/`.
    Moved(Path),
    /// That is not known yet: it has to be read.
    Read,
}

impl How {
    pub(super) fn parse(sheet: &Sheet, line: &Line) -> Result<Self, MirrorError> {
        let bad = || sheet.bad_line(line.start);
        let mut fields = line.raw.split(|&byte| byte == b'\t');
        let word = fields.next().unwrap_or_default();
        let path = || fields.next().and_then(text::unescape).map(Path::from).ok_or_else(bad);
        Ok(match word {
            scan::GONE => Self::Gone,
            scan::KNOWN | scan::CHECK => Self::Known,
            scan::READ => Self::Read,
            PUT => Self::Put({ path }()?),
            BUILT => Self::Built({ path }()?),
            MOVED => Self::Moved({ path }()?),
            _ => return Err(bad()),
        })
    }
}

impl Staged {
    /// What the next version has at a path.
    pub(super) fn state(&self, old: &Sheet, path: &[u8]) -> Result<Option<Present>, MirrorError> {
        match self.sheet.line(path)? {
            Some(line) => Ok(self.sheet.record(&line, WORDS)?.present().cloned()),
            None => old.present(path),
        }
    }

    /// How a path gets into `latest/`, where it does not stay as it is.
    pub(super) fn how(&self, path: &[u8]) -> Result<How, MirrorError> {
        let line = self.sheet.line(path)?;
        line.map_or(Ok(How::Known), |line| How::parse(&self.sheet, &line))
    }

    /// Where a file goes that leaves its path in `latest/`.
    pub(super) fn moved(&self, from: &[u8]) -> Result<Option<Path>, MirrorError> {
        for (_, start) in self.moved.find(from) {
            let Some(line) = self.sheet.whole_line_at(start)? else { continue };
            if matches!(How::parse(&self.sheet, &line)?, How::Moved(known) if *known == *from) {
                return Ok(Some(line.path));
            }
        }
        Ok(None)
    }

    pub(super) fn is_spoiled(&self, path: &[u8]) -> bool {
        self.spoiled.contains_key(path)
    }

    /// All that differs, in order: path, how it comes, and what it is.
    pub(super) fn items(
        &self,
    ) -> impl Iterator<Item = Result<(Path, How, Option<Present>), MirrorError>> {
        self.sheet.lines().map(|line| self.item(line?))
    }

    pub(super) fn item(&self, line: Line) -> Result<(Path, How, Option<Present>), MirrorError> {
        let how = How::parse(&self.sheet, &line)?;
        let present = match self.sheet.record(&line, WORDS)? {
            State::Present(present) => Some(*present),
            State::Absent => None,
        };
        Ok((line.path, how, present))
    }
}

pub(super) const PUT: &[u8] = b"put";
pub(super) const BUILT: &[u8] = b"built";
pub(super) const MOVED: &[u8] = b"moved";
