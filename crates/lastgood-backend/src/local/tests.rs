use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

struct World {
    _home: tempfile::TempDir,
    root: PathBuf,
    backend: LocalBackend,
}

fn world() -> World {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    let backend = LocalBackend::create(&root).unwrap();
    World { _home: home, root, backend }
}

/// A world whose root directory has `mode` and belongs to `uid` and `gid`.
fn world_of(mode: u32, uid: u32, gid: u32) -> World {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(mode)).unwrap();
    let backend = LocalBackend::create(&root).unwrap();
    World { _home: home, root, backend }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn list(backend: &LocalBackend, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    backend.list(prefix, &mut |listed| names.push(listed.name.to_string())).unwrap();
    names.sort();
    names
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[expect(clippy::print_stderr, reason = "says why a test does nothing")]
fn is_superuser() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        eprintln!("skipped: needs the superuser");
    }
    is
}

/// Every length around the limits of direct writes comes back, whatever the parts.
#[test]
fn lengths_around_direct_writes() {
    let w = world();
    let source: Vec<u8> = (0..9 << 20_u32).map(|i: u32| (i ^ (i >> 11)) as u8).collect();
    let lengths = [
        0,
        1,
        4095,
        4096,
        4097,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
        (4 << 20) - 1,
        4 << 20,
        (4 << 20) + 4096,
        (8 << 20) + 777,
    ];
    for length in lengths {
        let object = name(&format!("o/{length}"));
        let bytes = &source[3..3 + length];
        let (head, tail) = bytes.split_at(length / 3);
        assert_eq!(w.backend.put(&object, &[head, &[], tail]).unwrap(), PutOutcome::Created);
        assert!(w.backend.get(&object, length as u64).unwrap() == bytes, "length {length}");
        assert_eq!(w.backend.stat(&object).unwrap(), length as u64);
    }
    let many: Vec<&[u8]> = source[..3 << 20].chunks(997).collect();
    w.backend.put(&name("many"), &many).unwrap();
    assert!(w.backend.get(&name("many"), 3 << 20).unwrap() == source[..3 << 20]);
}

#[test]
fn a_put_leaves_one_file_and_no_temporary() {
    let w = world();
    w.backend.put(&name("a/b"), &[b"1"]).unwrap();
    w.backend.put(&name("a/b"), &[b"2"]).unwrap();
    assert_eq!(files_below(&w.root), [w.root.join("a/b")]);
    assert_eq!(fs::read(w.root.join("a/b")).unwrap(), b"1");
}

/// The way for file systems without unnamed files keeps the same promises.
#[test]
fn named_temporaries_work_the_same() {
    let w = world();
    let directory = w.backend.durable_directory("d").unwrap();
    let put = |bytes: &[u8]| w.backend.put_named(&directory, "o", &[bytes]).unwrap();
    assert_eq!(put(b"first"), PutOutcome::Created);
    assert_eq!(put(b"second"), PutOutcome::Exists);
    assert_eq!(fs::read(w.root.join("d/o")).unwrap(), b"first");
    assert_eq!(files_below(&w.root).len(), 1);

    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..16)
            .map(|i| {
                scope.spawn({
                    let (w, d) = (&w, &directory);
                    move || w.backend.put_named(d, "raced", &[&[i; 5000]]).unwrap()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|o| **o == PutOutcome::Created).count(), 1);
    assert_eq!(files_below(&w.root).len(), 2);
}

#[test]
fn what_a_crash_left_is_invisible_and_removed_when_stale() {
    let w = world();
    w.backend.put(&name("packs/a"), &[b"1"]).unwrap();
    fs::write(w.root.join("packs/.tmp-0123456789abcdef"), b"half").unwrap();
    fs::write(w.root.join(".tmp-1"), b"half").unwrap();
    fs::create_dir(w.root.join(".tmp-2")).unwrap();
    fs::create_dir(w.root.join("lost+found")).unwrap();
    fs::write(w.root.join("packs/NOTES.txt"), b"x").unwrap();
    assert_eq!(list(&w.backend, ""), ["packs/a"]);

    let changed = fs::metadata(w.root.join(".tmp-2")).unwrap().modified().unwrap();
    let day = Duration::from_secs(86400);
    assert_eq!(w.backend.remove_stale_temporaries(changed - day).unwrap(), 0);
    assert_eq!(w.backend.remove_stale_temporaries(changed + day).unwrap(), 3);
    assert_eq!(files_below(&w.root).len(), 2, "a foreign file is left alone");
}

#[test]
fn symbolic_links_are_not_followed() {
    let w = world();
    let outside = w.root.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    w.backend.put(&name("d/ok"), &[b"1"]).unwrap();
    symlink(outside.join("secret"), w.root.join("d/link")).unwrap();
    symlink(&outside, w.root.join("dir")).unwrap();

    for object in ["d/link", "dir/secret"] {
        let object = name(object);
        let failed = |e: BackendError| assert_eq!(e.kind, ErrorKind::Failed, "{object}");
        failed(w.backend.get(&object, 100).unwrap_err());
        failed(w.backend.get_range(&object, 0..1, &mut Vec::new()).unwrap_err());
        failed(w.backend.stat(&object).unwrap_err());
        failed(w.backend.put(&object, &[b"2"]).unwrap_err());
    }
    assert_eq!(w.backend.put(&name("dir/new"), &[b"2"]).unwrap_err().kind, ErrorKind::Failed);
    assert_eq!(w.backend.remove(&name("dir/secret")).unwrap_err().kind, ErrorKind::Failed);
    assert_eq!(list(&w.backend, ""), ["d/ok"]);
    w.backend.remove(&name("d/link")).unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_fifo_does_not_block_a_reader() {
    let w = world();
    rustix::fs::mknodat(&*w.backend.root, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(w.backend.get(&name("fifo"), 1).unwrap_err().kind, ErrorKind::Failed);
}

#[test]
fn an_object_and_a_directory_cannot_share_a_name() {
    let w = world();
    w.backend.put(&name("a/b"), &[b"1"]).unwrap();
    assert_eq!(w.backend.put(&name("a"), &[b"1"]).unwrap_err().kind, ErrorKind::Failed);
    assert_eq!(w.backend.put(&name("a/b/c"), &[b"1"]).unwrap_err().kind, ErrorKind::Failed);
}

#[test]
fn a_file_cut_short_is_out_of_range() {
    let w = world();
    w.backend.put(&name("o"), &[&[7; 100]]).unwrap();
    let mut out = Vec::new();
    w.backend.get_range(&name("o"), 0..100, &mut out).unwrap();
    File::options().write(true).open(w.root.join("o")).unwrap().set_len(50).unwrap();
    let error = w.backend.get_range(&name("o"), 0..100, &mut out).unwrap_err();
    assert_eq!((error.kind, out.len()), (ErrorKind::OutOfRange, 0));
}

#[test]
fn open_files_are_bounded_and_forgotten_when_removed() {
    let w = world();
    let mut out = Vec::new();
    for i in 0..200_u32 {
        let object = name(&format!("o{i}"));
        w.backend.put(&object, &[&i.to_le_bytes()]).unwrap();
        w.backend.get_range(&object, 0..4, &mut out).unwrap();
        assert_eq!(out, i.to_le_bytes());
    }
    w.backend.get_range(&name("o150"), 1..2, &mut out).unwrap();
    w.backend.remove(&name("o150")).unwrap();
    let error = w.backend.get_range(&name("o150"), 1..2, &mut out).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let held = fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let path = fs::read_link(entry.as_ref().unwrap().path()).unwrap_or_default();
        path.starts_with(&w.root) && path != w.root
    });
    assert_eq!(held.count(), 63);
}

#[test]
fn new_things_belong_to_the_user_alone() {
    let w = world();
    w.backend.put(&name("a/b/c"), &[b"1"]).unwrap();
    let mode = |path: &str| fs::metadata(w.root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!([mode(""), mode("a"), mode("a/b"), mode("a/b/c")], [0o700, 0o700, 0o700, 0o600]);
}

#[test]
fn a_group_that_may_write_shares_everything() {
    if !is_superuser() {
        return;
    }
    let w = world_of(0o770, 4321, 8765);
    w.backend.put(&name("a/b/c"), &[b"1"]).unwrap();
    let directory = w.backend.durable_directory("a/b").unwrap();
    w.backend.put_named(&directory, "d", &[b"1"]).unwrap();
    for (path, mode) in [("a", 0o2770), ("a/b", 0o2770), ("a/b/c", 0o640), ("a/b/d", 0o640)] {
        let meta = fs::metadata(w.root.join(path)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (mode, 4321, 8765), "{path}");
    }
}

#[test]
fn what_the_superuser_adds_belongs_to_the_owner() {
    if !is_superuser() {
        return;
    }
    let w = world_of(0o755, 4321, 8765);
    w.backend.put(&name("a/b"), &[b"1"]).unwrap();
    for (path, mode) in [("a", 0o700), ("a/b", 0o600)] {
        let meta = fs::metadata(w.root.join(path)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (mode, 4321, 8765), "{path}");
    }
}

#[test]
fn create_makes_directories_and_open_none() {
    let home = tempfile::tempdir().unwrap();
    let kind = |result: Result<LocalBackend, BackendError>| result.unwrap_err().kind;
    assert_eq!(kind(LocalBackend::open(&home.path().join("a"))), ErrorKind::NotFound);
    fs::write(home.path().join("file"), b"").unwrap();
    assert_eq!(kind(LocalBackend::create(&home.path().join("file"))), ErrorKind::Failed);
    for _ in 0..2 {
        LocalBackend::create(&home.path().join("a/b")).unwrap();
    }
    LocalBackend::open(&home.path().join("a/b")).unwrap();
}

#[test]
fn errors_name_what_they_are_about() {
    let w = world();
    let error = w.backend.get(&name("packs/a"), 1).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read packs/a in {}", w.root.display()));
    let error = w.backend.list("packs", &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot list packs in {}", w.root.display()));
}

/// What the system says becomes what a caller can do.
#[test]
fn kinds_of_errors() {
    let kind = |errno: Errno| error("", "", "", errno.into()).kind;
    for (errno, expected) in [
        (Errno::NOENT, ErrorKind::NotFound),
        (Errno::NOSPC, ErrorKind::NoSpace),
        (Errno::DQUOT, ErrorKind::NoSpace),
        (Errno::ACCESS, ErrorKind::Denied),
        (Errno::PERM, ErrorKind::Denied),
        (Errno::ROFS, ErrorKind::Denied),
        (Errno::MFILE, ErrorKind::TooManyOpen),
        (Errno::NFILE, ErrorKind::TooManyOpen),
        (Errno::INTR, ErrorKind::Transient),
        (Errno::AGAIN, ErrorKind::Transient),
        (Errno::TIMEDOUT, ErrorKind::Transient),
        (Errno::IO, ErrorKind::Failed),
        (Errno::LOOP, ErrorKind::Failed),
    ] {
        assert_eq!(kind(errno), expected, "{errno}");
    }
    // Of one object, it is that object which is lost.
    let w = world();
    let bad_sector = w.backend.read_error(&name("packs/a"), Errno::IO.into());
    assert_eq!(bad_sector.kind, ErrorKind::Unreadable);
}

/// Parts of all lengths, at all places in memory, some of which are written from where they are.
#[test]
fn parts_are_written_one_after_the_other_wherever_they_lie() {
    let world = world();
    let memory: Vec<u8> =
        (0..40_u32 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let aligned = memory.as_ptr().align_offset(4096);
    let part = |place: usize, length: usize| &memory[aligned + place..aligned + place + length];
    let cases: &[&[&[u8]]] = &[
        &[part(0, 17 << 20)],
        &[part(8192, 9 << 20), part(1, 100)],
        &[part(9000, 234), part(4096 + 234, 16 << 20), part(7, 70_000)],
        &[part(9000, 234), part(4096 + 235, 16 << 20), part(7, 70_000)],
        &[part(0, 4096), part(4096, 5 << 20), part(0, 0), part(4096, 5 << 20), part(3, 3)],
        &[part(0, 8 << 20), part(0, 8 << 20)],
        &[part(11, (8 << 20) + 1), part(4096, (4 << 20) + 4095), part(8191, (4 << 20) + 1)],
        &[part(5, 300)],
    ];
    for (number, parts) in cases.iter().enumerate() {
        let name = ObjectName::new(&format!("packs/{number}")).unwrap();
        assert_eq!(world.backend.put(&name, parts).unwrap(), PutOutcome::Created);
        let found = fs::read(world.root.join(name.as_str())).unwrap();
        assert!(found == parts.concat(), "case {number}");
    }
}

#[test]
fn long_ranges_read_the_same_from_the_cache_and_past_it() {
    let World { root, backend, .. } = &world();
    let name = ObjectName::new("packs/long").unwrap();
    let bytes: Vec<u8> =
        (0_u32..3 << 20).flat_map(|i| i.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let bytes = &bytes[..bytes.len() - 777];
    backend.put(&name, &[bytes]).unwrap();
    let path = root.join(name.as_str());
    let mut out = Vec::new();
    let length = bytes.len() as u64;
    for range in [0..length, 1..length, 4095..(5 << 20) + 1, (9 << 20) + 3..length] {
        for is_cached in [false, true, false] {
            if is_cached {
                drop(fs::read(&path).unwrap());
            } else {
                let file = File::open(&path).unwrap();
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
            backend.get_range(&name, range.clone(), &mut out).unwrap();
            assert!(out == bytes[range.start as usize..range.end as usize], "{range:?}");
        }
    }
    File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let cut = backend.get_range(&name, 0..length, &mut out).unwrap_err();
    assert_eq!(cut.kind, ErrorKind::OutOfRange);
}
