use std::sync::Arc;

use lastgood_backend::local::LocalBackend;
use lastgood_backend::memory::MemoryBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName};
use lastgood_testkit::backend_contract::check;
use lastgood_testkit::faulty::Faulty;
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
fn layers_keep_the_contract() {
    check(|| {
        let faulty: Arc<dyn Backend> = Arc::new(Faulty::new(Arc::new(MemoryBackend::new())));
        Box::new(Recording::new(faulty))
    });
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
