//! Changes from one state to another, as `diff` shows them.

use lastgood::diff::Change;
use lastgood::{Entry, Node};
use serde_json::{Map, Value, json};

use super::entry;
use crate::app::App;
use crate::text;

/// What was shown so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Whether entries are shown of which only metadata differs.
    shows_metadata: bool,
    changed_files: u64,
    added: Tally,
    removed: Tally,
}

/// What one side has and the other has not.
#[derive(Debug, Default)]
struct Tally {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

impl Changes {
    pub(super) fn new(shows_metadata: bool) -> Self {
        Self { shows_metadata, ..Self::default() }
    }

    /// Shows a change, and counts it.
    pub(super) fn show(&mut self, app: &App<'_>, path: &[u8], change: &Change) {
        let (sign, newer) = match change {
            Change::Added(entry) => {
                self.added.add(entry);
                ("+", entry)
            }
            Change::Removed(entry) => {
                self.removed.add(entry);
                ("-", entry)
            }
            Change::Modified { after, differences, .. } => {
                let sign = match (differences.kind, differences.content, differences.metadata) {
                    (true, ..) => "T",
                    (_, true, true) if self.shows_metadata => "MU",
                    (_, true, _) => "M",
                    (_, _, true) if self.shows_metadata => "U",
                    _ => return,
                };
                self.changed_files += u64::from(sign != "U" && entry::size(after).is_some());
                (sign, after)
            }
        };
        app.out.json_with("change", || {
            let mut fields = Map::new();
            text::put_path(&mut fields, "path", path);
            fields.insert("modifier".to_owned(), sign.into());
            fields.insert("type".to_owned(), entry::kind(&newer.node).0.into());
            let (before, after) = match change {
                Change::Added(after) => (None, Some(after)),
                Change::Removed(before) => (Some(before), None),
                Change::Modified { before, after, .. } => (Some(before), Some(after)),
            };
            for (name, side) in [("size_before", before), ("size_after", after)] {
                if let Some(size) = side.and_then(entry::size) {
                    fields.insert(name.to_owned(), size.into());
                }
            }
            fields.into()
        });
        let is_whole_directory = newer.is_directory() && !matches!(change, Change::Modified { .. });
        let slash: &[u8] = if is_whole_directory { b"/" } else { b"" };
        let head = format!("{sign:<5}");
        app.out.bytes_line(&[head.as_bytes(), &app.out.path(path), slash]);
        app.out.exit_if_closed();
    }

    /// The numbers for programs, with what was compared.
    pub(super) fn summary(&self, sides: &[(&str, String)]) -> Value {
        let mut fields = json!({
            "changed_files": self.changed_files,
            "added": self.added.json(),
            "removed": self.removed.json(),
        });
        for (name, side) in sides {
            fields[name] = side.as_str().into();
        }
        fields
    }

    /// The numbers for people.
    pub(super) fn show_counts(&self, app: &App<'_>) {
        let Self { changed_files, added, removed, .. } = self;
        app.out.info("");
        app.out.info(format!(
            "Files:       {:>5} new, {:>5} removed, {changed_files:>5} changed",
            added.files, removed.files
        ));
        app.out.info(format!(
            "Directories: {:>5} new, {:>5} removed",
            added.directories, removed.directories
        ));
        app.out
            .info(format!("Others:      {:>5} new, {:>5} removed", added.others, removed.others));
        app.out.info(format!("Added:   {}", text::size(added.bytes)));
        app.out.info(format!("Removed: {}", text::size(removed.bytes)));
    }
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        match entry.node {
            Node::File { size, .. } => {
                self.files += 1;
                self.bytes += size;
            }
            Node::Directory { .. } => self.directories += 1,
            _ => self.others += 1,
        }
    }

    fn json(&self) -> Value {
        json!({
            "files": self.files,
            "dirs": self.directories,
            "others": self.others,
            "bytes": self.bytes,
        })
    }
}
