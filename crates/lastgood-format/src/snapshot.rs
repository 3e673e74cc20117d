//! Snapshots: the record of one source at one instant. Spec: `docs/format/snapshot.md`.

use crate::chunker::RecordedChunker;
use crate::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use crate::entry::Timestamp;
use crate::id::{BlobId, SessionId, SnapshotId, WriterId};
use crate::key::{ClassSecret, KeyError, RepositoryKeys, Signer};
use crate::limits::SNAPSHOT_HEADS_MAX;
use crate::object::{ObjectKind, open_signed, seal_signed, session_of};
use crate::packset::PackRef;

/// Everything a snapshot says. Its id is BLAKE3 of its stored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The session that wrote it.
    pub session: SessionId,
    /// When the source began to be read, by the writer's clock.
    pub started: Timestamp,
    /// When the last byte was read.
    pub finished: Timestamp,
    /// Root page of the tree. Its directories lead from `/` to each source.
    pub tree: BlobId,
    /// Root page of the hints that go with the tree.
    pub hints: BlobId,
    /// Root page of the hard-link table.
    pub links: BlobId,
    /// Root page of the set of packs that hold all of the above and what it refers to.
    pub pack_set: BlobId,
    /// The packs that hold the pages of the pack set.
    pub ref_packs: Vec<PackRef>,
    /// Absolute paths that were asked for, as bytes, sorted.
    pub sources: Vec<Vec<u8>>,
    /// Name of the host.
    pub host: String,
    /// Stable id of the host, so its own snapshots are known even when it is renamed.
    pub host_id: [u8; 16],
    /// Name of the user.
    pub user: String,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Names of the users and groups that own entries.
    pub owners: OwnerNames,
    /// Chunker of what this run cut.
    pub chunker: RecordedChunker,
    /// Position in the writer's chain.
    pub chain: Chain,
    /// What the run saw and stored.
    pub totals: Totals,
    /// What a reader should know of the run.
    pub flags: SnapshotFlags,
    /// Version of the program that wrote it.
    pub program: String,
    /// The snapshot this one was made from by changing tags alone.
    pub original: Option<SnapshotId>,
}

/// Place of a snapshot among all others: who wrote it, after what, knowing of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Who wrote it.
    pub writer: WriterId,
    /// Number in the writer's chain, from 1.
    pub sequence: u64,
    /// The writer's snapshot before it.
    pub previous: Option<SnapshotId>,
    /// Snapshots it was compared with.
    pub parents: Vec<SnapshotId>,
    /// One more than the highest generation among parents and heads.
    pub generation: u64,
    /// Newest snapshot known of every other writer, sorted by writer.
    pub heads: Vec<Head>,
}

/// The newest snapshot known of one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// The writer.
    pub writer: WriterId,
    /// The number of its snapshot.
    pub sequence: u64,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// Names that go with owners' numbers, sorted by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerNames {
    /// Users.
    pub users: Vec<(u32, String)>,
    /// Groups.
    pub groups: Vec<(u32, String)>,
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files in the snapshot.
    pub files: u64,
    /// Directories in the snapshot.
    pub directories: u64,
    /// Other entries in the snapshot.
    pub others: u64,
    /// Bytes of all regular files.
    pub bytes: u64,
    /// Files that the baseline did not have.
    pub files_new: u64,
    /// Files that differ from the baseline.
    pub files_changed: u64,
    /// Bytes of plaintext that the repository did not have.
    pub bytes_added: u64,
    /// Bytes that were stored for them, metadata included.
    pub bytes_stored: u64,
    /// Entries that could not be read.
    pub errors: u64,
}

impl Totals {
    const fn fields(&self) -> [u64; 9] {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.files_new,
            self.files_changed,
            self.bytes_added,
            self.bytes_stored,
            self.errors,
        ]
    }
}

/// A set of bits about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotFlags(pub u64);

impl SnapshotFlags {
    /// The run was not over: what it had not reached yet is as in the parents, or missing.
    pub const PARTIAL: Self = Self(1);
    /// Some entries could not be read or changed while they were read.
    pub const INCOMPLETE: Self = Self(2);
    /// The one source is a stream.
    pub const STREAM: Self = Self(4);
    /// It is not to be forgotten.
    pub const PINNED: Self = Self(8);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set but for the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Snapshot {
    /// The stored form: signed by the writer, sealed under the session's metadata secret.
    ///
    /// # Errors
    /// [`TooLong`]: every reader would refuse it, so it must not be committed.
    ///
    /// # Panics
    /// When there are more than [`SNAPSHOT_HEADS_MAX`] heads.
    pub fn encode(
        &self,
        keys: &RepositoryKeys,
        signer: &Signer,
        secret: &ClassSecret,
        random: &[u8; 32],
    ) -> Result<Vec<u8>, TooLong> {
        let record = self.encode_record();
        assert!(self.chain.heads.len() <= SNAPSHOT_HEADS_MAX, "a snapshot names too many heads");
        // With room for certificate, signature and envelope.
        if record.len() > BODY_BYTES_MAX - 4096 {
            return Err(TooLong { bytes: record.len() });
        }
        Ok(seal_signed(ObjectKind::Snapshot, CONTEXT, keys, signer, secret, random, &record))
    }

    /// Opens, verifies and parses a stored snapshot.
    ///
    /// # Errors
    /// When it was changed, is of another repository, or its writer is not certified.
    pub fn decode(keys: &RepositoryKeys, bytes: &[u8]) -> Result<Self, KeyError> {
        let (record, signer) =
            open_signed(ObjectKind::Snapshot, CONTEXT, keys, BODY_BYTES_MAX, bytes)?;
        let snapshot = Self::decode_record(&record)?;
        if snapshot.chain.writer != signer.public.writer_id() {
            return Err(KeyError::Signature);
        }
        // spec: config §5. Old keys have no power over what newer ones made.
        let id = || SnapshotId::new(*blake3::hash(bytes).as_bytes());
        keys.verifier().allow(&signer, |inventory| inventory.has_snapshot(id()))?;
        // spec: snapshot §1. One session's snapshot must not pass for another's.
        if session_of(bytes) != Some(snapshot.session) {
            return Err(KeyError::Forged);
        }
        Ok(snapshot)
    }

    /// The plaintext record, as it is before it is signed and sealed.
    #[must_use]
    pub fn encode_record(&self) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record
            .field(1, self.session.as_bytes())
            .field(2, &encode_time(self.started))
            .field(3, &encode_time(self.finished))
            .field(4, self.tree.as_bytes())
            .field(5, self.hints.as_bytes())
            .field(6, self.links.as_bytes())
            .field(7, self.pack_set.as_bytes())
            .field(8, &encode_list(&self.ref_packs, |pack, out| pack.encode(out)))
            .field(9, &encode_list(&self.sources, |path, out| out.bytes(path)))
            .field(10, self.host.as_bytes())
            .field(11, &self.host_id)
            .field(12, self.user.as_bytes())
            .field(13, &encode_list(&self.tags, |tag, out| out.bytes(tag.as_bytes())))
            .field(14, &encode_owners(&self.owners.users))
            .field(15, &encode_owners(&self.owners.groups))
            .field(16, &self.chunker.0)
            .field(17, &[HASH_BLAKE3_KEYED])
            .field(18, self.chain.writer.as_bytes())
            .integer(19, self.chain.sequence);
        if let Some(previous) = self.chain.previous {
            record.field(20, previous.as_bytes());
        }
        record
            .field(
                21,
                &encode_list(&self.chain.parents, |id, out| {
                    out.extend_from_slice(id.as_bytes());
                }),
            )
            .integer(22, self.chain.generation)
            .field(
                23,
                &encode_list(&self.chain.heads, |head, out| {
                    out.extend_from_slice(head.writer.as_bytes());
                    out.varint(head.sequence);
                    out.extend_from_slice(head.snapshot.as_bytes());
                }),
            )
            .field(24, &encode_list(&self.totals.fields(), |value, out| out.varint(*value)))
            .integer(25, self.flags.0)
            .field(26, self.program.as_bytes());
        if let Some(original) = self.original {
            record.field(27, original.as_bytes());
        }
        record.finish()
    }

    /// Parses the plaintext record.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode_record(bytes: &[u8]) -> Result<Self, DecodeError> {
        let record = Record::parse(bytes, "snapshot")?;
        if record.array(17)? != [HASH_BLAKE3_KEYED] {
            return Err(DecodeError::invalid("snapshot", "its hash is unknown"));
        }
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| DecodeError::invalid("snapshot", "a text is not UTF-8"))
        };
        Ok(Self {
            session: SessionId::new(record.array(1)?),
            started: decode_time(record.array(2)?)?,
            finished: decode_time(record.array(3)?)?,
            tree: BlobId::new(record.array(4)?),
            hints: BlobId::new(record.array(5)?),
            links: BlobId::new(record.array(6)?),
            pack_set: BlobId::new(record.array(7)?),
            ref_packs: decode_list(record.reader(8)?, 50, PackRef::decode)?,
            sources: decode_list(record.reader(9)?, 1, |reader| {
                let length = reader.left();
                Ok(reader.bytes(length)?.to_vec())
            })?,
            host: record.text(10)?,
            host_id: record.array(11)?,
            user: record.text(12)?,
            tags: decode_list(record.reader(13)?, 1, |reader| {
                let length = reader.left();
                text(reader.bytes(length)?)
            })?,
            owners: OwnerNames {
                users: decode_owners(record.reader(14)?)?,
                groups: decode_owners(record.reader(15)?)?,
            },
            chunker: RecordedChunker(record.array(16)?),
            chain: Chain {
                writer: WriterId::new(record.array(18)?),
                sequence: record.integer(19)?,
                previous: record.optional_array(20)?.map(SnapshotId::new),
                parents: decode_list(record.reader(21)?, 32, |reader| {
                    Ok(SnapshotId::new(reader.array()?))
                })?,
                generation: record.integer(22)?,
                heads: decode_heads(record.reader(23)?)?,
            },
            totals: decode_totals(record.reader(24)?)?,
            flags: SnapshotFlags(record.integer(25)?),
            program: record.text(26)?,
            original: record.optional_array(27)?.map(SnapshotId::new),
        })
    }
}

/// A snapshot says more than one may: too many or too long sources, tags, names or packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot's record has {bytes} bytes, and 16 MiB is the most that a reader takes")]
pub struct TooLong {
    /// Bytes of the record.
    pub bytes: usize,
}

pub(crate) fn encode_time(time: Timestamp) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (seconds, nanos) = bytes.split_at_mut(8);
    seconds.copy_from_slice(&time.seconds.to_le_bytes());
    nanos.copy_from_slice(&time.nanos.to_le_bytes());
    bytes
}

pub(crate) fn decode_time(bytes: [u8; 12]) -> Result<Timestamp, DecodeError> {
    let mut reader = Reader::new(&bytes, "time");
    let time = Timestamp { seconds: reader.u64()?.cast_signed(), nanos: reader.u32()? };
    if time.nanos >= 1_000_000_000 {
        return Err(reader.invalid("it has more than a second of nanoseconds"));
    }
    Ok(time)
}

pub(crate) fn encode_list<T>(items: &[T], mut encode: impl FnMut(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    out.varint(items.len() as u64);
    items.iter().for_each(|item| encode(item, &mut out));
    out
}

pub(crate) fn decode_list<T>(
    mut reader: Reader<'_>,
    item_bytes_min: usize,
    mut decode: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(usize::MAX, item_bytes_min)?;
    let items = (0..count).map(|_| decode(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(items)
}

fn decode_heads(reader: Reader<'_>) -> Result<Vec<Head>, DecodeError> {
    let heads = decode_list(reader, 49, |reader| {
        Ok(Head {
            writer: WriterId::new(reader.array()?),
            sequence: reader.varint()?,
            snapshot: SnapshotId::new(reader.array()?),
        })
    })?;
    if heads.len() > SNAPSHOT_HEADS_MAX {
        return Err(DecodeError::invalid("snapshot", "it names too many heads"));
    }
    Ok(heads)
}

fn encode_owners(names: &[(u32, String)]) -> Vec<u8> {
    encode_list(names, |(number, name), out| {
        out.varint(u64::from(*number));
        out.bytes(name.as_bytes());
    })
}

fn decode_owners(reader: Reader<'_>) -> Result<Vec<(u32, String)>, DecodeError> {
    decode_list(reader, 2, |reader| {
        let number = reader.varint_u32()?;
        let length = reader.left();
        let name = String::from_utf8(reader.bytes(length)?.to_vec())
            .map_err(|_| DecodeError::invalid("snapshot", "the name of an owner is not UTF-8"))?;
        Ok((number, name))
    })
}

fn decode_totals(reader: Reader<'_>) -> Result<Totals, DecodeError> {
    let values = decode_list(reader, 1, |reader| reader.varint())?;
    let mut values = values.into_iter().chain(std::iter::repeat(0));
    let mut next = || values.next().unwrap_or_default();
    Ok(Totals {
        files: next(),
        directories: next(),
        others: next(),
        bytes: next(),
        files_new: next(),
        files_changed: next(),
        bytes_added: next(),
        bytes_stored: next(),
        errors: next(),
    })
}

/// Longest plaintext of a snapshot, in bytes: that of its stored form.
const BODY_BYTES_MAX: usize = 16 << 20;
const CONTEXT: &str = "snapshot";
const HASH_BLAKE3_KEYED: u8 = 1;

#[cfg(test)]
mod tests;
