//! Entries of snapshots, as `ls`, `find` and `diff` show them.

use lastgood::{Entry, Marks, Node, Snapshot};
use serde_json::{Map, Value, json};

use crate::failure::{Code, Failure};
use crate::text;

/// How long lines look.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct LongArgs {
    /// Show mode, owner, group, size and time as well
    #[arg(short, long)]
    pub(super) long: bool,
    /// Show sizes as 1.5 MiB
    #[arg(long)]
    human_readable: bool,
}

/// An entry for programs.
pub(super) fn json(snapshot: &Snapshot, entry: &Entry, path: &[u8]) -> Map<String, Value> {
    let mut fields = Map::new();
    text::put_path(&mut fields, "path", path);
    text::put_path(&mut fields, "name", &entry.name);
    let (kind, letter) = kind(&entry.node);
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("type", kind.into());
    put("mode", entry.mode.into());
    put("permissions", text::mode(letter, entry.mode).into());
    put("uid", entry.uid.into());
    put("gid", entry.gid.into());
    if let Some(user) = name_of(&snapshot.owners.users, entry.uid) {
        put("user", user.into());
    }
    if let Some(group) = name_of(&snapshot.owners.groups, entry.gid) {
        put("group", group.into());
    }
    put("mtime", text::time_json(entry.mtime).into());
    if entry.flags != 0 {
        put("flags", entry.flags.into());
    }
    if let Some(xattrs) = entry.xattrs.as_deref().filter(|xattrs| !xattrs.is_empty()) {
        let xattrs = xattrs.iter().map(|xattr| {
            let mut fields = Map::new();
            text::put_path(&mut fields, "name", &xattr.name);
            fields.insert("value".to_owned(), text::base64(&xattr.value).into());
            Value::from(fields)
        });
        put("xattrs", xattrs.collect());
    }
    let marks = [(Marks::UNSTABLE, "unstable"), (Marks::KEPT, "kept")];
    let marks: Vec<_> = marks
        .iter()
        .filter(|(mark, _)| entry.marks.contains(*mark))
        .map(|(_, name)| *name)
        .collect();
    if !marks.is_empty() {
        put("marks", json!(marks));
    }
    match &entry.node {
        Node::File { size, .. } => put("size", (*size).into()),
        Node::Symlink { target } => text::put_path(&mut fields, "linktarget", target),
        Node::CharDevice { device } | Node::BlockDevice { device } => {
            put("device", json!({ "major": device.major, "minor": device.minor }));
        }
        Node::Directory { .. } | Node::Fifo | Node::Socket => {}
    }
    fields
}

/// What stands before the path in a long line, and behind it.
pub(super) fn line(snapshot: &Snapshot, entry: &Entry, style: LongArgs) -> (String, Vec<u8>) {
    if !style.long {
        return (String::new(), Vec::new());
    }
    let bytes = size(entry).unwrap_or(0);
    let size = if style.human_readable { text::size(bytes) } else { bytes.to_string() };
    let owner = |names: &[(u32, String)], id: u32| {
        name_of(names, id).map_or_else(|| id.to_string(), |name| text::escaped(name.as_bytes()))
    };
    let (_, letter) = kind(&entry.node);
    let head = format!(
        "{} {:<8} {:<8} {:>12} {} ",
        text::mode(letter, entry.mode),
        owner(&snapshot.owners.users, entry.uid),
        owner(&snapshot.owners.groups, entry.gid),
        size,
        text::time(entry.mtime)
    );
    let tail = match &entry.node {
        Node::Symlink { target } => [b" -> ", &target[..]].concat(),
        _ => Vec::new(),
    };
    (head, tail)
}

/// Length of a file.
pub(super) const fn size(entry: &Entry) -> Option<u64> {
    match entry.node {
        Node::File { size, .. } => Some(size),
        _ => None,
    }
}

/// What an entry is, as a word and as a letter.
pub(super) const fn kind(node: &Node) -> (&'static str, char) {
    match node {
        Node::File { .. } => ("file", '-'),
        Node::Directory { .. } => ("dir", 'd'),
        Node::Symlink { .. } => ("symlink", 'l'),
        Node::Fifo => ("fifo", 'p'),
        Node::Socket => ("socket", 's'),
        Node::CharDevice { .. } => ("chardev", 'c'),
        Node::BlockDevice { .. } => ("dev", 'b'),
    }
}

/// The failure of a command that met damaged directories and listed the rest.
pub(super) fn all_listed(lost: u64) -> Result<(), Failure> {
    match lost {
        0 => Ok(()),
        count => {
            let places = text::count(count, "place");
            let message = format!("what is in {places} of the snapshots cannot be read");
            Err(Failure::new(Code::Damaged, message))
        }
    }
}

fn name_of(names: &[(u32, String)], id: u32) -> Option<&str> {
    let index = names.binary_search_by_key(&id, |(number, _)| *number).ok()?;
    Some(&names[index].1)
}
