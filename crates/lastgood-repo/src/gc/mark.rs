//! Which places may go: `docs/format/commit.md`, section 9, steps 3 and 6.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lastgood_format::gc::PackLocation;
use lastgood_format::id::{BlobId, PackId, SessionId};
use lastgood_format::key::Class;
use lastgood_format::limits::PACK_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::pack::{BlobEntry, verify_bytes};
use lastgood_format::packset::PackRef;

use super::GcObserver;
use super::blobs::LiveBlobs;
use super::live::Live;
use crate::error::RepoError;
use crate::objects::object_name;
use crate::reader::BlobReader;
use crate::relocations::Relocations;
use crate::repository::Repository;

/// What is needed, and what is there, at one moment.
#[derive(Debug)]
pub(super) struct Mark {
    /// Packs that live or held snapshots name, and what relocations put in their place.
    pub(super) needed: BTreeMap<PackId, PackRef>,
    /// Every place of every pack, with its length.
    pub(super) places: Places,
    pub(super) relocations: Relocations,
    /// Places that were read whole, and whether they are what their names say.
    read: HashMap<PackLocation, bool>,
}

/// Every place of every pack.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_pack: BTreeMap<PackId, Vec<(SessionId, u64)>>,
}

impl Places {
    pub(crate) fn list(repo: &Repository) -> Result<Self, RepoError> {
        let mut by_pack: BTreeMap<PackId, Vec<(SessionId, u64)>> = BTreeMap::new();
        for (session, pack, bytes) in repo.all_packs()? {
            by_pack.entry(pack).or_default().push((session, bytes));
        }
        Ok(Self { by_pack })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (PackLocation, u64)> {
        self.by_pack.iter().flat_map(|(pack, places)| {
            places
                .iter()
                .map(|(session, bytes)| (PackLocation { session: *session, pack: *pack }, *bytes))
        })
    }

    /// The places of one pack.
    pub(crate) fn of(&self, pack: PackId) -> impl Iterator<Item = (PackLocation, u64)> {
        let places = self.by_pack.get(&pack).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .map(move |(session, bytes)| (PackLocation { session: *session, pack }, *bytes))
    }
}

/// Why a place may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No live snapshot needs the pack.
    Unneeded,
    /// The pack lies in another place as well.
    Duplicate,
    /// What is live in the pack was moved to others.
    Repacked,
    /// An earlier round decided so.
    Decided,
}

impl Mark {
    /// Looks what `live` needs and what is there.
    ///
    /// # Errors
    /// When a pack set or a relocation cannot be read, or packs cannot be listed.
    pub(super) fn new(
        reader: &BlobReader,
        live: &Live,
        observer: &dyn GcObserver,
    ) -> Result<Self, RepoError> {
        let (mut needed, mut pages) = (BTreeMap::new(), HashSet::new());
        for snapshot in &live.needing {
            observer.proceed()?;
            let mut add = |pack: PackRef| {
                needed.insert(pack.pack, pack);
            };
            snapshot.ref_packs.iter().copied().for_each(&mut add);
            reader.each_pack(snapshot.pack_set, &snapshot.ref_packs, &mut pages, &mut add)?;
        }
        let repo = reader.repo();
        let relocations = repo.relocations()?;
        repo.backend().settle(name::RELOCATIONS)?;
        let places = Places::list(repo)?;
        let stand_ins = relocations.closure(needed.keys().copied());
        for PackLocation { session, pack } in stand_ins {
            // Its class and length are not asked of what relocations lead to.
            let bytes = places.of(pack).next().map_or(0, |(_, bytes)| bytes);
            needed.insert(pack, PackRef { session, pack, class: Class::Data, bytes });
        }
        Ok(Self { needed, places, relocations, read: HashMap::new() })
    }

    /// The needed packs that may hold deltas. Of one that is not there any more, all that is needed
    /// is elsewhere.
    pub(super) fn of_data(&self) -> impl Iterator<Item = PackRef> {
        let packs = self.needed.values().filter(|pack| pack.class == Class::Data);
        packs.filter(|pack| self.places.of(pack.pack).next().is_some()).copied()
    }

    /// Why the pack in `place` can be spared there, all of `doomed` being gone; none when it
    /// cannot.
    ///
    /// # Errors
    /// When a copy or a directory cannot be read now.
    pub(super) fn why_dead(
        &mut self,
        reader: &BlobReader,
        blobs: Option<&LiveBlobs>,
        place: PackLocation,
        doomed: &HashSet<PackLocation>,
    ) -> Result<Option<Reason>, RepoError> {
        let Some(pack) = self.needed.get(&place.pack).copied() else {
            return Ok(Some(Reason::Unneeded));
        };
        let others: Vec<(PackLocation, u64)> = self
            .places
            .of(place.pack)
            .filter(|(other, _)| *other != place && !doomed.contains(other))
            .collect();
        for (other, _) in others {
            if self.is_good(reader, other)? {
                return Ok(Some(Reason::Duplicate));
            }
        }
        let is_replaced = match blobs {
            Some(blobs) => self.is_replaced(reader, blobs, place, pack, doomed)?,
            None => false,
        };
        Ok(is_replaced.then_some(Reason::Repacked))
    }

    /// Whether relocations exist for a place whose pack is needed.
    pub(super) fn is_moved(&self, place: &PackLocation) -> bool {
        self.needed.contains_key(&place.pack)
            && self.relocations.of(place.pack).iter().any(|moved| moved.from == *place)
    }

    /// Reads a place whole and compares it with its name.
    fn is_good(&mut self, reader: &BlobReader, place: PackLocation) -> Result<bool, RepoError> {
        if let Some(is_good) = self.read.get(&place) {
            return Ok(*is_good);
        }
        let backend = reader.repo().backend();
        let object = object_name(&name::pack(place.session, place.pack));
        let is_good = match backend.get(&object, PACK_BYTES_MAX) {
            Ok(bytes) => verify_bytes(&bytes).is_ok_and(|id| id == place.pack),
            Err(error) => match RepoError::from(error) {
                error if error.is_damage() => false,
                error => return Err(error),
            },
        };
        if is_good {
            backend.settle(&format!("{}{}/", name::PACKS, place.session))?;
        }
        self.read.insert(place, is_good);
        Ok(is_good)
    }

    /// Whether every blob of a pack that is needed now is, by the directories of both, in a pack
    /// that a relocation of this very place names, that stays, and that was read whole and found
    /// good: nothing else is left of what is in the place.
    fn is_replaced(
        &mut self,
        reader: &BlobReader,
        blobs: &LiveBlobs,
        place: PackLocation,
        pack: PackRef,
        doomed: &HashSet<PackLocation>,
    ) -> Result<bool, RepoError> {
        let moved = self.relocations.of(place.pack).iter().filter(|moved| moved.from == place);
        let to: BTreeSet<PackId> =
            moved.flat_map(|moved| &moved.to).map(|place| place.pack).collect();
        if !self.is_moved(&place) {
            return Ok(false);
        }
        #[cfg(feature = "seeded-bugs")]
        if reader.repo().has_bug(crate::SeededBug::RelocatedMeansDead) {
            return Ok(true);
        }
        let mut held = Held::default();
        for to in to {
            let staying = self.places.of(to).filter(|(at, _)| !doomed.contains(at));
            let staying: Vec<(PackLocation, u64)> = staying.collect();
            let mut good = None;
            for (at, bytes) in staying {
                if self.is_good(reader, at)? {
                    good = Some((at, bytes));
                    break;
                }
            }
            let Some((at, bytes)) = good else { continue };
            let to = PackRef { session: at.session, pack: at.pack, class: Class::Data, bytes };
            match reader.packs().open(to) {
                Ok(opened) => held.add(&opened.directory.blobs),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        let opened = match reader.packs().open(pack) {
            Ok(opened) => opened,
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut kept = opened.directory.blobs.iter();
        kept.try_fold(true, |all, blob| {
            Ok(all && (held.stands_in_for(blob) || !blobs.may_need(blob.id)?))
        })
    }
}

/// What is in the packs that stand in for another one.
#[derive(Debug, Default)]
struct Held {
    whole: HashSet<BlobId>,
    /// Blobs that are stored as changes, and of what.
    deltas: HashMap<BlobId, Vec<BlobId>>,
}

impl Held {
    fn add(&mut self, blobs: &[BlobEntry]) {
        for blob in blobs {
            match blob.base {
                None => drop(self.whole.insert(blob.id)),
                Some(base) => self.deltas.entry(blob.id).or_default().push(base),
            }
        }
    }

    /// Whether nobody misses what stands in the entry of a blob. What is whole may be the base of
    /// others, for which a delta is no use. Who needs a delta needs its base already, so another one
    /// of the same base will do, and one of another base where that is here too.
    fn stands_in_for(&self, blob: &BlobEntry) -> bool {
        let bases = self.deltas.get(&blob.id).filter(|_| blob.base.is_some());
        let will_do = |base: &BlobId| blob.base == Some(*base) || self.whole.contains(base);
        self.whole.contains(&blob.id) || bases.is_some_and(|bases| bases.iter().any(will_do))
    }
}
