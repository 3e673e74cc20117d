//! What is live or held now, read in the order that the protocol demands.
//! Spec: `docs/format/commit.md`, section 9, step 6.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lastgood_format::gc::ReadSession;
use lastgood_format::id::{BlobId, SessionId, SnapshotId, WriterId};
use lastgood_format::limits::SMALL_OBJECT_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::packset::PackRef;
use lastgood_format::session::Outcome;
use lastgood_format::snapshot::Snapshot;

use crate::each::each;
use crate::error::{Damage, RepoError};
use crate::repository::Repository;

/// What has to stay, and what says nothing any more.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Snapshots that are live, or held by a reader.
    pub(super) needing: Vec<Needing>,
    pub(super) live_count: u64,
    /// Those that are only held.
    pub(super) held_count: u64,
    pub(super) retired_count: u64,
    /// How each session ended.
    pub(super) outcomes: BTreeMap<SessionId, (Outcome, WriterId)>,
    /// Names of small objects that say nothing any more.
    pub(super) idle: Vec<String>,
    /// Read sessions without an outcome.
    pub(super) open_readers: Vec<SessionId>,
}

/// What a snapshot needs.
#[derive(Debug)]
pub(super) struct Needing {
    pub(super) tree: BlobId,
    pub(super) hints: BlobId,
    pub(super) links: BlobId,
    pub(super) pack_set: BlobId,
    pub(super) ref_packs: Vec<PackRef>,
}

impl From<Snapshot> for Needing {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { tree, hints, links, pack_set, ref_packs, .. } = snapshot;
        Self { tree, hints, links, pack_set, ref_packs }
    }
}

impl Live {
    /// Reads what is retired, then outcomes and snapshots, then read sessions: in this order, a
    /// snapshot that a reader found live after it had put its session is live or held here.
    ///
    /// # Errors
    /// When anything cannot be read or verified: what cannot be read never counts as absent.
    pub(super) fn load(repo: &Repository, threads: usize) -> Result<Self, RepoError> {
        let retired = Self::retired(repo, threads)?;
        let sessions: Vec<SessionId> = settled_ids(repo, name::OUTCOMES)?;
        let outcome = |session: &SessionId| {
            let outcome = repo.signed_outcome(*session)?;
            let gone = Damage::State("it was there and is gone");
            let outcome = outcome.ok_or_else(|| repo.damaged(&name::outcome(*session), gone))?;
            Ok((*session, outcome))
        };
        let outcomes = each(&sessions, threads, outcome)?.into_iter().collect();
        let mut live = Self { outcomes, ..Self::default() };
        let objects: BTreeSet<SnapshotId> = ids(repo, name::SNAPSHOTS)?.into_iter().collect();
        live.read_committed(repo, threads, &retired)?;
        let held = live.read_held(repo, &retired)?;
        live.retired_count = retired.len() as u64;
        live.find_idle(repo, &objects, &retired, &held)?;
        Ok(live)
    }

    fn retired(repo: &Repository, threads: usize) -> Result<BTreeSet<SnapshotId>, RepoError> {
        let listed: Vec<SnapshotId> = settled_ids(repo, name::RETIRED)?;
        let is_retired = |id: &SnapshotId| Ok(repo.retired_record(*id)?.map(|_| *id));
        Ok(each(&listed, threads, is_retired)?.into_iter().flatten().collect())
    }

    /// Loads every snapshot that is committed and not retired.
    fn read_committed(
        &mut self,
        repo: &Repository,
        threads: usize,
        retired: &BTreeSet<SnapshotId>,
    ) -> Result<(), RepoError> {
        let commits = self.outcomes.iter().filter_map(|(session, (outcome, signer))| {
            let Outcome::Commit(id) = *outcome else { return None };
            (!retired.contains(&id)).then_some((id, *session, *signer))
        });
        let commits: Vec<(SnapshotId, SessionId, WriterId)> = commits.collect();
        let load = |&(id, session, signer): &(SnapshotId, SessionId, WriterId)| {
            let wrong = |state| repo.damaged(&name::snapshot(id), Damage::State(state));
            let found = match repo.snapshot_object(id) {
                // What old keys commit after a rotation keeps nothing alive.
                Err(error) if error.is_rotated_out() => return Ok(None),
                found => found?,
            };
            let Some(snapshot) = found else {
                return match repo.lost_record(id)? {
                    Some(_) => Ok(None),
                    None => Err(wrong("it is committed and missing")),
                };
            };
            if snapshot.session != session || snapshot.chain.writer != signer {
                return Err(wrong("another session or writer than its own committed it"));
            }
            Ok(Some(Needing::from(snapshot)))
        };
        self.needing = each(&commits, threads, load)?.into_iter().flatten().collect();
        self.live_count = self.needing.len() as u64;
        Ok(())
    }

    /// Loads retired snapshots that open read sessions hold, and returns their ids. One whose
    /// object is gone is not being read by anybody.
    fn read_held(
        &mut self,
        repo: &Repository,
        retired: &BTreeSet<SnapshotId>,
    ) -> Result<BTreeSet<SnapshotId>, RepoError> {
        let mut held = BTreeSet::new();
        for reader in ids::<SessionId>(repo, name::READERS)? {
            if self.outcomes.contains_key(&reader) {
                self.idle.push(name::reader(reader));
                continue;
            }
            let object = name::reader(reader);
            let Some(bytes) = repo.find(&object, SMALL_OBJECT_BYTES_MAX)? else { continue };
            let session = ReadSession::decode(repo.keys().verifier(), reader, &bytes)
                .map_err(|error| repo.damaged(&object, error))?;
            self.open_readers.push(reader);
            held.extend(session.snapshots);
        }
        #[cfg(feature = "seeded-bugs")]
        if repo.has_bug(crate::SeededBug::HeldNotCounted) {
            return Ok(BTreeSet::new());
        }
        // Those that are not retired were loaded, unless they came later and need nothing that
        // any list names.
        for id in held.intersection(retired) {
            if let Some(record) = repo.load_snapshot(*id)? {
                self.needing.push(record.snapshot.into());
                self.held_count += 1;
            }
        }
        Ok(held)
    }

    /// Finds sessions that ended, retired snapshots that nobody holds, and snapshots that were
    /// not committed and never will be.
    fn find_idle(
        &mut self,
        repo: &Repository,
        objects: &BTreeSet<SnapshotId>,
        retired: &BTreeSet<SnapshotId>,
        held: &BTreeSet<SnapshotId>,
    ) -> Result<(), RepoError> {
        let sessions = ids::<SessionId>(repo, name::SESSIONS)?.into_iter();
        let ended = sessions.filter(|session| self.outcomes.contains_key(session));
        self.idle.extend(ended.map(name::session));
        let committed: HashSet<SnapshotId> = self
            .outcomes
            .values()
            .filter_map(|(outcome, _)| match outcome {
                Outcome::Commit(id) => Some(*id),
                Outcome::Fenced => None,
            })
            .collect();
        for &id in objects {
            let is_idle = if retired.contains(&id) {
                !held.contains(&id)
            } else {
                // One that is no snapshot is not gc's to remove; check reports it.
                !committed.contains(&id)
                    && repo.snapshot_object(id).is_ok_and(|it| {
                        it.is_some_and(|it| self.outcomes.contains_key(&it.session))
                    })
            };
            self.idle.extend(is_idle.then(|| name::snapshot(id)));
        }
        Ok(())
    }
}

/// The ids that are listed below a prefix, for relying on: what was put by somebody who died then
/// survives a power cut from here on.
pub(super) fn settled_ids<T: std::str::FromStr>(
    repo: &Repository,
    prefix: &str,
) -> Result<Vec<T>, RepoError> {
    let ids = ids(repo, prefix)?;
    repo.backend().settle(prefix)?;
    Ok(ids)
}

/// The ids that are listed below a prefix.
pub(super) fn ids<T: std::str::FromStr>(
    repo: &Repository,
    prefix: &str,
) -> Result<Vec<T>, RepoError> {
    let mut ids = Vec::new();
    repo.list(prefix, &mut |id, _| ids.extend(id.parse::<T>().ok()))?;
    Ok(ids)
}
