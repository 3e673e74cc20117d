//! Mistakes that tests plant, to see that they would be found. Only with the feature `seeded-bugs`.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::repository::Repository;
use crate::rounds::RoundLists;

/// A mistake in how a repository is written or collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeededBug {
    /// Gc decides on what it proposed, without looking again what is needed.
    NoRemark,
    /// Gc waits for nobody, and fences nobody that is young.
    OpenSessionsIgnored,
    /// Gc removes what it found dead itself, whatever the verdict says.
    OwnVerdict,
    /// Gc does not count what read sessions hold.
    HeldNotCounted,
    /// Gc takes a relocated pack for dead without looking which blobs are needed.
    RelocatedMeansDead,
    /// Gc does not count a blob as needed of which one that is needed is stored as a change.
    BasesNotMarked,
    /// A writer does not read the round again after it announced its session.
    NotValidated,
    /// A writer does not load the lists of rounds.
    ListsNotLoaded,
    /// A writer refers to packs that are condemned and not decided on.
    CondemnedUsed,
    /// A writer that was fenced takes its commit for done.
    FenceIgnored,
    /// A writer that finds the name of its outcome taken believes that gc took it, without a look.
    TakenMeansFenced,
    /// A commit names snapshots of which it could not make sure that they are durable.
    UnsettledNamed,
    /// A rotation removes the slots of the old root before the revision that names the new one.
    SlotsRemovedFirst,
    /// What is read is not compared with its id.
    IdNotRecomputed,
}

/// The mistakes of one repository.
#[derive(Debug, Default)]
pub(crate) struct Planted(AtomicU32);

impl Repository {
    /// Makes a mistake from now on.
    pub fn plant(&self, bug: SeededBug) {
        self.planted.0.fetch_or(1 << bug as u32, Ordering::Relaxed);
    }

    pub(crate) fn has_bug(&self, bug: SeededBug) -> bool {
        self.planted.0.load(Ordering::Relaxed) >> bug as u32 & 1 == 1
    }

    /// Success in place of a failure, for a mistake that ignores it.
    pub(crate) fn forgive<E>(&self, bug: SeededBug, why: E) -> Result<(), E> {
        if self.has_bug(bug) { Ok(()) } else { Err(why) }
    }

    pub(crate) fn forget_lists(&self, mut lists: RoundLists) -> RoundLists {
        if self.has_bug(SeededBug::ListsNotLoaded) {
            lists = RoundLists::default();
        }
        if self.has_bug(SeededBug::CondemnedUsed) {
            lists.pending.clear();
        }
        lists
    }
}
