//! What changed since a repository was made: its features, and its root secret.
//! Spec: `docs/format/config.md`, section 5.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use lastgood_backend::{Backend, PutOutcome};
use lastgood_format::config::{Config, ConfigError, Feature, FeatureSet};
use lastgood_format::gc::RoundList;
use lastgood_format::id::{ObjectId, SessionId};
use lastgood_format::key::{Inventory, Secret, Verifier};
use lastgood_format::limits::{REVISION_BYTES_MAX, SMALL_OBJECT_BYTES_MAX};
use lastgood_format::object::{ObjectKind, name, object_id};
use lastgood_format::revision::{History, ROTATED_ROOTS, Revision};
use lastgood_format::session::{Outcome, Session};
use lastgood_format::slot::{Credential, KeySlot, WorkFactors};

use crate::error::{Damage, RepoError};
use crate::last_seen::{LastSeen, LastSeenFile};
use crate::objects::{self, Mended};
use crate::repository::{KeySlotInfo, Repository, parse_number};

/// What rotating the root is going to do.
#[derive(Debug, Clone)]
pub struct RotationPlan {
    /// Whether an earlier rotation was interrupted: only what is left of it is done.
    pub is_resumed: bool,
    /// Key slots that are removed, since they open a root of before.
    pub slots: Vec<KeySlotInfo>,
    /// Runs that are ended, since they hold keys of before.
    pub sessions: Vec<SessionId>,
    /// What is stored under names of revisions and is none: the next revision ends that.
    pub passed_over: Vec<String>,
    /// A feature that the repository gets; programs that do not know it cannot open it any more.
    pub feature: Option<&'static Feature>,
}

/// What rotating the root did.
#[derive(Debug)]
pub struct Rotated {
    /// The repository, opened with the new root.
    pub repo: Arc<Repository>,
    /// The slot that opens it; `None` when an interrupted rotation was only finished.
    pub slot: Option<ObjectId>,
    /// Slots that were removed.
    pub removed: Vec<ObjectId>,
    /// Runs that were ended.
    pub fenced: Vec<SessionId>,
}

impl Repository {
    /// Adds features, for ever. What is returned is to be used from then on.
    ///
    /// # Errors
    /// [`RepoError::Feature`] names one that this program does not know; [`RepoError::Revised`]
    /// when somebody else was first.
    pub fn upgrade(&self, features: &[&str]) -> Result<Arc<Self>, RepoError> {
        let mut revision = self.next_revision();
        for name in features {
            let feature =
                Feature::named(name).ok_or_else(|| RepoError::Feature((*name).to_owned()))?;
            if self.history().has(name) {
                continue;
            }
            let set = match feature.set {
                FeatureSet::Required => &mut revision.required,
                FeatureSet::ReadCompatible => &mut revision.read_compatible,
                FeatureSet::Optional => &mut revision.optional,
            };
            set.push((*name).to_owned());
        }
        self.put_revision(&revision, self.keys().root(), self.keys().root())?;
        Ok(Arc::new(self.opened_anew(self.keys().root().clone())?))
    }

    /// What [`rotate`](Self::rotate) would do.
    ///
    /// # Errors
    /// Whatever the backend says.
    pub fn plan_rotation(&self) -> Result<RotationPlan, RepoError> {
        let is_resumed = self.history().is_rotation_open();
        let slots = self.all_key_slots()?.into_iter();
        let has_feature = self.history().has(ROTATED_ROOTS);
        Ok(RotationPlan {
            is_resumed,
            slots: slots
                .filter(|(_, is_old)| *is_old || !is_resumed)
                .map(|(slot, _)| slot)
                .collect(),
            sessions: if is_resumed { self.runs_of_older_roots()? } else { self.open_runs()? },
            passed_over: self.passed_over(),
            feature: Feature::named(ROTATED_ROOTS).filter(|_| !has_feature),
        })
    }

    /// Draws a new root secret, under which everything is sealed and signed from now on, and a key
    /// slot for it. Holders of the old one can open what was stored before, and nothing new.
    ///
    /// The revision that names the new root is the moment at which it holds. What follows ends
    /// the runs that hold old keys, and puts down what had been signed with these; an interrupted
    /// rotation is finished by the next call, which draws no other root. What is returned is to be
    /// used from then on.
    ///
    /// # Errors
    /// [`RepoError::Revised`] when somebody else was first; [`RepoError::Missing`].
    pub fn rotate(
        &self,
        credential: &Credential,
        work: WorkFactors,
        label: &str,
    ) -> Result<Rotated, RepoError> {
        if self.history().is_rotation_open() {
            return self.close_rotation();
        }
        // Before anything is changed: what is hidden or damaged now could not be told later from
        // what somebody made with the old keys.
        let there = Arc::new(self.inventory(self.newest_round()?)?);
        let closing = Revision { closed: Some(there), ..self.next_revision() };
        let bytes =
            closing.encode(self.keys().repository(), self.keys().root(), self.keys().root());
        if bytes.len() as u64 > REVISION_BYTES_MAX {
            return Err(RepoError::TooManySnapshots);
        }
        let (repository, root) = (self.keys().repository(), self.world().secret());
        let slot = KeySlot::create(
            repository,
            &root,
            credential,
            work,
            self.world().clock.now().seconds,
            label,
            self.world().random(),
        )
        .map_err(|_| RepoError::KeySlot("the work factors of the new key are out of bounds"))?;
        let bytes = slot.encode();
        let slot = object_id(&bytes);
        // First: until the revision is there, a slot of another root opens nothing.
        self.put(&name::key(slot), &bytes)?;
        let mut revision = self.next_revision();
        let before = self.keys().root();
        if !self.history().has(ROTATED_ROOTS) {
            revision.required.push(ROTATED_ROOTS.to_owned());
        }
        revision.rotate(repository, before, &root);
        #[cfg(feature = "seeded-bugs")]
        if self.has_bug(crate::SeededBug::SlotsRemovedFirst) {
            for (slot, _) in self.all_key_slots()? {
                objects::remove(self.backend().as_ref(), &name::key(slot.id))?;
            }
        }
        match self.put_revision(&revision, before, &root) {
            Err(error @ RepoError::Revised { .. }) => {
                drop(objects::remove(self.backend().as_ref(), &name::key(slot)));
                return Err(error);
            }
            // After any other error the revision may be there, and then only the slot opens it.
            put => put?,
        }
        let rotated = self.opened_anew(root)?.close_rotation()?;
        Ok(Rotated { slot: Some(slot), ..rotated })
    }

    /// Ends the runs that hold keys of before, and puts down what had been signed with these.
    fn close_rotation(&self) -> Result<Rotated, RepoError> {
        let mut removed = Vec::new();
        for (slot, is_old) in self.all_key_slots()? {
            if is_old {
                objects::remove(self.backend().as_ref(), &name::key(slot.id))?;
                removed.push(slot.id);
            }
        }
        // A session that begins from here on looks for revisions when it is announced.
        let mut fenced = Vec::new();
        for session in self.runs_of_older_roots()? {
            let fence = Outcome::Fenced.encode(self.keys(), &self.keys().maintenance(), session);
            // One that ended meanwhile has its outcome.
            if self.put(&name::outcome(session), &fence)? == PutOutcome::Created {
                fenced.push(session);
            }
        }
        let round = self.newest_round()?;
        self.decide_rounds(round)?;
        let mut revision = self.next_revision();
        revision.closed = Some(Arc::new(self.inventory(round)?));
        self.put_revision(&revision, self.keys().root(), self.keys().root())?;
        let repo = Arc::new(self.opened_anew(self.keys().root().clone())?);
        Ok(Rotated { repo, slot: None, removed, fenced })
    }

    /// Sessions that write and have no outcome.
    fn open_runs(&self) -> Result<Vec<SessionId>, RepoError> {
        let mut sessions = Vec::new();
        self.list(name::SESSIONS, &mut |id, _| sessions.extend(id.parse::<SessionId>().ok()))?;
        let mut open = Vec::new();
        for session in sessions {
            if self.outcome(session)?.is_none() {
                open.push(session);
            }
        }
        Ok(open)
    }

    /// Those of them whose writers a root of before certified.
    fn runs_of_older_roots(&self) -> Result<Vec<SessionId>, RepoError> {
        let newest = Verifier::new(self.keys().repository(), vec![*self.history().root()], None);
        let mut older = Vec::new();
        for session in self.open_runs()? {
            let object = name::session(session);
            // One that is gone by now has an outcome.
            let Some(bytes) = self.find(&object, SMALL_OBJECT_BYTES_MAX)? else { continue };
            if Session::decode(&newest, session, &bytes).is_err() {
                older.push(session);
            }
        }
        Ok(older)
    }

    /// Decides rounds of gc up to `newest` that nobody has decided: nothing goes. A verdict by an old
    /// key would else count, whenever it is put and whatever it names.
    fn decide_rounds(&self, newest: u64) -> Result<(), RepoError> {
        let (keys, kind) = (self.keys(), ObjectKind::Verdict);
        for round in 1..=newest {
            if self.round_list(kind, round)?.is_none() {
                let nothing = RoundList { round, packs: Vec::new() };
                let bytes = nothing.encode(kind, keys, &keys.maintenance());
                self.put(&name::verdict(round), &bytes)?;
            }
        }
        Ok(())
    }

    /// What counts of all that was signed until now, with rounds of gc up to `round`.
    fn inventory(&self, round: u64) -> Result<Inventory, RepoError> {
        let snapshots = self.snapshots()?;
        self.refuse_if_missing()?;
        // Once it is mended it must still count.
        if let Some(damaged) = snapshots.damaged.into_iter().find(|it| !it.is_rotated_out()) {
            return Err(damaged);
        }
        let mut lost = BTreeSet::new();
        for id in self.ids(name::LOST)? {
            // What the store cannot read now must count once it can.
            if let Err(error) = self.find(&name::lost(id), SMALL_OBJECT_BYTES_MAX)
                && error.is_of_store()
            {
                return Err(error);
            }
            lost.extend(self.lost_record(id)?.map(|record| record.snapshot));
        }
        Ok(Inventory {
            live: snapshots.live.iter().map(|record| record.id).collect(),
            retired: self.retired()?.into_keys().collect(),
            lost,
            relocations: self.relocations()?.objects.into_keys().collect(),
            segments: self.ids(name::INDEX)?,
            log: self.log_heads()?,
            round,
        })
    }

    /// The objects below `prefix` that are named by ids.
    fn ids<T: Ord + FromStr>(&self, prefix: &str) -> Result<BTreeSet<T>, RepoError> {
        let mut ids = BTreeSet::new();
        self.list(prefix, &mut |id, _| ids.extend(id.parse().ok()))?;
        Ok(ids)
    }

    fn next_revision(&self) -> Revision {
        Revision::new(self.history(), self.world().clock.now().seconds)
    }

    fn put_revision(
        &self,
        revision: &Revision,
        before: &Secret,
        now: &Secret,
    ) -> Result<(), RepoError> {
        let bytes = revision.encode(self.keys().repository(), before, now);
        let object = name::revision(revision.number);
        if !self.put_own(&object, &bytes, REVISION_BYTES_MAX)? {
            return Err(RepoError::Revised { location: self.location().to_owned() });
        }
        let revision = Some((revision.number, object_id(&bytes)));
        // Where this fails, the next listing says why, and the next opening remembers it.
        drop(self.remember(&LastSeen { revision, ..LastSeen::default() }));
        Ok(())
    }

    /// Fails when the repository was revised since it was opened: whoever goes on would write with
    /// keys that do not count any more, or without knowing of a feature.
    pub(crate) fn refuse_if_revised(&self) -> Result<(), RepoError> {
        let numbers = numbers(self.backend().as_ref())?;
        if numbers.first() != Some(&name::FIRST_REVISION) {
            // It was interrupted when it was made, or the copy was lost. Where this fails, the next
            // run does it.
            drop(self.copy_config());
        }
        let known = self.history().passed_over().last().copied();
        let known = known.unwrap_or(name::FIRST_REVISION).max(self.history().number());
        if numbers.last().is_none_or(|newest| *newest <= known) {
            return Ok(());
        }
        let config = self.config().clone();
        let history = read_history(self.backend().as_ref(), config, &self.mended, None)?;
        match history.number() == self.history().number() {
            // What anybody put there is no revision.
            true => Ok(()),
            false => Err(RepoError::Revised { location: self.location().to_owned() }),
        }
    }

    /// Whether an object has the name of a revision that, as a later one says, there never was.
    pub(crate) fn is_void(&self, object: &str) -> bool {
        let number = object.strip_prefix(name::REVISIONS).and_then(parse_number);
        number.is_some_and(|number| self.history().is_void(number))
    }

    /// What is stored under names of revisions, and is none.
    #[must_use]
    pub fn passed_over(&self) -> Vec<String> {
        self.history().passed_over().iter().map(|number| name::revision(*number)).collect()
    }

    /// Fails while something is passed over that is damaged: it may have been a revision, which says
    /// what this program has to know.
    pub(crate) fn refuse_if_passed_over(&self) -> Result<(), RepoError> {
        for object in self.passed_over() {
            self.find(&object, REVISION_BYTES_MAX)?;
        }
        Ok(())
    }
}

/// Reads the config and its revisions, and compares them with what this host has seen.
pub(crate) fn read_history(
    backend: &dyn Backend,
    config: Config,
    mended: &Mended,
    last_seen: Option<&LastSeenFile>,
) -> Result<History, RepoError> {
    let location = || backend.location().to_owned();
    let mut history = History::new(config);
    let mut numbers = numbers(backend)?;
    numbers.retain(|number| *number > name::FIRST_REVISION);
    if !numbers.is_empty() {
        // One that a power cut takes back must not have been seen by anybody.
        backend.settle(name::REVISIONS)?;
    }
    let mut newest = None;
    for number in numbers {
        let object = name::revision(number);
        let damaged =
            |source| RepoError::Damaged { object: object.clone(), location: location(), source };
        let bytes = match objects::read(backend, &object, REVISION_BYTES_MAX, mended) {
            Err(error) if error.is_damage() => {
                history.pass_over(number);
                continue;
            }
            read => read?.ok_or_else(|| damaged(Damage::State("it was there and is gone")))?,
        };
        let is_taken = history.add(number, &bytes).map_err(|error| match error {
            ConfigError::UnknownFeature(_) => {
                RepoError::Config { location: location(), source: error }
            }
            ConfigError::Key(error) => damaged(error.into()),
            ConfigError::Decode(error) => damaged(error.into()),
        })?;
        if is_taken {
            newest = Some((number, object_id(&bytes)));
        }
    }
    let Some(file) = last_seen else { return Ok(history) };
    // One that cannot be read is reported where snapshots are listed.
    let seen = file.read().ok().and_then(|seen| seen.revision);
    if let Some((number, _)) = seen
        && newest.is_none_or(|(newest, _)| newest < number)
    {
        let gone = Damage::State("this host has seen it, and it is missing");
        let object = name::revision(number);
        return Err(RepoError::Damaged { object, location: location(), source: gone });
    }
    if newest.is_some() && newest != seen {
        drop(file.add(&LastSeen { revision: newest, ..LastSeen::default() }));
    }
    Ok(history)
}

/// The numbers of the copy of the config and of all revisions, in order.
fn numbers(backend: &dyn Backend) -> Result<Vec<u64>, RepoError> {
    let mut numbers = Vec::new();
    backend.list(name::REVISIONS, &mut |listed| {
        let number = listed.name.as_str().strip_prefix(name::REVISIONS);
        numbers.extend(number.and_then(parse_number));
    })?;
    numbers.sort_unstable();
    Ok(numbers)
}
