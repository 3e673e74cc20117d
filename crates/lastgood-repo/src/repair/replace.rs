//! A snapshot in the place of one that has lost something for good: the same, but for what is lost.
//!
//! A file of which a part is lost keeps the rest, under a name that says so and with holes in the
//! place of what is lost: nothing that has the name of a file is ever anything but the file. Of a
//! directory that has lost a page, the other pages stay. Hints are left out, so that nobody takes
//! the replacement for what the source holds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use lastgood_format::entry::{Content, Entry, NAME_BYTES_MAX, Node};
use lastgood_format::hints::HintsCodec;
use lastgood_format::id::{BlobId, PackId};
use lastgood_format::limits::TREE_DEPTH_MAX;
use lastgood_format::links::LinksCodec;
use lastgood_format::object::name;
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;
use lastgood_format::page::{self, LeafCodec, Page};
use lastgood_format::recipe::{Part, PartJoiner, RecipeCodec};
use lastgood_format::snapshot::{Snapshot, SnapshotFlags, Totals};
use lastgood_format::tree::TreeCodec;

use super::lost::{LostBlobs, NamedPacks};
use crate::error::{Damage, RepoError};
use crate::packer::{BlobWriter, Settings};
use crate::reader::BlobReader;
use crate::repository::Repository;
use crate::session::WriteSession;
use crate::snapshots::SnapshotRecord;

/// What a file of which parts are lost is called, after its name.
pub const INCOMPLETE_SUFFIX: &[u8] = b".incomplete";

/// Commits snapshots in the place of others.
#[derive(Debug, Clone, Copy)]
pub struct Replacing<'a> {
    /// The repository.
    pub repo: &'a Arc<Repository>,
    /// Packs that are damaged beyond mending, or gone; all others were read and are whole.
    pub lost_packs: &'a HashSet<PackId>,
    /// What the snapshots lack.
    pub lost: &'a LostBlobs,
    /// Name of the writer that commits them.
    pub writer_name: [u8; 16],
    /// Name and version of the program.
    pub program: &'a str,
}

impl Replacing<'_> {
    /// Commits a snapshot that is `record` without what is lost of it; nothing when all of it is.
    ///
    /// # Errors
    /// [`RepoError::Missing`] while snapshots are missing; when a pack that is needed is condemned
    /// just now; whatever the backend says. Nothing is committed then.
    pub fn replace(&self, record: &SnapshotRecord) -> Result<Option<SnapshotRecord>, RepoError> {
        let repo = self.repo;
        let snapshots = repo.snapshots()?;
        repo.refuse_if_missing()?;
        let (settings, writer) = (Settings::default(), &self.writer_name);
        let session = WriteSession::begin_without(repo, settings, writer, self.lost_packs)?;
        let reader = BlobReader::new(repo.clone());
        let named = NamedPacks::of(&[&reader], std::slice::from_ref(record))?;
        reader.add_packs(Arc::new(named.packs.values().copied().collect()));
        let mut rebuild = Rebuild {
            reader: &reader,
            lost: self.lost,
            writer: session.writer(),
            directories: HashMap::new(),
            packs: None,
        };
        if named.is_unreadable(record.id) {
            rebuild.packs = Some(HashSet::new());
        }
        let old = &record.snapshot;
        // Deep trees take a deep stack.
        let (tree, totals) = std::thread::scope(|scope| {
            let build = || rebuild.directory(old.tree, 0);
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, build).map_err(|_| RepoError::Stopped)?;
            thread.join().map_err(|_| RepoError::Stopped)?
        })?;
        if totals == Totals::default() {
            return Ok(None);
        }
        let links = rebuild.links(old.links)?;
        let hints = rebuild.empty::<HintsCodec>(BlobKind::Hints)?;
        // Blobs that lie where nothing may refer to them are stored again.
        for (&id, &kind) in &self.lost.loose {
            rebuild.writer.add_identified(kind, id, &reader.blob(kind, id)?)?;
        }
        let Rebuild { writer, packs, .. } = rebuild;
        writer.finish()?;
        let packs = packs.unwrap_or_else(|| named.packs.values().copied().collect());
        let packs = packs.into_iter().filter(|pack| !self.lost_packs.contains(&pack.pack));
        if let Some(pack) = session.refer_to(packs) {
            let why = Damage::State("gc is about to remove it; run the command again");
            return Err(repo.damaged(&name::pack(pack.session, pack.pack), why));
        }
        let chain = snapshots.next_in_chain(session.writer_id(), &[record.id]);
        let flags = SnapshotFlags(old.flags.0 | SnapshotFlags::INCOMPLETE.0);
        let committed = session.finish(&[], |stored| Snapshot {
            session: stored.session,
            tree,
            hints,
            links,
            pack_set: stored.pack_set,
            ref_packs: stored.ref_packs,
            chain,
            totals,
            flags,
            program: self.program.to_owned(),
            original: None,
            ..old.clone()
        })?;
        Ok(Some(committed))
    }
}

/// A tree that is built again.
struct Rebuild<'a> {
    reader: &'a BlobReader,
    lost: &'a LostBlobs,
    writer: BlobWriter,
    /// Directories that were built, by their old roots, with what they hold.
    directories: HashMap<BlobId, (BlobId, Totals)>,
    /// Packs of what is kept, where no set tells of them.
    packs: Option<HashSet<PackRef>>,
}

/// Items of a list that is read around what is lost, and the measures of that.
enum Item<T> {
    Found(T),
    Lost(u64),
}

impl Rebuild<'_> {
    /// Whether a blob is there; notes where.
    fn has(&mut self, kind: BlobKind, id: BlobId) -> Result<bool, RepoError> {
        if self.lost.lost.contains_key(&id) {
            return Ok(false);
        }
        if let Some(packs) = &mut self.packs {
            packs.extend(self.reader.packs_with_bases(kind, id)?);
        }
        Ok(true)
    }

    /// The bytes of a blob; nothing when it is lost.
    fn read(&mut self, kind: BlobKind, id: BlobId) -> Result<Option<Vec<u8>>, RepoError> {
        if !self.has(kind, id)? {
            return Ok(None);
        }
        match self.reader.blob(kind, id) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything that is left of a list.
    fn items<C: LeafCodec>(
        &mut self,
        kind: BlobKind,
        root: BlobId,
    ) -> Result<Vec<Item<C::Item>>, RepoError> {
        let mut items = Vec::new();
        let mut open = vec![(root, None::<u8>, u64::MAX)];
        while let Some((id, level, measure)) = open.pop() {
            let bytes = self.read(kind, id)?;
            let page = bytes.and_then(|bytes| page::decode::<C>(&bytes, level).ok());
            match page {
                None => items.push(Item::Lost(measure)),
                Some((_, Page::Leaf(found))) => items.extend(found.into_iter().map(Item::Found)),
                Some((level, Page::Interior(children))) => {
                    let below = level.checked_sub(1);
                    let children = children.into_iter().rev();
                    open.extend(children.map(|child| (child.page, below, child.measure)));
                }
            }
        }
        Ok(items)
    }

    /// Builds a directory again: its root, and what it holds.
    fn directory(&mut self, root: BlobId, depth: usize) -> Result<(BlobId, Totals), RepoError> {
        if let Some(built) = self.directories.get(&root) {
            return Ok(*built);
        }
        let (mut entries, mut incomplete) = (Vec::new(), Vec::new());
        let mut totals = Totals::default();
        let items = match depth <= TREE_DEPTH_MAX {
            true => self.items::<TreeCodec>(BlobKind::Tree, root)?,
            false => Vec::new(),
        };
        for item in items {
            let Item::Found(mut entry) = item else {
                totals.errors += 1;
                continue;
            };
            match entry.node {
                Node::Directory { tree } => {
                    let (tree, below) = self.directory(tree, depth + 1)?;
                    entry.node = Node::Directory { tree };
                    add(&mut totals, &below);
                    totals.directories += 1;
                    entries.push(entry);
                }
                Node::File { size, content } => match self.file(size, content)? {
                    Some(kept) if kept == content => {
                        totals.files += 1;
                        totals.bytes += size;
                        entries.push(entry);
                    }
                    kept => {
                        totals.errors += 1;
                        incomplete.extend(kept.map(|content| (entry, size, content)));
                    }
                },
                _ => {
                    totals.others += 1;
                    entries.push(entry);
                }
            }
        }
        let mut names: BTreeSet<Box<[u8]>> =
            entries.iter().map(|entry: &Entry| entry.name.clone()).collect();
        for (mut entry, size, content) in incomplete {
            let name = [&entry.name[..], INCOMPLETE_SUFFIX].concat();
            if name.len() <= NAME_BYTES_MAX && names.insert(name.clone().into()) {
                entry.name = name.into();
                entry.node = Node::File { size, content };
                totals.files += 1;
                totals.bytes += size;
                entries.push(entry);
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let writer = &mut self.writer;
        let mut store = |bytes: &[u8]| writer.add(BlobKind::Tree, bytes);
        let built = (page::write::<TreeCodec, RepoError>(entries, &mut store)?, totals);
        self.directories.insert(root, built);
        Ok(built)
    }

    /// What is left of the content of a file: the same, or a recipe with holes, or nothing.
    fn file(&mut self, size: u64, content: Content) -> Result<Option<Content>, RepoError> {
        let root = match content {
            Content::Empty => return Ok(Some(content)),
            Content::Chunk(id) => {
                return Ok(self.has(BlobKind::Chunk, id)?.then_some(content));
            }
            Content::Recipe(root) => root,
        };
        let mut parts = Vec::new();
        let (mut is_whole, mut kept) = (true, 0);
        for item in self.items::<RecipeCodec>(BlobKind::Recipe, root)? {
            let part = match item {
                // Of a root that is lost, nothing is known.
                Item::Lost(u64::MAX) => return Ok(None),
                Item::Lost(bytes) => {
                    is_whole = false;
                    Part::Hole { bytes }
                }
                Item::Found(Part::Hole { bytes }) => Part::Hole { bytes },
                Item::Found(part @ (Part::Chunk { id, .. } | Part::Repeat { id, .. })) => {
                    if self.has(BlobKind::Chunk, id)? {
                        kept += part.file_bytes();
                        part
                    } else {
                        is_whole = false;
                        Part::Hole { bytes: part.file_bytes() }
                    }
                }
            };
            parts.push(part);
        }
        if is_whole {
            return Ok(Some(content));
        }
        let told: u64 = parts.iter().map(Part::file_bytes).sum();
        if kept == 0 || told != size {
            return Ok(None);
        }
        let mut joiner = PartJoiner::default();
        let mut joined: Vec<Part> =
            parts.into_iter().filter_map(|part| joiner.push(part)).collect();
        joined.extend(joiner.finish());
        let writer = &mut self.writer;
        let mut store = |bytes: &[u8]| writer.add(BlobKind::Recipe, bytes);
        Ok(Some(Content::Recipe(page::write::<RecipeCodec, RepoError>(joined, &mut store)?)))
    }

    /// The table of hard links, or an empty one: every name has the whole entry of its file.
    fn links(&mut self, root: BlobId) -> Result<BlobId, RepoError> {
        let items = self.items::<LinksCodec>(BlobKind::Links, root)?;
        if items.iter().any(|item| matches!(item, Item::Lost(_))) {
            return self.empty::<LinksCodec>(BlobKind::Links);
        }
        Ok(root)
    }

    fn empty<C: LeafCodec>(&mut self, kind: BlobKind) -> Result<BlobId, RepoError> {
        let writer = &mut self.writer;
        page::write::<C, RepoError>([], &mut |bytes| writer.add(kind, bytes))
    }
}

fn add(totals: &mut Totals, below: &Totals) {
    totals.files += below.files;
    totals.directories += below.directories;
    totals.others += below.others;
    totals.bytes += below.bytes;
    totals.errors += below.errors;
}

/// For directories as deep as any reader follows.
const STACK_BYTES: usize = 256 << 20;
