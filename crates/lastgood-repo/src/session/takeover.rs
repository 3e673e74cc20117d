//! What may be taken over from a snapshot that was retired, without reading its files again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lastgood_format::gc::PackLocation;
use lastgood_format::id::PackId;
use lastgood_format::packset::PackRef;
use lastgood_format::snapshot::Snapshot;

use crate::error::RepoError;
use crate::footing::Footings;
use crate::gc::LiveBlobs;
use crate::reader::BlobReader;
use crate::repository::Repository;
use crate::rounds::RoundLists;
use crate::snapshots::SnapshotRecord;

impl Repository {
    /// Of each retired snapshot, whether all that it needs may be referred to, as far as can be told
    /// without a session. Where packs of it were repacked, its trees are read.
    ///
    /// # Errors
    /// When gc's lists or the packs cannot be listed.
    pub fn may_take_over(
        self: &Arc<Self>,
        snapshots: &[SnapshotRecord],
    ) -> Result<Vec<bool>, RepoError> {
        let lists = RoundLists::load(self, self.newest_round()?)?;
        let listed = self.all_packs()?.into_iter().filter(|(session, pack, _)| {
            !lists.forbid(&PackLocation { session: *session, pack: *pack })
        });
        let there: HashSet<(PackId, u64)> = listed.map(|(_, pack, bytes)| (pack, bytes)).collect();
        let is_there = |pack: &PackRef| there.contains(&(pack.pack, pack.bytes));
        let reader = BlobReader::new(self.clone());
        let is_named = |record: &SnapshotRecord| -> Result<bool, RepoError> {
            let (packs, _) = reader.pack_set(&record.snapshot)?;
            let is_named = packs.iter().all(is_there);
            Ok(is_named || packs_by_content(&reader, &record.snapshot, &is_there)?.is_some())
        };
        let is_whole = |record: &SnapshotRecord| match is_named(record) {
            Err(error) if error.is_damage() => Ok(false),
            is_whole => is_whole,
        };
        snapshots.iter().map(is_whole).collect()
    }
}

/// The packs that hold what a snapshot refers to, of those that `may_refer_to` takes, by their own
/// directories; none when something is in none of them. Reads all of its trees.
pub(super) fn packs_by_content(
    reader: &BlobReader,
    snapshot: &Snapshot,
    may_refer_to: &dyn Fn(&PackRef) -> bool,
) -> Result<Option<Vec<PackRef>>, RepoError> {
    let index = reader.repo().index()?;
    index.refresh(reader.repo())?;
    let footings = Footings::new(&index, reader.packs(), may_refer_to);
    let mut packs: HashMap<PackId, PackRef> = HashMap::new();
    let roots = [snapshot.tree, snapshot.links, snapshot.hints];
    let walked = LiveBlobs::new(&index).walk_from(reader, roots, &mut |blob| {
        let found = footings.find(blob);
        let location = || reader.repo().location().to_owned();
        let found = found.ok_or_else(|| RepoError::MissingBlob { blob, location: location() })?;
        packs.extend(found.packs().map(|pack| (pack.pack, pack)));
        Ok(())
    });
    match walked {
        Ok(()) => Ok(Some(packs.into_values().collect())),
        Err(error) if !error.is_missing_blob() => Err(error),
        // A pack that the store cannot give may hold it all the same.
        Err(_) => match footings.unread().or_else(|| index.damage(reader.repo()).next()) {
            Some(trouble) => Err(trouble),
            None => Ok(None),
        },
    }
}
