//! What files are and look like: links, attributes, modes, holes, special files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use lastgood_mirror::Mirror;
use lastgood_mirror::thin::drop_version;

use crate::world::{World, tree};

#[test]
fn case_06_hard_links_are_hard_links_everywhere() {
    let mut world = World::new();
    let link = |world: &World, from: &str, to: &str| {
        fs::hard_link(world.source(from), world.source(to)).unwrap();
    };
    let run = |world: &mut World, bytes_written: u64| {
        let report = world.run();
        assert_eq!(report.bytes_written, bytes_written, "version {}", world.versions.len());
        assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    };
    world.write("a", b"shared");
    link(&world, "a", "b");
    world.write("alone", b"alone");
    run(&mut world, 11);
    // Another name, also of what had one only.
    link(&world, "a", "d");
    link(&world, "alone", "not");
    run(&mut world, 0);
    // Other metadata, and one name less.
    fs::set_permissions(world.source("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.source("b")).unwrap();
    run(&mut world, 0);
    // Moved together, and a name more.
    fs::rename(world.source("a"), world.source("a2")).unwrap();
    fs::rename(world.source("d"), world.source("d2")).unwrap();
    link(&world, "a2", "e");
    run(&mut world, 0);
    assert_eq!(world.names(&world.folder_of(2)), Vec::<String>::new());
    // Parted: the same bytes, but no more the same file; one alone is touched.
    fs::copy(world.source("e"), world.source("copy")).unwrap();
    fs::rename(world.source("copy"), world.source("e")).unwrap();
    fs::set_permissions(world.source("e"), fs::Permissions::from_mode(0o640)).unwrap();
    run(&mut world, 6);
    // Another content, written through one name.
    fs::write(world.source("a2"), b"other").unwrap();
    run(&mut world, 5);
    // Joined again, with another file.
    fs::remove_file(world.source("not")).unwrap();
    link(&world, "a2", "not");
    run(&mut world, 0);
    // All but one go.
    fs::remove_file(world.source("a2")).unwrap();
    fs::remove_file(world.source("d2")).unwrap();
    run(&mut world, 0);
    world.check();
    // History shares no file with what lies open to edits.
    let inode = |path: &str| fs::metadata(world.mirror(path)).unwrap().ino();
    let open: Vec<u64> =
        world.names("latest").iter().map(|name| inode(&format!("latest/{name}"))).collect();
    for (name, _) in &world.versions {
        for kept in world.names(name) {
            assert!(!open.contains(&inode(&format!("{name}/{kept}"))), "{kept} of {name}");
        }
    }
    for index in [2, 4] {
        let gone = world.versions.remove(index).0;
        let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
        drop_version(&mirror, &gone, false).unwrap();
    }
    world.check();
}

#[test]
fn case_07_links_are_never_followed() {
    let mut world = World::new();
    world.write("d/f", b"1");
    let outside = world.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), b"untouched").unwrap();
    world.run();
    // Somebody puts a link where the mirror has a directory.
    fs::remove_dir_all(world.mirror("latest/d")).unwrap();
    symlink(&outside, world.mirror("latest/d")).unwrap();
    world.write("d/f", b"2222");
    world.run();
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"untouched");
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    assert_eq!(
        fs::read_link(world.mirror(".lastgood/conflicts").join(world.folder_of(1)).join("d"))
            .unwrap(),
        outside
    );
}

#[test]
fn case_08_attributes_of_each_version_come_back() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let mut world = World::new();
    world.write("a", b"1");
    let set = |value: &[u8]| setxattr(world.source("a"), "user.note", value, XattrFlags::empty());
    if set(b"first").is_err() {
        // Nothing to keep where the file system of the tests has no attributes.
        return;
    }
    world.run();
    setxattr(world.source("a"), "user.note", b"second\n", XattrFlags::empty()).unwrap();
    let report = world.run();
    assert_eq!((report.unchanged, report.bytes_written), (1, 0));
    let read = |path: std::path::PathBuf| {
        let mut value = [0; 64];
        let length = getxattr(path, "user.note", &mut value).unwrap();
        value[..length].to_vec()
    };
    assert_eq!(read(world.mirror("latest/a")), b"second\n");
    for (index, value) in [&b"first"[..], b"second\n"].into_iter().enumerate() {
        let to = tempfile::tempdir().unwrap();
        let name = world.folder_of(index);
        world.restore(&name, "", &to.path().join("ours"));
        assert_eq!(read(to.path().join("ours/a")), value);
        let by_script = to.path().join("by-script");
        world.script("restore.py", &[name.as_ref(), by_script.as_ref()]);
        assert_eq!(read(by_script.join("a")), value);
    }
    world.check();
}

#[test]
fn case_09_permissions_do_not_lock_us_out() {
    let mut world = World::new();
    world.write("d/f", b"1");
    let mode = |path: std::path::PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(world.source("d/f"), 0o000);
    mode(world.source("d"), 0o500);
    world.run();
    assert_eq!(fs::metadata(world.mirror("latest/d")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(world.mirror("latest/d/f")).unwrap().mode() & 0o777, 0o400);
    mode(world.source("d"), 0o755);
    mode(world.source("d/f"), 0o644);
    world.write("d/f", b"2");
    world.run();
    world.check();
}

#[test]
fn case_13_a_change_of_metadata_is_a_version_without_bytes() {
    let mut world = World::new();
    world.write("run.sh", b"#!/bin/sh");
    world.run();
    fs::set_permissions(world.source("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let report = world.run();
    assert_eq!((report.unchanged, report.bytes_written), (1, 0));
    assert!(report.version.is_some() && !world.mirror(&world.folder_of(0)).exists());
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    world.check();
}

#[test]
fn case_14_sparse_files_stay_sparse() {
    let mut world = World::new();
    let file = fs::File::create(world.source("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"middle", 32 << 20).unwrap();
    drop(file);
    world.run();
    let allocated = fs::metadata(world.mirror("latest/sparse")).unwrap().blocks() * 512;
    assert!(allocated < 1 << 20, "{allocated} bytes");
    assert_eq!(world.verify().damaged, Vec::<Box<[u8]>>::new());
}

#[test]
fn case_37_special_files_are_in_the_records_only() {
    let mut world = World::new();
    world.write("a", b"1");
    let fifo = world.source("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    world.run();
    assert_eq!(world.names("latest"), ["a"]);
    fs::remove_file(&fifo).unwrap();
    world.write("pipe", b"a file now");
    world.run();
    world.check();
}
