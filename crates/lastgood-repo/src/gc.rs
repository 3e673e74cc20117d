//! Gc: removing what no live snapshot needs, beside running backups and other collectors.
//!
//! It is the protocol of `docs/format/commit.md`, section 9, and safe by that and not by time: each
//! round proposes places (*condemn list*), waits for or fences every session that did not see the
//! list, looks again what is needed (*mark*), decides once for all (*verdict*), and removes. Every
//! step can be repeated by anybody; whoever stops leaves a round that the next one goes on with.
//!
//! Nothing is removed that a plan does not name, or a verdict of another collector.
//!
//! Memory: about 400 bytes a pack, 100 a session that ever was and 300 a live snapshot; where packs
//! are repacked, four bits a blob beside the index.

mod blobs;
mod live;
mod mark;
mod probe;
mod repack;
mod round;
mod segments;

use std::sync::Arc;

use lastgood_format::config::DELTAS;
use lastgood_format::gc::PackLocation;
use lastgood_format::id::{ObjectId, PackId, SessionId};
use lastgood_format::object::{ObjectKind, name};

use crate::error::RepoError;
use crate::packer::Settings;
use crate::reader::BlobReader;
use crate::repository::Repository;
use crate::rounds::RoundLists;
pub(crate) use blobs::LiveBlobs;
use live::Live;
use mark::Mark;
pub(crate) use mark::Places;
pub use mark::Reason;

/// How to collect.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Sessions that did not see the newest round are fenced when they were announced this many
    /// seconds ago by the clock of the store; younger ones are waited for. It decides only whose
    /// run has to start over.
    pub fence_after: i64,
    /// How much of what packs hold may be unused before they are repacked.
    pub max_unused: MaxUnused,
    /// How repacked packs are stored.
    pub settings: Settings,
    /// The writer that repacks. Nobody else goes by its name now, so open sessions of that are of
    /// runs that were killed, and need not be waited for.
    pub writer_name: [u8; 16],
    /// Nobody else works on the repository, which somebody has to know: the store is not probed, and
    /// every open session is fenced.
    pub exclusive: bool,
    /// Small objects that are read at once.
    pub threads: usize,
    /// Whether the reserve is made whole again at the end: space for the gc of a store that is full.
    pub keep_reserve: bool,
}

/// How much of the packs that stay may be unused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// Any amount: nothing is repacked.
    Any,
    /// So many bytes.
    Bytes(u64),
    /// This share of all that stays, 0 to 1.
    Share(f64),
}

impl MaxUnused {
    /// The bytes that may be unused when `total` stay.
    fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Any => u64::MAX,
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (total as f64 * share.clamp(0.0, 1.0)) as u64,
        }
    }
}

/// What gc is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcPhase {
    /// Looking what is needed.
    Marking,
    /// Moving what is live out of packs.
    Repacking,
    /// Agreeing with others on what goes.
    Deciding,
    /// Removing.
    Removing,
}

/// Hears how gc goes, and may stop it.
pub trait GcObserver: Sync {
    /// A phase began, of so many steps; 0 where that is not known.
    fn enter(&self, phase: GcPhase, steps: u64);
    /// So many steps of a phase are done.
    fn step(&self, phase: GcPhase, steps: u64);
    /// Fails when gc is to stop. What it leaves, the next one goes on with.
    ///
    /// # Errors
    /// [`RepoError::Stopped`].
    fn proceed(&self) -> Result<(), RepoError>;
}

/// What gc is going to do.
#[derive(Debug, Clone, PartialEq)]
pub struct GcPlan {
    /// Live snapshots.
    pub snapshots: u64,
    /// Retired snapshots that somebody reads.
    pub snapshots_held: u64,
    /// Packs that are stored, each place counted.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Round that others began and did not finish.
    pub unfinished_round: Option<u64>,
    /// Places to remove.
    pub remove: Vec<PlannedRemoval>,
    /// Packs of which the live part is moved to new packs first.
    pub repack: Vec<PlannedRepack>,
    /// Bytes of packs that stay and that nothing uses, as far as that was looked at.
    pub unused_bytes: Option<u64>,
    /// Sessions that are open.
    pub sessions: Vec<OpenSession>,
    /// Small objects to remove, by name.
    pub objects: Vec<String>,
    /// Index segments to merge into fewer.
    pub segments: Vec<ObjectId>,
}

/// A place to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedRemoval {
    /// The place.
    pub place: PackLocation,
    /// Its length.
    pub bytes: u64,
    /// Why it may go.
    pub reason: Reason,
}

/// A pack to repack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRepack {
    /// The pack.
    pub pack: PackId,
    /// Its length.
    pub bytes: u64,
    /// About how much of that nothing uses.
    pub unused_bytes: u64,
}

/// A session without an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSession {
    /// The session.
    pub id: SessionId,
    /// Whether it only reads.
    pub is_reader: bool,
    /// How long ago it was announced, in seconds by the clock of the store.
    pub age: i64,
    /// Whether it is going to be fenced, if it is in the way.
    pub is_fenced: bool,
}

/// What gc did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The last round that was decided, if any was.
    pub round: Option<u64>,
    /// Places that were removed.
    pub packs_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Places of the plan that turned out to be needed.
    pub packs_spared: u64,
    /// Packs that were repacked.
    pub packs_repacked: u64,
    /// Bytes of the packs made for them.
    pub bytes_repacked: u64,
    /// Packs that could not be repacked or, where the store refuses that, removed, and why.
    pub problems: Vec<String>,
    /// Sessions that were fenced.
    pub fenced: Vec<SessionId>,
    /// Sessions that have to end before the round can be decided; the next gc goes on with it.
    pub waiting_for: Vec<SessionId>,
    /// Small objects that were removed.
    pub objects_removed: u64,
    /// Index segments that were merged into others.
    pub segments_merged: u64,
    /// Whether packs were left as they were, or segments, since there was no space for new ones.
    pub is_short_of_space: bool,
    /// Whether there was no room for the reserve.
    pub is_reserve_short: bool,
}

/// One run of gc: a plan, then its execution.
#[derive(Debug)]
pub struct Gc {
    repo: Arc<Repository>,
    options: GcOptions,
    reader: BlobReader,
    /// Blobs that were met so far, where packs are repacked.
    blobs: Option<LiveBlobs>,
    #[cfg(feature = "seeded-bugs")]
    own_verdict: Option<Vec<PackLocation>>,
}

impl Gc {
    /// Prepares to collect `repo`.
    #[must_use]
    pub fn new(repo: Arc<Repository>, options: GcOptions) -> Self {
        Self {
            reader: BlobReader::new(repo.clone()),
            repo,
            options,
            blobs: None,
            #[cfg(feature = "seeded-bugs")]
            own_verdict: None,
        }
    }

    /// Looks what could be removed. Nothing is changed.
    ///
    /// # Errors
    /// When anything that may be needed cannot be read or verified; [`RepoError::Missing`];
    /// [`RepoError::Feature`] when a later release must know of what gc may remove.
    pub fn plan(&mut self, observer: &dyn GcObserver) -> Result<GcPlan, RepoError> {
        if let Some(feature) = self.repo.history().unknown_to_writers() {
            return Err(RepoError::Feature(feature.to_owned()));
        }
        self.repo.refuse_if_passed_over()?;
        // What a store hides, gc would take for gone.
        self.repo.snapshots()?;
        self.repo.refuse_if_missing()?;
        observer.enter(GcPhase::Marking, 0);
        let newest = self.repo.newest_round()?;
        let lists = RoundLists::load(&self.repo, newest)?;
        let live = Live::load(&self.repo, self.options.threads)?;
        let mut mark = Mark::new(&self.reader, &live, observer)?;
        let is_partial_of_interest = self.options.max_unused != MaxUnused::Any;
        let has_moved = mark.places.all().any(|(place, _)| mark.is_moved(&place));
        if is_partial_of_interest || has_moved {
            self.walk(&live, &mark, observer)?;
        }
        // Nothing is put only to learn what time it is by the store.
        let sessions = self.open_sessions(None, self.repo.world().clock.now().seconds)?;
        let is_over = |session: &SessionId| {
            live.outcomes.contains_key(session)
                || sessions.iter().any(|it| it.id == *session && self.is_old(it))
        };
        let remove = self.removals(&is_over, &mut mark, &lists)?;
        let (repack, unused_bytes) = self.repacks(&mark, &remove, &lists)?;
        let undecided = newest > 0 && !self.has_verdict(newest)?;
        let objects = live.idle.into_iter().chain(self.obsolete_relocations(&mark, &lists));
        Ok(GcPlan {
            snapshots: live.live_count,
            snapshots_held: live.held_count,
            packs: mark.places.all().count() as u64,
            pack_bytes: mark.places.all().map(|(_, bytes)| bytes).sum(),
            unfinished_round: undecided.then_some(newest),
            remove,
            repack,
            unused_bytes,
            sessions,
            objects: objects.collect(),
            segments: segments::plan(&self.repo, &mark)?,
        })
    }

    fn has_verdict(&self, round: u64) -> Result<bool, RepoError> {
        Ok(self.repo.round_list(ObjectKind::Verdict, round)?.is_some())
    }

    /// Walks what is live, on top of what was walked before.
    fn walk(
        &mut self,
        live: &Live,
        mark: &Mark,
        observer: &dyn GcObserver,
    ) -> Result<(), RepoError> {
        // Snapshots may have come since the index was loaded; and it may be wrong.
        self.repo.index()?.refresh(&self.repo)?;
        self.reader.add_packs(Arc::new(mark.needed.values().copied().collect()));
        let mut blobs = match self.blobs.take() {
            Some(blobs) => blobs,
            None => LiveBlobs::new(&self.repo.index()?),
        };
        blobs.walk(&self.reader, live, observer)?;
        #[cfg(feature = "seeded-bugs")]
        let takes_deltas =
            self.repo.history().has(DELTAS) && !self.repo.has_bug(crate::SeededBug::BasesNotMarked);
        #[cfg(not(feature = "seeded-bugs"))]
        let takes_deltas = self.repo.history().has(DELTAS);
        if takes_deltas {
            let is_stood_in_for = |pack| !mark.relocations.of(pack).is_empty();
            let (packs, threads) = (mark.of_data(), self.options.threads);
            blobs.meet_bases(&self.reader, packs, &is_stood_in_for, threads, observer)?;
        }
        self.blobs = Some(blobs);
        Ok(())
    }

    /// Whether a session is so old that it is fenced though it is in nobody's way.
    fn is_old(&self, session: &OpenSession) -> bool {
        self.options.exclusive || session.age >= self.options.fence_after
    }

    /// Places that verdicts name, and those of ended sessions that can be spared.
    fn removals(
        &self,
        is_over: &dyn Fn(&SessionId) -> bool,
        mark: &mut Mark,
        lists: &RoundLists,
    ) -> Result<Vec<PlannedRemoval>, RepoError> {
        let mut places: Vec<(PackLocation, u64)> = mark.places.all().collect();
        places.sort();
        let mut doomed = lists.decided.clone();
        let mut remove = Vec::new();
        for (place, bytes) in places {
            if lists.decided.contains(&place) {
                remove.push(PlannedRemoval { place, bytes, reason: Reason::Decided });
                continue;
            }
            if !is_over(&place.session) {
                continue;
            }
            doomed.insert(place);
            let reason = mark.why_dead(&self.reader, self.blobs.as_ref(), place, &doomed)?;
            match reason {
                Some(reason) => remove.push(PlannedRemoval { place, bytes, reason }),
                None => {
                    doomed.remove(&place);
                }
            }
        }
        Ok(remove)
    }

    /// Relocations of places that verdicts name and of packs that nobody needs any more.
    fn obsolete_relocations(&self, mark: &Mark, lists: &RoundLists) -> Vec<String> {
        let is_over = |place: &PackLocation| {
            lists.decided.contains(place) && !mark.needed.contains_key(&place.pack)
        };
        let over = mark.relocations.objects.iter().filter(|(_, from)| from.iter().all(is_over));
        over.map(|(id, _)| name::relocation(*id)).collect()
    }
}
