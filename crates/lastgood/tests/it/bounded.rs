//! Memory is bounded by configuration: a store that is slower than the disk holds the reading back.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use lastgood::backup::BackupOptions;
use lastgood::{ChunkerParams, Control, Credential, Repository, WorkFactors, system};
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, BackendError, Listed, ObjectName, PutOutcome};
use lastgood_repo::{InitOptions, OpenOptions};

use crate::place::noise;

/// Much slower to write to than any disk is to read from, and forgets packs; notes how far the run
/// has read ahead of what it has stored.
#[derive(Debug, Default)]
struct Slow {
    inner: MemoryBackend,
    control: OnceLock<Control>,
    stored: AtomicU64,
    ahead_max: AtomicU64,
}

impl Backend for Slow {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        if !name.as_str().starts_with("packs/") {
            return self.inner.put(name, parts);
        }
        // Work instead of a pause, so that no clock decides.
        let mut sum = 0_u64;
        for _ in 0..SLOWNESS {
            let bytes = parts.iter().flat_map(|part| part.iter());
            sum = bytes.fold(sum, |sum, &byte| sum.rotate_left(5) ^ u64::from(byte));
        }
        std::hint::black_box(sum);
        let read = self.control.get().map_or(0, |control| control.progress().bytes_done);
        let stored: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let stored = stored + self.stored.fetch_add(stored, Ordering::Relaxed);
        self.ahead_max.fetch_max(read.saturating_sub(stored), Ordering::Relaxed);
        Ok(PutOutcome::Created)
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.inner.get(name, bytes_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        self.inner.get_range(name, range, out)
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.inner.stat(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.inner.list(prefix, visit)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.inner.remove(name)
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.inner.settle(prefix)
    }
}

/// How far a run reads ahead of a slow store, at most.
fn ahead_max(prepare: impl Fn(&std::path::Path)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    prepare(&source);
    let slow = Arc::new(Slow::default());
    let init = InitOptions {
        credential: Credential::KeyFile(lastgood_format::key::Secret::new([7; 32])),
        label: "test".to_owned(),
        work: WorkFactors::DEFAULT,
        chunker: ChunkerParams::Fixed { block: 64 << 10 },
    };
    let repo =
        Repository::create(slow.clone(), system::world(), &init, OpenOptions::default()).unwrap();
    let options = BackupOptions {
        threads: 2,
        settings: lastgood::Settings {
            group_bytes: 256 << 10,
            pack_bytes: 1 << 20,
            uploads: 1,
            ..Default::default()
        },
        ..BackupOptions::new(vec![source], folder.path().join("state"))
    };
    let job = lastgood::backup::start(Arc::new(repo), options);
    slow.control.set(job.control()).unwrap();
    job.wait(drop).unwrap();
    assert!(slow.stored.load(Ordering::Relaxed) >= SOURCE_BYTES as u64);
    slow.ahead_max.load(Ordering::Relaxed)
}

#[test]
fn a_slow_store_holds_the_reading_back() {
    let one = ahead_max(|source| fs::write(source.join("large"), noise(1, SOURCE_BYTES)).unwrap());
    let many = ahead_max(|source| {
        for (number, bytes) in noise(2, SOURCE_BYTES).chunks(100_000).enumerate() {
            fs::write(source.join(number.to_string()), bytes).unwrap();
        }
    });
    for ahead in [one, many] {
        assert!(ahead > 1 << 20, "the store was not slower than the reading: {ahead}");
        assert!(ahead < AHEAD_BYTES_MAX, "{ahead} bytes were held in memory");
    }
}

const SOURCE_BYTES: usize = 96 << 20;
/// Windows, groups and packs of two threads and one upload; a third of the source.
const AHEAD_BYTES_MAX: u64 = 32 << 20;
/// How often the bytes of a pack are gone through before it is stored.
const SLOWNESS: u32 = 20;
