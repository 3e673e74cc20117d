//! Several participants on one backend, one call at a time, in an order that a seed or a script
//! decides.
//!
//! Each participant is ordinary code on a thread of its own. Its calls wait at a gate until the
//! schedule lets one of them pass, so every interleaving of requests can happen, and one that loses
//! data is shown by its seed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lastgood_backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

use crate::chance::{Chance, mix};

/// Code that works on the backend it is given.
pub type Participant<'a> = Box<dyn FnOnce(Arc<dyn Backend>) + Send + 'a>;

/// How calls are ordered.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Decides everything.
    pub seed: u64,
    /// Of a thousand steps, how many go on with whoever made the one before.
    pub go_on: u16,
    /// Of a thousand steps, how many kill who is next: all its later calls fail.
    pub kill: u16,
    /// Of a thousand steps, how many cut off who is next: its call is lost, and its next one is
    /// made only when the others have made many.
    pub cut: u16,
}

/// A part of a script: who goes on, up to the call that it is not to make yet, such as
/// `"write outcomes/"`; up to its end when that is empty.
pub type Leg = (usize, &'static str);

/// Runs `participants` to their ends in an order that chance decides, and returns who called what.
///
/// # Panics
/// When a participant panics.
pub fn run(
    backend: &Arc<dyn Backend>,
    order: Order,
    participants: Vec<Participant<'_>>,
) -> Vec<String> {
    let mut chance = Chance::new(mix(order.seed));
    let mut last = 0;
    let mut away_until = vec![0; participants.len()];
    let mut step = 0;
    act(backend, participants, &mut |state, ready| {
        step += 1;
        let back_first = *ready.iter().min_by_key(|number| away_until[**number]).unwrap_or(&0);
        let there: Vec<usize> =
            ready.iter().copied().filter(|number| away_until[*number] <= step).collect();
        if there.is_empty() {
            last = back_first;
        } else if !there.contains(&last) || chance.below(1000) >= usize::from(order.go_on) {
            last = *chance.pick(&there);
        }
        let mut happens = |per_mille: u16| chance.below(1000) < usize::from(per_mille);
        state.actors[last].is_killed |= happens(order.kill);
        if happens(order.cut) {
            away_until[last] = step + chance.below(CUT_STEPS_MAX);
            state.actors[last].is_cut = true;
        }
        last
    })
}

/// Runs `participants` by a script, and then, one after the other, to their ends.
///
/// # Panics
/// When a participant panics.
pub fn play(
    backend: &Arc<dyn Backend>,
    script: &[Leg],
    participants: Vec<Participant<'_>>,
) -> Vec<String> {
    let mut legs = script.iter().copied().peekable();
    act(backend, participants, &mut |state, ready| {
        while let Some((number, until)) = legs.peek() {
            let next = state.actors[*number].waiting.first();
            if next.is_some_and(|call| until.is_empty() || !call.starts_with(until)) {
                return *number;
            }
            legs.next();
        }
        ready[0]
    })
}

/// Runs `participants`, each next call chosen by `direct` among those who wait to make one.
fn act(
    backend: &Arc<dyn Backend>,
    participants: Vec<Participant<'_>>,
    direct: &mut dyn FnMut(&mut State, &[usize]) -> usize,
) -> Vec<String> {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            actors: participants.iter().map(|_| Actor::default()).collect(),
            turn: None,
            log: Vec::new(),
        }),
        changed: Condvar::new(),
        gates: participants.iter().map(|_| Condvar::new()).collect(),
    });
    std::thread::scope(|scope| {
        for (number, participant) in participants.into_iter().enumerate() {
            let gate = Gate { inner: backend.clone(), shared: shared.clone(), number };
            let shared = shared.clone();
            scope.spawn(move || {
                let ended = Ended { shared, number };
                participant(Arc::new(gate));
                drop(ended);
            });
        }
        shared.direct(direct);
    });
    std::mem::take(&mut shared.lock().log)
}

struct Shared {
    state: Mutex<State>,
    /// Wakes whoever lets calls pass.
    changed: Condvar,
    /// Wakes the participant of this number.
    gates: Vec<Condvar>,
}

struct State {
    actors: Vec<Actor>,
    /// Whose call may pass, or is under way.
    turn: Option<usize>,
    log: Vec<String>,
}

#[derive(Default)]
struct Actor {
    /// Calls that wait at the gate.
    waiting: Vec<String>,
    is_killed: bool,
    /// Its next call is lost.
    is_cut: bool,
    has_ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A participant that panicked ends its test anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one call pass after the other until nobody is left.
    fn direct(&self, choose: &mut dyn FnMut(&mut State, &[usize]) -> usize) {
        let mut state = self.lock();
        loop {
            // Whoever is at work without calling will call or end.
            state = self
                .changed
                .wait_while(state, |state| {
                    let is_idle = |actor: &Actor| actor.has_ended || !actor.waiting.is_empty();
                    state.turn.is_some() || !state.actors.iter().all(is_idle)
                })
                .unwrap_or_else(PoisonError::into_inner);
            let ready: Vec<usize> =
                (0..state.actors.len()).filter(|n| !state.actors[*n].waiting.is_empty()).collect();
            if ready.is_empty() {
                return;
            }
            let next = choose(&mut state, &ready);
            state.turn = Some(next);
            self.gates[next].notify_all();
        }
    }

    /// Waits for its turn; tells why the call fails, if it does.
    fn wait(&self, number: usize, action: &str, object: &str) -> Option<Failing> {
        let mut state = self.lock();
        let call = format!("{action} {object}");
        state.actors[number].waiting.push(call.clone());
        self.changed.notify_all();
        state = self.gates[number]
            .wait_while(state, |state| state.turn != Some(number))
            .unwrap_or_else(PoisonError::into_inner);
        let waiting = &mut state.actors[number].waiting;
        // Several threads may wait to make the same call.
        let own = waiting.iter().position(|other| *other == call);
        own.map(|at| waiting.remove(at));
        // Nobody else passes before this call is done: see `done`.
        state.turn = Some(usize::MAX);
        let actor = &mut state.actors[number];
        let is_lost = std::mem::take(&mut actor.is_cut);
        let failing = match (actor.is_killed, is_lost) {
            (true, _) => Some(Failing::Killed),
            (false, true) => Some(Failing::Lost),
            (false, false) => None,
        };
        let fate = match failing {
            Some(Failing::Killed) => " (killed)",
            Some(Failing::Lost) => " (lost)",
            None => "",
        };
        state.log.push(format!("{number} {call}{fate}"));
        failing
    }

    fn done(&self) {
        self.lock().turn = None;
        self.changed.notify_all();
    }
}

/// Says that a participant is at its end, however it came there.
struct Ended {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.lock().actors[self.number].has_ended = true;
        self.shared.changed.notify_all();
    }
}

/// Why a call fails.
#[derive(Debug, Clone, Copy)]
enum Failing {
    Killed,
    Lost,
}

impl Failing {
    const fn kind(self) -> ErrorKind {
        match self {
            Self::Killed => ErrorKind::Failed,
            Self::Lost => ErrorKind::Transient,
        }
    }
}

/// The backend as one participant has it.
struct Gate {
    inner: Arc<dyn Backend>,
    shared: Arc<Shared>,
    number: usize,
}

impl Gate {
    fn call<T>(
        &self,
        action: &'static str,
        object: &str,
        call: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let result = match self.shared.wait(self.number, action, object) {
            None => call(),
            Some(failing) => Err(BackendError {
                kind: failing.kind(),
                action,
                object: object.to_owned(),
                location: self.inner.location().to_owned(),
                source: io::Error::other("the schedule killed or cut off who asks"),
            }),
        };
        self.shared.done();
        result
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("inner", &self.inner).field("number", &self.number).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Gate {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        self.call("write", name.as_str(), || self.inner.put(name, parts))
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.call("read", name.as_str(), || self.inner.get(name, bytes_max))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let result = self.call("read", name.as_str(), || self.inner.get_range(name, range, out));
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.call("stat", name.as_str(), || self.inner.stat(name))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.call("list", prefix, || self.inner.list(prefix, visit))
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.call("remove", name.as_str(), || self.inner.remove(name))
    }
    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.call("settle", prefix, || self.inner.settle(prefix))
    }
}

/// How long somebody is cut off at most, in calls of all.
const CUT_STEPS_MAX: usize = 1500;
