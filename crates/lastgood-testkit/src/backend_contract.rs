//! What every [`Backend`] promises, checked one promise at a time.
//!
//! A failed check panics and says which promise of which backend was broken.

#![expect(clippy::unwrap_used, reason = "a panic is how a check fails")]

use std::collections::BTreeMap;
use std::sync::Barrier;

use lastgood_backend::{Backend, BackendError, ErrorKind, ObjectName, PutOutcome};

/// Checks every promise of the trait; `make` returns a new, empty backend each time.
///
/// # Panics
/// When a promise is broken.
pub fn check(make: impl Fn() -> Box<dyn Backend>) {
    check_promises(&make, &[SAME_BYTES]);
    check_promises(&make, PROMISES);
}

/// Checks every promise but one: a layer that tries a put again cannot tell the same bytes of
/// another from its own, whose answer was lost.
///
/// # Panics
/// When a promise is broken.
pub fn check_retrying(make: impl Fn() -> Box<dyn Backend>) {
    check_promises(&make, PROMISES);
}

fn check_promises(make: &dyn Fn() -> Box<dyn Backend>, promises: &[(&str, Check)]) {
    for (promise, check) in promises {
        let backend = make();
        assert_eq!(names(&*backend, ""), [""; 0], "{promise}: a new backend is empty");
        let _named = Promise { promise, location: backend.location() };
        check(&*backend);
    }
}

type Check = fn(&dyn Backend);

const SAME_BYTES: (&str, Check) = ("the same bytes again are no new object", same_bytes);

const PROMISES: &[(&str, Check)] = &[
    ("an object comes back as its parts joined", parts_are_joined),
    ("an empty object is an object", empty_objects),
    ("large objects come back", large_objects),
    ("an object is written once", write_once),
    ("one of many racing creators wins", racing_creators),
    ("a reader sees an object whole or not at all", whole_or_absent),
    ("an absent object is not found", absent_objects),
    ("a range is exact or refused", ranges),
    ("a reused buffer holds the range and nothing else", reused_buffers),
    ("a longer object than allowed is refused", bytes_max),
    ("a listing shows what is below its prefix", listing_by_prefix),
    ("a listing shows each of many objects once", many_objects),
    ("a listing shows what was put later as not older", ages),
    ("a prefix that is none is refused", invalid_prefixes),
    ("names may be as long and as deep as allowed", names_at_limits),
    ("removing is idempotent, and frees the name", removing),
    ("settling changes nothing that is seen", settling),
    ("errors say what, which object and where", errors_explain),
    ("many threads may work at once", many_threads),
];

/// Names the promise when a check panics; the panic's own message has the values.
struct Promise<'a> {
    promise: &'a str,
    location: &'a str,
}

impl Drop for Promise<'_> {
    #[expect(clippy::print_stderr, reason = "part of a test's failure message")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("broken promise of {}: {}", self.location, self.promise);
        }
    }
}

fn parts_are_joined(backend: &dyn Backend) {
    let object = name("packs/ab12/cd");
    let parts: [&[u8]; 5] = [b"one", b"", b"two", b"three", b""];
    assert_eq!(backend.put(&object, &parts).unwrap(), PutOutcome::Created);
    assert_eq!(backend.get(&object, 100).unwrap(), b"onetwothree");
    assert_eq!(backend.stat(&object).unwrap(), 11);
    let many: Vec<[u8; 1]> = (0..5000_u32).map(|i| [i as u8]).collect();
    let many: Vec<&[u8]> = many.iter().map(<[u8; 1]>::as_slice).collect();
    backend.put(&name("many-parts"), &many).unwrap();
    assert!(backend.get(&name("many-parts"), 5000).unwrap() == many.concat());
}

fn empty_objects(backend: &dyn Backend) {
    for (object, parts) in [("none", &[][..]), ("empty", &[&b""[..]][..])] {
        let object = name(object);
        assert_eq!(backend.put(&object, parts).unwrap(), PutOutcome::Created);
        assert_eq!(backend.put(&object, &[b"x"]).unwrap(), PutOutcome::Exists);
        assert_eq!(backend.get(&object, 0).unwrap(), b"");
        assert_eq!(backend.stat(&object).unwrap(), 0);
        assert_eq!(range(backend, &object, 0, 0).unwrap(), b"");
        assert_eq!(kind(range(backend, &object, 0, 1)), ErrorKind::OutOfRange);
    }
    assert_eq!(names(backend, ""), ["empty", "none"]);
}

fn large_objects(backend: &dyn Backend) {
    for bytes in [(1 << 20) - 1, (4 << 20) + 4096, (16 << 20) + 13] {
        let object = name(&format!("packs/p{bytes}"));
        let expected = pattern(bytes, bytes as u64);
        let (head, tail) = expected.split_at(1 << 19);
        backend.put(&object, &[head, tail]).unwrap();
        assert!(backend.get(&object, bytes as u64).unwrap() == expected, "{bytes} bytes");
        let (start, end) = (bytes - 70_001, bytes - 1);
        let part = range(backend, &object, start as u64, end as u64).unwrap();
        assert!(part == expected[start..end], "range of {bytes} bytes");
    }
}

fn write_once(backend: &dyn Backend) {
    let object = name("config");
    assert_eq!(backend.put(&object, &[b"first"]).unwrap(), PutOutcome::Created);
    for other in [&b"second, and longer"[..], b"", b"other"] {
        assert_eq!(backend.put(&object, &[other]).unwrap(), PutOutcome::Exists);
        assert_eq!(backend.get(&object, 100).unwrap(), b"first");
    }
}

fn same_bytes(backend: &dyn Backend) {
    let object = name("config");
    assert_eq!(backend.put(&object, &[b"bytes"]).unwrap(), PutOutcome::Created);
    assert_eq!(backend.put(&object, &[b"bytes"]).unwrap(), PutOutcome::Exists);
}

fn racing_creators(backend: &dyn Backend) {
    const RACERS: u8 = 16;
    for (round, bytes) in [1, 4096, 1 << 20].into_iter().cycle().take(12).enumerate() {
        let object = name(&format!("outcomes/{round}"));
        let start = Barrier::new(usize::from(RACERS));
        let created: Vec<u8> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (object, start) = (&object, &start);
                    scope.spawn(move || {
                        let mine = vec![racer; bytes];
                        start.wait();
                        let outcome = backend.put(object, &[&mine]).unwrap();
                        // The loser may rely on the winner's object at once.
                        let winner = backend.get(object, bytes as u64).unwrap();
                        assert!(winner.len() == bytes && winner.iter().all(|b| *b == winner[0]));
                        (outcome == PutOutcome::Created).then_some(racer)
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(created.len(), 1, "round {round}: {created:?} all think they created it");
        assert_eq!(backend.get(&object, bytes as u64).unwrap()[0], created[0]);
    }
}

fn whole_or_absent(backend: &dyn Backend) {
    const BYTES: usize = 3 << 20;
    let bytes = vec![0xa5; BYTES];
    for round in 0..4 {
        let object = name(&format!("packs/{round}"));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| backend.put(&object, &[&bytes]).unwrap());
            let mut was_seen = false;
            loop {
                let is_last = writer.is_finished();
                for listed in listing(backend, "packs/") {
                    assert_eq!(listed.1, BYTES as u64, "{} is listed in part", listed.0);
                    was_seen |= listed.0 == object;
                }
                match backend.get(&object, BYTES as u64) {
                    Ok(read) => assert!(read == bytes, "{object} is read in part"),
                    Err(error) => {
                        assert_eq!(error.kind, ErrorKind::NotFound);
                        assert!(!was_seen, "{object} was listed, then not found");
                    }
                }
                if is_last {
                    break;
                }
            }
            assert!(was_seen, "{object} is not listed after its put returned");
        });
    }
}

fn absent_objects(backend: &dyn Backend) {
    backend.put(&name("packs/there"), &[b"x"]).unwrap();
    // Neither is a directory an object, nor is there anything below an object.
    for object in ["absent", "packs/absent", "absent/x/y", "packs", "packs/there/x"] {
        let object = name(object);
        backend.remove(&object).unwrap();
        assert_eq!(kind(backend.get(&object, 10)), ErrorKind::NotFound, "{object}");
        assert_eq!(kind(backend.stat(&object)), ErrorKind::NotFound, "{object}");
        assert_eq!(kind(range(backend, &object, 0, 0)), ErrorKind::NotFound, "{object}");
    }
    assert_eq!(names(backend, ""), ["packs/there"]);
}

fn ranges(backend: &dyn Backend) {
    let object = name("packs/a");
    backend.put(&object, &[b"0123456789"]).unwrap();
    for start in 0..=10_u64 {
        for end in start..=10 {
            let expected = &b"0123456789"[start as usize..end as usize];
            assert_eq!(range(backend, &object, start, end).unwrap(), expected);
        }
    }
    let refused = [(0, 11), (9, 11), (10, 11), (11, 11), (11, 12), (0, 1 << 60), (3, u64::MAX)];
    for (start, end) in refused.into_iter().chain([(u64::MAX, u64::MAX), (5, 4), (11, 2)]) {
        let refused = kind(range(backend, &object, start, end));
        assert_eq!(refused, ErrorKind::OutOfRange, "{start}..{end} of 10 bytes");
    }
}

fn reused_buffers(backend: &dyn Backend) {
    let object = name("packs/a");
    backend.put(&object, &[b"0123456789"]).unwrap();
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"what was here before, and longer");
    let (memory, capacity) = (out.as_ptr(), out.capacity());
    for (start, end) in [(2, 5), (0, 10), (7, 7), (9, 10)] {
        backend.get_range(&object, start..end, &mut out).unwrap();
        assert_eq!(out, b"0123456789"[start as usize..end as usize]);
        assert_eq!((out.as_ptr(), out.capacity()), (memory, capacity), "memory is not reused");
    }
    out.extend_from_slice(b"rest");
    assert!(backend.get_range(&object, 5..11, &mut out).is_err());
    assert_eq!(out, b"", "after an error the buffer is empty");
}

fn bytes_max(backend: &dyn Backend) {
    let object = name("keys/a");
    backend.put(&object, &[b"12345"]).unwrap();
    for max in [5, 6, u64::MAX] {
        assert_eq!(backend.get(&object, max).unwrap(), b"12345");
    }
    for max in [0, 4] {
        assert_eq!(kind(backend.get(&object, max)), ErrorKind::OutOfRange, "at most {max}");
    }
}

fn listing_by_prefix(backend: &dyn Backend) {
    let objects =
        ["config", "index/a", "index/b", "index-2", "packs/s1/a", "packs/s1/b", "packs/s2/a"];
    for (bytes, object) in objects.into_iter().enumerate() {
        backend.put(&name(object), &[&vec![0; bytes]]).unwrap();
    }
    for prefix in ["", "index/", "packs/", "packs/s1/", "packs/s3/", "absent/", "config/"] {
        let expected: BTreeMap<_, _> = (0_u64..)
            .zip(objects)
            .filter(|(_, object)| object.starts_with(prefix))
            .map(|(bytes, object)| (name(object), bytes))
            .collect();
        assert_eq!(listing(backend, prefix), expected, "below {prefix:?}");
    }
}

fn many_objects(backend: &dyn Backend) {
    let mut expected = BTreeMap::new();
    for i in 0..600_u64 {
        let object = name(&format!("packs/{:x}/{i:032x}", i % 7));
        backend.put(&object, &[&i.to_le_bytes()]).unwrap();
        expected.insert(object, 8);
    }
    assert_eq!(listing(backend, "packs/"), expected);
    let mut out = Vec::new();
    for object in expected.keys().rev() {
        backend.get_range(object, 0..8, &mut out).unwrap();
        let i = u64::from_le_bytes(out.as_slice().try_into().unwrap());
        assert!(object.as_str().ends_with(&format!("{i:032x}")), "{object} holds {i:x}");
    }
}

fn ages(backend: &dyn Backend) {
    let names = ["sessions/c", "sessions/b", "sessions/a"];
    for object in names {
        backend.put(&name(object), &[b"x"]).unwrap();
    }
    let mut modified = BTreeMap::new();
    let list = backend.list("sessions/", &mut |listed| {
        modified.insert(listed.name, listed.modified);
    });
    list.unwrap();
    let ages = names.map(|object| modified[&name(object)]);
    assert!(ages.is_sorted(), "{ages:?} do not ascend in the order of puts");
}

fn invalid_prefixes(backend: &dyn Backend) {
    backend.put(&name("packs/a"), &[b"x"]).unwrap();
    for prefix in ["packs", "pa", "/", "packs//", "../", "/packs/", "Packs/", "packs/./"] {
        let refused = backend.list(prefix, &mut |listed| panic!("{prefix:?} shows {listed:?}"));
        assert_eq!(kind(refused), ErrorKind::Failed, "{prefix:?}");
    }
}

fn names_at_limits(backend: &dyn Backend) {
    let longest = "x".repeat(255);
    let deepest = "a/b/c/d/e/f/g/h";
    let both = format!("{}{}", "z/".repeat(7), "y".repeat(255 - 14));
    let mut expected = BTreeMap::new();
    for object in ["-", "0", "--a-", &longest, deepest, &both] {
        let object = name(object);
        assert_eq!(backend.put(&object, &[b"123"]).unwrap(), PutOutcome::Created, "{object}");
        assert_eq!(backend.get(&object, 3).unwrap(), b"123", "{object}");
        expected.insert(object, 3);
    }
    assert_eq!(listing(backend, ""), expected);
    for object in ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "A", "a_b", "a.b", "é", "a\0"]
    {
        assert_eq!(ObjectName::new(object), None, "{object:?}");
    }
    assert_eq!(ObjectName::new(&"x".repeat(256)), None);
    assert_eq!(ObjectName::new("a/b/c/d/e/f/g/h/i"), None);
}

fn removing(backend: &dyn Backend) {
    let (object, other) = (name("packs/s/a"), name("packs/s/b"));
    backend.remove(&object).unwrap();
    backend.put(&object, &[b"first"]).unwrap();
    backend.put(&other, &[b"other"]).unwrap();
    assert_eq!(range(backend, &object, 0, 5).unwrap(), b"first");
    for _ in 0..2 {
        backend.remove(&object).unwrap();
        assert_eq!(kind(backend.get(&object, 10)), ErrorKind::NotFound);
        assert_eq!(kind(range(backend, &object, 0, 5)), ErrorKind::NotFound);
        assert_eq!(kind(backend.stat(&object)), ErrorKind::NotFound);
        assert_eq!(names(backend, ""), ["packs/s/b"]);
    }
    assert_eq!(backend.put(&object, &[b"again"]).unwrap(), PutOutcome::Created);
    assert_eq!(range(backend, &object, 0, 5).unwrap(), b"again");
    assert_eq!(backend.get(&other, 10).unwrap(), b"other");
}

fn settling(backend: &dyn Backend) {
    backend.put(&name("packs/a/b"), &[b"x"]).unwrap();
    for prefix in ["packs/a/", "packs/", "packs/none/", "none/", ""] {
        backend.settle(prefix).unwrap();
    }
    assert_eq!(names(backend, ""), ["packs/a/b"]);
}

fn errors_explain(backend: &dyn Backend) {
    let error = backend.get(&name("packs/absent"), 1).unwrap_err();
    assert_eq!(error.object, "packs/absent");
    assert_eq!(error.location, backend.location());
    let expected = format!("cannot read packs/absent in {}", backend.location());
    assert_eq!(error.to_string(), expected);
    assert!(!backend.location().is_empty());
}

fn many_threads(backend: &dyn Backend) {
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                for i in 0..20 {
                    let object = name(&format!("packs/{}/{thread}-{i}", i % 3));
                    let bytes = pattern(1000 + i * 100, thread << 32 | i as u64);
                    assert_eq!(backend.put(&object, &[&bytes]).unwrap(), PutOutcome::Created);
                    assert!(range(backend, &object, 3, 1000).unwrap() == bytes[3..1000]);
                    assert!(listing(backend, "packs/").contains_key(&object));
                    if i % 2 == 0 {
                        backend.remove(&object).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(listing(backend, "").len(), 80);
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T, BackendError>) -> ErrorKind {
    result.expect_err("this must be refused").kind
}

fn range(
    backend: &dyn Backend,
    name: &ObjectName,
    start: u64,
    end: u64,
) -> Result<Vec<u8>, BackendError> {
    let mut out = Vec::new();
    backend.get_range(name, start..end, &mut out).map(|()| out)
}

/// Names and lengths below `prefix`; none may be shown twice.
fn listing(backend: &dyn Backend, prefix: &str) -> BTreeMap<ObjectName, u64> {
    let mut found = BTreeMap::new();
    let list = backend.list(prefix, &mut |listed| {
        let earlier = found.insert(listed.name.clone(), listed.bytes);
        assert_eq!(earlier, None, "{} is listed twice", listed.name);
    });
    list.unwrap();
    found
}

fn names(backend: &dyn Backend, prefix: &str) -> Vec<String> {
    listing(backend, prefix).into_keys().map(|name| name.to_string()).collect()
}

/// Bytes that look random and differ by seed.
fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| next()).collect();
    out.truncate(bytes);
    out
}
