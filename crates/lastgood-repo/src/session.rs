//! A write session: announced before its first write, ended by one outcome.
//!
//! The order of writes is the protocol of `docs/format/commit.md`, section 3: session, packs, index,
//! snapshot, outcome. Each is durable before the next is begun. Dropping a session leaves packs that
//! the next session finds and uses.

mod takeover;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use lastgood_backend::{BackendError, PutOutcome};
use lastgood_format::gc::PackLocation;
use lastgood_format::id::{BlobId, PackId, SessionId, SnapshotId, WriterId};
use lastgood_format::key::{Class, ClassSecret, Signer};
use lastgood_format::limits::SMALL_OBJECT_BYTES_MAX;
use lastgood_format::object::name;
use lastgood_format::pack::{BlobKind, FinishedPack};
use lastgood_format::packset::{PackRef, PackSetCodec};
use lastgood_format::page;
use lastgood_format::session::{Outcome, Session};
use lastgood_format::snapshot::Snapshot;

use crate::error::{Damage, RepoError};
use crate::gc::Places;
use crate::last_seen::LastSeen;
use crate::log::Deed;
use crate::packer::{BlobWriter, Settings, Shared, Tally, flush_leftovers, lock};
use crate::reader::{BlobReader, Form};
use crate::relocations::StandIns;
use crate::repository::Repository;
use crate::rounds::RoundLists;
use crate::snapshots::SnapshotRecord;
use crate::uncovered;
use takeover::packs_by_content;

/// A session that writes. Workers take a [`BlobWriter`] each.
#[derive(Debug)]
pub struct WriteSession {
    shared: Arc<Shared>,
    /// Fenced when it is dropped, which is after what was left has been stored.
    announced: Announced,
    signer: Arc<Signer>,
    finished: Sender<FinishedPack>,
    uploaders: Vec<JoinHandle<()>>,
    /// The first upload that failed.
    stopped_by: Arc<Mutex<Option<BackendError>>>,
    recovered_packs: usize,
    lists: RoundLists,
    /// What each baseline that may be taken over needs.
    reused: Mutex<HashMap<SnapshotId, Arc<Vec<PackRef>>>>,
}

/// What a session has stored when it is about to commit, for the snapshot to say.
#[derive(Debug)]
pub struct Stored {
    /// The session.
    pub session: SessionId,
    /// Root page of the set of packs that the snapshot needs.
    pub pack_set: BlobId,
    /// Where the pages of that set are.
    pub ref_packs: Vec<PackRef>,
    /// Plaintext bytes of data that were new.
    pub bytes_added: u64,
    /// Bytes of packs that were put.
    pub bytes_stored: u64,
}

impl WriteSession {
    /// Announces a session of the writer called `writer_name` and takes stock of what may be
    /// referred to.
    ///
    /// Packs that no index segment covers, such as those of a run that was cut off, are opened and
    /// used.
    ///
    /// # Errors
    /// [`RepoError::Missing`]; whatever the backend says. Nothing but the announcement was written
    /// then, and the session is fenced, so that nobody waits for it.
    pub fn begin(
        repo: &Arc<Repository>,
        settings: Settings,
        writer_name: &[u8; 16],
    ) -> Result<Self, RepoError> {
        repo.refuse_if_missing()?;
        let signer = Arc::new(repo.keys().writer(writer_name));
        Self::begin_as(repo, settings, signer, Arc::default(), &HashSet::new())
    }

    /// As [`begin`](Self::begin), and refers to none of the packs in `avoid`.
    pub(crate) fn begin_without(
        repo: &Arc<Repository>,
        settings: Settings,
        writer_name: &[u8; 16],
        avoid: &HashSet<PackId>,
    ) -> Result<Self, RepoError> {
        let signer = Arc::new(repo.keys().writer(writer_name));
        Self::begin_as(repo, settings, signer, Arc::default(), avoid)
    }

    fn begin_as(
        repo: &Arc<Repository>,
        settings: Settings,
        signer: Arc<Signer>,
        tally: Arc<Tally>,
        avoid: &HashSet<PackId>,
    ) -> Result<Self, RepoError> {
        let (announced, lists) = announce(repo, &signer)?;
        let session = announced.session.id;
        let index = repo.index()?;
        let existing = repo.all_packs()?;
        #[cfg(feature = "seeded-bugs")]
        let lists = repo.forget_lists(lists);
        let usable: HashSet<(PackId, u64)> = existing
            .iter()
            .filter(|(session, pack, _)| {
                !lists.forbid(&PackLocation { session: *session, pack: *pack })
                    && !avoid.contains(pack)
            })
            .map(|(_, pack, bytes)| (*pack, *bytes))
            .collect();
        let secrets = Class::ALL
            .map(|class| ClassSecret::create(repo.keys(), class, session, repo.world().secret()));
        let shared = Arc::new(Shared::new(repo.clone(), index, settings, secrets, usable, tally));
        let recovered_packs = uncovered::recover(&shared, &existing, session)?;
        let stopped_by = Arc::default();
        let (finished, uploaders) = start_uploaders(&shared, &stopped_by);
        Ok(Self {
            shared,
            announced,
            signer,
            finished,
            uploaders,
            stopped_by,
            recovered_packs,
            lists,
            reused: Mutex::default(),
        })
    }

    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.announced.session.id
    }

    /// Who writes.
    #[must_use]
    pub fn writer_id(&self) -> WriterId {
        self.signer.writer_id()
    }

    /// The first upload that failed, if one did. Each worker stops at its own next step, and may hear
    /// no more than that the session was stopped.
    #[must_use]
    pub fn stopped_by(&self) -> Option<RepoError> {
        lock(&self.stopped_by).as_ref().map(|cause| cause.again().into())
    }

    /// Packs of interrupted runs that were found and are used.
    #[must_use]
    pub const fn recovered_packs(&self) -> usize {
        self.recovered_packs
    }

    /// Counts that grow while the session runs.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        self.shared.tally.clone()
    }

    /// Appends to the log of the writer.
    ///
    /// # Errors
    /// Whatever the backend says; the session goes on.
    pub fn append_to_log(&self, deed: &Deed) -> Result<(), RepoError> {
        self.shared.repo.append_signed(&self.signer, deed)
    }

    /// Whether blobs of a snapshot may be taken over without asking: all its packs, or what
    /// relocations put in their place, exist and none is condemned.
    ///
    /// # Errors
    /// When its pack set cannot be read; it is then no baseline.
    pub fn may_reuse(
        &self,
        reader: &BlobReader,
        record: &SnapshotRecord,
    ) -> Result<bool, RepoError> {
        let Some(packs) = self.packs_of(reader, record)? else { return Ok(false) };
        lock(&self.reused).insert(record.id, Arc::new(packs));
        Ok(true)
    }

    /// The packs to name for a baseline.
    fn baseline_packs(
        &self,
        reader: &BlobReader,
        baseline: &SnapshotRecord,
    ) -> Result<Arc<Vec<PackRef>>, RepoError> {
        if let Some(packs) = lock(&self.reused).get(&baseline.id) {
            return Ok(packs.clone());
        }
        let packs = self.packs_of(reader, baseline)?.ok_or_else(|| {
            let state = "its packs may not be referred to";
            self.shared.repo.damaged(&name::snapshot(baseline.id), Damage::State(state))
        })?;
        Ok(Arc::new(packs))
    }

    /// The packs to name for what a snapshot needs, if all of it is there for good.
    fn packs_of(
        &self,
        reader: &BlobReader,
        record: &SnapshotRecord,
    ) -> Result<Option<Vec<PackRef>>, RepoError> {
        let mut packs = reader.pack_set(&record.snapshot)?.0;
        let gone = packs.extract_if(.., |pack| !self.shared.may_refer_to(pack));
        let gone: Vec<PackRef> = gone.collect();
        if gone.is_empty() {
            return Ok(Some(packs));
        }
        // Looked up after the lists were loaded: what a round relied on was right for snapshots
        // that are live now.
        let repo = &self.shared.repo;
        if repo.retired_record(record.id)?.is_some() {
            // No round had to spare it. What it holds may be there all the same.
            let may_refer_to = |pack: &PackRef| self.shared.may_refer_to(pack);
            return packs_by_content(reader, &record.snapshot, &may_refer_to);
        }
        let relocations = repo.relocations()?;
        let existing = repo.all_packs()?;
        let existing = existing.into_iter().filter(|(session, pack, bytes)| {
            !self.lists.forbid(&PackLocation { session: *session, pack: *pack })
                && self.shared.is_usable(*pack, *bytes)
        });
        let existing: HashMap<PackId, (SessionId, u64)> =
            existing.map(|(session, pack, bytes)| (pack, (session, bytes))).collect();
        let is_usable = |pack| existing.contains_key(&pack);
        let stand_ins = StandIns::new(&relocations, &self.lists, &is_usable);
        for pack in gone {
            let Some(others) = stand_ins.of(pack.pack) else { return Ok(None) };
            for other in others {
                let (session, bytes) = existing[&other];
                let mut found = PackRef { session, pack: other, class: pack.class, bytes };
                found.class = reader.packs().open(found)?.header.class;
                packs.push(found);
            }
        }
        Ok(Some(packs))
    }

    /// A writer for one worker.
    #[must_use]
    pub fn writer(&self) -> BlobWriter {
        BlobWriter::new(self.shared.clone(), self.finished.clone())
    }

    /// Stores what is left, then commits the snapshot that `describe` makes of it. `baselines` are
    /// the snapshots whose blobs were taken over without asking the index; their packs are needed.
    /// All writers must have been finished.
    ///
    /// # Errors
    /// [`RepoError::Fenced`] when gc ended the session meanwhile; whatever stopped an upload. Then
    /// nothing is committed, and what was stored is there for the next run.
    pub fn finish(
        mut self,
        baselines: &[SnapshotRecord],
        describe: impl FnOnce(Stored) -> Snapshot,
    ) -> Result<SnapshotRecord, RepoError> {
        self.settle()?;
        let (pack_set, ref_packs) = self.store_pack_set(baselines)?;
        self.shared.flush_segment()?;
        let tally = &self.shared.tally;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let snapshot = describe(Stored {
            session: self.id(),
            pack_set,
            ref_packs,
            bytes_added: load(&tally.data_bytes_new),
            bytes_stored: load(&tally.pack_bytes),
        });
        self.commit(snapshot)
    }

    /// Commits what there is, as [`finish`](Self::finish) does, and goes on under another session.
    ///
    /// The next session is announced first and inherits every reference. When a round of gc has
    /// condemned one of them meanwhile, this session goes on instead and nothing is committed. Nor
    /// is it when gc has fenced this session: the next one goes on, and has what was stored.
    /// spec: commit §3
    ///
    /// # Errors
    /// Whatever stopped an upload, or the backend says.
    pub fn go_on(
        mut self,
        baselines: &[SnapshotRecord],
        describe: impl FnOnce(Stored) -> Snapshot,
    ) -> Result<(Self, Option<SnapshotRecord>), RepoError> {
        self.settle()?;
        self.shared.flush_segment()?;
        let reader = BlobReader::new(self.shared.repo.clone());
        let mut carried: HashSet<PackRef> = self.shared.used_packs();
        carried.extend(self.shared.stored_packs());
        for baseline in baselines {
            carried.extend(self.baseline_packs(&reader, baseline)?.iter());
        }
        let Shared { repo, settings, tally, .. } = &*self.shared;
        let signer = self.signer.clone();
        let mut next = Self::begin_as(repo, *settings, signer, tally.clone(), &HashSet::new())?;
        if !carried.iter().all(|pack| next.shared.may_refer_to(pack)) {
            (self.finished, self.uploaders) = start_uploaders(&self.shared, &self.stopped_by);
            return Ok((self, None));
        }
        next.shared.use_packs(carried);
        next.reused = Mutex::new(lock(&self.reused).clone());
        match self.finish(baselines, describe) {
            Ok(record) => Ok((next, Some(record))),
            Err(RepoError::Fenced { .. }) => Ok((next, None)),
            Err(error) => Err(error),
        }
    }

    /// Stores what is left of data and trees.
    fn settle(&mut self) -> Result<(), RepoError> {
        for class in [Class::Data, Class::Meta] {
            flush_leftovers(&self.shared, &self.finished, class)?;
        }
        self.drain()
    }

    /// Stores what is left without committing anything. All writers must have been finished, and
    /// none can be made any more. Dropping the session then fences it.
    pub(crate) fn store_all(&mut self) -> Result<(), RepoError> {
        self.settle()?;
        self.shared.flush_segment()
    }

    /// Names `packs` in what is committed. Returns one that is there and may not be referred to.
    pub(crate) fn refer_to(&self, packs: impl Iterator<Item = PackRef>) -> Option<PackRef> {
        let (usable, refused): (Vec<PackRef>, Vec<PackRef>) =
            packs.partition(|pack| self.shared.may_refer_to(pack));
        self.shared.use_packs(usable);
        let forbidden: HashSet<PackId> =
            self.lists.decided.iter().chain(&self.lists.pending).map(|place| place.pack).collect();
        refused.into_iter().find(|pack| forbidden.contains(&pack.pack))
    }

    /// The places to name for a blob that this session stored or may refer to, of `places`.
    pub(crate) fn places_of(&self, blob: BlobId, places: &Places) -> Option<Vec<PackLocation>> {
        let place = |pack: &PackRef| {
            let mut listed = places.of(pack.pack).map(|(place, _)| place);
            listed.find(|place| !self.lists.forbid(place))
        };
        let found = self.shared.footing(Form::Any, blob, &|pack| place(pack).is_some())?;
        found.packs().map(|pack| place(&pack)).collect()
    }

    /// Puts the snapshot, then the outcome, which is the commit.
    fn commit(&mut self, snapshot: Snapshot) -> Result<SnapshotRecord, RepoError> {
        let repo = &self.shared.repo;
        let bytes = snapshot.encode(
            repo.keys(),
            &self.signer,
            self.shared.secret(Class::Meta),
            &repo.world().random(),
        )?;
        let id = SnapshotId::new(*blake3::hash(&bytes).as_bytes());
        repo.put(&name::snapshot(id), &bytes)?;
        // The chain and the parents may name what a run committed that was killed before the name of
        // its outcome was durable.
        let settled = repo.backend().settle(name::OUTCOMES);
        #[cfg(feature = "seeded-bugs")]
        let settled = settled.or_else(|why| repo.forgive(crate::SeededBug::UnsettledNamed, why));
        settled?;
        let session = self.announced.session.id;
        let outcome = Outcome::Commit(id).encode(repo.keys(), &self.signer, session);
        match repo.put(&name::outcome(session), &outcome)? {
            PutOutcome::Created => {}
            // Ours, when the answer to a first try was lost; else gc was first.
            PutOutcome::Exists => match repo.outcome(session)? {
                #[cfg(feature = "seeded-bugs")]
                _ if repo.has_bug(crate::SeededBug::TakenMeansFenced) => {
                    return Err(RepoError::Fenced { session });
                }
                Some(Outcome::Commit(found)) if found == id => {}
                #[cfg(feature = "seeded-bugs")]
                Some(Outcome::Fenced) if repo.has_bug(crate::SeededBug::FenceIgnored) => {}
                _ => return Err(RepoError::Fenced { session }),
            },
        }
        self.announced.is_ended = true;
        // Where this fails, the next listing says why, and remembers it.
        drop(repo.remember(&LastSeen::of(&snapshot.chain, id)));
        Ok(SnapshotRecord { id, snapshot })
    }

    /// Waits until every finished pack is stored.
    fn drain(&mut self) -> Result<(), RepoError> {
        // Only a closed queue ends the uploaders, and this sender keeps it open.
        let (closed, _) = bounded(0);
        drop(std::mem::replace(&mut self.finished, closed));
        for uploader in self.uploaders.drain(..) {
            if uploader.join().is_err() {
                self.shared.fail(RepoError::Stopped);
            }
        }
        self.shared.check()
    }

    /// Writes the set of packs the snapshot needs: what the baselines need, what known blobs were
    /// found in, what this session stored. Pages that a baseline has are taken over.
    fn store_pack_set(
        &mut self,
        baselines: &[SnapshotRecord],
    ) -> Result<(BlobId, Vec<PackRef>), RepoError> {
        let reader = BlobReader::new(self.shared.repo.clone());
        let mut packs: HashSet<PackRef> = self.shared.used_packs();
        packs.extend(self.shared.stored_packs());
        let mut pages: HashMap<BlobId, PackRef> = HashMap::new();
        for baseline in baselines {
            packs.extend(self.baseline_packs(&reader, baseline)?.iter());
            pages.extend(reader.pack_set(&baseline.snapshot)?.1);
        }
        if baselines.iter().any(|b| b.snapshot.ref_packs.len() >= REF_PACKS_MAX) {
            pages.clear();
        }
        pages.retain(|_, pack| self.shared.may_refer_to(pack));
        // A pack that lies in two places is one pack.
        let mut packs: Vec<PackRef> = packs.into_iter().collect();
        packs.sort_by_key(|pack| pack.pack);
        packs.dedup_by_key(|pack| pack.pack);
        packs.sort();

        let before = self.shared.stored_packs().len();
        (self.finished, self.uploaders) = start_uploaders(&self.shared, &self.stopped_by);
        let mut writer = self.writer();
        let mut ref_packs: HashSet<PackRef> = HashSet::new();
        let mut store = |bytes: &[u8]| -> Result<BlobId, RepoError> {
            let id = self.shared.repo.keys().blob_id(BlobKind::PackSet, bytes);
            if let Some(pack) = pages.get(&id) {
                ref_packs.insert(*pack);
            } else {
                writer.add_identified(BlobKind::PackSet, id, bytes)?;
            }
            Ok(id)
        };
        let root = page::write::<PackSetCodec, RepoError>(packs, &mut store)?;
        writer.finish()?;
        flush_leftovers(&self.shared, &self.finished, Class::Refs)?;
        self.drain()?;
        ref_packs.extend(self.shared.stored_packs().into_iter().skip(before));
        let mut ref_packs: Vec<PackRef> = ref_packs.into_iter().collect();
        ref_packs.sort();
        Ok((root, ref_packs))
    }
}

impl Drop for WriteSession {
    fn drop(&mut self) {
        if !self.announced.is_ended {
            // What the workers handed over is put, so that the next run finds it. Where this
            // fails, it is read again.
            for class in [Class::Data, Class::Meta] {
                drop(flush_leftovers(&self.shared, &self.finished, class));
            }
        }
        // Uploaders end when the queue does.
        drop(self.drain());
        if !self.announced.is_ended {
            drop(self.shared.flush_segment());
        }
    }
}

/// A session that others may know of. When it goes without a commit, it is fenced: nobody need
/// wait for it.
#[derive(Debug)]
pub(crate) struct Announced {
    repo: Arc<Repository>,
    session: Session,
    is_ended: bool,
}

impl Announced {
    /// Announces a session that is to store packs and commits no snapshot.
    pub(crate) fn begin(repo: &Arc<Repository>, writer_name: &[u8; 16]) -> Result<Self, RepoError> {
        Ok(announce(repo, &repo.keys().writer(writer_name))?.0)
    }

    pub(crate) const fn id(&self) -> SessionId {
        self.session.id
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if !self.is_ended {
            // Where this fails, gc fences it later.
            let keys = self.repo.keys();
            let fence = Outcome::Fenced.encode(keys, &keys.maintenance(), self.session.id);
            drop(self.repo.put(&name::outcome(self.session.id), &fence));
        }
    }
}

/// Threads that put finished packs until the queue is closed.
fn start_uploaders(
    shared: &Arc<Shared>,
    stopped_by: &Arc<Mutex<Option<BackendError>>>,
) -> (Sender<FinishedPack>, Vec<JoinHandle<()>>) {
    let (finished, queue) = bounded::<FinishedPack>(1);
    let uploaders = (0..shared.settings.uploads).map(|_| {
        let (shared, queue) = (shared.clone(), queue.clone());
        let stopped_by = stopped_by.clone();
        std::thread::spawn(move || {
            // To the end, whatever fails: the next run uses what is stored, and a worker that
            // hands over its last pack must not hear of a closed queue instead of the cause.
            for pack in queue {
                if let Err(error) = shared.store(pack) {
                    if let RepoError::Backend(cause) = &error {
                        lock(&stopped_by).get_or_insert_with(|| cause.again());
                    }
                    shared.fail(error);
                }
            }
        })
    });
    (finished, uploaders.collect())
}

/// Steps 1 to 4 of the protocol: read the round, announce, read the round again, load the lists.
fn announce(repo: &Arc<Repository>, signer: &Signer) -> Result<(Announced, RoundLists), RepoError> {
    loop {
        let round = repo.newest_round()?;
        let session = Session {
            id: SessionId::new(repo.world().random()),
            round,
            started: repo.world().clock.now().seconds,
            writer: signer.writer_id(),
        };
        let bytes = session.encode(repo.keys(), signer);
        let object = name::session(session.id);
        // From here on it may be there, even when the answer is an error.
        let mut announced = Announced { repo: repo.clone(), session, is_ended: false };
        if !repo.put_own(&object, &bytes, SMALL_OBJECT_BYTES_MAX)? {
            // Somebody else's, by a chance that does not happen; it is not ours to end.
            announced.is_ended = true;
            continue;
        }
        // After it was announced: who rotates the root ends the sessions that he can see.
        repo.refuse_if_revised()?;
        #[cfg(feature = "seeded-bugs")]
        if repo.has_bug(crate::SeededBug::NotValidated) {
            return Ok((announced, RoundLists::load(repo, round)?));
        }
        if repo.newest_round()? == round {
            return Ok((announced, RoundLists::load(repo, round)?));
        }
    }
}

/// Packs that may hold one pack set before it is written anew in one.
const REF_PACKS_MAX: usize = 32;
