//! Revisions of the config: what a repository is, besides what its config said at first.
//! Spec: `docs/format/config.md`, section 5.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::{Config, ConfigError, Feature, decode_names, encode_names};
use crate::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use crate::id::{ObjectId, RepositoryId, SnapshotId, WriterId};
use crate::key::{
    Inventory, KeyError, PublicKey, RepositoryKeys, Secret, Verifier, open_once, root_signer,
    seal_once,
};
use crate::limits::REVISION_BYTES_MAX;

/// One change of the config. It adds, and takes nothing away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number: the config is 1, the first revision 2.
    pub number: u64,
    /// When it was made, seconds since 1970.
    pub time: i64,
    /// Required features that it adds.
    pub required: Vec<String>,
    /// Read-compatible features that it adds.
    pub read_compatible: Vec<String>,
    /// Optional features that it adds.
    pub optional: Vec<String>,
    /// Public half of the signing key of the root from now on.
    pub root: PublicKey,
    /// Where the root is another than before: the root before, sealed under the new one.
    pub previous_root: Option<[u8; 48]>,
    /// What there was when the roots before this one were rotated out for good.
    pub closed: Option<Arc<Inventory>>,
    /// The revision before it; those between are none, and nobody reads them any more.
    pub before: u64,
}

impl Revision {
    /// A revision that adds nothing yet, under the root of before.
    #[must_use]
    pub fn new(history: &History, time: i64) -> Self {
        let newest = history.passed_over.last().copied().unwrap_or(0).max(history.number());
        Self {
            number: newest.saturating_add(1),
            before: history.number(),
            time,
            required: Vec::new(),
            read_compatible: Vec::new(),
            optional: Vec::new(),
            root: *history.root(),
            previous_root: None,
            closed: None,
        }
    }

    /// Gives the repository another root.
    pub fn rotate(&mut self, repository: RepositoryId, before: &Secret, now: &Secret) {
        self.root = root_signer(now, repository).public();
        // With room for the tag: a buffer that grows leaves a copy of what it held.
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(before.expose());
        let key = previous_root_key(now, repository, self.number);
        seal_once(&key, repository.as_bytes(), &mut bytes);
        self.previous_root = bytes.try_into().ok();
    }

    /// The stored form. Whoever makes it holds the root secret of before, and that from now on.
    #[must_use]
    pub fn encode(&self, repository: RepositoryId, before: &Secret, now: &Secret) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record
            .integer(1, self.number)
            .field(2, &self.time.to_le_bytes())
            .field(3, &encode_names(&self.required))
            .field(4, &encode_names(&self.read_compatible))
            .field(5, &encode_names(&self.optional))
            .field(6, &self.root.0);
        if let Some(sealed) = &self.previous_root {
            record.field(7, sealed);
        }
        if let Some(inventory) = &self.closed {
            record
                .field(8, &encode_ids(inventory.live.iter().map(SnapshotId::as_bytes)))
                .field(9, &encode_ids(inventory.retired.iter().map(SnapshotId::as_bytes)))
                .field(10, &encode_ids(inventory.lost.iter().map(SnapshotId::as_bytes)))
                .field(11, &encode_ids(inventory.relocations.iter().map(ObjectId::as_bytes)))
                .field(12, &encode_ids(inventory.segments.iter().map(ObjectId::as_bytes)))
                .field(13, &encode_sequences(&inventory.log))
                .integer(14, inventory.round);
        }
        if self.before.saturating_add(1) != self.number {
            record.integer(15, self.before);
        }
        let mut out = [&MAGIC[..], &record.finish()].concat();
        let signatures = [before, now].map(|root| {
            root_signer(root, repository).sign(CONTEXT, &[repository.as_bytes(), &out])
        });
        signatures.iter().for_each(|signature| out.extend_from_slice(signature));
        out
    }

    /// Parses revision `number`; nothing when it is none: `signer`, the root of before, or the one
    /// that it names did not sign it as that.
    fn decode(
        repository: RepositoryId,
        signer: &PublicKey,
        number: u64,
        bytes: &[u8],
    ) -> Result<Option<Self>, ConfigError> {
        let Some(record) = Self::verified(repository, signer, bytes) else { return Ok(None) };
        // A copy under another name is signed too.
        if record.integer(1).ok() != Some(number) {
            return Ok(None);
        }
        let required = decode_names(record.reader(3)?)?;
        Feature::refuse_unknown(&required)?;
        let root = PublicKey(record.array(6)?);
        let previous_root = record.optional_array(7)?;
        if previous_root.is_some() != (root != *signer) {
            return Err(DecodeError::invalid(WHAT, "its root does not fit what it seals").into());
        }
        let before = match record.optional(15) {
            None => number.saturating_sub(1),
            Some(_) => record.integer(15)?,
        };
        Ok(Some(Self {
            number,
            before,
            time: i64::from_le_bytes(record.array(2)?),
            required,
            read_compatible: decode_names(record.reader(4)?)?,
            optional: decode_names(record.reader(5)?)?,
            root,
            previous_root,
            closed: decode_inventory(&record)?.map(Arc::new),
        }))
    }

    /// The record of a revision, if both roots signed it. What anybody may put there is not looked
    /// at any further.
    fn verified<'a>(
        repository: RepositoryId,
        signer: &PublicKey,
        bytes: &'a [u8],
    ) -> Option<Record<'a>> {
        if bytes.len() as u64 > REVISION_BYTES_MAX || !bytes.starts_with(&MAGIC) {
            return None;
        }
        let (signed, signatures) = bytes.split_at_checked(bytes.len().checked_sub(128)?)?;
        let record = Record::parse(signed.get(MAGIC.len()..)?, WHAT).ok()?;
        let root = PublicKey(record.array(6).ok()?);
        let (signatures, _) = signatures.as_chunks::<64>();
        let is_signed = [signer, &root].into_iter().zip(signatures).all(|(signer, signature)| {
            signer.verify(CONTEXT, &[repository.as_bytes(), signed], signature).is_ok()
        });
        is_signed.then_some(record)
    }
}

/// The config and every revision of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// What `init` wrote.
    pub config: Config,
    revisions: Vec<Revision>,
    /// Numbers after that of the newest revision under which there is something else.
    passed_over: Vec<u64>,
}

impl History {
    /// Begins with the config.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, revisions: Vec::new(), passed_over: Vec::new() }
    }

    /// Takes what is stored as revision `number`, the next one there is. What the roots did not sign
    /// as that, whoever put it, is passed over: returns whether it was taken.
    ///
    /// # Errors
    /// When it is signed and cannot be taken: [`ConfigError::UnknownFeature`]; it is malformed, or
    /// follows another than the newest that is known.
    pub fn add(&mut self, number: u64, bytes: &[u8]) -> Result<bool, ConfigError> {
        let decoded = Revision::decode(self.config.repository, self.root(), number, bytes)?;
        let Some(revision) = decoded else {
            self.pass_over(number);
            return Ok(false);
        };
        if revision.before != self.number() {
            return Err(DecodeError::invalid(WHAT, "one before it is missing or damaged").into());
        }
        let is_required =
            self.has(ROTATED_ROOTS) || revision.required.iter().any(|name| name == ROTATED_ROOTS);
        if revision.previous_root.is_some() && !is_required {
            let why = "it rotates the root, and does not require the feature rotated-roots";
            return Err(DecodeError::invalid(WHAT, why).into());
        }
        self.revisions.push(revision);
        self.passed_over.clear();
        Ok(true)
    }

    /// Notes that what is stored as revision `number` cannot be read.
    pub fn pass_over(&mut self, number: u64) {
        self.passed_over.push(number);
    }

    /// Numbers after the newest revision under which something is stored that is none. The next
    /// revision ends that: it says which one it follows.
    #[must_use]
    pub fn passed_over(&self) -> &[u64] {
        &self.passed_over
    }

    /// Whether a revision after it says that there is none of this number.
    #[must_use]
    pub fn is_void(&self, number: u64) -> bool {
        let is_taken = self.revisions.iter().any(|revision| revision.number == number);
        number > 1 && number < self.number() && !is_taken
    }

    /// Whether a revision of the history has this stored form, or one that is passed over would
    /// continue it so.
    #[must_use]
    pub fn has_revision(&self, number: u64, bytes: &[u8]) -> bool {
        let before = self.revisions.iter().take_while(|revision| revision.number < number);
        let mut again = Self {
            config: self.config.clone(),
            revisions: before.cloned().collect(),
            passed_over: Vec::new(),
        };
        let is_taken = again.add(number, bytes);
        let is_known =
            self.revisions.starts_with(&again.revisions) || self.passed_over.contains(&number);
        is_taken.is_ok_and(|is_taken| is_taken) && is_known
    }

    /// The revisions, in order.
    #[must_use]
    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }

    /// Number of the newest revision; 1 without one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.revisions.last().map_or(1, |revision| revision.number)
    }

    /// Public half of the newest root's signing key.
    #[must_use]
    pub fn root(&self) -> &PublicKey {
        self.revisions.last().map_or(&self.config.root, |revision| &revision.root)
    }

    /// Whether the repository has a feature.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features().iter().flatten().any(|name| *name == feature)
    }

    /// The required, the read-compatible and the optional features.
    #[must_use]
    pub fn features(&self) -> [Vec<&str>; 3] {
        let config = &self.config;
        let mut sets = [&config.required, &config.read_compatible, &config.optional]
            .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        for revision in &self.revisions {
            let added = [&revision.required, &revision.read_compatible, &revision.optional];
            for (set, names) in sets.iter_mut().zip(added) {
                set.extend(names.iter().map(String::as_str));
            }
        }
        sets
    }

    /// The first feature, if any, that a program must know to write here and this one does not.
    #[must_use]
    pub fn unknown_to_writers(&self) -> Option<&str> {
        let [_, read_compatible, _] = self.features();
        read_compatible.into_iter().find(|name| !Feature::is_known(name))
    }

    /// What verifies signatures of this repository.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let mut roots = vec![self.config.root];
        for revision in self.revisions.iter().filter(|revision| revision.previous_root.is_some()) {
            roots.push(revision.root);
        }
        Verifier::new(self.config.repository, roots, self.closed())
    }

    /// Whether a root was rotated out, and what it had signed was not put down yet: until then what
    /// it signs still counts.
    #[must_use]
    pub fn is_rotation_open(&self) -> bool {
        let rotated = self.revisions.iter().rposition(|revision| revision.previous_root.is_some());
        let closed = self.revisions.iter().rposition(|revision| revision.closed.is_some());
        rotated > closed
    }

    /// All keys, from the newest root secret.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] when it is not that; [`KeyError::Forged`].
    pub fn keys(&self, root: Secret) -> Result<RepositoryKeys, KeyError> {
        let repository = self.config.repository;
        let belongs =
            |root: &Secret, public: &PublicKey| root_signer(root, repository).public() == *public;
        if !belongs(&root, self.root()) {
            return Err(KeyError::WrongKey);
        }
        let mut roots = vec![root];
        for (at, revision) in self.revisions.iter().enumerate().rev() {
            let (Some(sealed), Some(newer)) = (&revision.previous_root, roots.last()) else {
                continue;
            };
            let mut sealed = Zeroizing::new(*sealed);
            let key = previous_root_key(newer, repository, revision.number);
            let plain = open_once(&key, repository.as_bytes(), &mut sealed[..])?;
            let older = Secret::new((&*plain).try_into().map_err(|_| KeyError::Forged)?);
            let before = at.checked_sub(1).and_then(|at| self.revisions.get(at));
            if !belongs(&older, before.map_or(&self.config.root, |before| &before.root)) {
                return Err(KeyError::Forged);
            }
            roots.push(older);
        }
        roots.reverse();
        Ok(RepositoryKeys::of_roots(&roots, repository, self.closed()))
    }

    /// How many roots are rotated out for good, and what there was then.
    fn closed(&self) -> Option<(usize, Arc<Inventory>)> {
        let closing = self.revisions.iter().rposition(|revision| revision.closed.is_some())?;
        let rotated = self.revisions.iter().take(closing.saturating_add(1));
        let count = rotated.filter(|revision| revision.previous_root.is_some()).count();
        let inventory = self.revisions.get(closing)?.closed.clone()?;
        Some((count, inventory))
    }
}

/// It seals one message: a new root is drawn for every rotation, and only one root was before it.
fn previous_root_key(root: &Secret, repository: RepositoryId, number: u64) -> Secret {
    root.derive(
        "lastgood 2026-11 v1 previous root",
        &[repository.as_bytes(), &number.to_le_bytes()],
    )
}

fn encode_ids<'a>(ids: impl ExactSizeIterator<Item = &'a [u8; 32]>) -> Vec<u8> {
    let mut out = Vec::new();
    out.varint(ids.len() as u64);
    ids.for_each(|id| out.extend_from_slice(id));
    out
}

fn decode_ids<T: Ord>(
    mut reader: Reader<'_>,
    id: impl Fn([u8; 32]) -> T,
) -> Result<BTreeSet<T>, DecodeError> {
    let count = reader.count(IDS_MAX, 32)?;
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let id = id(reader.array()?);
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(DecodeError::invalid(WHAT, "its ids are not sorted"));
        }
        ids.insert(id);
    }
    reader.finish()?;
    Ok(ids)
}

fn decode_inventory(record: &Record<'_>) -> Result<Option<Inventory>, DecodeError> {
    if record.optional(8).is_none() {
        return Ok(None);
    }
    Ok(Some(Inventory {
        live: decode_ids(record.reader(8)?, SnapshotId::new)?,
        retired: decode_ids(record.reader(9)?, SnapshotId::new)?,
        lost: decode_ids(record.reader(10)?, SnapshotId::new)?,
        relocations: decode_ids(record.reader(11)?, ObjectId::new)?,
        segments: decode_ids(record.reader(12)?, ObjectId::new)?,
        log: decode_sequences(record.reader(13)?)?,
        round: record.integer(14)?,
    }))
}

fn encode_sequences(sequences: &BTreeMap<WriterId, u64>) -> Vec<u8> {
    let mut out = Vec::new();
    out.varint(sequences.len() as u64);
    for (writer, sequence) in sequences {
        out.extend_from_slice(writer.as_bytes());
        out.varint(*sequence);
    }
    out
}

fn decode_sequences(mut reader: Reader<'_>) -> Result<BTreeMap<WriterId, u64>, DecodeError> {
    let count = reader.count(WRITERS_MAX, 17)?;
    let mut sequences = BTreeMap::new();
    for _ in 0..count {
        let writer = WriterId::new(reader.array()?);
        if sequences.last_key_value().is_some_and(|(last, _)| *last >= writer) {
            return Err(DecodeError::invalid(WHAT, "its writers are not sorted"));
        }
        sequences.insert(writer, reader.varint()?);
    }
    reader.finish()?;
    Ok(sequences)
}

/// The feature of repositories whose root was rotated.
pub const ROTATED_ROOTS: &str = "rotated-roots";

const WHAT: &str = "revision";
const MAGIC: [u8; 8] = *b"lgrevn\x01\n";
const CONTEXT: &str = "config revision";
/// More than fit into [`REVISION_BYTES_MAX`].
const WRITERS_MAX: usize = 1 << 20;
const IDS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
