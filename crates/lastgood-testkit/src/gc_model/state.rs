//! What the store holds, where everybody is, and what follows from both.

use super::{Mutation, Protocol};

/// A small set of places, packs, blobs or snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Set(u8);

impl Set {
    pub(super) const EMPTY: Self = Self(0);

    pub(super) const fn of(item: usize) -> Self {
        Self(1 << item)
    }

    pub(super) const fn first(count: usize) -> Self {
        Self((1_u16 << count).wrapping_sub(1) as u8)
    }

    pub(super) const fn has(self, item: usize) -> bool {
        self.0 >> item & 1 == 1
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn each(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&item| self.has(item))
    }

    /// Every subset, the empty one included.
    pub(super) fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0).filter(move |subset| subset & !self.0 == 0).map(Self)
    }
}

/// The place of the pack that is there from the beginning.
pub(super) const OLD: usize = 0;
/// Another place of the same pack.
pub(super) const COPY: usize = 1;

/// The place, and the pack, that only `session` puts.
pub(super) const fn own(session: usize) -> usize {
    2 + session
}

/// Which pack lies in a place.
pub(super) const fn pack_in(place: usize) -> usize {
    if place == COPY { OLD } else { place }
}

/// The places of a pack.
pub(super) const fn places_of(pack: usize) -> Set {
    if pack == OLD { Set::of(OLD).and(Set::of(COPY)) } else { Set::of(pack) }
}

/// Snapshots that are there from the beginning; session `s` commits number `INITIAL + s`.
pub(super) const INITIAL: usize = 2;
pub(super) const SESSIONS_MAX: usize = 6;
pub(super) const ROUNDS_MAX: usize = 3;
const WRITERS_MAX: usize = 3;
const COLLECTORS_MAX: usize = 2;
const READERS_MAX: usize = 2;
const REPACKERS_MAX: usize = 2;

/// What a snapshot needs, and where it looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Snapshot {
    pub(super) blobs: Set,
    pub(super) packs: Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Open,
    Fenced,
    Snapshot(Snapshot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Relocation {
    pub(super) is_put: bool,
    pub(super) from: u8,
    pub(super) to: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WriterAt {
    Begin,
    Announce,
    Validate,
    CommitPartial,
    Load,
    Choose,
    Recheck,
    Commit,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) at: WriterAt,
    pub(super) attempt: u8,
    pub(super) round: u8,
    pub(super) snapshot: Snapshot,
    pub(super) forbidden: Set,
    /// The attempt whose session is still open while the next is being opened.
    pub(super) held: Option<u8>,
    /// Whether `snapshot` was committed as a partial one and is carried over.
    pub(super) is_carrying: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RepackerAt {
    Begin,
    Announce,
    Validate,
    Load,
    Mark,
    Store,
    Put,
    End,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Repacker {
    pub(super) at: RepackerAt,
    pub(super) round: u8,
    pub(super) forbidden: Set,
    pub(super) from: u8,
    pub(super) blobs: Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RepairerAt {
    Begin,
    Announce,
    Validate,
    Store,
    End,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ReaderAt {
    Begin,
    Announce,
    Check,
    Read,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    pub(super) at: ReaderAt,
    pub(super) snapshot: u8,
    pub(super) is_announced: bool,
    pub(super) is_fenced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CollectorAt {
    Begin,
    Condemn,
    Resolve,
    MarkLive,
    MarkHeld,
    Verdict,
    Sweep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Collector {
    pub(super) at: CollectorAt,
    pub(super) round: u8,
    /// What it is about to put, or has decided on.
    pub(super) list: Set,
    /// The snapshots that it found live or held.
    pub(super) live: Set,
    /// Snapshots that it saw retired, and that nobody held after that.
    pub(super) expired: Set,
    /// Relocations of packs that no live or held snapshot needed.
    pub(super) obsolete: Set,
    pub(super) has_swept: bool,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// Places that hold their pack.
    pub(super) present: Set,
    /// Places that were put at some time, where late puts are searched.
    pub(super) ever_put: Set,
    /// Initial snapshots whose objects are there.
    pub(super) objects: Set,
    pub(super) retired: Set,
    /// Blobs in the pack of each session.
    pub(super) contents: [Set; SESSIONS_MAX],
    /// The round that each session has seen, once it is announced.
    pub(super) sessions: [Option<u8>; SESSIONS_MAX],
    pub(super) outcomes: [Outcome; SESSIONS_MAX],
    pub(super) relocations: [Relocation; REPACKERS_MAX],
    pub(super) condemned: [Option<Set>; ROUNDS_MAX],
    pub(super) verdicts: [Option<Set>; ROUNDS_MAX],
    pub(super) writers: [Writer; WRITERS_MAX],
    pub(super) repackers: [Repacker; REPACKERS_MAX],
    pub(super) repairer: (RepairerAt, u8),
    pub(super) readers: [Reader; READERS_MAX],
    pub(super) collectors: [Collector; COLLECTORS_MAX],
}

/// The blobs: with one, a pack is needed or not; with two, it can be needed in part.
const A: Set = Set::of(0);
const B: Set = Set::of(1);

impl State {
    pub(super) fn initial(protocol: &Protocol) -> Self {
        let bounds = &protocol.bounds;
        assert!(
            bounds.writers <= WRITERS_MAX
                && bounds.collectors <= COLLECTORS_MAX
                && bounds.rounds <= ROUNDS_MAX
                && bounds.readers <= READERS_MAX
                && bounds.repackers <= REPACKERS_MAX
                && bounds.repairers <= 1
                && protocol.session_count() <= SESSIONS_MAX,
            "the state has no room for these bounds"
        );
        let nothing = Snapshot { blobs: Set::EMPTY, packs: Set::EMPTY };
        let fresh = Self {
            present: Set::of(OLD),
            ever_put: if bounds.late_puts { Set::of(OLD) } else { Set::EMPTY },
            objects: Set::first(INITIAL),
            // The second snapshot is there only where it needs something else than the first.
            retired: if bounds.repackers > 0 { Set::EMPTY } else { Set::of(1) },
            contents: [Set::EMPTY; SESSIONS_MAX],
            sessions: [None; SESSIONS_MAX],
            outcomes: [Outcome::Open; SESSIONS_MAX],
            relocations: [Relocation { is_put: false, from: 0, to: 0 }; REPACKERS_MAX],
            condemned: [None; ROUNDS_MAX],
            verdicts: [None; ROUNDS_MAX],
            writers: [Writer {
                at: WriterAt::Begin,
                attempt: 0,
                round: 0,
                snapshot: nothing,
                forbidden: Set::EMPTY,
                held: None,
                is_carrying: false,
            }; WRITERS_MAX],
            repackers: [Repacker {
                at: RepackerAt::Begin,
                round: 0,
                forbidden: Set::EMPTY,
                from: 0,
                blobs: Set::EMPTY,
            }; REPACKERS_MAX],
            repairer: (RepairerAt::Begin, 0),
            readers: [Reader {
                at: ReaderAt::Begin,
                snapshot: 0,
                is_announced: false,
                is_fenced: false,
            }; READERS_MAX],
            collectors: [Collector {
                at: CollectorAt::Begin,
                round: 0,
                list: Set::EMPTY,
                live: Set::EMPTY,
                expired: Set::EMPTY,
                obsolete: Set::EMPTY,
                has_swept: false,
            }; COLLECTORS_MAX],
        };
        if bounds.is_relocated { fresh.relocated(protocol) } else { fresh }
    }

    /// See [`super::Bounds::is_relocated`].
    fn relocated(mut self, protocol: &Protocol) -> Self {
        let session = protocol.repacker_session(0);
        self.present = self.present.and(Set::of(own(session)));
        self.retired = Set::first(INITIAL);
        self.contents[session] = A;
        self.sessions[session] = Some(0);
        self.outcomes[session] = Outcome::Fenced;
        self.relocations[0] = Relocation { is_put: true, from: OLD as u8, to: own(session) as u8 };
        self.repackers[0].at = RepackerAt::Done;
        self.condemned[0] = Some(Set::of(OLD));
        self.verdicts[0] = Some(Set::of(OLD));
        let collector = &mut self.collectors[0];
        collector.at = CollectorAt::Sweep;
        collector.round = 1;
        collector.list = Set::of(OLD);
        collector.obsolete = Set::of(0);
        self
    }

    /// The blob that writers want to store.
    pub(super) const fn wanted() -> Set {
        A
    }

    /// The newest round: condemn lists follow one another without a gap.
    pub(super) fn newest_round(&self) -> u8 {
        self.condemned.iter().take_while(|list| list.is_some()).count() as u8
    }

    /// What a snapshot needs, whether it is live or not.
    pub(super) fn snapshot(&self, number: usize) -> Option<Snapshot> {
        match number.checked_sub(INITIAL).map(|session| self.outcomes.get(session)) {
            None => Some(Snapshot { blobs: if number == 0 { A } else { B }, packs: Set::of(OLD) }),
            Some(Some(Outcome::Snapshot(snapshot))) => Some(*snapshot),
            Some(_) => None,
        }
    }

    /// Committed and not retired.
    pub(super) fn live(&self) -> Set {
        let committed = |number: &usize| self.snapshot(*number).is_some();
        let all = (0..8).filter(committed).fold(Set::EMPTY, |all, n| all.and(Set::of(n)));
        all.without(self.retired)
    }

    /// Snapshots of read sessions without an outcome.
    pub(super) fn held(&self) -> Set {
        let open = self.readers.iter().filter(|reader| reader.is_announced && !reader.is_fenced);
        open.fold(Set::EMPTY, |held, reader| held.and(Set::of(reader.snapshot.into())))
    }

    pub(super) fn contents(&self, pack: usize) -> Set {
        if pack == OLD { A.and(B) } else { self.contents[pack - 2] }
    }

    /// Relocations, as the places they lead from and the packs they lead to.
    pub(super) fn relocations(&self) -> impl Iterator<Item = (usize, usize)> {
        let put = self.relocations.iter().filter(|relocation| relocation.is_put);
        put.map(|relocation| (relocation.from.into(), relocation.to.into()))
    }

    /// `packs`, and all that relocations put in their place.
    pub(super) fn closure(&self, mut packs: Set) -> Set {
        // A chain of relocations is at most as long as there are relocations.
        for _ in 0..REPACKERS_MAX {
            for (from, to) in self.relocations() {
                if packs.has(pack_in(from)) {
                    packs = packs.and(Set::of(to));
                }
            }
        }
        packs
    }

    /// Whether all blobs of a snapshot can be read from its own packs.
    fn is_whole(&self, snapshot: Snapshot) -> bool {
        let packs = self.closure(snapshot.packs);
        let is_there = |pack: &usize| !places_of(*pack).within(self.present).is_empty();
        let found = packs.each().filter(is_there).map(|pack| self.contents(pack));
        snapshot.blobs.without(found.fold(Set::EMPTY, Set::and)).is_empty()
    }

    /// Places that a session announced in `round` must not refer to.
    pub(super) fn forbidden(&self, protocol: &Protocol, round: u8) -> Set {
        let mut forbidden = Set::EMPTY;
        for n in 0..usize::from(round) {
            let list = match self.verdicts[n] {
                Some(verdict)
                    if protocol.is(Mutation::VerdictsForgotten)
                        && verdict.within(self.present).is_empty() =>
                {
                    Set::EMPTY
                }
                Some(verdict) => verdict,
                None if protocol.is(Mutation::CondemnedPacksUsed) => Set::EMPTY,
                None => self.condemned[n].unwrap_or_default(),
            };
            forbidden = forbidden.and(list);
        }
        forbidden
    }

    /// Whether a pack lies in a place that is not forbidden.
    pub(super) fn may_refer_to(&self, pack: usize, forbidden: Set) -> bool {
        !places_of(pack).within(self.present).without(forbidden).is_empty()
    }

    pub(super) fn violation(&self, protocol: &Protocol) -> Option<&'static str> {
        for number in self.live().each() {
            let snapshot = self.snapshot(number).expect("a live snapshot is committed");
            if !self.is_whole(snapshot) {
                return Some("a live snapshot lost a pack");
            }
        }
        let readers = self.readers.iter().take(protocol.bounds.readers);
        for reader in readers.filter(|reader| reader.at == ReaderAt::Read && !reader.is_fenced) {
            let number = usize::from(reader.snapshot);
            if number < INITIAL && !self.objects.has(number) {
                return Some("a snapshot that is being read is gone");
            }
            let snapshot = self.snapshot(number).expect("a snapshot that is read was committed");
            if !self.is_whole(snapshot) {
                return Some("a snapshot that is being read lost a pack");
            }
        }
        None
    }
}
