//! Which snapshots there are: committed, and not retired.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use lastgood_backend::PutOutcome;
use lastgood_format::gc::{ChainLink, Retired};
use lastgood_format::id::{PackId, SessionId, SnapshotId, WriterId};
use lastgood_format::limits::{SMALL_OBJECT_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_HEADS_MAX};
use lastgood_format::object::{name, session_of};
use lastgood_format::session::{Outcome, Session};
use lastgood_format::snapshot::{Chain, Head, Snapshot};

use crate::each::each;
use crate::error::{Damage, RepoError, RepoErrorKind};
use crate::last_seen::Missing;
use crate::packer::lock;
use crate::repository::Repository;
use crate::reserve::Spender;

/// A committed snapshot and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// What it says.
    pub snapshot: Snapshot,
}

/// What came of retiring many snapshots.
#[derive(Debug, Default)]
pub struct RetireReport {
    /// How many were not retired before.
    pub count: u64,
    /// Those that are not retired, since the store has no room for that, nor any set aside.
    pub left: Vec<SnapshotId>,
    /// What the store said to that.
    pub full: Option<RepoError>,
}

/// All committed snapshots, oldest first.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Those that are live.
    pub live: Vec<SnapshotRecord>,
    /// Those that were retired and are still there.
    pub retired: Vec<SnapshotRecord>,
    /// Objects that could not be read, each with what is wrong with it.
    pub damaged: Vec<RepoError>,
    /// Snapshots that were committed and are gone without a reason.
    pub missing: Vec<Missing>,
    /// Why this host cannot remember what it saw, when it cannot.
    pub unremembered: Option<RepoError>,
    /// Sequence and id of the newest snapshot of each writer that anything tells of.
    pub(crate) newest: BTreeMap<WriterId, (u64, SnapshotId)>,
}

impl Repository {
    /// Loads every committed snapshot, and compares them with what is known of their chains: see
    /// [`Snapshots::missing`]. Two requests a snapshot.
    ///
    /// # Errors
    /// When they cannot be listed, or one may be readable later. A damaged one is in [`Snapshots::damaged`] and hides no other.
    pub fn snapshots(&self) -> Result<Snapshots, RepoError> {
        let mut ids = Vec::new();
        self.list(name::SNAPSHOTS, &mut |id, _| ids.extend(id.parse::<SnapshotId>().ok()))?;
        let retired = self.retired()?;
        let mut snapshots = Snapshots::default();
        let load = |id: &SnapshotId| match self.load_snapshot(*id) {
            // What may be there in a moment is not left out of a choice of the latest.
            Err(error) if error.is_transient() => Err(error),
            loaded => Ok((*id, loaded)),
        };
        for (id, loaded) in each(&ids, self.threads(), load)? {
            match loaded {
                Ok(Some(record)) if retired.contains_key(&id) => snapshots.retired.push(record),
                Ok(Some(record)) => snapshots.live.push(record),
                Ok(None) => {}
                Err(error) => snapshots.damaged.push(error),
            }
        }
        for list in [&mut snapshots.live, &mut snapshots.retired] {
            list.sort_by_key(|record| {
                (record.snapshot.started, record.snapshot.chain.generation, record.id)
            });
        }
        self.compare_with_last_seen(&mut snapshots, &retired)?;
        Ok(snapshots)
    }

    /// When each snapshot object was put, in seconds since 1970 by the clock of the store.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn snapshot_times(&self) -> Result<Vec<(SnapshotId, i64)>, RepoError> {
        let mut times = Vec::new();
        self.backend().list(name::SNAPSHOTS, &mut |object| {
            let id = object.name.as_str().strip_prefix(name::SNAPSHOTS);
            let id = id.and_then(|id| id.parse().ok());
            times.extend(id.map(|id| (id, object.modified)));
        })?;
        Ok(times)
    }

    /// Loads one snapshot if it is committed, retired or not.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] when it or its outcome is not what was written.
    pub fn load_snapshot(&self, id: SnapshotId) -> Result<Option<SnapshotRecord>, RepoError> {
        let found = match self.snapshot_object(id) {
            // Of a run that was fenced when its keys were rotated out.
            Err(error) if error.is_rotated_out() && !self.is_committed(id)? => None,
            found => found?,
        };
        let Some(snapshot) = found else { return Ok(None) };
        let Some((Outcome::Commit(committed), signer)) = self.signed_outcome(snapshot.session)?
        else {
            return Ok(None);
        };
        if committed != id {
            return Ok(None);
        }
        if signer != snapshot.chain.writer {
            let why = Damage::State("another writer than its own signed its commit");
            return Err(self.damaged(&name::snapshot(id), why));
        }
        Ok(Some(SnapshotRecord { id, snapshot }))
    }

    /// Whether the session that a snapshot object names committed it.
    fn is_committed(&self, id: SnapshotId) -> Result<bool, RepoError> {
        let bytes = self.find(&name::snapshot(id), SNAPSHOT_BYTES_MAX)?;
        let Some(session) = bytes.as_deref().and_then(session_of) else { return Ok(false) };
        Ok(self.outcome(session)? == Some(Outcome::Commit(id)))
    }

    /// Loads a snapshot object, committed or not.
    pub(crate) fn snapshot_object(&self, id: SnapshotId) -> Result<Option<Snapshot>, RepoError> {
        let object = name::snapshot(id);
        let Some(bytes) = self.find(&object, SNAPSHOT_BYTES_MAX)? else { return Ok(None) };
        if blake3::hash(&bytes).as_bytes() != id.as_bytes() {
            return Err(self.damaged(&object, Damage::Name));
        }
        let snapshot = Snapshot::decode(self.keys(), &bytes);
        Ok(Some(snapshot.map_err(|error| self.damaged(&object, error))?))
    }

    /// How a session ended, if it did.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] when the outcome is there and cannot be read: it never counts as absent.
    pub fn outcome(&self, session: SessionId) -> Result<Option<Outcome>, RepoError> {
        Ok(self.signed_outcome(session)?.map(|(outcome, _)| outcome))
    }

    /// How a session ended, and who said so.
    pub(crate) fn signed_outcome(
        &self,
        session: SessionId,
    ) -> Result<Option<(Outcome, WriterId)>, RepoError> {
        let object = name::outcome(session);
        self.find(&object, Outcome::BYTES_MAX)?
            .map(|bytes| {
                Outcome::decode_signed(self.keys().verifier(), session, &bytes)
                    .map_err(|error| self.damaged(&object, error))
            })
            .transpose()
    }

    /// A session that was announced, if it is still there.
    pub(crate) fn session(&self, id: SessionId) -> Result<Option<Session>, RepoError> {
        let object = name::session(id);
        self.find(&object, SMALL_OBJECT_BYTES_MAX)?
            .map(|bytes| {
                Session::decode(self.keys().verifier(), id, &bytes)
                    .map_err(|error| self.damaged(&object, error))
            })
            .transpose()
    }

    /// The snapshots that are retired, and their places in their chains where these are told.
    pub(crate) fn retired(&self) -> Result<HashMap<SnapshotId, Option<ChainLink>>, RepoError> {
        let mut ids = Vec::new();
        self.list(name::RETIRED, &mut |id, _| ids.extend(id.parse::<SnapshotId>().ok()))?;
        let load = |id: &SnapshotId| {
            Ok(self.retired_record(*id)?.map(|record| (record.snapshot, record.link)))
        };
        Ok(each(&ids, self.threads(), load)?.into_iter().flatten().collect())
    }

    /// The snapshot that stands in the place of a retired one, if one does.
    ///
    /// # Errors
    /// When the record may be readable later.
    pub fn replaced_by(&self, id: SnapshotId) -> Result<Option<SnapshotId>, RepoError> {
        Ok(self.retired_record(id)?.and_then(|retired| retired.replaced_by))
    }

    /// The record that retires a snapshot. Only the maintenance key can retire; whatever else lies
    /// there changes nothing.
    pub(crate) fn retired_record(&self, id: SnapshotId) -> Result<Option<Retired>, RepoError> {
        let bytes = match self.find(&name::retired(id), SMALL_OBJECT_BYTES_MAX) {
            Err(error) if error.is_damage() => None,
            found => found?,
        };
        let record = bytes.and_then(|bytes| Retired::decode(self.keys().verifier(), &bytes).ok());
        Ok(record.filter(|record| record.snapshot == id))
    }

    /// Retires a snapshot; nothing is removed. Returns whether it was not retired before.
    ///
    /// # Errors
    /// [`RepoError::Missing`] while others are missing; whatever the backend says.
    pub fn retire(
        &self,
        record: &SnapshotRecord,
        reason: &str,
        replaced_by: Option<SnapshotId>,
    ) -> Result<bool, RepoError> {
        self.refuse_if_missing()?;
        self.put_retired(record, reason, replaced_by)
    }

    /// Retires many snapshots, each for its reason, with several requests at once, for as long as
    /// the store has room for it.
    ///
    /// # Errors
    /// As [`retire`](Self::retire); [`RepoError::Stopped`] when `proceed` says no. Some may be
    /// retired then.
    pub fn retire_all(
        &self,
        snapshots: &[(SnapshotRecord, String)],
        threads: usize,
        proceed: &(dyn Fn() -> bool + Sync),
    ) -> Result<RetireReport, RepoError> {
        self.refuse_if_missing()?;
        let full = Mutex::new(None);
        let outcomes = each(snapshots, threads, |(record, reason)| {
            if !proceed() {
                return Err(RepoError::Stopped);
            }
            if lock(&full).is_some() {
                return Ok(None);
            }
            match self.put_retired(record, reason, None) {
                Err(error) if error.kind() == RepoErrorKind::NoSpace => {
                    lock(&full).get_or_insert(error);
                    Ok(None)
                }
                // A name that somebody took keeps no other snapshot.
                Err(error) if error.is_damage() => Ok(Some(Err(error))),
                outcome => outcome.map(|is_new| Some(Ok(is_new))),
            }
        })?;
        let mut report = RetireReport { full: lock(&full).take(), ..RetireReport::default() };
        for ((record, _), outcome) in snapshots.iter().zip(outcomes) {
            match outcome {
                Some(is_new) => report.count += u64::from(is_new?),
                None => report.left.push(record.id),
            }
        }
        Ok(report)
    }

    fn put_retired(
        &self,
        record: &SnapshotRecord,
        reason: &str,
        replaced_by: Option<SnapshotId>,
    ) -> Result<bool, RepoError> {
        let chain = &record.snapshot.chain;
        let retired = Retired {
            snapshot: record.id,
            time: self.world().clock.now().seconds,
            reason: reason.to_owned(),
            replaced_by,
            link: Some(ChainLink {
                writer: chain.writer,
                sequence: chain.sequence,
                previous: chain.previous,
            }),
        };
        let bytes = retired.encode(self.keys(), &self.keys().maintenance());
        let object = name::retired(record.id);
        match self.put_to_free(Spender::Forget, &object, &bytes)? {
            PutOutcome::Created => Ok(true),
            PutOutcome::Exists if self.retired_record(record.id)?.is_some() => Ok(false),
            PutOutcome::Exists => Err(self.damaged(&object, Damage::State(OCCUPIED))),
        }
    }

    /// Every pack that is stored, with the session it lies under and its length.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn all_packs(&self) -> Result<Vec<(SessionId, PackId, u64)>, RepoError> {
        let mut packs = Vec::new();
        self.list(name::PACKS, &mut |rest, bytes| {
            let ids = rest.split_once('/');
            let ids = ids.and_then(|(s, p)| Some((s.parse().ok()?, p.parse().ok()?)));
            packs.extend(ids.map(|(session, pack)| (session, pack, bytes)));
        })?;
        Ok(packs)
    }
}

impl Snapshots {
    /// Pairs of snapshots at the same place of one chain: of a host that was cloned, or a store
    /// that shows different clients different states.
    #[must_use]
    pub fn forks(&self) -> Vec<(SnapshotId, SnapshotId)> {
        let mut places = BTreeMap::new();
        let mut forks = Vec::new();
        for record in self.live.iter().chain(&self.retired) {
            let chain = &record.snapshot.chain;
            let first = *places.entry((chain.writer, chain.sequence)).or_insert(record.id);
            if first != record.id {
                forks.push((first, record.id));
            }
        }
        forks
    }

    /// Notes what was committed since they were loaded.
    pub fn add(&mut self, record: &SnapshotRecord) {
        let chain = &record.snapshot.chain;
        let newest = self.newest.entry(chain.writer).or_insert((chain.sequence, record.id));
        if newest.0 < chain.sequence {
            *newest = (chain.sequence, record.id);
        }
        self.live.push(record.clone());
    }

    /// The place in the chain of a snapshot that `writer` is about to write.
    #[must_use]
    pub fn next_in_chain(&self, writer: WriterId, parents: &[SnapshotId]) -> Chain {
        let mut heads: BTreeMap<WriterId, &SnapshotRecord> = BTreeMap::new();
        for record in self.live.iter().chain(&self.retired) {
            let head = heads.entry(record.snapshot.chain.writer).or_insert(record);
            if record.snapshot.chain.sequence > head.snapshot.chain.sequence {
                *head = record;
            }
        }
        heads.remove(&writer);
        // Its newest one may be retired and removed by now; its number is not given again.
        let own = self.newest.get(&writer);
        let mut newest: Vec<(WriterId, &SnapshotRecord)> = heads.into_iter().collect();
        newest.sort_by_key(|(_, record)| {
            let snapshot = &record.snapshot;
            std::cmp::Reverse((snapshot.chain.generation, snapshot.started, record.id))
        });
        newest.truncate(SNAPSHOT_HEADS_MAX);
        newest.sort_by_key(|(writer, _)| *writer);
        let generation = self
            .live
            .iter()
            .chain(&self.retired)
            .map(|record| record.snapshot.chain.generation)
            .max()
            .unwrap_or(0);
        Chain {
            writer,
            sequence: own.map_or(0, |(sequence, _)| *sequence) + 1,
            previous: own.map(|(_, id)| *id),
            parents: parents.to_vec(),
            generation: generation + 1,
            heads: newest
                .into_iter()
                .map(|(writer, record)| Head {
                    writer,
                    sequence: record.snapshot.chain.sequence,
                    snapshot: record.id,
                })
                .collect(),
        }
    }
}

/// Whoever may add objects may take names that others need.
pub(crate) const OCCUPIED: &str = "its name is taken by something that does not count";

#[cfg(test)]
mod tests;
