//! A directory of the tree that is being built.
//!
//! Entries come in order, a slice at a time; trees of subdirectories come in any order. A directory
//! of one slice is kept until it is done, so that one equal to the baseline's is never encoded. Of
//! a longer one, entries go into pages as soon as nothing before them is awaited, so that what is
//! in memory does not depend on how many entries it has.

use std::collections::VecDeque;

use lastgood_repo::format::entry::{Entry, Hint, Node};
use lastgood_repo::format::hints::{HintItem, HintsCodec};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::page::{PageWriter, boundary_hash};
use lastgood_repo::format::snapshot::Totals;
use lastgood_repo::format::tree::TreeCodec;

use super::baseline::{BaselineEntry, BaselineRef};
use super::sink::{Sink, Stop};

/// An entry and its hint.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) entry: Entry,
    pub(super) hint: HintItem,
    /// Whether it is a directory whose tree is not known yet.
    is_awaited: bool,
}

impl Built {
    /// Whether it is a directory whose tree is not known yet.
    pub(super) const fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// Gives a directory its tree.
    pub(super) fn set_roots(&mut self, tree: BlobId, hints: Option<BlobId>) {
        self.entry.node = Node::Directory { tree };
        self.hint.children = hints;
        self.is_awaited = false;
    }
}

impl From<BaselineEntry> for Built {
    fn from(base: BaselineEntry) -> Self {
        let none = HintItem { hint: Hint::default(), children: None, boundary: 0 };
        Self { entry: base.entry, hint: base.hint.unwrap_or(none), is_awaited: false }
    }
}

/// Some entries of a directory, in order.
#[derive(Debug, Default)]
pub(super) struct Slice {
    built: Vec<Built>,
    /// Whether an entry differs from the baseline's.
    is_changed: bool,
    /// Whether a hint differs from the baseline's.
    are_hints_changed: bool,
    /// What there is, the kept included, but for what lies below subdirectories.
    pub(super) totals: Totals,
    /// Where subdirectories are that are going to be scanned, and what the baseline has of them.
    subdirectories: Vec<(usize, Option<BaselineRef>)>,
}

impl Slice {
    pub(super) const fn len(&self) -> usize {
        self.built.len()
    }

    /// Adds an entry, noting whether it equals the baseline's.
    pub(super) fn push(
        &mut self,
        entry: Entry,
        hint: HintItem,
        is_same_entry: bool,
        is_same_hint: bool,
    ) {
        self.is_changed |= !is_same_entry;
        self.are_hints_changed |= !is_same_hint;
        match entry.node {
            Node::File { size, .. } => {
                self.totals.files += 1;
                self.totals.bytes += size;
            }
            Node::Directory { .. } => self.totals.directories += 1,
            _ => self.totals.others += 1,
        }
        self.built.push(Built { entry, hint, is_awaited: false });
    }

    /// Notes that the entry added last is a directory that is going to be scanned.
    pub(super) fn await_last(&mut self, baseline: Option<BaselineRef>) {
        if let Some(last) = self.built.last_mut() {
            last.is_awaited = true;
            self.subdirectories.push((self.built.len() - 1, baseline));
        }
    }

    /// Gives the directory added last its tree.
    pub(super) fn set_last(&mut self, tree: BlobId, hints: BlobId) {
        if let Some(last) = self.built.last_mut() {
            self.is_changed |= last.entry.node != Node::Directory { tree };
            self.are_hints_changed = true;
            last.set_roots(tree, Some(hints));
        }
    }

    /// The subdirectories that are going to be scanned: place in the slice, name, baseline.
    pub(super) fn subdirectories(
        &self,
    ) -> impl DoubleEndedIterator<Item = (usize, &[u8], Option<BaselineRef>)> {
        self.subdirectories
            .iter()
            .map(|&(at, baseline)| (at, &*self.built[at].entry.name, baseline))
    }
}

/// What was found of a directory so far.
#[derive(Debug, Default)]
pub(super) struct Building {
    /// Entries that are in no page yet.
    open: VecDeque<Built>,
    /// How many entries are in pages, before those.
    paged: usize,
    pages: Option<Pages>,
    is_changed: bool,
    are_hints_changed: bool,
    /// How many entries the baseline has: the same only if none of them is missing.
    baseline_len: u64,
    /// Name of the last entry that was added.
    last_name: Box<[u8]>,
    /// Whether no more entries follow.
    is_whole: bool,
}

/// The pages of a directory and of its hints, as far as they go.
#[derive(Debug, Default, Clone)]
pub(super) struct Pages {
    tree: PageWriter<TreeCodec>,
    hints: PageWriter<HintsCodec>,
}

impl Building {
    /// Adds entries, of which the baseline has `baseline_len` in all, and says whether they were
    /// the last.
    pub(super) fn append(&mut self, slice: Slice, baseline_len: u64, is_whole: bool) {
        self.baseline_len = baseline_len;
        self.is_whole = is_whole;
        if let Some(last) = slice.built.last() {
            self.last_name = last.entry.name.clone();
        }
        self.is_changed |= slice.is_changed;
        self.are_hints_changed |= slice.are_hints_changed;
        if self.open.is_empty() {
            self.open = slice.built.into();
        } else {
            self.open.extend(slice.built);
        }
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.paged + self.open.len()
    }

    /// Whether it has no entry so far.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no more entries follow.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Name of the last entry so far.
    pub(super) const fn last_name(&self) -> &[u8] {
        &self.last_name
    }

    /// A copy of the pages so far.
    pub(super) fn pages(&self) -> Pages {
        self.pages.clone().unwrap_or_default()
    }

    /// The entries that are in no page yet, with their places in the directory.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &Built)> {
        (self.paged..).zip(&self.open)
    }

    /// How many entries are in no page yet.
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// Notes that the directory is not the baseline's, whatever its entries are.
    pub(super) const fn set_changed(&mut self) {
        self.is_changed = true;
        self.are_hints_changed = true;
    }

    /// Gives the subdirectory at `place` its tree.
    pub(super) fn set_subtree(
        &mut self,
        place: usize,
        (tree, hints): (BlobId, BlobId),
        baseline: Option<BaselineRef>,
    ) {
        self.is_changed |= baseline.is_none_or(|base| base.tree != tree);
        self.are_hints_changed |= baseline.is_none_or(|base| base.hints != Some(hints));
        if let Some(built) = self.open.get_mut(place - self.paged) {
            built.set_roots(tree, Some(hints));
        }
    }

    /// Begins to write pages: the directory is longer than a slice.
    pub(super) fn begin_pages(&mut self) {
        self.pages.get_or_insert_default();
    }

    /// Moves entries into pages up to the first that waits for its tree, once pages were begun.
    pub(super) fn page_out(&mut self, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let Some(pages) = &mut self.pages else { return Ok(()) };
        while let Some(built) = self.open.pop_front_if(|built| !built.is_awaited) {
            self.paged += 1;
            pages.push(built, sink)?;
        }
        Ok(())
    }

    /// Stores the directory, unless it is the baseline's; returns the roots of tree and hints.
    pub(super) fn finish(
        self,
        baseline: Option<BaselineRef>,
        sink: &mut Sink<'_>,
    ) -> Result<(BlobId, BlobId), Stop> {
        let is_whole = self.pages.is_none() && self.len() as u64 == self.baseline_len;
        let same = baseline.filter(|_| is_whole);
        let same_tree = same.filter(|_| !self.is_changed).map(|baseline| baseline.tree);
        let same_hints = same.filter(|_| !self.are_hints_changed).and_then(|base| base.hints);
        if let (Some(tree), Some(hints)) = (same_tree, same_hints) {
            return Ok((tree, hints));
        }
        let mut pages = self.pages.unwrap_or_default();
        let Some(tree) = same_tree else {
            self.open.into_iter().try_for_each(|built| pages.push(built, sink))?;
            return pages.finish(sink);
        };
        for built in self.open {
            pages.push_hint(&built.entry.name, built.hint, sink)?;
        }
        Ok((tree, pages.hints.finish(&mut |bytes| sink.add(BlobKind::Hints, bytes))?))
    }
}

impl Pages {
    /// Appends an entry whose tree is known, if it is a directory.
    pub(super) fn push(&mut self, built: Built, sink: &mut Sink<'_>) -> Result<(), Stop> {
        self.push_hint(&built.entry.name, built.hint, sink)?;
        self.tree.push(built.entry, &mut |bytes| sink.add(BlobKind::Tree, bytes))
    }

    /// Stores what is left; returns the roots of tree and hints.
    pub(super) fn finish(self, sink: &mut Sink<'_>) -> Result<(BlobId, BlobId), Stop> {
        let tree = self.tree.finish(&mut |bytes| sink.add(BlobKind::Tree, bytes))?;
        Ok((tree, self.hints.finish(&mut |bytes| sink.add(BlobKind::Hints, bytes))?))
    }

    fn push_hint(&mut self, name: &[u8], hint: HintItem, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let hint = HintItem { boundary: boundary_hash(name), ..hint };
        self.hints.push(hint, &mut |bytes| sink.add(BlobKind::Hints, bytes))
    }
}
