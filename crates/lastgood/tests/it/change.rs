//! Random trees and random changes, against a naive copy of each state.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::place::{Place, Tree, noise};

/// One random change to a tree. Numbers pick names and sizes.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Write { path: u8, seed: u64, bytes: usize },
    Insert { path: u8, at: usize, seed: u64, bytes: usize },
    Remove { path: u8 },
    Rename { from: u8, to: u8 },
    Link { from: u8, to: u8 },
    Symlink { path: u8, to: u8 },
    Mode { path: u8, mode: u32 },
}

pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let bytes = prop_oneof![0..200_usize, 30_000..140_000_usize, 1_000_000..3_000_000_usize];
    let edit = prop_oneof![
        4 => (any::<u8>(), 0..6_u64, bytes.clone())
            .prop_map(|(path, seed, bytes)| Edit::Write { path, seed, bytes }),
        2 => (any::<u8>(), any::<usize>(), any::<u64>(), 0..500_usize)
            .prop_map(|(path, at, seed, bytes)| Edit::Insert { path, at, seed, bytes }),
        2 => any::<u8>().prop_map(|path| Edit::Remove { path }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Edit::Rename { from, to }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Edit::Link { from, to }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(path, to)| Edit::Symlink { path, to }),
        1 => (any::<u8>(), 0..0o1000_u32).prop_map(|(path, mode)| Edit::Mode { path, mode }),
    ];
    prop::collection::vec(edit, 1..12)
}

/// One of 64 paths, up to three levels deep, some of which are prefixes of others.
fn path(source: &Path, number: u8) -> PathBuf {
    let number = usize::from(number % 64);
    let names = ["a", "b", "long name with spaces", "d"];
    let mut path = source.join(names[number % 4]);
    if number >= 16 {
        path.push(names[number / 4 % 4]);
    }
    if number >= 32 {
        path.push(names[number / 16]);
    }
    path
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes room for something new at `path`: parents are directories, nothing is there.
fn clear(source: &Path, path: &Path) {
    let parents: Vec<&Path> = path.ancestors().skip(1).take_while(|p| *p != source).collect();
    for parent in parents.into_iter().rev() {
        if !parent.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            remove(parent);
            fs::create_dir(parent).unwrap();
        }
    }
    remove(path);
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

pub(crate) fn apply(source: &Path, edit: &Edit) {
    match *edit {
        Edit::Write { path: number, seed, bytes } => {
            let path = path(source, number);
            clear(source, &path);
            fs::write(path, noise(seed, bytes)).unwrap();
        }
        Edit::Insert { path: number, at, seed, bytes } => {
            let path = path(source, number);
            if is_file(&path) {
                let mut content = fs::read(&path).unwrap();
                let at = at % (content.len() + 1);
                content.splice(at..at, noise(seed, bytes));
                fs::write(&path, content).unwrap();
            }
        }
        Edit::Remove { path: number } => remove(&path(source, number)),
        Edit::Rename { from, to } => {
            let (from, to) = (path(source, from), path(source, to));
            if is_file(&from) && from != to {
                let held = source.join("held");
                fs::rename(&from, &held).unwrap();
                clear(source, &to);
                fs::rename(&held, &to).unwrap();
            }
        }
        Edit::Link { from, to } => {
            let (from, to) = (path(source, from), path(source, to));
            if is_file(&from) && !to.starts_with(&from) && !from.starts_with(&to) {
                clear(source, &to);
                fs::hard_link(&from, &to).unwrap();
            }
        }
        Edit::Symlink { path: number, to } => {
            let link = path(source, number);
            clear(source, &link);
            symlink(path(Path::new("/nowhere"), to), link).unwrap();
        }
        Edit::Mode { path: number, mode } => {
            let path = path(source, number);
            if is_file(&path) {
                fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o400)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("LASTGOOD_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12),
        max_shrink_iters: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_state_comes_back(rounds in prop::collection::vec(edits(), 1..5)) {
        let mut place = Place::new();
        let mut states = Vec::new();
        for (number, round) in rounds.iter().enumerate() {
            round.iter().for_each(|edit| apply(&place.source(), edit));
            let (_, snapshot) = place.backup();
            states.push((snapshot, Tree::of(&place.source())));
            if number % 2 == 1 {
                place.reopen();
            }
        }
        // In place, from one state to any other: only what differs is touched.
        let target = place.path("in place");
        for (snapshot, expected) in states.iter().chain(states.iter().rev()) {
            let mut options =
                lastgood::restore::RestoreOptions::new(snapshot.clone(), target.clone());
            options.delete = true;
            options.host_id = [7; 16];
            lastgood::restore::start(place.repo.clone(), options).wait(|_| {}).unwrap();
            prop_assert_eq!(&Tree::of(&target), expected);
        }
        for (snapshot, expected) in &states {
            place.check_restores(snapshot, expected);
        }
    }
}
