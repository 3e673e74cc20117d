//! Snapshots by name: `latest`, `latest~2`, the start of an id, `@2026-11-01`, each with a path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;
use lastgood_repo::format::snapshot::{Snapshot, SnapshotFlags};
use lastgood_repo::{
    BlobReader, RepoError, Repository, Settings, SnapshotRecord, Snapshots, WriteSession,
};
pub use lastgood_repo::{Missing, SeenBy};

use crate::error::{Error, ErrorKind};
use crate::log::{Entry, Logbook};
use crate::writer_state::WriterState;

/// Which snapshots are meant. An empty filter takes all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of hosts; any of them.
    pub hosts: Vec<String>,
    /// Absolute source paths, as bytes; all of them.
    pub paths: Vec<Vec<u8>>,
    /// Lists of tags; all tags of any list. An empty list takes snapshots without tags.
    pub tags: Vec<Vec<String>>,
}

impl Filter {
    /// Whether a snapshot is meant.
    #[must_use]
    pub fn accepts(&self, snapshot: &Snapshot) -> bool {
        let has_tags = |tags: &Vec<String>| match tags.as_slice() {
            [] => snapshot.tags.is_empty(),
            tags => tags.iter().all(|tag| snapshot.tags.contains(tag)),
        };
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.paths.iter().all(|path| snapshot.sources.contains(path))
            && (self.tags.is_empty() || self.tags.iter().any(has_tags))
    }
}

/// A snapshot and a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// The path as given, without `:`; `None` when there was none.
    pub path: Option<Vec<u8>>,
}

/// A moment that a name may refer to, as the front end parsed it.
pub type ParseTime<'a> = &'a dyn Fn(&str) -> Option<Timestamp>;

/// Lists the live snapshots that `filter` accepts, oldest first, and notes on damaged and missing
/// ones.
///
/// # Errors
/// When they cannot be listed.
pub fn list(
    repo: &Repository,
    filter: &Filter,
) -> Result<(Vec<SnapshotRecord>, Vec<Error>), Error> {
    let snapshots = repo.snapshots()?;
    let live = snapshots.live.into_iter().filter(|record| filter.accepts(&record.snapshot));
    let missing = snapshots.missing.into_iter().map(|missing| RepoError::Missing {
        location: repo.location().to_owned(),
        missing: vec![missing],
    });
    let problems = snapshots.damaged.into_iter().chain(missing).map(Error::from);
    Ok((live.collect(), problems.collect()))
}

/// What the last listing lacked, as the error that a backup would end with.
#[must_use]
pub fn missing(repo: &Repository) -> Option<Error> {
    repo.refuse_if_missing().err().map(Error::from)
}

/// What the last listing lacked.
#[must_use]
pub fn what_is_missing(repo: &Repository) -> Vec<Missing> {
    match repo.refuse_if_missing() {
        Err(RepoError::Missing { missing, .. }) => missing,
        _ => Vec::new(),
    }
}

/// Accepts that snapshots which were there are lost, so that the repository can be written to
/// again. Returns them.
///
/// # Errors
/// Whatever the repository says; some may be accepted then.
pub fn accept_missing(repo: &Repository, accepted_by: &str) -> Result<Vec<Missing>, Error> {
    Ok(repo.accept_missing(accepted_by)?)
}

/// Finds the snapshot that `text` names, with the path after its first `:`.
///
/// `parse_time` reads what follows an `@`; the newest snapshot not after that moment is meant.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Invalid`] when several ids start so.
pub fn resolve(
    repo: &Repository,
    text: &str,
    filter: &Filter,
    parse_time: ParseTime<'_>,
) -> Result<Named, Error> {
    let (records, damaged) = list(repo, filter)?;
    match (find(&records, text, parse_time), damaged.into_iter().next()) {
        // It may be the one that is asked for.
        (Err(error), Some(damaged)) if error.kind() == ErrorKind::NotFound => {
            Err(Error::caused_by(ErrorKind::NotFound, error.to_string(), damaged))
        }
        (found, _) => found,
    }
}

/// Finds what `text` names, as [`resolve`] does, among `records`, oldest first.
///
/// # Errors
/// As [`resolve`].
pub fn find(
    records: &[SnapshotRecord],
    text: &str,
    parse_time: ParseTime<'_>,
) -> Result<Named, Error> {
    let (name, path) = split_path(text);
    let path = path.map(|path| path.as_bytes().to_vec());
    let found = if let Some(time) = name.strip_prefix('@') {
        let time = parse_time(time).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("{time:?} is not a time, as in @2026-11-01 or @3d"),
            )
        })?;
        records.iter().rev().find(|record| record.snapshot.started <= time)
    } else if let Some(back) = latest_back(name)? {
        records.len().checked_sub(back + 1).and_then(|index| records.get(index))
    } else {
        by_prefix(records, name)?
    };
    found.map(|record| Named { record: record.clone(), path }).ok_or_else(|| {
        let text = format!("there is no snapshot {name:?}; `lastgood snapshots` lists them");
        Error::new(ErrorKind::NotFound, text)
    })
}

/// How to change tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagChange {
    /// Replace all tags by these.
    pub set: Option<Vec<String>>,
    /// Add these.
    pub add: Vec<String>,
    /// Remove these.
    pub remove: Vec<String>,
}

impl TagChange {
    /// The tags that a snapshot with the tags `old` gets.
    #[must_use]
    pub fn apply(&self, old: &[String]) -> Vec<String> {
        let mut tags = self.set.clone().unwrap_or_else(|| old.to_vec());
        tags.extend(self.add.iter().cloned());
        tags.retain(|tag| !self.remove.contains(tag));
        tags.sort();
        tags.dedup();
        tags
    }
}

/// Changes the tags of one snapshot, see [`Rewriter::tag`].
///
/// # Errors
/// As there.
pub fn tag(
    repo: &Arc<Repository>,
    state: &Path,
    record: &SnapshotRecord,
    change: &TagChange,
    program: &str,
) -> Result<Option<Changed>, Error> {
    Rewriter::open(repo, state, program)?.tag(record, change)
}

/// Pins one snapshot or unpins it, see [`Rewriter::pin`].
///
/// # Errors
/// As there.
pub fn pin(
    repo: &Arc<Repository>,
    state: &Path,
    record: &SnapshotRecord,
    pinned: bool,
    program: &str,
) -> Result<Option<Changed>, Error> {
    Rewriter::open(repo, state, program)?.pin(record, pinned)
}

/// Puts copies that say something else in the place of snapshots, of any number of them from one
/// listing.
#[derive(Debug)]
pub struct Rewriter {
    repo: Arc<Repository>,
    state: PathBuf,
    program: String,
    writer: WriterState,
    snapshots: Snapshots,
}

impl Rewriter {
    /// Lists the snapshots.
    ///
    /// # Errors
    /// When they cannot be listed, or another process writes under the same name.
    pub fn open(repo: &Arc<Repository>, state: &Path, program: &str) -> Result<Self, Error> {
        Ok(Self {
            writer: WriterState::claim(state, repo)?,
            snapshots: repo.snapshots()?,
            repo: repo.clone(),
            state: state.to_owned(),
            program: program.to_owned(),
        })
    }

    /// Changes the tags of a snapshot: commits a copy with the new ones and retires the old one.
    /// Returns the new snapshot, or `None` when nothing changes.
    ///
    /// # Errors
    /// Whatever the repository says; the old snapshot is then as it was, or both are there.
    pub fn tag(
        &mut self,
        record: &SnapshotRecord,
        change: &TagChange,
    ) -> Result<Option<Changed>, Error> {
        let tags = change.apply(&record.snapshot.tags);
        if tags == record.snapshot.tags {
            return Ok(None);
        }
        let change =
            Change { verb: "tag", reason: "its tags were changed", tags, ..Change::none(record) };
        self.replace(record, change).map(Some)
    }

    /// Pins a snapshot, so that `forget` never takes it, or unpins it: commits a copy that says so
    /// and retires the old one. Returns the new snapshot, or `None` when it is so already.
    ///
    /// # Errors
    /// Whatever the repository says; the old snapshot is then as it was, or both are there.
    pub fn pin(&mut self, record: &SnapshotRecord, pinned: bool) -> Result<Option<Changed>, Error> {
        let old = record.snapshot.flags;
        if old.contains(SnapshotFlags::PINNED) == pinned {
            return Ok(None);
        }
        let (verb, reason, flags) = match pinned {
            true => ("pin", "it was pinned", old.with(SnapshotFlags::PINNED)),
            false => ("unpin", "it was unpinned", old.without(SnapshotFlags::PINNED)),
        };
        let change = Change { verb, reason, flags, ..Change::none(record) };
        self.replace(record, change).map(Some)
    }

    /// Commits a changed copy of a snapshot and then retires the snapshot.
    fn replace(&mut self, record: &SnapshotRecord, change: Change) -> Result<Changed, Error> {
        let began = self.repo.world().clock.now();
        let (verb, reason) = (change.verb, change.reason);
        let copy = self.copy(record, change)?.ok_or_else(|| {
            let text = format!(
                "snapshot {} lost packs or is being removed, so it cannot be copied",
                record.id
            );
            Error::new(ErrorKind::Conflict, text)
        })?;
        self.repo.retire(record, reason, Some(copy.id))?;
        let entry = Entry { snapshots: vec![copy.id, record.id], ..Entry::done(verb, began) };
        let deed = Logbook::here(&self.state, &self.program).deed(entry);
        let logged = self.repo.append_to_log(self.writer.name(), &deed);
        Ok(Changed { record: copy, unlogged: logged.err().map(|why| why.to_string()) })
    }

    /// Commits a snapshot with the content of another, and reads nothing of it; `None` when what
    /// the other needs is gone or going.
    pub(crate) fn copy(
        &mut self,
        record: &SnapshotRecord,
        change: Change,
    ) -> Result<Option<SnapshotRecord>, RepoError> {
        let old = &record.snapshot;
        let session = WriteSession::begin(&self.repo, Settings::default(), self.writer.name())?;
        if !session.may_reuse(&BlobReader::new(self.repo.clone()), record)? {
            return Ok(None);
        }
        let chain = self.snapshots.next_in_chain(session.writer_id(), &[record.id]);
        let copy = session.finish(std::slice::from_ref(record), |stored| Snapshot {
            session: stored.session,
            pack_set: stored.pack_set,
            ref_packs: stored.ref_packs,
            tags: change.tags,
            flags: change.flags,
            chain,
            program: self.program.clone(),
            original: Some(old.original.unwrap_or(record.id)),
            ..old.clone()
        })?;
        self.snapshots.add(&copy);
        Ok(Some(copy))
    }
}

/// A snapshot that took the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The new snapshot.
    pub record: SnapshotRecord,
    /// Why the log does not tell of it, if it does not. It is done all the same.
    pub unlogged: Option<String>,
}

/// What a copy of a snapshot says otherwise.
pub(crate) struct Change {
    /// The verb of the log.
    pub(crate) verb: &'static str,
    /// Why the old one is retired.
    pub(crate) reason: &'static str,
    pub(crate) tags: Vec<String>,
    pub(crate) flags: SnapshotFlags,
}

impl Change {
    /// Nothing is changed.
    pub(crate) fn none(record: &SnapshotRecord) -> Self {
        let Snapshot { tags, flags, .. } = &record.snapshot;
        Self { verb: "", reason: "", tags: tags.clone(), flags: *flags }
    }
}

/// `latest` is 0, `latest~N` is N.
pub(crate) fn latest_back(name: &str) -> Result<Option<usize>, Error> {
    let Some(rest) = name.strip_prefix("latest") else { return Ok(None) };
    if rest.is_empty() {
        return Ok(Some(0));
    }
    let back = rest.strip_prefix('~').and_then(|count| count.parse().ok());
    back.map(Some).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("{name:?} is no snapshot; write latest~2"))
    })
}

fn by_prefix<'a>(
    records: &'a [SnapshotRecord],
    prefix: &str,
) -> Result<Option<&'a SnapshotRecord>, Error> {
    let is_id_start = !prefix.is_empty()
        && prefix.len() <= 2 * SnapshotId::BYTES
        && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id_start {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "{prefix:?} names no snapshot; give latest, latest~1, the start of an id, or @time"
            ),
        ));
    }
    let prefix = prefix.to_ascii_lowercase();
    let mut found = records.iter().filter(|record| record.id.to_string().starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Invalid,
            format!("several snapshots start with {prefix:?}; give more digits"),
        )),
        (first, _) => Ok(first),
    }
}

/// Splits at the first `:` that is followed by a path. Times hold colons, paths start with `/`.
pub(crate) fn split_path(text: &str) -> (&str, Option<&str>) {
    let start = if text.starts_with('@') { text.find(":/") } else { text.find(':') };
    match start {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{TagChange, split_path};

    #[test]
    fn tags_are_set_then_added_then_removed_and_sorted() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let check = |set: Option<&str>, add: &str, remove: &str, expected: &str| {
            let change = TagChange { set: set.map(list), add: list(add), remove: list(remove) };
            assert_eq!(change.apply(&list("b x")), list(expected));
        };
        check(None, "", "", "b x");
        check(None, "a b", "x", "a b");
        check(Some(""), "", "", "");
        check(Some("c a c"), "", "", "a c");
    }

    #[test]
    fn a_path_follows_the_first_colon_that_is_not_of_a_time() {
        assert_eq!(split_path("latest"), ("latest", None));
        assert_eq!(split_path("latest:/a:b"), ("latest", Some("/a:b")));
        assert_eq!(split_path("1a2b:docs"), ("1a2b", Some("docs")));
        assert_eq!(split_path("@2026-11-01T10:20:/a"), ("@2026-11-01T10:20", Some("/a")));
        assert_eq!(split_path("@2026-11-01T10:20"), ("@2026-11-01T10:20", None));
    }
}
