//! Asks before most of a mirror would go: an empty mount point, a slip, or somebody's malice.

use std::fmt;

/// Why a run is held until somebody approves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Files that the newest version has.
    pub files: u64,
    /// How many of them would go.
    pub deleted: u64,
    /// How many would change.
    pub changed: u64,
    /// Whether the source is another directory than that of the last run, under the same name.
    pub is_other_root: bool,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, deleted, changed, is_other_root } = self;
        if *is_other_root {
            write!(f, "the source is another directory than before; is everything mounted? ")?;
        }
        write!(
            f,
            "of {files} files in the mirror, {deleted} would be deleted and {changed} changed"
        )
    }
}

/// Why the run has to be approved, if it has to.
pub(super) fn check(held: Held) -> Option<Held> {
    let is_all = held.files > 0 && held.deleted == held.files;
    let is_many = held.deleted > COUNT_MIN.max(held.files / 5)
        || held.changed > COUNT_MIN.max(held.files / 2);
    (is_all || is_many || held.is_other_root).then_some(held)
}

/// So few may always go.
const COUNT_MIN: u64 = 50;
