//! `lastgood mirror versions`.

use std::path::PathBuf;

use lastgood::Node;
use lastgood::mirror::{self, FileVersion, Version};
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

/// Flags of `mirror versions`.
#[derive(Debug, clap::Args)]
pub(super) struct VersionsArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// A path below the source: list what it was, and since when
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

impl VersionsArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        match &self.path {
            Some(path) => show_states(app, &mirror::versions_of(&self.mirror, path)?),
            None => show_versions(app, &mirror::versions(&self.mirror)?),
        }
        Ok(())
    }
}

fn show_versions(app: &App<'_>, versions: &[Version]) {
    let mut table = Table::new(&[
        ("Version", Align::Left),
        ("Time", Align::Left),
        ("Files", Align::Right),
        ("Size", Align::Right),
    ]);
    for version in versions {
        app.out.json("mirror_version", version_json(version));
        let mark = if version.kept > 0 { "!" } else { "" };
        table.row(vec![
            format!("{}{mark}", version.name),
            text::time(version.time),
            version.files.to_string(),
            text::size(version.bytes),
        ]);
    }
    app.out.lines(table.lines());
    app.out.json("summary", json!({ "versions_count": versions.len() }));
}

fn version_json(version: &Version) -> Value {
    json!({
        "name": version.name,
        "time": text::time_json(version.time),
        "files": version.files,
        "bytes": version.bytes,
        "entries_kept": version.kept,
    })
}

/// A version that was made just now.
pub(super) fn show_made(app: &App<'_>, version: &Version, errors: u64) {
    let mut fields = version_json(version);
    fields["error_count"] = errors.into();
    app.out.json("summary", fields);
    app.out.info(format!("version {} made", version.name));
}

fn show_states(app: &App<'_>, states: &[FileVersion]) {
    let mut table = Table::new(&[
        ("Since version", Align::Left),
        ("What", Align::Left),
        ("Size", Align::Right),
        ("Modified", Align::Left),
    ]);
    for FileVersion { version, entry } in states {
        let mut fields = json!({
            "version": version.name,
            "time": text::time_json(version.time),
            "type": entry.as_ref().map_or("absent", kind),
        });
        let mut cells = vec![version.name.clone()];
        cells.push(entry.as_ref().map_or("absent", kind).to_owned());
        if let Some(entry) = entry {
            let size = match entry.node {
                Node::File { size, .. } => Some(size),
                _ => None,
            };
            fields["mtime"] = text::time_json(entry.mtime).into();
            if let Some(size) = size {
                fields["size"] = size.into();
            }
            cells.push(size.map(text::size).unwrap_or_default());
            cells.push(text::time(entry.mtime));
        } else {
            cells.extend([String::new(), String::new()]);
        }
        app.out.json("mirror_state", fields);
        table.row(cells);
    }
    app.out.lines(table.lines());
    app.out.json("summary", json!({ "states_count": states.len() }));
}

const fn kind(entry: &lastgood::Entry) -> &'static str {
    match entry.node {
        Node::File { .. } => "file",
        Node::Directory { .. } => "dir",
        Node::Symlink { .. } => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharDevice { .. } => "chardev",
        Node::BlockDevice { .. } => "dev",
    }
}
