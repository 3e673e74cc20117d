//! Checking a repository against itself.
//!
//! Three passes: every object is readable and is what its name says; every pack that a snapshot
//! names is there, and, where asked for, every byte of it decrypts to blobs that hash to their ids;
//! every blob that a tree refers to is in a pack that is fine. Nothing is changed.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lastgood_format::entry::{Content, Node};
use lastgood_format::hints::HintsCodec;
use lastgood_format::id::{BlobId, PackId, SessionId, SnapshotId};
use lastgood_format::limits::{PACK_BYTES_MAX, TREE_DEPTH_MAX};
use lastgood_format::links::LinksCodec;
use lastgood_format::object::name;
use lastgood_format::pack::{BlobKind, verify_bytes};
use lastgood_format::packset::PackRef;
use lastgood_format::recipe::{Part, RecipeCodec};
use lastgood_format::tree::TreeCodec;

use crate::error::{Damage, RepoError};
use crate::packer::lock;
use crate::reader::{BlobPlace, BlobReader, GroupBuffers};
use crate::repository::{Repository, object_name};
use crate::snapshots::SnapshotRecord;

/// How much pack data to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None: directories only.
    No,
    /// Every byte.
    All,
    /// The packs whose id falls into part `n` (from 1) of `t`.
    Part {
        /// Which part.
        n: u64,
        /// Of how many.
        t: u64,
    },
    /// Packs drawn at random, about this share of all bytes, 0 to 1.
    Share(f64),
    /// Packs drawn at random, about so many bytes.
    Bytes(u64),
}

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct CheckPlan {
    /// How much pack data to read.
    pub read_data: ReadData,
    /// Threads that read packs.
    pub threads: usize,
}

/// Hears how a check goes.
pub trait CheckObserver: Sync {
    /// So many packs and bytes are going to be read.
    fn total(&self, packs: u64, bytes: u64);
    /// So many more packs and bytes were read. Breaking stops the check.
    fn done(&self, packs: u64, bytes: u64) -> ControlFlow<()>;
    /// Something is damaged.
    fn damaged(&self, message: &str);
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Live snapshots.
    pub snapshots: u64,
    /// Packs that are stored.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Packs whose every byte was read.
    pub packs_read: u64,
    /// Bytes of these.
    pub bytes_read: u64,
    /// Blobs that trees refer to, each counted once.
    pub blobs: u64,
    /// Packs that no snapshot needs; gc may reclaim them.
    pub packs_unneeded: u64,
    /// Sessions without outcome: running now, or interrupted.
    pub sessions_open: u64,
    /// What is damaged, one line each; empty when all is well.
    pub damage: Vec<String>,
    /// Snapshots and paths that cannot be restored whole.
    pub affected: Vec<(SnapshotId, Vec<u8>)>,
    /// What works but should be known, such as a part of the index that is missing.
    pub remarks: Vec<String>,
    /// Whether the check was stopped before its end.
    pub is_stopped: bool,
}

/// Checks `repo`.
///
/// # Errors
/// When objects cannot be listed, or one could not be read and may be readable later: nothing is
/// called damaged that may be whole. Damage is in the report.
pub fn check(
    repo: &Arc<Repository>,
    plan: &CheckPlan,
    observer: &dyn CheckObserver,
) -> Result<CheckReport, RepoError> {
    let mut check = Check {
        repo,
        reader: BlobReader::new(repo.clone()),
        observer,
        report: CheckReport::default(),
        bad: HashSet::new(),
        needed: HashSet::new(),
    };
    let snapshots = check.objects()?;
    let packs = check.packs(&snapshots)?;
    check.read_packs(plan, &packs)?;
    if !check.report.is_stopped {
        check.trees(&snapshots)?;
    }
    Ok(check.report)
}

struct Check<'a> {
    repo: &'a Arc<Repository>,
    reader: BlobReader,
    observer: &'a dyn CheckObserver,
    report: CheckReport,
    /// Blobs whose bytes cannot be had.
    bad: HashSet<BlobId>,
    /// Packs that some live snapshot names.
    needed: HashSet<PackId>,
}

impl Check<'_> {
    /// Notes damage; an error that says nothing of what is stored ends the check.
    fn damage(&mut self, error: RepoError) -> Result<(), RepoError> {
        if error.is_transient() {
            return Err(error);
        }
        let message = chain(&error);
        self.observer.damaged(&message);
        self.report.damage.push(message);
        Ok(())
    }

    /// Snapshots, index segments, key slots, sessions.
    fn objects(&mut self) -> Result<Vec<SnapshotRecord>, RepoError> {
        let snapshots = self.repo.snapshots()?;
        snapshots.damaged.into_iter().try_for_each(|error| self.damage(error))?;
        self.report.snapshots = snapshots.live.len() as u64;
        let index = self.repo.index()?;
        for id in index.damaged() {
            self.damage(self.repo.damaged(
                &name::index(*id),
                Damage::State("it cannot be read; the next backup indexes its packs again"),
            ))?;
        }
        let mut slot_count = 0;
        self.repo.list(name::KEYS, &mut |_, _| slot_count += 1)?;
        let readable = self.repo.key_slots()?.len();
        if readable != slot_count {
            self.damage(self.repo.damaged(
                name::KEYS,
                Damage::State("a key slot cannot be read; remove it and add its key again"),
            ))?;
        }
        let mut sessions = Vec::new();
        self.repo
            .list(name::SESSIONS, &mut |id, _| sessions.extend(id.parse::<SessionId>().ok()))?;
        for session in sessions {
            match self.repo.outcome(session) {
                Ok(Some(_)) => {}
                Ok(None) => self.report.sessions_open += 1,
                Err(error) => self.damage(error)?,
            }
        }
        Ok(snapshots.live)
    }

    /// Every pack that a snapshot names is there, in its length, with a directory that opens.
    fn packs(&mut self, snapshots: &[SnapshotRecord]) -> Result<Vec<PackRef>, RepoError> {
        let existing = self.repo.all_packs()?;
        self.report.packs = existing.len() as u64;
        self.report.pack_bytes = existing.iter().map(|(_, _, bytes)| bytes).sum();
        let by_id: HashMap<PackId, u64> =
            existing.iter().map(|(_, pack, bytes)| (*pack, *bytes)).collect();
        let mut needed: HashMap<PackId, PackRef> = HashMap::new();
        for record in snapshots {
            match self.reader.add_snapshot(&record.snapshot) {
                Ok(set) => {
                    let packs = set.iter().chain(&record.snapshot.ref_packs);
                    needed.extend(packs.map(|pack| (pack.pack, *pack)));
                }
                Err(error) => {
                    self.damage(error)?;
                    self.report.affected.push((record.id, Vec::new()));
                }
            }
        }
        let indexed: HashSet<PackId> =
            self.repo.index()?.packs().into_iter().map(|pack| pack.pack).collect();
        let mut present = Vec::new();
        let mut unindexed = 0;
        for pack in needed.values() {
            let object = name::pack(pack.session, pack.pack);
            let state = match by_id.get(&pack.pack) {
                None => Some("it is missing"),
                Some(bytes) if *bytes != pack.bytes => Some("it is not of its length"),
                Some(_) => None,
            };
            if let Some(state) = state {
                self.damage(self.repo.damaged(&object, Damage::State(state)))?;
                continue;
            }
            unindexed += usize::from(!indexed.contains(&pack.pack));
            match self.reader.packs().open(*pack) {
                Ok(_) => present.push(*pack),
                Err(error) => self.damage(error)?,
            }
        }
        if unindexed > 0 {
            self.report.remarks.push(format!(
                "{unindexed} packs are in no index segment; the next backup indexes them"
            ));
        }
        self.report.packs_unneeded =
            existing.iter().filter(|(_, pack, _)| !needed.contains_key(pack)).count() as u64;
        self.needed = needed.into_keys().collect();
        present.sort();
        Ok(present)
    }

    /// Reads whole packs: checksums, id, tags, and the id of every blob.
    fn read_packs(&mut self, plan: &CheckPlan, packs: &[PackRef]) -> Result<(), RepoError> {
        let packs = self.selection(plan.read_data, packs);
        self.observer.total(packs.len() as u64, packs.iter().map(|pack| pack.bytes).sum());
        let next = AtomicUsize::new(0);
        let (read_count, read_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let found: Mutex<(Vec<RepoError>, HashSet<BlobId>)> = Mutex::default();
        let this = &*self;
        std::thread::scope(|scope| {
            for _ in 0..plan.threads.max(1) {
                scope.spawn(|| {
                    let mut buffers = GroupBuffers::default();
                    while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (errors, bad) = this.read_pack(*pack, &mut buffers);
                        let damage = errors.iter().filter(|error| !error.is_transient());
                        damage.for_each(|error| this.observer.damaged(&chain(error)));
                        let mut found = lock(&found);
                        found.0.extend(errors);
                        found.1.extend(bad);
                        drop(found);
                        read_count.fetch_add(1, Ordering::Relaxed);
                        read_bytes.fetch_add(pack.bytes, Ordering::Relaxed);
                        if this.observer.done(1, pack.bytes).is_break() {
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let (errors, bad) = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for error in errors {
            if error.is_transient() {
                return Err(error);
            }
            self.report.damage.push(chain(&error));
        }
        self.bad = bad;
        self.report.packs_read = read_count.into_inner();
        self.report.bytes_read = read_bytes.into_inner();
        self.report.is_stopped = self.report.packs_read < packs.len() as u64;
        Ok(())
    }

    fn selection(&self, read_data: ReadData, packs: &[PackRef]) -> Vec<PackRef> {
        let total: u64 = packs.iter().map(|pack| pack.bytes).sum();
        let lot = |pack: &PackRef| {
            u64::from_le_bytes(*pack.pack.as_bytes().first_chunk().unwrap_or(&[0; 8]))
        };
        let budget = match read_data {
            ReadData::No => return Vec::new(),
            ReadData::All => return packs.to_vec(),
            ReadData::Part { n, t } => {
                let chosen =
                    packs.iter().filter(|pack| lot(pack) % t.max(1) == n.saturating_sub(1));
                return chosen.copied().collect();
            }
            ReadData::Share(share) => (total as f64 * share.clamp(0.0, 1.0)) as u64,
            ReadData::Bytes(bytes) => bytes,
        };
        let salt = u64::from_le_bytes(self.repo.world().random());
        let mut packs = packs.to_vec();
        packs.sort_by_key(|pack| (lot(pack) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut sum = 0;
        packs.retain(|pack| {
            let is_within = sum < budget;
            sum += pack.bytes;
            is_within
        });
        packs
    }

    fn read_pack(
        &self,
        pack: PackRef,
        buffers: &mut GroupBuffers,
    ) -> (Vec<RepoError>, Vec<BlobId>) {
        let object = name::pack(pack.session, pack.pack);
        let mut errors = Vec::new();
        match self.repo.backend().get(&object_name(&object), PACK_BYTES_MAX) {
            Ok(bytes) => match verify_bytes(&bytes) {
                Ok(id) if id == pack.pack => {}
                Ok(_) => errors.push(self.repo.damaged(&object, Damage::Name)),
                Err(error) => errors.push(self.repo.damaged(&object, error)),
            },
            Err(error) => errors.push(RepoError::Backend(error)),
        }
        let mut bad = Vec::new();
        let opened = match self.reader.packs().open(pack) {
            Ok(opened) => opened,
            Err(error) => {
                errors.push(error);
                return (errors, bad);
            }
        };
        let mut blobs = opened.directory.blobs.as_slice();
        for group in 0..opened.directory.groups.len() as u32 {
            let count = blobs.partition_point(|blob| blob.group <= group);
            let (own, rest) = blobs.split_at(count);
            blobs = rest;
            if let Err(error) = self.reader.packs().group(pack, &opened, group, buffers) {
                errors.push(error);
                bad.extend(own.iter().map(|blob| blob.id));
                continue;
            }
            for blob in own {
                let result = match blob.base {
                    None => self.reader.packs().whole(pack, blob, &buffers.raw).map(drop),
                    Some(_) => self.reader.load(&BlobPlace { pack, entry: *blob }).map(drop),
                };
                if let Err(error) = result {
                    errors.push(error);
                    bad.push(blob.id);
                }
            }
        }
        (errors, bad)
    }

    /// Every blob that a snapshot's trees refer to can be found, and is none that was found bad.
    fn trees(&mut self, snapshots: &[SnapshotRecord]) -> Result<(), RepoError> {
        let mut walk = Walk { check: self, seen: HashMap::new(), errors: Vec::new() };
        let mut affected = Vec::new();
        for record in snapshots {
            let snapshot = &record.snapshot;
            let mut paths = Vec::new();
            walk.tree(snapshot.tree, &mut Vec::new(), 0, &mut paths);
            walk.list::<LinksCodec>(BlobKind::Links, snapshot.links, &mut paths);
            walk.hints(snapshot.hints, 0);
            affected.extend(paths.into_iter().map(|path| (record.id, path)));
        }
        let (seen, errors) = (walk.seen.len() as u64, walk.errors);
        self.report.blobs = seen;
        errors.into_iter().try_for_each(|error| self.damage(error))?;
        self.report.affected.extend(affected);
        if self.reader.is_index_wrong() {
            self.report.remarks.push(
                "the index does not know all blobs; they were found through the snapshots' packs"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Walks trees, each blob once; remembers whether what hangs below it is whole.
struct Walk<'a, 'b> {
    check: &'a Check<'b>,
    seen: HashMap<BlobId, bool>,
    errors: Vec<RepoError>,
}

impl Walk<'_, '_> {
    /// Notes a damaged blob the first time it is met.
    fn is_fine(&mut self, kind: BlobKind, id: BlobId) -> bool {
        if let Some(&is_fine) = self.seen.get(&id) {
            return is_fine;
        }
        let result = self.check.reader.locate(kind, id).and_then(|place| {
            let pack = place.pack;
            if self.check.needed.contains(&pack.pack) {
                return Ok(());
            }
            // It restores today, and would not once gc has removed what no snapshot names.
            let object = name::pack(pack.session, pack.pack);
            let state = "it holds a blob that a snapshot needs, and no snapshot names it";
            Err(self.check.repo.damaged(&object, Damage::State(state)))
        });
        let is_fine = result.is_ok() && !self.check.bad.contains(&id);
        if let Err(error) = result {
            self.errors.push(error);
        }
        self.seen.insert(id, is_fine);
        is_fine
    }

    fn tree(
        &mut self,
        tree: BlobId,
        path: &mut Vec<u8>,
        depth: usize,
        affected: &mut Vec<Vec<u8>>,
    ) -> bool {
        // A subtree that is whole need not be walked again; a broken one is, for its paths.
        if self.seen.get(&tree) == Some(&true) {
            return true;
        }
        let mut entries = Vec::new();
        let read = self.check.reader.walk::<TreeCodec>(BlobKind::Tree, tree, &mut |entry| {
            entries.push(entry);
            Ok(())
        });
        if depth > TREE_DEPTH_MAX || read.is_err() {
            if let Err(error) = read {
                self.errors.push(error);
            }
            self.seen.insert(tree, false);
            affected.push(path.clone());
            return false;
        }
        let mut is_whole = true;
        for entry in entries {
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            let is_fine = match entry.node {
                Node::Directory { tree } => self.tree(tree, path, depth + 1, affected),
                Node::File { content: Content::Chunk(id), .. } => {
                    let is_fine = self.is_fine(BlobKind::Chunk, id);
                    affected.extend((!is_fine).then(|| path.clone()));
                    is_fine
                }
                Node::File { content: Content::Recipe(id), .. } => {
                    let is_fine = self.recipe(id);
                    affected.extend((!is_fine).then(|| path.clone()));
                    is_fine
                }
                _ => true,
            };
            is_whole &= is_fine;
            path.truncate(length);
        }
        self.seen.insert(tree, is_whole);
        is_whole
    }

    fn recipe(&mut self, recipe: BlobId) -> bool {
        if let Some(&is_whole) = self.seen.get(&recipe) {
            return is_whole;
        }
        let mut chunks = Vec::new();
        let read = self.check.reader.walk::<RecipeCodec>(BlobKind::Recipe, recipe, &mut |part| {
            match part {
                Part::Chunk { id, .. } | Part::Repeat { id, .. } => chunks.push(id),
                Part::Hole { .. } => {}
            }
            Ok(())
        });
        let mut is_whole = read.is_ok();
        if let Err(error) = read {
            self.errors.push(error);
        }
        for chunk in chunks {
            is_whole &= self.is_fine(BlobKind::Chunk, chunk);
        }
        self.seen.insert(recipe, is_whole);
        is_whole
    }

    fn list<C: lastgood_format::page::LeafCodec>(
        &mut self,
        kind: BlobKind,
        root: BlobId,
        affected: &mut Vec<Vec<u8>>,
    ) {
        if self.seen.contains_key(&root) {
            return;
        }
        let read = self.check.reader.walk::<C>(kind, root, &mut |_| Ok(()));
        self.seen.insert(root, read.is_ok());
        if let Err(error) = read {
            self.errors.push(error);
            affected.push(Vec::new());
        }
    }

    /// Hints are no part of what is restored, so damage there affects no path.
    fn hints(&mut self, root: BlobId, depth: usize) {
        if depth > TREE_DEPTH_MAX || self.seen.contains_key(&root) {
            return;
        }
        let mut children = Vec::new();
        let read = self.check.reader.walk::<HintsCodec>(BlobKind::Hints, root, &mut |item| {
            children.extend(item.children);
            Ok(())
        });
        self.seen.insert(root, read.is_ok());
        if let Err(error) = read {
            self.errors.push(error);
        }
        children.into_iter().for_each(|child| self.hints(child, depth + 1));
    }
}

/// An error with its causes, on one line, nothing said twice.
fn chain(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
