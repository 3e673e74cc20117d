//! What a repository needs of the world besides a backend: a clock, randomness, and a way to wait.
//! All come in, so that every run can be simulated.

use std::sync::Arc;

use lastgood_backend::layer::retry::Pause;
use lastgood_format::entry::Timestamp;
use lastgood_format::key::Secret;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The present, by the host's clock. It may jump.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes fit for keys.
pub trait Random: Send + Sync {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);
}

/// All together.
#[derive(Clone)]
pub struct World {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// What waits before something is tried again.
    pub pause: Arc<dyn Pause>,
}

impl World {
    /// `N` fresh random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }
}

impl World {
    /// A fresh secret.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::made_by(|bytes| self.random.fill(bytes))
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}
