//! Packs that no index segment covers: of runs that were cut off, or because segments are lost.
//! Spec: `docs/format/index.md`, section 4; `docs/format/config.md`, section 5.

use std::collections::HashSet;

use lastgood_format::id::{PackId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::Class;
use lastgood_format::object::name;
use lastgood_format::packset::PackRef;

use crate::error::RepoError;
use crate::packer::Shared;
use crate::reader::{BlobReader, PackReader};

/// Opens those of the `existing` packs that no segment covers and that may be referred to, and adds
/// them to the index, durably. Returns how many.
///
/// # Errors
/// Whatever the backend says. What is damaged is left out.
pub(crate) fn recover(
    shared: &Shared,
    existing: &[(SessionId, PackId, u64)],
    own: SessionId,
) -> Result<usize, RepoError> {
    let covered: HashSet<PackId> = shared.index.packs().into_iter().map(|pack| pack.pack).collect();
    let reader = PackReader::new(shared.repo.clone());
    let mut segment = IndexSegment::default();
    let mut recovered = 0;
    let mut settled = HashSet::new();
    // Asked for only where a pack is from before a rotation.
    let mut named = None;
    for &(session, pack, bytes) in existing {
        let mut pack = PackRef { session, pack, class: Class::Data, bytes };
        if covered.contains(&pack.pack) || !shared.may_refer_to(&pack) || session == own {
            continue;
        }
        // Foreign or damaged: not ours to use; check reports it.
        let Ok(opened) = reader.open(pack) else { continue };
        let header = &opened.header;
        if shared.repo.keys().is_rotated_out(header.class, header.session, &header.wrapped) {
            // Whoever has a root of before may say that anything is in it, but for what he said
            // before the rotation.
            let named = match &mut named {
                Some(named) => named,
                none => none.insert(packs_of_snapshots(shared)?),
            };
            if !named.contains(&pack.pack) {
                continue;
            }
        }
        // Its writer may have died before the name was durable. An index segment is put after the
        // packs that it covers, so those were.
        if settled.insert(session) {
            shared.repo.backend().settle(&format!("{}{session}/", name::PACKS))?;
        }
        pack.class = opened.header.class;
        segment.add_pack(pack, &opened.directory.blobs);
        recovered += 1;
        if segment.entries.len() >= ENTRIES_MAX {
            shared.adopt(std::mem::take(&mut segment))?;
        }
    }
    if !segment.packs.is_empty() {
        shared.adopt(segment)?;
    }
    Ok(recovered)
}

/// Every pack that a snapshot names, live or retired, as far as their pack sets can be read.
fn packs_of_snapshots(shared: &Shared) -> Result<HashSet<PackId>, RepoError> {
    let reader = BlobReader::new(shared.repo.clone());
    let (mut packs, mut pages) = (HashSet::new(), HashSet::new());
    let snapshots = shared.repo.snapshots()?;
    for record in snapshots.live.iter().chain(&snapshots.retired) {
        let snapshot = &record.snapshot;
        packs.extend(snapshot.ref_packs.iter().map(|pack| pack.pack));
        let mut add = |pack: PackRef| {
            packs.insert(pack.pack);
        };
        match reader.each_pack(snapshot.pack_set, &snapshot.ref_packs, &mut pages, &mut add) {
            Err(error) if !error.is_damage() => return Err(error),
            _ => {}
        }
    }
    Ok(packs)
}

/// Entries of one segment.
const ENTRIES_MAX: usize = 1 << 18;
