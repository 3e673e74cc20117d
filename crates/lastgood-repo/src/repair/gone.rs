//! What is gone from a repository and should be there: it can only come from a copy.

use std::collections::{BTreeSet, HashSet};

use lastgood_format::id::{PackId, SessionId, SnapshotId};
use lastgood_format::limits::{SMALL_OBJECT_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use lastgood_format::object::name;
use lastgood_format::session::Outcome;

use super::Repair;
use super::lost::NamedPacks;
use crate::error::{Damage, RepoError};
use crate::packer::lock;
use crate::reader::BlobReader;
use crate::snapshots::SnapshotRecord;

impl Repair<'_> {
    /// Brings back committed snapshots and records of the log that are gone and that a copy has.
    /// Returns the packs that snapshots need, and of which no relocation tells.
    pub(super) fn gone(&self) -> Result<HashSet<PackId>, RepoError> {
        self.log()?;
        let snapshots = self.repo.snapshots()?;
        let mut records = snapshots.live;
        let mut gone: HashSet<SnapshotId> =
            snapshots.missing.iter().map(|missing| missing.head.snapshot).collect();
        gone.extend(self.committed_and_gone()?);
        let live: HashSet<SnapshotId> = records.iter().map(|record| record.id).collect();
        let mut back = Vec::new();
        for (record, from) in self.mended_from_copies(&live)? {
            back.extend(self.bring_back(record, from)?);
        }
        for record in &back {
            gone.extend(self.named_by(record)?);
        }
        let mut gone: BTreeSet<SnapshotId> = gone.into_iter().collect();
        let mut done: HashSet<SnapshotId> = live;
        done.extend(back.iter().map(|record: &SnapshotRecord| record.id));
        while let Some(id) = gone.pop_first() {
            if !done.insert(id) {
                continue;
            }
            match self.in_copies(&|copy| copy.repo().load_snapshot(id).or_else(not_there))? {
                Some((record, from)) => {
                    gone.extend(self.named_by(&record)?);
                    back.extend(self.bring_back(record, from)?);
                }
                None => {
                    let why = Damage::State("it was committed and is missing");
                    self.lost(&self.repo.damaged(&name::snapshot(id), why));
                }
            }
        }
        records.extend(back.iter().cloned());
        lock(&self.report).snapshots = back;
        self.needed(&records)
    }

    /// Snapshots that one from a copy says were committed, and that are not here, retired, or
    /// accepted as lost.
    fn named_by(&self, record: &SnapshotRecord) -> Result<Vec<SnapshotId>, RepoError> {
        let chain = &record.snapshot.chain;
        let named = chain.previous.into_iter().chain(chain.heads.iter().map(|head| head.snapshot));
        let mut gone = Vec::new();
        for id in named {
            if self.repo.is_missing(id)? {
                gone.push(id);
            }
        }
        Ok(gone)
    }

    /// Snapshots that copies have, and that were damaged here and come from them.
    fn mended_from_copies(
        &self,
        live: &HashSet<SnapshotId>,
    ) -> Result<Vec<(SnapshotRecord, Option<String>)>, RepoError> {
        let mut back: Vec<(SnapshotRecord, Option<String>)> = Vec::new();
        let mended = lock(&self.report).from_copies.clone();
        let is_any = |kind: &str| mended.keys().any(|object| object.starts_with(kind));
        if !is_any(name::SNAPSHOTS) && !is_any(name::OUTCOMES) {
            return Ok(back);
        }
        for copy in self.plan.copies {
            for record in copy.repo().snapshots()?.live {
                let is_mended = mended.contains_key(&name::snapshot(record.id))
                    || mended.contains_key(&name::outcome(record.snapshot.session));
                let is_known = live.contains(&record.id)
                    || back.iter().any(|(known, _)| known.id == record.id);
                if is_mended && !is_known {
                    back.push((record, Some(copy.repo().location().to_owned())));
                }
            }
        }
        Ok(back)
    }

    /// Snapshots of which only the commit is there, and nobody accepted that.
    fn committed_and_gone(&self) -> Result<Vec<SnapshotId>, RepoError> {
        let (mut sessions, mut there) = (Vec::new(), HashSet::new());
        self.repo
            .list(name::SNAPSHOTS, &mut |id, _| there.extend(id.parse::<SnapshotId>().ok()))?;
        self.repo
            .list(name::OUTCOMES, &mut |id, _| sessions.extend(id.parse::<SessionId>().ok()))?;
        let mut gone = Vec::new();
        for session in sessions {
            match self.repo.outcome(session) {
                Ok(Some(Outcome::Commit(id))) if !there.contains(&id) => {
                    let is_known = self.repo.retired_record(id)?.is_some()
                        || self.repo.lost_record(id)?.is_some();
                    gone.extend((!is_known).then_some(id));
                }
                Err(error) if !error.is_damage() => return Err(error),
                _ => {}
            }
        }
        Ok(gone)
    }

    /// Stores a snapshot that a copy has, then its commit.
    fn bring_back(
        &self,
        record: SnapshotRecord,
        from: Option<String>,
    ) -> Result<Option<SnapshotRecord>, RepoError> {
        let objects = [
            (name::snapshot(record.id), SNAPSHOT_BYTES_MAX),
            (name::outcome(record.snapshot.session), Outcome::BYTES_MAX),
        ];
        for (object, bytes_max) in objects {
            match self.repo.find(&object, bytes_max) {
                Ok(None) => {}
                Ok(Some(_)) => continue,
                // It is there, and was mended if that is possible.
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            }
            let found = self.in_copies(&|copy| copy.content(&object, bytes_max))?;
            let Some((content, _)) = found else { return Ok(None) };
            self.put(&object, &content, bytes_max)?;
            self.note(&object, from.clone());
        }
        Ok(Some(record))
    }

    /// Records of the log that copies have, and that should be here: others follow them, or this
    /// host has seen them.
    fn log(&self) -> Result<(), RepoError> {
        if self.plan.copies.is_empty() {
            return Ok(());
        }
        let found = self.repo.log_places()?;
        let remembered = self.repo.last_seen().unwrap_or_default().log;
        for copy in self.plan.copies {
            for (writer, sequences) in copy.repo().log_places()? {
                let here = found.get(&writer);
                let newest = here.and_then(|here| here.last()).copied();
                let newest = newest.max(remembered.get(&writer).map(|(sequence, _)| *sequence));
                let is_gone = |number: &u64| {
                    Some(*number) <= newest && !here.is_some_and(|here| here.contains(number))
                };
                for sequence in sequences.into_iter().filter(is_gone) {
                    let object = name::log(writer, sequence);
                    if let Some(content) = copy.content(&object, SMALL_OBJECT_BYTES_MAX)? {
                        self.put(&object, &content, SMALL_OBJECT_BYTES_MAX)?;
                        self.note(&object, Some(copy.repo().location().to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// The packs that snapshots need, without those that were repacked.
    fn needed(&self, records: &[SnapshotRecord]) -> Result<HashSet<PackId>, RepoError> {
        let mut readers = vec![BlobReader::new(self.repo.clone())];
        let copies = self.plan.copies.iter().map(|copy| BlobReader::new(copy.repo().clone()));
        readers.extend(copies);
        let readers: Vec<&BlobReader> = readers.iter().collect();
        let named = NamedPacks::of(&readers, records)?;
        let mut needed: HashSet<PackId> = named.packs.into_keys().collect();
        let relocations = match self.repo.relocations() {
            Err(error) if error.is_damage() => return Ok(HashSet::new()),
            relocations => relocations?,
        };
        *lock(&self.moved) = relocations.moved_packs().collect();
        needed.retain(|pack| relocations.of(*pack).is_empty());
        Ok(needed)
    }
}

/// What a copy has lost as well is in none.
fn not_there<T>(error: RepoError) -> Result<Option<T>, RepoError> {
    if error.is_damage() { Ok(None) } else { Err(error) }
}
