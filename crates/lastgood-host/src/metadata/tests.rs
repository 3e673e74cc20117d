use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::identity::is_root;
use crate::scan::{Directory, Stat};
use crate::source::SourceFile;
use crate::target::{Target, TargetDirectory};
use lastgood_format::entry::{DeviceNumber, Node};

const ALL: ApplyPolicy = ApplyPolicy { owner: true, special: true };
const NOT_SPECIAL: ApplyPolicy = ApplyPolicy { owner: true, special: false };

/// `u::rw-, u:1234:r--, g::r--, m::rw-, o::---` as the kernel has it.
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\
    \x02\0\x04\0\xd2\x04\0\0\
    \x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x06\0\xff\xff\xff\xff\
    \x20\0\0\0\xff\xff\xff\xff";

/// `cap_net_raw=ep`, revision 2.
const NET_RAW: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

struct World {
    _dir: tempfile::TempDir,
    target: Target,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(dir.path()).unwrap();
        Self { _dir: dir, target }
    }

    fn root(&self) -> &TargetDirectory {
        self.target.root()
    }

    fn directory(&self) -> &Directory {
        self.root().source()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root().path().join(name)
    }

    fn stat(&self, name: &str) -> Stat {
        self.directory().stat(name.as_bytes()).unwrap()
    }

    fn details(&self, name: &str) -> Details {
        let details = self.directory().details(name.as_bytes(), &self.stat(name));
        assert!(details.unread.is_empty(), "{:?}", details.unread);
        details
    }

    /// Creates a file, gives it `wanted` and returns what was not set, most of all aspects.
    fn file(&self, name: &str, wanted: &Metadata<'_>, policy: ApplyPolicy) -> Vec<Unset> {
        self.root().create_file(name.as_bytes()).unwrap().apply(wanted, policy)
    }
}

fn plain<'a>() -> Metadata<'a> {
    Metadata {
        mode: 0o640,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp { seconds: 1_234_567_890, nanos: 987_654_321 },
        flags: 0,
        xattrs: &[],
    }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().into(), value: value.into() }
}

fn aspects(unset: &[Unset]) -> Vec<Aspect> {
    unset.iter().map(|unset| unset.aspect.clone()).collect()
}

#[track_caller]
fn assert_all_set(unset: &[Unset]) {
    assert!(unset.is_empty(), "{unset:?}");
}

#[test]
fn times_come_back_to_the_nanosecond() {
    let world = World::new();
    let times = [
        (0, 0),
        (0, 1),
        (1_234_567_890, 999_999_999),
        (-1, 999_999_999),
        (-1, 1),
        (-2_000_000_000, 500_000_000),
        (4_294_967_296, 7),
    ];
    for (number, (seconds, nanos)) in times.into_iter().enumerate() {
        let wanted = Metadata { mtime: Timestamp { seconds, nanos }, ..plain() };
        let name = format!("file {number}");
        assert_all_set(&world.file(&name, &wanted, ALL));
        assert_eq!(world.stat(&name).mtime, wanted.mtime);
        let name = format!("directory {number}");
        let directory = world.root().create_directory(name.as_bytes()).unwrap();
        assert_all_set(&directory.apply(&wanted, ALL));
        assert_eq!(world.stat(&name).mtime, wanted.mtime);
        let name = format!("link {number}");
        let link = world.root().create_symlink(name.as_bytes(), b"nowhere").unwrap();
        assert_all_set(&link.apply(&wanted, ALL));
        assert_eq!(world.stat(&name).mtime, wanted.mtime);
    }
}

#[test]
fn times_that_cannot_be_are_listed() {
    let world = World::new();
    let mtime = Timestamp { seconds: 0, nanos: 1_073_741_823 };
    let unset = world.file("now", &Metadata { mtime, ..plain() }, ALL);
    assert_eq!(aspects(&unset), [Aspect::Times]);
    let mtime = Timestamp { seconds: i64::MAX, nanos: 0 };
    let unset = world.file("never", &Metadata { mtime, ..plain() }, ALL);
    assert!(unset.is_empty() == (world.stat("never").mtime == mtime), "{unset:?}");
}

#[test]
fn xattrs_come_back_and_no_others_stay() {
    let world = World::new();
    let large = vec![0xa5; 3000];
    let wanted = [xattr("user.a", b"1"), xattr("user.empty", b""), xattr("user.large", &large)];
    let wanted = Metadata { xattrs: &wanted, ..plain() };
    let file = world.root().create_file(b"file").unwrap();
    let first = [xattr("user.a", b"other"), xattr("user.surplus", b"x")];
    assert_all_set(&file.apply(&Metadata { xattrs: &first, ..plain() }, ALL));
    assert_all_set(&file.apply(&wanted, ALL));
    // Also when it is read-only by now, and its owner no root.
    let read_only = Metadata { mode: 0o400, ..wanted };
    assert_all_set(&file.apply(&read_only, ALL));
    assert_all_set(&file.apply(&Metadata { xattrs: &first, ..read_only }, ALL));
    assert_all_set(&file.apply(&read_only, ALL));
    assert_eq!(world.stat("file").mode, 0o400);
    assert_eq!(world.details("file").xattrs.as_deref(), Some(wanted.xattrs));
    let source = SourceFile::open(world.directory(), b"file").unwrap();
    assert_eq!(source.details().xattrs.as_deref(), Some(wanted.xattrs));

    let directory = world.root().create_directory(b"directory").unwrap();
    assert_all_set(&directory.apply(&Metadata { mode: 0o700, ..wanted }, ALL));
    assert_eq!(world.details("directory").xattrs.as_deref(), Some(wanted.xattrs));
    assert_eq!(directory.source().own_details().xattrs.as_deref(), Some(wanted.xattrs));
    assert_all_set(&directory.apply(&plain(), ALL));
    assert_eq!(world.details("directory").xattrs, None);
}

#[test]
fn acls_come_back_with_their_mask() {
    let world = World::new();
    let acl = [xattr("system.posix_acl_access", ACL)];
    let wanted = Metadata { mode: 0o660, xattrs: &acl, ..plain() };
    assert_all_set(&world.file("file", &wanted, ALL));
    assert_eq!(world.stat("file").mode, 0o660);
    assert_eq!(world.details("file").xattrs.as_deref(), Some(&acl[..]));

    let both = [xattr("system.posix_acl_access", ACL), xattr("system.posix_acl_default", ACL)];
    let directory = world.root().create_directory(b"directory").unwrap();
    assert_all_set(
        &directory.apply(&Metadata { mode: 0o2660 | 0o700, xattrs: &both[1..], ..plain() }, ALL),
    );
    // What a new file inherits goes, because it is not wanted.
    let file = directory.create_file(b"file").unwrap();
    let inherited = directory.source().details(b"file", &file.stat().unwrap());
    assert!(inherited.xattrs.is_some());
    assert_all_set(&file.apply(&plain(), ALL));
    let stat = file.stat().unwrap();
    assert_eq!(stat.mode, 0o640);
    assert_eq!(directory.source().details(b"file", &stat).xattrs, None);
    assert_all_set(&directory.apply(&Metadata { mode: 0o660, xattrs: &both, ..plain() }, ALL));
    assert_eq!(world.details("directory").xattrs.as_deref(), Some(&both[..]));
}

#[test]
fn flags_come_back_where_the_file_system_has_them() {
    let world = World::new();
    let wanted = Metadata { flags: flags::NODUMP | flags::NOATIME, ..plain() };
    let unset = world.file("file", &wanted, ALL);
    if !unset.is_empty() {
        assert_eq!(aspects(&unset), [Aspect::Flags]);
        return;
    }
    assert_eq!(world.details("file").flags, wanted.flags);
    let directory = world.root().create_directory(b"directory").unwrap();
    assert_all_set(&directory.apply(&Metadata { mode: 0o700, ..wanted }, ALL));
    assert_eq!(world.details("directory").flags & wanted.flags, wanted.flags);
    // Inherited, and not wanted here.
    let file = directory.create_file(b"file").unwrap();
    assert_all_set(&file.apply(&plain(), ALL));
    let details = directory.source().details(b"file", &file.stat().unwrap());
    assert_eq!(details.flags, 0);
}

#[test]
fn an_immutable_file_is_changed_and_immutable_again() {
    let world = World::new();
    let wanted = Metadata { flags: flags::IMMUTABLE | flags::NODUMP, ..plain() };
    let unset = world.file("file", &wanted, ALL);
    if !is_root() {
        // As much of it as a user may have.
        assert_eq!(aspects(&unset), [Aspect::Flags]);
        assert_eq!(world.details("file").flags & !flags::NODUMP, 0);
        return;
    }
    if !unset.is_empty() {
        return;
    }
    assert_eq!(world.details("file").flags, wanted.flags);
    assert!(world.root().open_file(b"file").unwrap_err().is_denied());
    world.root().unlock_entry(b"file").unwrap();
    let file = world.root().open_file(b"file").unwrap();
    file.write_at(b"new", 0).unwrap();
    assert_all_set(&file.apply(&wanted, ALL));
    // Metadata alone needs no unlocking.
    let other = Metadata { mode: 0o600, flags: flags::APPEND, ..plain() };
    assert_all_set(&file.apply(&other, ALL));
    assert_eq!((world.stat("file").mode, world.details("file").flags), (0o600, flags::APPEND));
    // A locked directory too, and both go when they are to go.
    let directory = world.root().create_directory(b"directory").unwrap();
    let inside = directory.create_file(b"inside").unwrap();
    assert_all_set(&inside.apply(&wanted, ALL));
    assert_all_set(&directory.apply(&Metadata { mode: 0o500, ..wanted }, ALL));
    assert!(directory.create_file(b"more").unwrap_err().is_denied());
    directory.unlock().unwrap();
    directory.create_file(b"more").unwrap();
    assert_all_set(&directory.apply(&wanted, ALL));
    let removed = world.root().remove_tree(b"directory", &mut |error| panic!("{error:?}"));
    assert_eq!(removed, 3);
    world.root().remove_entry(b"file").unwrap();
}

#[test]
fn setuid_survives_the_change_of_owner_and_goes_without_it() {
    let world = World::new();
    let wanted = Metadata { mode: 0o6755, ..plain() };
    assert_all_set(&world.file("own", &wanted, ALL));
    assert_eq!(world.stat("own").mode, 0o6755);

    let unset = world.file("withheld", &wanted, NOT_SPECIAL);
    assert_eq!(aspects(&unset), [Aspect::Setuid, Aspect::Setgid]);
    assert!(unset.iter().all(|unset| matches!(unset.reason, Reason::Withheld)));
    assert_eq!(world.stat("withheld").mode, 0o755);

    let foreign = Metadata { uid: 1234, gid: 4321, ..wanted };
    let unset = world.file("foreign", &foreign, ALL);
    let stat = world.stat("foreign");
    if is_root() {
        assert_all_set(&unset);
        assert_eq!((stat.uid, stat.gid, stat.mode), (1234, 4321, 0o6755));
    } else {
        let wanted = [Aspect::Owner, Aspect::Group, Aspect::Setuid, Aspect::Setgid];
        assert_eq!(aspects(&unset), wanted);
        assert_eq!(stat.mode, 0o755);
    }
    // Told to leave the owner alone, the file is ours, and so must not be setuid of somebody else.
    let unset = world.file("kept", &foreign, ApplyPolicy { owner: false, special: true });
    assert_eq!(aspects(&unset), [Aspect::Setuid, Aspect::Setgid]);
    assert_eq!(world.stat("kept").mode, 0o755);
    // On a directory these bits give nobody power.
    let directory = world.root().create_directory(b"directory").unwrap();
    assert_all_set(&directory.apply(&Metadata { mode: 0o3755, ..plain() }, NOT_SPECIAL));
    assert_eq!(world.stat("directory").mode, 0o3755);
}

#[test]
fn the_highest_owner_is_refused_and_not_taken_for_none() {
    let world = World::new();
    let unset = world.file("file", &Metadata { uid: u32::MAX, gid: u32::MAX, ..plain() }, ALL);
    assert_eq!(aspects(&unset), [Aspect::Owner, Aspect::Group]);
    assert_eq!(world.stat("file").mode, 0o640);
}

#[test]
fn capabilities_and_trusted_attributes_are_for_root_and_the_trusting() {
    let world = World::new();
    let power = [xattr("security.capability", NET_RAW), xattr("trusted.lastgood", b"t")];
    let wanted = Metadata { mode: 0o755, uid: 1234, xattrs: &power, ..plain() };
    let unset = world.file("withheld", &wanted, NOT_SPECIAL);
    let withheld = [Aspect::Capability, Aspect::Xattr(b"trusted.lastgood"[..].into())];
    assert!(aspects(&unset).ends_with(&withheld), "{unset:?}");
    assert_eq!(world.details("withheld").xattrs, None);
    let unset = world.file("given", &wanted, ALL);
    if !is_root() {
        assert!(aspects(&unset).ends_with(&withheld), "{unset:?}");
        return;
    }
    assert_all_set(&unset);
    assert_eq!(world.details("given").xattrs.as_deref(), Some(&power[..]));
    // A new owner would clear them, were they not set again.
    let file = world.root().open_file(b"given").unwrap();
    assert_all_set(&file.apply(&Metadata { uid: 4321, ..wanted }, ALL));
    assert_eq!(world.details("given").xattrs.as_deref(), Some(&power[..]));
    assert_all_set(&file.apply(&Metadata { xattrs: &[], ..wanted }, NOT_SPECIAL));
    assert_eq!(world.details("given").xattrs, None);
}

#[test]
fn links_pipes_sockets_and_devices_have_their_own_metadata() {
    let world = World::new();
    let root = world.root();
    fs::write(world.path("file"), "").unwrap();
    fs::set_permissions(world.path("file"), fs::Permissions::from_mode(0o604)).unwrap();
    let before = fs::metadata(world.path("file")).unwrap();
    let trusted = [xattr("trusted.lastgood", b"t")];
    let mut wanted = plain();
    if is_root() {
        wanted = Metadata { uid: 1234, gid: 4321, xattrs: &trusted, ..wanted };
    }
    let mut names = vec![("link", root.create_symlink(b"link", b"file").unwrap())];
    names.push(("fifo", root.create_special(b"fifo", &Node::Fifo).unwrap()));
    names.push(("socket", root.create_special(b"socket", &Node::Socket).unwrap()));
    let device = DeviceNumber { major: 1, minor: 3 };
    let device = root.create_special(b"device", &Node::CharDevice { device });
    match device {
        Ok(device) => names.push(("device", device)),
        Err(error) => assert!(!is_root() && error.is_denied()),
    }
    for (name, node) in &names {
        assert_all_set(&node.apply(&wanted, ALL));
        let stat = world.stat(name);
        let mode = if *name == "link" { 0o777 } else { 0o640 };
        assert_eq!((stat.mode, stat.mtime), (mode, wanted.mtime), "{name}");
        assert_eq!((stat.uid, stat.gid), (wanted.uid, wanted.gid), "{name}");
        let xattrs = world.details(name).xattrs;
        assert_eq!(xattrs.as_deref().unwrap_or_default(), wanted.xattrs, "{name}");
    }
    // Nothing of it reached what the link points to.
    let after = fs::metadata(world.path("file")).unwrap();
    assert_eq!((before.ctime_nsec(), before.mode()), (after.ctime_nsec(), after.mode()));
}

#[test]
fn a_link_has_no_details_of_what_it_points_to() {
    let world = World::new();
    let xattrs = [xattr("user.a", b"1")];
    assert_all_set(&world.file("file", &Metadata { xattrs: &xattrs, ..plain() }, ALL));
    symlink("file", world.path("link")).unwrap();
    let details = world.details("link");
    assert_eq!((details.flags, details.xattrs), (0, None));
}

#[test]
fn what_changed_its_kind_is_not_asked_for_details() {
    let world = World::new();
    assert_all_set(&world.file("name", &plain(), ALL));
    let stat = world.stat("name");
    fs::remove_file(world.path("name")).unwrap();
    world.root().create_special(b"name", &Node::Fifo).unwrap();
    let details = world.directory().details(b"name", &stat);
    assert_eq!(details.unread.len(), 1);
    assert_eq!(details.unread[0].path, world.path("name"));
}

#[test]
fn what_was_captured_is_what_is_applied() {
    let from = World::new();
    let xattrs = [xattr("system.posix_acl_access", ACL), xattr("user.a", b"1")];
    let wanted = Metadata { mode: 0o660, flags: flags::NODUMP, xattrs: &xattrs, ..plain() };
    assert!(aspects(&from.file("file", &wanted, ALL)).iter().all(|what| *what == Aspect::Flags));
    let entry = from.stat("file").entry(b"file", Node::Socket, from.details("file"));
    let to = World::new();
    let unset = to.file("file", &Metadata::from(&entry), ALL);
    assert_all_set(&unset);
    let again = to.stat("file").entry(b"file", Node::Socket, to.details("file"));
    assert_eq!(entry, again);
    assert!(Path::new("/proc/self/fd").exists(), "tests need /proc, as capture of links does");
}
