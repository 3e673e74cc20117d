//! What this host has seen of a repository, kept outside it, so that what a store lost, hides or
//! replaced by an old view is missed. Spec: `docs/format/snapshot.md`, section 3.
//!
//! Evidence that a snapshot was committed is what this host remembers, and what other snapshots
//! and the records of retired ones say of their chains. Each is either there, retired, or accepted
//! as lost; else it is missing, and nothing is written until somebody accepts that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use lastgood_backend::PutOutcome;
use lastgood_format::gc::{ChainLink, Lost};
use lastgood_format::id::{ObjectId, SnapshotId, WriterId};
use lastgood_format::limits::SMALL_OBJECT_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::snapshot::{Chain, Head};

use crate::error::{Damage, RepoError};
use crate::packer::lock;
use crate::repository::Repository;
use crate::snapshots::{OCCUPIED, SnapshotRecord, Snapshots};

/// A snapshot that was committed and is neither there nor retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The snapshot and its place in its writer's chain.
    pub head: Head,
    /// How it is known.
    pub seen_by: SeenBy,
    /// Another snapshot at the same place of the chain.
    pub instead: Option<SnapshotId>,
}

/// Who says that a snapshot was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenBy {
    /// This host has seen it.
    ThisHost,
    /// This snapshot names it.
    Snapshot(SnapshotId),
    /// The record that retires this snapshot names it.
    Retired(SnapshotId),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { writer, sequence, snapshot } = self.head;
        write!(f, "snapshot {snapshot}, number {sequence} of writer {writer}, ")?;
        match self.seen_by {
            SeenBy::ThisHost => write!(f, "which this host has seen")?,
            SeenBy::Snapshot(id) => write!(f, "which snapshot {id} names")?,
            SeenBy::Retired(id) => write!(f, "which the record of retired snapshot {id} names")?,
        }
        match self.instead {
            Some(id) => write!(f, "; snapshot {id} stands in its place"),
            None => Ok(()),
        }
    }
}

/// The newest that was seen of each writer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// Sequence and id of the newest snapshot.
    pub snapshots: BTreeMap<WriterId, (u64, SnapshotId)>,
    /// Sequence and hash of the newest record of the log.
    pub log: BTreeMap<WriterId, (u64, ObjectId)>,
    /// Number and hash of the newest revision of the config.
    pub revision: Option<(u64, ObjectId)>,
}

impl LastSeen {
    /// That a snapshot was committed at its place of a chain.
    pub(crate) fn of(chain: &Chain, id: SnapshotId) -> Self {
        let seen = (chain.sequence, id);
        Self { snapshots: BTreeMap::from([(chain.writer, seen)]), ..Self::default() }
    }

    fn see(&mut self, head: Head) {
        newer(&mut self.snapshots, head.writer, (head.sequence, head.snapshot));
    }

    fn merge(&mut self, other: &Self) {
        for (writer, seen) in &other.snapshots {
            newer(&mut self.snapshots, *writer, *seen);
        }
        for (writer, seen) in &other.log {
            newer(&mut self.log, *writer, *seen);
        }
        if other.revision.map(|(number, _)| number) > self.revision.map(|(number, _)| number) {
            self.revision = other.revision;
        }
    }

    /// Lines of words, the last one a checksum of those before.
    fn encode(&self) -> String {
        let mut text = String::from(HEADING);
        for (writer, (sequence, id)) in &self.snapshots {
            text += &format!("snapshot {writer} {sequence} {id}\n");
        }
        for (writer, (sequence, hash)) in &self.log {
            text += &format!("log {writer} {sequence} {hash}\n");
        }
        if let Some((number, hash)) = &self.revision {
            text += &format!("revision config {number} {hash}\n");
        }
        let sum = blake3::hash(text.as_bytes());
        text + &format!("sum {sum}\n")
    }

    fn decode(text: &str) -> Option<Self> {
        let (lines, sum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let lines = format!("{lines}\n");
        if sum != format!("sum {}", blake3::hash(lines.as_bytes())) {
            return None;
        }
        let mut seen = Self::default();
        for line in lines.strip_prefix(HEADING)?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let &[kind, writer, sequence, id] = words.as_slice() else { return None };
            let sequence = sequence.parse().ok()?;
            if (kind, writer) == ("revision", "config") {
                seen.revision = Some((sequence, id.parse().ok()?));
                continue;
            }
            let writer = writer.parse().ok()?;
            match kind {
                "snapshot" => drop(seen.snapshots.insert(writer, (sequence, id.parse().ok()?))),
                "log" => drop(seen.log.insert(writer, (sequence, id.parse().ok()?))),
                _ => return None,
            }
        }
        Some(seen)
    }
}

/// Keeps the one of the higher sequence; of two at the same one, the first that was seen.
fn newer<T: Copy>(heads: &mut BTreeMap<WriterId, (u64, T)>, writer: WriterId, seen: (u64, T)) {
    let known = heads.entry(writer).or_insert(seen);
    if seen.0 > known.0 {
        *known = seen;
    }
}

/// The file that keeps [`LastSeen`]. Processes take turns by a lock on its folder.
#[derive(Debug)]
pub(crate) struct LastSeenFile(PathBuf);

impl LastSeenFile {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What was seen; nothing when there is no file.
    pub(crate) fn read(&self) -> Result<LastSeen, RepoError> {
        match fs::read_to_string(&self.0) {
            Ok(text) => LastSeen::decode(&text)
                .ok_or_else(|| failed("read", &self.0)(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LastSeen::default()),
            Err(error) => Err(failed("read", &self.0)(error)),
        }
    }

    /// Adds to what was seen: the file is the old or the new one, whenever the power fails.
    pub(crate) fn add(&self, seen: &LastSeen) -> Result<(), RepoError> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let folder_file = File::open(folder).map_err(failed("open", folder))?;
        folder_file.lock().map_err(failed("lock", folder))?;
        // One that cannot be read was reported; what is known now is better than nothing.
        let before = self.read().ok();
        let mut all = before.clone().unwrap_or_default();
        all.merge(seen);
        if before.as_ref() == Some(&all) {
            return Ok(());
        }
        let temporary = self.0.with_extension("new");
        let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
        file.write_all(all.encode().as_bytes()).map_err(failed("write", &temporary))?;
        file.sync_all().map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &self.0).map_err(failed("rename", &temporary))?;
        folder_file.sync_all().map_err(failed("write", folder))
    }
}

impl Repository {
    /// What this host remembers of the repository.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_seen(&self) -> Result<LastSeen, RepoError> {
        self.last_seen_file().map_or_else(|| Ok(LastSeen::default()), LastSeenFile::read)
    }

    /// Remembers more. Where nothing is kept, nothing happens.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, seen: &LastSeen) -> Result<(), RepoError> {
        self.last_seen_file().map_or(Ok(()), |file| file.add(seen))
    }

    /// Compares what was listed with all evidence of what should be there, and remembers it.
    pub(crate) fn compare_with_last_seen(
        &self,
        snapshots: &mut Snapshots,
        retired: &HashMap<SnapshotId, Option<ChainLink>>,
    ) -> Result<(), RepoError> {
        let remembered = match self.last_seen() {
            Ok(seen) => seen,
            Err(error) => {
                snapshots.unremembered = Some(error);
                LastSeen::default()
            }
        };
        let records = || snapshots.live.iter().chain(&snapshots.retired);
        let present: HashSet<SnapshotId> = records().map(|record| record.id).collect();
        let mut seen = remembered.clone();
        let mut suspects: Vec<(Head, SeenBy)> = Vec::new();
        let mut known = HashSet::new();
        for (head, seen_by) in evidence(&remembered, records(), retired) {
            seen.see(head);
            let is_explained =
                present.contains(&head.snapshot) || retired.contains_key(&head.snapshot);
            if !is_explained && known.insert(head.snapshot) {
                suspects.push((head, seen_by));
            }
        }
        let mut missing = Vec::new();
        for (head, seen_by) in suspects {
            if self.is_missing(head.snapshot)? {
                let instead = records().find(|record| {
                    let chain = &record.snapshot.chain;
                    (chain.writer, chain.sequence) == (head.writer, head.sequence)
                });
                let instead = instead.map(|record| record.id);
                missing.push(Missing { head, seen_by, instead });
            }
        }
        if seen != remembered || snapshots.unremembered.is_some() {
            // What a killed run committed may be seen and not be durable; remembered, it has to stay.
            let settled = self.backend().settle(name::OUTCOMES).map_err(RepoError::from);
            // What was wrong with it when it was read is the better message.
            let written = settled.and_then(|()| self.remember(&seen)).err();
            snapshots.unremembered = snapshots.unremembered.take().or(written);
        }
        snapshots.newest = seen.snapshots;
        *lock(self.missing()) = missing.clone();
        snapshots.missing = missing;
        Ok(())
    }

    /// Whether a snapshot that was committed is gone without a reason. The listing may have come
    /// before its commit, or before it was retired and removed, so all is looked at anew: the
    /// snapshot first, since it is retired before it is removed.
    pub(crate) fn is_missing(&self, id: SnapshotId) -> Result<bool, RepoError> {
        match self.load_snapshot(id) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(false),
            // It is there, and what is wrong with it is reported as damage.
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(self.retired_record(id)?.is_none() && self.lost_record(id)?.is_none())
    }

    pub(crate) fn lost_record(&self, id: SnapshotId) -> Result<Option<Lost>, RepoError> {
        let bytes = match self.find(&name::lost(id), SMALL_OBJECT_BYTES_MAX) {
            Err(error) if error.is_damage() => None,
            found => found?,
        };
        Ok(bytes.and_then(|bytes| Lost::decode(self.keys().verifier(), id, &bytes).ok()))
    }

    /// Refuses to write while the last listing lacked snapshots that nobody accepted as lost:
    /// what would be written on top of an old view could never be told from it again.
    ///
    /// # Errors
    /// [`RepoError::Missing`] names them.
    pub fn refuse_if_missing(&self) -> Result<(), RepoError> {
        let missing = lock(self.missing()).clone();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(RepoError::Missing { location: self.location().to_owned(), missing }),
        }
    }

    /// Accepts that what is missing now is lost, for everybody who opens the repository. Should
    /// one of the snapshots come back, it is live again.
    ///
    /// # Errors
    /// Whatever the backend says; some may be accepted then.
    pub fn accept_missing(&self, accepted_by: &str) -> Result<Vec<Missing>, RepoError> {
        let missing = self.snapshots()?.missing;
        for Missing { head: Head { snapshot, .. }, .. } in &missing {
            self.accept_lost(*snapshot, accepted_by)?;
        }
        lock(self.missing()).clear();
        Ok(missing)
    }

    pub(crate) fn accept_lost(&self, id: SnapshotId, accepted_by: &str) -> Result<(), RepoError> {
        let keys = self.keys();
        let time = self.world().clock.now().seconds;
        let lost = Lost { snapshot: id, time, accepted_by: accepted_by.to_owned() };
        let object = name::lost(id);
        let put = self.put(&object, &lost.encode(keys, &keys.maintenance()))?;
        match put == PutOutcome::Exists && self.lost_record(id)?.is_none() {
            true => Err(self.damaged(&object, Damage::State(OCCUPIED))),
            false => Ok(()),
        }
    }
}

/// All that says that a snapshot was committed.
fn evidence<'a>(
    remembered: &'a LastSeen,
    records: impl Iterator<Item = &'a SnapshotRecord>,
    retired: &'a HashMap<SnapshotId, Option<ChainLink>>,
) -> impl Iterator<Item = (Head, SeenBy)> {
    let remembered = remembered.snapshots.iter().map(|(writer, (sequence, snapshot))| {
        let head = Head { writer: *writer, sequence: *sequence, snapshot: *snapshot };
        (head, SeenBy::ThisHost)
    });
    let named = records.flat_map(|record| {
        let chain = &record.snapshot.chain;
        let link =
            ChainLink { writer: chain.writer, sequence: chain.sequence, previous: chain.previous };
        let heads = chain.heads.iter().copied().chain(heads_of(record.id, &link));
        heads.map(|head| (head, SeenBy::Snapshot(record.id)))
    });
    let retired = retired.iter().flat_map(|(id, link)| {
        let heads = link.iter().flat_map(|link| heads_of(*id, link));
        heads.map(|head| (head, SeenBy::Retired(*id)))
    });
    remembered.chain(named).chain(retired)
}

/// A snapshot's own place in its chain, and the place before.
fn heads_of(id: SnapshotId, link: &ChainLink) -> impl Iterator<Item = Head> + use<> {
    let &ChainLink { writer, sequence, previous } = link;
    let before =
        previous.map(|snapshot| Head { writer, sequence: sequence.saturating_sub(1), snapshot });
    std::iter::once(Head { writer, sequence, snapshot: id }).chain(before)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepoError {
    let path = path.to_owned();
    move |source| RepoError::Cache { action, path, source }
}

const HEADING: &str = "lastgood last seen 1\n";

#[cfg(test)]
mod tests;
