//! Partial snapshots: a long run commits what it has every few minutes, so that neither a crash nor
//! gc costs it everything. Spec: `docs/format/commit.md`, section 3.
//!
//! When one is due, every worker hands over what it has and waits; the last to come stores the tree
//! as far as it is known, commits it and opens the next session. What a directory has beyond that
//! is as in the baseline, or missing.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::links::LinksCodec;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::page;
use lastgood_repo::format::snapshot::SnapshotFlags;
use lastgood_repo::{Repository, SnapshotRecord};

use crate::log::Entry;

use super::baseline::BaselineDirectory;
use super::building::Pages;
use super::engine::{Engine, Worker, lock};
use super::node::DirectoryNode;
use super::sink::{Sink, Stop};
use crate::job::Control;

/// Root page of a tree, and of its hints where they are known.
type Roots = (BlobId, Option<BlobId>);

impl Engine<'_> {
    /// Whether workers must pause for a partial snapshot, which begins when it is time for one.
    pub(super) fn partial_is_due(&self) -> bool {
        if self.is_pausing.load(Ordering::Acquire) {
            return true;
        }
        let Some(every) = self.partial_every else { return false };
        let now = self.repo.world().clock.now().seconds;
        let since = now.saturating_sub(self.partial_at.load(Ordering::Relaxed));
        // A clock that was set back must not end partial snapshots.
        if (0..every).contains(&since) {
            return false;
        }
        let queue = lock(&self.queue);
        if queue.running == 0 || queue.paused > 0 {
            return false;
        }
        drop(queue);
        self.partial_at.store(now, Ordering::Relaxed);
        self.is_pausing.store(true, Ordering::Release);
        self.wake();
        true
    }

    /// Commits what there is. All workers are paused.
    fn commit_partial(&self) -> Result<(), Stop> {
        let Some(root) = self.tree.get().filter(|root| !root.building().is_empty()) else {
            return Ok(());
        };
        let mut guard = lock(&self.session);
        let Some(session) = guard.take() else { return Ok(()) };
        let mut sink = Sink::Store(Box::new(session.writer()));
        let stored = self.store_partial(root, &mut sink, 0)?;
        let links = page::write::<LinksCodec, Stop>(Vec::new(), &mut |bytes| {
            sink.add(BlobKind::Links, bytes)
        })?;
        sink.finish()?;
        let Some((tree, Some(hints))) = stored else {
            *guard = Some(session);
            return Ok(());
        };
        let scanned = self.scanned(tree, hints, links);
        let mut partials = lock(&self.partials);
        let baselines = self.record.baselines(&partials);
        let (next, committed) = session.go_on(&baselines, |stored| {
            self.record.snapshot(&scanned, &partials, SnapshotFlags::PARTIAL, stored)
        })?;
        if let Some(record) = &committed {
            let snapshots = vec![record.id];
            let entry = Entry { snapshots, ..Entry::done("partial", self.record.started()) };
            if let Err(error) = next.append_to_log(&self.record.logbook().deed(entry)) {
                self.control.note(format!(
                    "snapshot {} is not in the log of the repository: {error}",
                    record.id
                ));
            }
        }
        *guard = Some(next);
        if let Some(record) = committed {
            self.control.note(format!("committed what there is so far as snapshot {}", record.id));
            partials.push(record);
        }
        Ok(())
    }

    /// Stores what there is of a directory that is not done; nothing when it was not begun and the
    /// baseline has none.
    fn store_partial(
        &self,
        node: &DirectoryNode,
        sink: &mut Sink<'_>,
        depth: usize,
    ) -> Result<Option<Roots>, Stop> {
        let baseline = node.baseline.map(|baseline| (baseline.tree, baseline.hints));
        let building = node.building();
        if depth == PARTIAL_DEPTH_MAX || building.is_empty() {
            return Ok(baseline);
        }
        let mut pages: Pages = building.pages();
        for (index, built) in building.open() {
            let mut built = built.clone();
            if built.is_awaited() {
                let child = node.child_at(index);
                let roots = child.map(|child| self.store_partial(&child, sink, depth + 1));
                let Some((tree, hints)) = roots.transpose()?.flatten() else { continue };
                built.set_roots(tree, hints);
            }
            pages.push(built, sink)?;
        }
        if let (Some(at), false) = (node.baseline, building.is_whole()) {
            // What cannot be read of the baseline is missing here, and the run goes on.
            let mut rest = BaselineDirectory::open(self.baseline, at).unwrap_or_default();
            while let Ok(Some(base)) = rest.next(self.baseline) {
                if *base.entry.name > *building.last_name() {
                    pages.push(base.into(), sink)?;
                }
            }
        }
        let (tree, hints) = pages.finish(sink)?;
        Ok(Some((tree, Some(hints))))
    }
}

impl Worker<'_> {
    /// Hands over what this worker has, and waits until the partial snapshot is committed. The
    /// last worker to come commits it.
    pub(super) fn pause(&mut self) -> Result<(), Stop> {
        let engine = self.engine;
        // A writer that is still there would keep its session from ending.
        std::mem::replace(&mut self.sink, Sink::Imagine(engine)).finish()?;
        engine.note_owners(&self.uids, &self.gids);
        let mut queue = lock(&engine.queue);
        queue.paused += 1;
        let result = loop {
            if queue.is_stopped {
                break Err(Stop::Cancelled);
            }
            if !engine.is_pausing.load(Ordering::Acquire) {
                break Ok(());
            }
            if queue.paused == queue.running && !queue.is_committing {
                queue.is_committing = true;
                drop(queue);
                let committed = engine.commit_partial();
                queue = lock(&engine.queue);
                queue.is_committing = false;
                engine.is_pausing.store(false, Ordering::Release);
                engine.changed.notify_all();
                break committed;
            }
            queue = engine.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        queue.paused -= 1;
        drop(queue);
        self.sink = engine.sink();
        result
    }
}

/// Retires partial snapshots, which a complete one stands in for. Where this fails they stay, and
/// cost nothing but a line in a listing.
pub(super) fn retire_partials<'a>(
    repo: &Repository,
    partials: impl Iterator<Item = &'a SnapshotRecord>,
    complete: Option<&SnapshotRecord>,
    control: &Control,
) {
    let is_pinned = |record: &SnapshotRecord| record.snapshot.flags.contains(SnapshotFlags::PINNED);
    for record in partials.filter(|record| is_partial(record) && !is_pinned(record)) {
        let by = complete.map(|record| record.id);
        if let Err(error) = repo.retire(record, "a complete snapshot stands in for it", by) {
            control.note(format!("partial snapshot {} stays: {error}", record.id));
        }
    }
}

/// Whether the run that wrote it was not over.
pub(super) fn is_partial(record: &SnapshotRecord) -> bool {
    record.snapshot.flags.contains(SnapshotFlags::PARTIAL)
}

/// Levels of directories below which a partial snapshot holds what the baseline has: what is under
/// way deeper down would need a deep stack.
const PARTIAL_DEPTH_MAX: usize = 256;
