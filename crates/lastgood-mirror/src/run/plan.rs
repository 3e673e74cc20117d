//! From the next version to the operations that make it the newest.

use std::collections::{BTreeSet, HashMap};

use lastgood_format::entry::Marks;

use super::scan::Spoiled;
use super::staged::{How, Staged};
use super::{RunOptions, RunReport};
use crate::content;
use crate::delta;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::journal::{JournalWriter, Looks, Operation};
use crate::layout;
use crate::mirror::{Mirror, Subject, Version, View, seconds_first};
use crate::place;
use crate::record::{self, At, Path, Present, State};
use crate::sheet::{Sheet, SheetWriter};
use crate::text::Seal;
use crate::texts::{Head, versions_text};

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
    let past = Past::draft(mirror, view, &mut staged, options, watch, &mut report)?;
    let of = |why: Spoiled| {
        let paths = staged.spoiled.iter().filter(move |(_, it)| **it == why);
        paths.map(|(path, _)| path.clone())
    };
    report.conflicts = of(Spoiled::Edited).chain(staged.extras.iter().cloned()).collect();
    for path in of(Spoiled::Rotted) {
        if is_healed(&path, &past.delta, &staged, &view.latest)? {
            report.healed.push(path.clone());
        }
        report.rotted.push(path);
    }
    let is_new = view.versions.is_empty() || !past.delta.is_empty();
    let is_touched = is_new
        || news.subject.is_some()
        || news.ends_hold
        || !staged.spoiled.is_empty()
        || !staged.extras.is_empty()
        || past.is_other;
    if !is_touched {
        place::empty(&*mirror.place, layout::STAGE)?;
        return Ok(report);
    }
    let mut versions = view.versions.clone();
    let last = versions.last().map(|version| version.name.clone());
    let mut version = if is_new {
        named(mirror, &versions, options)?
    } else {
        versions.pop().ok_or_else(|| MirrorError::Missing(layout::VERSIONS.into()))?
    };
    let plan = Plan {
        old: &view.latest,
        staged: &staged,
        delta: &past.delta,
        from: last.as_deref(),
        conflicts: mirror.free_place(layout::conflicts(&version.name))?,
        damaged: mirror.free_place(layout::damaged(last.as_deref().unwrap_or(&version.name)))?,
        comes: plan_keys(&staged, &view.latest)?,
    };
    let mut puts = Vec::new();
    if news.ends_hold {
        let copies = [(layout::HELD.into(), "held"), (layout::second(layout::HELD), "second-held")];
        let gone = copies.map(|(from, to)| Operation::Put { from, to: layout::stage(to) });
        puts.extend(gone);
    }
    if let (true, Some(name), Some(last)) = (is_new, &last, versions.last_mut()) {
        (last.seal, last.bytes_kept) = (past.seal, past.bytes_kept);
        puts.extend(mirror.stage_second(&past.at, layout::delta(name))?);
    }
    let manifest = layout::stage("text-latest");
    version.seal = write_manifest(mirror, &manifest, &version, &view.latest, &staged)?;
    puts.extend(mirror.stage_second(&manifest, layout::MANIFEST.into())?);
    (version.files, version.bytes, version.kept) = (report.files, report.bytes, past.kept);
    versions.push(version.clone());
    let mut texts = vec![(layout::VERSIONS.into(), versions_text(&versions))];
    texts.extend(news.subject.map(|subject| (layout::MIRROR.into(), subject.to_text())));
    // No barrier before these: until the journal goes, a reader finds files under either name.
    puts.extend(mirror.stage_texts(texts)?);
    let mut puts = seconds_first(puts);
    puts.push(Operation::Barrier);
    check(watch)?;
    let mut journal = JournalWriter::new(&*mirror.place, plan.conflicts.clone())?;
    plan.write(&mut journal)?;
    puts.iter().try_for_each(|put| journal.add(put))?;
    let mut done = mirror.commit(&journal.finish()?)?;
    done.vanished.retain(|path| !report.conflicts.iter().any(|it| layout::latest(it) == *path));
    done.tell(watch);
    for (what, count) in done.unset {
        place::add_unset(&mut report.unset, what, count);
    }
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

/// What the newest version was, once it is the newest no more.
struct Past {
    /// Where its text is, in the stage.
    at: Path,
    delta: Sheet,
    seal: Seal,
    /// Bytes of the files that go into its folder.
    bytes_kept: u64,
    /// Paths of the next version of which it has an older state.
    kept: u64,
    /// Whether the manifest of the next version is another text, though it may show the same.
    is_other: bool,
}

impl Past {
    /// Finds what differs, and counts it.
    fn draft(
        mirror: &Mirror,
        view: &View,
        staged: &mut Staged,
        options: &RunOptions,
        watch: &dyn Watch,
        report: &mut RunReport,
    ) -> Result<Self, MirrorError> {
        let same = staged.same;
        (report.files, report.bytes, report.unchanged) = (same.files, same.bytes, same.files);
        let mut draft = Draft {
            mirror,
            from: view.versions.last().map(|version| &*version.name),
            old: &view.latest,
            options,
            watch,
            report,
            rotted: Vec::new(),
            lost: Vec::new(),
            linked: BTreeSet::new(),
            kept: same.kept,
            is_other: false,
        };
        let at = layout::stage("text-delta");
        let delta = draft.write(view, staged, at.clone())?;
        let (kept, is_other, lost) = (draft.kept, draft.is_other, draft.lost);
        staged.spoiled.extend(draft.rotted.into_iter().map(|path| (path, Spoiled::Rotted)));
        let (at, (delta, seal)) = match lost.is_empty() {
            true => (at, delta),
            false => {
                let found = from_elsewhere(&delta.0, &lost, staged, &view.latest)?;
                let at = layout::stage("text-past");
                (at.clone(), corrected(mirror, view, &delta.0, &found, at)?)
            }
        };
        let mut bytes_kept = 0;
        for record in delta.records() {
            let (path, state) = record?;
            bytes_kept += delta::own_bytes(&path, &state).unwrap_or_default();
        }
        Ok(Self { at, delta, seal, bytes_kept, kept, is_other })
    }
}

/// The delta from the newest version to the next, as it is written.
struct Draft<'a> {
    mirror: &'a Mirror,
    /// Name of the version that is the newest now.
    from: Option<&'a str>,
    old: &'a Sheet,
    options: &'a RunOptions,
    watch: &'a dyn Watch,
    report: &'a mut RunReport,
    /// Files that turned out to have rotted on their way out.
    rotted: Vec<Path>,
    /// Files that do not go into history, because they are not what was recorded.
    lost: Vec<Path>,
    /// Names that came to files of which another name went.
    linked: BTreeSet<Path>,
    kept: u64,
    is_other: bool,
}

impl Draft<'_> {
    fn write(
        &mut self,
        view: &View,
        staged: &Staged,
        at: Path,
    ) -> Result<(Sheet, Seal), MirrorError> {
        let mut out = past_text(self.mirror, view, at);
        let mut before = self.old.lines();
        for item in staged.items() {
            check(self.watch)?;
            let (path, how, is) = item?;
            let was = match before.reach(&path)? {
                Some(line) => self.old.state(&line)?.present().cloned(),
                None => None,
            };
            self.is_other |= is != was;
            self.kept += u64::from(is.as_ref().is_some_and(is_kept));
            let state = match &was {
                Some(was) => self.difference(staged, &path, was, is.as_ref())?,
                None => is.is_some().then_some(State::Absent),
            };
            self.count(&how, was.as_ref(), is.as_ref());
            if let (Some(state), false) = (&state, view.versions.is_empty()) {
                out.record(&[], &path, state)?;
            }
        }
        // A name may have come before it was known that another one went.
        let counted = self.linked.len() as u64;
        self.report.new -= counted;
        self.report.moved += counted;
        match out.is_empty() {
            true => Ok((out.finish()?, Seal([0; 32]))),
            false => out.seal(),
        }
    }

    fn difference(
        &mut self,
        staged: &Staged,
        path: &Path,
        was: &Present,
        is: Option<&Present>,
    ) -> Result<Option<State>, MirrorError> {
        let mut has_moved = false;
        let found = delta::difference(path, was, is, || {
            if let Some(to) = staged.moved(path)? {
                has_moved = true;
                return Ok(Some(to));
            }
            staged.links.with_bytes_of(was, |path| staged.state(self.old, path))
        })?;
        let is_file = is.is_some_and(Present::is_file);
        let Some(mut past) = found else { return Ok(None) };
        if was.is_file() && !is_file {
            match &past.at {
                At::Next(_) if has_moved => {}
                // Another name of it is new.
                At::Next(to) if !self.old.present(to)?.is_some_and(|old| old.is_file()) => {
                    if !matches!(staged.how(to)?, How::Moved(_)) {
                        self.linked.insert(to.clone());
                    }
                }
                _ => self.report.deleted += 1,
            }
        }
        if past.is_file()
            && matches!(past.at, At::Here(_))
            && !self.is_right(staged, path, &past)?
        {
            past.at = At::Lost;
            self.lost.push(path.clone());
        }
        Ok(Some(State::Present(Box::new(past))))
    }

    /// Whether a file that leaves `latest/` is what was recorded: what rotted, or was written over by
    /// somebody, does not go into history as if it were true.
    fn is_right(
        &mut self,
        staged: &Staged,
        path: &Path,
        past: &Present,
    ) -> Result<bool, MirrorError> {
        if staged.is_spoiled(path) {
            // A commit that nobody could roll forward may have kept it before.
            let kept = self.from.map(|from| layout::folder(from, path));
            let hash = kept.and_then(|kept| content::hash(&*self.mirror.place, &kept).ok());
            return Ok(hash.flatten() == past.hash().map(|id| *id.as_bytes()));
        }
        if !self.options.verifies_outgoing {
            return Ok(true);
        }
        let hash = match content::hash(&*self.mirror.place, &layout::latest(path)) {
            Ok(hash) => hash,
            // It may be right: it goes into history as it is, and verifying will tell.
            Err(error) => {
                let (path, message) = (layout::latest(path), told(&error));
                self.watch.trouble(Trouble { path, during: "read", message });
                return Ok(true);
            }
        };
        let is_right = hash == past.hash().map(|id| *id.as_bytes());
        if !is_right {
            self.rotted.push(path.clone());
        }
        Ok(is_right)
    }

    fn count(&mut self, how: &How, was: Option<&Present>, is: Option<&Present>) {
        let Some(is) = is.filter(|is| is.is_file()) else { return };
        let report = &mut *self.report;
        report.files += 1;
        report.bytes += is.size();
        match was.filter(|was| was.is_file()) {
            _ if matches!(how, How::Moved(_)) => report.moved += 1,
            None => report.new += 1,
            Some(was) if was.entry.node == is.entry.node => report.unchanged += 1,
            Some(_) => report.changed += 1,
        }
    }
}

const fn is_kept(present: &Present) -> bool {
    present.entry.marks.contains(Marks::KEPT)
}

/// The text of what was the newest version, before its records.
fn past_text<'a>(mirror: &'a Mirror, view: &View, at: Path) -> SheetWriter<'a> {
    let mut out = SheetWriter::new(&*mirror.place, at, "delta", 0);
    if let Some(last) = view.versions.last() {
        let before = view.versions.len().checked_sub(2).map(|index| view.versions[index].seal);
        let head = Head { before, replaces: Vec::new() };
        out.head("delta", &last.name, last.time, &head);
    }
    out
}

/// What was lost on its way into history is not, if the next version has the same bytes somewhere.
fn from_elsewhere(
    delta: &Sheet,
    lost: &[Path],
    staged: &Staged,
    old: &Sheet,
) -> Result<HashMap<Path, Path>, MirrorError> {
    let mut wanted = HashMap::new();
    for path in lost {
        if let Some(hash) = delta.present(path)?.and_then(|was| was.hash()) {
            wanted.insert(hash, None);
        }
    }
    each_new(staged, old, |path, present| {
        if present.at != At::Lost
            && let Some(holder) = present.hash().and_then(|hash| wanted.get_mut(&hash))
        {
            *holder = Some(path.clone());
        }
    })?;
    let mut found = HashMap::new();
    for path in lost {
        let hash = delta.present(path)?.and_then(|was| was.hash());
        let holder = hash.and_then(|hash| wanted.get(&hash).cloned().flatten());
        found.extend(holder.map(|holder| (path.clone(), holder)));
    }
    Ok(found)
}

/// The same delta, in which what was lost is where it was found.
fn corrected(
    mirror: &Mirror,
    view: &View,
    delta: &Sheet,
    found: &HashMap<Path, Path>,
    at: Path,
) -> Result<(Sheet, Seal), MirrorError> {
    let mut out = past_text(mirror, view, at);
    for line in delta.lines() {
        let line = line?;
        match (found.get(&line.path), delta.state(&line)?) {
            (Some(to), State::Present(was)) => {
                let was = was.at(At::Next(to.clone()));
                out.record(&[], &line.path, &State::Present(Box::new(was)))?;
            }
            _ => out.copy(&line)?,
        }
    }
    out.seal()
}

/// Visits all that the next version has.
fn each_new(
    staged: &Staged,
    old: &Sheet,
    mut visit: impl FnMut(&Path, &Present),
) -> Result<(), MirrorError> {
    let mut differs = staged.sheet.lines();
    for record in old.records() {
        let (path, state) = record?;
        if let (None, State::Present(present)) = (differs.reach(&path)?, state) {
            visit(&path, &present);
        }
    }
    for item in staged.items() {
        if let (path, _, Some(present)) = item? {
            visit(&path, &present);
        }
    }
    Ok(())
}

/// Whether the bytes that rotted at a path are there again.
fn is_healed(
    path: &Path,
    delta: &Sheet,
    staged: &Staged,
    old: &Sheet,
) -> Result<bool, MirrorError> {
    let at = match delta.present(path)?.map(|was| was.at) {
        Some(At::Next(to)) => to,
        Some(At::Here(_) | At::Lost) => return Ok(false),
        None => path.clone(),
    };
    Ok(staged.state(old, &at)?.is_some_and(|is| is.at != At::Lost))
}

/// The manifest of the next version: lines of the one before, but where something differs.
fn write_manifest(
    mirror: &Mirror,
    at: &Path,
    version: &Version,
    old: &Sheet,
    staged: &Staged,
) -> Result<Seal, MirrorError> {
    let mut out = SheetWriter::new(&*mirror.place, at.clone(), "latest", 0);
    out.head("latest", &version.name, version.time, &Head::default());
    let mut before = old.lines();
    for line in staged.sheet.lines() {
        let line = line?;
        while before.peek()?.is_some_and(|old| old.path < line.path) {
            if let Some(old) = before.next().transpose()? {
                out.copy(&old)?;
            }
        }
        before.reach(&line.path)?;
        if How::parse(&staged.sheet, &line)? != How::Gone {
            out.copy(&line.bare())?;
        }
    }
    for old in before {
        out.copy(&old?)?;
    }
    Ok(out.seal()?.1)
}

/// The paths that are shown, by what makes them one, where names may be one.
fn plan_keys(staged: &Staged, old: &Sheet) -> Result<HashMap<Vec<u8>, Path>, MirrorError> {
    let mut keys = HashMap::new();
    if staged.can.is_blind {
        each_new(staged, old, |path, present| {
            if staged.can.shows(present) {
                keys.insert(staged.can.key(path), path.clone());
            }
        })?;
    }
    Ok(keys)
}

struct Plan<'a> {
    old: &'a Sheet,
    staged: &'a Staged,
    delta: &'a Sheet,
    /// Name of the version that is the newest now.
    from: Option<&'a str>,
    /// Where goes what is not ours.
    conflicts: Path,
    /// Where goes what rotted.
    damaged: Path,
    /// What is to be shown, where names that differ may be one name.
    comes: HashMap<Vec<u8>, Path>,
}

/// What goes, as far as something else comes in its place, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Blocking,
    Other,
}

impl Plan<'_> {
    fn write(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        journal.add(&Operation::Directory(layout::LATEST.into()))?;
        self.keep(journal)?;
        journal.add(&Operation::Barrier)?;
        self.removals(Removal::Blocking, journal)?;
        self.arrive(journal)?;
        self.removals(Removal::Other, journal)?;
        self.looks(journal)
    }

    /// A second name for all that leaves its place in `latest/`.
    fn keep(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        let mut keep = |from: &[u8], to: Path, hash, looks| {
            journal.add(&Operation::Keep { from: layout::latest(from), to, hash, looks })
        };
        for record in self.delta.records() {
            let (path, state) = record?;
            if let (Some(_), Some(from)) = (delta::own_bytes(&path, &state), self.from) {
                let looks = state.present().and_then(Looks::of);
                keep(&path, layout::folder(from, &path), None, looks)?;
            }
        }
        for (path, why) in &self.staged.spoiled {
            let to = match why {
                Spoiled::Rotted => &self.damaged,
                Spoiled::Edited => &self.conflicts,
            };
            keep(path, record::join(to, path), None, None)?;
        }
        for path in &self.staged.extras {
            keep(path, record::join(&self.conflicts, path), None, None)?;
        }
        let mut number = 0;
        for item in self.staged.items() {
            let (to, How::Moved(from), present) = item? else { continue };
            if !self.only_in_case(&from, &to) {
                let hash = present.and_then(|present| present.hash());
                let looks = self.old.present(&from)?.as_ref().and_then(Looks::of);
                keep(&from, moving(number), hash.map(|id| *id.as_bytes()), looks)?;
            }
            number += 1;
        }
        Ok(())
    }

    /// Whether a file moves to what is the same name there.
    fn only_in_case(&self, from: &[u8], to: &[u8]) -> bool {
        self.staged.can.is_blind && self.staged.can.key(from) == self.staged.can.key(to)
    }

    /// What goes, deepest first: what stands in the way of something else before that comes, and the
    /// rest when everything new is in place.
    fn removals(&self, which: Removal, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        let mut extras = self.staged.extras.iter().rev().peekable();
        for line in self.staged.sheet.reversed() {
            let line = line?;
            while let Some(extra) = extras.next_if(|extra| **extra > line.path) {
                self.removal(which, extra, None, None, journal)?;
            }
            let is_extra = extras.next_if(|extra| **extra == line.path).is_some();
            let was = self.old.present(&line.path)?.filter(|was| self.staged.can.shows(was));
            if was.is_some() || is_extra {
                let (path, _, is) = self.staged.item(line)?;
                self.removal(which, &path, was.as_ref(), is, journal)?;
            }
        }
        extras.try_for_each(|extra| self.removal(which, extra, None, None, journal))
    }

    fn removal(
        &self,
        which: Removal,
        path: &Path,
        was: Option<&Present>,
        is: Option<Present>,
        journal: &mut JournalWriter<'_>,
    ) -> Result<(), MirrorError> {
        let was_directory = was.is_some_and(|was| was.entry.is_directory());
        let is = is.filter(|is| self.staged.can.shows(is));
        let is_directory = is.as_ref().map(|is| is.entry.is_directory());
        match is_directory {
            Some(is) if is == was_directory && !self.staged.is_spoiled(path) => return Ok(()),
            // A rename replaces it, whatever it is.
            Some(false) if !was_directory => return Ok(()),
            _ => {}
        }
        // Under a name that is the same there, something else comes, and takes its place.
        let other = self.comes.get(&self.staged.can.key(path)).filter(|other| *other != path);
        if let Some(other) = other
            && let Some(other) = self.staged.state(self.old, other)?
            && other.entry.is_directory() == was_directory
        {
            return Ok(());
        }
        let is_blocking = other.is_some() || self.is_in_the_way(path)?;
        if is_blocking != (which == Removal::Blocking) {
            return Ok(());
        }
        let shown = layout::latest(path);
        // Only what was there is removed: when this is done again, what comes may be there.
        journal.add(&match was_directory && is_directory != Some(true) {
            true => Operation::Leave(shown),
            false => Operation::Clear(shown),
        })
    }

    /// Whether a directory is to lie where something else is, or the other way round, at a path or
    /// above it.
    fn is_in_the_way(&self, path: &[u8]) -> Result<bool, MirrorError> {
        let mut at = Some(path);
        while let Some(path) = at {
            if let Some(is) = self.staged.state(self.old, path)? {
                let is_other = is.entry.is_directory() != self.was_directory(path)?;
                return Ok(self.staged.can.shows(&is) && (is_other || self.staged.is_spoiled(path)));
            }
            at = record::parent(path);
        }
        Ok(false)
    }

    fn was_directory(&self, path: &[u8]) -> Result<bool, MirrorError> {
        Ok(self.old.present(path)?.is_some_and(|was| was.entry.is_directory()))
    }

    /// What comes: directories before what lies in them.
    fn arrive(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        let mut number = 0;
        for item in self.staged.items() {
            let (path, how, is) = item?;
            let to = layout::latest(&path);
            match how {
                How::Put(from) => journal.add(&Operation::Put { from, to })?,
                How::Moved(before) => {
                    let from = match self.only_in_case(&before, &path) {
                        true => layout::latest(&before),
                        false => moving(number),
                    };
                    number += 1;
                    journal.add(&Operation::Put { from, to })?;
                }
                How::Known if is.is_some_and(|is| is.entry.is_directory()) => {
                    if self.staged.is_spoiled(&path) || !self.was_directory(&path)? {
                        journal.add(&Operation::Directory(to))?;
                    }
                }
                How::Known | How::Gone | How::Built(_) | How::Read => {}
            }
        }
        Ok(())
    }

    /// Metadata: of what only looks different, of what moved, and last of directories, because all
    /// that happens in them changes their times.
    fn looks(&self, journal: &mut JournalWriter<'_>) -> Result<(), MirrorError> {
        for item in self.staged.items() {
            let (path, how, Some(is)) = item? else { continue };
            let is_dressed = matches!(how, How::Put(_) | How::Built(_));
            if !is.entry.is_directory() && !is_dressed && self.looks_new(&path, &is)? {
                self.look(path, is, journal)?;
            }
        }
        // The deepest first; what is met has all that lies in it behind it.
        let mut touched: BTreeSet<Path> = self
            .staged
            .extras
            .iter()
            .filter_map(|path| record::parent(path))
            .map(Path::from)
            .collect();
        for line in self.staged.sheet.reversed() {
            let line = line?;
            while touched.last().is_some_and(|last| *last > line.path) {
                self.look_at(touched.pop_last(), journal)?;
            }
            let (path, how, is) = self.staged.item(line)?;
            let is_changed = match &is {
                Some(is) => self.looks_new(&path, is)?,
                None => true,
            };
            if is_changed && !matches!(how, How::Built(_)) {
                touched.extend(record::parent(&path).map(Path::from));
            }
            let is_dressed = matches!(how, How::Put(_) | How::Built(_));
            if is_changed && !is_dressed && is.is_some_and(|is| is.entry.is_directory()) {
                touched.insert(path);
            }
        }
        while let Some(path) = touched.pop_last() {
            self.look_at(Some(path), journal)?;
        }
        Ok(())
    }

    /// Whether what is shown at a path is to look different from now on.
    fn looks_new(&self, path: &[u8], is: &Present) -> Result<bool, MirrorError> {
        if !self.staged.can.shows(is) {
            return Ok(false);
        }
        let was = self.old.present(path)?;
        let is_same = was.is_some_and(|was| was.entry == is.entry);
        Ok(!is_same || self.staged.is_spoiled(path))
    }

    fn look_at(
        &self,
        path: Option<Path>,
        journal: &mut JournalWriter<'_>,
    ) -> Result<(), MirrorError> {
        let Some(path) = path else { return Ok(()) };
        match self.staged.state(self.old, &path)? {
            Some(is) if is.entry.is_directory() => self.look(path, is, journal),
            _ => Ok(()),
        }
    }

    fn look(
        &self,
        path: Path,
        is: Present,
        journal: &mut JournalWriter<'_>,
    ) -> Result<(), MirrorError> {
        let is = Present { hint: Default::default(), ..is };
        journal.add(&Operation::Look(path, Box::new(is)))
    }
}

/// Where a file that moves is on its way.
fn moving(number: u64) -> Path {
    layout::stage(&format!("moved-{number}"))
}

const NANOS: u32 = 1_000_000_000;
