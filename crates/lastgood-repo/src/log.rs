//! The audit log: a chain of signed records for each writer. Spec: `docs/format/log.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lastgood_format::entry::Timestamp;
use lastgood_format::id::{ObjectId, SessionId, SnapshotId, WriterId};
use lastgood_format::key::{Class, ClassSecret, Signer};
use lastgood_format::limits::{LOG_COUNTS_MAX, LOG_SNAPSHOTS_MAX, SMALL_OBJECT_BYTES_MAX};
use lastgood_format::log::{Ending, LogRecord};
use lastgood_format::object::{name, object_id};

use crate::error::{Damage, RepoError};
use crate::last_seen::LastSeen;
use crate::repository::{Repository, parse_number};

/// What is to be noted, but for its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// What was done: see `docs/format/log.md`, section 2.
    pub verb: String,
    /// When it began.
    pub began: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// Name of the host.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Version of the program.
    pub program: String,
    /// Snapshots that it made, read or retired.
    pub snapshots: Vec<SnapshotId>,
    /// Counts by name.
    pub counts: Vec<(String, u64)>,
    /// What else is to be said, for people.
    pub note: String,
}

/// All records of a repository.
#[derive(Debug, Default)]
pub struct Log {
    /// In the order in which they began; those of one writer in the order of their numbers.
    pub records: Vec<LogRecord>,
    /// Records that are damaged, missing, or not those that should be there.
    pub problems: Vec<RepoError>,
    /// The places of these, as far as they are known: of a long gap, the first.
    pub lost: Vec<(WriterId, u64)>,
}

impl Log {
    fn lose(&mut self, writer: WriterId, sequence: u64, error: RepoError) {
        self.problems.push(error);
        self.lost.push((writer, sequence));
    }
}

impl Repository {
    /// Appends to the log of a writer, whose name nobody else may hold now. Nothing is written
    /// while snapshots are missing: this may be an old view of the repository.
    ///
    /// # Errors
    /// Whatever the backend says.
    pub fn append_to_log(&self, writer_name: &[u8; 16], deed: &Deed) -> Result<(), RepoError> {
        self.append_signed(&self.keys().writer(writer_name), deed)
    }

    pub(crate) fn append_signed(&self, signer: &Signer, deed: &Deed) -> Result<(), RepoError> {
        if self.refuse_if_missing().is_err() {
            return Ok(());
        }
        self.refuse_if_revised()?;
        let writer = signer.writer_id();
        // Where this host does not remember, or somebody was first, the listing tells.
        let mut last = self.last_seen().ok().and_then(|seen| seen.log.get(&writer).copied());
        if last.is_none() {
            last = self.newest_of_log(writer)?;
        }
        for _ in 0..APPEND_TRIES {
            let sequence = last.map_or(1, |(sequence, _)| sequence + 1);
            let bytes = self.sealed(signer, sequence, last.map(|(_, hash)| hash), deed);
            let hash = object_id(&bytes);
            let object = name::log(writer, sequence);
            if self.put_own(&object, &bytes, SMALL_OBJECT_BYTES_MAX)? {
                let log = BTreeMap::from([(writer, (sequence, hash))]);
                // Where this fails, the next listing says why.
                drop(self.remember(&LastSeen { log, ..LastSeen::default() }));
                return Ok(());
            }
            last = self.newest_of_log(writer)?;
        }
        let why = Damage::State("others append to it all the time");
        Err(self.damaged(&format!("{}{writer}", name::LOG), why))
    }

    fn sealed(
        &self,
        signer: &Signer,
        sequence: u64,
        previous: Option<ObjectId>,
        deed: &Deed,
    ) -> Vec<u8> {
        let short = |text: &str| {
            let end =
                (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text[..end.unwrap_or(0)].to_owned()
        };
        let record = LogRecord {
            writer: signer.writer_id(),
            sequence,
            previous,
            began: deed.began,
            ended: self.world().clock.now(),
            verb: short(&deed.verb),
            ending: deed.ending,
            host: short(&deed.host),
            user: short(&deed.user),
            program: short(&deed.program),
            snapshots: deed.snapshots.iter().take(LOG_SNAPSHOTS_MAX).copied().collect(),
            counts: deed.counts.iter().take(LOG_COUNTS_MAX).cloned().collect(),
            note: short(&deed.note),
        };
        let own = SessionId::new(self.world().random());
        let secret = ClassSecret::create(self.keys(), Class::Meta, own, self.world().secret());
        record.encode(self.keys(), signer, &secret, &self.world().random())
    }

    /// Number and hash of the last record of a writer, whether or not it can be read.
    fn newest_of_log(&self, writer: WriterId) -> Result<Option<(u64, ObjectId)>, RepoError> {
        let mut newest = None;
        self.list(&format!("{}{writer}/", name::LOG), &mut |sequence, _| {
            newest = newest.max(parse_number(sequence));
        })?;
        let Some(sequence) = newest else { return Ok(None) };
        self.settle_log(writer)?;
        let bytes = self.find(&name::log(writer, sequence), SMALL_OBJECT_BYTES_MAX)?;
        Ok(bytes.map(|bytes| (sequence, object_id(&bytes))))
    }

    /// Makes durable what a killed run may have appended: the next record names it, or this host
    /// remembers it, and it has to stay then.
    fn settle_log(&self, writer: WriterId) -> Result<(), RepoError> {
        Ok(self.backend().settle(&format!("{}{writer}/", name::LOG))?)
    }

    /// Reads and verifies the whole log, and remembers how far it goes. One request a record.
    ///
    /// # Errors
    /// When it cannot be listed, or a record may be readable later.
    pub fn log(&self) -> Result<Log, RepoError> {
        let mut places = self.log_places()?;
        let mut log = Log::default();
        let remembered = match self.last_seen() {
            Ok(seen) => seen.log,
            Err(error) => {
                log.problems.push(error);
                BTreeMap::new()
            }
        };
        for writer in remembered.keys() {
            places.entry(*writer).or_default();
        }
        let mut seen = LastSeen::default();
        for (writer, sequences) in places {
            let before = log.problems.len();
            let last = self.chain(writer, &sequences, remembered.get(&writer), &mut log)?;
            let is_news = last.is_some() && last.as_ref() != remembered.get(&writer);
            if log.problems.len() == before && is_news && self.settle_log(writer).is_ok() {
                seen.log.extend(last.map(|last| (writer, last)));
            }
        }
        drop(self.remember(&seen));
        log.records.sort_by_key(|record| record.began);
        Ok(log)
    }

    /// The numbers of the records that are there, of each writer.
    pub(crate) fn log_places(&self) -> Result<BTreeMap<WriterId, BTreeSet<u64>>, RepoError> {
        let mut places: BTreeMap<WriterId, BTreeSet<u64>> = BTreeMap::new();
        self.list(name::LOG, &mut |rest, _| {
            let place = rest.split_once('/');
            let place = place.and_then(|(w, s)| Some((w.parse().ok()?, parse_number(s)?)));
            if let Some((writer, sequence)) = place {
                places.entry(writer).or_default().insert(sequence);
            }
        })?;
        Ok(places)
    }

    /// The last record of each writer that is no damage. Where the store cannot read one, this fails:
    /// once it can, the record must still count.
    pub(crate) fn log_heads(&self) -> Result<BTreeMap<WriterId, u64>, RepoError> {
        let mut heads = BTreeMap::new();
        for (writer, sequences) in self.log_places()? {
            for sequence in sequences.into_iter().rev() {
                let bytes = match self.find(&name::log(writer, sequence), SMALL_OBJECT_BYTES_MAX) {
                    Err(error) if error.is_damage() && !error.is_of_store() => None,
                    found => found?,
                };
                let reads = |bytes: &Vec<u8>| {
                    LogRecord::decode(self.keys(), writer, sequence, bytes).is_ok()
                };
                if bytes.as_ref().is_some_and(reads) {
                    heads.insert(writer, sequence);
                    break;
                }
            }
        }
        Ok(heads)
    }

    /// Whether somebody accepted that a record of the log is lost.
    fn is_lost(&self, writer: WriterId, sequence: u64) -> Result<bool, RepoError> {
        Ok(self.lost_record(lost_log_id(writer, sequence))?.is_some())
    }

    /// Accepts that records of the log which are damaged, missing or replaced now are lost, for
    /// everybody who opens the repository. Returns their places.
    ///
    /// # Errors
    /// Whatever the backend says; some may be accepted then.
    pub fn accept_lost_log(&self, accepted_by: &str) -> Result<Vec<(WriterId, u64)>, RepoError> {
        let lost = self.log()?.lost;
        for &(writer, sequence) in &lost {
            self.accept_lost(lost_log_id(writer, sequence), accepted_by)?;
        }
        Ok(lost)
    }

    /// Verifies the log of one writer; tells number and hash of its last record.
    fn chain(
        &self,
        writer: WriterId,
        sequences: &BTreeSet<u64>,
        remembered: Option<&(u64, ObjectId)>,
        log: &mut Log,
    ) -> Result<Option<(u64, ObjectId)>, RepoError> {
        let mut last: Option<(u64, ObjectId)> = None;
        let mut next = 1;
        let damaged =
            |sequence, why| self.damaged(&name::log(writer, sequence), Damage::State(why));
        for &sequence in sequences {
            if sequence != next {
                self.gap(writer, next..sequence, "it is missing", log)?;
                last = None;
            }
            let (object, is_first) = (name::log(writer, sequence), next == 1 && sequence == 1);
            next = sequence.saturating_add(1);
            let bytes = match self.find(&object, SMALL_OBJECT_BYTES_MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    self.gap(writer, sequence..next, "it is missing", log)?;
                    last = None;
                    continue;
                }
                Err(error) if error.is_damage() => {
                    if !self.is_lost(writer, sequence)? {
                        log.lose(writer, sequence, error);
                    }
                    last = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let hash = object_id(&bytes);
            if remembered.is_some_and(|(at, seen)| *at == sequence && *seen != hash)
                && !self.is_lost(writer, sequence)?
            {
                let why = "this host has seen another in its place";
                log.lose(writer, sequence, damaged(sequence, why));
            }
            match LogRecord::decode(self.keys(), writer, sequence, &bytes) {
                Ok(record) => {
                    // After a hole that was reported there is nothing to compare with.
                    let follows = match last {
                        Some((_, before)) => record.previous == Some(before),
                        None => !is_first || record.previous.is_none(),
                    };
                    if !follows && !self.is_lost(writer, sequence)? {
                        let why = "it does not follow the one before it";
                        log.lose(writer, sequence, damaged(sequence, why));
                    }
                    log.records.push(record);
                }
                Err(error) => {
                    if !self.is_lost(writer, sequence)? {
                        log.lose(writer, sequence, self.damaged(&object, error));
                    }
                }
            }
            last = Some((sequence, hash));
        }
        if let Some((at, _)) = remembered
            && *at >= next
        {
            self.gap(writer, next..at + 1, "this host has seen it, and it is missing", log)?;
        }
        Ok(last)
    }

    /// Notes records that are missing, but for those that were accepted as lost. A gap may be of
    /// any length: what is beyond the first of them stands for the rest.
    fn gap(
        &self,
        writer: WriterId,
        missing: Range<u64>,
        why: &'static str,
        log: &mut Log,
    ) -> Result<(), RepoError> {
        for sequence in missing.take(GAP_MAX) {
            if !self.is_lost(writer, sequence)? {
                let error = self.damaged(&name::log(writer, sequence), Damage::State(why));
                log.lose(writer, sequence, error);
            }
        }
        Ok(())
    }
}

/// The name under which a record of the log is accepted as lost. spec: commit §4
fn lost_log_id(writer: WriterId, sequence: u64) -> SnapshotId {
    let mut hasher = blake3::Hasher::new_derive_key(LOST_CONTEXT);
    hasher.update(writer.as_bytes()).update(&sequence.to_le_bytes());
    SnapshotId::new(*hasher.finalize().as_bytes())
}

const LOST_CONTEXT: &str = "lastgood 2026-11 v1 lost log record";
/// Records of a gap that are looked for. No rollback that anybody accepts is longer.
const GAP_MAX: usize = 1 << 12;
/// Longest text of a record, in bytes; the rest is cut off.
const TEXT_BYTES_MAX: usize = 2048;
/// How often somebody else may be first, which only happens when a host was cloned.
const APPEND_TRIES: usize = 16;
