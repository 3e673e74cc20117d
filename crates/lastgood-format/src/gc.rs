//! What garbage collection writes: retired snapshots, condemn lists, verdicts, relocations, and
//! readers' claims. Spec: `docs/format/commit.md`, sections 4 to 8.

use crate::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use crate::id::{PackId, SessionId, SnapshotId, WriterId};
use crate::key::{Inventory, KeyError, RepositoryKeys, Role, Signer, Verifier};
use crate::object::{ObjectKind, object_id, sign, verify};

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
    /// Its place in its writer's chain, which this record explains the gap in.
    pub link: Option<ChainLink>,
}

/// A snapshot's place in the chain of its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLink {
    /// The writer.
    pub writer: WriterId,
    /// Sequence in the writer's chain, from 1.
    pub sequence: u64,
    /// The writer's snapshot before.
    pub previous: Option<SnapshotId>,
}

impl ChainLink {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.writer.as_bytes().to_vec();
        out.varint(self.sequence);
        out.extend(self.previous.iter().flat_map(|id| id.as_bytes()));
        out
    }

    fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let (writer, sequence) = (WriterId::new(reader.array()?), reader.varint()?);
        let has_previous = reader.left() > 0;
        let previous = has_previous.then(|| reader.array().map(SnapshotId::new)).transpose()?;
        reader.finish()?;
        Ok(Self { writer, sequence, previous })
    }
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
        if let Some(link) = self.link {
            record.field(5, &link.encode());
        }
        sign(ObjectKind::Retired, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies.
    ///
    /// # Errors
    /// When it is malformed or not signed by the maintenance key.
    pub fn decode(verifier: &Verifier, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, signer) = verify(ObjectKind::Retired, verifier, Role::Maintenance, bytes)?;
        let record = Record::parse(body, "retired snapshot")?;
        let link = match record.optional(5) {
            Some(bytes) => Some(ChainLink::decode(Reader::new(bytes, "retired snapshot"))?),
            None => None,
        };
        let snapshot = SnapshotId::new(record.array(1)?);
        // spec: config §5. Old keys have no power over what newer ones made.
        verifier.allow(&signer, |inventory| inventory.retired.contains(&snapshot))?;
        Ok(Self {
            snapshot,
            time: i64::from_le_bytes(record.array(2)?),
            reason: record.text(3)?,
            replaced_by: record.optional_array(4)?.map(SnapshotId::new),
            link,
        })
    }
}

/// Says that a snapshot is gone without having been retired, and that somebody accepts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When that was accepted, seconds since 1970.
    pub time: i64,
    /// By whom, for people.
    pub accepted_by: String,
}

impl Lost {
    /// The stored form, signed by the maintenance key.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record
            .field(1, self.snapshot.as_bytes())
            .field(2, &self.time.to_le_bytes())
            .field(3, self.accepted_by.as_bytes());
        sign(ObjectKind::Lost, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies the object stored for `snapshot`.
    ///
    /// # Errors
    /// When it is malformed, of another snapshot, or not signed by the maintenance key.
    pub fn decode(
        verifier: &Verifier,
        snapshot: SnapshotId,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let (body, signer) = verify(ObjectKind::Lost, verifier, Role::Maintenance, bytes)?;
        let record = Record::parse(body, "lost snapshot")?;
        if SnapshotId::new(record.array(1)?) != snapshot {
            return Err(DecodeError::invalid("lost snapshot", "it is of another snapshot").into());
        }
        verifier.allow(&signer, |inventory| inventory.lost.contains(&snapshot))?;
        Ok(Self {
            snapshot,
            time: i64::from_le_bytes(record.array(2)?),
            accepted_by: record.text(3)?,
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
        let mut packs = Vec::with_capacity(self.packs.len().saturating_mul(48).saturating_add(10));
        write_places(&mut packs, &self.packs);
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
        verifier: &Verifier,
        round: u64,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let (body, signer) = verify(kind, verifier, Role::Maintenance, bytes)?;
        let record = Record::parse(body, "gc list")?;
        let mut packs = read_places(record.reader(2)?)?;
        if record.integer(1)? != round {
            return Err(DecodeError::invalid("gc list", "it is of another round").into());
        }
        // spec: config §5. The name is taken, so that it must say something: nothing goes.
        if verifier.allow(&signer, |inventory| round <= inventory.round).is_err() {
            packs.clear();
        }
        Ok(Self { round, packs })
    }
}

/// Packs that were repacked, and the packs that hold now what was live in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// The new places, sorted.
    pub to: Vec<PackLocation>,
    /// The old places, sorted, each with the positions in `to` of what stands in for it, sorted;
    /// none where nothing was live.
    pub moved: Vec<(PackLocation, Vec<u32>)>,
}

impl Relocation {
    /// The stored form, signed by the maintenance key.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let mut to = Vec::new();
        write_places(&mut to, &self.to);
        let mut moved = Vec::new();
        moved.varint(self.moved.len() as u64);
        for (from, positions) in &self.moved {
            write_place(&mut moved, from);
            moved.varint(positions.len() as u64);
            positions.iter().for_each(|position| moved.varint(u64::from(*position)));
        }
        let mut record = RecordWriter::default();
        record.field(1, &to).field(2, &moved);
        sign(ObjectKind::Relocation, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies.
    ///
    /// # Errors
    /// When it is malformed or not signed by the maintenance key.
    pub fn decode(verifier: &Verifier, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, signer) = verify(ObjectKind::Relocation, verifier, Role::Maintenance, bytes)?;
        let was_there = |inventory: &Inventory| inventory.relocations.contains(&object_id(bytes));
        verifier.allow(&signer, was_there)?;
        let record = Record::parse(body, "relocation")?;
        let to = read_places(record.reader(1)?)?;
        let mut reader = record.reader(2)?;
        let count = reader.count(usize::MAX >> 8, 49)?;
        let moved = (0..count)
            .map(|_| {
                let from = read_place(&mut reader)?;
                let count = reader.count(to.len(), 1)?;
                let positions = (0..count)
                    .map(|_| reader.varint_max(to.len().saturating_sub(1)))
                    .map(|position| Ok(u32::try_from(position?).unwrap_or(u32::MAX)))
                    .collect::<Result<Vec<_>, DecodeError>>()?;
                Ok((from, positions))
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        reader.finish()?;
        let is_in_order = moved.is_sorted_by(|a, b| a.0 < b.0)
            && moved.iter().all(|(_, positions)| positions.is_sorted_by(|a, b| a < b));
        if !is_in_order {
            return Err(DecodeError::invalid("relocation", "it is out of order").into());
        }
        Ok(Self { to, moved })
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
    pub fn decode(verifier: &Verifier, id: SessionId, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, _) = verify(ObjectKind::ReadSession, verifier, Role::Writer, bytes)?;
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

fn write_place(out: &mut Vec<u8>, place: &PackLocation) {
    out.extend_from_slice(place.session.as_bytes());
    out.extend_from_slice(place.pack.as_bytes());
}

fn write_places(out: &mut Vec<u8>, places: &[PackLocation]) {
    out.varint(places.len() as u64);
    places.iter().for_each(|place| write_place(out, place));
}

fn read_place(reader: &mut Reader<'_>) -> Result<PackLocation, DecodeError> {
    Ok(PackLocation {
        session: SessionId::new(reader.array()?),
        pack: PackId::new(reader.array()?),
    })
}

/// A whole field of places in order.
fn read_places(mut reader: Reader<'_>) -> Result<Vec<PackLocation>, DecodeError> {
    let count = reader.count(usize::MAX >> 8, 48)?;
    let places =
        (0..count).map(|_| read_place(&mut reader)).collect::<Result<Vec<_>, DecodeError>>()?;
    reader.finish()?;
    if !places.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::invalid("list of places", "it is out of order"));
    }
    Ok(places)
}

#[cfg(test)]
mod tests;
