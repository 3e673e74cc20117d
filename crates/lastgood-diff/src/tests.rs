use std::collections::BTreeMap;

use lastgood_format::entry::{Marks, Timestamp};

use super::*;

/// A state in memory: path to entry. Directories have the identity of their listing.
#[derive(Clone, Default)]
struct Fake {
    entries: BTreeMap<Vec<u8>, Entry>,
    listed: usize,
}

impl State for Fake {
    type Directory = Vec<u8>;
    type Error = std::convert::Infallible;

    fn list(&mut self, directory: &Vec<u8>) -> Result<Vec<(Entry, Option<Vec<u8>>)>, Self::Error> {
        self.listed += 1;
        let below = |path: &[u8]| {
            let rest = if directory.is_empty() {
                path
            } else {
                path.strip_prefix(&directory[..])?.strip_prefix(b"/")?
            };
            (!rest.contains(&b'/')).then_some(())
        };
        Ok(self
            .entries
            .iter()
            .filter(|(path, _)| below(path).is_some())
            .map(|(path, entry)| (entry.clone(), entry.is_directory().then(|| path.clone())))
            .collect())
    }

    fn identity(&self, directory: &Vec<u8>) -> Option<BlobId> {
        let prefix = [directory, &b"/"[..]].concat();
        let below: Vec<_> = self
            .entries
            .iter()
            .filter(|(path, _)| directory.is_empty() || path.starts_with(&prefix))
            .map(|(path, entry)| format!("{path:?}{entry:?}"))
            .collect();
        let mut id = [0_u8; 32];
        for (at, byte) in below.concat().bytes().enumerate() {
            id[at % 32] = id[at % 32].wrapping_mul(31).wrapping_add(byte);
        }
        Some(BlobId::new(id))
    }
}

fn entry(path: &str, node: Node) -> (Vec<u8>, Entry) {
    let name = path.rsplit('/').next().unwrap().as_bytes().into();
    let entry = Entry {
        name,
        node,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    };
    (path.as_bytes().to_vec(), entry)
}

fn file(path: &str, content: u8) -> (Vec<u8>, Entry) {
    let content = Content::Chunk(BlobId::new([content; 32]));
    entry(path, Node::File { size: 1, content })
}

fn directory(path: &str) -> (Vec<u8>, Entry) {
    entry(path, Node::Directory { tree: BlobId::new([0; 32]) })
}

fn state<const N: usize>(entries: [(Vec<u8>, Entry); N]) -> Fake {
    Fake { entries: entries.into(), listed: 0 }
}

fn check(before: &mut Fake, after: &mut Fake, expected: &[&str]) {
    let mut seen = Vec::new();
    let root = Vec::new();
    let result =
        diff((before, &root), (after, &root), compare_recorded, &mut |path: &[u8], change| {
            let sign = match change {
                Change::Added(_) => "+",
                Change::Removed(_) => "-",
                Change::Modified { differences, .. } if differences.kind => "T",
                Change::Modified { differences, .. } if differences.content => "M",
                Change::Modified { .. } => "U",
            };
            seen.push(format!("{sign}{}", String::from_utf8_lossy(path)));
            Ok(())
        });
    assert_eq!(result, Ok(()));
    assert_eq!(seen, expected);
}

#[test]
fn every_kind_of_change_is_found_in_path_order() {
    let mut before = state([
        file("a", 1),
        directory("b"),
        file("b/x", 1),
        file("b/y", 1),
        directory("gone"),
        file("gone/f", 1),
        file("kind", 1),
        directory("turned"),
        file("turned/f", 1),
    ]);
    let mut after = state([
        file("a", 1),
        directory("b"),
        file("b/x", 2),
        file("b/z", 1),
        directory("kind"),
        file("kind/new", 1),
        file("turned", 1),
    ]);
    after.entries.get_mut(&b"a"[..]).unwrap().mode = 0o600;
    check(
        &mut before,
        &mut after,
        &[
            "Ua",
            "Mb/x",
            "-b/y",
            "+b/z",
            "-gone",
            "-gone/f",
            "Tkind",
            "+kind/new",
            "Tturned",
            "-turned/f",
        ],
    );
}

#[test]
fn equal_subtrees_are_not_listed() {
    let same = [directory("d"), directory("d/e"), file("d/e/f", 1), file("x", 1)];
    let mut before = state(same.clone());
    let mut after = state(same);
    after.entries.get_mut(&b"x"[..]).unwrap().mode = 0;
    check(&mut before, &mut after, &["Ux"]);
    assert_eq!((before.listed, after.listed), (1, 1));
}

/// A state of which some directories cannot be listed.
struct Unlisted(Fake, &'static str);

impl State for Unlisted {
    type Directory = Vec<u8>;
    type Error = &'static str;

    fn list(&mut self, directory: &Vec<u8>) -> Result<Vec<(Entry, Option<Vec<u8>>)>, &'static str> {
        if directory == self.1.as_bytes() {
            return Err("cannot be listed");
        }
        Ok(self.0.list(directory).unwrap_or_default())
    }

    fn identity(&self, _: &Vec<u8>) -> Option<BlobId> {
        None
    }
}

/// Goes on where it can, and does not mean what is called `out`.
#[derive(Default)]
struct Patient(Vec<String>);

impl Visit<&'static str> for Patient {
    fn change(&mut self, path: &[u8], change: Change) -> Result<(), &'static str> {
        let sign = if matches!(change, Change::Added(_)) { '+' } else { '-' };
        self.0.push(format!("{sign}{}", String::from_utf8_lossy(path)));
        Ok(())
    }

    fn unlisted(&mut self, path: &[u8], error: &'static str) -> Result<(), &'static str> {
        self.0.push(format!("{}: {error}", String::from_utf8_lossy(path)));
        Ok(())
    }

    fn is_meant(&mut self, path: &[u8], _: &Entry) -> bool {
        !path.ends_with(b"out")
    }
}

#[test]
fn what_cannot_be_listed_is_told_and_the_rest_compared() {
    let before = [directory("d"), file("d/gone", 1), file("x", 1)];
    let after = [
        directory("d"),
        file("d/new", 1),
        directory("e"),
        file("e/f", 1),
        directory("e/out"),
        file("e/out/f", 1),
    ];
    let check = |unlisted: (&'static str, &'static str), expected: &[&str]| {
        let mut sides = (
            Unlisted(state(before.clone()), unlisted.0),
            Unlisted(state(after.clone()), unlisted.1),
        );
        let mut visit = Patient::default();
        let root = Vec::new();
        diff((&mut sides.0, &root), (&mut sides.1, &root), compare_recorded, &mut visit).unwrap();
        assert_eq!(visit.0, expected, "{unlisted:?}");
    };
    check(("none", "none"), &["-d/gone", "+d/new", "+e", "+e/f", "-x"]);
    // Nothing is called removed because the other side could not be read, nor added.
    check(("none", "d"), &["d: cannot be listed", "+e", "+e/f", "-x"]);
    check(("d", "none"), &["d: cannot be listed", "+e", "+e/f", "-x"]);
    check(("none", "e"), &["-d/gone", "+d/new", "+e", "e: cannot be listed", "-x"]);
}
