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
    let result = diff((before, &root), (after, &root), compare_recorded, &mut |path, change| {
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
