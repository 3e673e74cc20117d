//! Small objects: what each is called, and the two envelopes they come in.
//!
//! *Signed* objects are plain to read, for those who collect garbage or keep replicas without keys:
//! sessions, outcomes, gc lists. *Sealed* objects are encrypted: snapshots and index segments.
//! Spec: `docs/format/layout.md`, sections 1 and 4.

use crate::encoding::{DecodeError, Reader, Write, stored_length};
use crate::group::{Compression, GroupCompressor, GroupDecompressor, SUITE};
use crate::id::{ObjectId, PackId, RepositoryId, SessionId, SnapshotId, WriterId};
use crate::key::{
    Certificate, Class, ClassSecret, KeyError, RepositoryKeys, Role, Secret, Signer, Verifier,
    open_once, seal_once,
};
use crate::limits::WRAPPED_BYTES_MAX;

/// What a small object is. The number is stored, authenticated, in its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A run's claim: announced before its first write.
    Session = 1,
    /// How a session ended: the commit, or a fence.
    Outcome = 2,
    /// A snapshot.
    Snapshot = 3,
    /// A segment of the index.
    Index = 4,
    /// A snapshot that was forgotten.
    Retired = 5,
    /// Packs proposed for removal in one round of gc.
    Condemn = 6,
    /// Packs that one round of gc decided to remove.
    Verdict = 7,
    /// Where blobs of a removed or damaged pack are now.
    Relocation = 8,
    /// A reader's claim on snapshots.
    ReadSession = 9,
    /// One record of the audit log.
    Log = 10,
    /// A snapshot that is gone without having been retired, accepted as such.
    Lost = 11,
}

/// Names of objects. Every name is lowercase hex and dashes under one prefix for each kind.
pub mod name {
    use super::{ObjectId, PackId, SessionId, SnapshotId, WriterId};

    /// The config.
    pub const CONFIG: &str = "config";
    /// Prefix of revisions of the config.
    pub const REVISIONS: &str = "revisions/";
    /// Number of the config among its revisions: under it, its second copy is stored.
    pub const FIRST_REVISION: u64 = 1;
    /// Prefix of key slots.
    pub const KEYS: &str = "keys/";
    /// Prefix of sessions.
    pub const SESSIONS: &str = "sessions/";
    /// Prefix of outcomes.
    pub const OUTCOMES: &str = "outcomes/";
    /// Prefix of packs.
    pub const PACKS: &str = "packs/";
    /// Prefix of index segments.
    pub const INDEX: &str = "index/";
    /// Prefix of snapshots.
    pub const SNAPSHOTS: &str = "snapshots/";
    /// Prefix of retired snapshots.
    pub const RETIRED: &str = "retired/";
    /// Prefix of condemn lists.
    pub const CONDEMN: &str = "condemn/";
    /// Prefix of verdicts.
    pub const VERDICT: &str = "verdict/";
    /// Prefix of relocations.
    pub const RELOCATIONS: &str = "relocations/";
    /// Prefix of read sessions.
    pub const READERS: &str = "readers/";
    /// Prefix of the audit log.
    pub const LOG: &str = "log/";
    /// Prefix of lost snapshots.
    pub const LOST: &str = "lost/";
    /// Prefix of what gc puts and removes again to see whether a store may be trusted.
    pub const PROBE: &str = "probe/";

    /// Prefix of the pieces of the reserve.
    pub const RESERVE: &str = "reserve/";
    /// Prefix of what a repair made of damaged objects; their own names follow.
    pub const REPAIRED: &str = "repaired/";

    /// Name of what a repair made of a damaged object that is no pack.
    #[must_use]
    pub fn repaired(object: &str) -> String {
        format!("{REPAIRED}{object}")
    }
    /// Name of a revision of the config.
    #[must_use]
    pub fn revision(number: u64) -> String {
        format!("{REVISIONS}{number:016x}")
    }
    /// Name of a key slot.
    #[must_use]
    pub fn key(id: ObjectId) -> String {
        format!("{KEYS}{id}")
    }
    /// Name of a session.
    #[must_use]
    pub fn session(id: SessionId) -> String {
        format!("{SESSIONS}{id}")
    }
    /// Name of a session's outcome.
    #[must_use]
    pub fn outcome(id: SessionId) -> String {
        format!("{OUTCOMES}{id}")
    }
    /// Name of a pack.
    #[must_use]
    pub fn pack(session: SessionId, pack: PackId) -> String {
        format!("{PACKS}{session}/{pack}")
    }
    /// Name of an index segment.
    #[must_use]
    pub fn index(id: ObjectId) -> String {
        format!("{INDEX}{id}")
    }
    /// Name of a snapshot.
    #[must_use]
    pub fn snapshot(id: SnapshotId) -> String {
        format!("{SNAPSHOTS}{id}")
    }
    /// Name of the record that retires a snapshot.
    #[must_use]
    pub fn retired(id: SnapshotId) -> String {
        format!("{RETIRED}{id}")
    }
    /// Name of the condemn list of a round.
    #[must_use]
    pub fn condemn(round: u64) -> String {
        format!("{CONDEMN}{round:016x}")
    }
    /// Name of the verdict of a round.
    #[must_use]
    pub fn verdict(round: u64) -> String {
        format!("{VERDICT}{round:016x}")
    }
    /// Name of a relocation.
    #[must_use]
    pub fn relocation(id: ObjectId) -> String {
        format!("{RELOCATIONS}{id}")
    }
    /// Name of a read session.
    #[must_use]
    pub fn reader(id: SessionId) -> String {
        format!("{READERS}{id}")
    }
    /// Name of a record of a writer's audit log.
    #[must_use]
    pub fn log(writer: WriterId, sequence: u64) -> String {
        format!("{LOG}{writer}/{sequence:016x}")
    }
    /// Name of the record that accepts the loss of a snapshot.
    #[must_use]
    pub fn lost(id: SnapshotId) -> String {
        format!("{LOST}{id}")
    }
    /// Name of a probe.
    #[must_use]
    pub fn probe(random: &[u8; 16]) -> String {
        format!("{PROBE}{}", SessionId::new(*random))
    }
    /// Name of a piece of the reserve.
    #[must_use]
    pub fn reserve(piece: u64) -> String {
        format!("{RESERVE}{piece:016x}")
    }
}

/// The id of an object whose name is the hash of its bytes.
#[must_use]
pub fn object_id(bytes: &[u8]) -> ObjectId {
    ObjectId::new(*blake3::hash(bytes).as_bytes())
}

/// Wraps `body` in a signed envelope.
#[must_use]
pub fn sign(kind: ObjectKind, repository: RepositoryId, signer: &Signer, body: &[u8]) -> Vec<u8> {
    let mut out = header(kind, repository);
    out.extend_from_slice(&stored_length(body.len()).to_le_bytes());
    out.extend_from_slice(body);
    signer.certificate().encode(&mut out);
    let signature = signer.sign(SIGNED, &[&out]);
    out.extend_from_slice(&signature);
    out
}

/// Opens a signed envelope: checks kind, repository, the signer's certificate for `role`, and the
/// signature. Returns the body.
///
/// # Errors
/// [`KeyError::Signature`] or [`KeyError::Decode`].
pub fn verify<'a>(
    kind: ObjectKind,
    verifier: &Verifier,
    role: Role,
    bytes: &'a [u8],
) -> Result<(&'a [u8], Certificate), KeyError> {
    let mut reader = read_header(kind, verifier.repository, bytes)?;
    let length = reader.u32()? as usize;
    let body = reader.take(length)?;
    let certificate = Certificate::decode(&mut reader, verifier, role)?;
    let signed = bytes.len().saturating_sub(reader.left());
    let signature = reader.array()?;
    reader.finish()?;
    let signed = bytes.get(..signed).unwrap_or_default();
    certificate.public.verify(SIGNED, &[signed], &signature)?;
    Ok((body, certificate))
}

/// What a sealed object is sealed under.
#[derive(Debug, Clone, Copy)]
pub enum SealedUnder<'a> {
    /// The session's secret of a class, which travels wrapped in the envelope.
    Session(&'a ClassSecret),
    /// The repository's index secret.
    Index(&'a Secret, SessionId),
}

/// Seals `body`, compressed where that pays, in an envelope. `random` is fresh.
#[must_use]
pub fn seal(
    kind: ObjectKind,
    repository: RepositoryId,
    under: SealedUnder<'_>,
    random: &[u8; 32],
    body: &[u8],
) -> Vec<u8> {
    let (secret, session, class, wrapped) = match under {
        SealedUnder::Session(secret) => {
            (&secret.secret, secret.session, secret.class as u8, secret.wrapped.as_slice())
        }
        SealedUnder::Index(secret, session) => (secret, session, 0, &[][..]),
    };
    let mut out = header(kind, repository);
    out.push(SUITE);
    out.push(class);
    out.extend_from_slice(session.as_bytes());
    out.extend_from_slice(&secret.commitment());
    write_wrapped(wrapped, &mut out);
    // The salt covers the body and all that is authenticated with it, so a stuck random source
    // cannot reuse a key.
    let salt = secret.derive("lastgood 2026-11 v1 object salt", &[random, &out, body]);
    out.extend_from_slice(salt.expose());

    let mut compressor = GroupCompressor::new(3);
    let (compression, stored) = compressor.compress(body);
    let mut sealed = Vec::with_capacity(stored.len().saturating_add(32));
    sealed.push(compression as u8);
    sealed.extend_from_slice(&stored_length(body.len()).to_le_bytes());
    sealed.extend_from_slice(stored);
    let key = secret.derive("lastgood 2026-11 v1 object key", &[salt.expose()]);
    seal_once(&key, &out, &mut sealed);
    out.extend_from_slice(&sealed);
    out
}

/// Signs `record` in the context of `kind`, and seals it with certificate and signature.
#[must_use]
pub(crate) fn seal_signed(
    kind: ObjectKind,
    context: &str,
    keys: &RepositoryKeys,
    signer: &Signer,
    secret: &ClassSecret,
    random: &[u8; 32],
    record: &[u8],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(record.len().saturating_add(256));
    body.bytes(record);
    signer.certificate().encode(&mut body);
    let signature = signer.sign(context, &[keys.repository().as_bytes(), &body]);
    body.extend_from_slice(&signature);
    seal(kind, keys.repository(), SealedUnder::Session(secret), random, &body)
}

/// Opens what [`seal_signed`] made for a writer: its record and who signed it.
///
/// # Errors
/// As [`open`], and [`KeyError::Signature`] when it was not signed by a writer.
pub(crate) fn open_signed(
    kind: ObjectKind,
    context: &str,
    keys: &RepositoryKeys,
    body_bytes_max: usize,
    bytes: &[u8],
) -> Result<(Vec<u8>, Certificate), KeyError> {
    let body = open(kind, keys, body_bytes_max, bytes)?;
    let mut reader = Reader::new(&body, "signed record");
    let length = reader.left();
    let record = reader.bytes(length)?.to_vec();
    let certificate = Certificate::decode(&mut reader, keys.verifier(), Role::Writer)?;
    let signed = body.get(..body.len().saturating_sub(reader.left())).unwrap_or_default();
    let signature = reader.array()?;
    reader.finish()?;
    certificate.public.verify(context, &[keys.repository().as_bytes(), signed], &signature)?;
    Ok((record, certificate))
}

/// Opens a sealed envelope of at most `body_bytes_max` bytes of body.
///
/// # Errors
/// [`KeyError::Forged`] when it was changed or belongs elsewhere; [`KeyError::Decode`].
pub fn open(
    kind: ObjectKind,
    keys: &RepositoryKeys,
    body_bytes_max: usize,
    bytes: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let mut reader = read_header(kind, keys.repository(), bytes)?;
    if reader.u8()? != SUITE {
        return Err(reader.invalid("its cipher suite is unknown").into());
    }
    let class = reader.u8()?;
    let session = SessionId::new(reader.array()?);
    let commitment: [u8; 32] = reader.array()?;
    let wrapped_bytes = usize::from(reader.u16()?);
    if wrapped_bytes > WRAPPED_BYTES_MAX {
        return Err(reader.invalid("its wrapped secret is too long").into());
    }
    let wrapped = reader.take(wrapped_bytes)?;
    let secret = match (kind, class) {
        (ObjectKind::Index, 0) if wrapped.is_empty() => {
            keys.index_of(&commitment, || object_id(bytes))?.clone()
        }
        (ObjectKind::Snapshot | ObjectKind::Log, class) if class == Class::Meta as u8 => {
            ClassSecret::open(keys, Class::Meta, session, wrapped, &commitment)?.secret.clone()
        }
        _ => return Err(KeyError::Forged),
    };
    let salt: [u8; 32] = reader.array()?;
    let aad = bytes.get(..bytes.len().saturating_sub(reader.left())).unwrap_or_default();
    let mut sealed = reader.rest().to_vec();
    let key = secret.derive("lastgood 2026-11 v1 object key", &[&salt]);
    let plain = open_once(&key, aad, &mut sealed)?;

    let mut reader = Reader::new(plain, "sealed object");
    let compression = Compression::from_u8(reader.u8()?)?;
    let raw_bytes = reader.u32()? as usize;
    let mut body = Vec::new();
    GroupDecompressor::default().decompress_max(
        body_bytes_max,
        compression,
        &mut reader.rest().to_vec(),
        raw_bytes,
        &mut body,
    )?;
    Ok(body)
}

/// The session that a sealed envelope names; nobody has verified that.
#[must_use]
pub fn session_of(bytes: &[u8]) -> Option<SessionId> {
    bytes.get(26..).and_then(|rest| rest.first_chunk()).map(|id| SessionId::new(*id))
}

/// Appends a wrapped secret with its two-byte length in front.
pub(crate) fn write_wrapped(wrapped: &[u8], out: &mut Vec<u8>) {
    assert!(wrapped.len() <= WRAPPED_BYTES_MAX, "a wrapped secret exceeds its limit");
    let [low, high, ..] = stored_length(wrapped.len()).to_le_bytes();
    out.extend_from_slice(&[low, high]);
    out.extend_from_slice(wrapped);
}

fn header(kind: ObjectKind, repository: RepositoryId) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT, kind as u8]);
    out.extend_from_slice(repository.as_bytes());
    out
}

fn read_header(
    kind: ObjectKind,
    repository: RepositoryId,
    bytes: &[u8],
) -> Result<Reader<'_>, KeyError> {
    let mut reader = Reader::new(bytes, "object");
    if reader.array::<6>()? != MAGIC {
        return Err(reader.invalid("it does not start with the magic of an object").into());
    }
    let version = reader.u8()?;
    if version != FORMAT {
        return Err(DecodeError::TooNew { what: "object", version, known: FORMAT }.into());
    }
    if reader.u8()? != kind as u8 {
        return Err(reader.invalid("it is of another kind than its name says").into());
    }
    if reader.array::<16>()? != *repository.as_bytes() {
        return Err(reader.invalid("it belongs to another repository").into());
    }
    Ok(reader)
}

const FORMAT: u8 = 1;
const MAGIC: [u8; 6] = *b"lgobj\n";
const SIGNED: &str = "signed object";

#[cfg(test)]
mod tests;
