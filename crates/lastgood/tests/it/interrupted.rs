//! Lost and damaged objects: what is whole restores, what is not is named, and the next run heals
//! what it can.

use std::fs;
use std::path::PathBuf;

use lastgood::ErrorKind;
use lastgood::browse::{FindOptions, Seen};
use lastgood::check::{CheckOptions, CheckReport, ReadData};
use lastgood::restore::RestoreOptions;
use lastgood_format::key::Class;

use crate::place::{Place, Tree, noise};

fn check(place: &Place) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, threads: 2 };
    lastgood::check::start(place.repo.clone(), options).wait(|_| {}).unwrap()
}

fn objects(place: &Place, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![place.home.data.join("repository").join(kind)];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn a_lost_index_costs_nothing_but_time() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), noise(1, 3_000_000)).unwrap();
    let (_, snapshot) = place.backup();
    for path in objects(&place, "index") {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(&place.home.cache).ok();
    place.reopen();
    let report = place.check_restores(&snapshot, &Tree::of(&place.source()));
    assert!(report.is_index_wrong);
    assert_eq!(check(&place).damage, Vec::<String>::new());
    // The next run indexes the packs again.
    fs::write(place.source().join("other"), b"new").unwrap();
    let (report, _) = place.backup();
    assert!(report.recovered_packs >= 3, "{report:?}");
    place.reopen();
    let report = place.check_restores(&place.backup().1, &Tree::of(&place.source()));
    assert!(!report.is_index_wrong);
}

#[test]
fn garbage_in_every_place_changes_nothing() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), noise(1, 100_000)).unwrap();
    let (_, snapshot) = place.backup();
    let repository = place.home.data.join("repository");
    let id = "5a".repeat(32);
    for kind in ["index", "keys", "snapshots", "retired", "sessions", "relocations", "readers"] {
        fs::create_dir_all(repository.join(kind)).unwrap();
        let name = if matches!(kind, "sessions" | "readers") { &id[..32] } else { &id[..] };
        fs::write(repository.join(kind).join(name), noise(9, 500)).unwrap();
    }
    let folder = repository.join("packs").join(&id[..32]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&id), noise(9, 5000)).unwrap();
    place.reopen();
    place.check_restores(&snapshot, &Tree::of(&place.source()));
    fs::write(place.source().join("file"), noise(2, 100_000)).unwrap();
    let (_, snapshot) = place.backup();
    place.check_restores(&snapshot, &Tree::of(&place.source()));
}

#[test]
fn a_damaged_pack_loses_its_files_and_no_others() {
    let place = Place::new();
    fs::write(place.source().join("first"), noise(1, 3_000_000)).unwrap();
    place.backup();
    let damaged = objects(&place, "packs");
    fs::write(place.source().join("second"), noise(2, 3_000_000)).unwrap();
    let (_, snapshot) = place.backup();
    // The largest pack of the first run holds its data.
    let path = damaged.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(path).unwrap();
    // More than parity makes up for.
    bytes[1_500_000..1_700_000].fill(0);
    fs::write(path, &bytes).unwrap();

    let report = check(&place);
    assert!(!report.damage.is_empty());
    assert!(
        report
            .affected
            .iter()
            .any(|(id, path)| { *id == snapshot.id && path.ends_with(b"/first") })
    );
    assert!(!report.affected.iter().any(|(_, path)| path.ends_with(b"/second")));

    let target = place.path("target");
    let options = RestoreOptions::new(snapshot, target.clone());
    let report = lastgood::restore::start(place.repo.clone(), options).wait(|_| {}).unwrap();
    assert!(!report.damaged.is_empty());
    assert_eq!(fs::read(target.join("second")).unwrap(), noise(2, 3_000_000));
    // The rest of the damaged file is there too.
    let (first, whole) = (fs::read(target.join("first")).unwrap(), noise(1, 3_000_000));
    let equal = first.iter().zip(&whole).filter(|(a, b)| a == b).count();
    assert!(equal > 1_500_000, "{equal} bytes of the damaged file were restored");
}

/// Two runs that do not know of each other store a blob twice; either copy will do.
#[test]
fn a_blob_that_is_damaged_in_one_pack_is_read_from_another() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), noise(1, 3_000_000)).unwrap();
    let expected = Tree::of(&place.source());
    place.backup();
    let repository = place.home.data.join("repository");
    let kinds = ["packs", "index", "snapshots", "outcomes", "sessions"];
    for kind in kinds {
        fs::rename(repository.join(kind), place.path(kind)).unwrap();
    }
    // This host forgets what it saw, or it would refuse a repository that lacks it.
    fs::remove_dir_all(&place.home.cache).ok();
    fs::remove_dir_all(&place.home.state).unwrap();
    place.reopen();
    let (_, second) = place.backup();
    let packs = objects(&place, "packs");
    for kind in kinds {
        for entry in fs::read_dir(place.path(kind)).unwrap().map(|entry| entry.unwrap()) {
            fs::rename(entry.path(), repository.join(kind).join(entry.file_name())).unwrap();
        }
    }
    place.reopen();
    assert_eq!(check(&place).damage, Vec::<String>::new());

    for path in &packs {
        let whole = fs::read(path).unwrap();
        // The directories above the source changed between the runs.
        if whole[8] != Class::Data as u8 {
            continue;
        }
        let mut damaged = whole.clone();
        damaged[whole.len() / 3..whole.len() / 3 + 200_000].fill(0);
        fs::write(path, &damaged).unwrap();
        place.reopen();
        let report = check(&place);
        assert!(!report.damage.is_empty(), "{path:?}");
        assert_eq!(report.affected, [], "{path:?}");
        place.check_restores(&second, &expected);
        fs::write(path, whole).unwrap();
    }
}

#[test]
fn a_damaged_directory_hides_no_other_from_listings() {
    let mut place = Place::new();
    for name in ["a/old", "z/old"] {
        fs::create_dir_all(place.source().join(name).parent().unwrap()).unwrap();
        fs::write(place.source().join(name), b"old").unwrap();
    }
    place.backup();
    // The second run stores all directories anew but that one which did not change.
    fs::write(place.source().join("z/new"), b"new").unwrap();
    let first = objects(&place, "packs");
    let (_, snapshot) = place.backup();
    for path in first {
        if fs::read(&path).unwrap()[8] == Class::Meta as u8 {
            fs::remove_file(path).unwrap();
        }
    }
    place.reopen();
    let (mut names, mut lost) = (Vec::new(), Vec::new());
    let source = [place.source().as_os_str().as_encoded_bytes(), b"/"].concat();
    let mut see = |seen: Seen| {
        match seen {
            Seen::Entry(listed) => names.extend(listed.path.strip_prefix(&source[..]).map(text)),
            Seen::Lost { path, .. } => lost.extend(path.strip_prefix(&source[..]).map(text)),
        }
        Ok(())
    };
    lastgood::browse::ls(&place.repo, &snapshot, None, true, &mut see).unwrap();
    let options = FindOptions { patterns: vec!["new".to_owned()], ..FindOptions::default() };
    let records = [snapshot];
    lastgood::browse::find(&place.repo, &records, &options, &mut |_, seen| see(seen)).unwrap();
    assert_eq!(names, ["a", "z", "z/new", "z/old", "z/new"]);
    assert_eq!(lost, ["a", "a"]);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_lost_pack_is_stored_again_by_the_next_run() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), noise(1, 3_000_000)).unwrap();
    place.backup();
    for path in objects(&place, "packs") {
        fs::remove_file(path).unwrap();
    }
    assert!(!check(&place).damage.is_empty());
    place.reopen();
    let report = place.backup_with(place.options());
    assert_eq!(report.totals.bytes_added, 3_000_000, "it was read and stored again: {report:?}");
    place.check_restores(&report.snapshot.unwrap(), &Tree::of(&place.source()));
}

#[test]
fn every_object_cut_or_flipped_is_noticed_and_gives_no_wrong_bytes() {
    let mut place = Place::new();
    fs::write(place.source().join("file"), noise(1, 2000)).unwrap();
    let (_, snapshot) = place.backup();
    let expected = Tree::of(&place.source());
    for kind in ["config", "keys", "packs", "snapshots", "outcomes", "index"] {
        let paths = match kind {
            "config" => vec![place.home.data.join("repository/config")],
            kind => objects(&place, kind),
        };
        for path in paths {
            let whole = fs::read(&path).unwrap();
            for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                fs::write(&path, flipped).unwrap();
                check_mended(&mut place, &snapshot, &expected);
                fs::write(&path, &whole[..at]).unwrap();
                check_damage(&mut place, kind, &snapshot, &expected);
            }
            fs::write(&path, &whole).unwrap();
        }
    }
    place.reopen();
    place.check_restores(&snapshot, &expected);
    let report = check(&place);
    assert_eq!((report.damage, report.mendable), (vec![], vec![]));
}

/// A flipped bit is named, and costs nothing.
fn check_mended(place: &mut Place, snapshot: &lastgood::SnapshotRecord, expected: &Tree) {
    fs::remove_dir_all(&place.home.cache).ok();
    place.reopen();
    let report = check(place);
    assert_eq!(report.damage, Vec::<String>::new());
    assert_eq!(report.mendable.len(), 1);
    place.check_restores(snapshot, expected);
}

/// Opening or checking notices, and no restore gives wrong bytes.
fn check_damage(
    place: &mut Place,
    kind: &str,
    snapshot: &lastgood::SnapshotRecord,
    expected: &Tree,
) {
    let opened = lastgood::opening::open_default(&place.home, lastgood::system::world(), "test");
    match opened {
        Err(error) => {
            assert!(matches!(kind, "config" | "keys"), "{kind}: {error}");
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Damaged
                        | ErrorKind::TooNew
                        | ErrorKind::WrongKey
                        | ErrorKind::Invalid
                ),
                "{kind}: {error:?}"
            );
            return;
        }
        Ok(opened) => place.repo = opened.repo,
    }
    let report = check(place);
    let is_noticed = !report.damage.is_empty() || !report.mendable.is_empty();
    assert!(is_noticed, "damage of {kind} went unnoticed");
    let target = place.path("damaged");
    let options = RestoreOptions::new(snapshot.clone(), target.clone());
    if let Ok(report) = lastgood::restore::start(place.repo.clone(), options).wait(|_| {})
        && report.damaged.is_empty()
        && report.problems.listed.is_empty()
    {
        assert_eq!(&Tree::of(&target), expected, "a restore that claims success");
    }
    fs::remove_dir_all(&target).ok();
}
