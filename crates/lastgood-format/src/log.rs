//! The audit log: what was done to a repository, a chain of records for each writer.
//! Spec: `docs/format/log.md`.

use crate::encoding::{DecodeError, Record, RecordWriter, Write};
use crate::entry::Timestamp;
use crate::id::{ObjectId, SnapshotId, WriterId};
use crate::key::{ClassSecret, KeyError, RepositoryKeys, Signer};
use crate::limits::{LOG_COUNTS_MAX, LOG_SNAPSHOTS_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::object::{ObjectKind, open_signed, seal_signed};
use crate::snapshot::{decode_list, decode_time, encode_list, encode_time};

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Who did it, and signed.
    pub writer: WriterId,
    /// Place in the writer's log, from 1.
    pub sequence: u64,
    /// Hash of the writer's record before, as it is stored.
    pub previous: Option<ObjectId>,
    /// When it began by the writer's clock.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// What was done: `backup`, `forget`, `key-add` ….
    pub verb: String,
    /// How it ended.
    pub ending: Ending,
    /// Name of the host.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Version of the program.
    pub program: String,
    /// The snapshots it made, read or retired; the first ones where they are too many.
    pub snapshots: Vec<SnapshotId>,
    /// Counts by name.
    pub counts: Vec<(String, u64)>,
    /// What else is to be said, for people.
    pub note: String,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All of it was done.
    Done,
    /// It was done, and something could not be read or set.
    Incomplete,
    /// It failed.
    Failed,
    /// The user ended it.
    Cancelled,
    /// A later release knows.
    Other(u64),
}

impl Ending {
    const fn number(self) -> u64 {
        match self {
            Self::Done => 1,
            Self::Incomplete => 2,
            Self::Failed => 3,
            Self::Cancelled => 4,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Done,
            2 => Self::Incomplete,
            3 => Self::Failed,
            4 => Self::Cancelled,
            other => Self::Other(other),
        }
    }
}

impl LogRecord {
    /// The stored form: signed by the writer, sealed under a metadata secret of its own.
    ///
    /// # Panics
    /// When it says more than a reader takes; see [`LOG_SNAPSHOTS_MAX`] and [`LOG_COUNTS_MAX`].
    #[must_use]
    pub fn encode(
        &self,
        keys: &RepositoryKeys,
        signer: &Signer,
        secret: &ClassSecret,
        random: &[u8; 32],
    ) -> Vec<u8> {
        assert!(self.snapshots.len() <= LOG_SNAPSHOTS_MAX, "a record names too many snapshots");
        assert!(self.counts.len() <= LOG_COUNTS_MAX, "a record has too many counts");
        let record = self.encode_record();
        assert!(record.len() <= BODY_BYTES_MAX - 4096, "a record of the log is too long");
        seal_signed(ObjectKind::Log, CONTEXT, keys, signer, secret, random, &record)
    }

    /// Opens, verifies and parses the record stored for `writer` and `sequence`.
    ///
    /// # Errors
    /// When it was changed, is of another repository, writer or place, or was not signed by the
    /// writer.
    pub fn decode(
        keys: &RepositoryKeys,
        writer: WriterId,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let (record, signer) = open_signed(ObjectKind::Log, CONTEXT, keys, BODY_BYTES_MAX, bytes)?;
        let record = Self::decode_record(&record)?;
        if record.writer != signer.public.writer_id() {
            return Err(KeyError::Signature);
        }
        if (record.writer, record.sequence) != (writer, sequence) {
            return Err(DecodeError::invalid("log record", "it is of another name").into());
        }
        keys.verifier()
            .allow(&signer, |inventory| inventory.log.get(&writer) >= Some(&sequence))?;
        Ok(record)
    }

    /// The plaintext record, as it is before it is signed and sealed.
    #[must_use]
    pub fn encode_record(&self) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record.field(1, self.writer.as_bytes()).integer(2, self.sequence);
        if let Some(previous) = self.previous {
            record.field(3, previous.as_bytes());
        }
        record
            .field(4, &encode_time(self.began))
            .field(5, &encode_time(self.ended))
            .field(6, self.verb.as_bytes())
            .integer(7, self.ending.number())
            .field(8, self.host.as_bytes())
            .field(9, self.user.as_bytes())
            .field(10, self.program.as_bytes())
            .field(11, &encode_list(&self.snapshots, |id, out| out.extend(id.as_bytes())))
            .field(
                12,
                &encode_list(&self.counts, |(name, count), out| {
                    out.bytes(name.as_bytes());
                    out.varint(*count);
                }),
            )
            .field(13, self.note.as_bytes());
        record.finish()
    }

    /// Parses the plaintext record.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode_record(bytes: &[u8]) -> Result<Self, DecodeError> {
        let record = Record::parse(bytes, "log record")?;
        let too_many = DecodeError::invalid("log record", "it says too much");
        let snapshots =
            decode_list(record.reader(11)?, 32, |reader| Ok(SnapshotId::new(reader.array()?)))?;
        let counts = decode_list(record.reader(12)?, 2, |reader| {
            let length = reader.left();
            let name = String::from_utf8(reader.bytes(length)?.to_vec())
                .map_err(|_| DecodeError::invalid("log record", "a text is not UTF-8"))?;
            Ok((name, reader.varint()?))
        })?;
        if snapshots.len() > LOG_SNAPSHOTS_MAX || counts.len() > LOG_COUNTS_MAX {
            return Err(too_many);
        }
        Ok(Self {
            writer: WriterId::new(record.array(1)?),
            sequence: record.integer(2)?,
            previous: record.optional_array(3)?.map(ObjectId::new),
            began: decode_time(record.array(4)?)?,
            ended: decode_time(record.array(5)?)?,
            verb: record.text(6)?,
            ending: Ending::from_number(record.integer(7)?),
            host: record.text(8)?,
            user: record.text(9)?,
            program: record.text(10)?,
            snapshots,
            counts,
            note: record.text(13)?,
        })
    }
}

/// Longest plaintext of a record, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "64 KiB")]
const BODY_BYTES_MAX: usize = SMALL_OBJECT_BYTES_MAX as usize;
const CONTEXT: &str = "log record";

#[cfg(test)]
mod tests;
