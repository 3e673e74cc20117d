//! From the next version to the operations that make it the newest.

use std::collections::{BTreeSet, HashMap};

use lastgood_format::entry::Marks;
use lastgood_host::metadata::Unset;

use super::scan::Spoiled;
use super::stage::Staged;
use super::{RunOptions, RunReport};
use crate::content;
use crate::delta::{self, Delta};
use crate::error::{MirrorError, Trouble, Watch, check};
use crate::journal::{Journal, Operation};
use crate::layout;
use crate::mirror::{Mirror, Subject, Version, View};
use crate::record::{self, At, Path, Present, State};
use crate::texts::{Head, manifest_text, records_text, versions_text};

/// What a run has to write down beside a version.
pub(super) struct News<'a> {
    /// What the mirror is of, where that is another directory than before.
    pub(super) subject: Option<&'a Subject>,
    /// Whether a run was held, and none is any more.
    pub(super) ends_hold: bool,
}

/// Makes the staged version the newest.
pub(super) fn commit(
    mirror: &Mirror,
    view: &View,
    mut staged: Staged,
    news: &News<'_>,
    options: &RunOptions,
    watch: &dyn Watch,
) -> Result<RunReport, MirrorError> {
    let mut report = std::mem::take(&mut staged.report);
    let mut delta = delta::between(&view.latest, &staged.new, &staged.moved);
    count(&view.latest, &staged, &delta, &mut report);
    outgoing(mirror, &mut delta, &mut staged, options, watch)?;
    let of = |why: Spoiled| {
        let paths = staged.spoiled.iter().filter(move |(_, it)| **it == why);
        paths.map(|(path, _)| path.clone())
    };
    report.conflicts = of(Spoiled::Edited).chain(staged.extras.iter().cloned()).collect();
    report.rotted = of(Spoiled::Rotted).collect();
    report.healed =
        report.rotted.iter().filter(|path| is_healed(path, &delta, &staged)).cloned().collect();
    let is_new = view.versions.is_empty() || !delta.is_empty();
    let is_touched = is_new
        || news.subject.is_some()
        || news.ends_hold
        || !staged.spoiled.is_empty()
        || !staged.extras.is_empty()
        || staged.new != view.latest;
    if !is_touched {
        return Ok(report);
    }
    let mut versions = view.versions.clone();
    let last = versions.last().map(|version| (version.name.clone(), version.time));
    let version = if is_new {
        named(mirror, &versions, options)?
    } else {
        versions.pop().ok_or_else(|| MirrorError::Missing(layout::VERSIONS.into()))?
    };
    let last_name = last.as_ref().map_or(&*version.name, |(name, _)| name);
    let plan = Plan {
        old: &view.latest,
        staged: &staged,
        delta: &delta,
        from: last.as_ref().map(|(name, _)| name.as_str()),
        conflicts: mirror.free_place(layout::conflicts(&version.name))?,
        damaged: mirror.free_place(layout::damaged(last_name))?,
    };
    let mut operations = plan.operations();
    let mut texts = Vec::new();
    if news.ends_hold {
        let gone = layout::stage("held");
        operations.push(Operation::Put { from: layout::HELD.into(), to: gone });
    }
    if let Some(subject) = news.subject {
        texts.push((layout::MIRROR.into(), subject.to_text()));
    }
    if let (true, Some((name, time)), Some(last)) = (is_new, &last, versions.last_mut()) {
        let before = view.versions.len().checked_sub(2).map(|index| view.versions[index].seal);
        let head = Head { before, replaces: Vec::new() };
        let records = delta.iter().map(|(path, state)| (path, state.clone()));
        let (bytes, seal) = records_text("delta", name, *time, &head, records);
        last.seal = seal;
        last.bytes_kept = delta::stored(&delta).map(|(_, bytes)| bytes).sum();
        texts.push((layout::delta(name), bytes));
    }
    let (bytes, seal) = manifest_text(&version, &staged.new);
    texts.push((layout::MANIFEST.into(), bytes));
    let kept = staged.new.values().filter(|it| it.entry.marks.contains(Marks::KEPT)).count();
    let version =
        Version { seal, files: report.files, bytes: report.bytes, kept: kept as u64, ..version };
    versions.push(version.clone());
    texts.push((layout::VERSIONS.into(), versions_text(&versions)));
    // No barrier before these: until the journal goes, a reader finds files under either name.
    operations.extend(mirror.stage_texts(texts)?);
    operations.push(Operation::Barrier);
    check(watch)?;
    let journal = Journal { aside: plan.conflicts, operations };
    let done = mirror.commit(&journal)?;
    let is_news = |path: &Path| !report.conflicts.iter().any(|it| layout::latest(it) == *path);
    for path in done.vanished.into_iter().filter(is_news) {
        let message = "somebody removed it while the run went on".to_owned();
        watch.trouble(Trouble { path, during: "keep", message });
    }
    count_unset(&mut report, done.unset.into_iter().map(|(_, unset)| unset));
    report.version = is_new.then_some(version);
    Ok(report)
}

/// The version that is made: after all others, by its time as by its name.
fn named(
    mirror: &Mirror,
    versions: &[Version],
    options: &RunOptions,
) -> Result<Version, MirrorError> {
    let mut time = options.now;
    if let Some(last) = versions.last()
        && time <= last.time
    {
        time = last.time;
        time.nanos += 1;
        if time.nanos == NANOS {
            time = lastgood_format::entry::Timestamp { seconds: time.seconds + 1, nanos: 0 };
        }
    }
    let name = mirror.free_name(versions, time)?;
    let seal = crate::text::Seal([0; 32]);
    Ok(Version { name, time, seal, files: 0, bytes: 0, kept: 0, bytes_kept: 0 })
}

fn count(old: &delta::Manifest, staged: &Staged, delta: &Delta, report: &mut RunReport) {
    let is_file =
        |manifest: &delta::Manifest, path: &Path| manifest.get(path).is_some_and(Present::is_file);
    let moved = delta.iter().filter_map(|(from, state)| match &state.present()?.at {
        At::Next(to) if staged.moved.get(from) == Some(to) => Some((from, to)),
        // Another name of it is new.
        At::Next(to) if !is_file(&staged.new, from) && !is_file(old, to) => Some((from, to)),
        _ => None,
    });
    let (from, to): (BTreeSet<&Path>, BTreeSet<&Path>) = moved.unzip();
    for (path, present) in staged.new.iter().filter(|(_, present)| present.is_file()) {
        report.files += 1;
        report.bytes += present.size();
        match old.get(path).filter(|old| old.is_file()) {
            _ if to.contains(path) => report.moved += 1,
            None => report.new += 1,
            Some(old) if old.entry.node == present.entry.node => report.unchanged += 1,
            Some(_) => report.changed += 1,
        }
    }
    let gone = delta.iter().filter(|(path, state)| {
        state.present().is_some_and(Present::is_file)
            && !is_file(&staged.new, path)
            && !from.contains(path)
    });
    report.deleted = gone.count() as u64;
}

/// Looks at the files that leave `latest/`: what rotted, or was written over by somebody, does not
/// go into history as if it were true.
fn outgoing(
    mirror: &Mirror,
    delta: &mut Delta,
    staged: &mut Staged,
    options: &RunOptions,
    watch: &dyn Watch,
) -> Result<(), MirrorError> {
    let mut lost = Vec::new();
    for (path, state) in &mut *delta {
        let State::Present(present) = state else { continue };
        if !present.is_file() || !matches!(present.at, At::Here(_)) {
            continue;
        }
        check(watch)?;
        if !staged.spoiled.contains_key(path) {
            if !options.verifies_outgoing {
                continue;
            }
            let hash = content::hash(&*mirror.place, &layout::latest(path))?;
            if hash == present.hash().map(|id| *id.as_bytes()) {
                continue;
            }
            staged.spoiled.insert(path.clone(), Spoiled::Rotted);
        }
        present.at = At::Lost;
        lost.push(path.clone());
    }
    if !lost.is_empty() {
        from_elsewhere(delta, &lost, &staged.new);
    }
    Ok(())
}

/// What was lost on its way into history is not, if the next version has the same bytes somewhere.
fn from_elsewhere(delta: &mut Delta, lost: &[Path], new: &delta::Manifest) {
    let known = new.iter().filter(|(_, present)| present.at != At::Lost);
    let by_hash: HashMap<_, &Path> =
        known.filter_map(|(path, present)| Some((present.hash()?, path))).collect();
    for path in lost {
        if let Some(State::Present(present)) = delta.get_mut(path)
            && let Some(to) = present.hash().and_then(|hash| by_hash.get(&hash))
        {
            present.at = At::Next(Path::clone(to));
        }
    }
}

/// Whether the bytes that rotted at a path are there again.
fn is_healed(path: &Path, delta: &Delta, staged: &Staged) -> bool {
    let at = match delta.get(path).and_then(State::present).map(|was| &was.at) {
        Some(At::Next(to)) => to,
        Some(At::Here(_) | At::Lost) => return false,
        None => path,
    };
    staged.new.get(at).is_some_and(|is| is.at != At::Lost)
}

pub(super) fn count_unset(report: &mut RunReport, unset: impl IntoIterator<Item = Unset>) {
    for unset in unset {
        let what = format!("{:?}", unset.aspect).to_lowercase();
        match report.unset.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => report.unset.push((what, 1)),
        }
    }
}

struct Plan<'a> {
    old: &'a delta::Manifest,
    staged: &'a Staged,
    delta: &'a Delta,
    /// Name of the version that is the newest now.
    from: Option<&'a str>,
    /// Where goes what is not ours.
    conflicts: Path,
    /// Where goes what rotted.
    damaged: Path,
}

impl Plan<'_> {
    fn operations(&self) -> Vec<Operation> {
        let mut operations = vec![Operation::Directory(layout::LATEST.into())];
        self.keep(&mut operations);
        operations.push(Operation::Barrier);
        let (blocking, rest) = self.removals();
        operations.extend(blocking);
        self.arrive(&mut operations);
        operations.extend(rest);
        self.looks(&mut operations);
        operations
    }

    /// A second name for all that leaves its place in `latest/`.
    fn keep(&self, operations: &mut Vec<Operation>) {
        let mut keep = |from: &[u8], to: Path, hash| {
            operations.push(Operation::Keep { from: layout::latest(from), to, hash });
        };
        for (path, state) in self.delta {
            let (Some(present), Some(from)) = (state.present(), self.from) else { continue };
            if present.is_file() && present.at == At::Here(path.clone()) {
                keep(path, layout::folder(from, path), None);
            }
        }
        for (path, why) in &self.staged.spoiled {
            let to = match why {
                Spoiled::Rotted => &self.damaged,
                Spoiled::Edited => &self.conflicts,
            };
            keep(path, record::join(to, path), None);
        }
        for path in &self.staged.extras {
            keep(path, record::join(&self.conflicts, path), None);
        }
        for (number, (from, to)) in self.staged.moved.iter().enumerate() {
            if self.only_in_case(from, to) {
                continue;
            }
            let hash = self.staged.new.get(to).and_then(Present::hash);
            keep(from, moving(number), hash.map(|id| *id.as_bytes()));
        }
    }

    /// Whether a file moves to what is the same name there.
    fn only_in_case(&self, from: &[u8], to: &[u8]) -> bool {
        self.staged.can.is_blind && self.staged.can.key(from) == self.staged.can.key(to)
    }

    /// What goes: first what stands in the way of something else, then, when everything new is in
    /// place, the rest; deepest first.
    fn removals(&self) -> (Vec<Operation>, Vec<Operation>) {
        let (mut blocking, mut rest) = (Vec::new(), Vec::new());
        let can = self.staged.can;
        let comes = can.keys(&self.staged.new);
        let gone = self.old.iter().filter(|(_, old)| can.shows(old)).map(|(path, _)| path);
        let mut paths: Vec<&Path> = gone.chain(&self.staged.extras).collect();
        paths.sort_by(|one, other| other.cmp(one));
        for path in paths {
            let was_directory = self.old.get(path).is_some_and(|old| old.entry.is_directory());
            let is = self.staged.new.get(path).filter(|is| can.shows(is));
            let is_spoiled = self.staged.spoiled.contains_key(path);
            match is {
                Some(is) if is.entry.is_directory() == was_directory && !is_spoiled => continue,
                // A rename replaces it, whatever it is.
                Some(is) if !is.entry.is_directory() && !was_directory => continue,
                _ => {}
            }
            // Under a name that is the same there, something else comes, and takes its place.
            let other = comes.get(&can.key(path)).filter(|other| **other != path);
            let other = other.and_then(|other| self.staged.new.get(*other));
            if other.is_some_and(|other| other.entry.is_directory() == was_directory) {
                continue;
            }
            let removals =
                if other.is_some() || self.is_in_the_way(path) { &mut blocking } else { &mut rest };
            let shown = layout::latest(path);
            // Only what was there is removed: when this is done again, what comes may be there.
            let becomes_directory = is.is_some_and(|is| is.entry.is_directory());
            removals.push(match was_directory && !becomes_directory {
                true => Operation::Leave(shown),
                false => Operation::Clear(shown),
            });
        }
        (blocking, rest)
    }

    /// Whether a directory is to lie where something else is, or the other way round, at a path or
    /// above it.
    fn is_in_the_way(&self, path: &[u8]) -> bool {
        let mut at = Some(path);
        while let Some(path) = at {
            if let Some(is) = self.staged.new.get(path) {
                let is_other = is.entry.is_directory() != self.was_directory(path);
                return self.staged.can.shows(is)
                    && (is_other || self.staged.spoiled.contains_key(path));
            }
            at = record::parent(path);
        }
        false
    }

    fn was_directory(&self, path: &[u8]) -> bool {
        self.old.get(path).is_some_and(|old| old.entry.is_directory())
    }

    /// What comes: directories, then what lies in them.
    fn arrive(&self, operations: &mut Vec<Operation>) {
        for (path, present) in &self.staged.new {
            let is_there = self.was_directory(path) && !self.staged.spoiled.contains_key(path);
            if present.entry.is_directory() && !is_there {
                operations.push(Operation::Directory(layout::latest(path)));
            }
        }
        for (path, from) in &self.staged.puts {
            let to = layout::latest(path);
            operations.push(Operation::Put { from: from.clone(), to });
        }
        for (number, (from, to)) in self.staged.moved.iter().enumerate() {
            let from = match self.only_in_case(from, to) {
                true => layout::latest(from),
                false => moving(number),
            };
            operations.push(Operation::Put { from, to: layout::latest(to) });
        }
    }

    /// Metadata: of what only looks different, of what moved, and last of directories, because all
    /// that happens in them changes their times.
    fn looks(&self, operations: &mut Vec<Operation>) {
        let moved: BTreeSet<&Path> = self.staged.moved.values().collect();
        let mut touched = BTreeSet::new();
        let mut looks = Vec::new();
        for (path, present) in &self.staged.new {
            let is_same = self.old.get(path).is_some_and(|old| old.entry == present.entry);
            if !self.staged.can.shows(present)
                || (is_same && !self.staged.spoiled.contains_key(path))
            {
                continue;
            }
            touched.extend(record::parent(path).map(Path::from));
            let is_dressed = self.staged.puts.contains_key(path) && !moved.contains(path);
            if present.entry.is_directory() {
                touched.insert(path.clone());
            } else if !is_dressed {
                looks.push((path, present));
            }
        }
        let gone = self.old.keys().filter(|path| !self.staged.new.contains_key(*path));
        for path in gone.chain(&self.staged.extras) {
            touched.extend(record::parent(path).map(Path::from));
        }
        let directories = touched.iter().rev().filter_map(|path| {
            let present = self.staged.new.get_key_value(path)?;
            present.1.entry.is_directory().then_some(present)
        });
        operations.extend(looks.into_iter().chain(directories).map(|(path, present)| {
            let present = Present { hint: Default::default(), ..present.clone() };
            Operation::Look(path.clone(), Box::new(present))
        }));
    }
}

/// Where a file that moves is on its way.
fn moving(number: usize) -> Path {
    layout::stage(&format!("moved-{number}"))
}

const NANOS: u32 = 1_000_000_000;
