//! What the snapshots of a run say of it, beside what was found.

use lastgood_host::identity::Accounts;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::snapshot::{Chain, OwnerNames, Snapshot, SnapshotFlags, Totals};
use lastgood_repo::{Clock, SnapshotRecord, Stored};

use super::engine::Scanned;
use super::sources::Sources;
use super::{BackupOptions, logbook};
use crate::log::Logbook;

/// What the snapshots of a run say of it.
pub(super) struct Record<'a> {
    is_stream: bool,
    logbook: Logbook,
    host_id: [u8; 16],
    tags: Vec<String>,
    sources: Vec<Vec<u8>>,
    baseline: Option<SnapshotRecord>,
    started: Timestamp,
    /// Place in the writer's chain of the first of them.
    chain: Chain,
    clock: &'a dyn Clock,
}

impl<'a> Record<'a> {
    /// What `options` and the sources say, for a run that begins now; `chain` is the place of its
    /// first snapshot.
    pub(super) fn new(
        options: &BackupOptions,
        sources: &Sources,
        baseline: Option<SnapshotRecord>,
        chain: Chain,
        begun: Timestamp,
        clock: &'a dyn Clock,
    ) -> Self {
        Self {
            is_stream: options.sources.is_empty(),
            logbook: logbook(options),
            host_id: options.host_id,
            tags: sorted(options.tags.clone()),
            sources: sources.snapshot_paths(),
            baseline,
            started: options.time.unwrap_or(begun),
            chain,
            clock,
        }
    }

    /// Who runs it.
    pub(super) const fn logbook(&self) -> &Logbook {
        &self.logbook
    }

    /// When the run began, as it says.
    pub(super) const fn started(&self) -> Timestamp {
        self.started
    }

    /// The present time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The snapshot that the run is compared with.
    pub(super) const fn baseline(&self) -> Option<&SnapshotRecord> {
        self.baseline.as_ref()
    }

    /// The snapshots whose packs the next one needs, after these partial ones.
    pub(super) fn baselines(&self, partials: &[SnapshotRecord]) -> Vec<SnapshotRecord> {
        self.baseline.iter().chain(partials.last()).cloned().collect()
    }

    /// The snapshot of what was scanned, after these partial ones.
    pub(super) fn snapshot(
        &self,
        scanned: &Scanned,
        partials: &[SnapshotRecord],
        mut flags: SnapshotFlags,
        stored: Stored,
    ) -> Snapshot {
        if scanned.problems.errors > 0 {
            flags = flags.with(SnapshotFlags::INCOMPLETE);
        }
        if self.is_stream {
            flags = flags.with(SnapshotFlags::STREAM);
        }
        let before = partials.len() as u64;
        Snapshot {
            session: stored.session,
            started: self.started,
            finished: self.clock.now(),
            tree: scanned.tree,
            hints: scanned.hints,
            links: scanned.links,
            pack_set: stored.pack_set,
            ref_packs: stored.ref_packs,
            sources: self.sources.clone(),
            host: self.logbook.host.clone(),
            host_id: self.host_id,
            user: self.logbook.user.clone(),
            tags: self.tags.clone(),
            owners: owner_names(&scanned.uids, &scanned.gids),
            chunker: scanned.chunker.into(),
            chain: Chain {
                sequence: self.chain.sequence + before,
                previous: partials.last().map(|partial| partial.id).or(self.chain.previous),
                generation: self.chain.generation + before,
                ..self.chain.clone()
            },
            totals: Totals {
                errors: scanned.problems.errors,
                bytes_added: stored.bytes_added,
                bytes_stored: stored.bytes_stored,
                ..scanned.totals
            },
            flags,
            program: self.logbook.program.clone(),
            original: None,
        }
    }
}

fn owner_names(uids: &[u32], gids: &[u32]) -> OwnerNames {
    let Ok(accounts) = Accounts::read() else { return OwnerNames::default() };
    let named = |numbers: &[u32], name: &dyn Fn(u32) -> Option<String>| {
        numbers.iter().filter_map(|&number| Some((number, name(number)?))).collect()
    };
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    OwnerNames {
        users: named(uids, &|uid| accounts.user_name(uid).map(text)),
        groups: named(gids, &|gid| accounts.group_name(gid).map(text)),
    }
}

fn sorted(mut tags: Vec<String>) -> Vec<String> {
    tags.sort();
    tags.dedup();
    tags
}
