//! Damaged packs, mended in memory while they are read.

use std::sync::{Arc, Mutex};

use lastgood_format::id::PackId;
use lastgood_format::limits::PACK_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::pack::mend;
use lastgood_format::packset::PackRef;

use super::PackReader;
use super::lru::Lru;
use crate::error::RepoError;
use crate::objects::{object_name, read_around};
use crate::packer::lock;

/// A damaged pack with as much mended as could be.
#[derive(Debug)]
pub(crate) struct Healed {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is again what its name says.
    pub(crate) is_whole: bool,
}

/// The packs that were healed last; nothing for those that could not be.
#[derive(Debug)]
pub(super) struct HealedPacks(Mutex<Lru<PackId, Option<Arc<Healed>>>>);

impl Default for HealedPacks {
    fn default() -> Self {
        Self(Mutex::new(Lru::new(HEALED_BYTES)))
    }
}

impl PackReader {
    /// Reads all of a damaged pack, from wherever it lies, and mends it by its parity. Nothing when
    /// no header of it is left.
    ///
    /// # Errors
    /// What may be otherwise later.
    pub(crate) fn heal(&self, pack: PackRef) -> Result<Option<Arc<Healed>>, RepoError> {
        // Held to the end: others that need the pack wait for it.
        let mut kept = lock(&self.healed.0);
        if let Some(healed) = kept.get(&pack.pack) {
            return Ok(healed.clone());
        }
        let healed = self.mend(pack)?.map(Arc::new);
        let weight = healed.as_ref().map_or(0, |healed| healed.bytes.len());
        kept.insert(pack.pack, weight.max(1), healed.clone());
        Ok(healed)
    }

    fn mend(&self, pack: PackRef) -> Result<Option<Healed>, RepoError> {
        let mut best: Option<Healed> = None;
        let others = self.places(pack.pack)?;
        let others = others.into_iter().filter(|&session| session != pack.session);
        for session in std::iter::once(pack.session).chain(others) {
            let at = object_name(&name::pack(session, pack.pack));
            let bytes = match read_around(self.repo.backend().as_ref(), &at, PACK_BYTES_MAX) {
                Ok((bytes, _)) => bytes,
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(_) => continue,
            };
            match mend(&bytes, pack.pack) {
                Ok(mended) => {
                    self.repo.mended.note(&name::pack(pack.session, pack.pack));
                    return Ok(Some(Healed { bytes: mended.bytes, is_whole: true }));
                }
                Err(partly) if !partly.bytes.is_empty() => {
                    best.get_or_insert(Healed { bytes: partly.bytes, is_whole: false });
                }
                Err(_) => {}
            }
        }
        Ok(best)
    }
}

/// Bytes of the healed packs that are kept, so that each is healed once while it is read.
const HEALED_BYTES: usize = 64 << 20;
