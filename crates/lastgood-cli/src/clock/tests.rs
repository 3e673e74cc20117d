use super::*;

fn calendar(zone: &str) -> LocalCalendar {
    LocalCalendar(TimeZone::get(zone).unwrap())
}

fn at(text: &str) -> Timestamp {
    Timestamp { seconds: text.parse::<jiff::Timestamp>().unwrap().as_second(), nanos: 0 }
}

#[test]
fn days_are_those_of_the_zone_and_weeks_those_of_iso_8601() {
    let check = |zone: &str, time: &str, expected: (i32, u8, u8, u8), week: (i32, u8)| {
        let (year, month, day, hour) = expected;
        let expected = Date { year, month, day, hour, week };
        assert_eq!(calendar(zone).date(at(time)), expected, "{zone} {time}");
    };
    check("UTC", "2026-11-21T18:30:00Z", (2026, 11, 21, 18), (2026, 47));
    check("Europe/Berlin", "2026-12-31T23:30:00Z", (2027, 1, 1, 0), (2026, 53));
    check("America/New_York", "2027-01-01T03:00:00Z", (2026, 12, 31, 22), (2026, 53));
    check("UTC", "2027-01-04T00:00:00Z", (2027, 1, 4, 0), (2027, 1));
    check("UTC", "2024-12-30T12:00:00Z", (2024, 12, 30, 12), (2025, 1));
}

#[test]
fn lengths_are_counted_on_the_wall() {
    let check = |zone: &str, time: &str, span: &str, expected: &str| {
        let before = calendar(zone).before(at(time), span.parse().unwrap());
        assert_eq!(before, at(expected), "{zone} {time} {span}");
    };
    check("UTC", "2026-03-31T12:00:00Z", "1m", "2026-02-28T12:00:00Z");
    check("UTC", "2026-11-21T18:30:00Z", "1y5m7d2h", "2025-06-14T16:30:00Z");
    // A day with 25 hours is a day.
    check("Europe/Berlin", "2026-10-25T12:00:00Z", "1d", "2026-10-24T11:00:00Z");
    check("Europe/Berlin", "2026-10-25T12:00:00Z", "24h", "2026-10-24T12:00:00Z");
    let first = calendar("UTC").before(at("2026-01-01T00:00:00Z"), "99999y".parse().unwrap());
    assert_eq!(first.seconds, i64::MIN);
    let odd = Timestamp { seconds: i64::MAX, nanos: 0 };
    assert_eq!(calendar("UTC").date(odd).year, 9999);
}
