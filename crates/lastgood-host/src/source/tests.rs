use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use lastgood_format::entry::Node;

use super::*;
use crate::target::Target;

/// A temporary directory on `file_system`, `None` where this host has none.
fn on(file_system: &str) -> Option<tempfile::TempDir> {
    match file_system {
        "disk" => Some(tempfile::tempdir().unwrap()),
        "memory" => tempfile::tempdir_in("/dev/shm").ok(),
        _ => unreachable!(),
    }
}

fn open(dir: &Path, name: &str) -> Result<SourceFile, SourceError> {
    SourceFile::open(&Directory::open_root(dir).unwrap(), name.as_bytes())
}

/// Writes a page at each of `pages`, sets the length, and expects the map to show just that.
fn check_extents(file_system: &str, length: u64, pages: &[u64]) {
    const PAGE: u64 = 4096;
    let Some(dir) = on(file_system) else { return };
    let mut file = fs::File::create(dir.path().join("sparse")).unwrap();
    for &page in pages {
        file.seek(SeekFrom::Start(page)).unwrap();
        file.write_all(&[7; PAGE as usize]).unwrap();
    }
    file.set_len(length).unwrap();
    let source = open(dir.path(), "sparse").unwrap();
    let extents: Vec<Range<u64>> = source.extents().map(Result::unwrap).collect();
    let wanted: Vec<Range<u64>> =
        pages.iter().map(|&page| page..(page + PAGE).min(length)).collect();
    assert_eq!(extents, wanted, "{file_system}, {length} bytes");
    let mut buffer = [1; 16];
    let last = length.saturating_sub(16);
    assert_eq!(source.read_at(&mut buffer, last).unwrap() as u64, length.min(16));
    assert_eq!(source.finish().unwrap(), Stability::Stable);
}

#[test]
fn holes_are_found() {
    const MIB: u64 = 1 << 20;
    for file_system in ["disk", "memory"] {
        check_extents(file_system, 64 * MIB, &[]);
        check_extents(file_system, 64 * MIB, &[0]);
        check_extents(file_system, 64 * MIB, &[MIB, 5 * MIB, 64 * MIB - 4096]);
        check_extents(file_system, 64 * MIB + 17, &[8 * MIB]);
        check_extents(file_system, MIB + 4000, &[MIB]);
        // Beyond what four bytes can address.
        check_extents(file_system, 1 << 40, &[5 << 32, (1 << 40) - 4096]);
    }
    // As long as a file can be.
    check_extents("memory", i64::MAX as u64, &[1 << 30, (1 << 63) - (1 << 20)]);
}

#[test]
fn a_file_without_holes_is_one_range() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("full"), [7; 100_000]).unwrap();
    fs::write(dir.path().join("empty"), []).unwrap();
    let extents = |name| -> Vec<_> {
        open(dir.path(), name).unwrap().extents().map(Result::unwrap).collect::<Vec<_>>()
    };
    let whole = 0..100_000;
    assert_eq!(extents("full"), [whole]);
    assert_eq!(extents("empty"), []);
}

#[test]
fn a_map_of_a_file_that_is_cut_meanwhile_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shrinking");
    let mut file = fs::File::create(&path).unwrap();
    for page in 0..8 {
        file.seek(SeekFrom::Start(page << 20)).unwrap();
        file.write_all(&[7; 4096]).unwrap();
    }
    let source = open(dir.path(), "shrinking").unwrap();
    let mut extents = source.extents();
    assert_eq!(extents.next().unwrap().unwrap(), 0..4096);
    file.set_len(1 << 20).unwrap();
    assert!(extents.next().is_none());
    let mut buffer = [0; 16];
    assert_eq!(source.read_at(&mut buffer, 2 << 20).unwrap(), 0);
    assert!(matches!(source.finish().unwrap(), Stability::Changed(now) if now.size == 1 << 20));
}

#[test]
fn reading_fills_the_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|number| ((number * 7) >> 3) as u8).collect();
    fs::write(dir.path().join("file"), &bytes).unwrap();
    let source = open(dir.path(), "file").unwrap();
    let mut buffer = vec![0; 1_000_000];
    for (offset, wanted) in
        [(0, 1_000_000), (2_500_000, 500_000), (3_000_000, 0), (u64::MAX / 4, 0)]
    {
        assert_eq!(source.read_at(&mut buffer, offset).unwrap(), wanted);
        let from = (offset as usize).min(bytes.len());
        assert!(buffer[..wanted] == bytes[from..from + wanted]);
    }
}

#[test]
fn a_writer_is_noticed() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("grown", |path| {
            fs::write(path, "longer than it was").unwrap();
        }),
        ("emptied", |path| drop(fs::File::create(path).unwrap())),
        ("same size, other bytes, mtime set back", |path| {
            let mtime = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "54321").unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(mtime).unwrap();
        }),
        ("other mode", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("removed", |path| fs::remove_file(path).unwrap()),
    ];
    for (what, change) in changes {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        // Older than any tick of the clock that time stamps come from.
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        wait_for_a_later_ctime(dir.path(), &path);
        let source = open(dir.path(), "file").unwrap();
        change(&path);
        assert!(matches!(source.finish().unwrap(), Stability::Changed(_)), "{what}");
    }
}

/// Returns once a change made now gets another ctime than `path` has.
fn wait_for_a_later_ctime(dir: &Path, path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let ctime = |path: &Path| fs::metadata(path).map(|stat| (stat.ctime(), stat.ctime_nsec()));
    let probe = dir.join("probe");
    loop {
        fs::write(&probe, "").unwrap();
        if ctime(&probe).unwrap() > ctime(path).unwrap() {
            break;
        }
    }
}

#[test]
fn what_became_something_else_is_neither_waited_for_nor_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let target = Target::open(dir.path()).unwrap();
    target.root().create_special(b"fifo", &Node::Fifo).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("file"), "12345").unwrap();
    symlink("file", at("link")).unwrap();
    symlink("link", at("loop")).unwrap();
    let kinds = [
        ("fifo", Some(Kind::Fifo)),
        ("socket", None),
        ("directory", Some(Kind::Directory)),
        ("link", Some(Kind::Symlink)),
        ("loop", Some(Kind::Symlink)),
    ];
    for (name, kind) in kinds {
        match open(dir.path(), name) {
            Err(SourceError::ChangedKind { path, now }) => {
                assert_eq!((path, now), (at(name), kind), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    match open(Path::new("/dev"), "null") {
        Err(SourceError::ChangedKind { now: Some(Kind::CharDevice), .. }) => {}
        other => panic!("{other:?}"),
    }
    match open(dir.path(), "nothing") {
        Err(SourceError::Host(error)) => assert!(error.is_not_found()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unreadable_file_is_denied() {
    if crate::identity::is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::set_permissions(dir.path().join("file"), fs::Permissions::from_mode(0o000)).unwrap();
    match open(dir.path(), "file") {
        Err(SourceError::Host(error)) => assert!(error.is_denied()),
        other => panic!("{other:?}"),
    }
}
