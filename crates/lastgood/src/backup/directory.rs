//! One directory: list, compare with the baseline name by name, read what changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::scan::{Directory, Kind, ListBuffer, Listing, Root, Seen, Stat};
use lastgood_host::source::SourceFile;
use lastgood_repo::format::entry::{Entry, Hint, Marks, Node};
use lastgood_repo::format::hints::HintItem;
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::limits::SYMLINK_BYTES_MAX;
use lastgood_repo::format::page::boundary_hash;

use super::baseline::{BaselineDirectory, BaselineEntry, BaselineRef};
use super::content::FileRead;
use super::engine::{DirectoryNode, DirectoryState, DirectoryTask, Engine, Opening, Stop, Worker};
use super::sources::SourceNode;
use crate::job::{Action, Severity};
use crate::select::{Decision, Facts, Reason, Scope};

/// A directory that is being compared: what was found so far, and which subdirectories follow.
struct Building {
    state: DirectoryState,
    subdirectories: Vec<(usize, Option<BaselineRef>)>,
    baseline: BaselineDirectory,
}

impl Building {
    fn new(baseline: BaselineDirectory) -> Self {
        let state = DirectoryState {
            entries: Vec::with_capacity(baseline.len),
            hints: Vec::with_capacity(baseline.len),
            is_same_tree: true,
            are_same_hints: true,
        };
        Self { state, subdirectories: Vec::new(), baseline }
    }

    /// Adds an entry, noting whether it equals the baseline's.
    fn push(&mut self, entry: Entry, hint: HintItem, is_same_entry: bool, is_same_hint: bool) {
        self.state.is_same_tree &= is_same_entry;
        self.state.are_same_hints &= is_same_hint;
        self.state.entries.push(entry);
        self.state.hints.push(hint);
    }

    /// The finished state: the same only if nothing of the baseline is missing either.
    fn finish(mut self) -> (DirectoryState, Vec<(usize, Option<BaselineRef>)>) {
        let is_complete = self.state.entries.len() == self.baseline.len;
        self.state.is_same_tree &= is_complete;
        self.state.are_same_hints &= is_complete;
        (self.state, self.subdirectories)
    }
}

impl<'a> Worker<'a> {
    /// Builds the directories that lead to the sources, and queues the sources.
    pub(super) fn plant(
        &mut self,
        source: &SourceNode,
        path: &Path,
        node: &Arc<DirectoryNode>,
    ) -> Result<(), Stop> {
        let mut building = Building::new(self.load_baseline(node.baseline));
        let mut planted = Vec::new();
        let mut on_the_way = Vec::new();
        for (name, child) in &source.children {
            let child_path = path.join(os(name));
            let base = building.baseline.advance_to(name);
            let opened = match child.source {
                Some(_) => Root::open(&child_path),
                None => Directory::stat_path(&child_path).and_then(|stat| {
                    let entry = |parent| {
                        Root::Entry(lastgood_host::scan::RootEntry {
                            parent,
                            name: name.clone(),
                            stat,
                        })
                    };
                    Directory::open_root(Path::new("/")).map(entry)
                }),
            };
            match (child.source, opened) {
                (_, Err(error)) => self.unreadable(&mut building, base, &error),
                (None, Ok(Root::Directory(_))) => {}
                (None, Ok(Root::Entry(entry))) => {
                    let index = building.state.entries.len();
                    let below = base.as_ref().and_then(BaselineEntry::directory);
                    self.push_leading(&mut building, base, name, &entry.stat);
                    on_the_way.push((index, child, child_path, below));
                }
                (Some(source), Ok(Root::Entry(entry))) => {
                    if self.source_is_included(source, &entry.stat, &child_path) {
                        let parent = Arc::new(entry.parent);
                        self.entry(&mut building, base, &parent, node, name, entry.stat)?;
                    }
                }
                (Some(source), Ok(Root::Directory(directory))) => {
                    let stat = match directory.own_stat() {
                        Ok(stat) => stat,
                        Err(error) => {
                            self.unreadable(&mut building, base, &error);
                            continue;
                        }
                    };
                    if self.source_is_included(source, &stat, &child_path) {
                        let index = building.state.entries.len();
                        let below = base.as_ref().and_then(BaselineEntry::directory);
                        let details = directory.own_details();
                        self.push_directory(&mut building, base, name, &stat, details);
                        planted.push((index, source, directory, stat, below));
                    }
                }
            }
        }
        let (state, _) = building.finish();
        *node.state() = state;
        let child_node = |index, source, device, name: &[u8], is_source: bool, below| {
            node.expect_child();
            let path = node.path_of(name);
            let below_source = if is_source { path.len() + 1 } else { 0 };
            Arc::new(DirectoryNode::new(
                Some((node.clone(), index)),
                source,
                device,
                path,
                below_source,
                below,
            ))
        };
        for (index, child, child_path, below) in on_the_way {
            let name = name_at(node, index);
            let below_node = child_node(index, usize::MAX, 0, &name, false, below);
            self.plant(child, &child_path, &below_node)?;
        }
        let tasks: Vec<DirectoryTask> = planted
            .into_iter()
            .map(|(index, source, directory, stat, below)| DirectoryTask {
                open: Opening::Root(directory),
                node: child_node(
                    index,
                    source,
                    stat.hint.device,
                    &name_at(node, index),
                    true,
                    below,
                ),
            })
            .collect();
        self.engine.push_directories(tasks.into_iter());
        self.complete(node.clone())
    }

    fn source_is_included(&self, source: usize, stat: &Stat, path: &Path) -> bool {
        match self.engine.selection.source(source, &Facts::from(stat)) {
            Decision::Include => true,
            Decision::Exclude(reason) => {
                self.engine.control.note(format!("{} is left out: {reason}", path.display()));
                self.engine.counts.excluded.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Scans one directory that was waiting for its turn.
    pub(super) fn directory(&mut self, task: DirectoryTask) -> Result<(), Stop> {
        let node = task.node;
        let opened = match task.open {
            Opening::Root(directory) => Ok(directory),
            Opening::In(parent, name) => parent.open_child(&name),
        };
        let listed = opened.and_then(|directory| {
            let listing = directory.list(&mut self.names)?;
            Ok((Arc::new(directory), listing))
        });
        match listed {
            Ok((directory, listing)) => self.scan(&directory, &listing, &node)?,
            Err(error) => self.keep_directory(&node, &error)?,
        }
        self.complete(node)
    }

    fn scan(
        &mut self,
        directory: &Arc<Directory>,
        listing: &Listing,
        node: &Arc<DirectoryNode>,
    ) -> Result<(), Stop> {
        let engine = self.engine;
        engine.control.working_on(|| directory.path().to_owned());
        let mut building = Building::new(self.load_baseline(node.baseline));
        let mut scope = engine.selection.enter(node.source, node.path_below_source(), |name, n| {
            head(directory, listing, name, n)
        });
        for scanned in directory.scan(listing) {
            let base = building.baseline.advance_to(scanned.name);
            match scanned.seen {
                Seen::Vanished => {
                    engine.counts.vanished.fetch_add(1, Ordering::Relaxed);
                }
                Seen::Unreadable(error) => {
                    if scope.decide_unseen(scanned.name) == Decision::Include {
                        self.unreadable(&mut building, base, &error);
                    }
                }
                Seen::Stat(stat) => {
                    if self.is_included(&mut scope, directory, scanned.name, &stat) {
                        self.entry(&mut building, base, directory, node, scanned.name, stat)?;
                    }
                }
            }
            if engine.control.is_cancelled() {
                return Err(Stop::Cancelled);
            }
        }
        let (state, subdirectories) = building.finish();
        let tasks: Vec<DirectoryTask> = subdirectories
            .into_iter()
            .filter_map(|(index, baseline)| {
                let name = state.entries.get(index)?.name.clone();
                node.expect_child();
                let child = DirectoryNode::new(
                    Some((node.clone(), index)),
                    node.source,
                    node.root_device,
                    node.path_of(&name),
                    node.below_source,
                    baseline,
                );
                Some(DirectoryTask {
                    open: Opening::In(directory.clone(), name),
                    node: Arc::new(child),
                })
            })
            .collect();
        *node.state() = state;
        engine.push_directories(tasks.into_iter());
        Ok(())
    }

    fn is_included(
        &self,
        scope: &mut Scope<'a>,
        directory: &Directory,
        name: &[u8],
        stat: &Stat,
    ) -> bool {
        match scope.decide(name, &Facts::from(stat)) {
            Decision::Include => true,
            Decision::Exclude(reason) => {
                if let Reason::Own { .. } = reason {
                    let path = directory.path_of(name);
                    self.engine.control.note(format!("{} is left out: {reason}", path.display()));
                }
                self.engine.counts.excluded.fetch_add(1, Ordering::Relaxed);
                self.engine.item(|| directory.path_of(name), Action::Excluded, stat.size);
                false
            }
        }
    }

    /// Takes one entry: over from the baseline when it is unchanged, else from the source.
    fn entry(
        &mut self,
        building: &mut Building,
        base: Option<BaselineEntry>,
        directory: &Arc<Directory>,
        node: &Arc<DirectoryNode>,
        name: &[u8],
        stat: Stat,
    ) -> Result<(), Stop> {
        let engine = self.engine;
        self.uids.insert(stat.uid);
        self.gids.insert(stat.gid);
        if stat.kind == Kind::Directory {
            let is_same = base.as_ref().is_some_and(|base| {
                base.entry.is_directory()
                    && base.is_unchanged(0, stat.mtime, &stat.hint, engine.trusted_before)
            });
            let details = match &base {
                Some(base) if is_same => Details {
                    flags: base.entry.flags,
                    xattrs: base.entry.xattrs.clone(),
                    unread: Vec::new(),
                },
                _ => directory.details(name, &stat),
            };
            let below = base.as_ref().and_then(BaselineEntry::directory);
            let index = building.state.entries.len();
            self.push_directory(building, base, name, &stat, details);
            match engine.selection.descend(node.root_device, stat.hint.device) {
                Decision::Include if node.is_deepest() => {
                    let message = "it lies deeper than a snapshot reaches; it was stored empty";
                    engine.problem(directory.path_of(name), "enter", message, Severity::Error);
                    self.empty_directory(building, index)?;
                }
                Decision::Include => building.subdirectories.push((index, below)),
                Decision::Exclude(_) => {
                    engine.counts.excluded.fetch_add(1, Ordering::Relaxed);
                    self.empty_directory(building, index)?;
                }
            }
            return Ok(());
        }
        if stat.kind == Kind::File {
            engine.counts.files.fetch_add(1, Ordering::Relaxed);
        } else {
            engine.counts.others.fetch_add(1, Ordering::Relaxed);
        }
        let base = match base {
            Some(base) if is_of_kind(&base.entry.node, stat.kind) => {
                if base.is_unchanged(stat.size, stat.mtime, &stat.hint, engine.trusted_before) {
                    self.take_over(building, base, directory, node, name, &stat);
                    return Ok(());
                }
                Some(base)
            }
            other => other,
        };
        if stat.kind == Kind::File {
            return self.file(building, base, directory, node, name, stat);
        }
        let details = directory.details(name, &stat);
        let special = match stat.special_node() {
            Some(special) => special,
            None => match directory.read_link(name) {
                // A page with a target that no reader takes would be lost as a whole.
                Ok(target) if target.is_empty() || target.len() > SYMLINK_BYTES_MAX => {
                    let message = "its target is empty or longer than a link's can be";
                    engine.problem(directory.path_of(name), "store", message, Severity::Error);
                    keep(building, base);
                    return Ok(());
                }
                Ok(target) => Node::Symlink { target },
                Err(error) => {
                    self.unreadable(building, base, &error);
                    return Ok(());
                }
            },
        };
        self.report_unread(&details);
        if stat.links > 1 {
            engine.links.meet(&stat, node.path_of(name));
        }
        let entry = stat.entry(name, special, details);
        self.push_new(building, base, entry, &stat);
        engine.control.add_done(1, 0);
        Ok(())
    }

    /// Takes a file's entry over from the baseline.
    fn take_over(
        &mut self,
        building: &mut Building,
        base: BaselineEntry,
        directory: &Directory,
        node: &DirectoryNode,
        name: &[u8],
        stat: &Stat,
    ) {
        let engine = self.engine;
        if stat.links > 1 {
            engine.links.meet(stat, node.path_of(name));
        }
        let bytes = if stat.kind == Kind::File { stat.size } else { 0 };
        engine.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        engine.control.add_done(1, bytes);
        engine.item(|| directory.path_of(name), Action::Unchanged, bytes);
        let hint = hint_item(name, stat);
        let is_same_hint = base.hint.is_some_and(|was| was.hint == hint.hint);
        building.push(base.entry, hint, true, is_same_hint);
    }

    /// Reads a file that is new or may have changed.
    fn file(
        &mut self,
        building: &mut Building,
        base: Option<BaselineEntry>,
        directory: &Arc<Directory>,
        node: &DirectoryNode,
        name: &[u8],
        stat: Stat,
    ) -> Result<(), Stop> {
        let engine = self.engine;
        let is_linked = stat.links > 1;
        if is_linked && let Some(mut entry) = engine.links.meet(&stat, node.path_of(name)) {
            entry.name = name.into();
            engine.counts.bytes.fetch_add(stat.size, Ordering::Relaxed);
            engine.control.add_done(1, stat.size);
            self.push_new(building, base, entry, &stat);
            return Ok(());
        }
        let read = self.read_file(directory, name)?;
        let is_met = match &read {
            FileRead::Stored { stat: read, .. } => read.file_id() == stat.file_id(),
            FileRead::Unreadable { .. } => false,
        };
        if is_linked && !is_met {
            engine.links.forget(&stat, &node.path_of(name));
        }
        match read {
            FileRead::Stored { node: stored, stat, details, is_stable } => {
                self.report_unread(&details);
                let mut entry = stat.entry(name, stored, details);
                if !is_stable {
                    entry.marks = entry.marks.with(Marks::UNSTABLE);
                    let message = "it changed while it was read; it was stored as it was found";
                    engine.problem(directory.path_of(name), "read", message, Severity::Error);
                }
                if is_linked && is_met && is_stable {
                    engine.links.stored(&stat, &entry);
                }
                if let Node::File { size, .. } = entry.node {
                    engine.counts.bytes.fetch_add(size, Ordering::Relaxed);
                }
                self.count_read(base.as_ref(), &entry, directory, stat.size);
                self.push_new(building, base, entry, &stat);
            }
            FileRead::Unreadable { path, during, message } => {
                engine.problem(path, during, message, Severity::Error);
                keep(building, base);
            }
        }
        Ok(())
    }

    /// Counts a file that was not taken over, as new or changed.
    fn count_read(
        &self,
        base: Option<&BaselineEntry>,
        entry: &Entry,
        directory: &Directory,
        bytes: u64,
    ) {
        let counts = &self.engine.counts;
        let (counter, action) = match base {
            None => (Some(&counts.files_new), Action::New),
            Some(base) if base.entry != *entry => (Some(&counts.files_changed), Action::Changed),
            Some(_) => (None, Action::Unchanged),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.engine.item(|| directory.path_of(&entry.name), action, bytes);
    }

    fn push_new(
        &mut self,
        building: &mut Building,
        base: Option<BaselineEntry>,
        entry: Entry,
        stat: &Stat,
    ) {
        let hint = hint_item(&entry.name, stat);
        let is_same_entry = base.as_ref().is_some_and(|base| base.entry == entry);
        let is_same_hint = base.and_then(|base| base.hint).is_some_and(|was| was.hint == hint.hint);
        building.push(entry, hint, is_same_entry, is_same_hint);
    }

    /// Adds a directory whose tree is not known yet.
    fn push_directory(
        &mut self,
        building: &mut Building,
        base: Option<BaselineEntry>,
        name: &[u8],
        stat: &Stat,
        details: Details,
    ) {
        let engine = self.engine;
        engine.counts.directories.fetch_add(1, Ordering::Relaxed);
        self.report_unread(&details);
        let tree = match &base {
            Some(BaselineEntry { entry: Entry { node: Node::Directory { tree }, .. }, .. }) => {
                *tree
            }
            _ => BlobId::new([0; 32]),
        };
        let entry = stat.entry(name, Node::Directory { tree }, details);
        self.push_new(building, base, entry, stat);
    }

    /// Adds a directory that only leads to sources. Other things that happen in it move its times;
    /// those are no change of what is backed up, so the baseline's stay.
    fn push_leading(
        &mut self,
        building: &mut Building,
        base: Option<BaselineEntry>,
        name: &[u8],
        stat: &Stat,
    ) {
        self.uids.insert(stat.uid);
        self.gids.insert(stat.gid);
        match base {
            Some(BaselineEntry { entry, hint: Some(hint) })
                if entry.is_directory()
                    && (entry.mode, entry.uid, entry.gid) == (stat.mode, stat.uid, stat.gid) =>
            {
                self.engine.counts.directories.fetch_add(1, Ordering::Relaxed);
                let hint = HintItem { boundary: boundary_hash(&entry.name), ..hint };
                building.push(entry, hint, true, true);
            }
            base => {
                let details = Details { flags: 0, xattrs: None, unread: Vec::new() };
                self.push_directory(building, base, name, stat, details);
            }
        }
    }

    /// Gives a directory whose content is not looked at an empty tree.
    fn empty_directory(&mut self, building: &mut Building, index: usize) -> Result<(), Stop> {
        let (tree, hints) = self.encode(None, DirectoryState::default())?;
        let state = &mut building.state;
        if let Some(entry) = state.entries.get_mut(index) {
            state.is_same_tree &= entry.node == Node::Directory { tree };
            entry.node = Node::Directory { tree };
        }
        if let Some(item) = state.hints.get_mut(index) {
            item.children = Some(hints);
        }
        state.are_same_hints = false;
        Ok(())
    }

    /// An entry that cannot be examined or read: what the baseline has of it is kept.
    fn unreadable(&self, building: &mut Building, base: Option<BaselineEntry>, error: &HostError) {
        self.engine.host_problem(error, Severity::Error);
        keep(building, base);
    }

    /// A directory that cannot be listed: what the baseline has of it is kept, and marked.
    fn keep_directory(&mut self, node: &DirectoryNode, error: &HostError) -> Result<(), Stop> {
        self.engine.host_problem(error, Severity::Error);
        let Some(baseline) = node.baseline else { return Ok(()) };
        let mut kept = self.load_baseline(Some(baseline));
        let mut building = Building::new(BaselineDirectory::default());
        while let Some(base) = kept.next() {
            keep(&mut building, Some(base));
        }
        *node.state() = building.state;
        Ok(())
    }

    fn load_baseline(&self, at: Option<BaselineRef>) -> BaselineDirectory {
        let Some(at) = at else { return BaselineDirectory::default() };
        BaselineDirectory::load(self.engine.baseline, at).unwrap_or_else(|error| {
            // Without a baseline everything is read, which is slower and no less right.
            self.engine.control.note(format!("a directory of the baseline is unreadable: {error}"));
            BaselineDirectory::default()
        })
    }

    fn report_unread(&self, details: &Details) {
        details.unread.iter().for_each(|error| {
            self.engine.host_problem(error, Severity::Warning);
        });
    }
}

/// Keeps what the baseline has of an entry, marked as not of this run.
fn keep(building: &mut Building, base: Option<BaselineEntry>) {
    let Some(mut base) = base else { return };
    base.entry.marks = base.entry.marks.with(Marks::KEPT);
    let hint = base.hint.unwrap_or(HintItem { hint: Hint::default(), children: None, boundary: 0 });
    let hint = HintItem { boundary: boundary_hash(&base.entry.name), ..hint };
    building.push(base.entry, hint, false, false);
}

fn hint_item(name: &[u8], stat: &Stat) -> HintItem {
    HintItem { hint: stat.hint, children: None, boundary: boundary_hash(name) }
}

const fn is_of_kind(node: &Node, kind: Kind) -> bool {
    matches!(
        (node, kind),
        (Node::File { .. }, Kind::File)
            | (Node::Directory { .. }, Kind::Directory)
            | (Node::Symlink { .. }, Kind::Symlink)
            | (Node::Fifo, Kind::Fifo)
            | (Node::Socket, Kind::Socket)
            | (Node::CharDevice { .. }, Kind::CharDevice)
            | (Node::BlockDevice { .. }, Kind::BlockDevice)
    )
}

fn name_at(node: &DirectoryNode, index: usize) -> Box<[u8]> {
    node.state().entries.get(index).map(|entry| entry.name.clone()).unwrap_or_default()
}

fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// The first bytes of a marker file.
fn head(directory: &Directory, listing: &Listing, name: &[u8], count: usize) -> Option<Vec<u8>> {
    listing.find(name)?;
    if count == 0 {
        return Some(Vec::new());
    }
    let mut bytes = vec![0; count];
    let read = SourceFile::open(directory, name).ok()?.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// Counts files and bytes of all sources, beside the run, for the progress display alone.
pub(super) fn estimate(engine: &Engine<'_>) {
    let mut names = ListBuffer::new();
    for (source, path) in engine.source_paths().iter().enumerate() {
        let Ok(root) = Root::open(path) else { continue };
        let root = match root {
            Root::Entry(entry) => {
                engine.control.add_total(1, entry.stat.size);
                continue;
            }
            Root::Directory(directory) => directory,
        };
        let Ok(stat) = root.own_stat() else { continue };
        let root_device = stat.hint.device;
        let mut stack: Vec<(Opening, Box<[u8]>)> = vec![(Opening::Root(root), Box::default())];
        while let Some((open, below)) = stack.pop() {
            if engine.control.is_cancelled() || engine.is_over() {
                return;
            }
            let directory = match open {
                Opening::Root(directory) => Ok(directory),
                Opening::In(parent, name) => parent.open_child(&name),
            };
            let Ok(directory) = directory.map(Arc::new) else { continue };
            let Ok(listing) = directory.list(&mut names) else { continue };
            let mut scope = engine
                .selection
                .enter(source, &below, |name, n| head(&directory, &listing, name, n));
            let (mut files, mut bytes) = (0, 0);
            for scanned in directory.scan(&listing) {
                let Seen::Stat(stat) = scanned.seen else { continue };
                if scope.decide(scanned.name, &Facts::from(&stat)) != Decision::Include {
                    continue;
                }
                match stat.kind {
                    Kind::Directory => {
                        let descend = engine.selection.descend(root_device, stat.hint.device);
                        if descend == Decision::Include {
                            let below = super::engine::join(&below, scanned.name);
                            let name = scanned.name.into();
                            stack.push((Opening::In(directory.clone(), name), below));
                        }
                    }
                    Kind::File => {
                        files += 1;
                        bytes += stat.size;
                    }
                    _ => files += 1,
                }
            }
            engine.control.add_total(files, bytes);
        }
    }
    engine.control.total_is_known();
}
