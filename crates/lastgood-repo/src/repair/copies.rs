//! Copies of a repository: other stores with objects of the same names.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use lastgood_backend::{Backend, ErrorKind};
use lastgood_format::config::Config;
use lastgood_format::gc::{Lost, ReadSession, Retired, RoundList};
use lastgood_format::id::{PackId, SessionId};
use lastgood_format::limits::PACK_BYTES_MAX;
use lastgood_format::log::LogRecord;
use lastgood_format::object::{ObjectKind, name};
use lastgood_format::pack::{mend, verify_bytes};
use lastgood_format::session::{Outcome, Session};

use crate::error::RepoError;
use crate::objects::{self, object_name, read_around};
use crate::repository::Repository;

/// A copy of a repository, with the same id and keys.
#[derive(Debug)]
pub struct RepositoryCopy {
    repo: Arc<Repository>,
    places: OnceLock<HashMap<PackId, Vec<SessionId>>>,
}

impl RepositoryCopy {
    /// Opens a copy of `original` with the keys of that; nothing when another repository is there.
    ///
    /// # Errors
    /// When its config cannot be read.
    pub fn open(
        original: &Repository,
        backend: Arc<dyn Backend>,
    ) -> Result<Option<Self>, RepoError> {
        if Repository::id_of(backend.as_ref())? != original.config().repository {
            return Ok(None);
        }
        let repo = Arc::new(original.on(backend)?);
        Ok(Some(Self { repo, places: OnceLock::new() }))
    }

    /// The copy, as a repository.
    #[must_use]
    pub const fn repo(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// The content of an object that is no pack, if the copy has it whole and it is genuine.
    pub(super) fn content(
        &self,
        object: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, RepoError> {
        let backend = self.repo.backend().as_ref();
        let Some(found) = objects::survey(backend, object, bytes_max)? else { return Ok(None) };
        let is_genuine = |content: &Vec<u8>| is_genuine(&self.repo, object, content);
        Ok(found.content.ok().filter(is_genuine))
    }

    /// The bytes of a pack, if the copy has it, whole or as can be mended.
    pub(super) fn pack(&self, pack: PackId) -> Result<Option<Vec<u8>>, RepoError> {
        if self.places.get().is_none() {
            let mut places: HashMap<PackId, Vec<SessionId>> = HashMap::new();
            for (session, pack, _) in self.repo.all_packs()? {
                places.entry(pack).or_default().push(session);
            }
            drop(self.places.set(places));
        }
        let places = self.places.get().and_then(|places| places.get(&pack));
        for &session in places.map_or(&[][..], Vec::as_slice) {
            let at = object_name(&name::pack(session, pack));
            let bytes = match read_around(self.repo.backend().as_ref(), &at, PACK_BYTES_MAX) {
                Ok((bytes, _)) => bytes,
                Err(error) if error.kind == ErrorKind::NotFound => continue,
                Err(error) => match RepoError::from(error) {
                    error if error.is_damage() => continue,
                    error => return Err(error),
                },
            };
            if verify_bytes(&bytes) == Ok(pack) {
                return Ok(Some(bytes));
            }
            if let Ok(mended) = mend(&bytes, pack) {
                return Ok(Some(mended.bytes));
            }
        }
        Ok(None)
    }
}

/// Whether an object of this name may have this content: signed by whom it should be, and telling
/// of what its name tells. Where a name is a hash, that was compared when it was read.
fn is_genuine(repo: &Repository, object: &str, content: &[u8]) -> bool {
    let verifier = repo.keys().verifier();
    let id = |kind: &str| object.strip_prefix(kind);
    let session = |kind: &str| id(kind).and_then(|id| id.parse::<SessionId>().ok());
    let round = |kind: &str| id(kind).and_then(|round| u64::from_str_radix(round, 16).ok());
    if object == name::CONFIG {
        let config = Config::decode(content).ok();
        return config.is_some_and(|config| config.root == repo.config().root);
    }
    if let Some(number) = round(name::REVISIONS) {
        return match number {
            name::FIRST_REVISION => is_genuine(repo, name::CONFIG, content),
            number => repo.history().has_revision(number, content),
        };
    }
    if let Some(session) = session(name::SESSIONS) {
        return Session::decode(verifier, session, content).is_ok();
    }
    if let Some(session) = session(name::OUTCOMES) {
        return Outcome::decode(verifier, session, content).is_ok();
    }
    if let Some(session) = session(name::READERS) {
        return ReadSession::decode(verifier, session, content).is_ok();
    }
    if let Some(snapshot) = id(name::RETIRED) {
        let retired = Retired::decode(verifier, content);
        return retired.is_ok_and(|retired| retired.snapshot.to_string() == snapshot);
    }
    if let Some(snapshot) = id(name::LOST).and_then(|id| id.parse().ok()) {
        return Lost::decode(verifier, snapshot, content).is_ok();
    }
    if let Some(round) = round(name::CONDEMN) {
        return RoundList::decode(ObjectKind::Condemn, verifier, round, content).is_ok();
    }
    if let Some(round) = round(name::VERDICT) {
        return RoundList::decode(ObjectKind::Verdict, verifier, round, content).is_ok();
    }
    if let Some((writer, sequence)) = id(name::LOG).and_then(|rest| rest.split_once('/')) {
        let place = writer.parse().ok().zip(u64::from_str_radix(sequence, 16).ok());
        return place.is_some_and(|(writer, sequence)| {
            LogRecord::decode(repo.keys(), writer, sequence, content).is_ok()
        });
    }
    [name::KEYS, name::INDEX, name::SNAPSHOTS, name::RELOCATIONS]
        .iter()
        .any(|kind| object.starts_with(kind))
}
