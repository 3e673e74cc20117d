//! Damaged packs, mended in memory while they are read.

use std::sync::{Arc, Mutex};

use lastgood_format::id::{PackId, SessionId};
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
        // Where it was repaired, it lies whole in another place.
        let others = self.places(pack.pack)?;
        let others = others.into_iter().filter(|&session| session != pack.session);
        let mut best: Option<Healed> = None;
        for session in others.chain([pack.session]) {
            let Some((healed, is_untouched)) = self.mend_at(session, pack.pack)? else { continue };
            if best.as_ref().is_none_or(|best| !best.is_whole) {
                best = Some(healed);
            }
            if is_untouched {
                self.repo.mended.note(&name::pack(pack.session, pack.pack), true);
                return Ok(best);
            }
        }
        if best.as_ref().is_some_and(|best| best.is_whole) {
            self.repo.mended.note(&name::pack(pack.session, pack.pack), false);
        }
        Ok(best)
    }

    /// Reads a pack from one place and mends it, and says whether it was whole before.
    fn mend_at(
        &self,
        session: SessionId,
        pack: PackId,
    ) -> Result<Option<(Healed, bool)>, RepoError> {
        let at = object_name(&name::pack(session, pack));
        let bytes = match read_around(self.repo.backend().as_ref(), &at, PACK_BYTES_MAX) {
            Ok((bytes, _)) => bytes,
            Err(error) => {
                let error = RepoError::from(error);
                return if error.is_damage() { Ok(None) } else { Err(error) };
            }
        };
        Ok(match mend(&bytes, pack) {
            Ok(mended) => {
                let is_untouched = mended.bytes == bytes;
                Some((Healed { bytes: mended.bytes, is_whole: true }, is_untouched))
            }
            Err(partly) if partly.bytes.is_empty() => None,
            Err(partly) => Some((Healed { bytes: partly.bytes, is_whole: false }, false)),
        })
    }
}

/// Bytes of the healed packs that are kept, so that each is healed once while it is read.
const HEALED_BYTES: usize = 64 << 20;
