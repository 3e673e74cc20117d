//! Forget: which snapshots a retention policy keeps, and why; the others are retired.
//!
//! Nothing is removed here: [`gc`](crate::gc) frees the space, and until then
//! [`undelete`](crate::undelete) brings a snapshot back. The rules are those that people know from
//! restic, so that a policy can be taken over word by word.
//!
//! A snapshot says itself when it was made, so whoever may write could have the policy thin out the
//! good ones by snapshots with chosen times. Every rule is therefore asked twice, by what the
//! snapshots say and by when the store says they were put, and what it keeps either time is kept.
//! A snapshot whose times cannot be true takes nobody's place.

mod keep;
mod policy;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;
use lastgood_repo::format::snapshot::{SnapshotFlags, Totals};
use lastgood_repo::{RepoError, Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::job::{Job, Phase};
use crate::snapshots::{self, Filter};
pub(crate) use keep::counted;
pub use policy::{Calendar, Date, Group, GroupBy, Policy, Span, Unit};

/// A live snapshot, and when the store says that it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// When it was put, by the clock of the store.
    pub stored: Timestamp,
}

impl Candidate {
    const fn claimed(&self) -> Timestamp {
        self.record.snapshot.started
    }

    fn is(&self, flag: SnapshotFlags) -> bool {
        self.record.snapshot.flags.contains(flag)
    }
}

/// What there is to be forgotten, and what time it is.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// All live snapshots.
    pub all: Vec<Candidate>,
    /// The present: the earlier one of what this host and the store say.
    pub now: Timestamp,
    /// What is damaged or missing.
    pub problems: Vec<Arc<Error>>,
}

impl Candidates {
    /// Loads all live snapshots, and asks the store what time it is.
    ///
    /// # Errors
    /// When they cannot be listed, or nothing can be put.
    pub fn load(repo: &Repository) -> Result<Self, Error> {
        let stored: HashMap<SnapshotId, i64> = repo.snapshot_times()?.into_iter().collect();
        let (records, problems) = snapshots::list(repo, &Filter::default())?;
        let all = records.into_iter().map(|record| {
            // One that came after the first listing is as new as can be.
            let seconds = stored.get(&record.id).copied().unwrap_or(i64::MAX);
            Candidate { record, stored: Timestamp { seconds, nanos: 0 } }
        });
        let here = repo.world().clock.now();
        let there = match repo.store_time().map_err(Error::from) {
            Ok(seconds) => Timestamp { seconds, nanos: 0 },
            // Nothing can be forgotten there either, and what would be can be told.
            Err(error) if error.kind() == ErrorKind::Denied => here,
            Err(error) => return Err(error),
        };
        let problems = problems.into_iter().map(Arc::new).collect();
        Ok(Self { all: all.collect(), now: here.min(there), problems })
    }

    /// Those whose next one, by either clock, of the same host and sources has less than half of
    /// their files or bytes, each with the id of that.
    fn before_a_loss(&self) -> HashMap<SnapshotId, SnapshotId> {
        let mut found = HashMap::new();
        for time in CLOCKS.map(|clock| clock.time) {
            let mut series: BTreeMap<Group, Vec<&Candidate>> = BTreeMap::new();
            for candidate in self.all.iter().filter(|it| !it.is(SnapshotFlags::PARTIAL)) {
                let group = GroupBy::default().group(&candidate.record);
                series.entry(group).or_default().push(candidate);
            }
            for mut series in series.into_values() {
                series.sort_by_key(|it| keep::order(it, time));
                for pair in series.windows(2) {
                    let (before, after) = (&pair[0].record, &pair[1].record);
                    if is_loss(&before.snapshot.totals, &after.snapshot.totals) {
                        found.insert(before.id, after.id);
                    }
                }
            }
        }
        found
    }

    /// Why a snapshot is too young to be forgotten, if it is.
    fn protected(
        &self,
        candidate: &Candidate,
        policy: &Policy,
        calendar: &dyn Calendar,
    ) -> Option<String> {
        let span = policy.protect?;
        let since = calendar.before(self.now, span);
        let started = candidate.record.snapshot.started;
        let is_young = candidate.stored > since || (started > since && started <= self.now);
        is_young.then(|| format!("protected for {span}"))
    }
}

/// Whether less than half of the files or bytes is left.
#[must_use]
pub fn is_loss(before: &Totals, after: &Totals) -> bool {
    after.files < before.files.div_ceil(2) || after.bytes < before.bytes.div_ceil(2)
}

/// Which of two clocks a rule is asked by.
#[derive(Clone, Copy)]
struct WhichClock {
    time: fn(&Candidate) -> Timestamp,
    /// Behind a reason that only this one gives.
    suffix: &'static str,
}

const CLOCKS: [WhichClock; 2] = [
    WhichClock { time: Candidate::claimed, suffix: "" },
    WhichClock { time: |candidate| candidate.stored, suffix: " by the clock of the store" },
];

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// When it was put, by the clock of the store.
    pub stored: Timestamp,
    /// Whether it is kept.
    pub is_kept: bool,
    /// Why.
    pub reasons: Vec<String>,
}

/// What becomes of the snapshots, group by group, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetPlan {
    /// The groups.
    pub groups: Vec<(Group, Vec<Decision>)>,
}

impl ForgetPlan {
    /// The snapshots that are forgotten.
    pub fn forgotten(&self) -> impl Iterator<Item = &Decision> {
        self.groups.iter().flat_map(|(_, all)| all).filter(|decision| !decision.is_kept)
    }

    /// The snapshots that are kept.
    pub fn kept(&self) -> impl Iterator<Item = &Decision> {
        self.groups.iter().flat_map(|(_, all)| all).filter(|decision| decision.is_kept)
    }

    fn retain(&mut self, is_meant: impl Fn(&Decision) -> bool) {
        self.groups.iter_mut().for_each(|(_, all)| all.retain(&is_meant));
    }
}

/// Applies a policy to what `filter` accepts.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the policy has no rule, or keeps nothing of a group: that is a slip
/// more often than a wish.
pub fn plan(
    candidates: &Candidates,
    filter: &Filter,
    policy: &Policy,
    calendar: &dyn Calendar,
) -> Result<ForgetPlan, Error> {
    if policy.is_empty() {
        let text = "no rule says what to keep; give one, or name the snapshots to forget";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let mut groups: BTreeMap<Group, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates.all.iter().filter(|it| filter.accepts(&it.record.snapshot)) {
        groups.entry(policy.group_by.group(&candidate.record)).or_default().push(candidate);
    }
    let before_a_loss = match policy.accept_loss {
        true => HashMap::new(),
        false => candidates.before_a_loss(),
    };
    let mut planned = ForgetPlan::default();
    for (group, members) in groups {
        let mut reasons = keep::by_rules(&members, policy, calendar, candidates.now);
        if reasons.values().all(Vec::is_empty) {
            let text =
                "the policy keeps no snapshot of a group; to forget the last ones, name them";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let decide = |candidate: &&Candidate| {
            let id = candidate.record.id;
            let mut reasons = reasons.remove(&id).unwrap_or_default();
            if candidate.is(SnapshotFlags::PINNED) {
                reasons.push("pinned".to_owned());
            }
            reasons.extend(candidates.protected(candidate, policy, calendar));
            if let Some(next) = before_a_loss.get(&id) {
                let next = next.to_string();
                reasons.push(format!("the next one, {}, lost more than half of it", &next[..8]));
            }
            let is_kept = !reasons.is_empty();
            if !is_kept {
                reasons.push(NO_RULE.to_owned());
            }
            let Candidate { record, stored } = (*candidate).clone();
            Decision { record, stored, is_kept, reasons }
        };
        let mut members = members.clone();
        members.sort_by_key(|it| keep::order(it, CLOCKS[0].time));
        planned.groups.push((group, members.iter().map(decide).collect()));
    }
    Ok(planned)
}

/// Plans to forget the snapshots with these ids, because they were named.
///
/// # Errors
/// [`ErrorKind::Invalid`] when one is pinned or protected; [`ErrorKind::NotFound`] when one is not
/// there.
pub fn named(
    candidates: &Candidates,
    ids: &[SnapshotId],
    policy: &Policy,
    calendar: &dyn Calendar,
) -> Result<ForgetPlan, Error> {
    let wanted: HashSet<SnapshotId> = ids.iter().copied().collect();
    let found: Vec<&Candidate> =
        candidates.all.iter().filter(|it| wanted.contains(&it.record.id)).collect();
    if let Some(id) = wanted.iter().find(|id| found.iter().all(|it| it.record.id != **id)) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot {id}")));
    }
    let mut groups: BTreeMap<Group, Vec<Decision>> = BTreeMap::new();
    for candidate in found {
        let Candidate { record, stored } = candidate.clone();
        if candidate.is(SnapshotFlags::PINNED) {
            let text = format!(
                "snapshot {} is pinned; to forget it, unpin it first: lastgood unpin {}",
                record.id,
                &record.id.to_string()[..8]
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        if let Some(why) = candidates.protected(candidate, policy, calendar) {
            let text = format!("snapshot {} is {why}; --protect 0 ends that", record.id);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let group = groups.entry(policy.group_by.group(&record)).or_default();
        let reasons = vec!["it was named".to_owned()];
        group.push(Decision { record, stored, is_kept: false, reasons });
    }
    Ok(ForgetPlan { groups: groups.into_iter().collect() })
}

/// What was forgotten.
#[derive(Debug, Default)]
pub struct ForgetReport {
    /// How many snapshots were not retired before.
    pub forgotten: u64,
    /// What is left of the plan, since the store is full: where anything was forgotten,
    /// [`gc`](crate::gc) makes room for the rest.
    pub left: ForgetPlan,
    /// What the store said to that.
    pub full: Option<Error>,
}

/// Starts to retire what a plan forgets. Progress counts snapshots as files. Cancelled or killed, it
/// has retired some of them.
#[must_use]
pub fn start(repo: Arc<Repository>, mut plan: ForgetPlan) -> Job<ForgetReport> {
    Job::spawn(move |control| {
        let doomed: Vec<(SnapshotRecord, String)> =
            plan.forgotten().map(|it| (it.record.clone(), it.reasons.join("; "))).collect();
        control.add_total(doomed.len() as u64, 0);
        control.total_is_known();
        control.enter(Phase::Writing);
        let proceed = || {
            control.add_done(1, 0);
            !control.is_cancelled()
        };
        let report = repo.retire_all(&doomed, THREADS, &proceed).map_err(|error| match error {
            RepoError::Stopped => Error::cancelled(),
            error => error.into(),
        })?;
        let left: HashSet<SnapshotId> = report.left.into_iter().collect();
        plan.retain(|decision| left.contains(&decision.record.id));
        let full = report.full.map(Error::from);
        Ok(ForgetReport { forgotten: report.count, left: plan, full })
    })
}

const NO_RULE: &str = "no rule keeps it";
/// Requests that are under way at once.
const THREADS: usize = 8;

#[cfg(test)]
mod tests;
