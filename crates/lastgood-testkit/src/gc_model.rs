//! The commit and gc protocol of `docs/format/commit.md` as a model that is searched exhaustively.
//!
//! The model is the protocol and nothing else: writers, collectors, readers, those who repack and
//! those who repair, over a store of a few packs, in every order in which their requests can
//! arrive. Anybody may stop for ever anywhere, snapshots may be retired at any moment, and puts
//! may arrive a second time. What must never be: a live snapshot, or one that an open read session
//! holds, that cannot be read whole.
//!
//! [`Mutation`] lists changes that look harmless. Each makes the same search find lost data, so
//! each step of the protocol that they touch is there for a reason, and the search can see it.

mod actors;
pub mod cases;
mod collector;
pub mod segments;
mod state;

use crate::explore::Model;
use state::State;

/// How many take part, and how often each may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Writers, each of which commits one snapshot at the end.
    pub writers: usize,
    /// Sessions that each writer may open.
    pub attempts: usize,
    /// Collectors; each may take part in all rounds.
    pub collectors: usize,
    /// Rounds of gc.
    pub rounds: usize,
    /// Read sessions.
    pub readers: usize,
    /// Sessions that repack.
    pub repackers: usize,
    /// Sessions that put the first pack a second time, in another place.
    pub repairers: usize,
    /// Whether writers commit a partial snapshot before the last one.
    pub partial: bool,
    /// Whether a put of a pack may arrive again after the pack was removed.
    pub late_puts: bool,
    /// Whether anything may be proposed, however wrong.
    pub any_proposal: bool,
    /// Whether it begins when the first pack has been relocated, nobody needs it any more, a
    /// verdict names it, and a collector is about to remove it and the relocation.
    pub is_relocated: bool,
}

/// A change of the protocol that loses data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// M1: a grace time in place of waiting or fencing, which a stalled process outlives.
    GraceTime,
    /// M2: a writer announces its session and does not read the round again.
    NoValidation,
    /// M3: sessions are listed before the condemn list is there.
    SessionsListedFirst,
    /// M4: the commit is not conditional.
    BlindCommit,
    /// M5: condemned packs may be referred to.
    CondemnedPacksUsed,
    /// M6: fences are removed after their round.
    FencesFreed,
    /// M7: each collector removes what it found dead itself.
    OwnVerdict,
    /// M8: commits of retired snapshots are removed with what retired them, and a late duplicate
    /// of the put comes.
    CommitsFreed,
    /// What a partial snapshot refers to is carried over without asking the new session's lists.
    CarriedUnchecked,
    /// A reader looks whether its snapshot is live before it announces that it reads, not after.
    LivenessCheckedFirst,
    /// The mark does not count what read sessions hold.
    HeldNotCounted,
    /// The mark lists read sessions before it looks what is retired.
    ReadersListedFirst,
    /// Snapshot objects are removed as soon as they are seen to be retired.
    RetiredObjectsRemovedAtOnce,
    /// Writers do not load verdicts whose packs are all gone.
    VerdictsForgotten,
    /// A verdict names packs rather than places.
    VerdictNamesPacks,
    /// A place counts as a duplicate of one that a verdict names and nobody has removed yet.
    DuplicateOfTheDoomed,
    /// A relocation counts though what it leads to is gone, or going to be.
    RelocationTrusted,
    /// A relocation of one place counts for another place of the same pack.
    RelocationOfAnotherPlace,
    /// Relocations are removed when nobody needs their packs, verdict or not.
    RelocationsRemovedEarly,
    /// What a relocation put in place of a pack is not counted as needed.
    RelocationsNotFollowed,
    /// A relocated pack is dead without looking which blobs are needed now.
    RelocatedMeansDead,
    /// A baseline is taken over through relocations though it was retired meanwhile.
    RetiredBaseline,
    /// A baseline is taken over through relocations before a verdict names its pack.
    UndecidedBaseline,
}

/// The protocol, within bounds, with at most one change.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// How much of it is searched.
    pub bounds: Bounds,
    /// What is wrong with it.
    pub mutation: Option<Mutation>,
}

/// One step of one participant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Who.
    pub actor: &'static str,
    /// Which of them.
    pub number: usize,
    /// What it does.
    pub action: &'static str,
    /// To what: a place, a round or a session.
    pub object: usize,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.actor, self.number, self.action, self.object)
    }
}

impl Protocol {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The session of a writer's attempt.
    fn writer_session(&self, writer: usize, attempt: usize) -> usize {
        writer * self.bounds.attempts + attempt
    }

    fn repacker_session(&self, repacker: usize) -> usize {
        self.bounds.writers * self.bounds.attempts + repacker
    }

    fn repairer_session(&self) -> usize {
        self.repacker_session(self.bounds.repackers)
    }

    fn session_count(&self) -> usize {
        self.repairer_session() + self.bounds.repairers
    }
}

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        State::initial(self)
    }

    fn steps(&self, state: &State, visit: &mut dyn FnMut(Step, State)) {
        actors::store(self, state, visit);
        (0..self.bounds.writers).for_each(|n| actors::writer(self, state, n, visit));
        (0..self.bounds.repackers).for_each(|n| actors::repacker(self, state, n, visit));
        (0..self.bounds.repairers).for_each(|_| actors::repairer(self, state, visit));
        (0..self.bounds.readers).for_each(|n| actors::reader(self, state, n, visit));
        (0..self.bounds.collectors).for_each(|n| collector::collector(self, state, n, visit));
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        state.violation(self)
    }

    fn heading(step: Step) -> &'static str {
        step.action
    }
}
