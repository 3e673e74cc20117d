//! What is on the disk when the power goes right after a call returned.
//!
//! The disk is an image, mounted through a loop device. Whatever the file system had not sent to
//! it is missing from a copy of the image; mounting the copy replays the journal as after a cut.
//! Without the sync of the file all lengths are 0 in the copy, without that of the directory the
//! names are missing.

use std::ffi::OsStr;
use std::fs::{self, File};

use lastgood_backend::local::LocalBackend;
use lastgood_backend::{Backend, ErrorKind, ObjectName, PutOutcome};

use lastgood_testkit::machine::{Mounted, run};

#[test]
fn ext4_keeps_what_was_put() {
    check("mkfs.ext4", &["-qF"]);
}

#[test]
fn xfs_keeps_what_was_put() {
    check("mkfs.xfs", &["-q"]);
}

#[test]
fn btrfs_keeps_what_was_put() {
    check("mkfs.btrfs", &["-q"]);
}

fn check(mkfs: &str, options: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    File::create(path("disk")).unwrap().set_len(400 << 20).unwrap();
    let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    let disk = path("disk");
    arguments.push(disk.as_os_str());
    if !run(mkfs, &arguments) {
        return;
    }
    let mount = |image: &str| {
        Mounted::try_new(&["-o".as_ref(), "loop".as_ref(), path(image).as_os_str()], &path("mnt"))
    };

    let Some(mounted) = mount("disk") else { return };
    let repo = path("mnt/made/repo");
    let backend = LocalBackend::create(&repo).unwrap();
    let large = vec![0xa5; (3 << 20) + 17];
    let puts: [(&str, &[u8]); 6] = [
        ("packs/session/a", &large),
        ("packs/session/b", b"small"),
        ("index/a", b""),
        ("outcomes/a/b/c/d", b"deep"),
        ("config", &large[..5000]),
        ("packs/session/gone", &large),
    ];
    let name = |text: &str| ObjectName::new(text).unwrap();
    // The next call would sync what the last one forgot, so the power goes after each.
    for (count, (object, bytes)) in puts.into_iter().enumerate() {
        assert_eq!(backend.put(&name(object), &[bytes]).unwrap(), PutOutcome::Created);
        fs::copy(path("disk"), path(&format!("cut-{count}"))).unwrap();
    }
    backend.remove(&name("packs/session/gone")).unwrap();
    fs::copy(path("disk"), path("cut-removed")).unwrap();
    drop(backend);
    drop(mounted);

    let assert_kept = |backend: &dyn Backend, count: usize| {
        for (object, bytes) in &puts[..count] {
            let read = backend.get(&name(object), bytes.len() as u64);
            assert!(read.is_ok_and(|read| read == *bytes), "{object} is lost, cut after {count}");
        }
    };
    for count in 0..puts.len() {
        let _mounted = mount(&format!("cut-{count}")).unwrap();
        assert_kept(&LocalBackend::open(&repo).unwrap(), count + 1);
    }
    let _mounted = mount("cut-removed").unwrap();
    let backend = LocalBackend::open(&repo).unwrap();
    assert_kept(&backend, puts.len() - 1);
    let removed = backend.get(&name("packs/session/gone"), u64::MAX);
    assert_eq!(removed.unwrap_err().kind, ErrorKind::NotFound);
}
