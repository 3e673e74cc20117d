//! Forget: which snapshots a retention policy keeps, and why; the others are retired.
//!
//! Nothing is removed here: [`gc`](crate::gc) frees the space, and until then
//! [`undelete`](crate::undelete) brings a snapshot back. The rules are those that people know from
//! restic, so that a policy can be taken over word by word.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::snapshot::SnapshotFlags;
use lastgood_repo::{RepoError, Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::job::{Job, Phase};

/// Tells which day it is where the policy is meant.
pub trait Calendar {
    /// The hour in which a moment lies, and what that lies in.
    fn date(&self, time: Timestamp) -> Date;
    /// The moment that lies `span` before another.
    fn before(&self, time: Timestamp, span: Span) -> Timestamp;
    /// The present.
    fn now(&self) -> Timestamp;
}

/// An hour of a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: i32,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, from 0.
    pub hour: u8,
    /// The year of the ISO week, and its number.
    pub week: (i32, u8),
}

/// A length of time in the calendar's units, such as `1y5m7d2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no length of time: write it as in 1y5m7d2h");
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
            let mut units = rest[digits..].chars();
            let field = match units.next() {
                Some('y') => &mut span.years,
                Some('m') => &mut span.months,
                Some('d') => &mut span.days,
                Some('h') => &mut span.hours,
                _ => return Err(wrong()),
            };
            *field = field.checked_add(number).ok_or_else(wrong)?;
            rest = units.as_str();
        }
        if span == Self::default() { Err(wrong()) } else { Ok(span) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// A unit of the calendar of which the newest snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Every snapshot is one.
    Snapshot,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// An ISO week, which begins on Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Unit {
    /// All units.
    pub const ALL: [Self; 6] =
        [Self::Snapshot, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// Which one of them a moment lies in.
    fn number(self, date: Date, snapshot: usize) -> [i64; 4] {
        let Date { year, month, day, hour, week } = date;
        let [year, month, day, hour] =
            [i64::from(year), i64::from(month), i64::from(day), i64::from(hour)];
        match self {
            Self::Snapshot => [snapshot as i64, 0, 0, 0],
            Self::Hour => [year, month, day, hour],
            Self::Day => [year, month, day, 0],
            Self::Week => [i64::from(week.0), i64::from(week.1), 0, 0],
            Self::Month => [year, month, 0, 0],
            Self::Year => [year, 0, 0, 0],
        }
    }
}

/// What is kept. A snapshot is kept when any rule keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    /// For each unit, of how many the newest snapshot is kept; `u32::MAX` for all. Units without a
    /// snapshot do not count.
    pub newest: Vec<(Unit, u32)>,
    /// Everything that is not older than this before the newest snapshot.
    pub within: Option<Span>,
    /// For each unit, the newest of each that is not older than this before the newest snapshot.
    pub newest_within: Vec<(Unit, Span)>,
    /// Everything that has all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
}

impl KeepPolicy {
    /// Whether there is no rule, which keeps everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest.iter().all(|(_, count)| *count == 0)
            && self.within.is_none()
            && self.newest_within.is_empty()
            && self.tags.is_empty()
    }
}

/// What snapshots of one group have in common: the policy holds for each group by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The sources.
    pub paths: bool,
    /// The tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// What the snapshots of a group have in common, as far as that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The host.
    pub host: Option<String>,
    /// The sources.
    pub paths: Option<Vec<Vec<u8>>>,
    /// The tags.
    pub tags: Option<Vec<String>>,
}

impl GroupBy {
    /// The group of a snapshot.
    #[must_use]
    pub fn group(self, record: &SnapshotRecord) -> Group {
        let snapshot = &record.snapshot;
        Group {
            host: self.host.then(|| snapshot.host.clone()),
            paths: self.paths.then(|| snapshot.sources.clone()),
            tags: self.tags.then(|| snapshot.tags.clone()),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// Why it is kept; empty when it is forgotten.
    pub kept_by: Vec<String>,
    /// Why it is forgotten; empty when it is kept.
    pub forgotten_since: String,
}

impl Decision {
    /// Whether it is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.kept_by.is_empty()
    }
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
        self.groups.iter().flat_map(|(_, all)| all).filter(|decision| !decision.is_kept())
    }

    /// The snapshots that are kept.
    pub fn kept(&self) -> impl Iterator<Item = &Decision> {
        self.groups.iter().flat_map(|(_, all)| all).filter(|decision| decision.is_kept())
    }
}

/// Applies a policy to `records`.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the policy has no rule, or keeps nothing of a group: that is a slip
/// more often than a wish.
pub fn plan(
    records: Vec<SnapshotRecord>,
    policy: &KeepPolicy,
    group_by: GroupBy,
    calendar: &dyn Calendar,
) -> Result<ForgetPlan, Error> {
    if policy.is_empty() {
        let text = "no rule says what to keep; give one, or name the snapshots to forget";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let mut groups: BTreeMap<Group, Vec<SnapshotRecord>> = BTreeMap::new();
    for record in records {
        groups.entry(group_by.group(&record)).or_default().push(record);
    }
    let mut planned = ForgetPlan::default();
    for (group, records) in groups {
        let decisions = decide(records, policy, calendar);
        if !decisions.iter().any(Decision::is_kept) {
            let text =
                "the policy keeps no snapshot of a group; to forget the last ones, name them";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        planned.groups.push((group, decisions));
    }
    Ok(planned)
}

/// Plans to forget all of `records`, because they were named.
///
/// # Errors
/// [`ErrorKind::Invalid`] when one is pinned.
pub fn named(records: Vec<SnapshotRecord>, group_by: GroupBy) -> Result<ForgetPlan, Error> {
    let mut groups: BTreeMap<Group, Vec<Decision>> = BTreeMap::new();
    for record in records {
        if record.snapshot.flags.contains(SnapshotFlags::PINNED) {
            let text = format!("snapshot {} is pinned: unpin it first", record.id);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let forgotten_since = "it was named".to_owned();
        let group = groups.entry(group_by.group(&record)).or_default();
        group.push(Decision { record, kept_by: Vec::new(), forgotten_since });
    }
    Ok(ForgetPlan { groups: groups.into_iter().collect() })
}

/// Starts to retire what a plan forgets. Ends with how many snapshots were not retired before.
/// Progress counts snapshots as files. Cancelled or killed, it has retired some of them.
#[must_use]
pub fn start(repo: Arc<Repository>, plan: ForgetPlan) -> Job<u64> {
    Job::spawn(move |control| {
        let doomed: Vec<(SnapshotRecord, String)> =
            plan.forgotten().map(|it| (it.record.clone(), it.forgotten_since.clone())).collect();
        control.add_total(doomed.len() as u64, 0);
        control.total_is_known();
        control.enter(Phase::Writing);
        let proceed = || {
            control.add_done(1, 0);
            !control.is_cancelled()
        };
        repo.retire_all(&doomed, THREADS, &proceed).map_err(|error| match error {
            RepoError::Stopped => Error::cancelled(),
            error => error.into(),
        })
    })
}

/// Requests that are under way at once.
const THREADS: usize = 8;

/// One rule that keeps the newest of each unit while it has some left.
struct Counter {
    unit: Unit,
    left: u32,
    /// The oldest moment it looks at.
    from: Option<Timestamp>,
    text: String,
    last: Option<[i64; 4]>,
}

/// Decides on one group.
fn decide(
    mut records: Vec<SnapshotRecord>,
    policy: &KeepPolicy,
    calendar: &dyn Calendar,
) -> Vec<Decision> {
    records.sort_by_key(|record| {
        std::cmp::Reverse((record.snapshot.started, record.snapshot.chain.generation, record.id))
    });
    let complete: Vec<usize> = (0..records.len()).filter(|&at| !is_partial(&records[at])).collect();
    let newest = newest_time(complete.iter().map(|&at| &records[at]), calendar);
    let since = |span: Span| newest.map(|newest| calendar.before(newest, span));
    let mut counters = counters(policy, &since);
    let within = policy.within.map(|span| (span, since(span)));
    let mut decisions = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let time = record.snapshot.started;
        let mut kept_by = tag_rules(policy, record);
        if let Some((span, Some(from))) = within
            && time > from
        {
            kept_by.push(format!("within {span}"));
        }
        if is_partial(record) {
            // It stands for a run that was not over, and takes nobody's place.
            let is_newest = complete.first().is_none_or(|&first| number < first);
            kept_by
                .extend(is_newest.then(|| "partial, and newer than any complete one".to_owned()));
        } else {
            let is_oldest = complete.last() == Some(&number);
            let date = calendar.date(time);
            let kept =
                counters.iter_mut().filter_map(|rule| rule.keep(date, number, time, is_oldest));
            kept_by.extend(kept);
        }
        let forgotten_since =
            if kept_by.is_empty() { "no rule keeps it".to_owned() } else { String::new() };
        decisions.push(Decision { record: record.clone(), kept_by, forgotten_since });
    }
    decisions.reverse();
    decisions
}

fn counters(policy: &KeepPolicy, since: &dyn Fn(Span) -> Option<Timestamp>) -> Vec<Counter> {
    let counted = policy.newest.iter().filter(|(_, count)| *count > 0).map(|&(unit, left)| {
        let text = match unit {
            Unit::Snapshot => "last snapshot".to_owned(),
            unit => format!("{} snapshot", unit.name()),
        };
        Counter { unit, left, from: None, text, last: None }
    });
    let within = policy.newest_within.iter().map(|&(unit, span)| Counter {
        unit,
        left: u32::MAX,
        from: since(span),
        text: format!("{} within {span}", unit.name()),
        last: None,
    });
    counted.chain(within).collect()
}

impl Counter {
    /// Keeps the first of each unit that it meets, and the oldest of all while it has some left: so
    /// history grows as long as the policy allows.
    fn keep(
        &mut self,
        date: Date,
        number: usize,
        time: Timestamp,
        is_oldest: bool,
    ) -> Option<String> {
        if self.left == 0 || self.from.is_some_and(|from| time <= from) {
            return None;
        }
        let unit = self.unit.number(date, number);
        let is_new = self.last != Some(unit);
        if !is_new && !is_oldest {
            return None;
        }
        self.last = Some(unit);
        if self.left != u32::MAX {
            self.left -= 1;
        }
        Some(if is_new { self.text.clone() } else { format!("oldest {}", self.text) })
    }
}

fn tag_rules(policy: &KeepPolicy, record: &SnapshotRecord) -> Vec<String> {
    let has = |tags: &&Vec<String>| tags.iter().all(|tag| record.snapshot.tags.contains(tag));
    let rules = policy.tags.iter().filter(has);
    rules.map(|tags| format!("has the tags [{}]", tags.join(", "))).collect()
}

/// When the newest snapshot was made, but for those that a wrong clock put into the future.
fn newest_time<'a>(
    records: impl Iterator<Item = &'a SnapshotRecord>,
    calendar: &dyn Calendar,
) -> Option<Timestamp> {
    let now = calendar.now();
    records.map(|record| record.snapshot.started).filter(|time| *time <= now).max()
}

fn is_partial(record: &SnapshotRecord) -> bool {
    record.snapshot.flags.contains(SnapshotFlags::PARTIAL)
}

#[cfg(test)]
mod tests;
