//! A repository in memory, in a world that is the same each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lastgood_backend::layer::retry::Pause;
use lastgood_backend::memory::MemoryBackend;
use lastgood_format::chunker::ChunkerParams;
use lastgood_format::entry::Timestamp;
use lastgood_format::key::Secret;
use lastgood_format::slot::{Credential, WorkFactors};
use lastgood_repo::{Clock, InitOptions, OpenOptions, Random, Repository, World};
use lastgood_testkit::faulty::Faulty;

pub(crate) struct Place {
    pub(crate) memory: MemoryBackend,
    pub(crate) faulty: Arc<Faulty>,
    pub(crate) repo: Arc<Repository>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let memory = MemoryBackend::new();
        let faulty = Arc::new(Faulty::new(Arc::new(memory.clone())));
        let world = world();
        let init = InitOptions {
            credential: credential(),
            label: "test".to_owned(),
            work: WorkFactors::DEFAULT,
            chunker: ChunkerParams::MinAes { target: 32 << 10 },
        };
        let repo = Repository::create(faulty.clone(), world, &init, OpenOptions::default());
        Self { memory, faulty, repo: Arc::new(repo.unwrap()) }
    }

    /// The repository as another process finds it.
    pub(crate) fn reopened(&self) -> Arc<Repository> {
        let backend = self.faulty.clone();
        let options = OpenOptions::default();
        Arc::new(Repository::open(backend, world(), &credential(), options).unwrap())
    }

    /// The names of objects under `prefix`, without it.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let objects = self.memory.objects();
        let names = objects.keys().filter_map(|name| name.as_str().strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }
}

fn credential() -> Credential {
    Credential::KeyFile(Secret::new([7; 32]))
}

fn world() -> World {
    World { clock: Arc::new(Noon), random: Arc::new(Counted::default()), pause: Arc::new(NoPause) }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: 1_800_000_000, nanos: 0 }
    }
}

#[derive(Default)]
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, out: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(out);
    }
}

struct NoPause;

impl Pause for NoPause {
    fn pause(&self, _: Duration) {}
}
