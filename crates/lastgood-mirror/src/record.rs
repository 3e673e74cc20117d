//! What is known of one path: its entry, and where its bytes are.
//!
//! Entries are those of `lastgood-format`; a file's content is one chunk whose id is the SHA-256 of
//! its bytes, so that the one diff compares mirrors as it compares snapshots.
//! Spec: `docs/format/mirror.md`, section 4.

use lastgood_format::entry::{Content, DeviceNumber, Entry, Hint, Marks, Node, Timestamp, Xattr};
use lastgood_format::id::BlobId;

use crate::text::Writer;

#[cfg(test)]
mod tests;

/// A path below the root of the mirror, components joined by `/`; empty for the root itself.
pub type Path = Box<[u8]>;

/// Something at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What it is. Its name is the last component of the path.
    pub entry: Entry,
    /// Where its bytes are; meaningful for files only.
    pub at: At,
    /// What hard links of one file share: device and inode of the source. `None` for a single name.
    pub link: Option<(u64, u64)>,
    /// What the source looked like, to notice a change. All zero where that is not known.
    pub hint: Hint,
}

/// Where the bytes of a file of a version are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// In the folder of this version (for the newest: in `latest/`), at this path.
    Here(Path),
    /// They are those that this path has in the next version.
    Next(Path),
    /// Nowhere: they were damaged or lost before they could be kept.
    Lost,
}

/// What a version has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// Something.
    Present(Box<Present>),
}

impl State {
    /// What is there, if anything.
    #[must_use]
    pub fn present(&self) -> Option<&Present> {
        match self {
            Self::Absent => None,
            Self::Present(present) => Some(present),
        }
    }
}

impl Present {
    /// SHA-256 of the bytes of a file; `None` for what is no file.
    #[must_use]
    pub const fn hash(&self) -> Option<BlobId> {
        match self.entry.node {
            Node::File { content: Content::Chunk(id) | Content::Recipe(id), .. } => Some(id),
            Node::File { content: Content::Empty, .. } => Some(EMPTY),
            _ => None,
        }
    }

    /// Length of a file; 0 for what is no file.
    #[must_use]
    pub fn size(&self) -> u64 {
        lastgood_diff::file_bytes(&self.entry)
    }

    /// Whether it is a regular file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self.entry.node, Node::File { .. })
    }

    /// Whether two versions show the same: all but hints and places.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.entry == other.entry && self.link == other.link
    }

    /// Whether what an older version had needs no record: it is the same here, and not lost here
    /// alone.
    pub(crate) fn stands_for(&self, older: &Self) -> bool {
        self.is_same(older) && (self.at != At::Lost || older.at == At::Lost)
    }

    /// The record as a delta keeps it: hints are of the newest version only.
    #[must_use]
    pub fn at(&self, at: At) -> Self {
        Self { at, hint: Hint::default(), ..self.clone() }
    }
}

/// The content of a file.
#[must_use]
pub fn content(size: u64, hash: [u8; 32]) -> Node {
    let content = if size == 0 { Content::Empty } else { Content::Chunk(BlobId::new(hash)) };
    Node::File { size, content }
}

/// Last component of a path.
#[must_use]
pub fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// The directory that a path lies in; `None` for the root.
#[must_use]
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    Some(&path[..end])
}

/// A path with a name below it.
#[must_use]
pub fn join(directory: &[u8], name: &[u8]) -> Path {
    if directory.is_empty() { name.into() } else { [directory, b"/", name].concat().into() }
}

/// Whether a path is a directory or lies below it; all lies below the root.
#[must_use]
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether a path may stand in a record.
#[must_use]
pub fn is_valid(path: &[u8]) -> bool {
    path.is_empty() || path.split(|&byte| byte == b'/').all(Entry::is_valid_name)
}

/// Adds the line of a record, behind other fields.
pub fn write(others: &[&[u8]], path: &[u8], state: &State, out: &mut Writer) {
    let State::Present(present) = state else {
        out.fields(others);
        return out.line(&[b"", shown(path)]);
    };
    let entry = &present.entry;
    let (kind, at, size, hash) = match &entry.node {
        Node::File { size, .. } => {
            let hash = present.hash().map(|id| id.to_string()).unwrap_or_default();
            ("f", at_text(&present.at, path), size.to_string(), hash)
        }
        Node::Directory { .. } => ("d", Vec::new(), String::new(), String::new()),
        Node::Symlink { target } => ("l", target.to_vec(), String::new(), String::new()),
        Node::Fifo => ("p", Vec::new(), String::new(), String::new()),
        Node::Socket => ("s", Vec::new(), String::new(), String::new()),
        Node::CharDevice { device } => ("c", device_text(*device), String::new(), String::new()),
        Node::BlockDevice { device } => ("b", device_text(*device), String::new(), String::new()),
    };
    let link = present.link.map(|(device, inode)| format!("{device}:{inode}")).unwrap_or_default();
    let marks = if entry.marks.0 == 0 { String::new() } else { entry.marks.0.to_string() };
    let flags = if entry.flags == 0 { String::new() } else { format!("{:x}", entry.flags) };
    out.fields(others);
    out.line(&[
        kind.as_bytes(),
        shown(path),
        &at,
        size.as_bytes(),
        hash.as_bytes(),
        time_text(entry.mtime).as_bytes(),
        format!("{:04o}", entry.mode).as_bytes(),
        entry.uid.to_string().as_bytes(),
        entry.gid.to_string().as_bytes(),
        link.as_bytes(),
        marks.as_bytes(),
        flags.as_bytes(),
        &xattrs_text(entry.xattrs.as_deref().unwrap_or_default()),
        hint_text(&present.hint).as_bytes(),
    ]);
}

/// The record of a line; `None` when it makes no sense.
#[must_use]
pub fn parse(fields: &[Vec<u8>]) -> Option<(Path, State)> {
    let path = unshown_path(fields.get(1)?)?;
    if fields[0].is_empty() {
        return (fields.len() == 2).then_some((path, State::Absent));
    }
    let [kind, _, at, size, hash, mtime, mode, uid, gid, link, marks, flags, xattrs, hint, ..] =
        fields
    else {
        return None;
    };
    let mut place = At::Here(path.clone());
    let node = match kind.as_slice() {
        b"f" => {
            place = parse_at(at, &path)?;
            let id: BlobId = text(hash)?.parse().ok()?;
            content(number(size)?, *id.as_bytes())
        }
        b"d" => Node::Directory { tree: NO_TREE },
        b"l" => Node::Symlink { target: at.as_slice().into() },
        b"p" => Node::Fifo,
        b"s" => Node::Socket,
        b"c" => Node::CharDevice { device: parse_device(at)? },
        b"b" => Node::BlockDevice { device: parse_device(at)? },
        _ => return None,
    };
    let link = match link.as_slice() {
        b"" => None,
        pair => pair_of(pair, number),
    };
    let entry = Entry {
        name: name(&path).into(),
        node,
        mode: u16::from_str_radix(text(mode)?, 8).ok().filter(|mode| *mode <= 0o7777)?,
        uid: number(uid)?,
        gid: number(gid)?,
        mtime: parse_time(mtime)?,
        flags: if flags.is_empty() { 0 } else { u32::from_str_radix(text(flags)?, 16).ok()? },
        marks: if marks.is_empty() { Marks::NONE } else { Marks(number(marks)?) },
        xattrs: parse_xattrs(xattrs)?,
    };
    let present = Present { entry, at: place, link, hint: parse_hint(hint)? };
    Some((path, State::Present(Box::new(present))))
}

/// A directory's node: what it holds is what records say of the paths below it.
pub const DIRECTORY: Node = Node::Directory { tree: NO_TREE };

/// A path as text: the root is a dot, which no name is.
pub(crate) fn shown(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// The path of a field, if it may stand in a record.
pub(crate) fn unshown_path(text: &[u8]) -> Option<Path> {
    let path = unshown(text);
    is_valid(path).then(|| path.into())
}

fn unshown(text: &[u8]) -> &[u8] {
    if text == b"." { b"" } else { text }
}

fn at_text(at: &At, own: &[u8]) -> Vec<u8> {
    let place = |word: &str, path: &[u8]| match path {
        path if path == own => word.as_bytes().to_vec(),
        path => [word.as_bytes(), b":", path].concat(),
    };
    match at {
        At::Here(path) => place("here", path),
        At::Next(path) => place("next", path),
        At::Lost => b"lost".to_vec(),
    }
}

fn parse_at(text: &[u8], own: &[u8]) -> Option<At> {
    let colon = text.iter().position(|&byte| byte == b':');
    let (word, path) = match colon {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, own),
    };
    if !is_valid(path) || path.is_empty() {
        return None;
    }
    match word {
        b"here" => Some(At::Here(path.into())),
        b"next" => Some(At::Next(path.into())),
        b"lost" if colon.is_none() => Some(At::Lost),
        _ => None,
    }
}

/// `SECONDS.NANOSECONDS`.
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    format!("{}.{:09}", time.seconds, time.nanos)
}

/// The inverse of [`time_text`].
#[must_use]
pub fn parse_time(field: &[u8]) -> Option<Timestamp> {
    let (seconds, nanos) = text(field)?.split_once('.')?;
    let nanos: u32 = (nanos.len() == 9).then(|| nanos.parse().ok()).flatten()?;
    Some(Timestamp { seconds: seconds.parse().ok()?, nanos })
}

fn device_text(device: DeviceNumber) -> Vec<u8> {
    format!("{}:{}", device.major, device.minor).into_bytes()
}

fn parse_device(field: &[u8]) -> Option<DeviceNumber> {
    pair_of(field, number).map(|(major, minor)| DeviceNumber { major, minor })
}

fn xattrs_text(xattrs: &[Xattr]) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let pairs = xattrs.iter().map(|xattr| format!("{}={}", hex(&xattr.name), hex(&xattr.value)));
    pairs.collect::<Vec<_>>().join(",").into_bytes()
}

fn parse_xattrs(field: &[u8]) -> Option<Option<Box<[Xattr]>>> {
    if field.is_empty() {
        return Some(None);
    }
    let bytes = |hex: &str| -> Option<Box<[u8]>> {
        let digits = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        digits.collect()
    };
    let xattrs = text(field)?.split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some(Xattr { name: bytes(name)?, value: bytes(value)? })
    });
    Some(Some(xattrs.collect::<Option<_>>()?))
}

fn hint_text(hint: &Hint) -> String {
    if *hint == Hint::default() {
        return String::new();
    }
    let (ctime, btime) = (time_text(hint.ctime), time_text(hint.btime));
    format!("{ctime},{btime},{},{}", hint.inode, hint.device)
}

fn parse_hint(field: &[u8]) -> Option<Hint> {
    if field.is_empty() {
        return Some(Hint::default());
    }
    let parts: Vec<&[u8]> = field.split(|&byte| byte == b',').collect();
    let [ctime, btime, inode, device] = parts.as_slice() else { return None };
    Some(Hint {
        ctime: parse_time(ctime)?,
        btime: parse_time(btime)?,
        inode: number(inode)?,
        device: number(device)?,
    })
}

fn pair_of<T>(field: &[u8], parse: fn(&[u8]) -> Option<T>) -> Option<(T, T)> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    Some((parse(&field[..colon])?, parse(&field[colon + 1..])?))
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    text(field)?.parse().ok()
}

const NO_TREE: BlobId = BlobId::new([0; 32]);
/// SHA-256 of no bytes.
const EMPTY: BlobId = BlobId::new([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);
