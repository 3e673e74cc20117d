use std::sync::Arc;
use std::time::Duration;

use lastgood_backend::layer::retry::{Pause, Retry, RetryPolicy};
use lastgood_backend::local::LocalBackend;
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName};
use lastgood_testkit::backend_contract::{check, check_retrying};
use lastgood_testkit::disk::SimulatedDisk;
use lastgood_testkit::faulty::{Calls, Failure, Faulty, Moment};
use lastgood_testkit::recording::Recording;

#[test]
fn memory_keeps_the_contract() {
    check(|| Box::new(MemoryBackend::new()));
}

#[test]
fn a_local_directory_keeps_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    check(|| {
        number.set(number.get() + 1);
        Box::new(LocalBackend::create(&home.path().join(number.get().to_string())).unwrap())
    });
}

#[test]
fn a_simulated_disk_keeps_the_contract() {
    check(|| Box::new(SimulatedDisk::new()));
}

#[test]
fn layers_keep_the_contract() {
    check(|| {
        let faulty: Arc<dyn Backend> = Arc::new(Faulty::new(Arc::new(MemoryBackend::new())));
        Box::new(Recording::new(faulty))
    });
}

#[test]
fn calls_that_are_tried_again_keep_the_contract() {
    check_retrying(|| {
        let faulty = Faulty::new(Arc::new(MemoryBackend::new()));
        for (seed, moment) in [(1, Moment::Before), (2, Moment::After)] {
            let calls = Calls::Share { seed, per_mille: 50 };
            faulty.fail(Failure { calls, moment, kind: ErrorKind::Transient });
        }
        let policy = RetryPolicy { tries_max: 30, ..RetryPolicy::default() };
        Box::new(Retry::new(Arc::new(faulty), Arc::new(NoPause), policy, 1))
    });
}

struct NoPause;

impl Pause for NoPause {
    fn pause(&self, _: Duration) {}
}

/// Memory refuses what a directory would, so that tests in memory notice it.
#[test]
fn memory_is_as_strict_as_a_directory() {
    let memory = MemoryBackend::new();
    let put = |name: &str| memory.put(&ObjectName::new(name).unwrap(), &[b"x"]);
    put("a/b").unwrap();
    put("a-b").unwrap();
    for name in ["a", "a/b/c", "a/b/c/d"] {
        assert_eq!(put(name).unwrap_err().kind, ErrorKind::Failed, "{name}");
    }
    put("a/bc").unwrap();
    assert_eq!(memory.objects().len(), 3);
}
