//! Blobs that parity cannot bring back, taken from wherever they can be had: stored in new packs,
//! which relocations put in the place of the damaged ones.
//! Spec: `docs/format/commit.md`, section 7.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use lastgood_format::gc::{PackLocation, Relocation};
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::object::{name, object_id};
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;

use super::copies::RepositoryCopy;
use super::lost::{LostBlobs, NamedPacks, Search};
use crate::error::RepoError;
use crate::gc::Places;
use crate::packer::{BlobWriter, Settings};
use crate::reader::BlobReader;
use crate::repository::Repository;
use crate::session::WriteSession;
use crate::snapshots::SnapshotRecord;

/// A search for lost blobs. Whoever has one offers it; what it is, its id tells.
#[derive(Debug)]
pub struct Recovery {
    repo: Arc<Repository>,
    reader: BlobReader,
    records: Vec<SnapshotRecord>,
    named: NamedPacks,
    lost_packs: HashSet<PackId>,
    /// Packs that relocations tell of.
    moved: HashSet<PackId>,
    wanted: BTreeMap<BlobId, BlobKind>,
    /// What was offered, with the bytes of pages: what they refer to is looked for as well.
    found: HashMap<BlobId, Vec<u8>>,
    storing: Option<(WriteSession, BlobWriter)>,
}

/// What a recovery stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Blobs that were lost.
    pub blobs: u64,
    /// Packs that other packs stand in for now.
    pub packs_replaced: u64,
}

impl Recovery {
    /// Prepares to look for what `records` need. `lost_packs` are damaged beyond mending, or gone;
    /// all others were read and are whole. What `copies` can read of the sets of packs is going to
    /// be mended from there.
    ///
    /// # Errors
    /// Whatever the backend says.
    pub fn new(
        repo: &Arc<Repository>,
        records: Vec<SnapshotRecord>,
        lost_packs: HashSet<PackId>,
        copies: &[RepositoryCopy],
    ) -> Result<Self, RepoError> {
        let reader = BlobReader::new(repo.clone());
        let others = copies.iter().map(|copy| BlobReader::new(copy.repo().clone()));
        let others: Vec<BlobReader> = others.collect();
        let readers: Vec<&BlobReader> = std::iter::once(&reader).chain(&others).collect();
        let named = NamedPacks::of(&readers, &records)?;
        reader.add_packs(Arc::new(named.packs.values().copied().collect()));
        Ok(Self {
            repo: repo.clone(),
            reader,
            records,
            named,
            lost_packs,
            moved: repo.relocations()?.moved_packs().collect(),
            wanted: BTreeMap::new(),
            found: HashMap::new(),
            storing: None,
        })
    }

    /// Stores what is offered from now on, in a session of the writer of that name; without this,
    /// what is offered is only counted.
    ///
    /// # Errors
    /// Whatever the backend says.
    pub fn store(&mut self, writer_name: &[u8; 16]) -> Result<(), RepoError> {
        let settings = Settings::default();
        let session =
            WriteSession::begin_without(&self.repo, settings, writer_name, &self.lost_packs)?;
        let writer = session.writer();
        self.storing = Some((session, writer));
        Ok(())
    }

    /// Looks what is lost, but for what was offered; blobs that only lie in the wrong place are
    /// taken from there. A page that is lost hides what is below it, so look again when something
    /// was offered.
    ///
    /// # Errors
    /// What `proceed` returns; when something may be readable later.
    pub fn search(
        &mut self,
        proceed: &dyn Fn() -> Result<(), RepoError>,
    ) -> Result<LostBlobs, RepoError> {
        let search = Search::new(&self.reader, &self.named, &self.lost_packs, &self.found);
        let lost = search.run(&self.records, proceed)?;
        self.wanted.extend(lost.lost.iter().chain(&lost.loose));
        for (id, kind) in &lost.loose {
            let bytes = self.reader.blob(*kind, *id)?;
            self.offer(*kind, &bytes)?;
        }
        Ok(lost)
    }

    /// Whether a blob is looked for.
    #[must_use]
    pub fn is_wanted(&self, id: BlobId) -> bool {
        self.wanted.contains_key(&id) && !self.found.contains_key(&id)
    }

    /// Takes a blob if it is looked for, and says whether it was.
    ///
    /// # Errors
    /// What stopped the session.
    pub fn offer(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<bool, RepoError> {
        let id = self.repo.keys().blob_id(kind, bytes);
        if self.wanted.get(&id) != Some(&kind) || self.found.contains_key(&id) {
            return Ok(false);
        }
        if let Some((_, writer)) = &mut self.storing {
            writer.add_identified(kind, id, bytes)?;
        }
        let kept = if kind == BlobKind::Chunk { Vec::new() } else { bytes.to_vec() };
        self.found.insert(id, kept);
        Ok(true)
    }

    /// Whether something is lost that is not in its place by now, as far as was searched.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.wanted.is_empty() || self.unreplaced().next().is_some()
    }

    /// Lost packs that snapshots name, and that no relocation tells of.
    fn unreplaced(&self) -> impl Iterator<Item = &PackRef> {
        let lost = self.named.packs.values().filter(|pack| self.lost_packs.contains(&pack.pack));
        lost.filter(|pack| !self.moved.contains(&pack.pack))
    }

    /// Blobs that were offered so far.
    #[must_use]
    pub fn found_count(&self) -> u64 {
        self.found.len() as u64
    }

    /// Makes what was stored durable and puts it in the place of the packs that are lost. Ends the
    /// session.
    ///
    /// # Errors
    /// Whatever the backend says; what was stored by then is garbage, and the repair can be
    /// repeated.
    pub fn finish(mut self) -> Result<Recovered, RepoError> {
        let Some((mut session, writer)) = self.storing.take() else {
            return Ok(Recovered::default());
        };
        writer.finish()?;
        session.store_all()?;
        let places = Places::list(&self.repo)?;
        let found = self.found.keys().filter_map(|blob| session.places_of(*blob, &places));
        let to: BTreeSet<PackLocation> = found.flatten().collect();
        let from = self.replaced(&places, !to.is_empty());
        let is_new = !to.is_empty() || self.unreplaced().next().is_some();
        if is_new && !from.is_empty() {
            let positions: Vec<u32> = (0..to.len() as u32).collect();
            let relocation = Relocation {
                moved: from.iter().map(|place| (*place, positions.clone())).collect(),
                to: to.into_iter().collect(),
            };
            let keys = self.repo.keys();
            let bytes = relocation.encode(keys, &keys.maintenance());
            self.repo.put(&name::relocation(object_id(&bytes)), &bytes)?;
        }
        let packs: HashSet<PackId> = from.iter().map(|place| place.pack).collect();
        Ok(Recovered { blobs: self.found.len() as u64, packs_replaced: packs.len() as u64 })
        // The session goes, and is fenced: the relocation keeps what it stored from here on.
    }

    /// The places of the lost packs that snapshots name: those that are there, or the one that is
    /// told where none is. Where snapshots lack blobs and no pack, one pack of each stands for it.
    fn replaced(&self, places: &Places, is_needed: bool) -> BTreeSet<PackLocation> {
        let lost = self.named.packs.values().filter(|pack| self.lost_packs.contains(&pack.pack));
        let mut lost: Vec<&PackRef> = lost.collect();
        if lost.is_empty() && is_needed {
            lost = self.named.of_each.iter().collect();
        }
        let mut from = BTreeSet::new();
        for pack in lost {
            let told = PackLocation { session: pack.session, pack: pack.pack };
            let mut listed = places.of(pack.pack).map(|(place, _)| place).peekable();
            if listed.peek().is_none() {
                from.insert(told);
            }
            from.extend(listed);
        }
        from
    }
}
