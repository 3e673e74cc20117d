//! What a backup stores, what it costs, and that it comes back.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use lastgood::backup::{Stream, StreamFrom};
use lastgood::browse::Seen;
use lastgood::check::{CheckOptions, ReadData};
use lastgood::{ErrorKind, Snapshot};

use crate::place::{Place, Tree, name, noise};

/// A source with one of everything that needs no privilege.
fn fill(source: &std::path::Path) {
    fs::create_dir_all(source.join("deep/er/and/deeper")).unwrap();
    fs::write(source.join("empty"), b"").unwrap();
    fs::write(source.join("small"), b"a few bytes").unwrap();
    fs::write(source.join("deep/er/large"), noise(1, 5_000_000)).unwrap();
    fs::write(source.join("deep/er/and/deeper/twin"), noise(1, 5_000_000)).unwrap();
    fs::write(source.join(name(b"name \xff\xfe\n\t of any bytes")), b"x").unwrap();
    symlink("small", source.join("link")).unwrap();
    symlink("nowhere/at all", source.join("dangling")).unwrap();
    fs::hard_link(source.join("small"), source.join("deep/same as small")).unwrap();
    fs::hard_link(source.join("link"), source.join("deep/same link")).unwrap();
    fs::set_permissions(source.join("small"), fs::Permissions::from_mode(0o4751)).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(3 << 30).unwrap();
    sparse.write_all_at(b"in the middle", 1 << 30).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("pipe"), 0o640.into()).unwrap();
}

#[test]
fn one_of_everything_comes_back() {
    let place = Place::new();
    fill(&place.source());
    // Reading three gigabytes of zeros to compare them is what takes long here.
    fs::remove_file(place.source().join("sparse")).unwrap();
    let (report, snapshot) = place.backup();
    place.check_restores(&snapshot, &Tree::of(&place.source()));
    assert_eq!(report.totals.files, 6, "hard links count each");
    assert!(report.totals.bytes_added < 5_200_000, "the twin is stored once: {report:?}");
}

#[test]
fn holes_stay_holes() {
    let place = Place::new();
    fill(&place.source());
    let (report, snapshot) = place.backup();
    assert!(report.totals.bytes >= 3 << 30);
    assert!(report.totals.bytes_added < 5_200_000, "holes are not read: {report:?}");
    let target = place.path("target");
    fs::create_dir(&target).unwrap();
    let mut options = lastgood::restore::RestoreOptions::new(snapshot, target.clone());
    options.subpath = b"sparse".to_vec();
    lastgood::restore::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    let restored = File::open(target.join("sparse")).unwrap();
    let meta = restored.metadata().unwrap();
    assert_eq!(meta.len(), 3 << 30);
    assert!(std::os::unix::fs::MetadataExt::blocks(&meta) < 1024, "{meta:?}");
    let mut bytes = [0; 13];
    restored.read_exact_at(&mut bytes, 1 << 30).unwrap();
    assert_eq!(&bytes, b"in the middle");
}

/// Waits a tick of the coarsest clock, so that what was written is old enough to trust.
fn let_the_clock_tick() {
    let now = || lastgood::system::world().clock.now().seconds;
    let start = now();
    while now() < start + 2 {
        std::thread::yield_now();
    }
}

#[test]
fn an_unchanged_tree_costs_no_read_and_adds_nothing() {
    let place = Place::new();
    fill(&place.source());
    let_the_clock_tick();
    let (first, snapshot) = place.backup();
    let packs = place.repo.all_packs().unwrap().len();
    let (second, again) = place.backup();
    assert!(second.is_unchanged);
    assert_eq!(second.parent, Some(snapshot.id));
    assert_eq!((second.totals.bytes_added, second.bytes_known), (0, 0), "no file was read");
    assert_eq!(second.totals.files, first.totals.files);
    assert_eq!(again.snapshot.tree, snapshot.snapshot.tree);
    assert_eq!(again.snapshot.pack_set, snapshot.snapshot.pack_set);
    assert_eq!(place.repo.all_packs().unwrap().len(), packs, "no pack was stored");
    assert_eq!(again.snapshot.chain.sequence, 2);
    assert_eq!(again.snapshot.chain.previous, Some(snapshot.id));

    let mut options = place.options();
    options.skip_if_unchanged = true;
    assert_eq!(place.backup_with(options).snapshot, None);
}

#[test]
fn a_change_that_keeps_size_and_mtime_is_seen() {
    let place = Place::new();
    let file = place.source().join("file");
    fs::write(&file, b"before").unwrap();
    let mtime = fs::metadata(&file).unwrap().modified().unwrap();
    let_the_clock_tick();
    place.backup();
    fs::write(&file, b"after!").unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(mtime).unwrap();
    let (report, snapshot) = place.backup();
    assert_eq!(report.totals.files_changed, 1);
    place.check_restores(&snapshot, &Tree::of(&place.source()));
}

#[test]
fn a_dry_run_tells_and_stores_nothing() {
    let place = Place::new();
    fill(&place.source());
    let mut options = place.options();
    options.dry_run = true;
    let report = place.backup_with(options);
    assert!(report.totals.bytes_added > 5_000_000);
    assert_eq!(report.snapshot, None);
    assert_eq!(place.repo.all_packs().unwrap(), []);
    // The config, its copy, the key slots and the reserve.
    assert_eq!(fs::read_dir(place.home.data.join("repository")).unwrap().count(), 4);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_stored_and_flagged() {
    let place = Place::new();
    let path = place.source().join("log");
    fs::write(&path, noise(3, 64 << 20)).unwrap();
    let is_over = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().append(true).open(&path).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                std::io::Write::write_all(&mut &file, b"more").unwrap();
                std::thread::yield_now();
            }
        });
        let report = place.backup_with(place.options());
        is_over.store(true, Ordering::Relaxed);
        report
    });
    assert_eq!(report.problems.errors, 1, "{:?}", report.problems.listed);
    let snapshot = report.snapshot.unwrap().snapshot;
    assert!(snapshot.flags.contains(lastgood::SnapshotFlags::INCOMPLETE));
    // The next run reads it again although nothing changed since.
    let (again, _) = place.backup();
    assert_eq!(again.totals.files_changed, 1);
}

#[test]
fn a_stream_becomes_a_file_unless_its_command_fails() {
    let place = Place::new();
    let stream = |command: &[&str]| {
        let mut options = place.options();
        options.sources = Vec::new();
        let command = command.iter().map(Into::into).collect();
        let from = StreamFrom::Command(command);
        options.stream = Some(Stream { path: PathBuf::from("dump/all.sql"), from });
        lastgood::backup::start(place.repo.clone(), options).wait(|_| {})
    };
    let report = stream(&["sh", "-c", "printf hello"]).unwrap();
    let snapshot = report.snapshot.unwrap();
    let mut bytes = Vec::new();
    lastgood::browse::cat(&place.repo, &snapshot, b"/dump/all.sql", &mut bytes).unwrap();
    assert_eq!(bytes, b"hello");

    let error = stream(&["sh", "-c", "printf hello; exit 3"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(place.repo.snapshots().unwrap().live.len(), 1, "nothing was committed");
}

#[test]
fn the_repository_is_no_part_of_its_own_backup() {
    let place = Place::new();
    fs::write(place.source().join("file"), b"x").unwrap();
    let mut options = place.options();
    options.sources = vec![place.path("")];
    let report = place.backup_with(options);
    let mut paths = Vec::new();
    lastgood::browse::ls(&place.repo, &report.snapshot.unwrap(), None, true, &mut |seen| {
        let Seen::Entry(listed) = seen else { panic!("{seen:?}") };
        paths.push(String::from_utf8(listed.path).unwrap());
        Ok(())
    })
    .unwrap();
    assert!(paths.iter().any(|path| path.ends_with("/source/file")));
    assert!(!paths.iter().any(|path| path.contains("/repository/")), "{paths:?}");

    let mut options = place.options();
    options.sources = vec![place.home.data.join("repository/packs")];
    let refused = lastgood::backup::start(place.repo.clone(), options).wait(|_| {});
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn two_backups_at_once_both_succeed_and_their_chains_do_not_fork() {
    let place = Place::new();
    fill(&place.source());
    let snapshots: Vec<Snapshot> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| place.backup().1.snapshot)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_ne!(snapshots[0].chain.writer, snapshots[1].chain.writer);
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    let report = lastgood::check::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    assert_eq!(report.snapshots, 2);
}

#[test]
fn cancelling_stops_soon_and_commits_nothing() {
    let place = Place::new();
    fs::write(place.source().join("large"), noise(4, 256 << 20)).unwrap();
    let job = lastgood::backup::start(place.repo.clone(), place.options());
    while job.progress().bytes_done < 8 << 20 {
        std::thread::yield_now();
    }
    job.cancel();
    assert_eq!(job.wait(|_| {}).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(place.repo.snapshots().unwrap().live, []);
    let (report, snapshot) = place.backup();
    assert!(report.bytes_known > 0, "what was stored is used: {report:?}");
    place.check_restores(&snapshot, &Tree::of(&place.source()));
}

/// A directory of several slices is stored page by page while its subdirectories are at work. What
/// comes out is what it would be in one piece.
#[test]
fn a_long_directory_is_the_same_however_it_is_cut() {
    let place = Place::new();
    let long = place.source().join("long");
    fs::create_dir(&long).unwrap();
    fs::write(place.path("base"), b"").unwrap();
    for number in 0..9_000 {
        let path = long.join(format!("{number:05}"));
        match number % 10 {
            0 => fs::create_dir(path).unwrap(),
            // A name costs less than a file.
            _ => fs::hard_link(place.path("base"), path).unwrap(),
        }
    }
    // The first subdirectory is what everything after it waits for.
    for number in 0..100 {
        fs::write(long.join("00000").join(number.to_string()), noise(number, 100_000)).unwrap();
    }
    let_the_clock_tick();
    let (first, snapshot) = place.backup();
    assert!(first.totals.directories > 900, "{first:?}");

    let (second, unchanged) = place.backup();
    assert!(second.is_unchanged);
    assert_eq!(second.meta_bytes_added, 0, "{second:?}");
    assert_eq!(unchanged.snapshot.hints, snapshot.snapshot.hints);
    for threads in [1, 4] {
        let options = lastgood::backup::BackupOptions {
            parent: lastgood::backup::Parent::None,
            threads,
            ..place.options()
        };
        let whole = place.backup_with(options);
        // Directories that lead to the source have times of their own.
        assert!(whole.meta_bytes_added < 4096, "the same pages again: {whole:?}");
    }

    fs::write(long.join("00000/7"), b"changed").unwrap();
    fs::remove_file(long.join("05001")).unwrap();
    fs::write(long.join("08999-and-one"), b"new").unwrap();
    let (third, changed) = place.backup();
    assert_eq!((third.totals.files_new, third.totals.files_changed), (1, 1));
    place.check_restores(&changed, &Tree::of(&place.source()));
}

/// A link that is named stands for itself; with a slash behind it, for what it leads to.
#[test]
fn a_slash_behind_a_link_means_what_it_leads_to() {
    let place = Place::new();
    fs::create_dir(place.source().join("directory")).unwrap();
    fs::write(place.source().join("directory/file"), b"content").unwrap();
    symlink("directory", place.source().join("link")).unwrap();
    for (name, files, others) in [("link", 0, 1), ("link/", 1, 0), ("link/.", 1, 0)] {
        let sources = vec![place.source().join(name)];
        let options = lastgood::backup::BackupOptions { sources, ..place.options() };
        let totals = place.backup_with(options).totals;
        assert_eq!((totals.files, totals.others), (files, others), "{name}");
    }
}
