//! A network between participants and a store: requests and answers get lost, come late, come
//! twice, and overtake one another; the store's clock jumps by years.
//!
//! One seed decides all of it, call by call, so where calls come in one order everything else is
//! the same, too, and [`Network::trace`] tells whether it was.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

use crate::chance::{Chance, mix};

/// A store behind a network.
#[derive(Debug)]
pub struct Network {
    store: MemoryBackend,
    weather: Weather,
    state: Mutex<State>,
}

/// How bad a network is: of a thousand calls, how many meet it.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The request is lost.
    pub lost: u16,
    /// The request is given up, and carried out at some later time.
    pub late: u16,
    /// The request is carried out, and its answer is lost.
    pub unanswered: u16,
    /// The request is carried out, and once more at some later time.
    pub twice: u16,
    /// The store has no time, or finds that others put the same name just now, and says so (503 and
    /// 409 of object stores).
    pub busy: u16,
    /// A put is carried out, and refused as taken when the transport makes it once more by itself
    /// (412 of object stores).
    pub echoed: u16,
    /// The clock of the store jumps by up to ten years.
    pub jump: u16,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls.
    pub calls: u64,
    /// Requests or answers that were lost, or that the store had no time for.
    pub lost: u64,
    /// Puts that succeeded, and were said to be refused.
    pub echoed: u64,
    /// Changes that were carried out late or once more.
    pub late: u64,
    /// Jumps of the store's clock.
    pub jumps: u64,
}

#[derive(Debug)]
struct State {
    chance: Chance,
    on_their_way: Vec<Change>,
    counts: Counts,
    trace: u64,
}

/// A request that changes something.
#[derive(Debug, Clone)]
enum Change {
    Put(ObjectName, Arc<[u8]>),
    Remove(ObjectName),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Lost,
    Late,
    Unanswered,
    Twice,
    Busy,
    Echoed,
}

impl Network {
    /// Puts a network before `store`.
    #[must_use]
    pub fn new(store: MemoryBackend, weather: Weather, seed: u64) -> Self {
        let chance = Chance::new(mix(seed));
        let state =
            State { chance, on_their_way: Vec::new(), counts: Counts::default(), trace: seed };
        Self { store, weather, state: Mutex::new(state) }
    }

    /// Carries out all that is still on its way.
    pub fn settle_down(&self) {
        while self.deliver(1) {}
    }

    /// How often what happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// A number that depends on every call so far and on what became of it.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// Carries out one late request, or none with a chance; tells whether there is any.
    fn deliver(&self, one_in: usize) -> bool {
        let change = {
            let mut state = self.lock();
            let count = state.on_their_way.len();
            if count == 0 || !state.chance.one_in(one_in) {
                return count > 0;
            }
            let number = state.chance.below(count);
            state.counts.late += 1;
            state.on_their_way.swap_remove(number)
        };
        // Whoever asked is not there any more to hear how it went.
        match &change {
            Change::Put(name, bytes) => drop(self.store.put(name, &[bytes])),
            Change::Remove(name) => drop(self.store.remove(name)),
        }
        self.lock().note(&format!("late {change:?}"));
        true
    }

    /// Makes a call, or lets it fail.
    fn call<T>(
        &self,
        action: &'static str,
        object: &str,
        change: Option<Change>,
        echo: Option<T>,
        call: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        self.deliver(LATE_ONE_IN);
        let is_put = echo.is_some();
        let (fate, jump) = self.lock().decide(self.weather);
        if let Some(seconds) = jump {
            self.store.set_now(seconds);
        }
        let result = match fate {
            Fate::Done | Fate::Twice => call(),
            Fate::Echoed => call().map(|answer| echo.unwrap_or(answer)),
            Fate::Unanswered => {
                call().and_then(|_| Err(self.failed(action, object, io::ErrorKind::TimedOut)))
            }
            Fate::Lost | Fate::Late => Err(self.failed(action, object, io::ErrorKind::TimedOut)),
            Fate::Busy => Err(self.failed(action, object, io::ErrorKind::ResourceBusy)),
        };
        let mut state = self.lock();
        if matches!(fate, Fate::Late | Fate::Twice) {
            state.on_their_way.extend(change);
        }
        state.counts.lost += u64::from(!matches!(fate, Fate::Done | Fate::Twice | Fate::Echoed));
        state.counts.echoed += u64::from(is_put && fate == Fate::Echoed);
        let kind = result.as_ref().map(|_| ()).map_err(|error| error.kind);
        state.note(&format!("{action} {object} {fate:?} {kind:?}"));
        result
    }

    fn failed(&self, action: &'static str, object: &str, how: io::ErrorKind) -> BackendError {
        BackendError {
            kind: ErrorKind::Transient,
            action,
            object: object.to_owned(),
            location: self.location().to_owned(),
            source: io::Error::from(how),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the next statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What becomes of the next call, and where the store's clock jumps to before it.
    fn decide(&mut self, weather: Weather) -> (Fate, Option<i64>) {
        self.counts.calls += 1;
        let jump = self.chance.below(1000) < usize::from(weather.jump);
        self.counts.jumps += u64::from(jump);
        let jump = jump.then(|| NOON + self.chance.below(2 * TEN_YEARS) as i64 - TEN_YEARS as i64);
        let mut number = self.chance.below(1000);
        let fates = [
            (Fate::Lost, weather.lost),
            (Fate::Late, weather.late),
            (Fate::Unanswered, weather.unanswered),
            (Fate::Twice, weather.twice),
            (Fate::Busy, weather.busy),
            (Fate::Echoed, weather.echoed),
        ];
        for (fate, share) in fates {
            let Some(left) = number.checked_sub(usize::from(share)) else { return (fate, jump) };
            number = left;
        }
        (Fate::Done, jump)
    }

    fn note(&mut self, text: &str) {
        self.trace = text.bytes().fold(self.trace, |trace, byte| {
            (trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Network {
    fn location(&self) -> &str {
        self.store.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        let change = Change::Put(name.clone(), parts.concat().into());
        let echo = Some(PutOutcome::Exists);
        self.call("write", name.as_str(), Some(change), echo, || self.store.put(name, parts))
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.call("read", name.as_str(), None, None, || self.store.get(name, bytes_max))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let read = || self.store.get_range(name, range, out);
        let result = self.call("read", name.as_str(), None, None, read);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.call("stat", name.as_str(), None, None, || self.store.stat(name))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let mut listed = Vec::new();
        let list = || self.store.list(prefix, &mut |object| listed.push(object));
        self.call("list", prefix, None, None, list)?;
        listed.into_iter().for_each(visit);
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        let change = Change::Remove(name.clone());
        self.call("remove", name.as_str(), Some(change), None, || self.store.remove(name))
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.call("settle", prefix, None, None, || self.store.settle(prefix))
    }
}

/// A late request comes with one of so many calls.
const LATE_ONE_IN: usize = 12;
/// What time it is when no clock has jumped.
const NOON: i64 = 1_800_000_000;
/// In seconds.
const TEN_YEARS: usize = 315_576_000;
