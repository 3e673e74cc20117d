//! Trying again what failed for the moment.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

/// Waits. A trait, so that tests wait for nothing and can see how long they would have.
pub trait Pause: Send + Sync {
    /// Returns after about `duration`.
    fn pause(&self, duration: Duration);
}

/// How often, and after which pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is made at most, the first time included.
    pub tries_max: u32,
    /// The first pause; each further one is twice as long. A random part of up to a half is left
    /// out of each, so that many who failed together do not come back together.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    /// Six tries in about three seconds.
    fn default() -> Self {
        Self {
            tries_max: 6,
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
        }
    }
}

/// Makes each call again while its error is transient ([`BackendError::is_transient`]), a bounded
/// number of times.
///
/// A put whose answer was lost may have stored the object. When the next try finds the name taken,
/// what is stored is read and compared: the same bytes are taken for those of this put. For an
/// object that is named by its content, or by a random number, they cannot be another's; of two
/// writers that put the same bytes under another name, such as one that decides a race, both may
/// then see [`PutOutcome::Created`], and what was decided is what both wanted.
///
/// A listing is held in memory until it is complete, so nothing is shown twice.
pub struct Retry {
    inner: Arc<dyn Backend>,
    pause: Arc<dyn Pause>,
    policy: RetryPolicy,
    /// State of the generator of jitter.
    jitter: AtomicU64,
}

impl Retry {
    /// Tries the calls of `inner` again. `seed` decides the jitter.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Backend>,
        pause: Arc<dyn Pause>,
        policy: RetryPolicy,
        seed: u64,
    ) -> Self {
        Self { inner, pause, policy, jitter: AtomicU64::new(seed) }
    }

    /// Calls until it succeeds, fails for good, or was tried often enough. `call` is told whether
    /// it was tried before.
    fn retried<T>(
        &self,
        mut call: impl FnMut(bool) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let mut pause = self.policy.pause_first;
        let mut result = call(false);
        for _ in 1..self.policy.tries_max {
            if !result.as_ref().is_err_and(BackendError::is_transient) {
                break;
            }
            self.pause.pause(self.jittered(pause.min(self.policy.pause_max)));
            pause = pause.saturating_mul(2);
            result = call(true);
        }
        result
    }

    /// Between a half and all of `pause`.
    fn jittered(&self, pause: Duration) -> Duration {
        // The steps and the finalizer of splitmix64.
        let state = self.jitter.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
        pause.mul_f64(0.5 + share / 2.0)
    }

    /// Whether the object has just these bytes. Read in pieces: it may be a pack.
    fn holds(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<bool, BackendError> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if self.inner.stat(name)? != length {
            return Ok(false);
        }
        let (mut at, mut stored) = (0, Vec::new());
        for piece in parts.iter().flat_map(|part| part.chunks(PIECE_BYTES)) {
            let end = at + piece.len() as u64;
            self.inner.get_range(name, at..end, &mut stored)?;
            if stored != piece {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Retry {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        self.retried(|is_again| match self.inner.put(name, parts)? {
            PutOutcome::Exists if is_again => match self.holds(name, parts) {
                Ok(true) => Ok(PutOutcome::Created),
                Ok(false) => Ok(PutOutcome::Exists),
                // Removed since, by somebody else: not there, and not put by this call.
                Err(error) if error.kind == ErrorKind::NotFound => {
                    let source = io::Error::other("it was there and is gone");
                    Err(BackendError { kind: ErrorKind::Failed, action: "write", source, ..error })
                }
                Err(error) => Err(error),
            },
            outcome => Ok(outcome),
        })
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.retried(|_| self.inner.get(name, bytes_max))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        self.retried(|_| self.inner.get_range(name, range.clone(), out))
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.retried(|_| self.inner.stat(name))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let listed = self.retried(|_| {
            let mut listed = Vec::new();
            self.inner.list(prefix, &mut |object| listed.push(object)).map(|()| listed)
        })?;
        listed.into_iter().for_each(visit);
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.retried(|_| self.inner.remove(name))
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.retried(|_| self.inner.settle(prefix))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// What is read at once to compare.
const PIECE_BYTES: usize = 1 << 20;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
