//! One round: condemn, resolve, mark, decide, sweep. `docs/format/commit.md`, section 9.

use std::collections::HashSet;

use lastgood_backend::{ErrorKind, PutOutcome};
use lastgood_format::gc::{PackLocation, RoundList};
use lastgood_format::id::SessionId;
use lastgood_format::object::{ObjectKind, name};
use lastgood_format::session::Outcome;

use super::live::{Live, settled_ids};
use super::mark::{Mark, Places, Reason};
use super::{Gc, GcObserver, GcPhase, GcPlan, GcReport, OpenSession, probe, segments};
use crate::each::each;
use crate::error::{Damage, RepoError, RepoErrorKind};
use crate::objects::{self, object_name};
use crate::reserve::Spender;
use crate::rounds::RoundLists;

impl Gc {
    /// Does what `plan` says, as far as it is still right.
    ///
    /// Stopped or killed anywhere, it leaves what the next gc goes on with. Rounds that others began
    /// are finished first. Where a session has to end before a round can be decided, nothing waits:
    /// the report names it, and the next gc goes on.
    ///
    /// # Errors
    /// [`RepoError::UnsafeStore`] when the store does not do what gc rests on, before anything is
    /// changed; when anything that may be needed cannot be read.
    pub fn execute(
        &mut self,
        plan: &GcPlan,
        observer: &dyn GcObserver,
    ) -> Result<GcReport, RepoError> {
        let now = match self.options.exclusive {
            true => self.repo.store_time_for(Spender::Gc)?,
            false => probe::probe(&self.repo)?,
        };
        let mut report = GcReport::default();
        let moved = self.repack(plan, &mut report, observer)?;
        observer.enter(GcPhase::Deciding, 0);
        self.fence(
            &mut report,
            self.open_sessions(None, now)?.iter().filter(|it| self.is_old(it)),
        )?;
        let proposal = self.proposal(plan, moved, now)?;
        if self.finish_rounds(&proposal, now, &mut report, observer)? {
            report.packs_spared = self.spared(&proposal)?;
        }
        self.sweep(plan, &mut report, observer)?;
        self.merge(plan, &mut report, observer)?;
        if self.options.keep_reserve {
            report.is_reserve_short = !self.repo.keep_reserve(plan.packs)?;
        }
        Ok(report)
    }

    /// Merges index segments. That takes space before it gives any, and can be left for later.
    fn merge(
        &self,
        plan: &GcPlan,
        report: &mut GcReport,
        observer: &dyn GcObserver,
    ) -> Result<(), RepoError> {
        match segments::merge(&self.repo, &plan.segments, observer) {
            Ok(count) => report.segments_merged = count,
            Err(error) if error.kind() == RepoErrorKind::NoSpace => report.is_short_of_space = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The places to condemn. Those that relocations stand in for only when nobody is at work: a
    /// run that saw them condemned could not take its baseline over, and read every file.
    fn proposal(
        &self,
        plan: &GcPlan,
        moved: Vec<PackLocation>,
        now: i64,
    ) -> Result<Vec<PackLocation>, RepoError> {
        let open = self.open_sessions(None, now)?;
        let is_busy = open.iter().any(|session| !session.is_reader && !session.is_fenced);
        let planned = plan.remove.iter().filter(|it| it.reason != Reason::Decided);
        let planned = planned.filter(|it| !is_busy || it.reason != Reason::Repacked);
        let is_open = |session| open.iter().any(|it| it.id == session);
        let planned = planned.filter(|it| !is_open(it.place.session));
        let mut proposal: Vec<PackLocation> = planned.map(|it| it.place).collect();
        proposal.extend(if is_busy { Vec::new() } else { moved });
        proposal.sort();
        proposal.dedup();
        Ok(proposal)
    }

    /// Finishes rounds until the newest is decided and every place of `proposal` was in one.
    /// Returns whether that was possible without waiting.
    fn finish_rounds(
        &mut self,
        proposal: &[PackLocation],
        now: i64,
        report: &mut GcReport,
        observer: &dyn GcObserver,
    ) -> Result<bool, RepoError> {
        let mut is_proposed = false;
        loop {
            observer.proceed()?;
            let newest = self.repo.newest_round()?;
            if newest > 0 && !self.has_verdict(newest)? {
                if !self.settle(newest, now, report, observer)? {
                    return Ok(false);
                }
                report.round = Some(newest);
            } else if is_proposed {
                return Ok(true);
            } else {
                // Others may have decided on all of it meanwhile.
                let decided = RoundLists::load(&self.repo, newest)?.decided;
                let packs = proposal.iter().filter(|place| !decided.contains(place));
                let list = RoundList { round: newest + 1, packs: packs.copied().collect() };
                is_proposed = list.packs.is_empty()
                    || self.put_list(ObjectKind::Condemn, &list)? == PutOutcome::Created;
            }
        }
    }

    fn put_list(&self, kind: ObjectKind, list: &RoundList) -> Result<PutOutcome, RepoError> {
        let keys = self.repo.keys();
        let object = match kind {
            ObjectKind::Verdict => name::verdict(list.round),
            _ => name::condemn(list.round),
        };
        let bytes = list.encode(kind, keys, &keys.maintenance());
        self.repo.refuse_if_revised()?;
        Ok(self.repo.put_to_free(Spender::Gc, &object, &bytes)?)
    }

    /// Steps 5 to 7 of a round: everybody who did not see its list has ended, what is needed now
    /// is spared, and the rest is decided by whoever says so first. Returns whether it is decided.
    fn settle(
        &mut self,
        round: u64,
        now: i64,
        report: &mut GcReport,
        observer: &dyn GcObserver,
    ) -> Result<bool, RepoError> {
        report.waiting_for = self.resolve(round, now, report)?;
        #[cfg(feature = "seeded-bugs")]
        if self.repo.has_bug(crate::SeededBug::OpenSessionsIgnored) {
            report.waiting_for.clear();
        }
        if !report.waiting_for.is_empty() {
            return Ok(false);
        }
        let condemned = self.repo.round_list(ObjectKind::Condemn, round)?.ok_or_else(|| {
            let gone = Damage::State("it was there and is gone");
            self.repo.damaged(&name::condemn(round), gone)
        })?;
        let packs = self.dead(round, condemned, observer)?;
        let list = RoundList { round, packs };
        self.put_list(ObjectKind::Verdict, &list)?;
        #[cfg(feature = "seeded-bugs")]
        if self.repo.has_bug(crate::SeededBug::OwnVerdict) {
            self.own_verdict.get_or_insert_default().extend(list.packs);
        }
        Ok(true)
    }

    /// Fences the sessions that are in the way of a round and old enough, and readers of that age.
    /// Returns those that have to be waited for.
    fn resolve(
        &self,
        round: u64,
        now: i64,
        report: &mut GcReport,
    ) -> Result<Vec<SessionId>, RepoError> {
        let open = self.open_sessions(Some(round), now)?;
        self.fence(report, open.iter().filter(|it| it.is_fenced))?;
        let waiting = open.iter().filter(|it| !it.is_fenced && !it.is_reader);
        Ok(waiting.map(|it| it.id).collect())
    }

    /// Ends sessions, unless they end otherwise meanwhile.
    fn fence<'a>(
        &self,
        report: &mut GcReport,
        sessions: impl Iterator<Item = &'a OpenSession>,
    ) -> Result<(), RepoError> {
        let keys = self.repo.keys();
        for open in sessions {
            let fence = Outcome::Fenced.encode(keys, &keys.maintenance(), open.id);
            let object = name::outcome(open.id);
            if self.repo.put_to_free(Spender::Gc, &object, &fence)? == PutOutcome::Created {
                report.fenced.push(open.id);
            }
        }
        Ok(())
    }

    /// Step 6: the condemned places that nobody needs now.
    fn dead(
        &mut self,
        round: u64,
        condemned: Vec<PackLocation>,
        observer: &dyn GcObserver,
    ) -> Result<Vec<PackLocation>, RepoError> {
        #[cfg(feature = "seeded-bugs")]
        if self.repo.has_bug(crate::SeededBug::NoRemark) {
            return Ok(condemned);
        }
        let live = Live::load(&self.repo, self.options.threads)?;
        let mut mark = Mark::new(&self.reader, &live, observer)?;
        if condemned.iter().any(|place| mark.is_moved(place)) {
            self.walk(&live, &mark, observer)?;
        }
        let mut doomed = RoundLists::load(&self.repo, round)?.decided;
        doomed.extend(&condemned);
        let mut dead = Vec::new();
        for place in condemned {
            let reason = mark.why_dead(&self.reader, self.blobs.as_ref(), place, &doomed)?;
            dead.extend(reason.map(|_| place));
        }
        Ok(dead)
    }

    /// Places of the proposal that its round found needed.
    fn spared(&self, proposal: &[PackLocation]) -> Result<u64, RepoError> {
        let lists = RoundLists::load(&self.repo, self.repo.newest_round()?)?;
        Ok(proposal.iter().filter(|place| !lists.decided.contains(place)).count() as u64)
    }

    /// Removes every place that a verdict names, and the small objects of the plan.
    fn sweep(
        &self,
        plan: &GcPlan,
        report: &mut GcReport,
        observer: &dyn GcObserver,
    ) -> Result<(), RepoError> {
        let lists = RoundLists::load(&self.repo, self.repo.newest_round()?)?;
        let places = Places::list(&self.repo)?;
        let is_doomed = |place: &PackLocation| {
            #[cfg(feature = "seeded-bugs")]
            if let Some(own) = &self.own_verdict {
                return own.contains(place);
            }
            lists.decided.contains(place)
        };
        let doomed: Vec<(PackLocation, u64)> =
            places.all().filter(|(place, _)| is_doomed(place)).collect();
        observer.enter(GcPhase::Removing, (doomed.len() + plan.objects.len()) as u64);
        let backend = self.repo.backend().as_ref();
        let removed = each(&doomed, self.options.threads, |(place, bytes)| {
            observer.proceed()?;
            let result = backend.remove(&object_name(&name::pack(place.session, place.pack)));
            observer.step(GcPhase::Removing, 1);
            match result {
                Ok(()) => Ok(Ok(*bytes)),
                // Under a lock of the store. The verdict stands, so a later gc removes it.
                Err(error) if error.kind == ErrorKind::Denied => Ok(Err(error.to_string())),
                Err(error) => Err(error.into()),
            }
        })?;
        for result in removed {
            match result {
                Ok(bytes) => {
                    report.packs_removed += 1;
                    report.bytes_removed += bytes;
                }
                Err(problem) => report.problems.push(problem),
            }
        }
        each(&plan.objects, self.options.threads, |object| {
            observer.proceed()?;
            objects::remove(backend, object)?;
            observer.step(GcPhase::Removing, 1);
            Ok(())
        })?;
        report.objects_removed = plan.objects.len() as u64;
        Ok(())
    }

    /// Sessions and read sessions that have no outcome; with a round, of the former only those that
    /// have not seen it.
    ///
    /// # Errors
    /// When one, or an outcome, is there and cannot be read or verified.
    pub(super) fn open_sessions(
        &self,
        round: Option<u64>,
        now: i64,
    ) -> Result<Vec<OpenSession>, RepoError> {
        let repo = &self.repo;
        let mut listed: Vec<(SessionId, bool, i64)> = Vec::new();
        for (prefix, is_reader) in [(name::SESSIONS, false), (name::READERS, true)] {
            repo.backend().list(prefix, &mut |object| {
                let id = object.name.as_str().strip_prefix(prefix);
                let id = id.and_then(|id| id.parse().ok());
                listed.extend(id.map(|id| (id, is_reader, object.modified)));
            })?;
        }
        let ended: HashSet<SessionId> = settled_ids(repo, name::OUTCOMES)?.into_iter().collect();
        let own = repo.keys().writer(&self.options.writer_name).writer_id();
        let mut open = Vec::new();
        for (id, is_reader, modified) in listed {
            if ended.contains(&id) && repo.outcome(id)?.is_some() {
                continue;
            }
            let mut is_over = self.options.exclusive;
            if !is_reader {
                // Removed meanwhile, it has an outcome.
                let Some(session) = repo.session(id)? else { continue };
                if round.is_some_and(|round| session.round >= round) {
                    continue;
                }
                is_over |= session.writer == own;
            }
            let age = now.saturating_sub(modified);
            let is_fenced = is_over || age >= self.options.fence_after;
            open.push(OpenSession { id, is_reader, age, is_fenced });
        }
        Ok(open)
    }
}
