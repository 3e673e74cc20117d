//! Merging index segments beside writers and each other: `docs/format/index.md`, section 4.
//!
//! The index is a hint, so no data is at stake, and what it offers a writer is never more than the
//! protocol's model lets a writer choose from. What is at stake is coverage: a pack that was in a
//! segment stays in one, or every next run opens its directory again.

use crate::explore::Model;

use super::Step;

/// Some who merge, over a few segments that each cover one pack.
#[derive(Debug, Clone, Copy)]
pub struct Segments {
    /// Segments that are there from the beginning.
    pub segments: usize,
    /// Those who merge.
    pub mergers: usize,
    /// How often each does.
    pub merges: usize,
    /// What is wrong with it.
    pub mutation: Option<SegmentsMutation>,
}

/// A change that loses coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentsMutation {
    /// The old segments are removed before the merged one is put.
    RemoveFirst,
    /// A segment is removed when others seem to cover it, whoever merged it.
    RemoveCovered,
    /// The packs that are there are listed before the segments are read.
    PacksListedFirst,
}

const SEGMENTS_MAX: usize = 10;
const MERGERS_MAX: usize = 3;

/// Segments are numbered: first the initial ones, then one for each merge. The last pack is put,
/// and then its segment, while others merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentsState {
    present: u16,
    covers: [u8; SEGMENTS_MAX],
    /// Packs that are there.
    packs: u8,
    /// Packs that were covered at some time.
    ever_covered: u8,
    mergers: [Merger; MERGERS_MAX],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Merger {
    at: At,
    merge: u8,
    /// Segments that it read.
    read: u16,
    /// Segments that it is going to remove.
    doomed: u16,
    /// Packs that it saw.
    packs: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    ListPacks,
    Read,
    Put,
    Remove,
    Done,
}

impl Segments {
    fn is(&self, mutation: SegmentsMutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn first_step(&self) -> At {
        if self.is(SegmentsMutation::PacksListedFirst) { At::ListPacks } else { At::Read }
    }
}

impl SegmentsState {
    fn covered(&self, segments: u16) -> u8 {
        let all = self.covers.iter().enumerate();
        all.filter(|(n, _)| segments >> n & 1 == 1).fold(0, |packs, (_, covers)| packs | covers)
    }
}

impl Model for Segments {
    type State = SegmentsState;
    type Step = Step;

    fn initial(&self) -> SegmentsState {
        assert!(
            self.segments + self.mergers * self.merges <= SEGMENTS_MAX
                && self.mergers <= MERGERS_MAX
                && self.segments > 1,
            "the state has no room for these bounds"
        );
        let mut covers = [0; SEGMENTS_MAX];
        // The last one is being written.
        let there = self.segments - 1;
        (0..there).for_each(|n| covers[n] = 1 << n);
        let first = self.first_step();
        SegmentsState {
            present: (1 << there) - 1,
            covers,
            packs: (1 << there) - 1,
            ever_covered: (1 << there) - 1,
            mergers: [Merger { at: first, merge: 0, read: 0, doomed: 0, packs: 0 }; MERGERS_MAX],
        }
    }

    fn steps(&self, state: &SegmentsState, visit: &mut dyn FnMut(Step, SegmentsState)) {
        let last = self.segments - 1;
        let step = |action| Step { actor: "writer", number: 0, action, object: last };
        if state.packs >> last & 1 == 0 {
            visit(step("puts a pack"), SegmentsState { packs: state.packs | 1 << last, ..*state });
        } else if state.ever_covered >> last & 1 == 0 {
            let mut next = *state;
            next.present |= 1 << last;
            next.covers[last] = 1 << last;
            next.ever_covered |= 1 << last;
            visit(step("puts the segment of a pack"), next);
        }
        (0..self.mergers).for_each(|number| self.merger(state, number, visit));
    }

    fn violation(&self, state: &SegmentsState) -> Option<&'static str> {
        let covered = state.covered(state.present);
        (state.ever_covered & !covered != 0).then_some("a pack is in no segment any more")
    }

    fn heading(step: Step) -> &'static str {
        step.action
    }
}

impl Segments {
    fn merger(
        &self,
        state: &SegmentsState,
        number: usize,
        visit: &mut dyn FnMut(Step, SegmentsState),
    ) {
        let me = state.mergers[number];
        let own = self.segments + number * self.merges + usize::from(me.merge);
        let step = |action, object| Step { actor: "merger", number, action, object };
        let then = |next: Merger| {
            let mut state = *state;
            state.mergers[number] = next;
            state
        };
        match me.at {
            At::ListPacks => {
                let early = self.is(SegmentsMutation::PacksListedFirst);
                let at = if early { At::Read } else { At::Put };
                visit(step("lists packs", 0), then(Merger { at, packs: state.packs, ..me }));
            }
            At::Read => {
                let early = self.is(SegmentsMutation::PacksListedFirst);
                let at = if early { At::Put } else { At::ListPacks };
                let next = Merger { at, read: state.present, ..me };
                visit(step("reads all segments", 0), then(next));
            }
            At::Put => {
                let covers = state.covered(me.read) & me.packs;
                let removes_first = self.is(SegmentsMutation::RemoveFirst) && me.doomed == 0;
                let mut next = then(Merger { at: At::Remove, doomed: me.read, ..me });
                if removes_first {
                    visit(step("removes before it puts", own), next);
                    return;
                }
                next.present |= 1 << own;
                next.covers[own] = covers;
                if self.is(SegmentsMutation::RemoveCovered) {
                    next.mergers[number].doomed = covered_by_others(&next);
                }
                visit(step("puts a merged segment", own), next);
            }
            At::Remove => {
                let doomed = me.doomed & state.present;
                for segment in (0..SEGMENTS_MAX).filter(|n| doomed >> n & 1 == 1) {
                    let present = state.present & !(1 << segment);
                    let next = SegmentsState { present, ..*state };
                    visit(step("removes segment", segment), next);
                }
                if doomed == 0 {
                    let merge = me.merge + 1;
                    let is_last = usize::from(merge) >= self.merges;
                    let at = if is_last { At::Done } else { self.first_step() };
                    let next = Merger { at, merge, read: 0, doomed: 0, packs: 0 };
                    visit(step("is done", own), then(next));
                }
            }
            At::Done => {}
        }
    }
}

/// Segments that some other one covers.
fn covered_by_others(state: &SegmentsState) -> u16 {
    let is_present = |n: &usize| state.present >> n & 1 == 1;
    let covered = (0..SEGMENTS_MAX).filter(is_present).filter(|n| {
        let mut others = (0..SEGMENTS_MAX).filter(is_present).filter(|other| other != n);
        others.any(|other| state.covers[*n] & !state.covers[other] == 0)
    });
    covered.fold(0, |all, n| all | 1 << n)
}
