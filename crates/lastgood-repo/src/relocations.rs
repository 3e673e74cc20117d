//! Where what was live in repacked packs is now. Spec: `docs/format/commit.md`, section 7.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lastgood_format::gc::{PackLocation, Relocation};
use lastgood_format::id::{ObjectId, PackId};
use lastgood_format::key::KeyError;
use lastgood_format::limits::GC_LIST_BYTES_MAX;
use lastgood_format::object::{name, object_id};

use crate::error::{Damage, RepoError};
use crate::repository::Repository;
use crate::rounds::RoundLists;

/// All relocations.
#[derive(Debug, Default)]
pub(crate) struct Relocations {
    moved: HashMap<PackId, Vec<Moved>>,
    /// The old places of each relocation, by its name.
    pub(crate) objects: BTreeMap<ObjectId, Vec<PackLocation>>,
}

/// One place of a pack, and what stands in for it.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) from: PackLocation,
    pub(crate) to: Vec<PackLocation>,
}

impl Repository {
    /// Loads all relocations.
    ///
    /// # Errors
    /// When they cannot be listed, or one is damaged: what it says is not known to be nothing.
    pub(crate) fn relocations(&self) -> Result<Relocations, RepoError> {
        let mut ids = Vec::new();
        self.list(name::RELOCATIONS, &mut |id, _| ids.extend(id.parse::<ObjectId>().ok()))?;
        let mut relocations = Relocations::default();
        for id in ids {
            let object = name::relocation(id);
            let Some(bytes) = self.find(&object, GC_LIST_BYTES_MAX)? else { continue };
            if object_id(&bytes) != id {
                return Err(self.damaged(&object, Damage::Name));
            }
            match Relocation::decode(self.keys().verifier(), &bytes) {
                Ok(relocation) => relocations.add(id, &relocation),
                // It is what its name says, and so nothing that we ever made.
                Err(KeyError::RotatedOut | KeyError::Signature) => {}
                Err(error) => return Err(self.damaged(&object, error)),
            }
        }
        Ok(relocations)
    }
}

impl Relocations {
    fn add(&mut self, id: ObjectId, relocation: &Relocation) {
        for (from, positions) in &relocation.moved {
            let to = positions.iter().filter_map(|at| relocation.to.get(*at as usize));
            let moved = Moved { from: *from, to: to.copied().collect() };
            self.moved.entry(from.pack).or_default().push(moved);
        }
        let from = relocation.moved.iter().map(|(from, _)| *from);
        self.objects.insert(id, from.collect());
    }

    /// What was moved out of places of a pack.
    pub(crate) fn of(&self, pack: PackId) -> &[Moved] {
        self.moved.get(&pack).map_or(&[], Vec::as_slice)
    }

    /// The places that a pack stands in for.
    pub(crate) fn replaced_by(&self, pack: PackId) -> Vec<PackLocation> {
        let moved = self.moved.values().flatten();
        let moved = moved.filter(|moved| moved.to.iter().any(|place| place.pack == pack));
        let mut from: Vec<PackLocation> = moved.map(|moved| moved.from).collect();
        from.sort();
        from
    }

    /// Every pack of which a relocation tells.
    pub(crate) fn moved_packs(&self) -> impl Iterator<Item = PackId> {
        self.moved.keys().copied()
    }

    /// Every pack that stands in for one of `packs`, or for one that does, and is not among them. In
    /// order: what is done with them is the same in every run.
    pub(crate) fn closure(
        &self,
        packs: impl IntoIterator<Item = PackId>,
    ) -> BTreeSet<PackLocation> {
        let mut seen: HashSet<PackId> = packs.into_iter().collect();
        let mut open: Vec<PackId> = seen.iter().copied().collect();
        let mut found = BTreeSet::new();
        while let Some(pack) = open.pop() {
            for place in self.of(pack).iter().flat_map(|moved| &moved.to) {
                if seen.insert(place.pack) {
                    found.insert(*place);
                    open.push(place.pack);
                }
            }
        }
        found
    }
}

/// Finds what a writer names for packs of its baseline.
pub(crate) struct StandIns<'a> {
    relocations: &'a Relocations,
    decided: HashSet<PackId>,
    pending: HashSet<PackId>,
    is_usable: &'a dyn Fn(PackId) -> bool,
}

impl<'a> StandIns<'a> {
    pub(crate) fn new(
        relocations: &'a Relocations,
        lists: &RoundLists,
        is_usable: &'a dyn Fn(PackId) -> bool,
    ) -> Self {
        let packs = |places: &HashSet<PackLocation>| places.iter().map(|at| at.pack).collect();
        let (decided, pending) = (packs(&lists.decided), packs(&lists.pending));
        Self { relocations, decided, pending, is_usable }
    }

    /// What stands for a pack: the pack itself when it may be referred to; what relocations put in
    /// its place once a verdict named it, since the round that decided so saw that nothing is
    /// missing there; nothing where a relocation leads to what is gone, since no round relied on
    /// that. None while that is undecided, or when the pack was lost otherwise.
    pub(crate) fn of(&self, pack: PackId) -> Option<BTreeSet<PackId>> {
        let (mut found, mut open, mut seen) = (BTreeSet::new(), vec![pack], HashSet::new());
        while let Some(pack) = open.pop() {
            if !seen.insert(pack) {
                continue;
            }
            if (self.is_usable)(pack) {
                found.insert(pack);
            } else if self.pending.contains(&pack) || !self.decided.contains(&pack) {
                return None;
            } else {
                let to = self.relocations.of(pack).iter().flat_map(|moved| &moved.to);
                open.extend(to.map(|place| place.pack));
            }
        }
        // A pack that no relocation knows was not repacked but lost with its snapshot.
        (!self.relocations.of(pack).is_empty() || found.contains(&pack)).then_some(found)
    }
}

#[cfg(test)]
mod tests;
