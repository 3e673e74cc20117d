//! Where everything lies in a mirror. Spec: `docs/format/mirror.md`, section 1.

use lastgood_format::entry::Timestamp;

use crate::record::{self, Path};

/// The newest version.
pub const LATEST: &[u8] = b"latest";
/// What is ours.
pub const OURS: &[u8] = b".lastgood";
/// What is mirrored.
pub const MIRROR: &[u8] = b".lastgood/mirror";
/// The list of versions.
pub const VERSIONS: &[u8] = b".lastgood/versions";
/// Manifest of the newest version.
pub const MANIFEST: &[u8] = b".lastgood/latest";
/// How far the reading of everything got.
pub const SCRUB: &[u8] = b".lastgood/scrub";
/// A run that waits for approval.
pub const HELD: &[u8] = b".lastgood/held";
/// A commit that is under way.
pub const JOURNAL: &[u8] = b".lastgood/journal";
/// Locked by whoever changes the mirror.
pub const LOCK: &[u8] = b".lastgood/lock";
/// What the next commit will put in place.
pub const STAGE: &[u8] = b".lastgood/stage";
/// Directory of the deltas.
pub const DELTAS: &[u8] = b".lastgood/deltas";

/// A path in `latest/`.
#[must_use]
pub fn latest(path: &[u8]) -> Path {
    below(LATEST, path)
}

/// A path in the folder of a version.
#[must_use]
pub fn folder(name: &str, path: &[u8]) -> Path {
    below(name.as_bytes(), path)
}

/// The text of a delta.
#[must_use]
pub fn delta(name: &str) -> Path {
    record::join(DELTAS, name.as_bytes())
}

/// The second copy of a text.
#[must_use]
pub fn second(text: &[u8]) -> Path {
    let name = text.strip_prefix(OURS).unwrap_or(text);
    [b".lastgood/second", name].concat().into()
}

/// Whether a path is that of a second copy of a text.
#[must_use]
pub(crate) fn is_second(path: &[u8]) -> bool {
    record::is_below(path, b".lastgood/second")
}

/// Where a run puts what is in its way and is not ours.
#[must_use]
pub fn conflicts(name: &str) -> Path {
    [b".lastgood/conflicts/", name.as_bytes()].concat().into()
}

/// Where rotten bytes go.
#[must_use]
pub fn damaged(name: &str) -> Path {
    [b".lastgood/damaged/", name.as_bytes()].concat().into()
}

/// Something in the stage.
#[must_use]
pub fn stage(name: &str) -> Path {
    record::join(STAGE, name.as_bytes())
}

fn below(directory: &[u8], path: &[u8]) -> Path {
    if path.is_empty() { directory.into() } else { record::join(directory, path) }
}

/// `backup-2024-06-27T140000Z` for a moment.
#[must_use]
pub fn version_name(time: Timestamp) -> String {
    let (days, seconds) = (time.seconds.div_euclid(DAY), time.seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("backup-{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year, month, day)
}

const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_after_their_moment_in_utc() {
        let check = |seconds, name: &str| {
            assert_eq!(version_name(Timestamp { seconds, nanos: 5 }), name);
        };
        check(1_719_496_800, "backup-2024-06-27T140000Z");
        check(0, "backup-1970-01-01T000000Z");
        check(-1, "backup-1969-12-31T235959Z");
        check(951_782_400, "backup-2000-02-29T000000Z");
        check(4_107_542_400, "backup-2100-03-01T000000Z");
    }
}
