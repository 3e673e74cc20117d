//! A backend that fails and damages, as a test tells it to.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastgood_backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

use crate::chance::mix;

/// Passes calls on, except for those that a test wants to fail, and damages what is read.
///
/// Calls are counted from 0 in the order in which they begin, so with one thread a run is the
/// same each time: count the calls of a good run, then fail each of them in turn.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Backend>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    call_count: u64,
    failures: Vec<Failure>,
    /// Bits that are wrong in what is read: object, bit from its start.
    flipped: BTreeSet<(ObjectName, u64)>,
    /// Objects that seem cut short, with the length they seem to have.
    truncated: Vec<(ObjectName, u64)>,
}

/// Calls that fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Which calls.
    pub calls: Calls,
    /// When.
    pub moment: Moment,
    /// The kind of the error.
    pub kind: ErrorKind,
}

/// Which calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Only the call of this number.
    One(u64),
    /// That one and all later ones, as when the process dies or the disk does.
    From(u64),
    /// About `per_mille` of a thousand calls, picked by the seed and the number of the call.
    Share {
        /// Decides which.
        seed: u64,
        /// How many of a thousand.
        per_mille: u16,
    },
}

/// When a failing call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before anything is done.
    Before,
    /// After it is done, as when the answer is lost. What was read is lost, too.
    After,
    /// Unnoticed: a put says that it stored, and did not. Every other call is made. For showing
    /// that a test would see it.
    Unnoticed,
}

impl Faulty {
    /// Passes everything on until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// How many calls have begun, failed ones included.
    #[must_use]
    pub fn call_count(&self) -> u64 {
        self.lock().call_count
    }

    /// Lets calls fail, besides those that already do.
    pub fn fail(&self, failure: Failure) {
        self.lock().failures.push(failure);
    }

    /// Flips one bit of what is read of an object, counted from its start; again to undo it.
    /// The stored bytes stay as they are.
    pub fn flip_bit(&self, name: &ObjectName, bit: u64) {
        let mut plan = self.lock();
        let damage = (name.clone(), bit);
        if !plan.flipped.remove(&damage) {
            plan.flipped.insert(damage);
        }
    }

    /// Lets an object seem to end after `bytes`: `get` returns that much, ranges past it are
    /// refused, and `stat` and `list` tell this length, if the object is longer.
    pub fn truncate(&self, name: &ObjectName, bytes: u64) {
        self.lock().truncated.push((name.clone(), bytes));
    }

    /// Ends all failures and damage. The count goes on.
    pub fn heal(&self) {
        let mut plan = self.lock();
        *plan = Plan { call_count: plan.call_count, ..Plan::default() };
    }

    /// Counts a call and makes it, unless it fails; `call` hears whether it is to fail unnoticed.
    fn call<T>(
        &self,
        action: &'static str,
        object: &str,
        call: impl FnOnce(bool) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let failure = self.lock().begin_call();
        let error = |failure: Failure| BackendError {
            kind: failure.kind,
            action,
            object: object.to_owned(),
            location: self.location().to_owned(),
            source: io::Error::other("a test made this call fail"),
        };
        match failure.map(|failure| (failure.moment, error(failure))) {
            Some((Moment::Before, error)) => Err(error),
            Some((Moment::After, error)) => call(false).and(Err(error)),
            Some((Moment::Unnoticed, _)) => call(true),
            None => call(false),
        }
    }

    fn seeming_bytes(&self, name: &ObjectName, bytes: u64) -> u64 {
        let plan = self.lock();
        let truncated = plan.truncated.iter().filter(|(object, _)| object == name);
        truncated.map(|(_, bytes)| *bytes).fold(bytes, u64::min)
    }

    /// Damages what was read of an object from `start` on.
    fn damage(&self, name: &ObjectName, start: u64, bytes: &mut [u8]) {
        for (_, bit) in self.lock().flipped.iter().filter(|(object, _)| object == name) {
            let at = (bit / 8).checked_sub(start).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        // Every change is complete before the next statement, so a panicking test thread leaves
        // nothing half done.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn begin_call(&mut self) -> Option<Failure> {
        let number = self.call_count;
        self.call_count += 1;
        self.failures.iter().find(|failure| failure.calls.contain(number)).copied()
    }
}

impl Calls {
    fn contain(self, number: u64) -> bool {
        match self {
            Self::One(one) => number == one,
            Self::From(first) => number >= first,
            Self::Share { seed, per_mille } => {
                mix(seed ^ mix(number)) % 1000 < u64::from(per_mille)
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Faulty {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        self.call("write", name.as_str(), |is_lost| {
            if is_lost { Ok(PutOutcome::Created) } else { self.inner.put(name, parts) }
        })
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.call("read", name.as_str(), |_| {
            let mut bytes = self.inner.get(name, bytes_max)?;
            let count = self.seeming_bytes(name, bytes.len() as u64);
            bytes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
            self.damage(name, 0, &mut bytes);
            Ok(bytes)
        })
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let result = self.call("read", name.as_str(), |_| {
            if range.end > self.seeming_bytes(name, u64::MAX) {
                return Err(BackendError {
                    kind: ErrorKind::OutOfRange,
                    action: "read",
                    object: name.to_string(),
                    location: self.location().to_owned(),
                    source: io::Error::other("a test made this object seem shorter"),
                });
            }
            self.inner.get_range(name, range.clone(), out)?;
            self.damage(name, range.start, out);
            Ok(())
        });
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.call("stat", name.as_str(), |_| {
            let bytes = self.inner.stat(name)?;
            Ok(self.seeming_bytes(name, bytes))
        })
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.call("list", prefix, |_| {
            self.inner.list(prefix, &mut |listed| {
                let bytes = self.seeming_bytes(&listed.name, listed.bytes);
                visit(Listed { bytes, ..listed });
            })
        })
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.call("remove", name.as_str(), |_| self.inner.remove(name))
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.call("settle", prefix, |_| self.inner.settle(prefix))
    }
}
