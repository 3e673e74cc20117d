//! What the rules of a policy keep of one group, by either clock.

use std::cmp::Reverse;
use std::collections::HashMap;

use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;
use lastgood_repo::format::snapshot::SnapshotFlags;

use super::policy::{Calendar, Date, Policy, Unit};
use super::{CLOCKS, Candidate};

/// One rule that keeps the newest of each unit while it has some left.
struct Counter {
    unit: Unit,
    left: u32,
    /// The oldest moment it looks at.
    from: Option<Timestamp>,
    text: String,
    last: Option<[i64; 4]>,
}

/// From old to new. Of those that were put in one second, what they say of themselves decides.
pub(super) fn order(
    candidate: &Candidate,
    time: fn(&Candidate) -> Timestamp,
) -> (Timestamp, Timestamp, u64, SnapshotId) {
    let snapshot = &candidate.record.snapshot;
    let generation = snapshot.chain.generation;
    (time(candidate), snapshot.started, generation, candidate.record.id)
}

/// Why each of `members` is kept by what it says, or by when it was put; a reason that both give is
/// given once.
pub(super) fn by_rules(
    members: &[&Candidate],
    policy: &Policy,
    calendar: &dyn Calendar,
    now: Timestamp,
) -> HashMap<SnapshotId, Vec<String>> {
    let mut reasons: HashMap<SnapshotId, Vec<String>> = HashMap::new();
    for clock in CLOCKS {
        for (id, found) in by_clock(members, policy, calendar, now, clock.time) {
            let reasons = reasons.entry(id).or_default();
            for reason in found {
                if !reasons.contains(&reason) {
                    reasons.push(format!("{reason}{}", clock.suffix));
                }
            }
        }
    }
    reasons
}

fn by_clock(
    members: &[&Candidate],
    policy: &Policy,
    calendar: &dyn Calendar,
    now: Timestamp,
    time: fn(&Candidate) -> Timestamp,
) -> Vec<(SnapshotId, Vec<String>)> {
    let mut members = members.to_vec();
    members.sort_by_key(|it| Reverse(order(it, time)));
    let latest = Timestamp { seconds: now.seconds.saturating_add(AHEAD_MAX), nanos: now.nanos };
    let suspicion = |it: &Candidate| suspicion(it, time(it), latest);
    let takes_a_place = |it: &Candidate| !it.is(SnapshotFlags::PARTIAL) && suspicion(it).is_none();
    let places: Vec<usize> =
        (0..members.len()).filter(|&number| takes_a_place(members[number])).collect();
    let newest = places.first().map(|&number| time(members[number]));
    let since = |span| newest.map(|newest| calendar.before(newest, span));
    let times: Vec<Timestamp> = places.iter().map(|&number| time(members[number])).collect();
    let mut counted = counted(&times, policy, calendar).into_iter();
    let within = policy.within.and_then(|span| Some((span, since(span)?)));
    let mut found = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let at = time(member);
        let mut reasons: Vec<String> = policy.named_by(&member.record).collect();
        if let Some((span, from)) = within
            && at > from
        {
            reasons.push(format!("within {span}"));
        }
        if let Some(why) = suspicion(member) {
            reasons.push(why.to_owned());
        } else if member.is(SnapshotFlags::PARTIAL) {
            // It stands for a run that was not over, and takes nobody's place.
            let is_newest = places.first().is_none_or(|&first| number < first);
            reasons
                .extend(is_newest.then(|| "partial, and newer than any complete one".to_owned()));
        } else {
            reasons.extend(counted.next().unwrap_or_default());
        }
        found.push((member.record.id, reasons));
    }
    found
}

/// Why each of these moments, newest first, is kept by the rules that count.
pub(crate) fn counted(
    times: &[Timestamp],
    policy: &Policy,
    calendar: &dyn Calendar,
) -> Vec<Vec<String>> {
    let newest = times.first();
    let since = |span| newest.map(|&newest| calendar.before(newest, span));
    let mut counters = counters(policy, &since);
    let reasons = times.iter().enumerate().map(|(number, &at)| {
        let is_oldest = number + 1 == times.len();
        let date = calendar.date(at);
        counters.iter_mut().filter_map(|it| it.keep(date, number, at, is_oldest)).collect()
    });
    reasons.collect()
}

/// Why a time is not to be believed, if it is not. Such a snapshot would take the place of all that
/// were made before a clock went wrong, or by whoever chose its time; so it is kept, and takes none.
fn suspicion(candidate: &Candidate, at: Timestamp, latest: Timestamp) -> Option<&'static str> {
    let put = candidate.stored.seconds.saturating_add(AHEAD_MAX);
    if at > latest {
        Some("its time is in the future")
    } else if candidate.claimed().seconds > put {
        Some("it says that it was made after it was put")
    } else {
        None
    }
}

fn counters(
    policy: &Policy,
    since: &dyn Fn(super::policy::Span) -> Option<Timestamp>,
) -> Vec<Counter> {
    let counted = policy.newest.iter().filter(|(_, count)| *count > 0).map(|&(unit, left)| {
        let text = format!("{} snapshot", unit.name());
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
        at: Timestamp,
        is_oldest: bool,
    ) -> Option<String> {
        if self.left == 0 || self.from.is_some_and(|from| at <= from) {
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

/// Seconds that a clock may be ahead of the one here before it counts as wrong.
const AHEAD_MAX: i64 = 24 * 3600;
