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

    fn now(&self) -> Timestamp {
        Timestamp { seconds: 10 * YEAR, nanos: 0 }
    }
}

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

/// Applies `policy` to snapshots of these times and compares what is kept, oldest first, each with
/// its reasons.
fn check(times: &[i64], policy: KeepPolicy, expected: &[(i64, &[&str])]) {
    let records = times.iter().map(|time| record(*time)).collect();
    let plan = plan(records, &policy, GroupBy::default(), &Plain).unwrap();
    let kept: Vec<(i64, Vec<&str>)> = plan
        .kept()
        .map(|it| {
            let reasons = it.kept_by.iter().map(String::as_str).collect();
            (it.record.snapshot.started.seconds, reasons)
        })
        .collect();
    let expected: Vec<(i64, Vec<&str>)> =
        expected.iter().map(|(time, reasons)| (*time, reasons.to_vec())).collect();
    assert_eq!(kept, expected, "{policy:?}");
    assert_eq!(plan.forgotten().count() + kept.len(), times.len());
}

fn newest(unit: Unit, count: u32) -> KeepPolicy {
    KeepPolicy { newest: vec![(unit, count)], ..KeepPolicy::default() }
}

#[test]
fn the_last_ones_are_kept() {
    let times = [HOUR, 2 * HOUR, 3 * HOUR];
    check(
        &times,
        newest(Unit::Snapshot, 2),
        &[(2 * HOUR, &["last snapshot"]), (3 * HOUR, &["last snapshot"])],
    );
    check(
        &times,
        newest(Unit::Snapshot, u32::MAX),
        &[
            (HOUR, &["last snapshot"]),
            (2 * HOUR, &["last snapshot"]),
            (3 * HOUR, &["last snapshot"]),
        ],
    );
}

#[test]
fn the_newest_of_each_day_is_kept_and_days_without_one_do_not_count() {
    let times = [0, DAY, DAY + HOUR, 5 * DAY, 5 * DAY + 2 * HOUR, 9 * DAY];
    check(
        &times,
        newest(Unit::Day, 3),
        &[
            (DAY + HOUR, &["daily snapshot"]),
            (5 * DAY + 2 * HOUR, &["daily snapshot"]),
            (9 * DAY, &["daily snapshot"]),
        ],
    );
}

#[test]
fn the_oldest_is_kept_while_a_rule_has_some_left() {
    let times = [0, HOUR, 2 * HOUR];
    check(
        &times,
        newest(Unit::Day, 7),
        &[(0, &["oldest daily snapshot"]), (2 * HOUR, &["daily snapshot"])],
    );
    check(&times, newest(Unit::Day, 1), &[(2 * HOUR, &["daily snapshot"])]);
}

#[test]
fn rules_add_up_and_each_says_why() {
    let policy = KeepPolicy {
        newest: vec![(Unit::Day, 1), (Unit::Month, 2), (Unit::Year, 1)],
        ..KeepPolicy::default()
    };
    check(
        &[0, DAY, MONTH, MONTH + DAY],
        policy,
        &[
            (DAY, &["monthly snapshot"]),
            (MONTH + DAY, &["daily snapshot", "monthly snapshot", "yearly snapshot"]),
        ],
    );
}

#[test]
fn time_is_counted_from_the_newest_snapshot() {
    let policy = KeepPolicy { within: Some("1d2h".parse().unwrap()), ..KeepPolicy::default() };
    let newest = 100 * DAY;
    check(
        &[newest - DAY - 2 * HOUR, newest - DAY - HOUR, newest],
        policy,
        &[(newest - DAY - HOUR, &["within 1d2h"]), (newest, &["within 1d2h"])],
    );
    let policy = KeepPolicy {
        newest_within: vec![(Unit::Day, "3d".parse().unwrap())],
        ..KeepPolicy::default()
    };
    check(
        &[newest - 9 * DAY, newest - 2 * DAY, newest - 2 * DAY + HOUR, newest],
        policy,
        &[(newest - 2 * DAY + HOUR, &["daily within 3d"]), (newest, &["daily within 3d"])],
    );
}

#[test]
fn a_clock_in_the_future_takes_nobody_elses_time() {
    let policy = KeepPolicy { within: Some("1d".parse().unwrap()), ..KeepPolicy::default() };
    let future = Plain.now().seconds + YEAR;
    check(
        &[DAY, 2 * DAY, 3 * DAY, future],
        policy,
        &[(3 * DAY, &["within 1d"]), (future, &["within 1d"])],
    );
}

#[test]
fn tags_keep() {
    let mut tagged = record(DAY);
    tagged.snapshot.tags = vec!["a".to_owned(), "b".to_owned()];
    let policy = KeepPolicy {
        newest: vec![(Unit::Snapshot, 1)],
        tags: vec![vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]],
        ..KeepPolicy::default()
    };
    let plan =
        plan(vec![tagged, record(2 * DAY), record(3 * DAY)], &policy, GroupBy::default(), &Plain);
    let plan = plan.unwrap();
    let kept: Vec<_> = plan.kept().map(|it| it.kept_by.clone()).collect();
    assert_eq!(kept, [vec!["has the tags [a, b]".to_owned()], vec!["last snapshot".to_owned()]]);
}

#[test]
fn a_partial_snapshot_takes_no_place() {
    let partial = |time| {
        let mut record = record(time);
        record.snapshot.flags = SnapshotFlags::PARTIAL;
        record
    };
    let records = vec![partial(0), record(DAY), partial(2 * DAY)];
    let plan = plan(records, &newest(Unit::Snapshot, 1), GroupBy::default(), &Plain).unwrap();
    let kept: Vec<_> = plan.kept().map(|it| it.record.snapshot.started.seconds).collect();
    assert_eq!(kept, [DAY, 2 * DAY], "the newest complete one, and what is newer");
}

#[test]
fn each_group_has_its_own_policy_and_is_never_emptied() {
    let other = |time| {
        let mut record = record(time);
        record.snapshot.host = "other".to_owned();
        record
    };
    let records = || vec![record(1), record(2), other(1), other(2)];
    let kept = |group_by| {
        let plan = plan(records(), &newest(Unit::Snapshot, 1), group_by, &Plain).unwrap();
        plan.kept().count()
    };
    assert_eq!(kept(GroupBy::default()), 2);
    assert_eq!(kept(GroupBy { host: false, paths: true, tags: false }), 1);
    let policy = KeepPolicy { tags: vec![vec!["none".to_owned()]], ..KeepPolicy::default() };
    for policy in [KeepPolicy::default(), newest(Unit::Day, 0), policy] {
        let refused = plan(records(), &policy, GroupBy::default(), &Plain).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn lengths_of_time_are_read_as_people_write_them() {
    let span = |text: &str| text.parse::<Span>();
    assert_eq!(span("1y5m7d2h"), Ok(Span { years: 1, months: 5, days: 7, hours: 2 }));
    assert_eq!(span("1y5m7d2h").unwrap().to_string(), "1y5m7d2h");
    assert_eq!(span("30d"), Ok(Span { days: 30, ..Span::default() }));
    for text in ["", "1", "d", "1w", "1d ", "-1d", "0d", "99999999999d"] {
        assert!(span(text).is_err(), "{text:?}");
    }
}
