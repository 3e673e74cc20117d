//! The one monotonic clock of the command, and the calendar on the wall.

use std::time::{Duration, Instant};

use jiff::Zoned;
use jiff::tz::TimeZone;
use lastgood::Timestamp;
use lastgood::forget::{Calendar, Date, Span};

/// A moment, to measure from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the command measures how long it takes")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// The calendar of this host's time zone.
#[derive(Debug)]
pub(crate) struct LocalCalendar(TimeZone);

impl LocalCalendar {
    pub(crate) fn of_host() -> Self {
        Self(TimeZone::system())
    }

    /// A moment as the clock on the wall shows it; the nearest one that it can show.
    fn zoned(&self, time: Timestamp) -> Zoned {
        let seconds = time.seconds.clamp(FIRST_SECOND, LAST_SECOND);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        time.to_zoned(self.0.clone())
    }
}

impl Calendar for LocalCalendar {
    fn date(&self, time: Timestamp) -> Date {
        let zoned = self.zoned(time);
        let week = zoned.date().iso_week_date();
        Date {
            year: i32::from(zoned.year()),
            month: zoned.month().unsigned_abs(),
            day: zoned.day().unsigned_abs(),
            hour: zoned.hour().unsigned_abs(),
            week: (i32::from(week.year()), week.week().unsigned_abs()),
        }
    }

    fn before(&self, time: Timestamp, span: Span) -> Timestamp {
        let zoned = self.zoned(time);
        let length = jiff::Span::new()
            .try_years(span.years)
            .and_then(|it| it.try_months(span.months))
            .and_then(|it| it.try_days(span.days))
            .and_then(|it| it.try_hours(span.hours));
        let before = length.and_then(|length| zoned.checked_sub(length));
        // Before the first year: nothing is older.
        let seconds = before.map_or(i64::MIN, |before| before.timestamp().as_second());
        Timestamp { seconds, nanos: time.nanos }
    }
}

/// The years 1 to 9999, but for the days at their ends that some zones put into others.
const FIRST_SECOND: i64 = -62_135_000_000;
const LAST_SECOND: i64 = 253_402_000_000;

#[cfg(test)]
mod tests;
