//! What the layer that tries again does, call by call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastgood_backend::layer::retry::{Pause, Retry, RetryPolicy};
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName, PutOutcome};
use lastgood_testkit::faulty::{Calls, Failure, Faulty, Moment};

/// Waits for nothing and notes how long it was asked to.
#[derive(Default)]
struct Pauses(Mutex<Vec<Duration>>);

impl Pause for Pauses {
    fn pause(&self, duration: Duration) {
        self.0.lock().unwrap().push(duration);
    }
}

struct Place {
    memory: MemoryBackend,
    faulty: Arc<Faulty>,
    pauses: Arc<Pauses>,
    retry: Retry,
}

fn place() -> Place {
    let memory = MemoryBackend::new();
    let faulty = Arc::new(Faulty::new(Arc::new(memory.clone())));
    let pauses = Arc::new(Pauses::default());
    let retry = Retry::new(faulty.clone(), pauses.clone(), RetryPolicy::default(), 7);
    Place { memory, faulty, pauses, retry }
}

impl Place {
    fn fail(&self, calls: Calls, moment: Moment, kind: ErrorKind) {
        self.faulty.fail(Failure { calls, moment, kind });
    }

    fn pauses(&self) -> Vec<Duration> {
        self.pauses.0.lock().unwrap().clone()
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

#[test]
fn tries_are_bounded_and_pauses_grow() {
    let place = place();
    place.fail(Calls::From(0), Moment::Before, ErrorKind::Transient);
    assert!(place.retry.stat(&name("a")).unwrap_err().is_transient());
    let policy = RetryPolicy::default();
    assert_eq!(place.faulty.call_count(), u64::from(policy.tries_max));
    let pauses = place.pauses();
    assert_eq!(pauses.len() as u32, policy.tries_max - 1);
    let mut whole = policy.pause_first;
    for pause in pauses {
        assert!((whole / 2..=whole).contains(&pause), "{pause:?} of {whole:?}");
        whole = (whole * 2).min(policy.pause_max);
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for kind in [ErrorKind::NoSpace, ErrorKind::Denied, ErrorKind::Failed, ErrorKind::Unreadable] {
        let place = place();
        place.fail(Calls::From(0), Moment::Before, kind);
        assert_eq!(place.retry.put(&name("a"), &[b"x"]).unwrap_err().kind, kind);
        assert_eq!((place.faulty.call_count(), place.pauses().len()), (1, 0));
    }
}

#[test]
fn a_put_whose_answer_was_lost_is_recognized() {
    for parts in [&[&b"sealed"[..], b" frames"][..], &[], &[&vec![3; 3 << 20]]] {
        let place = place();
        place.fail(Calls::One(0), Moment::After, ErrorKind::Transient);
        assert_eq!(place.retry.put(&name("packs/a"), parts).unwrap(), PutOutcome::Created);
        assert_eq!(place.memory.get(&name("packs/a"), 9 << 20).unwrap(), parts.concat());
        // The same bytes again, from somebody who knows that his answer came.
        assert_eq!(place.retry.put(&name("packs/a"), parts).unwrap(), PutOutcome::Exists);
    }
}

#[test]
fn an_object_of_another_is_never_taken_for_ones_own() {
    for theirs in [&b"theirs"[..], b"ours2", b""] {
        let place = place();
        place.memory.put(&name("outcomes/a"), &[theirs]).unwrap();
        place.fail(Calls::One(0), Moment::Before, ErrorKind::Transient);
        assert_eq!(place.retry.put(&name("outcomes/a"), &[b"ours!"]).unwrap(), PutOutcome::Exists);
        assert_eq!(place.memory.get(&name("outcomes/a"), 9).unwrap(), theirs);
    }
}

#[test]
fn a_listing_that_broke_off_shows_nothing_twice() {
    let place = place();
    for number in 0..9 {
        place.memory.put(&name(&format!("index/{number}")), &[b"x"]).unwrap();
    }
    place.fail(Calls::One(0), Moment::After, ErrorKind::Transient);
    let mut listed = Vec::new();
    place.retry.list("index/", &mut |object| listed.push(object.name.to_string())).unwrap();
    listed.sort();
    assert_eq!(listed, (0..9).map(|number| format!("index/{number}")).collect::<Vec<_>>());
}
