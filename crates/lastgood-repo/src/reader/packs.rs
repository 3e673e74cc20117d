//! Packs as they lie in the store: their directories, and their groups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use lastgood_backend::ErrorKind;
use lastgood_format::encoding::DecodeError;
use lastgood_format::group::{GroupDecompressor, open_frames};
use lastgood_format::id::{PackId, SessionId};
use lastgood_format::object::name;
use lastgood_format::pack::{
    BlobEntry, FOOTER_BYTES, GroupEntry, OpenedPack, PackError, PackFooter, open_end, open_whole,
};
use lastgood_format::packset::PackRef;

use super::healing::{Healed, HealedPacks};
use super::lru::Lru;
use crate::error::{Damage, RepoError, RepoErrorKind};
use crate::objects::object_name;
use crate::packer::lock;
use crate::repository::Repository;

/// Fetches packs' directories and groups. Keeps the directories it opened, up to a bound.
#[derive(Debug)]
pub struct PackReader {
    pub(super) repo: Arc<Repository>,
    opened: Mutex<Lru<PackId, Arc<OpenedPack>>>,
    pub(super) healed: HealedPacks,
    /// Where packs lie: listed for those that are not where their writer put them, or damaged.
    places: Mutex<Option<HashMap<PackId, Vec<SessionId>>>>,
}

impl PackReader {
    /// Reads packs of `repo`.
    #[must_use]
    pub fn new(repo: Arc<Repository>) -> Self {
        Self {
            repo,
            opened: Mutex::new(Lru::new(OPENED_BLOBS_MAX)),
            healed: HealedPacks::default(),
            places: Mutex::default(),
        }
    }

    /// Opens a pack's directory: one or two ranged reads unless it is open already. A damaged
    /// one is read whole and mended.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack.
    pub fn open(&self, pack: PackRef) -> Result<Arc<OpenedPack>, RepoError> {
        if let Some(opened) = lock(&self.opened).get(&pack.pack) {
            return Ok(opened.clone());
        }
        let opened = self.open_stored(pack).or_else(|error| {
            let healed = self.healed_after(error, pack)?;
            open_whole(self.repo.keys(), &healed.bytes).map_err(|error| self.damaged(pack, error))
        })?;
        let opened = Arc::new(opened);
        lock(&self.opened).insert(pack.pack, opened.directory.blobs.len(), opened.clone());
        Ok(opened)
    }

    fn open_stored(&self, pack: PackRef) -> Result<OpenedPack, RepoError> {
        let mut end = Vec::new();
        let guess = pack.bytes.min(END_BYTES_GUESS);
        self.read(pack, pack.bytes - guess, pack.bytes, &mut end)?;
        let damaged = |error: PackError| self.damaged(pack, error);
        let footer = end
            .last_chunk::<FOOTER_BYTES>()
            .ok_or(PackError::Footer(DecodeError::Truncated { what: "pack" }));
        let footer = footer
            .and_then(|footer| PackFooter::decode(footer).map_err(PackError::Footer))
            .map_err(damaged)?;
        let end_bytes = u64::from(footer.end_bytes);
        if footer.pack_bytes != pack.bytes {
            let why = DecodeError::Invalid { what: "pack", why: "it is not of its length" };
            return Err(damaged(PackError::Footer(why)));
        }
        if end_bytes > guess {
            self.read(pack, pack.bytes - end_bytes, pack.bytes, &mut end)?;
        }
        let start = end.len() - footer.end_bytes as usize;
        open_end(self.repo.keys(), &mut end[start..]).map_err(damaged)
    }

    /// Fetches and decompresses one group; where it is damaged, the pack is read whole and mended.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack.
    pub fn group(
        &self,
        pack: PackRef,
        opened: &OpenedPack,
        group: u32,
        buffers: &mut GroupBuffers,
    ) -> Result<(), RepoError> {
        let entry = self.group_entry(pack, opened, group)?;
        let range = opened.header.group_range(&entry);
        let mut frames = std::mem::take(&mut buffers.frames);
        let read = self.read(pack, range.start, range.end, &mut frames);
        let mut result =
            read.and_then(|()| self.group_of(pack, opened, group, &mut frames, buffers));
        if let Err(error) = result {
            result = self.healed_after(error, pack).and_then(|healed| {
                frames.clear();
                let range = range.start as usize..range.end as usize;
                frames.extend_from_slice(healed.bytes.get(range).unwrap_or_default());
                self.group_of(pack, opened, group, &mut frames, buffers)
            });
        }
        buffers.frames = frames;
        result
    }

    /// The pack that was damaged, as `error` says, as far as it can be mended; or that error.
    fn healed_after(&self, error: RepoError, pack: PackRef) -> Result<Arc<Healed>, RepoError> {
        match error.kind() {
            RepoErrorKind::Damaged => self.heal(pack)?.ok_or(error),
            _ => Err(error),
        }
    }

    /// Opens and decompresses one group whose `frames` were fetched; they are overwritten.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack.
    pub(crate) fn group_of(
        &self,
        pack: PackRef,
        opened: &OpenedPack,
        group: u32,
        frames: &mut [u8],
        buffers: &mut GroupBuffers,
    ) -> Result<(), RepoError> {
        let entry = self.group_entry(pack, opened, group)?;
        let GroupBuffers { payload, raw, decompressor, .. } = buffers;
        payload.clear();
        open_frames(
            &opened.secret,
            entry.salt,
            opened.header.frame_size,
            frames,
            entry.stored_bytes as usize,
            payload,
        )
        .map_err(|error| self.damaged(pack, error.source))?;
        decompressor
            .decompress(entry.compression, payload, entry.raw_bytes as usize, raw)
            .map_err(|error| self.damaged(pack, error))
    }

    fn group_entry(
        &self,
        pack: PackRef,
        opened: &OpenedPack,
        group: u32,
    ) -> Result<GroupEntry, RepoError> {
        let invalid = DecodeError::Invalid { what: "pack directory", why: "no such group" };
        let entry = opened.directory.groups.get(group as usize);
        entry.copied().ok_or_else(|| self.damaged(pack, invalid))
    }

    /// The bytes of a blob in its group's plaintext, compared with its id. A delta is not resolved.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] when they are not what the id says.
    pub fn whole<'a>(
        &self,
        pack: PackRef,
        blob: &BlobEntry,
        raw: &'a [u8],
    ) -> Result<&'a [u8], RepoError> {
        let start = blob.offset as usize;
        let bytes = raw.get(start..start + blob.bytes as usize).unwrap_or_default();
        #[cfg(feature = "seeded-bugs")]
        if self.repo.has_bug(crate::SeededBug::IdNotRecomputed) {
            return Ok(bytes);
        }
        if self.repo.keys().blob_id(blob.kind, bytes) == blob.id {
            Ok(bytes)
        } else {
            Err(self.damaged(pack, Damage::Blob(blob.id)))
        }
    }

    /// Reads a range of a pack, wherever it lies.
    pub(crate) fn read(
        &self,
        pack: PackRef,
        start: u64,
        end: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), RepoError> {
        let mut read = |session| {
            let at = object_name(&name::pack(session, pack.pack));
            self.repo.backend().get_range(&at, start..end, out)
        };
        match read(pack.session) {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let session = self.places(pack.pack)?.first().copied().ok_or(error)?;
                Ok(read(session)?)
            }
            other => Ok(other?),
        }
    }

    /// The sessions under which a pack is stored.
    pub(super) fn places(&self, pack: PackId) -> Result<Vec<SessionId>, RepoError> {
        let mut places = lock(&self.places);
        if places.is_none() {
            let mut listed: HashMap<PackId, Vec<SessionId>> = HashMap::new();
            for (session, pack, _) in self.repo.all_packs()? {
                listed.entry(pack).or_default().push(session);
            }
            *places = Some(listed);
        }
        Ok(places.as_ref().and_then(|places| places.get(&pack)).cloned().unwrap_or_default())
    }

    pub(crate) fn damaged(&self, pack: PackRef, source: impl Into<Damage>) -> RepoError {
        self.repo.damaged(&name::pack(pack.session, pack.pack), source)
    }
}

/// Buffers for fetching groups, used again and again.
#[derive(Debug, Default)]
pub struct GroupBuffers {
    frames: Vec<u8>,
    payload: Vec<u8>,
    /// Plaintext of the group fetched last.
    pub raw: Vec<u8>,
    decompressor: GroupDecompressor,
}

/// Blobs in the directories that are kept open, at about 80 bytes each: 20 MiB.
const OPENED_BLOBS_MAX: usize = 1 << 18;
/// What is fetched of a pack's end at first; most directories fit.
const END_BYTES_GUESS: u64 = 64 << 10;
