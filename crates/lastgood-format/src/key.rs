//! The root secret of a repository and every key that is derived from it.
//!
//! The whole hierarchy is in `docs/format/keys.md`. Two rules hold throughout: a key has one
//! purpose, named by the context string it was derived with; and no key seals two messages, because
//! whatever is sealed takes part in deriving the key it is sealed with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::encoding::{DecodeError, Reader};
use crate::id::{BlobId, ObjectId, RepositoryId, SessionId, SnapshotId, WriterId};
use crate::pack::BlobKind;

/// Why something could not be unlocked, opened or trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key does not fit: a wrong passphrase, key file or recovery code.
    #[error("the key does not fit")]
    WrongKey,
    /// The bytes were changed since they were sealed, or belong elsewhere.
    #[error("authentication failed: the bytes were changed or belong elsewhere")]
    Forged,
    /// A signature does not fit, or its signer is not certified by this repository.
    #[error("the signature does not fit")]
    Signature,
    /// It was signed with keys that were rotated out before.
    #[error("it was signed with keys that had been rotated out")]
    RotatedOut,
    /// The key slot asks for too little or too much work.
    #[error("the key slot's work factors are out of bounds ({0})")]
    WorkFactors(&'static str),
    /// The key slot asks for more memory than there is.
    #[error("opening the key slot takes {0} MiB of memory, which cannot be had")]
    NoMemory(u32),
    /// The bytes are malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A 256-bit secret that is wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret that `fill` makes in its place.
    pub fn made_by(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut secret = Self([0; 32]);
        fill(&mut secret.0);
        secret
    }

    /// Takes 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the key for one purpose. `context` is a fixed string, `material` may vary.
    pub(crate) fn derive(&self, context: &str, material: &[&[u8]]) -> Self {
        let mut hasher = Zeroizing::new(blake3::Hasher::new_derive_key(context));
        hasher.update(&self.0);
        for part in material {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*Zeroizing::new(hasher.finalize()).as_bytes())
    }

    /// A 32-byte value that shows which secret was used without showing the secret.
    pub(crate) fn commitment(&self) -> [u8; 32] {
        self.derive("lastgood 2026-11 v1 key commitment", &[]).0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The three classes of blobs. They never share a pack and their secrets are wrapped apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Contents of files.
    Data = 1,
    /// Names and metadata: trees, recipes, hints, hard-link tables, snapshots.
    Meta = 2,
    /// Which packs a snapshot needs, and nothing else.
    Refs = 3,
}

impl Class {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Data, Self::Meta, Self::Refs];

    /// The class with this number.
    ///
    /// # Errors
    /// When there is none.
    pub const fn from_u8(number: u8) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Data),
            2 => Ok(Self::Meta),
            3 => Ok(Self::Refs),
            _ => Err(DecodeError::invalid("class", "unknown number")),
        }
    }
}

/// Seals one message under a key that seals no other.
///
/// # Panics
/// Never for messages under 64 GiB, which is the cipher's bound.
pub(crate) fn seal_once(key: &Secret, aad: &[u8], bytes: &mut Vec<u8>) {
    aead_key(key)
        .seal_in_place_append_tag(nonce(0), Aad::from(aad), bytes)
        .expect("AES-256-GCM seals any message that fits in memory");
}

/// Opens what [`seal_once`] sealed; returns the plaintext, which lies at the front of `bytes`.
pub(crate) fn open_once<'a>(
    key: &Secret,
    aad: &[u8],
    bytes: &'a mut [u8],
) -> Result<&'a mut [u8], KeyError> {
    aead_key(key).open_in_place(nonce(0), Aad::from(aad), bytes).map_err(|_| KeyError::Forged)
}

/// The cipher under `key`.
pub(crate) fn aead_key(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key.expose()).expect("a 32-byte key is an AES-256 key"),
    )
}

/// The nonce of message number `counter` under a key of its own.
pub(crate) fn nonce(counter: u32) -> Nonce {
    let mut bytes = [0; 12];
    if let Some(low) = bytes.first_chunk_mut() {
        *low = counter.to_le_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Signs; made from a seed, so the same seed is always the same signer.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    fn from_seed(seed: &Secret) -> Self {
        Self(
            Ed25519KeyPair::from_seed_unchecked(seed.expose())
                .expect("32 bytes are an Ed25519 seed"),
        )
    }

    /// The public half.
    ///
    /// # Panics
    /// Never: an Ed25519 public key has 32 bytes.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(
            self.0.public_key().as_ref().try_into().expect("Ed25519 public keys are 32 bytes"),
        )
    }

    /// Signs `message` for one purpose, named by `context`.
    ///
    /// # Panics
    /// Never: an Ed25519 signature has 64 bytes.
    #[must_use]
    pub fn sign(&self, context: &str, message: &[&[u8]]) -> [u8; 64] {
        self.0
            .sign(&signed_digest(context, message))
            .as_ref()
            .try_into()
            .expect("Ed25519 signatures are 64 bytes")
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.public())
    }
}

/// Verifies signatures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Checks a signature made by [`SigningKey::sign`].
    ///
    /// # Errors
    /// [`KeyError::Signature`] when it does not fit.
    pub fn verify(
        &self,
        context: &str,
        message: &[&[u8]],
        signature: &[u8; 64],
    ) -> Result<(), KeyError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&signed_digest(context, message), signature)
            .map_err(|_| KeyError::Signature)
    }

    /// Who this key belongs to.
    #[must_use]
    pub fn writer_id(&self) -> WriterId {
        let mut id = [0; 16];
        blake3::Hasher::new_derive_key("lastgood 2026-11 v1 writer id")
            .update(&self.0)
            .finalize_xof()
            .fill(&mut id);
        WriterId::new(id)
    }
}

/// What is signed: a domain-separated hash, so the parts may be of any size.
fn signed_digest(context: &str, message: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("lastgood 2026-11 v1 signature");
    for part in [&[context.as_bytes()], message].concat() {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// What tells whether the root of a repository stands behind a signature. Needs no secret: who
/// keeps replicas or collects garbage without keys has it from the config and its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The repository.
    pub repository: RepositoryId,
    /// Public halves of the root's signing keys, the oldest first; not empty.
    roots: Vec<PublicKey>,
    /// How many of them were rotated out for good, and what counts of what they had signed.
    closed: Option<(usize, Arc<Inventory>)>,
}

/// What there was when a root was rotated out. What the old root signed beyond does not count.
/// Spec: `docs/format/config.md`, section 5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Live snapshots.
    pub live: BTreeSet<SnapshotId>,
    /// Snapshots of which a record said that they were retired.
    pub retired: BTreeSet<SnapshotId>,
    /// Snapshots, and records of the log in the place of snapshots, whose loss had been accepted.
    pub lost: BTreeSet<SnapshotId>,
    /// Relocations.
    pub relocations: BTreeSet<ObjectId>,
    /// Index segments.
    pub segments: BTreeSet<ObjectId>,
    /// Sequence of the newest record of each writer's log.
    pub log: BTreeMap<WriterId, u64>,
    /// The newest round of gc.
    pub round: u64,
}

impl Inventory {
    /// Whether a snapshot had been committed. A lost one may come back.
    #[must_use]
    pub fn has_snapshot(&self, id: SnapshotId) -> bool {
        [&self.live, &self.retired, &self.lost].iter().any(|ids| ids.contains(&id))
    }
}

impl Verifier {
    /// Trusts what these roots signed, oldest first; the first so many of them no further than the
    /// inventory says.
    #[must_use]
    pub const fn new(
        repository: RepositoryId,
        roots: Vec<PublicKey>,
        closed: Option<(usize, Arc<Inventory>)>,
    ) -> Self {
        Self { repository, roots, closed }
    }

    /// The newest root.
    ///
    /// # Panics
    /// Never: there is one.
    #[must_use]
    pub fn root(&self) -> &PublicKey {
        self.roots.last().expect("a repository has a root")
    }

    /// Checks that whoever signed might still do so then: the newest root did, or what was signed
    /// was there when an older one was rotated out.
    ///
    /// # Errors
    /// [`KeyError::RotatedOut`] when it was not.
    pub fn allow(
        &self,
        certificate: &Certificate,
        was_there: impl FnOnce(&Inventory) -> bool,
    ) -> Result<(), KeyError> {
        self.allow_root(certificate.root, was_there)
    }

    /// The same for what is made with keys of the root of that number, the oldest being 0.
    fn allow_root(
        &self,
        root: usize,
        was_there: impl FnOnce(&Inventory) -> bool,
    ) -> Result<(), KeyError> {
        match &self.closed {
            Some((count, inventory)) if root < *count && !was_there(inventory) => {
                Err(KeyError::RotatedOut)
            }
            _ => Ok(()),
        }
    }
}

/// Every key of a repository: those that are used now, and those that older objects were made with.
#[derive(Debug)]
pub struct RepositoryKeys {
    verifier: Verifier,
    root: Secret,
    root_signer: SigningKey,
    /// What is sealed under each root, the newest first.
    sealing: Vec<SealingKeys>,
    blob_ids: [Secret; BlobKind::COUNT],
    cut: Secret,
}

/// The keys of one root that seal.
#[derive(Debug)]
struct SealingKeys {
    wrap: [Secret; 3],
    index: Secret,
}

impl SealingKeys {
    fn new(root: &Secret, repository: RepositoryId) -> Self {
        let derive = |context, number| derive(root, repository, context, number);
        Self {
            wrap: Class::ALL.map(|class| derive("lastgood 2026-11 v1 wrap", class as u8)),
            index: derive("lastgood 2026-11 v1 index", 0),
        }
    }

    const fn wrap_key(&self, class: Class) -> &Secret {
        let [data, meta, refs] = &self.wrap;
        match class {
            Class::Data => data,
            Class::Meta => meta,
            Class::Refs => refs,
        }
    }
}

fn derive(root: &Secret, repository: RepositoryId, context: &str, number: u8) -> Secret {
    root.derive(context, &[repository.as_bytes(), &[number]])
}

/// The key that a root signs with.
pub(crate) fn root_signer(root: &Secret, repository: RepositoryId) -> SigningKey {
    SigningKey::from_seed(&derive(root, repository, "lastgood 2026-11 v1 root signer", 0))
}

impl RepositoryKeys {
    /// Derives all keys of `repository` from the only root secret that it ever had.
    #[must_use]
    pub fn new(root: Secret, repository: RepositoryId) -> Self {
        Self::of_roots(&[root], repository, None)
    }

    /// Derives all keys of `repository` from its root secrets, the oldest first. Ids of blobs and
    /// cuts are those of the first one for ever, so that what is stored stays known.
    ///
    /// # Panics
    /// Without a root.
    #[must_use]
    pub fn of_roots(
        roots: &[Secret],
        repository: RepositoryId,
        closed: Option<(usize, Arc<Inventory>)>,
    ) -> Self {
        let signers = roots.iter().map(|root| root_signer(root, repository).public()).collect();
        let (Some(first), Some(root)) = (roots.first(), roots.last()) else {
            panic!("a repository has a root")
        };
        Self {
            verifier: Verifier::new(repository, signers, closed),
            root_signer: root_signer(root, repository),
            sealing: roots.iter().rev().map(|root| SealingKeys::new(root, repository)).collect(),
            blob_ids: BlobKind::ALL
                .map(|kind| derive(first, repository, "lastgood 2026-11 v1 blob id", kind as u8)),
            cut: derive(first, repository, "lastgood 2026-11 v1 cut", 0),
            root: root.clone(),
        }
    }

    /// The repository these keys belong to.
    #[must_use]
    pub const fn repository(&self) -> RepositoryId {
        self.verifier.repository
    }

    /// Verifies what was signed for the repository.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The newest root secret itself, for wrapping it in another slot or showing the recovery code.
    #[must_use]
    pub const fn root(&self) -> &Secret {
        &self.root
    }

    /// Signs the config and certificates.
    #[must_use]
    pub const fn root_signer(&self) -> &SigningKey {
        &self.root_signer
    }

    /// The secret that index segments are sealed under.
    #[must_use]
    pub fn index(&self) -> &Secret {
        &self.newest().index
    }

    /// The secret with this commitment that the index segment of this id is sealed under.
    ///
    /// # Errors
    /// [`KeyError::Forged`] when there is none; [`KeyError::RotatedOut`].
    pub(crate) fn index_of(
        &self,
        commitment: &[u8; 32],
        id: impl FnOnce() -> ObjectId,
    ) -> Result<&Secret, KeyError> {
        let mut secrets = self.sealing.iter().map(|keys| &keys.index);
        let at = secrets.position(|secret| secret.commitment() == *commitment);
        let at = at.ok_or(KeyError::Forged)?;
        let was_there = |inventory: &Inventory| inventory.segments.contains(&id());
        self.verifier.allow_root(self.root_at(at), was_there)?;
        self.sealing.get(at).map(|keys| &keys.index).ok_or(KeyError::Forged)
    }

    /// Whether a secret that opens is wrapped to a root that was rotated out for good.
    #[must_use]
    pub fn is_rotated_out(&self, class: Class, session: SessionId, wrapped: &[u8]) -> bool {
        let found = self.unwrap_at(class, session, wrapped);
        let root = found.map(|(at, _)| self.root_at(at));
        root.is_ok_and(|root| self.verifier.allow_root(root, |_| false).is_err())
    }

    /// The number of the root whose keys are at this place of `sealing`.
    fn root_at(&self, at: usize) -> usize {
        self.sealing.len().saturating_sub(1).saturating_sub(at)
    }

    fn newest(&self) -> &SealingKeys {
        self.sealing.first().expect("a repository has a root")
    }

    /// The secret that the chunker's key is made of.
    #[must_use]
    pub const fn cut(&self) -> &Secret {
        &self.cut
    }

    /// The id of a blob of `kind` with this plaintext.
    ///
    /// # Panics
    /// Never: there is a key for every kind.
    #[must_use]
    pub fn blob_id(&self, kind: BlobKind, plaintext: &[u8]) -> BlobId {
        let key = self.blob_ids.get(kind.ordinal()).expect("there is a key for every blob kind");
        BlobId::new(*blake3::keyed_hash(key.expose(), plaintext).as_bytes())
    }

    /// The signing key and certificate of the writer called `name`.
    #[must_use]
    pub fn writer(&self, name: &[u8; 16]) -> Signer {
        let seed = self.root.derive(
            "lastgood 2026-11 v1 writer signer",
            &[self.verifier.repository.as_bytes(), name],
        );
        self.certify(SigningKey::from_seed(&seed), Role::Writer)
    }

    /// The signing key and certificate that retires snapshots and collects garbage.
    #[must_use]
    pub fn maintenance(&self) -> Signer {
        let seed = self.root.derive(
            "lastgood 2026-11 v1 maintenance signer",
            &[self.verifier.repository.as_bytes()],
        );
        self.certify(SigningKey::from_seed(&seed), Role::Maintenance)
    }

    fn certify(&self, key: SigningKey, role: Role) -> Signer {
        let public = key.public();
        let signature = self
            .root_signer
            .sign(CERTIFICATE, &[self.verifier.repository.as_bytes(), &[role as u8], &public.0]);
        let root = self.sealing.len().saturating_sub(1);
        Signer { key, certificate: Certificate { role, public, signature, root } }
    }

    /// Wraps a session secret so that the root can unwrap it.
    ///
    /// The key it is sealed with depends on the secret itself, so a stuck random source cannot
    /// make one key seal two secrets. Spec: `docs/format/keys.md`, section 6.
    #[must_use]
    pub fn wrap(&self, class: Class, session: SessionId, secret: &Secret) -> Vec<u8> {
        let key = self.newest().wrap_key(class);
        let mut salt = [0; 16];
        let hedge = key.derive("lastgood 2026-11 v1 wrap salt", &[session.as_bytes(), &secret.0]);
        salt.copy_from_slice(&hedge.0[..16]);
        // With room for the tag: a buffer that grows leaves a copy of what it held.
        let mut sealed = Vec::with_capacity(48);
        sealed.extend_from_slice(&secret.0);
        seal_once(
            &key.derive("lastgood 2026-11 v1 wrap key", &[session.as_bytes(), &salt]),
            &self.wrap_aad(class, session),
            &mut sealed,
        );
        [&[WRAPPED_TO_ROOT][..], &salt, &sealed].concat()
    }

    /// Unwraps what [`wrap`](Self::wrap) made.
    ///
    /// # Errors
    /// [`KeyError::Forged`] when it was wrapped for another repository, class or session.
    pub fn unwrap(
        &self,
        class: Class,
        session: SessionId,
        wrapped: &[u8],
    ) -> Result<Secret, KeyError> {
        self.unwrap_at(class, session, wrapped).map(|(_, secret)| secret)
    }

    /// Unwraps with whichever keys fit, and says at which place of `sealing` these are.
    fn unwrap_at(
        &self,
        class: Class,
        session: SessionId,
        wrapped: &[u8],
    ) -> Result<(usize, Secret), KeyError> {
        let mut reader = Reader::new(wrapped, "wrapped secret");
        if reader.u8()? != WRAPPED_TO_ROOT {
            return Err(reader.invalid("it is wrapped in a way this program does not know").into());
        }
        let salt: [u8; 16] = reader.array()?;
        let sealed = reader.array::<48>()?;
        reader.finish()?;
        let aad = self.wrap_aad(class, session);
        let opened = self.sealing.iter().enumerate().find_map(|(at, keys)| {
            let key = keys
                .wrap_key(class)
                .derive("lastgood 2026-11 v1 wrap key", &[session.as_bytes(), &salt]);
            let mut sealed = Zeroizing::new(sealed);
            let plain = open_once(&key, &aad, &mut sealed[..]).ok()?;
            Some((at, Secret((&*plain).try_into().ok()?)))
        });
        opened.ok_or(KeyError::Forged)
    }

    fn wrap_aad(&self, class: Class, session: SessionId) -> Vec<u8> {
        [&self.verifier.repository.as_bytes()[..], session.as_bytes(), &[class as u8]].concat()
    }
}

/// What a certified key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Sessions, read sessions, outcomes that commit, snapshots.
    Writer = 1,
    /// Retired snapshots, outcomes that fence, condemn lists, verdicts, relocations.
    Maintenance = 2,
}

/// A signing key with the root's word for it.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    certificate: Certificate,
}

impl Signer {
    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Who signs.
    #[must_use]
    pub fn writer_id(&self) -> WriterId {
        self.certificate.public.writer_id()
    }

    /// Signs `message` for one purpose, named by `context`.
    #[must_use]
    pub fn sign(&self, context: &str, message: &[&[u8]]) -> [u8; 64] {
        self.key.sign(context, message)
    }
}

/// The root's signature over a public key and its role. Stored as role (1), key (32), signature
/// (64): [`Certificate::BYTES`] in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// What the key may sign.
    pub role: Role,
    /// The key.
    pub public: PublicKey,
    signature: [u8; 64],
    /// Which of the verifier's roots stands behind it.
    root: usize,
}

impl Certificate {
    /// Length when stored.
    pub const BYTES: usize = 97;

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.role as u8);
        out.extend_from_slice(&self.public.0);
        out.extend_from_slice(&self.signature);
    }

    /// Reads a certificate and checks that the root of `repository` signed it for `role`.
    ///
    /// # Errors
    /// [`KeyError::Signature`] when it did not, or the role is another.
    pub fn decode(
        reader: &mut Reader<'_>,
        verifier: &Verifier,
        role: Role,
    ) -> Result<Self, KeyError> {
        let found = reader.u8()?;
        let public = PublicKey(reader.array()?);
        let signature = reader.array()?;
        let message: [&[u8]; 3] = [verifier.repository.as_bytes(), &[found], &public.0];
        let is_by = |root: &PublicKey| root.verify(CERTIFICATE, &message, &signature).is_ok();
        let root = verifier.roots.iter().rposition(is_by).ok_or(KeyError::Signature)?;
        if found != role as u8 {
            return Err(KeyError::Signature);
        }
        Ok(Self { role, public, signature, root })
    }
}

/// The secret of one class in one session, with its wrapped form.
#[derive(Debug, Clone)]
pub struct ClassSecret {
    /// The class.
    pub class: Class,
    /// The session.
    pub session: SessionId,
    /// The repository.
    pub repository: RepositoryId,
    pub(crate) secret: Secret,
    pub(crate) wrapped: Vec<u8>,
}

impl ClassSecret {
    /// Takes a fresh random secret and wraps it.
    #[must_use]
    pub fn create(keys: &RepositoryKeys, class: Class, session: SessionId, secret: Secret) -> Self {
        let wrapped = keys.wrap(class, session, &secret);
        Self { class, session, repository: keys.repository(), secret, wrapped }
    }

    /// Unwraps a stored secret and compares its commitment.
    ///
    /// # Errors
    /// [`KeyError::Forged`] when either does not fit.
    pub fn open(
        keys: &RepositoryKeys,
        class: Class,
        session: SessionId,
        wrapped: &[u8],
        commitment: &[u8; 32],
    ) -> Result<Self, KeyError> {
        let secret = keys.unwrap(class, session, wrapped)?;
        if secret.commitment() != *commitment {
            return Err(KeyError::Forged);
        }
        Ok(Self {
            class,
            session,
            repository: keys.repository(),
            secret,
            wrapped: wrapped.to_vec(),
        })
    }
}

const CERTIFICATE: &str = "lastgood 2026-11 v1 certificate";
const WRAPPED_TO_ROOT: u8 = 1;

#[cfg(test)]
mod tests;
