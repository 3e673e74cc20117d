//! What the file system of a mirror can hold, and what of a source does not fit into it.

use std::collections::{BTreeMap, HashMap, HashSet};

use lastgood_format::entry::Node;

use super::scan::Found;
use crate::delta::Manifest;
use crate::error::{MirrorError, Trouble, Watch};
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

    /// The paths that are shown, where names may be one.
    pub(super) fn keys(self, manifest: &Manifest) -> HashMap<Vec<u8>, &Path> {
        if !self.is_blind {
            return HashMap::new();
        }
        let shown = manifest.iter().filter(|(_, present)| self.shows(present));
        shown.map(|(path, _)| (self.key(path), path)).collect()
    }
}

/// Leaves out what cannot be held, and tells of it: a commit must not fail half-way. What was there
/// first keeps its name.
pub(super) fn fit(
    mirror: &Mirror,
    old: &Manifest,
    found: &mut Found,
    watch: &dyn Watch,
) -> Result<(), MirrorError> {
    let can = found.can;
    let mut holders: HashMap<Vec<u8>, Path> = HashMap::new();
    if can.is_blind {
        let kept = found.wanted.keys().filter(|path| old.contains_key(*path));
        holders.extend(kept.map(|path| (can.key(path), path.clone())));
    }
    let mut names = Names { mirror, known: BTreeMap::new() };
    let mut out: HashSet<Path> = HashSet::new();
    for path in found.wanted.keys() {
        if record::parent(path).is_some_and(|parent| out.contains(parent)) {
            out.insert(path.clone());
            continue;
        }
        let is_first =
            !can.is_blind || holders.entry(can.key(path)).or_insert_with(|| path.clone()) == path;
        let message = if !is_first {
            "another name differs from it only in case, and the mirror's file system takes them \
             for one"
        } else if !old.contains_key(path) && !names.fit(record::name(path))? {
            "the mirror's file system does not allow its name"
        } else {
            continue;
        };
        out.insert(path.clone());
        let (path, during) = (path.clone(), "mirror");
        watch.trouble(Trouble { path, during, message: message.to_owned() });
    }
    found.wanted.retain(|path, _| !out.contains(path));
    Ok(())
}

/// Names that were tried.
struct Names<'a> {
    mirror: &'a Mirror,
    known: BTreeMap<Path, bool>,
}

impl Names<'_> {
    /// Whether a file may bear a name. Only such are tried of which some file systems forbid any.
    fn fit(&mut self, name: &[u8]) -> Result<bool, MirrorError> {
        if !is_odd(name) {
            return Ok(true);
        }
        if let Some(known) = self.known.get(name) {
            return Ok(*known);
        }
        let stage = record::join(layout::STAGE, name);
        let fits = match self.mirror.place.create(&stage) {
            Ok(_) => {
                self.mirror.place.remove(&stage)?;
                true
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
    let stem = text.split('.').next().unwrap_or(text).to_ascii_lowercase();
    let is_device = RESERVED.contains(&&*stem)
        || ["com", "lpt"]
            .iter()
            .any(|port| stem.strip_prefix(port).is_some_and(|rest| rest.len() == 1 && rest != "0"));
    let is_forbidden = |c: char| c.is_control() || "\\:*?\"<>|".contains(c);
    is_device || text.ends_with(['.', ' ']) || text.contains(is_forbidden)
}

/// Names of devices, whatever comes behind a dot.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
