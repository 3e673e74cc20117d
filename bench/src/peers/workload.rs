//! What every tool is asked to do.

/// One thing to do with a repository, in the order in which a round does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Initial,
    Unchanged,
    Changed,
    Restore,
    RestoreFile,
    RestoreInPlace,
    List,
    Find,
    Diff,
    Check,
    Forget,
}

impl Operation {
    /// Name in the samples, and what people are told.
    const NAMES: [(Self, &str, &str); 11] = [
        (Self::Initial, "initial", "initial backup"),
        (Self::Unchanged, "unchanged", "unchanged re-run"),
        (Self::Changed, "changed", "re-run after the change"),
        (Self::Restore, "restore", "restore in full"),
        (Self::RestoreFile, "restore-file", "restore one file"),
        (Self::RestoreInPlace, "restore-in-place", "restore in place, 1 % changed"),
        (Self::List, "list", "list all entries of a snapshot"),
        (Self::Find, "find", "find a name in all snapshots"),
        (Self::Diff, "diff", "diff of two snapshots"),
        (Self::Check, "check", "check, reading all data"),
        (Self::Forget, "forget", "forget to one snapshot, and gc"),
    ];

    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::NAMES.into_iter().map(|(operation, ..)| operation)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    pub(super) fn title(self) -> &'static str {
        Self::NAMES[self as usize].2
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::all().find(|operation| operation.name() == name)
    }

    /// Whether it tells nothing of a source that is one file.
    pub(super) fn needs_files(self) -> bool {
        matches!(self, Self::RestoreFile | Self::List | Self::Find | Self::Diff)
    }

    pub(super) fn is_restore(self) -> bool {
        matches!(self, Self::Restore | Self::RestoreFile | Self::RestoreInPlace)
    }
}

/// What the machine is like while a tool works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// What was read before is in memory.
    Warm,
    /// Nothing is.
    Cold,
    /// A program that people wait for runs beside it.
    Busy,
}

impl State {
    pub(super) const ALL: [Self; 3] = [Self::Warm, Self::Cold, Self::Busy];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Busy => "busy",
        }
    }

    /// What a title says of it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Warm => "",
            Self::Cold => ", caches dropped before each run",
            Self::Busy => ", beside a program that people wait for",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it tells anything of an operation.
    pub(super) fn tells_of(self, operation: Operation) -> bool {
        self != Self::Busy || operation <= Operation::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_of_the_operations() {
        for (index, operation) in Operation::all().enumerate() {
            assert_eq!(operation as usize, index);
            assert_eq!(Operation::named(operation.name()), Some(operation));
        }
        assert_eq!(Operation::named("prune"), None);
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
        }
    }
}
