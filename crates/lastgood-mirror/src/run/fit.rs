//! What the file system of a mirror can hold, and what of a source does not fit into it.

use std::collections::BTreeMap;

use lastgood_format::entry::Node;

use crate::error::MirrorError;
use crate::layout;
use crate::mirror::Mirror;
use crate::record::{self, At, Path, Present};

/// What a file system can do. It is tried in each run: the mirror may have been copied elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Names that differ in case are one name.
    pub(super) is_blind: bool,
    /// There are symbolic links.
    pub(super) has_symlinks: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { is_blind: false, has_symlinks: true }
    }
}

impl Abilities {
    pub(super) fn of(mirror: &Mirror, is_dry: bool) -> Result<Self, MirrorError> {
        let place = &*mirror.place;
        let is_blind = place.stat(&layout::MIRROR.to_ascii_uppercase())?.is_some();
        if is_dry {
            return Ok(Self { is_blind, ..Self::default() });
        }
        let stage = layout::stage("probe");
        let has_symlinks = match place.make_symlink(&stage, b"target") {
            Err(error) if error.is_no_link() => false,
            made => made.and_then(|()| place.remove(&stage)).map(|()| true)?,
        };
        Ok(Self { is_blind, has_symlinks })
    }

    /// Whether `latest/` shows something for a record.
    pub(super) fn shows(self, present: &Present) -> bool {
        match present.entry.node {
            Node::File { .. } => present.at != At::Lost,
            Node::Directory { .. } => true,
            Node::Symlink { .. } => self.has_symlinks,
            _ => false,
        }
    }

    /// What paths share that are one path there.
    pub(super) fn key(self, path: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(path) {
            Ok(text) if self.is_blind => text.to_lowercase().into_bytes(),
            _ if self.is_blind => path.to_ascii_lowercase(),
            _ => path.to_vec(),
        }
    }
}

/// Names that were tried.
#[derive(Debug)]
pub(super) struct Names<'a> {
    mirror: &'a Mirror,
    known: BTreeMap<Path, bool>,
}

impl<'a> Names<'a> {
    pub(super) const fn new(mirror: &'a Mirror) -> Self {
        Self { mirror, known: BTreeMap::new() }
    }

    /// Whether a file may bear a name. Only such are tried of which some file systems forbid any: a
    /// commit must not fail half-way.
    pub(super) fn fit(&mut self, name: &[u8]) -> Result<bool, MirrorError> {
        if !is_odd(name) {
            return Ok(true);
        }
        if let Some(known) = self.known.get(name) {
            return Ok(*known);
        }
        let stage = record::join(layout::STAGE, name);
        let fits = match self.mirror.place.create(&stage) {
            Ok(_) => {
                let names = self.mirror.place.list(layout::STAGE)?;
                self.mirror.place.remove(&stage)?;
                // FAT takes a dot at the end and forgets it: it would be another file.
                !name.ends_with(b".") || names.iter().any(|it| it.ends_with(b"."))
            }
            Err(error) if error.is_no_space() || error.is_exists() => return Err(error.into()),
            Err(_) => false,
        };
        self.known.insert(name.into(), fits);
        Ok(fits)
    }
}

fn is_odd(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return true };
    if name.len() > LENGTH_ANYWHERE {
        return true;
    }
    let stem = text.split('.').next().unwrap_or(text).to_ascii_lowercase();
    let is_device = RESERVED.contains(&&*stem)
        || ["com", "lpt"]
            .iter()
            .any(|port| stem.strip_prefix(port).is_some_and(|rest| rest.len() == 1 && rest != "0"));
    let is_forbidden = |c: char| c.is_control() || "\\:*?\"<>|".contains(c);
    is_device || text.ends_with(['.', ' ']) || text.contains(is_forbidden)
}

/// Where names are encrypted they have to be shorter than elsewhere (eCryptfs: 143 bytes).
const LENGTH_ANYWHERE: usize = 143;
/// Names of devices, whatever comes behind a dot.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
