use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;

mod git;
mod lists;
mod rules;
mod sizes;

const FILE: Kind = Kind::File;
const DIRECTORY: Kind = Kind::Directory;

fn facts(kind: Kind) -> Facts {
    Facts { kind, size: 1, file_id: (1, 1) }
}

fn excludes(patterns: &[&str]) -> SelectOptions {
    let excludes = patterns.iter().map(|&pattern| pattern.into()).collect();
    SelectOptions { excludes, ..SelectOptions::default() }
}

fn compile(options: &SelectOptions, root: &str) -> Selection {
    Selection::compile(options, &[root.into()]).expect("rules compile")
}

fn error(options: &SelectOptions) -> String {
    let error = Selection::compile(options, &["/src".into()]).expect_err("rules are refused");
    with_sources(&error)
}

fn with_sources(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_sources(source)),
        None => error.to_string(),
    }
}

/// Whether the scan would reach and take a path below source 0. `path` ends in `/` for a directory.
fn is_excluded(selection: &Selection, path: &[u8]) -> bool {
    let is_directory = path.ends_with(b"/");
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    let mut start = 0;
    for end in ends.chain([path.len()]) {
        let kind = if end < path.len() || is_directory { DIRECTORY } else { FILE };
        let mut scope = selection.enter(0, &path[..start.max(1) - 1], |_, _| None);
        if scope.decide(&path[start..end], &facts(kind)) != Decision::Include {
            return true;
        }
        start = end + 1;
    }
    false
}

fn check(patterns: &[&str], included: &[&str], excluded: &[&str]) {
    let selection = compile(&excludes(patterns), "/home/me");
    for path in included {
        assert!(!is_excluded(&selection, path.as_bytes()), "{path} is out by {patterns:?}");
    }
    for path in excluded {
        assert!(is_excluded(&selection, path.as_bytes()), "{path} is in despite {patterns:?}");
    }
}

/// A file system of a map from path to facts and content.
#[derive(Default)]
struct World(BTreeMap<PathBuf, (Facts, Vec<u8>)>);

impl World {
    fn add(mut self, path: &str, kind: Kind, device: u64, content: &[u8]) -> Self {
        let size = content.len() as u64;
        let facts = Facts { kind, size, file_id: (device, self.0.len() as u64) };
        self.0.insert(path.into(), (facts, content.into()));
        self
    }
}

impl Probe for World {
    fn facts(&mut self, path: &Path) -> Option<Facts> {
        self.0.get(path).map(|(facts, _)| *facts)
    }

    fn head(&mut self, path: &Path, bytes_max: usize) -> Option<Vec<u8>> {
        self.0.get(path).map(|(_, content)| content[..content.len().min(bytes_max)].to_vec())
    }
}
