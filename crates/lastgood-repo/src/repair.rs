//! Repair: what is damaged, and of which nothing is lost, is stored whole again.
//!
//! Nothing is overwritten or removed. A pack goes to a new place, under a session of its own that
//! commits nothing; references name the pack and not its place, so readers find it. Any other
//! object goes to `repaired/` and its name. What is damaged stays until gc finds that it is not
//! needed. Mending takes no key; only announcing the session does.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lastgood_backend::{ErrorKind, PutOutcome};
use lastgood_format::id::{PackId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::limits::PACK_BYTES_MAX;
use lastgood_format::object::{name, object_id};
use lastgood_format::pack::{mend, open_whole, verify_bytes};
use lastgood_format::packset::PackRef;

use crate::check::{CheckObserver, chain, inner};
use crate::error::{Damage, RepoError};
use crate::objects::{self, KINDS, inspect, object_name, read_around};
use crate::packer::lock;
use crate::repository::Repository;
use crate::session::Announced;

/// What a repair does.
#[derive(Debug, Clone, Copy)]
pub struct RepairPlan {
    /// Threads that read packs; each holds two of them.
    pub threads: usize,
    /// Only tells what would be stored.
    pub dry_run: bool,
    /// Name of the writer that the session of the repaired packs is announced by.
    pub writer_name: [u8; 16],
}

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Packs and other objects that were read.
    pub objects_read: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Names of damaged objects that are stored whole now, or would be in a dry run.
    pub repaired: Vec<String>,
    /// What is damaged and cannot be mended, one line each.
    pub lost: Vec<String>,
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
    plan: &RepairPlan,
    observer: &dyn CheckObserver,
) -> Result<RepairReport, RepoError> {
    let repair = Repair {
        repo,
        plan,
        observer,
        report: Mutex::default(),
        storing: Mutex::default(),
        failed: Mutex::default(),
    };
    repair.objects()?;
    repair.packs()?;
    repair.finish()
}

struct Repair<'a> {
    repo: &'a Arc<Repository>,
    plan: &'a RepairPlan,
    observer: &'a dyn CheckObserver,
    report: Mutex<RepairReport>,
    storing: Mutex<Option<Storing>>,
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

    /// Everything but packs.
    fn objects(&self) -> Result<(), RepoError> {
        for &(kind, bytes_max) in KINDS {
            let mut names = Vec::new();
            if kind == name::CONFIG {
                names.push(kind.to_owned());
            } else {
                self.repo.list(kind, &mut |rest, _| names.push(format!("{kind}{rest}")))?;
            }
            for object in names {
                self.object(&object, bytes_max)?;
            }
        }
        Ok(())
    }

    fn object(&self, object: &str, bytes_max: u64) -> Result<(), RepoError> {
        let backend = self.repo.backend().as_ref();
        let Some(remains) = objects::survey(backend, object, bytes_max)? else { return Ok(()) };
        lock(&self.report).objects_read += 1;
        match (remains.content, remains.free) {
            _ if remains.is_whole => return Ok(()),
            (Err(error), _) => {
                self.lost(&error);
                return Ok(());
            }
            (Ok(content), Some(free)) => {
                if !self.plan.dry_run {
                    objects::put(backend, &free, &content)?;
                    let stored = inspect(backend, &free, bytes_max)?;
                    if !stored.is_some_and(|found| found.damaged == 0 && found.content == content) {
                        let why = Damage::State("it was stored just now and is damaged already");
                        return Err(self.repo.damaged(&free, why));
                    }
                }
            }
            // As many repairs rotted as there are names for; it can be read all the same.
            (Ok(_), None) => return Ok(()),
        }
        lock(&self.report).repaired.push(object.to_owned());
        Ok(())
    }

    fn packs(&self) -> Result<(), RepoError> {
        let mut places: BTreeMap<PackId, Vec<SessionId>> = BTreeMap::new();
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
        let (mut mended, mut error, mut read_bytes) = (None, None, 0);
        let mut is_whole = false;
        for &session in places {
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
                break;
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
        }
        match (mended, error) {
            _ if is_whole => {}
            (Some((object, bytes)), _) => self.store(pack, &object, &bytes)?,
            (None, Some(error)) => self.lost(&error),
            (None, None) => {}
        }
        Ok(self.observer.done(1, read_bytes))
    }

    /// Stores a mended pack in a new place and reads it back.
    fn store(&self, pack: PackId, object: &str, bytes: &[u8]) -> Result<(), RepoError> {
        // A pack that nobody with this key made is not ours to carry on.
        let opened = match open_whole(self.repo.keys(), bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.lost(&self.repo.damaged(object, error));
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
        }
        lock(&self.report).repaired.push(object.to_owned());
        Ok(())
    }

    /// Puts the index of the repaired packs, and ends their session.
    fn finish(self) -> Result<RepairReport, RepoError> {
        if let Some(error) = inner(self.failed) {
            return Err(error);
        }
        if let Some(mut storing) = inner(self.storing) {
            storing.put_segment(self.repo)?;
        }
        let mut report = inner(self.report);
        report.repaired.sort();
        Ok(report)
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
