use lastgood_format::entry::{Entry, Hint, Marks, Node, Timestamp};
use lastgood_testkit::chance::Chance;

use super::*;
use crate::record::{self, content};
use crate::text::sha256;

/// What a file holds, or a directory (`None`), with a mode.
type Naive = BTreeMap<Path, (Option<Vec<u8>>, u16)>;

/// A mirror whose bytes lie in memory, and beside it the naive copy of each version.
#[derive(Default)]
struct Model {
    versions: Vec<Naive>,
    deltas: Vec<Delta>,
    folders: Vec<BTreeMap<Path, Vec<u8>>>,
    latest: Manifest,
    bytes: BTreeMap<Path, Vec<u8>>,
    /// Deltas and the newest version as they would lie on disk.
    sheets: (Vec<Sheet>, Sheet),
}

fn present(path: &[u8], what: &(Option<Vec<u8>>, u16)) -> Present {
    let node = match &what.0 {
        Some(bytes) => content(bytes.len() as u64, sha256(bytes)),
        None => record::DIRECTORY,
    };
    let entry = Entry {
        name: record::name(path).into(),
        node,
        mode: what.1,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    };
    // All files with these bytes are one file of many names.
    let link = what.0.as_deref().filter(|bytes| bytes.first() == Some(&2));
    let link = link.map(|bytes| (2, bytes.len() as u64));
    Present { entry, at: At::Here(path.into()), link, hint: Hint::default() }
}

/// What differs between two neighbours. `moved` says which files went where: path before, path
/// after; it names each path at most once on either side.
fn between(before: &Manifest, after: &Manifest, moved: &BTreeMap<Path, Path>) -> Delta {
    let mut delta = Delta::new();
    for (path, was) in before {
        let other = || {
            let names = before.iter().chain(after).filter(|(_, it)| it.link == was.link);
            let mut names = names.filter(|_| was.link.is_some()).map(|(path, _)| path);
            let has =
                |path: &&Path| after.get(*path).is_some_and(|is| is.entry.node == was.entry.node);
            Ok(moved.get(path).or_else(|| names.find(has)).cloned())
        };
        if let Some(past) = difference(path, was, after.get(path), other).unwrap() {
            delta.insert(path.clone(), State::Present(Box::new(past)));
        }
    }
    let born = after.keys().filter(|path| !before.contains_key(*path));
    delta.extend(born.map(|path| (path.clone(), State::Absent)));
    delta
}

/// Changes a tree: files and directories come, go, move, change content, mode and kind.
fn change(tree: &mut Naive, chance: &mut Chance) -> BTreeMap<Path, Path> {
    let before = tree.clone();
    let mut moved = BTreeMap::new();
    for _ in 0..=chance.below(4) {
        let path: Path = (0..=chance.below(3))
            .map(|_| vec![b'a' + chance.below(3) as u8])
            .collect::<Vec<_>>()
            .join(&b'/')
            .into();
        let bytes = vec![chance.below(3) as u8; chance.below(3)];
        let below = [&path[..], b"/"].concat();
        match chance.below(5) {
            0 => tree.retain(|it, _| *it != path && !it.starts_with(&below)),
            1 => {
                if let Some(what) = tree.get_mut(&path) {
                    what.1 ^= 0o111;
                }
            }
            2 => {
                // A file moves to where nothing is, from a version in which it was the same.
                let from: Vec<Path> = tree
                    .iter()
                    .filter(|(it, what)| what.0.is_some() && before.get(*it) == Some(*what))
                    .map(|(it, _)| it.clone())
                    .collect();
                let is_used = moved.values().any(|to| *to == path);
                if !from.is_empty()
                    && !tree.contains_key(&path)
                    && !is_used
                    && make_way(tree, &path)
                {
                    let from = chance.pick(&from).clone();
                    if let Some(what) = tree.remove(&from) {
                        tree.insert(path.clone(), what);
                        moved.insert(from, path);
                    }
                }
            }
            kind => {
                if make_way(tree, &path) {
                    tree.retain(|it, _| !it.starts_with(&below));
                    tree.insert(path, ((kind == 3).then_some(bytes), 0o644));
                }
            }
        }
    }
    // What moved and then changed again did not move.
    moved.retain(|from: &Path, to: &mut Path| {
        tree.get(to).and_then(|what| what.0.as_ref()) == before[from].0.as_ref()
            && before.get(to).and_then(|what| what.0.as_ref()) != before[from].0.as_ref()
            && tree.get(from).and_then(|what| what.0.as_ref()) != before[from].0.as_ref()
    });
    let targets: Vec<Path> = moved.values().cloned().collect();
    moved.retain(|_, to| targets.iter().filter(|it| *it == to).count() == 1);
    moved
}

/// Makes the directories above a path; not where a file stands in the way.
fn make_way(tree: &mut Naive, path: &Path) -> bool {
    let mut above = Vec::new();
    let mut at: &[u8] = path;
    while let Some(parent) = record::parent(at).filter(|parent| !parent.is_empty()) {
        if tree.get(parent).is_some_and(|what| what.0.is_some()) {
            return false;
        }
        above.push(Path::from(parent));
        at = parent;
    }
    for directory in above {
        tree.entry(directory).or_insert((None, 0o755));
    }
    true
}

impl Model {
    fn history(&self) -> History<'_> {
        History { deltas: &self.sheets.0, latest: &self.sheets.1 }
    }

    /// Deltas and the newest version are these now.
    fn write(&mut self) {
        let sheet = |delta: &Delta| Sheet::of(delta.iter().map(|(path, it)| (path, it.clone())));
        let state = |present: &Present| State::Present(Box::new(present.clone()));
        let latest = self.latest.iter().map(|(path, present)| (path, state(present)));
        self.sheets = (self.deltas.iter().map(sheet).collect(), Sheet::of(latest));
    }

    /// A run: the tree becomes the newest version.
    fn run(&mut self, tree: &Naive, moved: &BTreeMap<Path, Path>) {
        let after: Manifest =
            tree.iter().map(|(path, what)| (path.clone(), present(path, what))).collect();
        if !self.versions.is_empty() {
            let delta = between(&self.latest, &after, moved);
            let kept = delta.iter().filter_map(|(path, state)| {
                let present = state.present().filter(|present| present.is_file())?;
                (present.at == At::Here(path.clone()))
                    .then(|| (path.clone(), self.bytes[path].clone()))
            });
            self.folders.push(kept.collect());
            self.deltas.push(delta);
        }
        self.latest = after;
        self.bytes =
            tree.iter().filter_map(|(path, what)| Some((path.clone(), what.0.clone()?))).collect();
        self.versions.push(tree.clone());
        self.write();
    }

    /// A version in the middle, or the oldest, goes.
    fn drop(&mut self, k: usize) {
        self.versions.remove(k);
        if k == 0 {
            self.deltas.remove(0);
            self.folders.remove(0);
            return self.write();
        }
        let history = self.history();
        let merged = merge(&self.deltas[k - 1], &self.deltas[k], |path| history.state(k + 1, path));
        let merged = merged.unwrap();
        let mut newer = self.folders.remove(k);
        self.deltas.remove(k);
        for (from, to) in merged.moves {
            let bytes = newer.remove(&from).expect("bytes go to one place");
            assert_eq!(self.folders[k - 1].insert(to, bytes), None, "a place is taken");
        }
        // What no record needs any more goes.
        let needed: BTreeSet<&Path> = merged
            .delta
            .values()
            .filter_map(|state| match &state.present()?.at {
                At::Here(at) => Some(at),
                _ => None,
            })
            .collect();
        self.folders[k - 1].retain(|path, _| needed.contains(path));
        self.deltas[k - 1] = merged.delta;
        self.write();
    }

    /// A version comes before that of index `at`, which is not the first behind the newest.
    fn insert(&mut self, at: usize, tree: &Naive) {
        let manifest = |tree: &Naive| -> Manifest {
            tree.iter().map(|(path, what)| (path.clone(), present(path, what))).collect()
        };
        let (new, after) = (manifest(tree), manifest(&self.versions[at]));
        let newer = insert::to_newer(&new, &after);
        let bytes = |naive: &Naive, path: &Path| naive[path].0.clone().unwrap();
        let folder = stored(&newer).map(|(path, _)| (path.clone(), bytes(tree, path))).collect();
        if let Some(k) = at.checked_sub(1) {
            let before = manifest(&self.versions[k]);
            let inserted = insert::to_new(&self.deltas[k], &before, &new, &after);
            for (from, to) in inserted.copies {
                let bytes = bytes(&self.versions[at], &from);
                assert_eq!(self.folders[k].insert(to, bytes), None, "a place is taken");
            }
            let needed: BTreeSet<&Path> = stored(&inserted.older).map(|(path, _)| path).collect();
            self.folders[k].retain(|path, _| needed.contains(path));
            self.deltas[k] = inserted.older;
        }
        self.deltas.insert(at, newer);
        self.folders.insert(at, folder);
        self.versions.insert(at, tree.clone());
        self.write();
    }

    /// Every file of every version is what the naive copy has.
    fn check(&self, seed: u64) {
        let history = self.history();
        for (k, naive) in self.versions.iter().enumerate() {
            let version: BTreeMap<Path, Present> = history
                .version(k)
                .unwrap()
                .map(|it| it.map(|(_, path, it)| (path, it)).unwrap())
                .collect();
            assert!(version.keys().eq(naive.keys()), "seed {seed}, version {k}: other paths");
            for (path, what) in naive {
                let context = || format!("seed {seed}, version {k}, {}", path.escape_ascii());
                let state = history.state(k, path).unwrap().unwrap();
                assert_eq!(state, version[path], "{}", context());
                assert!(state.is_same(&present(path, what)), "{}", context());
                let Some(bytes) = &what.0 else { continue };
                let found = match history.place(k, path).unwrap() {
                    Place::Folder(i, at) => self.folders[i].get(&at),
                    Place::Latest(at) => self.bytes.get(&at),
                    Place::Lost => None,
                };
                assert_eq!(found, Some(bytes), "{}", context());
            }
        }
        for (i, folder) in self.folders.iter().enumerate() {
            for path in folder.keys() {
                let above = record::parent(path).is_some_and(|up| folder.contains_key(up));
                assert!(!above, "seed {seed}: a file is a directory in folder {i}");
            }
        }
    }

    /// What changed between two versions is what a comparison of the naive copies finds.
    fn check_changes(&self, seed: u64, before: usize, after: usize) {
        let (was, is) = (&self.versions[before], &self.versions[after]);
        let mut changes = Vec::new();
        let visit = |path: &Path, change| {
            changes.push((path.clone(), change));
            Ok::<_, MirrorError>(())
        };
        self.history().changes(before, after, visit).unwrap();
        let found: BTreeSet<&Path> = changes.iter().map(|(path, _)| path).collect();
        let paths: BTreeSet<&Path> = was.keys().chain(is.keys()).collect();
        let differs = |path: &&Path| was.get(*path) != is.get(*path);
        let expected: BTreeSet<&Path> = paths.into_iter().filter(differs).collect();
        assert_eq!(found, expected, "seed {seed}, versions {before} and {after}");
        for (path, change) in &changes {
            let is_right = match change {
                Change::Added(_) => !was.contains_key(path),
                Change::Removed(_) => !is.contains_key(path),
                Change::Modified { .. } => was.contains_key(path) && is.contains_key(path),
            };
            assert!(is_right, "seed {seed}: {change:?}");
        }
        let is_in_order = |pair: &[(Path, Change)]| {
            in_path_order(&pair[0].0, &pair[1].0) == std::cmp::Ordering::Less
        };
        assert!(changes.windows(2).all(is_in_order), "seed {seed}");
    }
}

#[test]
fn any_file_at_any_time_is_what_a_naive_copy_has() {
    for seed in 0..400 {
        let mut chance = Chance::new(seed);
        let mut model = Model::default();
        let mut tree = Naive::new();
        for _ in 0..30 {
            if model.versions.len() > 1 && chance.one_in(3) {
                model.drop(chance.below(model.versions.len() - 1));
            } else if !model.versions.is_empty() && chance.one_in(4) {
                let mut other = chance.pick(&model.versions).clone();
                change(&mut other, &mut chance);
                model.insert(chance.below(model.versions.len()), &other);
            } else {
                let moved = change(&mut tree, &mut chance);
                model.run(&tree, &moved);
            }
            model.check(seed);
            let mut any = || chance.below(model.versions.len());
            let (before, after) = (any(), any());
            model.check_changes(seed, before, after);
        }
    }
}

#[test]
fn a_thousand_versions_are_each_one_lookup_away() {
    let mut chance = Chance::new(7);
    let mut model = Model::default();
    let mut tree = Naive::new();
    for number in 0..1000 {
        if number % 5 == 4 {
            let mut other = tree.clone();
            change(&mut other, &mut chance);
            model.insert(chance.below(model.versions.len()), &other);
        } else {
            let moved = change(&mut tree, &mut chance);
            model.run(&tree, &moved);
        }
    }
    model.check(7);
    while model.versions.len() > 1 {
        for _ in 0..150.min(model.versions.len() - 1) {
            model.drop(chance.below(model.versions.len() - 1));
        }
        model.check(7);
    }
    assert!(model.deltas.is_empty() && model.folders.is_empty());
}

#[test]
fn a_move_costs_no_bytes_and_a_chmod_neither() {
    let mut model = Model::default();
    let file = |bytes: &[u8], mode| (Some(bytes.to_vec()), mode);
    let tree = |path: &[u8], what| Naive::from([(Path::from(path), what)]);
    model.run(&tree(b"old", file(b"film", 0o644)), &BTreeMap::new());
    model.run(
        &tree(b"new", file(b"film", 0o644)),
        &BTreeMap::from([(b"old"[..].into(), b"new"[..].into())]),
    );
    model.run(&tree(b"new", file(b"film", 0o600)), &BTreeMap::new());
    assert!(model.folders.iter().all(BTreeMap::is_empty));
    model.check(0);
    // When the bytes leave, they stay for those who refer to them.
    model.run(&tree(b"new", file(b"other", 0o600)), &BTreeMap::new());
    assert_eq!(model.folders[2].len(), 1);
    model.drop(2);
    model.drop(1);
    assert_eq!(model.folders[0].keys().collect::<Vec<_>>(), [&Path::from(&b"old"[..])]);
    model.check(0);
}

#[test]
fn what_is_as_it_was_again_needs_no_record() {
    let mut model = Model::default();
    let tree = |bytes: &[u8]| Naive::from([(Path::from(&b"a"[..]), (Some(bytes.to_vec()), 0o644))]);
    for bytes in [b"1", b"2", b"1"] {
        model.run(&tree(bytes), &BTreeMap::new());
    }
    model.drop(1);
    assert_eq!((model.deltas[0].len(), model.folders[0].len()), (0, 0));
    assert!(matches!(model.latest[&b"a"[..]].entry.node, Node::File { .. }));
    model.check(0);
}
