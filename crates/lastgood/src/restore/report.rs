//! What a restore says of itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastgood_host::metadata::{Aspect, Reason, Unset};

use crate::job::{Action, Control, Item, Problem, Problems, Severity};
use crate::restore::plan::Change;

/// What a restore did, or what a dry run found to do.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Where it went.
    pub target: PathBuf,
    /// What was done to entries.
    pub counts: Counts,
    /// Metadata that could not be set, once per kind.
    pub unset: Vec<NotSet>,
    /// What was left out because it gives power and the snapshot is of another host, once per kind.
    pub withheld: Vec<NotSet>,
    /// Stretches of files that could not be restored: they hold what was there before, or zeros.
    /// Each is a problem too.
    pub damaged: Vec<Damaged>,
    /// Everything that went wrong.
    pub problems: Problems,
    /// What reading it all again found, where this was asked for.
    pub verified: Option<Verified>,
    /// The index was silent or wrong about something that the snapshot needs.
    pub is_index_wrong: bool,
}

/// What was done to entries, directories among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// They were missing.
    pub created: u64,
    /// They were there, and different.
    pub updated: u64,
    /// They were there, and equal.
    pub unchanged: u64,
    /// They were there, and [`Overwrite`](crate::restore::Overwrite) said to leave them.
    pub skipped: u64,
    /// They were there and not in the snapshot.
    pub deleted: u64,
    /// They could not be restored, or not fully.
    pub failed: u64,
    /// Bytes of content that were written.
    pub bytes_written: u64,
    /// Bytes of content that were there already.
    pub bytes_kept: u64,
}

/// A kind of metadata that was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSet {
    /// What: "owner", "extended attribute user.x", "device".
    pub what: String,
    /// Why not.
    pub why: String,
    /// On how many entries.
    pub count: u64,
    /// The first [`NotSet::PATHS_MAX`] of them.
    pub paths: Vec<PathBuf>,
}

impl NotSet {
    /// How many paths are kept.
    pub const PATHS_MAX: usize = 10;
    /// How many kinds are told apart.
    pub const KINDS_MAX: usize = 1000;
}

/// A stretch of a file that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub range: Range<u64>,
}

/// What reading the target again found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Entries that are as the snapshot has them.
    pub equal: u64,
    /// Entries that are not. Each is a problem too.
    pub different: u64,
    /// Bytes of content that were read and compared.
    pub bytes: u64,
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: PathBuf,
    /// How it differs.
    pub change: Change,
}

/// Gathers the report while many threads work.
pub(crate) struct Record<'a> {
    control: &'a Control,
    /// Whether an event is sent for each path.
    items: bool,
    /// Whether differences are listed.
    list_differences: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) counts: Counts,
    pub(crate) damaged: Vec<Damaged>,
    pub(crate) problems: Problems,
    pub(crate) differences: Vec<Difference>,
    unset: HashMap<(bool, String, String), NotSet>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(control: &'a Control, items: bool, list_differences: bool) -> Self {
        Self { control, items, list_differences, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> Inner {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry is done: it was as it should be, or was changed, or left alone.
    pub(crate) fn done(&self, outcome: Outcome, bytes: u64, path: impl FnOnce() -> PathBuf) {
        let mut inner = self.lock();
        let counts = &mut inner.counts;
        let (counter, action) = match outcome {
            Outcome::Equal => (&mut counts.unchanged, Action::Unchanged),
            Outcome::Skipped => (&mut counts.skipped, Action::Unchanged),
            Outcome::Changed(Change::Created) => (&mut counts.created, Action::Restored),
            Outcome::Changed(Change::Deleted) => (&mut counts.deleted, Action::Deleted),
            Outcome::Changed(_) => (&mut counts.updated, Action::Updated),
        };
        *counter += 1;
        let is_listed = match outcome {
            Outcome::Changed(_) => {
                self.list_differences && inner.differences.len() < Problems::LISTED_MAX
            }
            _ => false,
        };
        if !self.items && !is_listed {
            return;
        }
        let path = path();
        if let (Outcome::Changed(change), true) = (outcome, is_listed) {
            inner.differences.push(Difference { path: path.clone(), change });
        }
        // Sending waits for its reader, and nobody else may wait for that.
        drop(inner);
        if self.items {
            self.control.item(|| Item { path, action, bytes });
        }
    }

    /// An entry could not be restored, or not fully; the problem says why.
    pub(crate) fn failed(&self) {
        self.lock().counts.failed += 1;
    }

    pub(crate) fn deleted(&self, count: u64) {
        self.lock().counts.deleted += count;
    }

    pub(crate) fn bytes(&self, written: u64, kept: u64) {
        let mut inner = self.lock();
        inner.counts.bytes_written += written;
        inner.counts.bytes_kept += kept;
    }

    pub(crate) fn problem(
        &self,
        path: PathBuf,
        during: &'static str,
        error: &dyn std::error::Error,
    ) {
        self.trouble(path, during, chain(error), Severity::Error);
    }

    pub(crate) fn trouble(
        &self,
        path: PathBuf,
        during: &'static str,
        message: String,
        severity: Severity,
    ) {
        let problem = Problem { path, during, message, severity };
        self.control.problem(&problem);
        self.lock().problems.push(problem);
    }

    /// Bytes of a file are lost.
    pub(crate) fn damaged(&self, path: PathBuf, range: Range<u64>, error: &dyn std::error::Error) {
        let Range { start, end } = range;
        let message = format!("bytes {start} to {end} are lost: {}", chain(error));
        let mut inner = self.lock();
        if inner.damaged.len() < Problems::LISTED_MAX {
            inner.damaged.push(Damaged { path: path.clone(), range });
        }
        drop(inner);
        self.trouble(path, "restore", message, Severity::Error);
    }

    /// Notes what could not be set on an entry.
    pub(crate) fn unset(&self, unset: Vec<Unset>, path: impl Fn() -> PathBuf) {
        for Unset { aspect, reason } in unset {
            let what = name_of(&aspect);
            match reason {
                Reason::Withheld => self.not_set(true, what, WITHHELD.to_owned(), &path),
                Reason::Refused(error) => self.not_set(false, what, error.to_string(), &path),
            }
        }
    }

    /// Notes a device node that was not created because the snapshot is of another host.
    pub(crate) fn withheld_device(&self, path: impl Fn() -> PathBuf) {
        self.not_set(true, "device".to_owned(), WITHHELD.to_owned(), &path);
    }

    /// Notes a device node that the system refused to create.
    pub(crate) fn refused_device(&self, error: &std::io::Error, path: impl Fn() -> PathBuf) {
        self.not_set(false, "device".to_owned(), error.to_string(), &path);
    }

    fn not_set(&self, withheld: bool, what: String, why: String, path: &dyn Fn() -> PathBuf) {
        let mut inner = self.lock();
        // The names of attributes come from the snapshot, so there may be any number of them.
        let is_full = inner.unset.len() >= NotSet::KINDS_MAX;
        let what = if is_full { "other metadata".to_owned() } else { what };
        let not_set = match inner.unset.entry((withheld, what, why)) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let (_, what, why) = slot.key().clone();
                slot.insert(NotSet { what, why, count: 0, paths: Vec::new() })
            }
        };
        not_set.count += 1;
        if not_set.paths.len() < NotSet::PATHS_MAX {
            not_set.paths.push(path());
        }
    }
}

impl Inner {
    /// What was withheld or else refused, sorted.
    pub(crate) fn not_set(&self, withheld: bool) -> Vec<NotSet> {
        let of_kind = |((is, ..), value): (&(bool, String, String), &NotSet)| {
            (*is == withheld).then(|| value.clone())
        };
        let mut list: Vec<NotSet> = self.unset.iter().filter_map(of_kind).collect();
        list.sort_by(|a, b| (&a.what, &a.why).cmp(&(&b.what, &b.why)));
        list
    }
}

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was equal.
    Equal,
    /// It was left as it is though it may differ.
    Skipped,
    /// It was made equal.
    Changed(Change),
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn name_of(aspect: &Aspect) -> String {
    match aspect {
        Aspect::Owner => "owner".to_owned(),
        Aspect::Group => "group".to_owned(),
        Aspect::Mode => "permissions".to_owned(),
        Aspect::Setuid => "setuid bit".to_owned(),
        Aspect::Setgid => "setgid bit".to_owned(),
        Aspect::Xattr(name) if name.is_empty() => "extended attributes".to_owned(),
        Aspect::Xattr(name) => format!("extended attribute {}", String::from_utf8_lossy(name)),
        Aspect::Acl => "access control list".to_owned(),
        Aspect::Capability => "file capabilities".to_owned(),
        Aspect::Flags => "inode flags".to_owned(),
        Aspect::Times => "modification time".to_owned(),
    }
}

const WITHHELD: &str = "the snapshot is of another host, and it gives power";
