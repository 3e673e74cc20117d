//! Which part of a snapshot is meant, and where it goes.

use lastgood_format::entry::{Entry, Node};
use lastgood_format::id::BlobId;
use lastgood_format::pack::BlobKind;
use lastgood_format::snapshot::Snapshot;
use lastgood_format::tree::TreeCodec;
use lastgood_repo::BlobReader;

use crate::error::{Error, ErrorKind};
use crate::job::Control;
use crate::pages::Pages;
use crate::restore::walk::{Choice, Choose};

/// A directory of the snapshot whose content goes right into the target, and what of it is meant.
pub(crate) struct Scope {
    /// Its tree.
    pub(crate) tree: BlobId,
    /// Its path in the snapshot, without a leading `/`.
    pub(crate) path: Vec<u8>,
    /// The directory itself; `None` for the root of the snapshot, which has no metadata.
    pub(crate) entry: Option<Entry>,
    /// When given, only this path, the way to it, and what is below it is meant.
    pub(crate) only: Option<Vec<u8>>,
}

impl Scope {
    /// Finds what `subpath` means: all when it is empty, the path from the root of the snapshot
    /// when it begins with `/`, else the path from the deepest directory that holds all sources.
    ///
    /// Without `full_paths`, a directory's content goes into the target, and anything else itself.
    ///
    /// # Errors
    /// When there is no such path, or a tree on the way cannot be read.
    pub(crate) fn find(
        reader: &BlobReader,
        snapshot: &Snapshot,
        subpath: &[u8],
        full_paths: bool,
    ) -> Result<Self, Error> {
        let mut path = Vec::new();
        if !subpath.starts_with(b"/") {
            path = common_directory(&snapshot.sources);
        }
        path.extend(subpath.split(|byte| *byte == b'/').filter(|name| !name.is_empty()));
        let (mut tree, mut entry) = (snapshot.tree, None);
        let (root, mut walked) = (snapshot.tree, Vec::new());
        for (index, name) in path.iter().enumerate() {
            let found = child(reader, tree, name)?.ok_or_else(|| not_found(&path))?;
            match found.node {
                Node::Directory { tree: below } => {
                    tree = below;
                    entry = Some(found);
                    walked.push(*name);
                }
                _ if index + 1 == path.len() && !full_paths => {
                    let only = Some(path.join(&b'/'));
                    return Ok(Self { tree, path: walked.join(&b'/'), entry: None, only });
                }
                _ if index + 1 == path.len() => {}
                _ => return Err(not_found(&path)),
            }
        }
        if full_paths {
            let only = Some(path.join(&b'/')).filter(|only| !only.is_empty());
            return Ok(Self { tree: root, path: Vec::new(), entry: None, only });
        }
        Ok(Self { tree, path: walked.join(&b'/'), entry, only: None })
    }

    /// Start of every path that is meant.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.only.as_deref().unwrap_or(&self.path)
    }

    /// Whether the entry at `path` is meant, and what `choose` has to say of it if so.
    pub(crate) fn choice(&self, choose: Option<&Choose>, path: &[u8], directory: bool) -> Choice {
        let is_below = |path: &[u8], of: &[u8]| {
            path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        match &self.only {
            Some(only) if !is_below(path, only) => {
                if is_below(only, path) {
                    Choice::Restore
                } else {
                    Choice::Skip
                }
            }
            _ => choose.map_or(Choice::Restore, |choose| choose(path, directory)),
        }
    }

    /// Counts files and others, and bytes of files, that are meant. Reads the trees below, and
    /// nothing else; what cannot be read is not counted, and reported later.
    ///
    /// # Errors
    /// When cancelled.
    pub(crate) fn count(
        &self,
        control: &Control,
        reader: &BlobReader,
        choose: Option<&Choose>,
    ) -> Result<(u64, u64), Error> {
        let (mut files, mut bytes) = (0_u64, 0_u64);
        let mut path = self.path.clone();
        let pages = |tree| Pages::<TreeCodec>::new(reader, BlobKind::Tree, tree);
        let mut levels = vec![(pages(self.tree), path.len())];
        while let Some((entries, length)) = levels.last_mut() {
            path.truncate(*length);
            control.check()?;
            match entries.next() {
                Some(Ok(entry)) => {
                    push(&mut path, &entry.name);
                    let choice = self.choice(choose, &path, entry.is_directory());
                    match entry.node {
                        _ if choice == Choice::Skip => {}
                        Node::Directory { tree } => {
                            if levels.len() < lastgood_format::limits::TREE_DEPTH_MAX {
                                levels.push((pages(tree), path.len()));
                            }
                        }
                        Node::File { size, .. } => {
                            files += 1;
                            bytes = bytes.saturating_add(size);
                        }
                        _ => files += 1,
                    }
                }
                Some(Err(_)) => {}
                None => {
                    levels.pop();
                }
            }
        }
        Ok((files, bytes))
    }
}

/// The entry `name` of a directory.
fn child(reader: &BlobReader, tree: BlobId, name: &[u8]) -> Result<Option<Entry>, Error> {
    let mut lost = None;
    for entry in Pages::<TreeCodec>::new(reader, BlobKind::Tree, tree) {
        match entry {
            Ok(entry) if *entry.name == *name => return Ok(Some(entry)),
            Ok(_) => {}
            Err(gap) => lost = Some(gap.error),
        }
    }
    lost.map_or(Ok(None), |error| Err(error.into()))
}

/// The names that lead to the deepest path which is above, or is, every source.
fn common_directory(sources: &[Vec<u8>]) -> Vec<&[u8]> {
    fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }
    let Some((first, rest)) = sources.split_first() else {
        return Vec::new();
    };
    let mut common: Vec<&[u8]> = names(first).collect();
    for source in rest {
        let shared = common.iter().zip(names(source)).take_while(|(a, b)| **a == *b).count();
        common.truncate(shared);
    }
    common
}

fn not_found(path: &[&[u8]]) -> Error {
    let path = path.join(&b'/');
    let path = String::from_utf8_lossy(&path);
    Error::new(
        ErrorKind::NotFound,
        format!("the snapshot has no /{path}; `lastgood ls` lists its paths"),
    )
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
