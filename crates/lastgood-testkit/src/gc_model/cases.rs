//! Which searches are made, and what each must find.

use std::fmt::Write as _;

use super::segments::{Segments, SegmentsMutation};
use super::{Bounds, Mutation, Protocol, Step};
use crate::explore::{Search, explore};

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is about, and how large it is.
    pub name: &'static str,
    /// What is searched.
    pub subject: Subject,
    /// Whether it takes too long for every run of the tests.
    pub is_long: bool,
    /// Steps that must have been taken, so that the search is not empty of what it is about.
    pub must_see: &'static [&'static str],
}

/// A model.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// Commit and gc.
    Protocol(Protocol),
    /// Merging of index segments.
    Segments(Segments),
}

impl Case {
    /// Searches.
    #[must_use]
    pub fn search(&self) -> Search<Step> {
        match self.subject {
            Subject::Protocol(protocol) => explore(&protocol, STATES_MAX),
            Subject::Segments(segments) => explore(&segments, STATES_MAX),
        }
    }

    /// Whether something must be found, since something is wrong.
    #[must_use]
    pub fn is_mutated(&self) -> bool {
        match self.subject {
            Subject::Protocol(protocol) => protocol.mutation.is_some(),
            Subject::Segments(segments) => segments.mutation.is_some(),
        }
    }

    /// What the search should have found and did not, with the way to what it found instead.
    ///
    /// # Errors
    /// A text for people.
    pub fn judge(&self, search: &Search<Step>) -> Result<(), String> {
        let name = self.name;
        match &search.violation {
            None if self.is_mutated() => Err(format!("{name}: nothing is lost")),
            Some((what, trace)) if !self.is_mutated() => {
                let mut text = format!("{name}: {what}");
                for step in trace {
                    let _written = write!(text, "\n  {step:?}");
                }
                Err(text)
            }
            _ => {
                let seen = |step: &&&str| search.step_counts.iter().any(|(it, _)| *it == **step);
                match self.must_see.iter().find(|step| !seen(step)) {
                    Some(step) => Err(format!("{name}: nobody ever {step}")),
                    None => Ok(()),
                }
            }
        }
    }
}

/// How many of each: writers, collectors, rounds, attempts.
const fn base(writers: usize, collectors: usize, rounds: usize, attempts: usize) -> Bounds {
    Bounds {
        writers,
        attempts,
        collectors,
        rounds,
        readers: 0,
        repackers: 0,
        repairers: 0,
        partial: false,
        late_puts: false,
        any_proposal: false,
        is_relocated: false,
    }
}

const fn protocol(bounds: Bounds, mutation: Option<Mutation>) -> Subject {
    Subject::Protocol(Protocol { bounds, mutation })
}

const fn sound(name: &'static str, bounds: Bounds, must_see: &'static [&'static str]) -> Case {
    Case { name, subject: protocol(bounds, None), is_long: false, must_see }
}

const fn long(name: &'static str, bounds: Bounds, must_see: &'static [&'static str]) -> Case {
    Case { is_long: true, ..sound(name, bounds, must_see) }
}

const fn wrong(name: &'static str, bounds: Bounds, mutation: Mutation) -> Case {
    Case { name, subject: protocol(bounds, Some(mutation)), is_long: false, must_see: &[] }
}

const fn segments(name: &'static str, mutation: Option<SegmentsMutation>) -> Case {
    let subject = Segments { segments: 3, mergers: 2, merges: 2, mutation };
    Case { name, subject: Subject::Segments(subject), is_long: false, must_see: &[] }
}

const PARTIAL: Bounds = Bounds { partial: true, ..base(1, 1, 2, 3) };
const READER: Bounds = Bounds { readers: 1, ..base(1, 1, 2, 1) };
const LATE: Bounds = Bounds { late_puts: true, ..base(1, 2, 2, 1) };
const COPIES: Bounds = Bounds { repairers: 1, ..base(1, 2, 2, 1) };
const ANY: Bounds = Bounds { any_proposal: true, ..COPIES };
const REPACK: Bounds = Bounds { repackers: 1, ..base(1, 1, 2, 1) };

const TWO_COLLECT: Bounds = Bounds { collectors: 2, ..REPACK };
const RELOCATED: Bounds =
    Bounds { repackers: 1, repairers: 1, is_relocated: true, ..base(1, 2, 2, 1) };

const COMMON: &[&str] = &[
    "retires snapshot",
    "refers to pack",
    "stores pack",
    "sees that it is fenced",
    "fences session",
    "removes place",
];

const PARTIAL_STEPS: &[&str] = &[
    "commits a partial snapshot in session",
    "sees that a partial snapshot is fenced",
    "finds what it carries allowed",
    "waits for a verdict",
];

const READER_STEPS: &[&str] =
    &["begins to read", "is done reading", "finds it retired", "fences reader"];

const REPACK_STEPS: &[&str] = &[
    "moves what is live to pack",
    "moves what is live to its own pack",
    "puts the relocation of session",
    "takes over snapshot",
];

/// All searches.
pub const CASES: &[Case] = &[
    long("2 writers, 2 collectors, 2 rounds, 1 attempt", base(2, 2, 2, 1), COMMON),
    sound("2 writers, 1 collector, 2 rounds, 2 attempts", base(2, 1, 2, 2), COMMON),
    long("3 writers, 1 collector, 2 rounds, 1 attempt", base(3, 1, 2, 1), COMMON),
    long("1 writer, 2 collectors, 3 rounds, 3 attempts", base(1, 2, 3, 3), COMMON),
    sound("1 writer, 2 collectors, 2 rounds, 2 attempts", base(1, 2, 2, 2), COMMON),
    wrong("M1: a grace time", base(2, 2, 2, 1), Mutation::GraceTime),
    wrong("M2: no validation", base(2, 2, 2, 1), Mutation::NoValidation),
    wrong("M3: sessions listed first", base(2, 2, 2, 1), Mutation::SessionsListedFirst),
    wrong("M4: a blind commit", base(2, 2, 2, 1), Mutation::BlindCommit),
    wrong("M5: condemned packs used", base(2, 2, 2, 1), Mutation::CondemnedPacksUsed),
    wrong("M6: fences freed", base(2, 2, 2, 1), Mutation::FencesFreed),
    wrong("M7: each its own verdict", base(2, 2, 2, 1), Mutation::OwnVerdict),
    wrong("M8: commits freed", base(2, 1, 2, 1), Mutation::CommitsFreed),
    sound("partial", PARTIAL, PARTIAL_STEPS),
    long("partial, 2 collectors", Bounds { collectors: 2, ..PARTIAL }, PARTIAL_STEPS),
    long(
        "partial, a reader, late puts",
        Bounds { readers: 1, late_puts: true, ..PARTIAL },
        PARTIAL_STEPS,
    ),
    wrong("partial: carried unchecked", PARTIAL, Mutation::CarriedUnchecked),
    sound("reader", READER, READER_STEPS),
    long("reader, 3 rounds, 2 attempts", Bounds { rounds: 3, attempts: 2, ..READER }, READER_STEPS),
    long("reader, 2 collectors", Bounds { collectors: 2, ..READER }, READER_STEPS),
    wrong("reader: liveness first", READER, Mutation::LivenessCheckedFirst),
    wrong("reader: listed first", READER, Mutation::ReadersListedFirst),
    wrong("reader: not counted", READER, Mutation::HeldNotCounted),
    wrong("reader: objects at once", READER, Mutation::RetiredObjectsRemovedAtOnce),
    sound("late puts", LATE, &["gets a pack once more"]),
    wrong("late puts: verdicts forgotten", LATE, Mutation::VerdictsForgotten),
    sound("copies", Bounds { collectors: 1, ..COPIES }, &["puts the pack in another place"]),
    long("copies, 2 collectors", COPIES, &["puts the pack in another place"]),
    wrong("copies: verdict names packs", COPIES, Mutation::VerdictNamesPacks),
    long("anything proposed", ANY, COMMON),
    wrong("anything proposed: duplicate of the doomed", ANY, Mutation::DuplicateOfTheDoomed),
    sound("repack", REPACK, REPACK_STEPS),
    long("repack, anything proposed", Bounds { any_proposal: true, ..REPACK }, REPACK_STEPS),
    long("repack, late puts", Bounds { late_puts: true, ..REPACK }, REPACK_STEPS),
    long("repack, copies", Bounds { repairers: 1, ..REPACK }, REPACK_STEPS),
    long("repack, a reader", Bounds { readers: 1, ..REPACK }, REPACK_STEPS),
    long("repack, 2 writers", Bounds { writers: 2, ..REPACK }, REPACK_STEPS),
    long("repack, 2 collectors", TWO_COLLECT, REPACK_STEPS),
    long("2 repack", Bounds { repackers: 2, ..REPACK }, REPACK_STEPS),
    wrong("repack: trusted", REPACK, Mutation::RelocationTrusted),
    wrong("repack: not followed", REPACK, Mutation::RelocationsNotFollowed),
    wrong("repack: relocated means dead", REPACK, Mutation::RelocatedMeansDead),
    sound("relocated", RELOCATED, &["removes relocation"]),
    wrong("relocated: of another place", RELOCATED, Mutation::RelocationOfAnotherPlace),
    Case {
        is_long: true,
        ..wrong("relocated: removed early", TWO_COLLECT, Mutation::RelocationsRemovedEarly)
    },
    wrong("repack: retired baseline", REPACK, Mutation::RetiredBaseline),
    wrong(
        "repack: undecided baseline",
        Bounds { writers: 2, ..REPACK },
        Mutation::UndecidedBaseline,
    ),
    segments("segments", None),
    segments("segments: removed first", Some(SegmentsMutation::RemoveFirst)),
    segments("segments: covered removed", Some(SegmentsMutation::RemoveCovered)),
    segments("segments: packs listed first", Some(SegmentsMutation::PacksListedFirst)),
];

/// More states than any search here has.
const STATES_MAX: usize = 40_000_000;
