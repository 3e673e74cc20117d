//! One directory: list, compare with the baseline name by name, read what changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::scan::{Directory, Kind, Listing, Root, Seen, Stat};
use lastgood_host::source::SourceFile;
use lastgood_repo::RepoError;
use lastgood_repo::format::entry::{Entry, Hint, Marks, Node};
use lastgood_repo::format::hints::HintItem;
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::limits::SYMLINK_BYTES_MAX;

use super::baseline::{BaselineDirectory, BaselineEntry};
use super::building::{Building, Slice};
use super::content::FileRead;
use super::engine::Worker;
use super::node::{DirectoryNode, DirectoryTask, Opening};
use super::sink::Stop;
use super::sources::SourceNode;
use crate::job::{Action, Severity};
use crate::select::{Decision, Facts, Reason, Scope};

/// A directory that is being scanned and compared with the baseline's, a slice at a time: between
/// two slices its subdirectories have their turn.
#[derive(Debug)]
pub(super) struct DirectoryScan {
    directory: Arc<Directory>,
    listing: Listing,
    /// How many names were looked at.
    at: usize,
    baseline: BaselineDirectory,
}

impl<'a> Worker<'a> {
    /// Builds the directories that lead to the sources, and queues the sources.
    pub(super) fn plant(
        &mut self,
        source: &SourceNode,
        path: &Path,
        node: &Arc<DirectoryNode>,
    ) -> Result<(), Stop> {
        let mut baseline = self.open_baseline(node)?;
        let mut slice = Slice::default();
        let mut planted = Vec::new();
        let mut on_the_way = Vec::new();
        for (name, child) in &source.children {
            let child_path = path.join(os(name));
            let base = self.base(&mut baseline, node, name)?;
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
                (_, Err(error)) => self.unreadable(&mut slice, base, &error),
                (None, Ok(Root::Directory(_))) => {}
                (None, Ok(Root::Entry(entry))) => {
                    let below = base.as_ref().and_then(BaselineEntry::directory);
                    let trace = self.engine.trace.as_ref();
                    let stat = trace.map_or(entry.stat, |it| it.leading(&child_path, entry.stat));
                    self.push_leading(&mut slice, base, name, &stat);
                    on_the_way.push((slice.len() - 1, name, child, child_path, below));
                    slice.await_last(below);
                }
                (Some(source), Ok(Root::Entry(entry))) => {
                    if self.source_is_included(source, &entry.stat, &child_path) {
                        let parent = Arc::new(entry.parent);
                        self.entry(&mut slice, base, &parent, node, name, entry.stat)?;
                    }
                }
                (Some(source), Ok(Root::Directory(directory))) => {
                    let stat = match directory.own_stat() {
                        Ok(stat) => stat,
                        Err(error) => {
                            self.unreadable(&mut slice, base, &error);
                            continue;
                        }
                    };
                    if self.source_is_included(source, &stat, &child_path) {
                        if let Some(trace) = &self.engine.trace {
                            trace.entry(child_path.clone(), &stat);
                        }
                        let below = base.as_ref().and_then(BaselineEntry::directory);
                        let details = directory.own_details();
                        self.push_directory(&mut slice, base, name, &stat, details);
                        planted.push((slice.len() - 1, name, source, directory, stat, below));
                        slice.await_last(below);
                    }
                }
            }
        }
        self.append(node, slice, baseline.len, true);
        let child_node = |index, source, device, name: &[u8], is_source: bool, below| {
            let path = node.path_of(name);
            let below_source = if is_source { path.len() + 1 } else { 0 };
            DirectoryNode::child(node, index, source, device, path, below_source, below)
        };
        for (index, name, child, child_path, below) in on_the_way {
            let below_node = child_node(index, usize::MAX, 0, name, false, below);
            self.plant(child, &child_path, &below_node)?;
        }
        let tasks: Vec<DirectoryTask> = planted
            .into_iter()
            .map(|(index, name, source, directory, stat, below)| DirectoryTask {
                open: Opening::Root(directory),
                node: child_node(index, source, stat.hint.device, name, true, below),
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

    /// Scans one directory that was waiting for its turn, or the next slice of one.
    pub(super) fn directory(&mut self, task: DirectoryTask) -> Result<(), Stop> {
        let node = task.node;
        let opened = match task.open {
            Opening::Rest(scan) => return self.scan(scan, node),
            Opening::Root(directory) => Ok(directory),
            Opening::In(parent, name) => parent.open_child(&name),
        };
        let listed = opened.and_then(|directory| {
            let listing = directory.list(&mut self.names)?;
            Ok((directory, listing))
        });
        let (directory, listing) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.keep_directory(&node, &error)?;
                return self.complete(node);
            }
        };
        self.engine.control.working_on(|| directory.path().to_owned());
        let baseline = self.open_baseline(&node)?;
        let directory = Arc::new(directory);
        self.scan(Box::new(DirectoryScan { directory, listing, at: 0, baseline }), node)
    }

    /// Scans one slice of a directory and queues the subdirectories in it, then the rest.
    fn scan(&mut self, mut scan: Box<DirectoryScan>, node: Arc<DirectoryNode>) -> Result<(), Stop> {
        let engine = self.engine;
        let mut slice = Slice::default();
        let DirectoryScan { directory, listing, at, baseline } = &mut *scan;
        let mut scope = engine.selection.enter(node.source, node.path_below_source(), |name, n| {
            head(directory, listing, name, n)
        });
        for scanned in directory.scan_range(listing, *at..listing.len()) {
            *at += 1;
            let base = self.base(baseline, &node, scanned.name)?;
            match scanned.seen {
                Seen::Vanished => {
                    engine.counts.vanished.fetch_add(1, Ordering::Relaxed);
                }
                Seen::Unreadable(error) => {
                    if scope.decide_unseen(scanned.name) == Decision::Include {
                        self.unreadable(&mut slice, base, &error);
                    }
                }
                Seen::Stat(stat) => {
                    if self.is_included(&mut scope, directory, scanned.name, &stat) {
                        self.entry(&mut slice, base, directory, &node, scanned.name, stat)?;
                    }
                }
            }
            if engine.control.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            if slice.len() == SLICE_ENTRIES || engine.is_pausing() {
                break;
            }
        }
        let is_last = *at == listing.len();
        let mut tasks: Vec<DirectoryTask> = Vec::new();
        let first = node.len();
        for (index, name, below) in slice.subdirectories() {
            let child = DirectoryNode::child(
                &node,
                first + index,
                node.source,
                node.root_device,
                node.path_of(name),
                node.below_source,
                below,
            );
            let open = Opening::In(directory.clone(), name.into());
            tasks.push(DirectoryTask { open, node: child });
        }
        self.append(&node, slice, baseline.len, is_last);
        if is_last {
            engine.push_directories(tasks.into_iter());
            return self.complete(node);
        }
        node.begin_pages(&mut self.sink)?;
        tasks.push(DirectoryTask { open: Opening::Rest(scan), node });
        engine.push_directories(tasks.into_iter());
        Ok(())
    }

    /// Counts entries and adds them to their directory.
    fn append(&self, node: &DirectoryNode, slice: Slice, baseline_len: u64, is_whole: bool) {
        self.engine.counts.add(&slice.totals);
        node.append(slice, baseline_len, is_whole);
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
        slice: &mut Slice,
        base: Option<BaselineEntry>,
        directory: &Arc<Directory>,
        node: &Arc<DirectoryNode>,
        name: &[u8],
        stat: Stat,
    ) -> Result<(), Stop> {
        let engine = self.engine;
        if let Some(trace) = &engine.trace {
            trace.entry(directory.path_of(name), &stat);
        }
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
            self.push_directory(slice, base, name, &stat, details);
            match engine.selection.descend(node.root_device, stat.hint.device) {
                Decision::Include if node.is_deepest() => {
                    let message = "it lies deeper than a snapshot reaches; it was stored empty";
                    engine.problem(directory.path_of(name), "enter", message, Severity::Error);
                    self.empty_directory(slice)?;
                }
                Decision::Include => slice.await_last(below),
                Decision::Exclude(_) => {
                    engine.counts.excluded.fetch_add(1, Ordering::Relaxed);
                    self.empty_directory(slice)?;
                }
            }
            return Ok(());
        }
        let base = match base {
            Some(base) if is_of_kind(&base.entry.node, stat.kind) => {
                if base.is_unchanged(stat.size, stat.mtime, &stat.hint, engine.trusted_before) {
                    self.take_over(slice, base, directory, node, name, &stat);
                    return Ok(());
                }
                Some(base)
            }
            other => other,
        };
        if stat.kind == Kind::File {
            return self.file(slice, base, directory, node, name, stat);
        }
        let details = directory.details(name, &stat);
        let special = match stat.special_node() {
            Some(special) => special,
            None => match directory.read_link(name) {
                // A page with a target that no reader takes would be lost as a whole.
                Ok(target) if target.is_empty() || target.len() > SYMLINK_BYTES_MAX => {
                    let message = "its target is empty or longer than a link's can be";
                    engine.problem(directory.path_of(name), "store", message, Severity::Error);
                    keep(slice, base);
                    return Ok(());
                }
                Ok(target) => Node::Symlink { target },
                Err(error) => {
                    self.unreadable(slice, base, &error);
                    return Ok(());
                }
            },
        };
        let hint = self.hint(&stat, &details);
        if stat.links > 1 {
            engine.links.meet(&stat, &node.path_of(name));
        }
        let entry = stat.entry(name, special, details);
        self.push_new(slice, base, entry, hint);
        engine.control.add_done(1, 0);
        Ok(())
    }

    /// Takes a file's entry over from the baseline.
    fn take_over(
        &mut self,
        slice: &mut Slice,
        base: BaselineEntry,
        directory: &Directory,
        node: &DirectoryNode,
        name: &[u8],
        stat: &Stat,
    ) {
        let engine = self.engine;
        if stat.links > 1 {
            engine.links.meet(stat, &node.path_of(name));
        }
        let bytes = if stat.kind == Kind::File { stat.size } else { 0 };
        engine.control.add_done(1, bytes);
        engine.item(|| directory.path_of(name), Action::Unchanged, bytes);
        let hint = HintItem { hint: stat.hint, children: None, boundary: 0 };
        let is_same_hint = base.hint.is_some_and(|was| was.hint == hint.hint);
        slice.push(base.entry, hint, true, is_same_hint);
    }

    /// Reads a file that is new or may have changed.
    fn file(
        &mut self,
        slice: &mut Slice,
        base: Option<BaselineEntry>,
        directory: &Arc<Directory>,
        node: &DirectoryNode,
        name: &[u8],
        stat: Stat,
    ) -> Result<(), Stop> {
        let engine = self.engine;
        let is_linked = stat.links > 1;
        if is_linked && let Some(mut entry) = engine.links.meet(&stat, &node.path_of(name)) {
            entry.name = name.into();
            engine.control.add_done(1, stat.size);
            let hint = HintItem { hint: stat.hint, children: None, boundary: 0 };
            self.push_new(slice, base, entry, hint);
            return Ok(());
        }
        let read = self.read_file(directory, name, &self.previous_chunks(base.as_ref()))?;
        let is_met = match &read {
            FileRead::Stored { stat: read, .. } => read.file_id() == stat.file_id(),
            FileRead::Unreadable { .. } => false,
        };
        if is_linked && !is_met {
            engine.links.forget(&stat, &node.path_of(name));
        }
        match read {
            FileRead::Stored { node: stored, stat, details, is_stable } => {
                let hint = self.hint(&stat, &details);
                let mut entry = stat.entry(name, stored, details);
                if !is_stable {
                    entry.marks = entry.marks.with(Marks::UNSTABLE);
                    let message = "it changed while it was read; it was stored as it was found";
                    engine.problem(directory.path_of(name), "read", message, Severity::Error);
                }
                if is_linked && is_met && is_stable {
                    engine.links.stored(&stat, &entry);
                }
                self.count_read(base.as_ref(), &entry, directory, stat.size);
                self.push_new(slice, base, entry, hint);
            }
            FileRead::Unreadable { path, during, message } => {
                engine.problem(path, during, message, Severity::Error);
                keep(slice, base);
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
        slice: &mut Slice,
        base: Option<BaselineEntry>,
        entry: Entry,
        hint: HintItem,
    ) {
        let is_same_entry = base.as_ref().is_some_and(|base| base.entry == entry);
        let is_same_hint = base.and_then(|base| base.hint).is_some_and(|was| was.hint == hint.hint);
        slice.push(entry, hint, is_same_entry, is_same_hint);
    }

    /// Adds a directory whose tree is not known yet.
    fn push_directory(
        &mut self,
        slice: &mut Slice,
        base: Option<BaselineEntry>,
        name: &[u8],
        stat: &Stat,
        details: Details,
    ) {
        let hint = self.hint(stat, &details);
        let tree = match &base {
            Some(BaselineEntry { entry: Entry { node: Node::Directory { tree }, .. }, .. }) => {
                *tree
            }
            _ => BlobId::new([0; 32]),
        };
        let entry = stat.entry(name, Node::Directory { tree }, details);
        self.push_new(slice, base, entry, hint);
    }

    /// Adds a directory that only leads to sources. Other things that happen in it move its times;
    /// those are no change of what is backed up, so the baseline's stay.
    fn push_leading(
        &mut self,
        slice: &mut Slice,
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
                slice.push(entry, hint, true, true);
            }
            base => {
                let details = Details { flags: 0, xattrs: None, unread: Vec::new() };
                self.push_directory(slice, base, name, stat, details);
            }
        }
    }

    /// Gives the directory added last, whose content is not looked at, an empty tree.
    fn empty_directory(&mut self, slice: &mut Slice) -> Result<(), Stop> {
        let (tree, hints) = Building::default().finish(None, &mut self.sink)?;
        slice.set_last(tree, hints);
        Ok(())
    }

    /// An entry that cannot be examined or read: what the baseline has of it is kept.
    fn unreadable(&self, slice: &mut Slice, base: Option<BaselineEntry>, error: &HostError) {
        self.engine.host_problem(error, Severity::Error);
        keep(slice, base);
    }

    /// A directory that cannot be listed: what the baseline has of it is kept, and marked.
    fn keep_directory(&mut self, node: &DirectoryNode, error: &HostError) -> Result<(), Stop> {
        self.engine.host_problem(error, Severity::Error);
        let mut kept = self.open_baseline(node)?;
        let mut slice = Slice::default();
        while let Some(base) = self.base_or_none(kept.next(self.engine.baseline), node)? {
            keep(&mut slice, Some(base));
            if slice.len() == SLICE_ENTRIES {
                self.append(node, std::mem::take(&mut slice), kept.len, false);
                node.begin_pages(&mut self.sink)?;
            }
        }
        self.append(node, slice, kept.len, true);
        Ok(())
    }

    /// The baseline of a directory. Without one everything is read, which is slower and no less
    /// right.
    fn open_baseline(&self, node: &DirectoryNode) -> Result<BaselineDirectory, Stop> {
        let opened = node.baseline.map(|at| BaselineDirectory::open(self.engine.baseline, at));
        Ok(self.base_or_none(opened.transpose(), node)?.unwrap_or_default())
    }

    fn base(
        &self,
        baseline: &mut BaselineDirectory,
        node: &DirectoryNode,
        name: &[u8],
    ) -> Result<Option<BaselineEntry>, Stop> {
        let found = baseline.advance_to(self.engine.baseline, name);
        if found.is_err() {
            *baseline = BaselineDirectory::default();
        }
        self.base_or_none(found, node)
    }

    /// What was found in the baseline of a directory. If it cannot be read, nothing more is, and
    /// the directory is not the baseline's. If it cannot be read just now, the run ends: what is
    /// kept from the baseline would count as deleted.
    fn base_or_none<T>(
        &self,
        found: Result<Option<T>, RepoError>,
        node: &DirectoryNode,
    ) -> Result<Option<T>, Stop> {
        found.or_else(|error| {
            if error.is_transient() {
                return Err(error.into());
            }
            self.engine.control.note(format!("a directory of the baseline is unreadable: {error}"));
            node.set_changed();
            Ok(None)
        })
    }

    /// The hint of an entry. One of which not everything could be read gets none, so the next run
    /// looks at it again.
    fn hint(&self, stat: &Stat, details: &Details) -> HintItem {
        for error in &details.unread {
            self.engine.host_problem(error, Severity::Warning);
        }
        let hint = if details.unread.is_empty() { stat.hint } else { Hint::default() };
        HintItem { hint, children: None, boundary: 0 }
    }
}

/// Keeps what the baseline has of an entry, marked as not of this run.
fn keep(slice: &mut Slice, base: Option<BaselineEntry>) {
    let Some(mut base) = base else { return };
    base.entry.marks = base.entry.marks.with(Marks::KEPT);
    let hint = base.hint.unwrap_or(HintItem { hint: Hint::default(), children: None, boundary: 0 });
    slice.push(base.entry, hint, false, false);
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

fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// The first bytes of a marker file.
pub(crate) fn head(
    directory: &Directory,
    listing: &Listing,
    name: &[u8],
    count: usize,
) -> Option<Vec<u8>> {
    listing.find(name)?;
    if count == 0 {
        return Some(Vec::new());
    }
    let mut bytes = vec![0; count];
    let read = SourceFile::open(directory, name).ok()?.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// Entries of a directory that are scanned before its subdirectories have their turn. A directory
/// with more is stored page by page.
const SLICE_ENTRIES: usize = 4096;
