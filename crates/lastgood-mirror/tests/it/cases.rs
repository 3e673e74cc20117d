use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use lastgood_mirror::run::{Room, RunOptions, RunReport, run, subject};
use lastgood_mirror::thin::drop_version;
use lastgood_mirror::{Mirror, MirrorError};

use crate::world::{Names, World, tree};

#[test]
fn the_first_run_makes_a_plain_copy() {
    let mut world = World::new();
    world.write("a.txt", b"hello");
    world.write("sub/deep/b", &[7; 300_000]);
    world.write("empty", b"");
    symlink("a.txt", world.source("link")).unwrap();
    let odd = world.source("").join(std::ffi::OsStr::from_bytes(b"odd\xff \n\t\\name'\" *"));
    fs::write(&odd, b"odd").unwrap();
    world.write("-", b"dash");
    world.write("sub/-/x", b"dash");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o640)).unwrap();
    let report = world.run();
    assert_eq!((report.new, report.files, report.changed), (6, 6, 0));
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    world.check();
    // A second run without a change makes no version.
    let report = world.run();
    assert_eq!((report.version, report.unchanged, report.bytes_written), (None, 6, 0));
    world.check();
}

#[test]
fn what_changes_goes_and_comes_is_in_each_version_as_it_was() {
    let mut world = World::new();
    world.write("stays", b"1");
    world.write("changes", b"1");
    world.write("goes/x/y", b"1");
    world.run();
    world.write("changes", b"22");
    world.write("comes/x", b"new here");
    fs::remove_dir_all(world.source("goes")).unwrap();
    let report = world.run();
    assert_eq!((report.new, report.changed, report.deleted, report.unchanged), (1, 1, 1, 1));
    world.write("changes", b"333");
    fs::remove_dir_all(world.source("comes")).unwrap();
    world.run();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    assert_eq!(world.names(&world.folder_of(0)), ["changes", "goes", "goes/x", "goes/x/y"]);
    assert_eq!(fs::read(world.mirror(&world.folder_of(0)).join("changes")).unwrap(), b"1");
    world.check();
    let listed = world.script("restore.sh", &[]);
    assert_eq!(listed, world.script("restore.py", &[]));
    assert_eq!(listed.lines().count(), 3);
}

#[test]
fn one_file_of_one_version_comes_back() {
    let mut world = World::new();
    world.write("d/a", b"old");
    world.write("d/b", b"other");
    world.run();
    world.write("d/a", b"new");
    world.run();
    let to = tempfile::tempdir().unwrap();
    world.restore(&world.folder_of(0), "d/a", &to.path().join("one"));
    assert_eq!(fs::read(to.path().join("one/a")).unwrap(), b"old");
    world.restore(&world.folder_of(0), "d", &to.path().join("two"));
    assert_eq!(tree(&to.path().join("two")).len(), 3);
    for script in ["restore.sh", "restore.py"] {
        let (one, two) =
            (to.path().join(format!("1{script}")), to.path().join(format!("2{script}")));
        let name = world.folder_of(0);
        world.script(script, &[name.as_ref(), one.as_ref(), "d/a".as_ref()]);
        assert_eq!(
            tree(&one).into_iter().skip(1).collect::<Vec<_>>(),
            tree(&to.path().join("one")).into_iter().skip(1).collect::<Vec<_>>()
        );
        world.script(script, &[name.as_ref(), two.as_ref(), "d".as_ref()]);
        assert_eq!(tree(&two), tree(&to.path().join("two")));
    }
}

#[test]
fn case_02_a_reader_of_latest_never_misses_a_file() {
    use std::sync::atomic::{AtomicBool, Ordering};
    // `cargo xtask torture mirror-readers` asks for more of them.
    let asked = std::env::var("LASTGOOD_TORTURE").ok();
    let asked = asked.as_deref().and_then(|text| text.split_once('+')?.1.parse().ok());
    let rounds: u64 = asked.unwrap_or(25);
    let mut world = World::new();
    let names: Vec<String> = (0..40).map(|number| format!("f{number}")).collect();
    names.iter().for_each(|name| world.write(name, b"0"));
    world.run();
    let paths: Vec<_> = names.iter().map(|name| world.mirror("latest").join(name)).collect();
    let is_over = AtomicBool::new(false);
    let (misses, reads) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut misses, mut reads) = (0, 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                for path in &paths {
                    reads += 1;
                    misses += u64::from(fs::read(path).is_err());
                }
            }
            (misses, reads)
        });
        for round in 0..rounds {
            names.iter().for_each(|name| world.write(name, &[round as u8; 30]));
            assert_eq!(world.run().changed, names.len() as u64);
        }
        is_over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 1000, "{reads} reads");
    let replaced = rounds * names.len() as u64;
    assert_eq!(misses, 0, "of {reads} reads during {replaced} replacements");
    tell(&format!("{replaced} replacements: {reads} reads, none missed its file"));
}

/// Shows a figure to whoever runs the campaign.
#[expect(clippy::print_stdout, reason = "`cargo xtask torture mirror-readers` prints the figure")]
fn tell(figure: &str) {
    println!("{figure}");
}

#[test]
fn case_03_file_directory_and_link_turn_into_each_other() {
    let mut world = World::new();
    world.write("a", b"file");
    world.write("b/c/d", b"deep");
    symlink("a", world.source("l")).unwrap();
    world.run();
    let rounds: [fn(&World); 3] = [
        |world| {
            fs::remove_file(world.source("a")).unwrap();
            world.write("a/x/y", b"below");
            fs::remove_dir_all(world.source("b")).unwrap();
            world.write("b", b"flat");
            fs::remove_file(world.source("l")).unwrap();
            world.write("l/z", b"no link");
        },
        |world| {
            fs::remove_dir_all(world.source("a")).unwrap();
            symlink("b", world.source("a")).unwrap();
            fs::remove_file(world.source("b")).unwrap();
            fs::create_dir(world.source("b")).unwrap();
            fs::remove_dir_all(world.source("l")).unwrap();
            world.write("l", b"file");
        },
        |world| {
            fs::remove_file(world.source("a")).unwrap();
            world.write("a", b"file");
        },
    ];
    for round in rounds {
        round(&world);
        world.run();
        assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
        world.check();
    }
}

#[test]
fn case_04_what_was_created_later_is_absent_before() {
    let mut world = World::new();
    world.write("a", b"1");
    world.run();
    world.write("b", b"2");
    world.run();
    fs::remove_file(world.source("b")).unwrap();
    world.run();
    // It lived for one version, and is in one folder.
    assert_eq!(world.names(&world.folder_of(0)), [""; 0]);
    assert_eq!(world.names(&world.folder_of(1)), ["b"]);
    world.check();
}

#[test]
fn case_05_a_rename_costs_no_bytes() {
    let mut world = World::new();
    world.write("film", &[1; 100_000]);
    world.write("dir/one", &[2; 50_000]);
    world.write("dir/two", &[3; 50_000]);
    world.run();
    fs::rename(world.source("film"), world.source("cinema")).unwrap();
    fs::rename(world.source("dir"), world.source("folder")).unwrap();
    let report = world.run();
    assert_eq!((report.moved, report.new, report.deleted), (3, 0, 0));
    assert_eq!(report.bytes_written, 0);
    assert!(!world.mirror(&world.folder_of(0)).exists());
    world.check();
    // Places swapped, in a circle.
    fs::rename(world.source("cinema"), world.source("x")).unwrap();
    fs::rename(world.source("folder/one"), world.source("cinema")).unwrap();
    fs::rename(world.source("x"), world.source("folder/one")).unwrap();
    world.run();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    world.check();
    // When the bytes are replaced at last, they stay for all who refer to them.
    world.write("folder/two", b"new");
    world.write("cinema", b"new, too");
    world.run();
    world.check();
}

#[test]
fn case_05_moved_and_edited_is_both() {
    let mut world = World::new();
    world.write("old", b"before");
    world.run();
    fs::rename(world.source("old"), world.source("new")).unwrap();
    world.write("new", b"after the edit");
    world.write("old", b"something else");
    world.run();
    world.check();
}

#[test]
fn case_17_a_file_written_in_the_same_tick_is_read_again() {
    let mut world = World::new();
    world.write("a", b"1111");
    let before = fs::metadata(world.source("a")).unwrap();
    // The run is in the second of the write.
    world.set_clock(before.mtime() - 86_400);
    world.run();
    world.write("a", b"2222");
    let file = fs::File::options().write(true).open(world.source("a")).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    drop(file);
    let report = world.run();
    assert_eq!(report.changed, 1);
}

#[test]
fn case_18_unreadable_is_not_deleted() {
    if rustix::process::geteuid().is_root() {
        // Nothing is unreadable to root; a file in the place of a directory is, to a listing.
        return unreadable_as_another_user();
    }
    let mut world = World::new();
    unreadable(&mut world);
}

/// The same in a process that is not root.
fn unreadable_as_another_user() {
    let test = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("test");
    fs::copy(test, &copy).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.args(["--exact", "cases::case_18_unreadable_is_not_deleted"]);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let output = command.env("TMPDIR", folder.path()).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn unreadable(world: &mut World) {
    world.write("file", b"1");
    world.write("dir/x", b"2");
    world.write("gone", b"3");
    world.run();
    let mode = |path: &str, mode| {
        fs::set_permissions(world.source(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("file", 0o000);
    mode("dir", 0o000);
    fs::remove_file(world.source("gone")).unwrap();
    let report = world.run();
    assert_eq!((report.kept, report.deleted), (2, 1));
    let troubles: std::collections::BTreeSet<_> =
        world.troubles.0.lock().unwrap().iter().map(|trouble| trouble.path.clone()).collect();
    assert_eq!(troubles, [b"dir"[..].into(), b"file"[..].into()].into());
    assert_eq!(fs::read(world.mirror("latest/file")).unwrap(), b"1");
    assert_eq!(fs::read(world.mirror("latest/dir/x")).unwrap(), b"2");
    let mode = |path: &str, mode| {
        fs::set_permissions(world.source(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("file", 0o644);
    mode("dir", 0o755);
    assert_eq!(world.run().kept, 0);
    assert_eq!(world.verify().damaged, Vec::<Box<[u8]>>::new());
}

/// Runs where there is no more room than that; what that ended with.
fn run_in(world: &mut World, room: Room) -> Result<RunReport, MirrorError> {
    let options = RunOptions { room, ..world.next_options() };
    let subject = subject(&options.source).unwrap();
    let (mirror, _) = Mirror::open_or_create(&world.mirror(""), &subject).unwrap();
    run(&mirror, &options, &mut Names(&[]), &world.troubles)
}

#[test]
fn case_21_too_little_room_changes_nothing() {
    const RESERVE: u64 = 16 << 20;
    let mut world = World::new();
    world.write("a", &[1; 100_000]);
    world.run();
    let before = tree(&world.mirror("latest"));
    let room = |bytes| Room { bytes: RESERVE + bytes, entries: Some(10_000), block_bytes: 4096 };
    let is_full = |result| matches!(result, Err(MirrorError::NoSpace { .. }));
    world.write("b", &[2; 100_000]);
    assert!(is_full(run_in(&mut world, room(50_000))));
    fs::remove_file(world.source("b")).unwrap();
    // Small files take whole blocks, and directories take some as well.
    (0..50).for_each(|number| world.write(&format!("{number}/small"), b"1"));
    assert!(is_full(run_in(&mut world, room(390_000))));
    let few = Room { entries: Some(150), ..room(1 << 30) };
    let result = run_in(&mut world, few);
    assert!(matches!(result, Err(MirrorError::NoEntries { available: 150, .. })), "{result:?}");
    assert_eq!(tree(&world.mirror("latest")), before);
    // Holes take none, nor do further names of a file.
    let holes = fs::File::create(world.source("holes")).unwrap();
    holes.set_len(4 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&holes, b"1", 1 << 20).unwrap();
    world.write("names/0", &[3; 200_000]);
    (1..9).for_each(|number| {
        fs::hard_link(world.source("names/0"), world.source(&format!("names/{number}"))).unwrap();
    });
    run_in(&mut world, room(800_000)).unwrap();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    // What leaves needs directories to go to.
    (0..50).for_each(|number| fs::remove_file(world.source(&format!("{number}/small"))).unwrap());
    assert!(is_full(run_in(&mut world, room(200_000))));
    run_in(&mut world, room(300_000)).unwrap();
}

#[test]
fn case_22_two_runs_at_once_are_refused() {
    let mut world = World::new();
    world.write("a", b"1");
    world.run();
    let (held, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    assert!(matches!(world.try_run(), Err(MirrorError::Busy(_))));
    drop(held);
    world.run();
}

#[test]
fn case_23_a_clock_that_goes_back_keeps_names_and_order() {
    let mut world = World::new();
    for round in 0..4_u8 {
        world.write("a", &[round]);
        // The same second each time, then a year before.
        world.set_clock(if round < 3 { 4_000_000_000 } else { 3_970_000_000 });
        world.run();
    }
    let names: Vec<&str> = world.versions.iter().map(|(name, _)| name.as_str()).collect();
    let stem = names[0];
    assert_eq!(names, [stem.into(), format!("{stem}-2"), format!("{stem}-3"), format!("{stem}-4")]);
    world.check();
}

#[test]
fn case_24_any_version_but_the_newest_can_go() {
    let mut world = World::new();
    for round in 0..6_u8 {
        world.write("always", &[round; 100]);
        world.write(&format!("born{round}"), &[round; 50]);
        if round > 1 {
            fs::remove_file(world.source(&format!("born{}", round - 2))).unwrap();
            let (from, to) = (format!("moves{round}"), format!("moves{}", round + 1));
            fs::rename(world.source(&from), world.source(&to)).unwrap();
        } else {
            world.write("moves2", b"moves each time");
        }
        world.run();
    }
    let newest = world.folder_of(5);
    let remove = |name: &str| {
        let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
        drop_version(&mirror, name, false)
    };
    assert!(matches!(remove(&newest), Err(MirrorError::Newest(_))));
    assert!(matches!(remove("backup-none"), Err(MirrorError::NoVersion(_))));
    for index in [2, 2, 0, 1] {
        let (name, _) = world.versions[index].clone();
        let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
        let dropped = drop_version(&mirror, &name, false).unwrap();
        assert!(dropped.files_freed > 0, "{dropped:?}");
        drop(mirror);
        world.versions.remove(index);
        assert!(!world.mirror(&name).exists());
        world.check();
    }
    world.write("always", b"goes on");
    world.run();
    world.check();
}

#[test]
fn case_28_an_edit_in_latest_is_kept_aside_and_undone() {
    let mut world = World::new();
    world.write("a", b"true for a");
    world.write("b", b"true");
    world.write("d/c", b"true");
    world.run();
    fs::write(world.mirror("latest/a"), b"edited").unwrap();
    fs::remove_file(world.mirror("latest/b")).unwrap();
    fs::write(world.mirror("latest/new"), b"foreign").unwrap();
    fs::create_dir(world.mirror("latest/d/dir")).unwrap();
    fs::write(world.mirror("latest/d/dir/x"), b"foreign").unwrap();
    let report = world.run();
    assert_eq!(report.conflicts.len(), 4);
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    let aside = world.mirror(".lastgood/conflicts").join(world.folder_of(0));
    assert_eq!(fs::read(aside.join("a")).unwrap(), b"edited");
    assert_eq!(fs::read(aside.join("new")).unwrap(), b"foreign");
    assert_eq!(fs::read(aside.join("d/dir/x")).unwrap(), b"foreign");
    world.check();
    // Edited again while the source stays as it is: nothing of the first edit is written over.
    for (edit, aside) in [(b"first", "~"), (b"later", "~~")] {
        fs::write(world.mirror("latest/a"), edit).unwrap();
        assert_eq!(world.run().version, None);
        let folder = format!(".lastgood/conflicts/{}{aside}", world.folder_of(0));
        assert_eq!(fs::read(world.mirror(&folder).join("a")).unwrap(), edit);
    }
    world.check();
    // Edited, and due to change: what it was is lost, and nobody says otherwise.
    fs::write(world.mirror("latest/a"), b"edited again").unwrap();
    world.write("a", b"the next one");
    world.run();
    let report = world.verify();
    assert_eq!(report.lost, [(world.folder_of(0), b"a"[..].into())]);
    assert_eq!(report.damaged, Vec::<Box<[u8]>>::new());
}

#[test]
fn case_28_a_link_that_somebody_turned_elsewhere_is_an_edit() {
    let mut world = World::new();
    world.write("a", b"1");
    symlink("a", world.source("link")).unwrap();
    symlink("a", world.source("excluded")).unwrap();
    world.run();
    // As long as before, and as old.
    for name in ["link", "excluded"] {
        fs::remove_file(world.mirror("latest").join(name)).unwrap();
        symlink("b", world.mirror("latest").join(name)).unwrap();
    }
    world.excluded = vec!["excluded"];
    let report = world.run();
    assert_eq!(report.version, None);
    assert_eq!(report.conflicts, [b"excluded"[..].into(), b"link"[..].into()]);
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    for name in ["link", "excluded"] {
        let aside = world.mirror(".lastgood/conflicts").join(world.folder_of(0)).join(name);
        assert_eq!(fs::read_link(aside).unwrap(), std::path::Path::new("b"));
    }
    world.check();
}

#[test]
fn case_39_a_mirror_that_was_copied_elsewhere_is_a_mirror() {
    let mut world = World::new();
    world.write("d/a", b"1");
    world.run();
    world.write("d/a", b"22");
    world.run();
    let elsewhere = world.folder.path().join("elsewhere");
    crate::recorder::copy(&world.mirror(""), &elsewhere);
    fs::remove_dir_all(world.mirror("")).unwrap();
    fs::rename(&elsewhere, world.mirror("")).unwrap();
    world.check();
    world.write("d/a", b"333");
    assert_eq!(world.run().conflicts, Vec::<Box<[u8]>>::new());
    world.check();
}

#[test]
fn case_43_a_file_that_only_looks_as_if_it_had_moved_is_read() {
    let mut world = World::new();
    world.write("old", b"one content");
    let stat = fs::metadata(world.source("old")).unwrap();
    world.run();
    // The same inode, size and time under another name, and other bytes.
    fs::rename(world.source("old"), world.source("new")).unwrap();
    let file = fs::File::options().write(true).open(world.source("new")).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"two", 0).unwrap();
    file.set_modified(stat.modified().unwrap()).unwrap();
    drop(file);
    let report = world.run();
    assert_eq!((report.moved, report.new, report.deleted), (0, 1, 1));
    assert_eq!(fs::read(world.mirror("latest/new")).unwrap(), b"two content");
    world.check();
}

#[test]
fn case_42_what_rules_leave_out_is_not_deleted() {
    let mut world = World::new();
    world.write("cache/x", b"1");
    world.write("a", b"1");
    world.run();
    world.excluded = vec!["cache"];
    world.write("cache/x", b"changed");
    world.write("a", b"22");
    assert_eq!(world.run().deleted, 0);
    assert_eq!(fs::read(world.mirror("latest/cache/x")).unwrap(), b"1");
    world.forgets_excluded = true;
    world.write("a", b"333");
    assert_eq!(world.run().deleted, 1);
    assert!(!world.mirror("latest/cache").exists());
    assert_eq!(world.verify().damaged, Vec::<Box<[u8]>>::new());
}

#[test]
fn case_44_times_of_directories_are_those_of_the_source() {
    let mut world = World::new();
    world.write("d/e/f", b"1");
    world.run();
    world.write("d/e/g", b"2");
    fs::remove_file(world.source("d/e/f")).unwrap();
    world.run();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    world.check();
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let mut world = World::new();
    world.write("a", b"1");
    fs::create_dir(world.mirror("")).unwrap();
    fs::write(world.mirror("mine"), b"1").unwrap();
    assert!(matches!(world.try_run(), Err(MirrorError::Foreign(_))));
    assert_eq!(world.names(""), ["mine"]);
    fs::remove_file(world.mirror("mine")).unwrap();
    world.run();
    // The mirror of one source is not that of another.
    fs::rename(world.source(""), world.folder.path().join("other")).unwrap();
    let mut options = world.options();
    options.source = world.folder.path().join("other");
    let subject = lastgood_mirror::run::subject(&options.source).unwrap();
    let opened = Mirror::open_or_create(&world.mirror(""), &subject);
    assert!(matches!(opened, Err(MirrorError::OtherSource { .. })));
}

#[test]
fn a_mirror_with_rules_for_writers_is_read_and_not_changed() {
    let mut world = World::new();
    world.write("a", b"1");
    world.run();
    world.reseal(".lastgood/mirror", "features\t-\t-\t-", "features\t-\tpacked-names\t-");
    let before = tree(&world.mirror(""));
    world.write("a", b"22");
    let told = world.try_run().unwrap_err();
    assert!(matches!(told, MirrorError::Text { .. }), "{told}");
    assert_eq!(tree(&world.mirror("")), before);
    let to = tempfile::tempdir().unwrap();
    assert_eq!(world.restore(&world.folder_of(0), "", to.path()).restored, 2);
}

#[test]
fn a_mirror_is_made_where_the_making_of_one_was_cut() {
    let mut world = World::new();
    world.write("a", b"1");
    world.run();
    // The name of a mirror is what it gets last.
    fs::remove_file(world.mirror(".lastgood/mirror")).unwrap();
    fs::remove_file(world.mirror(".lastgood/second/mirror")).unwrap();
    assert!(matches!(world.try_run(), Err(MirrorError::Foreign(_))));
    fs::remove_dir_all(world.mirror("latest")).unwrap();
    fs::create_dir(world.mirror("latest")).unwrap();
    for text in ["latest", "versions", "second/latest", "second/versions"] {
        fs::remove_file(world.mirror(".lastgood").join(text)).unwrap();
    }
    world.versions.clear();
    world.run();
    world.check();
}
