use std::sync::Arc;
use std::time::Duration;

use lastgood_backend::layer::retry::{Pause, Retry, RetryPolicy};
use lastgood_backend::local::LocalBackend;
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName};
use lastgood_testkit::backend_contract::{check, check_retrying};
use lastgood_testkit::disk::SimulatedDisk;
use lastgood_testkit::faulty::{Calls, Failure, Faulty, Moment};
use lastgood_testkit::network::{Network, Weather};
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
fn a_network_without_faults_keeps_the_contract() {
    let calm = Weather { lost: 0, late: 0, unanswered: 0, twice: 0, busy: 0, echoed: 0, jump: 0 };
    check(|| Box::new(Network::new(MemoryBackend::new(), calm, 1)));
}

/// What was asked for twice, or comes late, changes nothing that was there.
#[test]
fn a_bad_network_keeps_what_is_stored() {
    let bad = Weather {
        lost: 100,
        late: 100,
        unanswered: 100,
        twice: 200,
        busy: 100,
        echoed: 100,
        jump: 100,
    };
    let memory = MemoryBackend::new();
    let network = Network::new(memory.clone(), bad, 1);
    let name = |number: u32| ObjectName::new(&format!("a/{number}")).unwrap();
    for number in 0..500 {
        // It may fail, and be there all the same, now or later.
        network.put(&name(number), &[&number.to_le_bytes()]).ok();
    }
    network.settle_down();
    let there = memory.objects();
    assert!(there.len() > 300 && there.len() < 500, "some were lost: {}", there.len());
    assert!(there.iter().all(|(object, bytes)| {
        let number = u32::from_le_bytes(bytes[..].try_into().unwrap());
        *object == name(number)
    }));
    let counts = network.counts();
    assert!(counts.lost > 100 && counts.late > 100 && counts.jumps > 10, "{counts:?}");
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
