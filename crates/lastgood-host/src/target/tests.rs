use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::metadata::{ApplyPolicy, Metadata};
use lastgood_format::entry::{Node, Timestamp};

const POLICY: ApplyPolicy = ApplyPolicy { owner: true, special: true };

/// A target, and beside it what must never change.
struct World {
    dir: tempfile::TempDir,
    target: Target,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("sub/deeper")).unwrap();
        fs::write(outside.join("secret"), "untouched").unwrap();
        fs::write(outside.join("sub/secret"), "untouched").unwrap();
        fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o604)).unwrap();
        let target = Target::open(&dir.path().join("target")).unwrap();
        Self { dir, target }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("target").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// All that could change outside, ctime included.
    fn state(&self) -> BTreeMap<PathBuf, String> {
        let mut state = BTreeMap::new();
        let mut paths = vec![self.outside()];
        while let Some(path) = paths.pop() {
            let stat = fs::symlink_metadata(&path).unwrap();
            let ctime = (stat.ctime(), stat.ctime_nsec(), stat.mode(), stat.nlink(), stat.len());
            state.insert(path.clone(), format!("{ctime:?}"));
            if stat.is_dir() {
                paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        state
    }
}

fn metadata<'a>() -> Metadata<'a> {
    Metadata {
        mode: 0o777,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp { seconds: 1, nanos: 2 },
        flags: 0,
        xattrs: &[],
    }
}

type Operation = fn(&TargetDirectory, &[u8]);

/// Everything that can be done to a name. Whether it succeeds depends on what bears the name.
const OPERATIONS: [(&str, Operation); 19] = [
    ("enter and create", |target, name| {
        if let Ok(directory) = target.enter(name) {
            drop(directory.create_file(b"planted"));
        }
    }),
    ("enter or create", |target, name| {
        if let Ok((directory, _)) = target.enter_or_create(name) {
            drop(directory.create_file(b"planted"));
        }
    }),
    ("descend", |target, name| {
        if let Ok(directory) = target.descend(&[name, b"sub"].join(&b'/')) {
            drop(directory.create_file(b"planted"));
        }
    }),
    ("descend further", |target, name| {
        if let Ok(directory) = target.descend(&[name, b"sub", b"deeper"].join(&b'/')) {
            drop(directory.apply(&metadata(), POLICY));
        }
    }),
    ("create a directory", |target, name| {
        if let Ok(directory) = target.create_directory(name) {
            drop(directory.apply(&metadata(), POLICY));
        }
    }),
    ("replace with a directory", |target, name| {
        if let Ok(directory) = target.replace_with_directory(name) {
            directory.create_file(b"planted").unwrap();
        }
    }),
    ("create a file", |target, name| {
        if let Ok(file) = target.create_file(name) {
            file.write_at(b"planted", 0).unwrap();
        }
    }),
    ("open a file", |target, name| {
        if let Ok(file) = target.open_file(name) {
            file.write_at(b"planted", 0).unwrap();
            file.set_len(0).unwrap();
        }
    }),
    ("create a link", |target, name| {
        drop(target.create_symlink(name, b"x"));
    }),
    ("create a pipe", |target, name| {
        drop(target.create_special(name, &Node::Fifo));
    }),
    ("create a socket", |target, name| {
        drop(target.create_special(name, &Node::Socket));
    }),
    ("apply to the node", |target, name| {
        if let Ok(node) = target.open_node(name) {
            drop(node.apply(&metadata(), POLICY));
        }
    }),
    ("link from it", |target, name| {
        drop(target.hard_link(b"second name", target, name));
    }),
    ("link to it", |target, name| {
        target.create_file(b"first name").unwrap();
        target.hard_link(name, target, b"first name").ok();
    }),
    ("rename over it", |target, name| {
        target.create_file(b"new").unwrap().write_at(b"planted", 0).unwrap();
        target.rename(b"new", name).ok();
        if let Ok(file) = target.open_file(name) {
            file.write_at(b"more", 0).unwrap();
        }
    }),
    ("rename beside it", |target, name| {
        target.create_directory(b"new").unwrap();
        target.rename_no_replace(b"new", name).ok();
    }),
    ("unlock", |target, name| drop(target.unlock_entry(name))),
    ("remove the entry", |target, name| {
        drop(target.remove_entry(name));
    }),
    ("remove the tree", |target, name| {
        target.remove_tree(name, &mut drop);
    }),
];

/// Links that lead out of the target, by every way out there is.
const PLANTS: [(&str, &str); 12] = [
    ("a directory outside", "../outside"),
    ("a directory outside by way of the target", "../target/../outside"),
    ("a directory further outside", "../outside/sub"),
    ("a file outside", "../outside/secret"),
    ("nothing yet, outside", "../outside/planted"),
    ("a directory that is not there, outside", "../outside/none/planted"),
    ("the parent", ".."),
    ("the root", "/"),
    ("an open file of ours", "/proc/self/cwd"),
    ("itself", "name"),
    ("a link to a directory outside", "chain"),
    ("below a link to a directory outside", "chain/sub"),
];

#[test]
fn no_operation_follows_a_planted_link() {
    let mut layouts = 0;
    for (what, leads_to) in PLANTS {
        for (operation, run) in OPERATIONS {
            // In the target itself, and in a directory of it.
            for place in ["", "inner"] {
                let world = World::new();
                if !place.is_empty() {
                    fs::create_dir(world.at(place)).unwrap();
                }
                let up = if place.is_empty() { "" } else { "../" };
                let leads_to = match leads_to {
                    "../outside" if layouts % 2 == 0 => world.outside().display().to_string(),
                    relative if relative.starts_with("..") => format!("{up}{relative}"),
                    other => other.to_owned(),
                };
                symlink(format!("{up}../outside"), world.at(place).join("chain")).unwrap();
                symlink(&leads_to, world.at(place).join("name")).unwrap();
                let before = world.state();
                let directory = world.target.directory(place.as_bytes()).unwrap();
                run(&directory, b"name");
                assert_eq!(world.state(), before, "{operation} at a link to {what}: {leads_to}");
                layouts += 1;
            }
        }
    }
    assert!(layouts >= 40);
}

#[test]
fn a_link_in_the_middle_of_a_path_is_not_followed() {
    for position in 0..4 {
        let world = World::new();
        let names = ["a", "b", "c", "d"];
        let mut path = PathBuf::new();
        for (level, name) in names.iter().enumerate() {
            if level == position {
                // The rest of the path exists beyond the link.
                let rest: PathBuf = names[level + 1..].iter().collect();
                fs::create_dir_all(world.outside().join(rest)).unwrap();
                symlink(world.outside(), world.at("").join(&path).join(name)).unwrap();
                break;
            }
            path.push(name);
            fs::create_dir(world.at("").join(&path)).unwrap();
        }
        assert!(world.at("a/b/c/d").is_dir());
        let error = world.target.directory(b"a/b/c/d").unwrap_err();
        assert!(error.is_not_directory(), "{error:?}");
        let relative = b"a/b/c/d";
        let steps = crate::sys::open_beneath_by_steps(world.target.root().source().fd(), relative);
        assert!(steps.is_err());
    }
}

#[test]
fn hostile_names_are_refused_by_every_operation() {
    let long = [b'x'; 256];
    let names: [&[u8]; 12] = [
        b"",
        b".",
        b"..",
        b"/",
        b"a/b",
        b"/etc",
        b"../outside",
        b"../outside/secret",
        b"a/",
        b"a\0b",
        b"..\0",
        &long,
    ];
    for name in names {
        for (operation, run) in OPERATIONS {
            let world = World::new();
            fs::create_dir(world.at("a")).unwrap();
            let before = world.state();
            run(world.target.root(), name);
            assert_eq!(world.state(), before, "{operation} {:?}", name.escape_ascii().to_string());
            assert_eq!(fs::read_dir(world.at("a")).unwrap().count(), 0);
        }
        let world = World::new();
        let root = world.target.root();
        assert!(root.create_file(name).is_err());
        assert!(root.create_directory(name).is_err());
        assert!(root.open_node(name).is_err());
        if !name.is_empty() {
            assert!(root.descend(name).is_err());
        }
    }
}

#[test]
fn a_racing_swapper_never_leads_outside() {
    const ROUNDS: u32 = 3000;
    let world = World::new();
    fs::create_dir_all(world.at("real/sub/deeper")).unwrap();
    fs::write(world.at("real/secret"), "ours").unwrap();
    symlink(world.outside(), world.at("evil")).unwrap();
    fs::rename(world.at("real"), world.at("name")).unwrap();
    let before = world.state();
    let over = AtomicBool::new(false);
    let entered = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // The name is now the directory, now the link; the other waits under `real`/`evil`.
                for (from, to) in
                    [("name", "real"), ("evil", "name"), ("name", "evil"), ("real", "name")]
                {
                    fs::rename(world.at(from), world.at(to)).unwrap();
                }
            }
        });
        let root = world.target.root();
        let mut entered = 0;
        for round in 0..ROUNDS {
            let name = format!("file {round}");
            let directory = match round % 3 {
                0 => root.enter(b"name"),
                1 => root.descend(b"name/sub"),
                _ => root.descend(b"name/sub/deeper"),
            };
            if let Ok(directory) = directory {
                entered += 1;
                let file = directory.create_file(name.as_bytes()).unwrap();
                file.write_at(b"planted", 0).unwrap();
                assert!(file.apply(&metadata(), POLICY).is_empty());
                assert!(directory.apply(&metadata(), POLICY).is_empty());
            }
            if let Ok(file) = root.open_node(b"name") {
                drop(file.apply(&metadata(), POLICY));
            }
            drop(root.unlock_entry(b"name"));
        }
        over.store(true, Ordering::Relaxed);
        entered
    });
    assert_eq!(world.state(), before);
    assert!(entered > 0, "the swapper was never caught at the directory");
}

#[test]
fn a_racing_swapper_never_diverts_a_removal() {
    const ROUNDS: u32 = 150;
    let world = World::new();
    symlink(world.outside(), world.at("evil")).unwrap();
    let before = world.state();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Some of these fail, whatever was removed first.
                fs::rename(world.at("tree/sub"), world.at("aside")).ok();
                fs::rename(world.at("evil"), world.at("tree/sub")).ok();
                fs::rename(world.at("tree/sub"), world.at("evil")).ok();
                fs::rename(world.at("aside"), world.at("tree/sub")).ok();
                if !world.at("evil").is_symlink() {
                    symlink(world.outside(), world.at("evil")).ok();
                }
            }
        });
        for _ in 0..ROUNDS {
            // By handles too: by path, this test itself would follow the link.
            if let Ok((tree, _)) = world.target.root().enter_or_create(b"tree")
                && let Ok((sub, _)) = tree.enter_or_create(b"sub")
            {
                drop(sub.create_directory(b"deeper"));
                drop(sub.create_file(b"secret"));
            }
            world.target.root().remove_tree(b"tree", &mut drop);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(world.state(), before);
}

#[test]
fn another_name_outside_is_told_before_it_is_written() {
    let world = World::new();
    fs::hard_link(world.outside().join("secret"), world.at("name")).unwrap();
    let file = world.target.root().open_file(b"name").unwrap();
    assert_eq!(file.stat().unwrap().links, 2);
    // The way to change it: a new file over the name.
    let temporary = temporary_name(7);
    let new = world.target.root().create_file(&temporary).unwrap();
    new.write_at(b"new", 0).unwrap();
    world.target.root().rename(&temporary, b"name").unwrap();
    assert_eq!(fs::read(world.at("name")).unwrap(), b"new");
    assert_eq!(fs::read(world.outside().join("secret")).unwrap(), b"untouched");
    assert_eq!(file.stat().unwrap().links, 1);
}

#[test]
fn removing_a_locked_name_leaves_the_mode_of_its_other_names() {
    let world = World::new();
    fs::hard_link(world.outside().join("secret"), world.at("name")).unwrap();
    let root = world.target.root();
    let wanted = Metadata { mode: 0o444, flags: crate::metadata::flags::APPEND, ..metadata() };
    if !root.open_file(b"name").unwrap().apply(&wanted, POLICY).is_empty() {
        return;
    }
    root.remove_entry(b"name").unwrap();
    let stat = fs::metadata(world.outside().join("secret")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.nlink()), (0o444, 1));
}

#[test]
fn hard_links_share_one_file() {
    let world = World::new();
    let root = world.target.root();
    let inner = root.create_directory(b"inner").unwrap();
    root.create_file(b"one").unwrap().write_at(b"shared", 0).unwrap();
    inner.hard_link(b"two", root, b"one").unwrap();
    assert_eq!(fs::read(world.at("inner/two")).unwrap(), b"shared");
    assert!(inner.hard_link(b"two", root, b"one").unwrap_err().is_exists());
    root.create_symlink(b"link", b"one").unwrap();
    inner.hard_link(b"link", root, b"link").unwrap();
    assert_eq!(fs::read_link(world.at("inner/link")).unwrap(), Path::new("one"));
    assert_eq!(root.source().stat(b"one").unwrap().links, 2);
}

#[test]
fn files_are_written_out_of_order_and_sparse() {
    let world = World::new();
    let root = world.target.root();
    let file = root.create_file(b"file").unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_at(b"end", (8 << 20) - 3).unwrap();
    file.write_at(b"start", 0).unwrap();
    let stat = file.stat().unwrap();
    assert!(stat.size == 8 << 20 && stat.is_sparse() && stat.allocated_bytes() <= 64 << 10);
    let mut buffer = [1; 8];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
    assert_eq!(&buffer, b"start\0\0\0");
    assert_eq!(file.read_at(&mut buffer, (8 << 20) - 3).unwrap(), 3);

    file.write_at(&[7; 1 << 20], 1 << 20).unwrap();
    let full = file.stat().unwrap().blocks;
    file.punch_hole((1 << 20) + 1..(2 << 20) - 1).unwrap();
    file.punch_hole((8 << 20) - 2..u64::MAX).unwrap();
    assert!(file.stat().unwrap().blocks < full);
    assert_eq!(file.stat().unwrap().size, 8 << 20);
    let bytes = fs::read(world.at("file")).unwrap();
    assert_eq!(&bytes[(1 << 20) - 1..(1 << 20) + 2], [0, 7, 0]);
    assert_eq!(&bytes[(2 << 20) - 2..=2 << 20], [0, 7, 0]);
    assert_eq!(&bytes[(8 << 20) - 3..], b"e\0\0");
    file.write_zeros(0..100_000).unwrap();
    assert_eq!(fs::read(world.at("file")).unwrap()[..5], [0; 5]);
    assert!(file.set_len(1 << 62).is_err() || file.stat().unwrap().size == 1 << 62);
    world.target.sync_filesystem().unwrap();
}

#[test]
fn a_new_file_belongs_to_its_owner_only() {
    let world = World::new();
    let file = world.target.root().create_file(b"file").unwrap();
    assert_eq!(file.stat().unwrap().mode, 0o600);
    let directory = world.target.root().create_directory(b"directory").unwrap();
    assert_eq!(directory.source().own_stat().unwrap().mode, 0o700);
    assert!(file.apply(&metadata(), POLICY).is_empty());
    assert_eq!(file.stat().unwrap().mode, 0o777);
}

#[test]
fn what_is_there_is_opened_only_as_what_it_is() {
    let world = World::new();
    let root = world.target.root();
    root.create_special(b"fifo", &Node::Fifo).unwrap();
    root.create_directory(b"directory").unwrap();
    root.create_symlink(b"link", b"file").unwrap();
    root.create_file(b"file").unwrap();
    for name in ["fifo", "directory", "link", "nothing"] {
        assert!(root.open_file(name.as_bytes()).is_err(), "{name}");
    }
    for name in ["fifo", "link", "file", "nothing"] {
        assert!(root.enter(name.as_bytes()).is_err(), "{name}");
    }
    assert!(root.open_file(b"nothing").unwrap_err().is_not_found());
    assert!(root.open_file(b"link").unwrap_err().is_not_directory());
    assert!(root.create_special(b"x", &Node::Symlink { target: b"a"[..].into() }).is_err());
    let (_, created) = root.enter_or_create(b"directory").unwrap();
    assert!(!created);
    let (_, created) = root.enter_or_create(b"another").unwrap();
    assert!(created);
    assert!(root.enter_or_create(b"link").is_err());
    root.replace_with_directory(b"link").unwrap().create_file(b"inside").unwrap();
    assert!(root.replace_with_directory(b"directory").is_err());
    assert!(root.remove_entry(b"directory").is_err());
}

#[test]
fn names_move_and_are_kept() {
    let world = World::new();
    let root = world.target.root();
    root.create_file(b"old").unwrap().write_at(b"old", 0).unwrap();
    root.create_file(b"new").unwrap().write_at(b"new", 0).unwrap();
    assert!(root.rename_no_replace(b"new", b"old").unwrap_err().is_exists());
    root.rename(b"new", b"old").unwrap();
    assert_eq!(fs::read(world.at("old")).unwrap(), b"new");
    root.rename_no_replace(b"old", b"free").unwrap();
    assert!(root.rename(b"old", b"x").unwrap_err().is_not_found());
}

#[test]
fn a_directory_that_shuts_out_its_owner_is_unlocked() {
    let world = World::new();
    let root = world.target.root();
    root.create_directory(b"shut").unwrap().create_file(b"inside").unwrap();
    for mode in [0o000, 0o300, 0o500] {
        fs::set_permissions(world.at("shut"), fs::Permissions::from_mode(mode)).unwrap();
        root.unlock_entry(b"shut").unwrap();
        let directory = root.enter(b"shut").unwrap();
        directory.remove_entry(b"inside").unwrap();
        let file = directory.create_file(b"inside").unwrap();
        assert_eq!(directory.source().own_stat().unwrap().mode, 0o700);
        fs::set_permissions(world.at("shut/inside"), fs::Permissions::from_mode(0o040)).unwrap();
        directory.unlock_entry(b"inside").unwrap();
        assert_eq!(file.stat().unwrap().mode, 0o640);
        directory.open_file(b"inside").unwrap();
        fs::set_permissions(world.at("shut"), fs::Permissions::from_mode(0o500)).unwrap();
        directory.unlock().unwrap();
    }
    fs::set_permissions(world.at("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(root.remove_tree(b"shut", &mut |error| panic!("{error:?}")), 2);
}

#[test]
fn a_tree_is_removed_whole_and_nothing_beside_it() {
    let world = World::new();
    for path in ["tree/a/b/c", "tree/a/d", "tree/e", "beside/tree"] {
        fs::create_dir_all(world.at(path)).unwrap();
        fs::write(world.at(path).join("file"), "x").unwrap();
        symlink(world.outside(), world.at(path).join("link")).unwrap();
    }
    let before = world.state();
    let root = world.target.root();
    assert_eq!(root.remove_tree(b"tree", &mut |error| panic!("{error:?}")), 12);
    assert!(!world.at("tree").exists());
    assert!(world.at("beside/tree/file").exists());
    assert_eq!(world.state(), before);
    assert_eq!(root.remove_tree(b"nothing", &mut |error| panic!("{error:?}")), 0);
    root.create_file(b"file").unwrap();
    assert_eq!(root.remove_tree(b"file", &mut |error| panic!("{error:?}")), 1);
}

#[test]
fn a_wide_and_deep_tree_is_removed_with_few_open_files() {
    let world = World::new();
    let root = world.target.root();
    let mut directory = root.create_directory(b"d").unwrap();
    for _ in 0..100 {
        for name in [b"a", b"z"] {
            directory.create_directory(name).unwrap().create_file(b"file").unwrap();
        }
        directory = directory.create_directory(b"d").unwrap();
    }
    let mut open_files = 0;
    let counted = fs::read_dir("/proc/self/fd").unwrap().count();
    assert_eq!(root.remove_tree(b"d", &mut |error| panic!("{error:?}")), 100 * 5 + 1);
    open_files += fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open_files <= counted + 200, "tests run beside each other, so this is rough");
    assert_eq!(fs::read_dir(world.at("")).unwrap().count(), 0);
}

#[test]
fn a_target_is_made_with_all_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    assert!(Target::open_existing(&path).unwrap_err().is_not_found());
    let target = Target::open(&path).unwrap();
    assert_eq!(target.root().path(), path);
    // The user's own links are the user's business.
    symlink(&path, dir.path().join("link")).unwrap();
    Target::open(&dir.path().join("link")).unwrap().root().create_file(b"file").unwrap();
    assert!(path.join("file").exists());
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(
        Target::open(&dir.path().join("file/x")).unwrap_err().path,
        dir.path().join("file/x")
    );
}

#[test]
fn temporary_names_are_known_again() {
    let names = [0, 1, 0x0123_4567_89ab_cdef, u64::MAX].map(temporary_name);
    assert!(names.iter().all(|name| is_temporary_name(name)));
    assert_eq!(&*names[2], b".lastgood-0123456789abcdef.part");
    for name in [".lastgood-.part", ".lastgood-0123456789ABCDEF.part", "x.part", ".lastgood"] {
        assert!(!is_temporary_name(name.as_bytes()), "{name}");
    }
}
