//! Repositories of every released format restore for ever: `fixtures/1/lastgood-0.1`, the same one
//! after its root was rotated, `fixtures/1/lastgood-0.1-rotated`, one with deltas,
//! `fixtures/1/lastgood-0.1-deltas`, and whatever stands beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::check::{CheckOptions, ReadData};
use lastgood::restore::RestoreOptions;
use lastgood::system::{Home, world};
use lastgood::{Credential, Repository, parse_recovery_code};

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    folders(&root).iter().flat_map(|format| folders(format)).collect()
}

#[test]
fn every_golden_repository_restores() {
    let fixtures = fixtures();
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let home = Home { data: at("data"), cache: at("cache"), state: at("state") };
        let code = fs::read_to_string(fixture.join("recovery-code")).unwrap();
        let credential = Credential::Root(parse_recovery_code(&code).unwrap());
        let path = fixture.join("repository");
        let repo: Arc<Repository> =
            lastgood::opening::open(&path, &home, world(), &credential).unwrap();
        let options = CheckOptions { read_data: ReadData::All, threads: 2 };
        let report = lastgood::check::start(repo.clone(), options).wait(|_| {}).unwrap();
        assert_eq!(report.damage, Vec::<String>::new(), "{}", fixture.display());
        let snapshots = repo.snapshots().unwrap().live;
        assert_eq!(snapshots.len(), 2);
        for (snapshot, is_newest) in snapshots.into_iter().zip([false, true]) {
            let target = at(&snapshot.id.to_string());
            let options = RestoreOptions::new(snapshot, target.clone());
            let report = lastgood::restore::start(repo.clone(), options).wait(|_| {}).unwrap();
            assert_eq!(report.problems.errors, 0, "{:?}", report.problems.listed);
            if is_newest {
                same(&fixture.join("expected"), &target);
            } else {
                assert_eq!(fs::read(target.join("changes")).unwrap(), b"first state\n");
                assert!(target.join("gone").exists());
            }
        }
    }
}

/// Contents only: a checkout keeps neither owners nor times.
fn same(expected: &Path, found: &Path) {
    let list = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let names = list(expected);
    assert_eq!(names, list(found), "{}", found.display());
    for name in names {
        let (expected, found) = (expected.join(&name), found.join(&name));
        if expected.is_symlink() {
            assert_eq!(fs::read_link(expected).unwrap(), fs::read_link(found).unwrap());
        } else if expected.is_dir() {
            same(&expected, &found);
        } else {
            assert!(
                fs::read(expected).unwrap() == fs::read(&found).unwrap(),
                "{}",
                found.display()
            );
        }
    }
}
