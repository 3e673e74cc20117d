//! Exhaustive search of a small model: every state that any interleaving of steps reaches.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// A system of processes: its states, and the steps that lead from one to the next.
///
/// A process may stop for ever simply by taking no further step.
pub trait Model {
    /// Everything there is at one moment. Small and flat: millions are kept.
    type State: Copy + Eq + Hash;
    /// One step, for traces and for counting.
    type Step: Copy + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// Calls `visit` for each step that is possible in `state`, with what it leads to.
    fn steps(&self, state: &Self::State, visit: &mut dyn FnMut(Self::Step, Self::State));

    /// What must never be, if it is.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;

    /// Under which heading a step is counted.
    fn heading(step: Self::Step) -> &'static str;
}

/// What a search found.
#[derive(Debug)]
pub struct Search<S> {
    /// Different states that were reached.
    pub state_count: usize,
    /// How often each kind of step was taken: a search in which some never was shows little.
    pub step_counts: Vec<(&'static str, u64)>,
    /// What was violated, and the shortest way to it.
    pub violation: Option<(&'static str, Vec<S>)>,
}

/// Searches breadth first until a violation or the end.
///
/// # Panics
/// When there are more than `states_max` states: a bound that is too large must not pass for a
/// search that found nothing.
pub fn explore<M: Model>(model: &M, states_max: usize) -> Search<M::Step> {
    let mut visited = Visited::default();
    let mut counts: HashMap<&'static str, u64> = HashMap::new();
    visited.insert(model.initial(), 0);
    let mut violation = None;
    let mut next = 0;
    while violation.is_none() && next < visited.order.len() {
        let from = next as u32;
        let state = visited.order[next].0;
        next += 1;
        model.steps(&state, &mut |step, state| {
            *counts.entry(M::heading(step)).or_default() += 1;
            if violation.is_none() && visited.insert(state, from) {
                let found = model.violation(&state);
                violation = found.map(|what| (what, visited.order.len() - 1));
            }
        });
        assert!(visited.order.len() <= states_max, "there are more than {states_max} states");
    }
    let mut step_counts: Vec<_> = counts.into_iter().collect();
    step_counts.sort_unstable();
    Search {
        state_count: visited.order.len(),
        step_counts,
        violation: violation.map(|(what, at)| (what, trace(model, &visited, at))),
    }
}

/// The steps that lead to the state at `at`, found again along its ancestors.
fn trace<M: Model>(model: &M, visited: &Visited<M::State>, mut at: usize) -> Vec<M::Step> {
    let mut trace = Vec::new();
    while at != 0 {
        let (state, from) = visited.order[at];
        let mut taken = None;
        model.steps(&visited.order[from as usize].0, &mut |step, reached| {
            if reached == state {
                taken.get_or_insert(step);
            }
        });
        trace.extend(taken);
        at = from as usize;
    }
    trace.reverse();
    trace
}

/// States in the order in which they were reached, each with the one before it.
struct Visited<S> {
    order: Vec<(S, u32)>,
    /// Where in `order` a state is, less one, found by its hash; 0 for nowhere. A power of two.
    slots: Vec<u32>,
}

impl<S> Default for Visited<S> {
    fn default() -> Self {
        Self { order: Vec::new(), slots: vec![0; 1 << 12] }
    }
}

impl<S: Copy + Eq + Hash> Visited<S> {
    /// Adds a state unless it was there, and tells whether it was new.
    fn insert(&mut self, state: S, from: u32) -> bool {
        let slot = self.slot_of(&state);
        if self.slots[slot] != 0 {
            return false;
        }
        self.order.push((state, from));
        self.slots[slot] = self.order.len() as u32;
        if self.order.len() * 2 > self.slots.len() {
            self.slots = vec![0; self.slots.len() * 2];
            for at in 0..self.order.len() {
                let slot = self.slot_of(&self.order[at].0);
                self.slots[slot] = at as u32 + 1;
            }
        }
        true
    }

    /// The slot of a state, or the free one where it belongs.
    fn slot_of(&self, state: &S) -> usize {
        let mut hasher = Folded::default();
        state.hash(&mut hasher);
        let mask = self.slots.len() - 1;
        let mut slot = hasher.finish() as usize & mask;
        while self.slots[slot] != 0 && self.order[self.slots[slot] as usize - 1].0 != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// A quick hash of a few words: nobody chooses the states in order to make them collide.
#[derive(Default)]
struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        let mixed = self.0.rotate_left(5) ^ word;
        let product = u128::from(mixed) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.fold(u64::from_le_bytes(word) ^ 0x5bd1_e995_9e37_79b9);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(u64::from(byte) + 1);
    }

    fn write_isize(&mut self, number: isize) {
        self.fold(number as u64 + 1);
    }
}
