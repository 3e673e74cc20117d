use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use lastgood_format::entry::{DeviceNumber, Node};

use super::*;
use crate::identity::is_root;
use crate::metadata::Details;
use crate::target::Target;

fn listing(directory: &Directory) -> Listing {
    directory.list(&mut ListBuffer::new()).unwrap()
}

fn stat_of(scanned: Scanned<'_>) -> Stat {
    match scanned.seen {
        Seen::Stat(stat) => stat,
        other => panic!("{:?}: {other:?}", scanned.name.escape_ascii().to_string()),
    }
}

/// Lists what holds `names` and expects just these, each once, in byte order.
fn check_names(names: &BTreeSet<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(dir.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let directory = Directory::open_root(dir.path()).unwrap();
    // Twice: the second listing starts over.
    for _ in 0..2 {
        let listing = listing(&directory);
        assert!(listing.names().eq(names.iter().map(Vec::as_slice)));
        for (index, scanned) in directory.scan(&listing).enumerate() {
            assert_eq!(listing.find(scanned.name), Some(index));
            assert!(matches!(listing.kind(index), None | Some(Kind::File)));
            let name = scanned.name;
            assert_eq!(stat_of(scanned).size, name.len() as u64);
        }
        assert_eq!(listing.find(b"not there"), None);
    }
}

#[test]
fn names_are_any_bytes() {
    let bytes = (1..=255u8).filter(|&byte| byte != b'/');
    let mut names: BTreeSet<Vec<u8>> = bytes.clone().map(|byte| vec![b'n', byte]).collect();
    names.extend(bytes.clone().filter(|&byte| byte != b'.').map(|byte| vec![byte]));
    names.extend(bytes.map(|byte| [b"same prefix ".as_slice(), &[byte]].concat()));
    check_names(&names);
}

#[test]
fn names_of_every_length_sort_by_bytes() {
    let lengths = 1..=255;
    let mut names: BTreeSet<Vec<u8>> = lengths.clone().map(|length| vec![b'a'; length]).collect();
    names.extend(lengths.map(|length| vec![0xff; length]));
    names.insert(b"...".to_vec());
    names.insert(b"aaaaaaa\x01".to_vec());
    names.insert(b"aaaaaaaa\x01".to_vec());
    check_names(&names);
}

#[test]
fn an_empty_directory_has_no_names() {
    check_names(&BTreeSet::new());
}

#[test]
fn a_directory_of_100_000_entries_is_listed_whole_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::open(dir.path()).unwrap();
    for number in 0..100_000u32 {
        let _file = target.root().create_file(format!("entry {number:06}").as_bytes()).unwrap();
    }
    let directory = Directory::open_root(dir.path()).unwrap();
    let listing = listing(&directory);
    assert_eq!(listing.len(), 100_000);
    assert_eq!(listing.name(99_999), b"entry 099999");
    let counts = std::thread::scope(|scope| {
        let halves = [0..50_000, 50_000..100_000];
        let threads = halves.map(|range| {
            let (directory, listing) = (&directory, &listing);
            scope.spawn(move || directory.scan_range(listing, range).map(stat_of).count())
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(counts, [50_000, 50_000]);
}

#[test]
fn two_threads_listing_one_handle_both_see_everything() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(dir.path().join(format!("a name to fill the buffer with {number}")), "").unwrap();
    }
    let directory = Directory::open_root(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(listing(&directory).len(), 3000)));
        }
    });
}

#[test]
fn every_kind_is_told_and_none_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::open(dir.path()).unwrap();
    let root = target.root();
    fs::write(dir.path().join("file"), "12345").unwrap();
    fs::create_dir(dir.path().join("directory")).unwrap();
    symlink("directory", dir.path().join("link")).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    root.create_special(b"fifo", &Node::Fifo).unwrap();
    let mut wanted = vec![
        ("directory", Kind::Directory),
        ("fifo", Kind::Fifo),
        ("file", Kind::File),
        ("link", Kind::Symlink),
        ("socket", Kind::Socket),
    ];
    if is_root() {
        let device = DeviceNumber { major: 7, minor: 300 };
        root.create_special(b"block", &Node::BlockDevice { device }).unwrap();
        root.create_special(b"char", &Node::CharDevice { device }).unwrap();
        wanted.insert(0, ("block", Kind::BlockDevice));
        wanted.insert(1, ("char", Kind::CharDevice));
        let block = fs::symlink_metadata(dir.path().join("block")).unwrap();
        assert!(block.file_type().is_block_device());
        let char = root.source().stat(b"char").unwrap();
        assert_eq!(char.special_node(), Some(Node::CharDevice { device }));
    }
    let directory = Directory::open_root(dir.path()).unwrap();
    let listing = listing(&directory);
    let seen: Vec<_> = directory
        .scan(&listing)
        .map(|scanned| (std::str::from_utf8(scanned.name).unwrap(), stat_of(scanned).kind))
        .collect();
    assert_eq!(seen, wanted);

    assert_eq!(&*directory.read_link(b"link").unwrap(), b"directory");
    assert!(directory.open_child(b"link").unwrap_err().is_not_directory());
    assert!(directory.open_child(b"file").unwrap_err().is_not_directory());
    assert!(directory.open_child(b"fifo").unwrap_err().is_not_directory());
    assert!(directory.open_child(b"nothing").unwrap_err().is_not_found());
}

#[test]
fn a_stat_becomes_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "12345").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    let directory = Directory::open_root(dir.path()).unwrap();
    let stat = directory.stat(b"file").unwrap();
    assert_eq!((stat.mode, stat.size, stat.links), (0o4751, 5, 1));
    assert_eq!(stat.special_node(), None);
    assert!(stat.hint.inode != 0 && stat.hint.device != 0);
    assert!(stat.same_file_system(&directory.own_stat().unwrap()));
    fs::hard_link(&path, dir.path().join("other")).unwrap();
    assert_eq!(directory.stat(b"other").unwrap().file_id(), stat.file_id());
    let entry = stat.entry(b"file", Node::Fifo, Details { flags: 64, ..Details::default() });
    assert_eq!((&*entry.name, entry.mode, entry.flags), (&b"file"[..], 0o4751, 64));
    assert_eq!((entry.uid, entry.gid, entry.mtime), (stat.uid, stat.gid, stat.mtime));
}

#[test]
fn a_name_removed_after_the_listing_has_vanished() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let directory = Directory::open_root(dir.path()).unwrap();
    let listing = listing(&directory);
    fs::remove_file(dir.path().join("b")).unwrap();
    let seen: Vec<_> = directory.scan(&listing).map(|scanned| scanned.seen).collect();
    assert!(matches!(seen[..], [Seen::Stat(_), Seen::Vanished, Seen::Stat(_)]), "{seen:?}");
}

#[test]
fn what_may_not_be_examined_is_reported_with_its_path() {
    if is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("file"), "").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o400)).unwrap();
    let directory = Directory::open_root(&locked).unwrap();
    let listing = listing(&directory);
    let scanned = directory.scan(&listing).next().unwrap();
    let Seen::Unreadable(error) = scanned.seen else { panic!("{:?}", scanned.seen) };
    assert!(error.is_denied() && error.path == locked.join("file"), "{error}");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(Directory::open_root(&locked).unwrap_err().is_denied());
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_path_longer_than_the_system_allows_is_reached() {
    const LEVELS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let name = [b'd'; 100];
    let target = Target::open(dir.path()).unwrap();
    let mut deepest = target.directory(b"").unwrap();
    for _ in 0..LEVELS {
        deepest = deepest.create_directory(&name).unwrap();
    }
    deepest.create_file(b"file").unwrap().write_at(b"deep", 0).unwrap();

    let root = Directory::open_root(dir.path()).unwrap();
    let relative = [&name[..]; LEVELS].join(&b'/');
    assert!(relative.len() > 30_000);
    let directory = root.open_descendant(&relative).unwrap();
    assert_eq!(
        directory.own_stat().unwrap().file_id(),
        deepest.source().own_stat().unwrap().file_id()
    );
    let by_steps = crate::sys::open_beneath_by_steps(root.fd(), &relative).unwrap();
    let by_steps = Directory::from_parts(by_steps, root.path().into());
    assert_eq!(by_steps.own_stat().unwrap(), directory.own_stat().unwrap());
    assert_eq!(directory.stat(b"file").unwrap().size, 4);
    let file = crate::source::SourceFile::open(&directory, b"file").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 4);
    assert_eq!(target.directory(&relative).unwrap().source().stat(b"file").unwrap().size, 4);

    let mut removed_problem = None;
    let removed = target.root().remove_tree(&name, &mut |error| removed_problem = Some(error));
    assert!(removed_problem.is_none(), "{removed_problem:?}");
    assert_eq!(removed, LEVELS as u64 + 1);
    assert!(listing(&root).is_empty());
}

#[test]
fn a_root_is_what_its_path_names() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("file"), "12345").unwrap();
    symlink("directory", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let kind = |path: &Path| match Root::open(path) {
        Ok(Root::Directory(directory)) => {
            assert_eq!(directory.path(), path);
            Ok(Kind::Directory)
        }
        Ok(Root::Entry(entry)) => {
            assert_eq!(entry.parent.stat(&entry.name).unwrap(), entry.stat);
            Ok(entry.stat.kind)
        }
        Err(error) => Err(error),
    };
    assert_eq!(kind(dir.path()).unwrap(), Kind::Directory);
    assert_eq!(kind(&at("directory")).unwrap(), Kind::Directory);
    assert_eq!(kind(&at("file")).unwrap(), Kind::File);
    assert_eq!(kind(&at("link")).unwrap(), Kind::Symlink);
    assert_eq!(kind(&at("dangling")).unwrap(), Kind::Symlink);
    assert_eq!(kind(&at("link/")).unwrap(), Kind::Directory);
    assert_eq!(kind(&at("link/.")).unwrap(), Kind::Directory);
    assert_eq!(kind(&at("directory/..")).unwrap(), Kind::Directory);
    for path in ["/", ".", "..", "src"] {
        assert_eq!(kind(Path::new(path)).unwrap(), Kind::Directory, "{path}");
    }
    assert_eq!(kind(Path::new("Cargo.toml")).unwrap(), Kind::File);
    assert_eq!(kind(Path::new("/dev/null")).unwrap(), Kind::CharDevice);
    assert!(kind(&at("nothing")).unwrap_err().is_not_found());
    assert!(kind(&at("file/")).unwrap_err().is_not_directory());
    assert_eq!(kind(&at("nothing")).unwrap_err().path, at("nothing"));
}
