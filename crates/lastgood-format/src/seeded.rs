//! Mistakes that tests plant, to see that they would be found. Only with the feature `seeded-bugs`.

use std::sync::atomic::{AtomicU32, Ordering};

/// A mistake in how bytes are made, or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Every group of a session is sealed with the same key and the same nonces.
    NonceReused,
    /// The parity of a pack is computed as if its last shard were not there.
    StripeMissized,
    /// Links to directories are followed where a restore writes.
    LinkFollowed,
    /// A read that returns less than was asked for counts as the end.
    ShortReadTrusted,
}

/// The mistakes of this process.
static PLANTED: AtomicU32 = AtomicU32::new(0);

/// Makes this one mistake from now on, or none.
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.store(mistake.map_or(0, |mistake| 1 << mistake as u32), Ordering::Relaxed);
}

/// Whether a mistake is to be made.
#[must_use]
pub fn is_planted(mistake: Mistake) -> bool {
    PLANTED.load(Ordering::Relaxed) == 1 << mistake as u32
}
