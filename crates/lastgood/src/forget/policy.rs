//! What a retention policy says, and how people write it.

use std::fmt;
use std::str::FromStr;

use lastgood_repo::SnapshotRecord;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;

/// Tells which day it is where the policy is meant.
pub trait Calendar {
    /// The hour in which a moment lies, and what that lies in.
    fn date(&self, time: Timestamp) -> Date;
    /// The moment that lies `span` before another.
    fn before(&self, time: Timestamp, span: Span) -> Timestamp;
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
            let (field, factor) = match units.next() {
                Some('y') => (&mut span.years, 1),
                Some('m') => (&mut span.months, 1),
                Some('w') => (&mut span.days, 7),
                Some('d') => (&mut span.days, 1),
                Some('h') => (&mut span.hours, 1),
                _ => return Err(wrong()),
            };
            let number = number.checked_mul(factor).ok_or_else(wrong)?;
            *field = field.checked_add(number).ok_or_else(wrong)?;
            // No calendar reaches further.
            if *field > SPAN_MAX {
                return Err(wrong());
            }
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

    /// As in `keep-daily`.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
    pub(super) fn number(self, date: Date, snapshot: usize) -> [i64; 4] {
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
pub struct Policy {
    /// For each unit, of how many the newest snapshot is kept; `u32::MAX` for all. Units without a
    /// snapshot do not count.
    pub newest: Vec<(Unit, u32)>,
    /// Everything that is not older than this before the newest snapshot.
    pub within: Option<Span>,
    /// For each unit, the newest of each that is not older than this before the newest snapshot.
    pub newest_within: Vec<(Unit, Span)>,
    /// Everything that has all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
    /// Everything whose id starts so, in lowercase hex.
    pub ids: Vec<String>,
    /// For which snapshots the rules hold together.
    pub group_by: GroupBy,
    /// Nothing younger than this is forgotten, named or not.
    pub protect: Option<Span>,
    /// Whether a snapshot may go though the next one lost more than half of what it has.
    pub accept_loss: bool,
}

impl Policy {
    /// Whether no rule says what to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest.iter().all(|(_, count)| *count == 0)
            && self.within.is_none()
            && self.newest_within.is_empty()
            && self.tags.is_empty()
            && self.ids.is_empty()
    }

    /// Sets what `key` names, as the flag of that name does: `keep-daily` and `7`. Of a rule that
    /// takes one value, the last one counts.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let unit = |name: &str| Unit::ALL.into_iter().find(|unit| unit.name() == name);
        match key {
            "group-by" => self.group_by = value.parse()?,
            "protect" => self.protect = if value == "0" { None } else { Some(value.parse()?) },
            "accept-loss" => self.accept_loss = yes_or_no(value)?,
            "keep-within" => self.within = Some(value.parse()?),
            "keep-tag" => self.tags.push(list(value)),
            "keep-id" => self.ids.push(id_start(value)?),
            _ => {
                let name = key.strip_prefix("keep-").unwrap_or_default();
                if let Some(unit) = name.strip_prefix("within-").and_then(unit) {
                    replace(&mut self.newest_within, unit, value.parse()?);
                } else if let Some(unit) = unit(name) {
                    replace(&mut self.newest, unit, count(value)?);
                } else {
                    return Err(format!("no rule is called {key:?}"));
                }
            }
        }
        Ok(())
    }

    /// Reads a policy from a file: lines of `KEY = VALUE`, each as the flag of that name; a `#`
    /// starts a comment.
    ///
    /// # Errors
    /// What is wrong in which line, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |why: String| format!("line {number}: {why}");
            let parts = line.split_once('=');
            let (key, value) = parts.ok_or_else(|| wrong("write KEY = VALUE".to_owned()))?;
            policy.set(key.trim(), value.trim()).map_err(wrong)?;
        }
        Ok(policy)
    }

    /// The lists of tags, and starts of an id, that a snapshot is kept for.
    pub(super) fn named_by<'a>(
        &'a self,
        record: &'a SnapshotRecord,
    ) -> impl Iterator<Item = String> + 'a {
        let has = |tags: &&Vec<String>| tags.iter().all(|tag| record.snapshot.tags.contains(tag));
        let tags = self.tags.iter().filter(has);
        let id: SnapshotId = record.id;
        let ids = self.ids.iter().filter(move |start| id.to_string().starts_with(start.as_str()));
        tags.map(|tags| format!("has the tags [{}]", tags.join(", ")))
            .chain(ids.map(|_| "its id is to be kept".to_owned()))
    }
}

/// The later value of a unit stands for the earlier one.
fn replace<T>(rules: &mut Vec<(Unit, T)>, unit: Unit, value: T) {
    rules.retain(|(of, _)| *of != unit);
    rules.push((unit, value));
    rules.sort_by_key(|(unit, _)| *unit);
}

fn count(text: &str) -> Result<u32, String> {
    if text == "unlimited" {
        return Ok(u32::MAX);
    }
    text.parse().map_err(|_| format!("{text:?} is no count: write a number or unlimited"))
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn id_start(text: &str) -> Result<String, String> {
    let is_start = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wrong = || format!("{text:?} is not the start of an id");
    is_start.then(|| text.to_ascii_lowercase()).ok_or_else(wrong)
}

/// The parts of `a, b`.
fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
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

impl GroupBy {
    /// Everything is one group.
    pub const NOTHING: Self = Self { host: false, paths: false, tags: false };
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    /// `host,paths,tags`, each or none.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut by = Self::NOTHING;
        for part in list(text) {
            match part.as_str() {
                "host" | "hosts" => by.host = true,
                "path" | "paths" => by.paths = true,
                "tag" | "tags" => by.tags = true,
                _ => return Err("write host, paths or tags, or several with commas".to_owned()),
            }
        }
        Ok(by)
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

/// Of any unit in a length of time.
const SPAN_MAX: u32 = 99_999;
