//! Rotating the root secret of a repository, and adding features to it.

use std::sync::Arc;

pub use lastgood_repo::RotationPlan;
pub use lastgood_repo::format::config::{Feature, FeatureSet};
use lastgood_repo::format::id::{ObjectId, SessionId};
use lastgood_repo::format::slot::{Credential, WorkFactors, recovery_code};
use lastgood_repo::{Repository, Rotated};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

/// A root secret that took the place of another.
#[derive(Debug)]
pub struct Rotation {
    /// The repository, opened with the new root; to be used from now on.
    pub repo: Arc<Repository>,
    /// The recovery code; that of before opens the repository no more.
    pub recovery_code: Zeroizing<String>,
    /// The new key slot; `None` when a rotation that had been interrupted was finished.
    pub slot: Option<ObjectId>,
    /// The key slots that were removed.
    pub removed: Vec<ObjectId>,
    /// Runs that were ended, since they held keys of before.
    pub fenced: Vec<SessionId>,
}

/// What [`rotate`] would do.
///
/// # Errors
/// Whatever the repository says.
pub fn plan_rotation(repo: &Repository) -> Result<RotationPlan, Error> {
    Ok(repo.plan_rotation()?)
}

/// Seals and signs everything from now on under a new root secret, which `credential` opens, or
/// finishes a rotation that was interrupted. What is stored stays as it is.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the store does not decide races, before anything is changed;
/// [`ErrorKind::Conflict`] when somebody else changed keys or features meanwhile;
/// [`ErrorKind::Damaged`] and [`ErrorKind::RolledBack`] while snapshots cannot be read: what an old
/// key makes later could not be told from them.
pub fn rotate(repo: &Repository, credential: &Credential, label: &str) -> Result<Rotation, Error> {
    // Two who rotate at once must not both believe that they did.
    repo.probe()?;
    let rotated = repo.rotate(credential, WorkFactors::DEFAULT, label)?;
    let Rotated { repo, slot, removed, fenced } = rotated;
    let recovery_code = recovery_code(repo.keys().root());
    Ok(Rotation { repo, recovery_code, slot, removed, fenced })
}

/// Every feature that this program knows, and whether the repository has it.
#[must_use]
pub fn features(repo: &Repository) -> Vec<(&'static Feature, bool)> {
    Feature::KNOWN.iter().map(|feature| (feature, repo.history().has(feature.name))).collect()
}

/// Adds features to a repository, for ever. What is returned is to be used from then on.
///
/// # Errors
/// [`ErrorKind::Invalid`] names one that this program does not know; [`ErrorKind::Conflict`] when
/// somebody else changed keys or features meanwhile.
pub fn upgrade(repo: &Repository, names: &[&str]) -> Result<Arc<Repository>, Error> {
    if let Some(unknown) = names.iter().find(|name| !Feature::is_known(name)) {
        let text = format!("there is no feature {unknown:?}; `lastgood upgrade` lists them");
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    repo.probe()?;
    Ok(repo.upgrade(names)?)
}
