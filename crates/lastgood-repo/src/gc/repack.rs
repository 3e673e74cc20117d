//! Moving what is live out of packs that hold much that is not.
//! Spec: `docs/format/commit.md`, section 7.

use std::collections::{BTreeSet, HashSet};

use lastgood_format::gc::{PackLocation, Relocation};
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::key::Class;
use lastgood_format::object::{name, object_id};
use lastgood_format::packset::PackRef;

use super::mark::{Mark, Places};
use super::{Gc, GcObserver, GcPhase, GcPlan, GcReport, MaxUnused, PlannedRemoval, PlannedRepack};
use crate::error::{RepoError, RepoErrorKind};
use crate::reader::BlobPlace;
use crate::reserve::Spender;
use crate::rounds::RoundLists;
use crate::session::WriteSession;

impl Gc {
    /// The packs that have to be repacked so that no more than allowed is unused, those with the
    /// largest unused share first; and how much is unused after that.
    pub(super) fn repacks(
        &self,
        mark: &Mark,
        remove: &[PlannedRemoval],
        lists: &RoundLists,
    ) -> Result<(Vec<PlannedRepack>, Option<u64>), RepoError> {
        let Some(blobs) = self.blobs.as_ref() else { return Ok((Vec::new(), None)) };
        let used = blobs.used_bytes()?;
        let going: HashSet<PackLocation> = remove.iter().map(|it| it.place).collect();
        let stays = |pack: &PackRef| {
            let mut places = mark.places.of(pack.pack).map(|(place, _)| place);
            places.any(|place| !going.contains(&place) && !lists.forbid(&place))
        };
        let mut partial = Vec::new();
        let (mut total, mut unused_total) = (0, 0);
        // Pages of pack sets are found without the index, so their packs are not moved.
        let staying = mark.needed.values().filter(|pack| pack.class != Class::Refs && stays(pack));
        for pack in staying {
            total += pack.bytes;
            let Some(&(all, used)) = used.get(&pack.pack) else { continue };
            let unused = all.saturating_sub(used);
            let unused_bytes =
                (u128::from(pack.bytes) * u128::from(unused) / u128::from(all.max(1))) as u64;
            unused_total += unused_bytes;
            if unused_bytes > 0 {
                partial.push(PlannedRepack { pack: pack.pack, bytes: pack.bytes, unused_bytes });
            }
        }
        partial.sort_by_key(|it| {
            (std::cmp::Reverse(it.unused_bytes * 1_000_000 / it.bytes.max(1)), it.pack)
        });
        let allowed = self.options.max_unused.bytes(total);
        let mut repack = Vec::new();
        for it in partial {
            if unused_total <= allowed || self.options.max_unused == MaxUnused::Any {
                break;
            }
            unused_total -= it.unused_bytes;
            repack.push(it);
        }
        Ok((repack, Some(unused_total)))
    }

    /// Repacks what `plan` says and returns the places that relocations stand in for now.
    pub(super) fn repack(
        &mut self,
        plan: &GcPlan,
        report: &mut GcReport,
        observer: &dyn GcObserver,
    ) -> Result<Vec<PackLocation>, RepoError> {
        let bytes = plan.repack.iter().map(|it| it.bytes - it.unused_bytes).sum();
        if plan.repack.is_empty() {
            return Ok(Vec::new());
        }
        observer.enter(GcPhase::Repacking, bytes);
        // What goes away, or is to be moved itself, is no place to move anything to.
        let avoid: HashSet<PackId> = plan
            .remove
            .iter()
            .map(|it| it.place.pack)
            .chain(plan.repack.iter().map(|it| it.pack))
            .collect();
        let (mut moved, to_move) = self.relocate_unused(plan, report)?;
        let mut rest = to_move.as_slice();
        while !rest.is_empty() {
            let mut sum = 0;
            let count = rest.iter().take_while(|it| {
                sum += it.bytes;
                sum <= BATCH_BYTES
            });
            let (batch, after) = rest.split_at(count.count().max(1));
            match self.repack_batch(batch, &avoid, report, observer) {
                Ok(places) => moved.extend(places),
                // What goes without being moved may make the room, for the next gc.
                Err(error) if error.kind() == RepoErrorKind::NoSpace => {
                    report.is_short_of_space = true;
                    break;
                }
                Err(error) => return Err(error),
            }
            rest = after;
        }
        Ok(moved)
    }

    /// Says of packs of which nothing is needed that nothing stands in for them: that takes no
    /// session, and of a store that is full no more than the reserve gives. Returns their places, and
    /// the packs of which something is to be moved.
    fn relocate_unused(
        &self,
        plan: &GcPlan,
        report: &mut GcReport,
    ) -> Result<(Vec<PackLocation>, Vec<PlannedRepack>), RepoError> {
        let places = Places::list(&self.repo)?;
        let (mut unused, mut to_move) = (Vec::new(), Vec::new());
        for it in &plan.repack {
            if it.unused_bytes == it.bytes && self.is_unused(it.pack, &places)? {
                unused.extend(places.of(it.pack).map(|(place, _)| (place, BTreeSet::new())));
                report.packs_repacked += 1;
            } else {
                to_move.push(*it);
            }
        }
        Ok((self.put_relocation(unused)?, to_move))
    }

    /// Whether none of the blobs of a pack may be needed.
    fn is_unused(&self, pack: PackId, places: &Places) -> Result<bool, RepoError> {
        let (Some(blobs), Some(pack)) = (&self.blobs, a_place(pack, places)) else {
            return Ok(false);
        };
        let opened = match self.reader.packs().open(pack) {
            Err(error) if error.is_damage() => return Ok(false),
            opened => opened?,
        };
        for entry in &opened.directory.blobs {
            if blobs.may_need(entry.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One session that moves what is live in some packs, and its relocation.
    fn repack_batch(
        &self,
        batch: &[PlannedRepack],
        avoid: &HashSet<PackId>,
        report: &mut GcReport,
        observer: &dyn GcObserver,
    ) -> Result<Vec<PackLocation>, RepoError> {
        let options = &self.options;
        let mut session =
            WriteSession::begin_without(&self.repo, options.settings, &options.writer_name, avoid)?;
        let mut writer = session.writer();
        let places = Places::list(&self.repo)?;
        let mut moved: Vec<(PackId, Vec<BlobId>)> = Vec::new();
        for it in batch {
            observer.proceed()?;
            let Some(pack) = a_place(it.pack, &places) else { continue };
            match self.move_live(pack, &mut writer) {
                Ok(blobs) => moved.push((it.pack, blobs)),
                // It stays as it is, with what can still be read of it.
                Err(error) if error.is_damage() => report.problems.push(error.to_string()),
                Err(error) => return Err(error),
            }
            observer.step(GcPhase::Repacking, it.bytes - it.unused_bytes);
        }
        writer.finish()?;
        session.store_all()?;
        report.packs_repacked += moved.len() as u64;
        report.bytes_repacked +=
            session.tally().pack_bytes.load(std::sync::atomic::Ordering::Relaxed);
        self.put_relocation(self.stand_ins(&session, &moved)?)
        // The session goes, and is fenced: the relocation keeps what it stored from here on.
    }

    /// Adds the blobs of a pack that may be needed to `writer`, and returns them.
    fn move_live(
        &self,
        pack: PackRef,
        writer: &mut crate::packer::BlobWriter,
    ) -> Result<Vec<BlobId>, RepoError> {
        let opened = self.reader.packs().open(pack)?;
        let mut moved = Vec::new();
        for entry in &opened.directory.blobs {
            let is_needed = match &self.blobs {
                Some(blobs) => blobs.may_need(entry.id)?,
                None => true,
            };
            if is_needed {
                // A delta stays one: whole, all of them would take many times the space.
                let stored = self.reader.load_as_stored(&BlobPlace { pack, entry: *entry })?;
                writer.move_blob(entry, &stored)?;
                moved.push(entry.id);
            }
        }
        Ok(moved)
    }

    /// The old places of what was moved, and where it is now.
    fn stand_ins(
        &self,
        session: &WriteSession,
        moved: &[(PackId, Vec<BlobId>)],
    ) -> Result<Vec<StandIn>, RepoError> {
        let places = Places::list(&self.repo)?;
        let mut old = Vec::new();
        for (pack, blobs) in moved {
            let found: Option<Vec<Vec<PackLocation>>> =
                blobs.iter().map(|blob| session.places_of(*blob, &places)).collect();
            // A blob that is nowhere was not moved, so the pack stays.
            let Some(found) = found else { continue };
            let found: BTreeSet<PackLocation> = found.into_iter().flatten().collect();
            old.extend(places.of(*pack).map(|(place, _)| (place, found.clone())));
        }
        Ok(old)
    }

    /// Says where what was moved is now. Returns the places that this stands in for.
    fn put_relocation(&self, mut old: Vec<StandIn>) -> Result<Vec<PackLocation>, RepoError> {
        if old.is_empty() {
            return Ok(Vec::new());
        }
        old.sort();
        let to: BTreeSet<PackLocation> = old.iter().flat_map(|(_, to)| to).copied().collect();
        let to: Vec<PackLocation> = to.into_iter().collect();
        let position = |place: &PackLocation| to.partition_point(|other| other < place) as u32;
        let relocation = Relocation {
            moved: old
                .iter()
                .map(|(from, to)| (*from, to.iter().map(position).collect()))
                .collect(),
            to: to.clone(),
        };
        let keys = self.repo.keys();
        let bytes = relocation.encode(keys, &keys.maintenance());
        self.repo.put_to_free(Spender::Gc, &name::relocation(object_id(&bytes)), &bytes)?;
        Ok(old.into_iter().map(|(from, _)| from).collect())
    }
}

/// A place of a pack, and where that is now of which something is needed.
type StandIn = (PackLocation, BTreeSet<PackLocation>);

/// Some place of a pack, to read it.
fn a_place(pack: PackId, places: &Places) -> Option<PackRef> {
    let (at, bytes) = places.of(pack).next()?;
    Some(PackRef { session: at.session, pack, class: Class::Data, bytes })
}

/// Bytes of packs that one session repacks: what a crash may cost.
const BATCH_BYTES: u64 = 4 << 30;
