use std::sync::Arc;

use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, BackendError, ErrorKind, ObjectName, PutOutcome};
use lastgood_testkit::faulty::{Calls, Failure, Faulty, Moment};
use lastgood_testkit::recording::{Answer, Call, Method, Recording, Request};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// A small run of every method; stops at the first error.
fn run(backend: &dyn Backend) -> Result<(), BackendError> {
    let mut out = Vec::new();
    backend.put(&name("packs/a"), &[b"pa", b"ck"])?;
    backend.put(&name("index/a"), &[b"index"])?;
    backend.get(&name("index/a"), 10)?;
    backend.get_range(&name("packs/a"), 1..3, &mut out)?;
    backend.stat(&name("packs/a"))?;
    backend.put(&name("snapshots/a"), &[b"snapshot"])?;
    backend.list("", &mut |_| ())?;
    backend.remove(&name("packs/a"))
}

#[test]
fn every_call_is_recorded() {
    let recording = Recording::new(Arc::new(MemoryBackend::new()));
    run(&recording).unwrap();
    assert!(recording.get(&name("packs/a"), 1).is_err());
    recording.put(&name("index/a"), &[b"other"]).unwrap();

    let counts: Vec<_> = recording.counts().into_iter().collect();
    let expected = [
        (Method::Put, 4),
        (Method::Get, 2),
        (Method::GetRange, 1),
        (Method::Stat, 1),
        (Method::List, 1),
        (Method::Remove, 1),
    ];
    assert_eq!(counts, expected);

    let calls = recording.take_calls();
    let request = Request::Put { name: name("packs/a"), bytes: b"pack"[..].into() };
    assert_eq!(calls[0], Call { request, result: Ok(Answer::Put(PutOutcome::Created)) });
    let request = Request::GetRange { name: name("packs/a"), range: 1..3 };
    assert_eq!(calls[3], Call { request, result: Ok(Answer::Bytes(2)) });
    assert_eq!(calls[6].result, Ok(Answer::Listed(3)));
    assert_eq!(calls[8].result, Err(ErrorKind::NotFound));
    assert_eq!(calls[9].result, Ok(Answer::Put(PutOutcome::Exists)));
    assert_eq!(recording.calls(), []);
}

#[test]
fn every_state_a_crash_can_leave_is_replayed() {
    let memory = MemoryBackend::new();
    memory.put(&name("config"), &[b"config"]).unwrap();
    let recording = Recording::of_memory(&memory);
    run(&recording).unwrap();
    let states: Vec<Vec<String>> = (0..=recording.change_count())
        .map(|count| recording.state_after(count).objects().into_keys())
        .map(|names| names.map(|name| name.to_string()).collect())
        .collect();
    let expected: [&[&str]; 5] = [
        &["config"],
        &["config", "packs/a"],
        &["config", "index/a", "packs/a"],
        &["config", "index/a", "packs/a", "snapshots/a"],
        &["config", "index/a", "snapshots/a"],
    ];
    assert_eq!(states, expected);
    assert_eq!(recording.state_after(4).objects(), memory.objects());
}

#[test]
fn each_call_can_fail_once() {
    let good = Faulty::new(Arc::new(MemoryBackend::new()));
    run(&good).unwrap();
    assert_eq!(good.call_count(), 8);
    for number in 0..8 {
        for moment in [Moment::Before, Moment::After] {
            let memory = MemoryBackend::new();
            let faulty = Faulty::new(Arc::new(memory.clone()));
            let kind = ErrorKind::NoSpace;
            faulty.fail(Failure { calls: Calls::One(number), moment, kind });
            let error = run(&faulty).unwrap_err();
            assert_eq!((error.kind, faulty.call_count()), (kind, number + 1));
            if number == 0 {
                let is_lost_answer = moment == Moment::After;
                assert_eq!(memory.objects().contains_key(&name("packs/a")), is_lost_answer);
            }
            let again = faulty.put(&name("index/b"), &[b"x"]).unwrap();
            assert_eq!(again, PutOutcome::Created, "only one call fails");
        }
    }
}

#[test]
fn calls_can_fail_from_one_on_until_healed() {
    let faulty = Faulty::new(Arc::new(MemoryBackend::new()));
    let calls = Calls::From(2);
    faulty.fail(Failure { calls, moment: Moment::Before, kind: ErrorKind::Transient });
    assert!(run(&faulty).unwrap_err().is_transient());
    assert!(run(&faulty).unwrap_err().is_transient());
    assert_eq!(faulty.call_count(), 4);
    faulty.heal();
    run(&faulty).unwrap();
}

#[test]
fn a_share_of_calls_fails_the_same_way_for_a_seed() {
    let failed = |seed| -> Vec<bool> {
        let faulty = Faulty::new(Arc::new(MemoryBackend::new()));
        let calls = Calls::Share { seed, per_mille: 100 };
        faulty.fail(Failure { calls, moment: Moment::Before, kind: ErrorKind::Failed });
        (0..2000).map(|_| faulty.list("", &mut |_| ()).is_err()).collect()
    };
    assert_eq!(failed(7), failed(7));
    assert_ne!(failed(7), failed(8));
    let count = failed(7).into_iter().filter(|is_error| *is_error).count();
    assert!((150..250).contains(&count), "{count} of 2000");
}

#[test]
fn flipped_bits_and_truncation_show_in_every_read() {
    let faulty = Faulty::new(Arc::new(MemoryBackend::new()));
    let (damaged, other) = (name("packs/a"), name("packs/b"));
    for object in [&damaged, &other] {
        faulty.put(object, &[&[0; 8]]).unwrap();
    }
    let range = |object, range| {
        let mut out = Vec::new();
        faulty.get_range(object, range, &mut out).map(|()| out)
    };
    faulty.flip_bit(&damaged, 3 * 8 + 1);
    assert_eq!(faulty.get(&damaged, 8).unwrap(), [0, 0, 0, 2, 0, 0, 0, 0]);
    assert_eq!(range(&damaged, 2..5).unwrap(), [0, 2, 0]);
    assert_eq!(range(&damaged, 4..8).unwrap(), [0; 4]);
    assert_eq!(range(&damaged, 0..3).unwrap(), [0; 3]);
    assert_eq!(faulty.get(&other, 8).unwrap(), [0; 8]);
    faulty.flip_bit(&damaged, 3 * 8 + 1);
    assert_eq!(faulty.get(&damaged, 8).unwrap(), [0; 8]);

    faulty.truncate(&damaged, 5);
    assert_eq!(faulty.get(&damaged, 8).unwrap().len(), 5);
    assert_eq!(faulty.stat(&damaged).unwrap(), 5);
    assert_eq!(range(&damaged, 1..5).unwrap(), [0; 4]);
    assert_eq!(range(&damaged, 1..6).unwrap_err().kind, ErrorKind::OutOfRange);
    let mut listed = Vec::new();
    faulty.list("", &mut |object| listed.push(object.bytes)).unwrap();
    assert_eq!(listed, [5, 8]);
}
