//! Repair, object by object: what is damaged is stored whole again, from its parity or a copy of
//! the repository.
//!
//! Nothing is overwritten, and nothing but unreadable parts of the index removed. A pack goes to a
//! new place, under a session of its own that commits nothing; references name the pack and not
//! its place, so readers find it. Any other object goes to `repaired/` and its name. What is
//! damaged stays until gc finds that it is not needed. Blobs of packs that this cannot mend are
//! the business of [`Recovery`](recovery::Recovery).

mod copies;
mod gone;
mod lost;
mod recovery;
mod replace;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lastgood_backend::{ErrorKind, PutOutcome};
use lastgood_format::id::{ObjectId, PackId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::limits::{PACK_BYTES_MAX, SMALL_OBJECT_BYTES_MAX};
use lastgood_format::object::{name, object_id};
use lastgood_format::pack::{mend, open_whole, verify_bytes};
use lastgood_format::packset::PackRef;

use crate::check::{CheckObserver, chain, inner};
use crate::error::{Damage, RepoError};
use crate::objects::{self, KINDS, inspect, object_name, read_around};
use crate::packer::{Settings, lock};
use crate::repository::Repository;
use crate::session::{Announced, WriteSession};
use crate::snapshots::SnapshotRecord;
pub use copies::RepositoryCopy;
pub use lost::{Affected, LostBlobs};
pub use recovery::{Recovered, Recovery};
pub use replace::{INCOMPLETE_SUFFIX, Replacing};

/// What a repair does.
#[derive(Debug, Clone, Copy)]
pub struct RepairPlan<'a> {
    /// Threads that read packs; each holds two of them.
    pub threads: usize,
    /// Only tells what would be stored.
    pub dry_run: bool,
    /// Name of the writer that the session of the repaired packs is announced by.
    pub writer_name: [u8; 16],
    /// Where else objects are looked for, in this order.
    pub copies: &'a [RepositoryCopy],
    /// Packs that were read and found whole just now, by the repair that told what would be done:
    /// they are not read again.
    pub whole: &'a HashSet<PackId>,
}

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Packs and other objects that were read.
    pub objects_read: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Names of objects that are stored whole now, or would be in a dry run.
    pub repaired: Vec<String>,
    /// Those of them that came from a copy, and where that is.
    pub from_copies: BTreeMap<String, String>,
    /// Snapshots that were unreadable or gone and came from a copy.
    pub snapshots: Vec<SnapshotRecord>,
    /// Packs that no part of the index covered, and one covers now, or would in a dry run.
    pub indexed: u64,
    /// Unreadable parts of the index that were removed, or would be: packs tell all they told.
    pub unindexed: Vec<String>,
    /// Objects other than packs that are damaged and cannot be mended, one line each.
    pub lost: Vec<String>,
    /// Packs that are damaged or gone and cannot be mended, one line each. What is lost of them is
    /// for [`Recovery`] to find out; one of which relocations tell is not among them.
    pub damaged_packs: Vec<String>,
    /// All packs that are damaged beyond their parity, or gone.
    pub lost_packs: BTreeSet<PackId>,
    /// Packs that are whole in one of their places.
    pub whole: HashSet<PackId>,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// Reads everything that is stored, and stores whole again what is damaged and can be mended.
///
/// # Errors
/// When objects cannot be listed, or what was mended cannot be stored; or one could not be read
/// and may be readable later. What was stored by then stays.
pub fn repair(
    repo: &Arc<Repository>,
    plan: &RepairPlan<'_>,
    observer: &dyn CheckObserver,
) -> Result<RepairReport, RepoError> {
    let repair = Repair {
        repo,
        plan,
        observer,
        report: Mutex::default(),
        storing: Mutex::default(),
        good: Mutex::default(),
        unreadable_segments: Mutex::default(),
        moved: Mutex::default(),
        failed: Mutex::default(),
    };
    repair.objects()?;
    let needed = repair.gone()?;
    repair.packs(needed)?;
    repair.finish()
}

struct Repair<'a> {
    repo: &'a Arc<Repository>,
    plan: &'a RepairPlan<'a>,
    observer: &'a dyn CheckObserver,
    report: Mutex<RepairReport>,
    storing: Mutex<Option<Storing>>,
    /// Packs that are whole, or are now.
    good: Mutex<HashSet<PackId>>,
    unreadable_segments: Mutex<Vec<ObjectId>>,
    /// Packs of which relocations tell.
    moved: Mutex<HashSet<PackId>>,
    failed: Mutex<Option<RepoError>>,
}

/// The session of the repaired packs, which begins with the first of them.
struct Storing {
    announced: Announced,
    segment: IndexSegment,
}

impl Repair<'_> {
    fn lost(&self, error: &RepoError) {
        let message = chain(error);
        self.observer.damaged(&message);
        lock(&self.report).lost.push(message);
    }

    fn lost_pack(&self, error: &RepoError) {
        let message = chain(error);
        self.observer.damaged(&message);
        lock(&self.report).damaged_packs.push(message);
    }

    /// Everything but packs.
    fn objects(&self) -> Result<(), RepoError> {
        for &(kind, bytes_max) in KINDS {
            let mut names = Vec::new();
            if kind == name::CONFIG {
                names.push(kind.to_owned());
            } else {
                self.repo.list(kind, &mut |rest, _| names.push(format!("{kind}{rest}")))?;
            }
            if kind == name::REVISIONS {
                let copy = name::revision(name::FIRST_REVISION);
                names.extend((!names.contains(&copy)).then_some(copy));
            }
            for object in names.into_iter().filter(|object| !self.repo.is_void(object)) {
                self.object(&object, bytes_max)?;
            }
        }
        Ok(())
    }

    fn object(&self, object: &str, bytes_max: u64) -> Result<(), RepoError> {
        let backend = self.repo.backend().as_ref();
        let Some(remains) = objects::survey(backend, object, bytes_max)? else {
            return match self.twin(object)? {
                Some(content) => {
                    self.put(object, &content, bytes_max)?;
                    self.note(object, None);
                    Ok(())
                }
                None => Ok(()),
            };
        };
        lock(&self.report).objects_read += 1;
        if remains.is_whole {
            return Ok(());
        }
        let found = match remains.content {
            Ok(content) => Some((content, None)),
            Err(_) => match self.twin(object)? {
                Some(content) => Some((content, None)),
                None => self.in_copies(&|copy| copy.content(object, bytes_max))?,
            },
        };
        match (found, remains.free) {
            (Some((content, from)), Some(free)) => {
                self.put(&free, &content, bytes_max)?;
                self.note(object, from);
            }
            // As many repairs rotted as there are names for; it can be read all the same.
            (Some((_, None)), None) => {}
            _ => match object.strip_prefix(name::INDEX).and_then(|id| id.parse().ok()) {
                Some(segment) => lock(&self.unreadable_segments).push(segment),
                None => self.lost(&unreadable(self.repo, object, bytes_max)),
            },
        }
        Ok(())
    }

    /// What the other copy of the config holds, for either of the two.
    fn twin(&self, object: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let copy = name::revision(name::FIRST_REVISION);
        let twin = match object {
            name::CONFIG => &copy,
            object if object == copy => name::CONFIG,
            _ => return Ok(None),
        };
        let backend = self.repo.backend().as_ref();
        let found = objects::survey(backend, twin, SMALL_OBJECT_BYTES_MAX)?;
        Ok(found.and_then(|remains| remains.content.ok()))
    }

    /// What the first copy has of something, and where that copy is.
    fn in_copies<T>(
        &self,
        look: &dyn Fn(&RepositoryCopy) -> Result<Option<T>, RepoError>,
    ) -> Result<Option<(T, Option<String>)>, RepoError> {
        for copy in self.plan.copies {
            if let Some(found) = look(copy)? {
                return Ok(Some((found, Some(copy.repo().location().to_owned()))));
            }
        }
        Ok(None)
    }

    /// Notes that an object is stored whole now, and the copy that it came from.
    fn note(&self, object: &str, from: Option<String>) {
        if !self.plan.dry_run {
            self.repo.mended.note(object, true);
        }
        let mut report = lock(&self.report);
        report.repaired.push(object.to_owned());
        report.from_copies.extend(from.map(|from| (object.to_owned(), from)));
    }

    /// Stores an object that is no pack under a free name, and reads it back.
    fn put(&self, free: &str, content: &[u8], bytes_max: u64) -> Result<(), RepoError> {
        if self.plan.dry_run {
            return Ok(());
        }
        let backend = self.repo.backend().as_ref();
        objects::put(backend, free, content)?;
        let stored = inspect(backend, free, bytes_max)?;
        if !stored.is_some_and(|found| found.damaged == 0 && found.content == content) {
            let why = Damage::State("it was stored just now and is damaged already");
            return Err(self.repo.damaged(free, why));
        }
        Ok(())
    }

    /// Every pack that is there or `needed`.
    fn packs(&self, needed: HashSet<PackId>) -> Result<(), RepoError> {
        let mut places: BTreeMap<PackId, Vec<SessionId>> =
            needed.into_iter().map(|pack| (pack, Vec::new())).collect();
        let mut total = 0;
        for (session, pack, bytes) in self.repo.all_packs()? {
            places.entry(pack).or_default().push(session);
            total += bytes;
        }
        let packs: Vec<(PackId, Vec<SessionId>)> = places.into_iter().collect();
        self.observer.total(packs.len() as u64, total);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.plan.threads.max(1) {
                scope.spawn(|| {
                    while let Some((pack, places)) = packs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let flow = self.pack(*pack, places).unwrap_or_else(|error| {
                            lock(&self.failed).get_or_insert(error);
                            ControlFlow::Break(())
                        });
                        if flow.is_break() {
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                            lock(&self.report).is_stopped = true;
                        }
                    }
                });
            }
        });
        Ok(())
    }

    /// Reads a pack from all its places until one is whole; where none is, stores it anew.
    fn pack(&self, pack: PackId, places: &[SessionId]) -> Result<ControlFlow<()>, RepoError> {
        let (mut mended, mut read_bytes) = (None, 0);
        let mut error = places
            .is_empty()
            .then(|| self.repo.damaged(&format!("pack {pack}"), Damage::State("it is missing")));
        let mut is_whole = !places.is_empty() && self.plan.whole.contains(&pack);
        for &session in places {
            if is_whole {
                break;
            }
            let object = name::pack(session, pack);
            let backend = self.repo.backend().as_ref();
            let bytes = match read_around(backend, &object_name(&object), PACK_BYTES_MAX) {
                Ok((bytes, _)) => bytes,
                // Gc removed it meanwhile.
                Err(error) if error.kind == ErrorKind::NotFound => continue,
                Err(unreadable) => {
                    let unreadable = RepoError::from(unreadable);
                    if !unreadable.is_damage() {
                        return Err(unreadable);
                    }
                    error = Some(unreadable);
                    continue;
                }
            };
            read_bytes += bytes.len() as u64;
            is_whole = verify_bytes(&bytes) == Ok(pack);
            if is_whole {
                continue;
            }
            match mend(&bytes, pack) {
                Ok(whole) => mended = Some((object, whole.bytes)),
                Err(_) => {
                    let why = verify_bytes(&bytes).map_or_else(Damage::Pack, |_| Damage::Name);
                    error = Some(self.repo.damaged(&object, why));
                }
            }
        }
        {
            let mut report = lock(&self.report);
            report.objects_read += 1;
            report.bytes_read += read_bytes;
            if is_whole {
                report.whole.insert(pack);
            }
        }
        let is_lost = !is_whole && mended.is_none() && error.is_some();
        if is_lost {
            lock(&self.report).lost_packs.insert(pack);
        } else {
            lock(&self.good).insert(pack);
        }
        match (mended, error) {
            _ if is_whole => {}
            (Some((object, bytes)), _) => self.store(pack, &object, &bytes, None)?,
            (None, Some(error)) => match self.in_copies(&|copy| copy.pack(pack))? {
                Some((bytes, from)) => {
                    let object = places.first().map(|session| name::pack(*session, pack));
                    let object = object.unwrap_or_else(|| format!("pack {pack}"));
                    self.store(pack, &object, &bytes, from)?;
                }
                // What was live in it is elsewhere, or is found missing there.
                None if lock(&self.moved).contains(&pack) => {}
                None => self.lost_pack(&error),
            },
            (None, None) => {}
        }
        Ok(self.observer.done(1, read_bytes))
    }

    /// Stores a mended pack in a new place and reads it back.
    fn store(
        &self,
        pack: PackId,
        object: &str,
        bytes: &[u8],
        from: Option<String>,
    ) -> Result<(), RepoError> {
        // A pack that nobody with this key made is not ours to carry on.
        let opened = match open_whole(self.repo.keys(), bytes) {
            Ok(opened) => opened,
            Err(error) => {
                lock(&self.good).remove(&pack);
                lock(&self.report).lost_packs.insert(pack);
                self.lost_pack(&self.repo.damaged(object, error));
                return Ok(());
            }
        };
        if !self.plan.dry_run {
            let mut storing = lock(&self.storing);
            let storing = match &mut *storing {
                Some(storing) => storing,
                none => none.insert(Storing {
                    announced: Announced::begin(self.repo, &self.plan.writer_name)?,
                    segment: IndexSegment::default(),
                }),
            };
            let session = storing.announced.id();
            let place = object_name(&name::pack(session, pack));
            let backend = self.repo.backend();
            if backend.put(&place, &[bytes])? == PutOutcome::Exists
                || backend.get(&place, bytes.len() as u64)? != bytes
            {
                let why = Damage::State("it was stored just now and is damaged already");
                return Err(self.repo.damaged(place.as_str(), why));
            }
            let (class, bytes) = (opened.header.class, bytes.len() as u64);
            storing
                .segment
                .add_pack(PackRef { session, pack, class, bytes }, &opened.directory.blobs);
            if storing.segment.entries.len() >= SEGMENT_ENTRIES {
                storing.put_segment(self.repo)?;
            }
            lock(&self.good).insert(pack);
            lock(&self.report).lost_packs.remove(&pack);
        }
        self.note(object, from);
        Ok(())
    }

    /// Puts the index of the repaired packs, and ends their session.
    fn finish(mut self) -> Result<RepairReport, RepoError> {
        if let Some(error) = inner(std::mem::take(&mut self.failed)) {
            return Err(error);
        }
        if let Some(mut storing) = inner(std::mem::take(&mut self.storing)) {
            storing.put_segment(self.repo)?;
            drop(storing);
            self.repo.index()?.refresh(self.repo)?;
        }
        if !lock(&self.report).is_stopped {
            self.index()?;
        }
        let mut report = inner(self.report);
        report.repaired.sort();
        Ok(report)
    }

    /// Indexes packs that no segment covers, then removes segments that cannot be read: all that
    /// they told is told by others now. spec: index §4
    fn index(&self) -> Result<(), RepoError> {
        let covered: HashSet<PackId> =
            self.repo.index()?.packs().into_iter().map(|pack| pack.pack).collect();
        let good = lock(&self.good).clone();
        let mut indexed = good.difference(&covered).count() as u64;
        let mut unreadable = std::mem::take(&mut *lock(&self.unreadable_segments));
        unreadable.sort();
        if !self.plan.dry_run {
            if indexed > 0 {
                let (settings, writer) = (Settings::default(), &self.plan.writer_name);
                let avoid = HashSet::new();
                let session = WriteSession::begin_without(self.repo, settings, writer, &avoid)?;
                indexed = session.recovered_packs() as u64;
            }
            for id in &unreadable {
                objects::remove(self.repo.backend().as_ref(), &name::index(*id))?;
            }
        }
        let mut report = lock(&self.report);
        report.indexed = indexed;
        report.unindexed = unreadable.into_iter().map(name::index).collect();
        Ok(())
    }
}

/// Why an object cannot be read.
fn unreadable(repo: &Repository, object: &str, bytes_max: u64) -> RepoError {
    match inspect(repo.backend().as_ref(), object, bytes_max) {
        Err(error) => error,
        Ok(_) => repo.damaged(object, Damage::State("it cannot be read")),
    }
}

impl Storing {
    fn put_segment(&mut self, repo: &Repository) -> Result<(), RepoError> {
        let mut segment = std::mem::take(&mut self.segment);
        if segment.packs.is_empty() {
            return Ok(());
        }
        segment.entries.sort_unstable();
        let bytes = segment.encode(repo.keys(), self.announced.id(), &repo.world().random());
        repo.put(&name::index(object_id(&bytes)), &bytes)?;
        Ok(())
    }
}

/// Entries of one segment of repaired packs.
const SEGMENT_ENTRIES: usize = 1 << 18;
