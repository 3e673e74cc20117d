//! Where a blob came from: the packs that hold it, the runs that wrote these, how it was
//! compressed, and what was decided about it since.

use std::collections::HashMap;
use std::sync::Arc;

use lastgood_format::config::DELTAS;
use lastgood_format::gc::PackLocation;
use lastgood_format::group::Compression;
use lastgood_format::id::{BlobId, SessionId, SnapshotId};
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;
use lastgood_format::page::Child;
use lastgood_format::session::Outcome;

use crate::check::trees::{Reference, push_name, read_references};
use crate::error::RepoError;
use crate::index::BlobSet;
use crate::reader::BlobReader;
use crate::relocations::Relocations;
use crate::repository::Repository;
use crate::rounds::RoundLists;
use crate::snapshots::SnapshotRecord;

/// One copy of a blob.
#[derive(Debug, Clone)]
pub struct StoredCopy {
    /// Its pack, and where that lies.
    pub pack: PackRef,
    /// The session that wrote the pack. Where the pack was repaired or replicated, that is not the
    /// one it lies under.
    pub written_by: SessionId,
    /// Bytes of the blob in its group.
    pub bytes: u32,
    /// How its group is compressed.
    pub compression: Compression,
    /// Bytes of the whole group before and after.
    pub group: (u32, u32),
    /// The blob it is a delta against.
    pub base: Option<BlobId>,
    /// What is known of the session.
    pub run: Run,
    /// The places that the pack stands in for, since gc repacked or a repair replaced them.
    pub stands_in_for: Vec<PackLocation>,
    /// What gc decided about this place.
    pub fate: Fate,
}

/// The run that wrote a pack.
#[derive(Debug, Clone)]
pub enum Run {
    /// It committed this snapshot, which may be retired.
    Committed(Box<SnapshotRecord>),
    /// It committed a snapshot that is gone, or cannot be read.
    Forgotten(SnapshotId),
    /// It committed none: it was cut off, or moved what was in other packs.
    Uncommitted,
    /// It has not ended; or it ended long ago, and gc removed the record of that.
    Open,
}

/// What gc decided about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Kept,
    /// It is proposed for removal, which is not decided.
    Condemned,
    /// It goes, or is gone.
    Decided,
}

/// Tells where blobs came from.
#[derive(Debug)]
pub struct Lineage {
    reader: BlobReader,
    lists: RoundLists,
    relocations: Relocations,
    /// What is known of sessions that were asked for.
    runs: HashMap<SessionId, Run>,
}

impl Lineage {
    /// Reads what gc decided so far.
    ///
    /// # Errors
    /// When a list of gc or a relocation cannot be read.
    pub fn new(repo: &Arc<Repository>) -> Result<Self, RepoError> {
        repo.index()?.refresh(repo)?;
        Ok(Self {
            lists: RoundLists::load(repo, repo.newest_round()?)?,
            relocations: repo.relocations()?,
            reader: BlobReader::new(repo.clone()),
            runs: HashMap::new(),
        })
    }

    /// What blobs are read by.
    #[must_use]
    pub const fn reader(&self) -> &BlobReader {
        &self.reader
    }

    /// All copies of a blob, with where they came from.
    ///
    /// # Errors
    /// When something that is needed to tell cannot be read.
    pub fn of(&mut self, kind: BlobKind, id: BlobId) -> Result<Vec<StoredCopy>, RepoError> {
        let mut copies: Vec<StoredCopy> = Vec::new();
        for place in self.reader.places(kind, id)? {
            // The index and a search may both have told of it.
            if copies.iter().any(|copy| copy.pack == place.pack) {
                continue;
            }
            let (written_by, group) = self.reader.group_entry(&place)?;
            let location = PackLocation { session: place.pack.session, pack: place.pack.pack };
            copies.push(StoredCopy {
                pack: place.pack,
                written_by,
                bytes: place.entry.bytes,
                compression: group.compression,
                group: (group.raw_bytes, group.stored_bytes),
                base: place.entry.base,
                run: self.run(written_by)?,
                stands_in_for: self.relocations.replaced_by(location.pack),
                fate: self.fate(&location),
            });
        }
        Ok(copies)
    }

    fn fate(&self, place: &PackLocation) -> Fate {
        match (self.lists.decided.contains(place), self.lists.pending.contains(place)) {
            (true, _) => Fate::Decided,
            (false, true) => Fate::Condemned,
            (false, false) => Fate::Kept,
        }
    }

    fn run(&mut self, session: SessionId) -> Result<Run, RepoError> {
        if let Some(run) = self.runs.get(&session) {
            return Ok(run.clone());
        }
        let repo = self.reader.repo();
        let run = match repo.outcome(session)? {
            Some(Outcome::Commit(snapshot)) => match repo.load_snapshot(snapshot) {
                Ok(Some(record)) => Run::Committed(Box::new(record)),
                Ok(None) => Run::Forgotten(snapshot),
                Err(error) if error.is_damage() => Run::Forgotten(snapshot),
                Err(error) => return Err(error),
            },
            Some(Outcome::Fenced) => Run::Uncommitted,
            None => Run::Open,
        };
        self.runs.insert(session, run.clone());
        Ok(run)
    }
}

/// The first path of a snapshot, without a leading slash, whose entry needs a blob: of a file, whose
/// content may be stored as a change of it, or of a directory for what describes it. Nothing when
/// none does.
///
/// # Errors
/// When a page cannot be read.
pub fn path_of(
    reader: &BlobReader,
    record: &SnapshotRecord,
    id: BlobId,
) -> Result<Option<Vec<u8>>, RepoError> {
    let met = BlobSet::beside(&*reader.repo().index()?);
    let has_deltas = reader.repo().history().has(DELTAS);
    let path = Arc::new(Vec::new());
    let snapshot = &record.snapshot;
    let lists = [(BlobKind::Tree, snapshot.tree), (BlobKind::Hints, snapshot.hints)];
    let root = |(kind, id)| Pending { kind, id, child: None, path: path.clone() };
    let mut open: Vec<Pending> = lists.into_iter().rev().map(root).collect();
    while let Some(at) = open.pop() {
        let is_chunk = at.kind == BlobKind::Chunk;
        if at.id == id || is_chunk && has_deltas && is_change_of(reader, at.id, id)? {
            return Ok(Some(at.path.to_vec()));
        }
        if is_chunk || !met.insert(at.id) {
            continue;
        }
        let (level, references) = read_references(reader, at.kind, at.id, at.child.as_ref())?;
        let below = |name: &[u8]| {
            let mut path = at.path.to_vec();
            push_name(&mut path, name);
            Arc::new(path)
        };
        open.extend(references.into_iter().rev().map(|reference| match reference {
            Reference::Page(child) => {
                let (kind, id, path) = (at.kind, child.page, at.path.clone());
                Pending { kind, id, child: Some((level, child)), path }
            }
            Reference::Chunk(name, id) => {
                Pending { kind: BlobKind::Chunk, id, child: None, path: below(&name) }
            }
            Reference::List(kind, name, id, _) => {
                Pending { kind, id, child: None, path: below(&name) }
            }
        }));
    }
    Ok(None)
}

/// Whether a chunk is stored as a change of another somewhere.
fn is_change_of(reader: &BlobReader, chunk: BlobId, base: BlobId) -> Result<bool, RepoError> {
    let places = reader.places(BlobKind::Chunk, chunk)?;
    Ok(places.iter().any(|place| place.entry.base == Some(base)))
}

/// Something that is going to be looked at.
struct Pending {
    kind: BlobKind,
    id: BlobId,
    /// What its parent page says of it, and the level of that.
    child: Option<(u8, Child)>,
    path: Arc<Vec<u8>>,
}
