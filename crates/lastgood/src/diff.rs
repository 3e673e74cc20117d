//! Diff: a snapshot against another one, or against what is live now.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use lastgood_diff::{Change, Differences, Visit};
use lastgood_diff::{State, compare_live, compare_recorded};
use lastgood_host::scan::{Directory, Kind, ListBuffer, Root, Seen};
use lastgood_repo::format::entry::{Content, Entry, Node};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::{Repository, SnapshotRecord};

use crate::error::{Error, ErrorKind};
use crate::view::{Found, SnapshotView, ViewDirectory};

/// Visits what differs between two snapshots, or two directories in them, in path order.
///
/// # Errors
/// [`ErrorKind::NotFound`] names a path; whatever `visit` returns.
pub fn snapshots(
    repo: &Arc<Repository>,
    before: (&SnapshotRecord, Option<&[u8]>),
    after: (&SnapshotRecord, Option<&[u8]>),
    visit: &mut dyn Visit<Error>,
) -> Result<(), Error> {
    let mut views = Vec::new();
    for (record, path) in [before, after] {
        let view = SnapshotView::open(repo, record.clone())?;
        let directory = directory_at(&view, path)?;
        views.push((view, directory));
    }
    let (Some((mut after, after_at)), Some((mut before, before_at))) = (views.pop(), views.pop())
    else {
        return Err(Error::new(ErrorKind::Bug, "a diff has two sides"));
    };
    lastgood_diff::diff((&mut before, &before_at), (&mut after, &after_at), compare_recorded, visit)
}

/// Visits what changed since a snapshot in its sources, or in one directory of them. Files are told
/// apart by size and time, not read; `lastgood verify` reads them. Paths are absolute.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the path is not in the snapshot; whatever `visit` returns.
pub fn live(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
    path: Option<&[u8]>,
    visit: &mut dyn Visit<Error>,
) -> Result<(), Error> {
    let mut view = SnapshotView::open(repo, record.clone())?;
    let places = match path {
        Some(path) => vec![path.to_vec()],
        None => record.snapshot.sources.clone(),
    };
    for place in places {
        let (at, found) = view.find(&place)?;
        let absolute = [b"/", &at[..]].concat();
        let live_path = PathBuf::from(
            <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(absolute.clone()),
        );
        let (entry, directory) = match found {
            Found::Root(directory) => (None, Some(directory)),
            Found::Entry(entry, directory) => (Some(entry), directory),
        };
        let live = match Root::open(&live_path) {
            Ok(live) => live,
            Err(error) if error.is_not_found() => {
                entry.map_or(Ok(()), |entry| visit.change(&absolute, Change::Removed(entry)))?;
                continue;
            }
            Err(error) => {
                visit.unlisted(&absolute, error.into())?;
                continue;
            }
        };
        match (live, directory) {
            (Root::Directory(live), Some(directory)) => {
                let live = LiveDirectory::Open(Arc::new(live));
                lastgood_diff::diff(
                    (&mut view, &directory),
                    (&mut LiveState::default(), &live),
                    compare_live,
                    &mut Below { base: &at, visit: &mut *visit },
                )?;
            }
            (live, _) => {
                let after = live_entry(live)?;
                if let Some(before) = entry {
                    let differences = compare_live(&before, &after);
                    if differences.any() {
                        let change = Change::Modified { before, after, differences };
                        visit.change(&absolute, change)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What a snapshot has at an absolute path, and what is there now. What cannot be read is `None`.
#[must_use]
pub fn sides(view: &SnapshotView, path: &Path) -> (Option<Entry>, Option<Entry>) {
    let recorded = match view.find(path.as_os_str().as_bytes()) {
        Ok((_, Found::Entry(entry, _))) => Some(entry),
        _ => None,
    };
    let live = Root::open(path).ok().and_then(|live| live_entry(live).ok());
    (recorded, live)
}

fn directory_at(view: &SnapshotView, path: Option<&[u8]>) -> Result<ViewDirectory, Error> {
    let Some(path) = path else { return Ok(view.root()) };
    match view.find(path)?.1 {
        Found::Root(directory) | Found::Entry(_, Some(directory)) => Ok(directory),
        Found::Entry(_, None) => {
            let path = String::from_utf8_lossy(path);
            Err(Error::new(ErrorKind::Invalid, format!("{path:?} is not a directory")))
        }
    }
}

/// Makes absolute paths of those below a directory.
struct Below<'a> {
    base: &'a [u8],
    visit: &'a mut dyn Visit<Error>,
}

impl Below<'_> {
    fn path(&self, below: &[u8]) -> Vec<u8> {
        let parts = [self.base, below];
        let parts = parts.iter().filter(|part| !part.is_empty());
        parts.flat_map(|part| [b"/", *part]).collect::<Vec<_>>().concat()
    }
}

impl Visit<Error> for Below<'_> {
    fn change(&mut self, path: &[u8], change: Change) -> Result<(), Error> {
        self.visit.change(&self.path(path), change)
    }

    fn unlisted(&mut self, path: &[u8], error: Error) -> Result<(), Error> {
        self.visit.unlisted(&self.path(path), error)
    }

    fn is_meant(&mut self, path: &[u8], entry: &Entry) -> bool {
        self.visit.is_meant(&self.path(path), entry)
    }
}

/// What lies on this machine now.
#[derive(Default)]
pub(crate) struct LiveState {
    names: ListBuffer,
}

/// A live directory, opened only when it is listed: a directory may have more directories in it
/// than there are descriptors.
pub(crate) enum LiveDirectory {
    Open(Arc<Directory>),
    Child(Arc<Directory>, Box<[u8]>),
}

impl State for LiveState {
    type Directory = LiveDirectory;
    type Error = Error;

    fn list(
        &mut self,
        directory: &LiveDirectory,
    ) -> Result<Vec<(Entry, Option<LiveDirectory>)>, Error> {
        let directory = match directory {
            LiveDirectory::Open(directory) => directory.clone(),
            LiveDirectory::Child(parent, name) => match parent.open_child(name) {
                Ok(directory) => Arc::new(directory),
                // Gone since its parent was listed.
                Err(error) if error.is_not_found() => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            },
        };
        let listing = directory.list(&mut self.names)?;
        let mut entries = Vec::with_capacity(listing.len());
        for scanned in directory.scan(&listing) {
            let stat = match scanned.seen {
                Seen::Vanished => continue,
                Seen::Unreadable(error) => return Err(error.into()),
                Seen::Stat(stat) => stat,
            };
            let details = directory.details(scanned.name, &stat);
            let node = node_of(stat.kind, stat.size, stat.special_node(), || {
                directory.read_link(scanned.name)
            })?;
            let below = match stat.kind {
                Kind::Directory => {
                    Some(LiveDirectory::Child(directory.clone(), scanned.name.into()))
                }
                _ => None,
            };
            entries.push((stat.entry(scanned.name, node, details), below));
        }
        Ok(entries)
    }

    fn identity(&self, _: &LiveDirectory) -> Option<BlobId> {
        None
    }
}

fn live_entry(live: Root) -> Result<Entry, Error> {
    match live {
        Root::Directory(directory) => {
            let stat = directory.own_stat()?;
            let node = Node::Directory { tree: BlobId::new([0; 32]) };
            Ok(stat.entry(b"", node, directory.own_details()))
        }
        Root::Entry(entry) => {
            let details = entry.parent.details(&entry.name, &entry.stat);
            let (kind, size) = (entry.stat.kind, entry.stat.size);
            let node = node_of(kind, size, entry.stat.special_node(), || {
                entry.parent.read_link(&entry.name)
            })?;
            Ok(entry.stat.entry(&entry.name, node, details))
        }
    }
}

/// A node without content ids: what can be said of a live entry without reading it.
fn node_of(
    kind: Kind,
    size: u64,
    special: Option<Node>,
    link: impl FnOnce() -> Result<Box<[u8]>, lastgood_host::HostError>,
) -> Result<Node, Error> {
    Ok(match kind {
        Kind::File => Node::File { size, content: Content::Empty },
        Kind::Directory => Node::Directory { tree: BlobId::new([0; 32]) },
        Kind::Symlink => Node::Symlink { target: link()? },
        _ => special.unwrap_or(Node::Socket),
    })
}
