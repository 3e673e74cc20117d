use std::collections::BTreeSet;
use std::sync::Arc;

use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName, PutOutcome};
use lastgood_testkit::schedule::{Order, Participant, play, run};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// Two that race for one name; tells who won.
fn race(seed: u64) -> (Vec<String>, Vec<u8>) {
    let memory = MemoryBackend::new();
    let racer = |number: u8| {
        Box::new(move |backend: Arc<dyn Backend>| {
            backend.list("outcomes/", &mut |_| ()).unwrap();
            let put = backend.put(&name("outcomes/a"), &[&[number]]).unwrap();
            let stored = backend.get(&name("outcomes/a"), 1).unwrap();
            assert_eq!(put == PutOutcome::Created, stored == [number]);
        }) as Participant<'_>
    };
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let order = Order { seed, go_on: 0, kill: 0, cut: 0 };
    let log = run(&backend, order, vec![racer(0), racer(1)]);
    (log, memory.objects()[&name("outcomes/a")].to_vec())
}

#[test]
fn a_seed_is_an_order_and_all_orders_come() {
    let mut winners = BTreeSet::new();
    let mut logs = BTreeSet::new();
    for seed in 0..400 {
        let (log, winner) = race(seed);
        assert_eq!(race(seed), (log.clone(), winner.clone()), "seed {seed}");
        assert_eq!(log.len(), 6);
        winners.insert(winner);
        logs.insert(log);
    }
    assert_eq!(winners.len(), 2);
    // Three calls of one among three of the other.
    assert_eq!(logs.len(), 20);
}

#[test]
fn who_is_killed_makes_no_further_call() {
    let memory = MemoryBackend::new();
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let mut counts = BTreeSet::new();
    for seed in 0..100 {
        memory.replace(Default::default());
        let writer: Participant<'_> = Box::new(|backend| {
            let puts: Vec<_> =
                (0..5).map(|n| backend.put(&name(&format!("packs/{n}")), &[b"x"])).collect();
            let failed = puts.iter().position(Result::is_err).unwrap_or(puts.len());
            for put in &puts[failed..] {
                assert_eq!(put.as_ref().unwrap_err().kind, ErrorKind::Failed);
            }
        });
        run(&backend, Order { seed, go_on: 0, kill: 200, cut: 0 }, vec![writer]);
        counts.insert(memory.objects().len());
    }
    assert_eq!(counts, (0..=5).collect());
}

#[test]
fn a_script_stops_whoever_it_says_before_the_call_it_says() {
    let memory = MemoryBackend::new();
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let racer = |number: u8| {
        Box::new(move |backend: Arc<dyn Backend>| {
            backend.list("outcomes/", &mut |_| ()).unwrap();
            backend.put(&name("outcomes/a"), &[&[number]]).unwrap();
        }) as Participant<'_>
    };
    let script = [(0, "write outcomes/"), (1, ""), (0, "")];
    let log = play(&backend, &script, vec![racer(0), racer(1)]);
    let expected =
        ["0 list outcomes/", "1 list outcomes/", "1 write outcomes/a", "0 write outcomes/a"];
    assert_eq!(log, expected);
    assert_eq!(*memory.objects()[&name("outcomes/a")], [1]);
}
