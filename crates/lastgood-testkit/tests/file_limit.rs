//! What happens when a process may open no more files. Its own binary: the limit is the process's.

use std::fs::File;

use lastgood_backend::local::LocalBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName, PutOutcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn too_many_open_files_is_told_apart_and_transient() {
    let home = tempfile::tempdir().unwrap();
    let backend = LocalBackend::create(&home.path().join("repo")).unwrap();
    let name = |text: &str| ObjectName::new(text).unwrap();
    backend.put(&name("packs/a"), &[b"a"]).unwrap();

    let current = Some(64);
    setrlimit(Resource::Nofile, Rlimit { current, ..getrlimit(Resource::Nofile) }).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    // With every number of files left until it works: no call may fail in another way.
    let mut failures = 0;
    loop {
        let results = [
            backend.get(&name("packs/a"), 1).map(drop),
            backend.put(&name("packs/b"), &[b"b"]).map(drop),
            backend.list("", &mut |_| ()),
            backend.remove(&name("packs/absent")),
        ];
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.kind, ErrorKind::TooManyOpen, "{error}: {}", error.source);
            assert!(error.is_transient());
        }
        failures += results.iter().filter(|result| result.is_err()).count();
        if results.iter().all(Result::is_ok) {
            break;
        }
        drop(hoard.pop().unwrap());
    }
    assert!(failures >= 4, "every call failed once: {failures}");
    assert_eq!(backend.put(&name("packs/b"), &[b"b"]).unwrap(), PutOutcome::Exists);
}
