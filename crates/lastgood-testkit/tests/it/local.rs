use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lastgood_backend::local::LocalBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName, PutOutcome};

use lastgood_testkit::machine::{Mounted, run};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn listed(backend: &dyn Backend) -> Vec<String> {
    let mut names = Vec::new();
    backend.list("", &mut |listed| names.push(listed.name.to_string())).unwrap();
    names
}

fn tmpfs(size: &str, at: &Path) -> Option<Mounted> {
    let options = format!("size={size}");
    Mounted::try_new(&["-t", "tmpfs", "-o", &options, "none"].map(AsRef::as_ref), at)
}

#[test]
fn a_full_disk_is_no_space_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    // Of the second write of the large object, a part fits.
    let Some(_disk) = tmpfs("7m", home.path()) else { return };
    let backend = LocalBackend::create(&home.path().join("repo")).unwrap();
    let part = vec![1; 2 << 20];
    backend.put(&name("packs/fits"), &[&part]).unwrap();
    for _ in 0..3 {
        let error = backend.put(&name("packs/large"), &[&part, &part, &part]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoSpace);
        assert_eq!(listed(&backend), ["packs/fits"]);
        assert_eq!(fs::read_dir(home.path().join("repo/packs")).unwrap().count(), 1);
    }
    // What did not fit is not in the way.
    assert_eq!(backend.put(&name("packs/large"), &[&part]).unwrap(), PutOutcome::Created);
    backend.remove(&name("packs/fits")).unwrap();
    assert_eq!(backend.put(&name("packs/fits"), &[&part]).unwrap(), PutOutcome::Created);
}

#[test]
fn a_read_only_disk_denies_changes_and_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let Some(_disk) = tmpfs("1m", home.path()) else { return };
    let backend = LocalBackend::create(&home.path().join("repo")).unwrap();
    backend.put(&name("packs/a"), &[b"a"]).unwrap();
    let at = home.path().as_os_str();
    assert!(run("mount", &["-o".as_ref(), "remount,ro".as_ref(), at]));
    for backend in [backend, LocalBackend::open(&home.path().join("repo")).unwrap()] {
        for object in ["packs/b", "b", "new/b"] {
            let error = backend.put(&name(object), &[b"b"]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{object}");
        }
        assert_eq!(backend.remove(&name("packs/a")).unwrap_err().kind, ErrorKind::Denied);
        assert_eq!(backend.get(&name("packs/a"), 1).unwrap(), b"a");
        assert_eq!(listed(&backend), ["packs/a"]);
    }
}

#[test]
fn a_directory_without_permission_denies() {
    if rustix::process::geteuid().is_root() {
        // To whom nothing is denied: covered by the read-only disk.
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let backend = LocalBackend::create(&home.path().join("repo")).unwrap();
    fs::set_permissions(home.path().join("repo"), Permissions::from_mode(0o500)).unwrap();
    assert_eq!(backend.put(&name("packs/b"), &[b"b"]).unwrap_err().kind, ErrorKind::Denied);
}

/// Two handles are two processes as far as this backend can tell.
#[test]
fn two_handles_work_on_one_directory() {
    let home = tempfile::tempdir().unwrap();
    let one = LocalBackend::create(&home.path().join("repo")).unwrap();
    let two = LocalBackend::open(&home.path().join("repo")).unwrap();
    assert_eq!(one.put(&name("packs/a"), &[b"one"]).unwrap(), PutOutcome::Created);
    assert_eq!(two.put(&name("packs/a"), &[b"two"]).unwrap(), PutOutcome::Exists);
    assert_eq!(two.get(&name("packs/a"), 3).unwrap(), b"one");
    two.remove(&name("packs/a")).unwrap();
    assert_eq!(one.get(&name("packs/a"), 3).unwrap_err().kind, ErrorKind::NotFound);
    // A directory that somebody took away is made again.
    fs::remove_dir(home.path().join("repo/packs")).unwrap();
    assert_eq!(one.put(&name("packs/a"), &[b"one"]).unwrap(), PutOutcome::Created);
    assert_eq!(listed(&two), ["packs/a"]);
}
