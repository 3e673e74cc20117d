use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::id::{BlobId, SessionId, SnapshotId, WriterId};
use lastgood_repo::format::snapshot::{Chain, OwnerNames, Snapshot, Totals};

use super::*;

/// Months of 30 days, weeks from day 0, and years of 12 such months: easy to count by hand.
struct Plain;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const MONTH: i64 = 30 * DAY;
const YEAR: i64 = 12 * MONTH;

impl Calendar for Plain {
    fn date(&self, time: Timestamp) -> Date {
        let s = time.seconds;
        Date {
            year: (s / YEAR) as i32,
            month: (s % YEAR / MONTH) as u8 + 1,
            day: (s % MONTH / DAY) as u8 + 1,
            hour: (s % DAY / HOUR) as u8,
            week: (0, (s / (7 * DAY)) as u8),
        }
    }

    fn before(&self, time: Timestamp, span: Span) -> Timestamp {
        let Span { years, months, days, hours } = span;
        let seconds = i64::from(years) * YEAR
            + i64::from(months) * MONTH
            + i64::from(days) * DAY
            + i64::from(hours) * HOUR;
        Timestamp { seconds: time.seconds - seconds, nanos: 0 }
    }
}

const NOW: i64 = 10 * YEAR;

fn record(seconds: i64) -> SnapshotRecord {
    let blob = BlobId::new([1; 32]);
    let time = Timestamp { seconds, nanos: 0 };
    let snapshot = Snapshot {
        session: SessionId::new([2; 16]),
        started: time,
        finished: time,
        tree: blob,
        hints: blob,
        links: blob,
        pack_set: blob,
        ref_packs: Vec::new(),
        sources: vec![b"/a".to_vec()],
        host: "host".to_owned(),
        host_id: [0; 16],
        user: String::new(),
        tags: Vec::new(),
        owners: OwnerNames::default(),
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
        chain: Chain {
            writer: WriterId::new([3; 16]),
            sequence: 1,
            previous: None,
            parents: Vec::new(),
            generation: 1,
            heads: Vec::new(),
        },
        totals: Totals::default(),
        flags: SnapshotFlags::default(),
        program: String::new(),
        original: None,
    };
    let mut id = [0; 32];
    id[..8].copy_from_slice(&seconds.to_le_bytes());
    SnapshotRecord { id: SnapshotId::new(id), snapshot }
}

/// The same with another id.
fn marked(mut record: SnapshotRecord) -> SnapshotRecord {
    let mut id = *record.id.as_bytes();
    id[31] = 1;
    record.id = SnapshotId::new(id);
    record
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// What the store saw being put when it says so itself.
fn honest(records: impl IntoIterator<Item = SnapshotRecord>) -> Candidates {
    let put = |record: SnapshotRecord| (record.snapshot.started.seconds, record);
    put_at(records.into_iter().map(put))
}

/// What was put at these times.
fn put_at(records: impl IntoIterator<Item = (i64, SnapshotRecord)>) -> Candidates {
    let all = records.into_iter().map(|(put, record)| Candidate { record, stored: at(put) });
    Candidates { all: all.collect(), now: at(NOW), problems: Vec::new() }
}

fn planned(candidates: &Candidates, policy: &Policy) -> ForgetPlan {
    plan(candidates, &Filter::default(), policy, &Plain).unwrap()
}

/// What is kept of some snapshots, oldest first, each with its reasons.
fn kept(candidates: &Candidates, policy: &Policy) -> Vec<(i64, String)> {
    let plan = planned(candidates, policy);
    assert_eq!(plan.forgotten().count() + plan.kept().count(), candidates.all.len());
    let kept = plan.kept();
    kept.map(|it| (it.record.snapshot.started.seconds, it.reasons.join("; "))).collect()
}

/// Applies `policy` to snapshots of these times and compares what is kept.
fn check(times: &[i64], policy: &Policy, expected: &[(i64, &str)]) {
    let candidates = honest(times.iter().map(|time| record(*time)));
    let expected: Vec<(i64, String)> =
        expected.iter().map(|(time, reasons)| (*time, (*reasons).to_owned())).collect();
    assert_eq!(kept(&candidates, policy), expected, "{policy:?}");
}

/// A policy as people write it.
fn policy(rules: &str) -> Policy {
    let mut policy = Policy::default();
    for rule in rules.split(' ') {
        let (key, value) = rule.split_once('=').unwrap();
        policy.set(key, value).unwrap();
    }
    policy
}

#[test]
fn the_last_ones_are_kept() {
    let times = [HOUR, 2 * HOUR, 3 * HOUR];
    check(
        &times,
        &policy("keep-last=2"),
        &[(2 * HOUR, "last snapshot"), (3 * HOUR, "last snapshot")],
    );
    let all = times.map(|time| (time, "last snapshot"));
    check(&times, &policy("keep-last=unlimited"), &all);
}

#[test]
fn the_newest_of_each_day_is_kept_and_days_without_one_do_not_count() {
    let times = [0, DAY, DAY + HOUR, 5 * DAY, 5 * DAY + 2 * HOUR, 9 * DAY];
    check(
        &times,
        &policy("keep-daily=3"),
        &[
            (DAY + HOUR, "daily snapshot"),
            (5 * DAY + 2 * HOUR, "daily snapshot"),
            (9 * DAY, "daily snapshot"),
        ],
    );
}

#[test]
fn the_oldest_is_kept_while_a_rule_has_some_left() {
    let times = [0, HOUR, 2 * HOUR];
    check(
        &times,
        &policy("keep-daily=7"),
        &[(0, "oldest daily snapshot"), (2 * HOUR, "daily snapshot")],
    );
    check(&times, &policy("keep-daily=1"), &[(2 * HOUR, "daily snapshot")]);
}

#[test]
fn rules_add_up_and_each_says_why() {
    check(
        &[0, DAY, MONTH, MONTH + DAY],
        &policy("keep-daily=1 keep-monthly=2 keep-yearly=1"),
        &[
            (DAY, "monthly snapshot"),
            (MONTH + DAY, "daily snapshot; monthly snapshot; yearly snapshot"),
        ],
    );
}

#[test]
fn time_is_counted_from_the_newest_snapshot() {
    let newest = 100 * DAY;
    check(
        &[newest - DAY - 2 * HOUR, newest - DAY - HOUR, newest],
        &policy("keep-within=1d2h"),
        &[(newest - DAY - HOUR, "within 1d2h"), (newest, "within 1d2h")],
    );
    check(
        &[newest - 9 * DAY, newest - 2 * DAY, newest - 2 * DAY + HOUR, newest],
        &policy("keep-within-daily=3d"),
        &[(newest - 2 * DAY + HOUR, "daily within 3d"), (newest, "daily within 3d")],
    );
}

#[test]
fn tags_and_ids_keep() {
    let mut tagged = record(DAY);
    tagged.snapshot.tags = vec!["a".to_owned(), "b".to_owned()];
    let id = record(2 * DAY).id.to_string();
    let records = [tagged, record(2 * DAY), record(3 * DAY), record(4 * DAY)];
    let policy = policy(&format!("keep-last=1 keep-tag=a,b keep-tag=c keep-id={}", &id[..10]));
    let expected = [
        (DAY, "has the tags [a, b]".to_owned()),
        (2 * DAY, "its id is to be kept".to_owned()),
        (4 * DAY, "last snapshot".to_owned()),
    ];
    assert_eq!(kept(&honest(records), &policy), expected);
}

#[test]
fn a_partial_snapshot_takes_no_place() {
    let partial = |time| flagged(record(time), SnapshotFlags::PARTIAL);
    let candidates = honest([partial(0), record(DAY), partial(2 * DAY)]);
    let kept: Vec<i64> =
        kept(&candidates, &policy("keep-last=1")).into_iter().map(|(time, _)| time).collect();
    assert_eq!(kept, [DAY, 2 * DAY], "the newest complete one, and what is newer");
}

fn flagged(mut record: SnapshotRecord, flags: SnapshotFlags) -> SnapshotRecord {
    record.snapshot.flags = flags;
    record
}

#[test]
fn what_is_pinned_stays_named_or_not() {
    let pinned = flagged(record(DAY), SnapshotFlags::PINNED);
    let candidates = honest([pinned.clone(), record(2 * DAY), record(3 * DAY)]);
    let policy = policy("keep-last=1");
    let expected = [(DAY, "pinned".to_owned()), (3 * DAY, "last snapshot".to_owned())];
    assert_eq!(kept(&candidates, &policy), expected);
    let refused = named(&candidates, &[pinned.id], &policy, &Plain).unwrap_err();
    assert!(refused.to_string().contains("lastgood unpin"), "{refused}");
    let free = named(&candidates, &[record(2 * DAY).id], &policy, &Plain).unwrap();
    assert_eq!(free.forgotten().count(), 1);
}

#[test]
fn each_group_has_its_own_policy_and_is_never_emptied() {
    let other = |time| {
        let mut record = record(time);
        record.snapshot.host = "other".to_owned();
        marked(record)
    };
    let candidates = honest([record(1), record(2), other(1), other(2)]);
    assert_eq!(kept(&candidates, &policy("keep-last=1")).len(), 2);
    assert_eq!(kept(&candidates, &policy("keep-last=1 group-by=paths")).len(), 1);
    assert_eq!(kept(&candidates, &policy("keep-last=1 group-by=")).len(), 1);
    for policy in [Policy::default(), policy("keep-daily=0"), policy("keep-tag=none")] {
        let refused = plan(&candidates, &Filter::default(), &policy, &Plain).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    let only = Filter { hosts: vec!["other".to_owned()], ..Filter::default() };
    let plan = plan(&candidates, &only, &policy("keep-last=1"), &Plain).unwrap();
    assert_eq!((plan.kept().count(), plan.forgotten().count()), (1, 1));
}

/// Whether all of `good` stay when a writer who lies put `bad` among them: pairs of when they were
/// put and what they say.
fn survive(good: &[i64], bad: &[(i64, i64)], policy: &Policy) {
    let alone: Vec<i64> = kept(&honest(good.iter().map(|time| record(*time))), policy)
        .into_iter()
        .map(|(time, _)| time)
        .collect();
    let lies = bad.iter().map(|(put, says)| (*put, marked(record(*says))));
    let all = put_at(good.iter().map(|time| (*time, record(*time))).chain(lies));
    let plan = planned(&all, policy);
    let kept: Vec<i64> = plan
        .kept()
        .filter(|it| it.record.id.as_bytes()[31] == 0)
        .map(|it| it.record.snapshot.started.seconds)
        .collect();
    assert_eq!(kept, alone, "{policy:?}");
}

#[test]
fn snapshots_that_claim_past_days_push_no_good_one_out() {
    let good: Vec<i64> = (0..30).map(|day| day * DAY + HOUR).collect();
    // Today, one for the evening of each day.
    let bad: Vec<(i64, i64)> = (0..29).map(|day| (29 * DAY + day, day * DAY + 20 * HOUR)).collect();
    survive(&good, &bad, &policy("keep-daily=30"));
    survive(&good, &bad, &policy("keep-weekly=5 keep-monthly=2"));
    survive(&good, &bad, &policy("keep-within=20d"));
}

#[test]
fn snapshots_that_claim_days_to_come_push_no_good_one_out() {
    let good: Vec<i64> = (0..30).map(|day| NOW - day * DAY - HOUR).rev().collect();
    let bad: Vec<(i64, i64)> = (1..40).map(|day| (NOW - 60 + day, NOW + day * YEAR)).collect();
    for rules in ["keep-last=5", "keep-daily=7", "keep-within=7d", "keep-within-daily=7d"] {
        survive(&good, &bad, &policy(rules));
    }
}

#[test]
fn clocks_that_were_years_ahead_on_both_sides_push_no_good_one_out() {
    let good: Vec<i64> = (0..30).map(|day| NOW - day * DAY - HOUR).rev().collect();
    let bad = [(NOW + 70 * YEAR, NOW + 70 * YEAR)];
    for rules in ["keep-last=5", "keep-daily=7", "keep-within=7d"] {
        survive(&good, &bad, &policy(rules));
    }
}

/// A copy of the repository, or a store that has no times, is no reason to forget more.
#[test]
fn a_store_without_times_costs_space_alone() {
    let all = put_at((0..30).map(|day| (0, record(NOW - day * DAY))));
    assert_eq!(kept(&all, &policy("keep-daily=7")).len(), 30);
    let copied = put_at((0..30).map(|day| (NOW, record(NOW - day * DAY))));
    let kept = kept(&copied, &policy("keep-daily=7"));
    let days: Vec<i64> = kept.iter().map(|(time, _)| (NOW - time) / DAY).collect();
    assert_eq!(days, [29, 6, 5, 4, 3, 2, 1, 0], "the oldest by the store's clock, and the seven");
}

#[test]
fn what_is_protected_is_young_by_either_clock() {
    let policy = policy("keep-last=1 protect=14d");
    let old = NOW - 30 * DAY;
    let all = put_at([
        (old, record(old)),
        (NOW - DAY, record(old + 1)),
        (old, record(NOW - 13 * DAY)),
        (NOW, record(NOW)),
    ]);
    let forgotten: Vec<i64> =
        planned(&all, &policy).forgotten().map(|it| it.record.snapshot.started.seconds).collect();
    assert_eq!(forgotten, [old]);
    let refused = named(&all, &[record(old + 1).id], &policy, &Plain).unwrap_err();
    assert!(refused.to_string().contains("--protect 0"), "{refused}");
}

#[test]
fn the_snapshot_before_a_loss_stays_until_it_is_named() {
    let with = |time, files, bytes| {
        let mut record = record(time);
        record.snapshot.totals = Totals { files, bytes, ..Totals::default() };
        record
    };
    let (whole, lossy) = (with(DAY, 100, 1000), with(2 * DAY, 49, 900));
    let rest = [with(3 * DAY, 50, 900), with(4 * DAY, 50, 900)];
    let last = policy("keep-last=1");
    let times = |candidates: &Candidates, policy: &Policy| -> Vec<i64> {
        kept(candidates, policy).into_iter().map(|(time, _)| time).collect()
    };
    let all = honest([whole.clone(), lossy.clone()].into_iter().chain(rest.clone()));
    assert_eq!(times(&all, &last), [DAY, 4 * DAY]);
    // Half is no loss; and when the bad one is gone, the good one is compared with what follows.
    let without = honest([whole.clone()].into_iter().chain(rest));
    assert_eq!(times(&without, &last), [4 * DAY]);
    let still = honest([whole.clone(), with(3 * DAY, 100, 499), with(4 * DAY, 100, 499)]);
    assert_eq!(times(&still, &last), [DAY, 4 * DAY]);
    assert_eq!(times(&all, &policy("keep-last=1 accept-loss=true")), [4 * DAY]);
    assert_eq!(named(&all, &[whole.id], &last, &Plain).unwrap().forgotten().count(), 1);
    // What a filter hides is looked at all the same, and another source is another matter.
    let mut other = lossy;
    other.snapshot.sources = vec![b"/b".to_vec()];
    let apart = honest([whole, other]);
    assert_eq!(times(&apart, &policy("keep-last=1 group-by=host")), [2 * DAY]);
}

#[test]
fn a_policy_is_read_from_a_file_as_from_flags() {
    let text = "# the usual\nkeep-daily = 7\nkeep-within-weekly=2m # and a bit\n\ngroup-by = host\n\
                keep-tag = a, b\nprotect = 2w\nkeep-last = unlimited\n";
    let read = Policy::parse(text).unwrap();
    let expected = Policy {
        newest: vec![(Unit::Snapshot, u32::MAX), (Unit::Day, 7)],
        newest_within: vec![(Unit::Week, Span { months: 2, ..Span::default() })],
        tags: vec![vec!["a".to_owned(), "b".to_owned()]],
        group_by: GroupBy { host: true, ..GroupBy::NOTHING },
        protect: Some(Span { days: 14, ..Span::default() }),
        ..Policy::default()
    };
    assert_eq!(read, expected);
    for (text, wrong) in [
        ("keep-daily", "line 1: write KEY = VALUE"),
        ("\nkeep-dayly = 7", "line 2: no rule is called \"keep-dayly\""),
        ("keep-daily = -1", "line 1: \"-1\" is no count"),
        ("keep-within = 1x", "line 1: \"1x\" is no length of time"),
        ("keep-id = xyz", "line 1: \"xyz\" is not the start of an id"),
    ] {
        let error = Policy::parse(text).unwrap_err();
        assert!(error.starts_with(wrong), "{error}");
    }
}

#[test]
fn lengths_of_time_are_read_as_people_write_them() {
    let span = |text: &str| text.parse::<Span>();
    assert_eq!(span("1y5m7d2h"), Ok(Span { years: 1, months: 5, days: 7, hours: 2 }));
    assert_eq!(span("1y5m7d2h").unwrap().to_string(), "1y5m7d2h");
    assert_eq!(span("30d"), Ok(Span { days: 30, ..Span::default() }));
    assert_eq!(span("2w1d"), Ok(Span { days: 15, ..Span::default() }));
    for text in ["", "1", "d", "1x", "1d ", "-1d", "0d", "99999999999d"] {
        assert!(span(text).is_err(), "{text:?}");
    }
}

/// The Gregorian calendar at Greenwich, by the usual arithmetic on days since 0000-03-01.
struct Utc;

impl Utc {
    fn day(year: i64, month: i64, day: i64) -> i64 {
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
    }

    /// Year, month, and day.
    fn civil(days: i64) -> (i64, i64, i64) {
        let mut year = 1970 + days / 366;
        while Self::day(year + 1, 1, 1) <= days {
            year += 1;
        }
        let month = (1..=12).rev().find(|month| Self::day(year, *month, 1) <= days).unwrap();
        (year, month, days - Self::day(year, month, 1) + 1)
    }
}

impl Calendar for Utc {
    fn date(&self, time: Timestamp) -> Date {
        let days = time.seconds.div_euclid(DAY);
        let (year, month, day) = Self::civil(days);
        let hour = (time.seconds.rem_euclid(DAY) / HOUR) as u8;
        // 1970 began on a Thursday.
        let week = ((days + 3).div_euclid(7) as i32, 0);
        Date { year: year as i32, month: month as u8, day: day as u8, hour, week }
    }

    fn before(&self, time: Timestamp, span: Span) -> Timestamp {
        let (year, month, day) = Self::civil(time.seconds.div_euclid(DAY));
        let months = 12 * (year - i64::from(span.years)) + month - 1 - i64::from(span.months);
        let days = Self::day(months / 12, months % 12 + 1, day) - i64::from(span.days);
        let of_day = time.seconds.rem_euclid(DAY) - i64::from(span.hours) * HOUR;
        at(days * DAY + of_day)
    }
}

/// `2026-11-21T18:30`.
fn utc(text: &str) -> i64 {
    let numbers: Vec<i64> =
        text.split(['-', 'T', ':']).map(|number| number.parse().unwrap()).collect();
    Utc::day(numbers[0], numbers[1], numbers[2]) * DAY + numbers[3] * HOUR + numbers[4] * 60
}

/// What restic keeps of these, as its manual and its `ApplyPolicy` have it.
#[test]
fn rules_keep_what_people_know_from_restic() {
    let times = [
        "2026-10-01T10:00",
        "2026-10-31T23:00",
        "2026-11-01T00:00",
        "2026-11-15T12:00",
        "2026-11-16T01:00",
        "2026-11-20T08:00",
        "2026-11-20T20:00",
        "2026-11-21T09:10",
        "2026-11-21T09:50",
        "2026-11-21T18:30",
    ];
    let times = times.map(utc);
    let candidates = Candidates { now: at(utc("2026-11-22T00:00")), ..honest(times.map(record)) };
    let check = |rules: &str, expected: &[usize]| {
        let plan = plan(&candidates, &Filter::default(), &policy(rules), &Utc).unwrap();
        let kept = plan.kept().map(|it| it.record.snapshot.started.seconds);
        let kept: Vec<usize> =
            kept.map(|time| times.iter().position(|it| *it == time).unwrap()).collect();
        assert_eq!(kept, expected, "{rules}");
    };
    check("keep-last=1", &[9]);
    check("keep-last=3", &[7, 8, 9]);
    check("keep-hourly=2", &[8, 9]);
    check("keep-hourly=3", &[6, 8, 9]);
    check("keep-daily=2", &[6, 9]);
    check("keep-daily=4", &[3, 4, 6, 9]);
    check("keep-weekly=2", &[3, 9]);
    check("keep-weekly=3", &[2, 3, 9]);
    check("keep-weekly=4", &[0, 2, 3, 9]);
    check("keep-monthly=1", &[9]);
    check("keep-monthly=2", &[1, 9]);
    check("keep-monthly=3", &[0, 1, 9]);
    check("keep-yearly=5", &[0, 9]);
    check("keep-last=1 keep-monthly=2", &[1, 9]);
    check("keep-within=1d", &[6, 7, 8, 9]);
    check("keep-within=1m", &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check("keep-within-daily=7d", &[3, 4, 6, 9]);
    check("keep-within-hourly=1d", &[6, 8, 9]);
    check("keep-last=unlimited", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}
