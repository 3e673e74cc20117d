//! What the file system of a mirror can hold, and what of a source does not fit into it.

use std::collections::{BTreeMap, HashMap};

use lastgood_format::entry::Node;
use lastgood_host::HostError;
use lastgood_host::scan::Listing;

use crate::error::MirrorError;
use crate::layout;
use crate::mirror::Mirror;
use crate::place::{self, Place};
use crate::record::{self, At, Path, Present};

/// What a file system can do. It is tried in each run: the mirror may have been copied elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Names that differ in case are one name.
    is_caseless: bool,
    /// Names that differ in how their characters are composed are one name.
    is_formless: bool,
    /// There are symbolic links.
    pub(super) has_symlinks: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { is_caseless: false, is_formless: false, has_symlinks: true }
    }
}

impl Abilities {
    pub(super) fn of(mirror: &Mirror, is_dry: bool) -> Result<Self, MirrorError> {
        let place = &*mirror.place;
        let is_caseless = place.stat(&layout::MIRROR.to_ascii_uppercase())?.is_some();
        if is_dry {
            return Ok(Self { is_caseless, ..Self::default() });
        }
        let stage = layout::stage("probe");
        let has_symlinks = match place.make_symlink(&stage, b"target") {
            Err(error) if error.is_no_link() => false,
            made => made.and_then(|()| place.remove(&stage)).map(|()| true)?,
        };
        let is_formless = is_one_name(place, COMPOSED, DECOMPOSED)?;
        Ok(Self { is_caseless, is_formless, has_symlinks })
    }

    /// Whether names that differ may be one name.
    pub(super) const fn folds(self) -> bool {
        self.is_caseless || self.is_formless
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
}

/// Whether a file system takes one name for the other. That is asked and not computed: the tables
/// by which it folds names are its own.
pub(super) fn is_one_name(place: &dyn Place, one: &[u8], other: &[u8]) -> Result<bool, HostError> {
    let mut asked = Asked::new(place)?;
    // A name that is not allowed is nobody's.
    let (one, other) = (asked.id(one)?, asked.id(other)?);
    asked.end()?;
    Ok(one.is_some() && one == other)
}

/// An empty directory in the stage, in which files are made to see which names are one.
struct Asked<'a>(&'a dyn Place);

impl<'a> Asked<'a> {
    fn new(place: &'a dyn Place) -> Result<Self, HostError> {
        place::make_directories(place, &layout::stage(NAMES))?;
        Ok(Self(place))
    }

    /// What all names share that are this one; `None` for a name that is not allowed.
    fn id(&mut self, name: &[u8]) -> Result<Option<(u64, u64)>, HostError> {
        let path = record::join(&layout::stage(NAMES), name);
        match self.0.create(&path) {
            Ok(_) => {}
            Err(error) if error.is_exists() => {}
            Err(error) if error.is_of_one_path() => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(self.0.stat(&path)?.map(|stat| stat.file_id()))
    }

    fn end(self) -> Result<(), HostError> {
        place::empty(self.0, &layout::stage(NAMES))?;
        self.0.remove_directory(&layout::stage(NAMES))
    }
}

/// Names in a directory of the source that are one name in the mirror.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// To which of the groups a name belongs.
    groups: HashMap<Path, usize>,
    /// Who has the name of a group in the mirror.
    holders: Vec<Option<Path>>,
}

impl Rivals {
    pub(super) fn among(
        mirror: &Mirror,
        can: Abilities,
        listing: &Listing,
    ) -> Result<Self, MirrorError> {
        let mut rivals = Self::default();
        let mut by_key: HashMap<Vec<u8>, Vec<&[u8]>> = HashMap::new();
        if !can.folds() {
            return Ok(rivals);
        }
        if listing.names().all(<[u8]>::is_ascii) {
            for name in listing.names().filter(|_| can.is_caseless) {
                by_key.entry(name.to_ascii_lowercase()).or_default().push(name);
            }
        } else {
            let mut asked = Asked::new(&*mirror.place)?;
            for name in listing.names() {
                if let Some((device, inode)) = asked.id(name)? {
                    let key = [device.to_le_bytes(), inode.to_le_bytes()].concat();
                    by_key.entry(key).or_default().push(name);
                }
            }
            asked.end()?;
        }
        for group in by_key.into_values().filter(|group| group.len() > 1) {
            let number = rivals.holders.len();
            rivals.holders.push(None);
            rivals.groups.extend(group.into_iter().map(|name| (name.into(), number)));
        }
        Ok(rivals)
    }

    /// Which of the names that are one with this one has it: what was there first, and else who asks
    /// first. `known` is what the mirror had in the directory.
    pub(super) fn holder(
        &mut self,
        name: &[u8],
        known: impl FnOnce() -> Result<Vec<Path>, MirrorError>,
    ) -> Result<Option<&Path>, MirrorError> {
        let Some(&group) = self.groups.get(name) else { return Ok(None) };
        if self.holders[group].is_none() {
            let groups = &self.groups;
            let mut known = known()?.into_iter().map(|path| Path::from(record::name(&path)));
            let before = known.find(|name| groups.get(name) == Some(&group));
            self.holders[group] = Some(before.unwrap_or_else(|| name.into()));
        }
        Ok(self.holders[group].as_ref())
    }
}

/// What in `latest/` is another name of what is to be there.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// What comes to a path at which there is something under another name, by what that is.
    comes: HashMap<(u64, u64), Vec<Path>>,
}

impl Aliases {
    /// Something comes to a path that had nothing.
    pub(super) fn add(&mut self, place: &dyn Place, path: &[u8]) -> Result<(), HostError> {
        if let Some(stat) = place.stat(&layout::latest(path))? {
            self.comes.entry(stat.file_id()).or_default().push(path.into());
        }
        Ok(())
    }

    /// What comes to the place of what is at a path, under another name.
    pub(super) fn of(&self, place: &dyn Place, path: &[u8]) -> Result<Option<&Path>, HostError> {
        if self.comes.is_empty() {
            return Ok(None);
        }
        let Some(stat) = place.stat(&layout::latest(path))? else { return Ok(None) };
        for other in self.comes.get(&stat.file_id()).into_iter().flatten() {
            if **other != *path && is_alias(place, path, other)? {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }
}

/// Whether two paths in `latest/` are one and the same there.
pub(super) fn is_alias(place: &dyn Place, one: &[u8], other: &[u8]) -> Result<bool, HostError> {
    let id = |path: &[u8]| {
        let stat = place.stat(&layout::latest(path))?;
        Ok::<_, HostError>(stat.map(|stat| (stat.file_id(), stat.links)))
    };
    match (id(one)?, id(other)?) {
        (Some((is, links)), Some((other_is, _))) if is == other_is => {
            // A hard link is another name too, but of another place.
            let parents = [one, other].map(|path| record::parent(path).unwrap_or_default());
            let is_there = id(parents[0])?.map(|it| it.0) == id(parents[1])?.map(|it| it.0);
            let is_only = links < 2 || !is_there;
            Ok(is_there && (is_only || is_one_name(place, record::name(one), record::name(other))?))
        }
        _ => Ok(false),
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
                // FAT takes a dot or a space at the end and forgets it: it would be another file.
                let ends_as_it = |it: &Path| it.last() == name.last();
                !name.ends_with(b".") && !name.ends_with(b" ") || names.iter().any(ends_as_it)
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

/// Where names are tried out against each other.
const NAMES: &str = "names";
/// A letter with an accent, as one character and as two.
const COMPOSED: &[u8] = "\u{e9}".as_bytes();
const DECOMPOSED: &[u8] = "e\u{301}".as_bytes();
/// Where names are encrypted they have to be shorter than elsewhere (eCryptfs: 143 bytes).
const LENGTH_ANYWHERE: usize = 143;
/// Names of devices, whatever comes behind a dot.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
