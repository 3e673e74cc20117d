//! What garbage collection writes: retired snapshots, condemn lists, verdicts, relocations, and
//! readers' claims. Spec: `docs/format/commit.md`, sections 4 to 8.

use crate::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use crate::id::{BlobId, PackId, SessionId, SnapshotId};
use crate::key::{KeyError, RepositoryKeys, Role, Signer};
use crate::object::{ObjectKind, sign, verify};

/// Where a pack lies: verdicts name places, so a late removal never hits a healed copy elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackLocation {
    /// The session whose folder it is in.
    pub session: SessionId,
    /// The pack.
    pub pack: PackId,
}

/// Says that a snapshot was forgotten, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When, seconds since 1970.
    pub time: i64,
    /// Why, for people.
    pub reason: String,
    /// The snapshot that stands in its place (a changed tag), if any.
    pub replaced_by: Option<SnapshotId>,
}

impl Retired {
    /// The stored form, signed by the maintenance key.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record
            .field(1, self.snapshot.as_bytes())
            .field(2, &self.time.to_le_bytes())
            .field(3, self.reason.as_bytes());
        if let Some(id) = self.replaced_by {
            record.field(4, id.as_bytes());
        }
        sign(ObjectKind::Retired, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies.
    ///
    /// # Errors
    /// When it is malformed or not signed by the maintenance key.
    pub fn decode(keys: &RepositoryKeys, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, _) = verify(ObjectKind::Retired, keys, Role::Maintenance, bytes)?;
        let record = Record::parse(body, "retired snapshot")?;
        Ok(Self {
            snapshot: SnapshotId::new(record.array(1)?),
            time: i64::from_le_bytes(record.array(2)?),
            reason: record.text(3)?,
            replaced_by: record.optional_array(4)?.map(SnapshotId::new),
        })
    }
}

/// The packs of one round of gc: proposed (condemned) or decided (verdict).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundList {
    /// Number of the round, from 1.
    pub round: u64,
    /// The packs, sorted.
    pub packs: Vec<PackLocation>,
}

impl RoundList {
    /// The stored form of a condemn list or a verdict, signed by the maintenance key.
    #[must_use]
    pub fn encode(&self, kind: ObjectKind, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let mut packs = Vec::with_capacity(self.packs.len().saturating_mul(48));
        packs.varint(self.packs.len() as u64);
        for pack in &self.packs {
            packs.extend_from_slice(pack.session.as_bytes());
            packs.extend_from_slice(pack.pack.as_bytes());
        }
        let mut record = RecordWriter::default();
        record.integer(1, self.round).field(2, &packs);
        sign(kind, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies the list of `kind` stored for `round`.
    ///
    /// # Errors
    /// When it is malformed, of another round, or not signed by the maintenance key.
    pub fn decode(
        kind: ObjectKind,
        keys: &RepositoryKeys,
        round: u64,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let (body, _) = verify(kind, keys, Role::Maintenance, bytes)?;
        let record = Record::parse(body, "gc list")?;
        let mut reader = record.reader(2)?;
        let count = reader.count(usize::MAX >> 8, 48)?;
        let packs = (0..count)
            .map(|_| {
                Ok(PackLocation {
                    session: SessionId::new(reader.array()?),
                    pack: PackId::new(reader.array()?),
                })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        reader.finish()?;
        if record.integer(1)? != round || !packs.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::invalid("gc list", "its round or order does not fit").into());
        }
        Ok(Self { round, packs })
    }
}

/// Where the blobs of one pack were moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// The pack they were in.
    pub from: PackLocation,
    /// Each blob and the pack it is in now, sorted by blob.
    pub blobs: Vec<(BlobId, PackLocation)>,
}

impl Relocation {
    /// The stored form, signed by the maintenance key.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let mut blobs = Vec::with_capacity(self.blobs.len().saturating_mul(80));
        blobs.varint(self.blobs.len() as u64);
        for (blob, place) in &self.blobs {
            blobs.extend_from_slice(blob.as_bytes());
            blobs.extend_from_slice(place.session.as_bytes());
            blobs.extend_from_slice(place.pack.as_bytes());
        }
        let mut record = RecordWriter::default();
        record
            .field(1, self.from.session.as_bytes())
            .field(2, self.from.pack.as_bytes())
            .field(3, &blobs);
        sign(ObjectKind::Relocation, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies.
    ///
    /// # Errors
    /// When it is malformed or not signed by the maintenance key.
    pub fn decode(keys: &RepositoryKeys, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, _) = verify(ObjectKind::Relocation, keys, Role::Maintenance, bytes)?;
        let record = Record::parse(body, "relocation")?;
        let place = |reader: &mut Reader<'_>| {
            Ok(PackLocation {
                session: SessionId::new(reader.array()?),
                pack: PackId::new(reader.array()?),
            })
        };
        let mut reader = record.reader(3)?;
        let count = reader.count(usize::MAX >> 8, 80)?;
        let blobs = (0..count)
            .map(|_| Ok((BlobId::new(reader.array()?), place(&mut reader)?)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        reader.finish()?;
        if !blobs.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::invalid("relocation", "its blobs are out of order").into());
        }
        let from = PackLocation {
            session: SessionId::new(record.array(1)?),
            pack: PackId::new(record.array(2)?),
        };
        Ok(Self { from, blobs })
    }
}

/// A long restore's or mount's claim: gc counts its snapshots as live while it is not fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSession {
    /// Its random name; its outcome, when fenced, is `outcomes/<id>`.
    pub id: SessionId,
    /// When it began, seconds since 1970.
    pub started: i64,
    /// The snapshots it reads.
    pub snapshots: Vec<SnapshotId>,
}

impl ReadSession {
    /// The stored form, signed by a writer.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let snapshots: Vec<u8> =
            self.snapshots.iter().flat_map(|id| id.as_bytes()).copied().collect();
        let mut record = RecordWriter::default();
        record
            .field(1, self.id.as_bytes())
            .field(2, &self.started.to_le_bytes())
            .field(3, &snapshots);
        sign(ObjectKind::ReadSession, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies the object stored for read session `id`.
    ///
    /// # Errors
    /// When it is malformed, unsigned or of another name.
    pub fn decode(keys: &RepositoryKeys, id: SessionId, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, _) = verify(ObjectKind::ReadSession, keys, Role::Writer, bytes)?;
        let record = Record::parse(body, "read session")?;
        let (snapshots, rest) = record.required(3)?.as_chunks::<32>();
        if SessionId::new(record.array(1)?) != id || !rest.is_empty() {
            return Err(DecodeError::invalid("read session", "its name or length is off").into());
        }
        Ok(Self {
            id,
            started: i64::from_le_bytes(record.array(2)?),
            snapshots: snapshots.iter().map(|bytes| SnapshotId::new(*bytes)).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
