//! Sessions and their outcomes: a run announces itself, and ends in exactly one way.
//! Spec: `docs/format/commit.md`, sections 1 and 2.

use crate::encoding::{DecodeError, Record, RecordWriter};
use crate::id::{SessionId, SnapshotId, WriterId};
use crate::key::{KeyError, RepositoryKeys, Role, Signer, Verifier};
use crate::object::{ObjectKind, sign, verify};

/// A run's claim on the repository, announced before its first write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its random name.
    pub id: SessionId,
    /// The newest gc round that had a condemn list when it was announced; 0 for none.
    pub round: u64,
    /// When it began by the writer's clock, seconds since 1970.
    pub started: i64,
    /// Who writes.
    pub writer: WriterId,
}

impl Session {
    /// The stored form, signed by the writer.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys, signer: &Signer) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record
            .field(1, self.id.as_bytes())
            .integer(2, self.round)
            .field(3, &self.started.to_le_bytes());
        sign(ObjectKind::Session, keys.repository(), signer, &record.finish())
    }

    /// Parses and verifies the object stored for session `id`.
    ///
    /// # Errors
    /// When it is malformed, unsigned or of another session.
    pub fn decode(verifier: &Verifier, id: SessionId, bytes: &[u8]) -> Result<Self, KeyError> {
        let (body, certificate) = verify(ObjectKind::Session, verifier, Role::Writer, bytes)?;
        let record = Record::parse(body, "session")?;
        let session = Self {
            id: SessionId::new(record.array(1)?),
            round: record.integer(2)?,
            started: i64::from_le_bytes(record.array(3)?),
            writer: certificate.public.writer_id(),
        };
        if session.id != id {
            return Err(DecodeError::invalid("session", "it is of another name").into());
        }
        Ok(session)
    }
}

/// How a session ended. Whoever creates the object first decides, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The session's snapshot is committed.
    Commit(SnapshotId),
    /// Gc has declared the session over; nothing of it is committed.
    Fenced,
}

impl Outcome {
    /// The stored form, at most [`Self::BYTES_MAX`] bytes. A commit is signed by the session's writer, a fence
    /// by the maintenance key.
    #[must_use]
    pub fn encode(self, keys: &RepositoryKeys, signer: &Signer, session: SessionId) -> Vec<u8> {
        let mut body = session.as_bytes().to_vec();
        if let Self::Commit(snapshot) = self {
            body.extend_from_slice(snapshot.as_bytes());
        }
        sign(ObjectKind::Outcome, keys.repository(), signer, &body)
    }

    /// Parses and verifies the outcome stored for `session`.
    ///
    /// # Errors
    /// When it is malformed, unsigned or of another session.
    pub fn decode(verifier: &Verifier, session: SessionId, bytes: &[u8]) -> Result<Self, KeyError> {
        Self::decode_signed(verifier, session, bytes).map(|(outcome, _)| outcome)
    }

    /// As [`decode`](Self::decode), and tells who signed: a commit counts only when its signer wrote
    /// the session and the snapshot.
    ///
    /// # Errors
    /// When it is malformed, unsigned or of another session.
    pub fn decode_signed(
        verifier: &Verifier,
        session: SessionId,
        bytes: &[u8],
    ) -> Result<(Self, WriterId), KeyError> {
        let (body, certificate, outcome) =
            match verify(ObjectKind::Outcome, verifier, Role::Writer, bytes) {
                Ok((body, certificate)) => {
                    let snapshot = body.get(16..).and_then(|bytes| bytes.try_into().ok());
                    (body, certificate, snapshot.map(|bytes| Self::Commit(SnapshotId::new(bytes))))
                }
                Err(_) => {
                    let (body, certificate) =
                        verify(ObjectKind::Outcome, verifier, Role::Maintenance, bytes)?;
                    (body, certificate, (body.len() == 16).then_some(Self::Fenced))
                }
            };
        if body.get(..16) != Some(&session.as_bytes()[..]) {
            return Err(DecodeError::invalid("outcome", "it is of another session").into());
        }
        let outcome = outcome.ok_or(DecodeError::invalid("outcome", "its length does not fit"))?;
        Ok((outcome, certificate.public.writer_id()))
    }

    /// Longest stored form, in bytes.
    pub const BYTES_MAX: u64 = 256;
}

#[cfg(test)]
mod tests;
