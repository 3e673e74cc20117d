//! The real world: the system's clock, randomness and sleep, and where a user keeps things.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lastgood_backend::layer::retry::Pause;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::{Clock, Random, World};

/// The host's clock, the system's randomness, and real sleep.
#[must_use]
pub fn world() -> World {
    World {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        pause: Arc::new(SystemPause),
    }
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one real clock")]
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => {
                Timestamp { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos() }
            }
            Err(before) => {
                let before = before.duration();
                let carry = i64::from(before.subsec_nanos() > 0);
                Timestamp {
                    seconds: -before.as_secs().cast_signed() - carry,
                    nanos: (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000,
                }
            }
        }
    }
}

#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        let mut left = out;
        while !left.is_empty() {
            // Without flags the call waits until the generator is seeded, and then never fails.
            let filled = rustix::rand::getrandom(&mut *left, rustix::rand::GetRandomFlags::empty())
                .expect("the system's random generator works");
            left = &mut left[filled..];
        }
    }
}

#[derive(Debug)]
struct SystemPause;

impl Pause for SystemPause {
    #[expect(clippy::disallowed_methods, reason = "the one real sleep")]
    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The folders of one user, as the embedder or the command line found them.
#[derive(Debug, Clone)]
pub struct Home {
    /// Where the default repository and its key file are.
    pub data: PathBuf,
    /// What can be made again: the local copy of the index.
    pub cache: PathBuf,
    /// Who this host is to each repository: writer names and newest known heads.
    pub state: PathBuf,
}

impl Home {
    /// The repository that is used when none is named.
    #[must_use]
    pub fn default_repository(&self) -> PathBuf {
        self.data.join("repository")
    }

    /// The key file of the default repository.
    #[must_use]
    pub fn default_key_file(&self) -> PathBuf {
        self.data.join("repository.key")
    }
}
