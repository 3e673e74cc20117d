//! A repository in memory, in a world that is the same each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lastgood_backend::layer::retry::Pause;
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, ObjectName};
use lastgood_format::chunker::ChunkerParams;
use lastgood_format::config::DELTAS;
use lastgood_format::entry::Timestamp;
use lastgood_format::guard::{Redundancy, guard};
use lastgood_format::key::Secret;
use lastgood_format::slot::{Credential, WorkFactors};
use lastgood_repo::{Clock, InitOptions, OpenOptions, Random, RepoError, Repository, World};
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
        let world = world(0);
        let init = InitOptions {
            credential: credential(),
            label: "test".to_owned(),
            work: WorkFactors::DEFAULT,
            chunker: ChunkerParams::MinAes { target: 32 << 10 },
        };
        let repo = Repository::create(faulty.clone(), world, &init, OpenOptions::default());
        Self { memory, faulty, repo: Arc::new(repo.unwrap()) }
    }

    /// The same, in which chunks may be stored as changes of others.
    pub(crate) fn with_deltas() -> Self {
        let place = Self::new();
        Self { repo: place.repo.upgrade(&[DELTAS]).unwrap(), ..place }
    }

    /// The repository as another process finds it.
    pub(crate) fn reopened(&self) -> Arc<Repository> {
        open(self.faulty.clone(), 0).unwrap()
    }

    /// Puts an object as any client would.
    pub(crate) fn put(&self, object: &str, content: &[u8]) {
        let name = ObjectName::new(object).unwrap();
        self.memory.put(&name, &[&guard(content, Redundancy::of(object))]).unwrap();
    }

    /// The names of objects under `prefix`, without it.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let objects = self.memory.objects();
        let names = objects.keys().filter_map(|name| name.as_str().strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }
}

/// Opens the repository on `backend`; each `process` draws other random numbers.
pub(crate) fn open(backend: Arc<dyn Backend>, process: u64) -> Result<Arc<Repository>, RepoError> {
    let options = OpenOptions::default();
    Ok(Arc::new(Repository::open(backend, world(process), &credential(), options)?))
}

/// The same with a clock of its own.
pub(crate) fn open_at(
    backend: Arc<dyn Backend>,
    process: u64,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Repository>, RepoError> {
    let world = World { clock, ..world(process) };
    Ok(Arc::new(Repository::open(backend, world, &credential(), OpenOptions::default())?))
}

pub(crate) fn credential() -> Credential {
    Credential::KeyFile(Secret::new([7; 32]))
}

fn world(process: u64) -> World {
    let random = Arc::new(Counted { process, count: AtomicU64::new(0) });
    World { clock: Arc::new(Noon), random, pause: Arc::new(NoPause) }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: 1_800_000_000, nanos: 0 }
    }
}

struct Counted {
    process: u64,
    count: AtomicU64,
}

impl Random for Counted {
    fn fill(&self, out: &mut [u8]) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let text = [self.process.to_le_bytes(), number.to_le_bytes()].concat();
        blake3::Hasher::new().update(&text).finalize_xof().fill(out);
    }
}

pub(crate) struct NoPause;

impl Pause for NoPause {
    fn pause(&self, _: Duration) {}
}
