//! What the newest version was, once it is the newest no more: the delta from it to the next one.

use std::collections::{BTreeSet, HashMap};

use lastgood_format::entry::Marks;

use super::shown::Spoiled;
use super::staged::{How, Staged};
use super::{RunOptions, RunReport};
use crate::content;
use crate::delta;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::{Mirror, View};
use crate::record::{At, Path, Present, State};
use crate::sheet::{Sheet, SheetWriter};
use crate::text::Seal;
use crate::texts::Head;

/// What the newest version was, once it is the newest no more.
pub(super) struct Past {
    /// Where its text is, in the stage.
    pub(super) at: Path,
    pub(super) delta: Sheet,
    pub(super) seal: Seal,
    /// Bytes of the files that go into its folder.
    pub(super) bytes_kept: u64,
    /// Paths of the next version of which it has an older state.
    pub(super) kept: u64,
    /// Whether the manifest of the next version is another text, though it may show the same.
    pub(super) is_other: bool,
}

impl Past {
    /// Finds what differs, and counts it.
    pub(super) fn draft(
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
pub(super) fn is_healed(
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
