//! What lies in `latest/`, compared with what should: somebody may have been there.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lastgood_format::entry::Node;
use lastgood_host::scan::{Kind, Stat};

use super::fit::Abilities;
use super::fixed::{Fixed, LOCKED};
use super::scrub::Slice;
use crate::above::Above;
use crate::error::{MirrorError, Trouble, Watch, told};
use crate::journal::Looks;
use crate::layout;
use crate::mirror::Mirror;
use crate::record::{self, Path, Present};
use crate::sheet::Sheet;

/// Why what lies in `latest/` is not what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoiled {
    /// Somebody changed it, or removed it.
    Edited,
    /// Its bytes are others, and nothing else of it is.
    Rotted,
}

/// What was found in `latest/` so far. Paths are met in order, all that the newest version has.
pub(super) struct Shown<'a> {
    mirror: &'a Mirror,
    manifest: &'a Sheet,
    slice: &'a Slice,
    watch: &'a dyn Watch,
    can: Abilities,
    /// Directories of the newest version, with how many of their entries lie there.
    counts: Above<usize>,
    /// Paths that are not as the manifest says, or not there.
    pub(super) spoiled: BTreeMap<Path, Spoiled>,
    /// Paths that the manifest does not have.
    pub(super) extras: BTreeSet<Path>,
    /// What nobody can change.
    pub(super) fixed: Fixed,
}

impl<'a> Shown<'a> {
    pub(super) fn new(
        mirror: &'a Mirror,
        manifest: &'a Sheet,
        slice: &'a Slice,
        watch: &'a dyn Watch,
        can: Abilities,
    ) -> Self {
        Self {
            mirror,
            manifest,
            slice,
            watch,
            can,
            counts: Above::default(),
            spoiled: BTreeMap::new(),
            extras: BTreeSet::new(),
            fixed: Fixed::default(),
        }
    }

    /// Compares what lies at a path with what should, without reading it.
    pub(super) fn meet(&mut self, path: &Path, present: &Present) -> Result<(), MirrorError> {
        self.settle(Some(path))?;
        let is_there = match self.mirror.place.stat(&layout::latest(path)) {
            Ok(stat) => {
                self.judge(path, present, stat.as_ref());
                stat.is_some() && self.can.shows(present)
            }
            // It may be right, and cannot be changed either.
            Err(error) if error.is_of_one_path() => {
                self.fixed.add(path, &told(&error));
                true
            }
            Err(error) => return Err(error.into()),
        };
        if is_there && let Some(count) = self.counts.parent(path) {
            *count += 1;
        }
        if present.entry.is_directory() {
            self.counts.enter(path.clone(), 0);
        }
        Ok(())
    }

    fn judge(&mut self, path: &Path, present: &Present, stat: Option<&Stat>) {
        if stat.is_some_and(|stat| stat.is_locked) {
            self.fixed.add(path, LOCKED);
        }
        if !looks_as(present, stat, self.can) || !self.points_as(path, present) {
            self.spoiled.insert(path.clone(), Spoiled::Edited);
        } else if self.slice.rotted.contains(path) {
            self.spoiled.insert(path.clone(), Spoiled::Rotted);
        }
    }

    /// Whether a symbolic link points where it should, as far as that can be known.
    fn points_as(&self, path: &[u8], present: &Present) -> bool {
        let Node::Symlink { target } = &present.entry.node else { return true };
        let shown = || self.mirror.place.read_link(&layout::latest(path));
        !self.can.has_symlinks || matches!(shown(), Ok(Some(shown)) if shown == *target)
    }

    /// Looks for what does not belong there into the directories of which nothing comes any more;
    /// `None` is the end.
    pub(super) fn settle(&mut self, path: Option<&[u8]>) -> Result<(), MirrorError> {
        for (directory, count) in self.counts.pass(path) {
            let names = match self.mirror.place.list(&layout::latest(&directory)) {
                Ok(names) => names,
                Err(error) if error.is_of_one_path() => {
                    let (path, message) = (layout::latest(&directory), told(&error));
                    self.watch.trouble(Trouble { path, during: "list", message });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if names.len() != count {
                self.compare(&directory, &names)?;
            }
        }
        Ok(())
    }

    /// Looks for what a directory should not hold.
    fn compare(&mut self, directory: &[u8], names: &[Path]) -> Result<(), MirrorError> {
        let mut others = Vec::new();
        for name in names {
            let child = record::join(directory, name);
            let known = self.manifest.present(&child)?;
            if !known.is_some_and(|known| self.can.shows(&known)) {
                others.push(child);
            }
        }
        let hidden = match self.can.folds() && !others.is_empty() {
            true => self.under_other_names(directory, names)?,
            false => HashSet::new(),
        };
        for child in others {
            let stat = self.mirror.place.stat(&layout::latest(&child));
            if matches!(&stat, Ok(Some(stat)) if hidden.contains(&stat.file_id())) {
                continue;
            }
            if matches!(&stat, Ok(Some(stat)) if stat.is_locked) {
                self.fixed.add(&child, LOCKED);
            }
            match self.fixed.why(&child) {
                Some(why) => tell_fixed(self.watch, &child, why),
                None => drop(self.extras.insert(child)),
            }
        }
        Ok(())
    }

    /// What a directory should hold and shows under another name than it was given.
    fn under_other_names(
        &self,
        directory: &[u8],
        names: &[Path],
    ) -> Result<HashSet<(u64, u64)>, MirrorError> {
        let names: HashSet<&[u8]> = names.iter().map(|name| &**name).collect();
        let mut hidden = HashSet::new();
        for child in children(self.manifest, directory)? {
            if !names.contains(record::name(&child))
                && let Some(stat) = self.mirror.place.stat(&layout::latest(&child))?
            {
                hidden.insert(stat.file_id());
            }
        }
        Ok(hidden)
    }
}

/// Somebody has to hear that a path in `latest/` stays as it is.
pub(super) fn tell_fixed(watch: &dyn Watch, path: &[u8], why: &str) {
    let (path, message) = (layout::latest(path), why.to_owned());
    watch.trouble(Trouble { path, during: "change", message });
}

/// What a manifest has in a directory.
pub(super) fn children(manifest: &Sheet, directory: &[u8]) -> Result<Vec<Path>, MirrorError> {
    let prefix = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
    let mut lines = manifest.lines();
    lines.seek(&prefix)?;
    let mut children = Vec::new();
    for line in lines {
        let path = line?.path;
        match path.strip_prefix(&*prefix) {
            Some(name) if !name.is_empty() && !name.contains(&b'/') => children.push(path),
            Some(_) => {}
            None => break,
        }
    }
    Ok(children)
}

/// Whether what lies in `latest/` can be what a run put there.
pub(super) fn looks_as(present: &Present, stat: Option<&Stat>, can: Abilities) -> bool {
    let Some(stat) = stat else { return !can.shows(present) };
    match present.entry.node {
        Node::File { .. } if can.shows(present) => {
            Looks::of(present).is_some_and(|looks| looks.are_of(stat))
        }
        Node::Directory { .. } => stat.kind == Kind::Directory,
        Node::Symlink { .. } => stat.kind == Kind::Symlink,
        _ => false,
    }
}
