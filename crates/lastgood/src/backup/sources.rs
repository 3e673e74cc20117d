//! The sources of a run, as one tree that leads from `/` to each of them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use lastgood_host::scan::Directory;

use crate::error::{Error, ErrorKind};

/// Sources, absolute, sorted, none below another.
#[derive(Debug)]
pub(super) struct Sources {
    paths: Vec<PathBuf>,
    root: SourceNode,
    /// Devices of sources that lie below another: the user named them, so they are entered.
    pub(super) named_devices: Vec<u64>,
}

/// A directory on the way to sources, or a source.
#[derive(Debug, Default)]
pub(super) struct SourceNode {
    /// Index of the source, when this is one.
    pub(super) source: Option<usize>,
    /// Directories on the way, and sources, by name.
    pub(super) children: BTreeMap<Box<[u8]>, Self>,
}

impl Sources {
    /// Absolute paths of the sources.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The same as bytes, as the snapshot lists them.
    pub(super) fn snapshot_paths(&self) -> Vec<Vec<u8>> {
        self.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
    }

    /// What stands for `/`.
    pub(super) const fn root(&self) -> &SourceNode {
        &self.root
    }
}

/// Makes `paths` absolute without resolving links, and drops those that lie below another.
pub(super) fn absolute(paths: &[PathBuf]) -> Result<Sources, Error> {
    if paths.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "there is nothing to back up: name a path"));
    }
    let mut absolute = Vec::new();
    for path in paths {
        let failed = |source: std::io::Error| {
            let kind = match ErrorKind::from(&source) {
                ErrorKind::Unavailable => ErrorKind::Invalid,
                kind => kind,
            };
            Error::caused_by(kind, format!("cannot back up {}", path.display()), source)
        };
        let full = std::path::absolute(path).map_err(failed)?;
        let has_parent = full.components().any(|part| part == Component::ParentDir);
        // A link that the user names stands for what it points to only with a slash behind it.
        let bytes = path.as_os_str().as_bytes();
        let ends_open = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || has_parent;
        let found = if ends_open { full.metadata() } else { full.symlink_metadata() };
        found.map_err(failed)?;
        let plain: PathBuf = full.components().collect();
        let is_link = plain.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        // What `..` leads to depends on links, so it is the file system that resolves it.
        let is_resolved = has_parent || ends_open && is_link;
        absolute.push(if is_resolved { full.canonicalize().map_err(failed)? } else { plain });
    }
    absolute.sort();
    absolute.dedup();
    let mut kept: Vec<PathBuf> = Vec::new();
    let mut named_devices = Vec::new();
    for path in absolute {
        // Sorted by component, so what lies below a path follows it.
        if kept.last().is_some_and(|outer| path.starts_with(outer)) {
            named_devices.extend(Directory::stat_path(&path).map(|stat| stat.hint.device));
        } else {
            kept.push(path);
        }
    }
    let bytes: usize = kept.iter().map(|path| path.as_os_str().len()).sum();
    if bytes > SOURCES_BYTES_MAX {
        let text = "there are more sources than a snapshot can list; name directories above them";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(Sources { named_devices, ..build(kept) })
}

/// The one source of a stream, which need not exist.
pub(super) fn of_stream(path: &Path) -> Result<Sources, Error> {
    let full: PathBuf = Path::new("/").join(path).components().collect();
    let is_plain = full.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || full.file_name().is_none() {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{} cannot be the name of a file in a snapshot", path.display()),
        ));
    }
    Ok(build(vec![full]))
}

fn build(paths: Vec<PathBuf>) -> Sources {
    let mut root = SourceNode::default();
    for (index, path) in paths.iter().enumerate() {
        let mut node = &mut root;
        for part in path.components() {
            if let Component::Normal(name) = part {
                node = node.children.entry(name.as_bytes().into()).or_default();
            }
        }
        node.source = Some(index);
    }
    Sources { paths, root, named_devices: Vec::new() }
}

/// Bytes of all source paths: a snapshot lists them, and has room for twice as many.
const SOURCES_BYTES_MAX: usize = 8 << 20;
