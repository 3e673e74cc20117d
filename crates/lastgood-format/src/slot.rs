//! Key slots: the root secret, sealed under a passphrase or a key file; and the recovery code.
//! Spec: `docs/format/keys.md`, sections 2 and 3.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use crate::id::RepositoryId;
use crate::key::{KeyError, PublicKey, RepositoryKeys, Secret, open_once, seal_once};
use crate::limits::SMALL_OBJECT_BYTES_MAX;

/// Work factors of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkFactors {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl WorkFactors {
    /// What a new slot uses: about half a second on one core of 2026.
    pub const DEFAULT: Self = Self { memory_kib: 256 << 10, passes: 3, lanes: 1 };
    /// The least a slot may ask for.
    pub const FLOOR: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// The most a slot may ask for.
    pub const CEILING: Self = Self { memory_kib: 4 << 20, passes: 16, lanes: 4 };

    fn check(self) -> Result<Self, KeyError> {
        if self.memory_kib < Self::FLOOR.memory_kib || self.passes < Self::FLOOR.passes {
            return Err(KeyError::WorkFactors("below the floor: somebody weakened this slot"));
        }
        if self.memory_kib > Self::CEILING.memory_kib
            || self.passes > Self::CEILING.passes
            || self.lanes > Self::CEILING.lanes
            || self.lanes == 0
        {
            return Err(KeyError::WorkFactors(
                "above the ceiling: opening it would take all memory",
            ));
        }
        Ok(self)
    }
}

/// What opens a slot.
#[derive(Debug)]
pub enum Credential {
    /// A passphrase of any length; key derivation is deliberately slow.
    Passphrase(Zeroizing<Vec<u8>>),
    /// 32 random bytes from a key file; key derivation is instant.
    KeyFile(Secret),
    /// The root secret itself, as the recovery code gives it.
    Root(Secret),
}

/// Which credential a slot takes, readable without any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A passphrase, with the work it costs to try one.
    Passphrase(WorkFactors),
    /// A key file.
    KeyFile,
}

/// One key slot as stored in `keys/<id>`, where the id is BLAKE3 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// What opens it.
    pub kind: SlotKind,
    /// When it was made, seconds since 1970.
    pub created: i64,
    /// What its owner calls it; authenticated, not secret.
    pub label: String,
    salt: [u8; 32],
    commitment: [u8; 32],
    sealed: [u8; 48],
    signature: [u8; 64],
}

impl KeySlot {
    /// Seals `root` for a credential. `salt` is fresh randomness.
    ///
    /// # Errors
    /// [`KeyError::WorkFactors`] out of bounds; [`KeyError::WrongKey`] for [`Credential::Root`],
    /// which needs no slot.
    pub fn create(
        repository: RepositoryId,
        root: &Secret,
        credential: &Credential,
        work: WorkFactors,
        created: i64,
        label: &str,
        salt: [u8; 32],
    ) -> Result<Self, KeyError> {
        let kind = match credential {
            Credential::Passphrase(_) => SlotKind::Passphrase(work.check()?),
            Credential::KeyFile(_) => SlotKind::KeyFile,
            Credential::Root(_) => return Err(KeyError::WrongKey),
        };
        let mut slot = Self {
            kind,
            created,
            label: label.to_owned(),
            salt,
            commitment: [0; 32],
            sealed: [0; 48],
            signature: [0; 64],
        };
        // The salt covers the secret and all public fields, so a stuck random source cannot reuse a key.
        slot.salt =
            *root.derive("lastgood 2026-11 v1 slot salt", &[&slot.aad(repository)]).expose();
        let key = slot.key(repository, credential)?;
        slot.commitment = key.commitment();
        // With room for the tag: a buffer that grows leaves a copy of what it held.
        let mut sealed = Vec::with_capacity(48);
        sealed.extend_from_slice(root.expose());
        seal_once(&key, &slot.aad(repository), &mut sealed);
        slot.sealed.copy_from_slice(&sealed);
        let signer = RepositoryKeys::new(root.clone(), repository);
        slot.signature = signer
            .root_signer()
            .sign(CONTEXT, &[repository.as_bytes(), &slot.signed_fields().finish()]);
        Ok(slot)
    }

    /// Opens the slot. A passphrase costs the slot's work factors once.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] when the credential is another or of another kind;
    /// [`KeyError::Forged`] when it fits but the slot was tampered with.
    pub fn open(
        &self,
        repository: RepositoryId,
        credential: &Credential,
    ) -> Result<Secret, KeyError> {
        let key = self.key(repository, credential)?;
        if key.commitment() != self.commitment {
            return Err(KeyError::WrongKey);
        }
        let mut sealed = Zeroizing::new(self.sealed);
        let plain = open_once(&key, &self.aad(repository), &mut sealed[..])?;
        Ok(Secret::new((&*plain).try_into().map_err(|_| KeyError::Forged)?))
    }

    /// Checks that the root whose public half the config names made this slot: to be done before
    /// [`open`](Self::open), so that slots which somebody slipped in cost no key derivation.
    ///
    /// # Errors
    /// [`KeyError::Signature`] when it did not.
    pub fn verify(&self, repository: RepositoryId, root: &PublicKey) -> Result<(), KeyError> {
        let signed = self.signed_fields().finish();
        root.verify(CONTEXT, &[repository.as_bytes(), &signed], &self.signature)
    }

    fn key(&self, repository: RepositoryId, credential: &Credential) -> Result<Secret, KeyError> {
        let stretched = match (self.kind, credential) {
            (SlotKind::Passphrase(work), Credential::Passphrase(passphrase)) => {
                let work = work.check()?;
                let params = Params::new(work.memory_kib, work.passes, work.lanes, Some(32))
                    .map_err(|_| KeyError::WorkFactors("not valid for Argon2id"))?;
                let mut memory = argon2_memory(&params)?;
                let mut key = Zeroizing::new([0; 32]);
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into_with_memory(
                        passphrase,
                        &self.salt,
                        &mut key[..],
                        &mut memory[..],
                    )
                    .map_err(|_| KeyError::WrongKey)?;
                Secret::new(*key)
            }
            (SlotKind::KeyFile, Credential::KeyFile(secret)) => secret.clone(),
            _ => return Err(KeyError::WrongKey),
        };
        Ok(stretched.derive("lastgood 2026-11 v1 slot key", &[repository.as_bytes(), &self.salt]))
    }

    fn public_fields(&self) -> RecordWriter {
        let mut record = RecordWriter::default();
        match self.kind {
            SlotKind::Passphrase(work) => {
                let mut factors = Vec::new();
                for factor in [work.memory_kib, work.passes, work.lanes] {
                    factors.varint(u64::from(factor));
                }
                record.integer(1, 1).field(2, &factors);
            }
            SlotKind::KeyFile => {
                record.integer(1, 2);
            }
        }
        record.field(3, &self.created.to_le_bytes()).field(4, self.label.as_bytes());
        record.field(5, &self.salt);
        record
    }

    fn signed_fields(&self) -> RecordWriter {
        let mut record = self.public_fields();
        record.field(6, &self.commitment).field(7, &self.sealed);
        record
    }

    fn aad(&self, repository: RepositoryId) -> Vec<u8> {
        [&repository.as_bytes()[..], &self.public_fields().finish()].concat()
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut record = self.signed_fields();
        record.field(8, &self.signature);
        [&MAGIC[..], &record.finish()].concat()
    }

    /// Parses the stored form.
    ///
    /// # Errors
    /// When it is not a key slot of version 1, or its work factors are out of bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(bytes, "key slot");
        let magic: [u8; 8] = reader.array()?;
        if bytes.len() as u64 > SMALL_OBJECT_BYTES_MAX
            || magic[..6] != MAGIC[..6]
            || magic[7] != MAGIC[7]
        {
            return Err(reader.invalid("it does not start with the magic of a key slot").into());
        }
        if magic[6] != MAGIC[6] {
            return Err(DecodeError::TooNew {
                what: "key slot",
                version: magic[6],
                known: MAGIC[6],
            }
            .into());
        }
        let record = Record::parse(reader.rest(), "key slot")?;
        let kind = match record.integer(1)? {
            1 => {
                let mut factors = record.reader(2)?;
                let work = WorkFactors {
                    memory_kib: factors.varint_u32()?,
                    passes: factors.varint_u32()?,
                    lanes: factors.varint_u32()?,
                };
                factors.finish()?;
                SlotKind::Passphrase(work.check()?)
            }
            2 => SlotKind::KeyFile,
            _ => {
                return Err(DecodeError::invalid(
                    "key slot",
                    "it takes a credential of a kind this program does not know",
                )
                .into());
            }
        };
        let slot = Self {
            kind,
            created: i64::from_le_bytes(record.array(3)?),
            label: record.text(4)?,
            salt: record.array(5)?,
            commitment: record.array(6)?,
            sealed: record.array(7)?,
            signature: record.array(8)?,
        };
        // Every field takes part in opening the slot, so there is none that could be ignored.
        if slot.encode() == bytes {
            Ok(slot)
        } else {
            Err(DecodeError::invalid("key slot", "it has fields that this program does not know")
                .into())
        }
    }
}

/// The memory that Argon2id works in, which is wiped afterwards.
fn argon2_memory(params: &Params) -> Result<Zeroizing<Vec<Block>>, KeyError> {
    let mut blocks = Vec::new();
    // A slot may ask for more than this host has: that is its answer and no reason to abort.
    blocks
        .try_reserve_exact(params.block_count())
        .map_err(|_| KeyError::NoMemory(params.m_cost() >> 10))?;
    blocks.resize(params.block_count(), Block::new());
    Ok(Zeroizing::new(blocks))
}

/// The root secret as people write it down: 14 groups of 4 Crockford base-32 digits, of which the
/// last 24 bits are a checksum, so a slip of the pen is noticed.
#[must_use]
pub fn recovery_code(root: &Secret) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 35]);
    let (secret, check) = bytes.split_at_mut(32);
    secret.copy_from_slice(root.expose());
    check.copy_from_slice(&recovery_checksum(root));
    let mut code = Zeroizing::new(String::with_capacity(69));
    for (index, group) in bytes.chunks(5).flat_map(base32_digits).enumerate() {
        if index > 0 && index.is_multiple_of(4) {
            code.push('-');
        }
        code.push(char::from(group));
    }
    code
}

/// Reads a recovery code; case, spaces and dashes do not matter, and `I L O` are read as `1 1 0`.
///
/// # Errors
/// [`KeyError::WrongKey`] when its checksum or length does not fit.
pub fn parse_recovery_code(text: &str) -> Result<Secret, KeyError> {
    let mut digits = Zeroizing::new(Vec::with_capacity(56));
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let digit = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let value = ALPHABET.iter().position(|&a| char::from(a) == digit);
        // One digit too many would move the others and leave a copy behind.
        if digits.len() == 56 {
            return Err(KeyError::WrongKey);
        }
        digits.push(value.ok_or(KeyError::WrongKey)?);
    }
    if digits.len() != 56 {
        return Err(KeyError::WrongKey);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(35));
    for group in digits.chunks(8) {
        let value = group.iter().fold(0_u64, |value, &digit| (value << 5) | digit as u64);
        bytes.extend([32_u32, 24, 16, 8, 0].map(|shift| ((value >> shift) & 0xff) as u8));
    }
    let (secret, check) = bytes.split_first_chunk::<32>().ok_or(KeyError::WrongKey)?;
    let root = Secret::new(*secret);
    if check == recovery_checksum(&root) { Ok(root) } else { Err(KeyError::WrongKey) }
}

fn base32_digits(group: &[u8]) -> [u8; 8] {
    let value = group.iter().fold(0_u64, |value, &byte| (value << 8) | u64::from(byte));
    std::array::from_fn(|index| {
        let shift = 35_usize.saturating_sub(index.saturating_mul(5));
        ALPHABET.get(((value >> shift) & 31) as usize).copied().unwrap_or(b'0')
    })
}

fn recovery_checksum(root: &Secret) -> [u8; 3] {
    let digest = root.derive("lastgood 2026-11 v1 recovery checksum", &[]);
    let [a, b, c, ..] = *digest.expose();
    [a, b, c]
}

const CONTEXT: &str = "key slot";
const MAGIC: [u8; 8] = *b"lgkeys\x01\n";
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests;
