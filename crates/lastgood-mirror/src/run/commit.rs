//! The commit of a run: what makes the staged version the newest, in one journal.

use super::past::{Past, is_healed};
use super::plan::{Plan, aliases};
use super::shown::Spoiled;
use super::staged::{How, Staged};
use super::{RunOptions, RunReport};
use crate::error::{MirrorError, Watch, check};
use crate::journal::{JournalWriter, Operation};
use crate::layout;
use crate::mirror::{Mirror, Subject, Version, View, seconds_first};
use crate::place;
use crate::record::Path;
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
        place: &*mirror.place,
        aliases: aliases(mirror, &view.latest, &staged)?,
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

const NANOS: u32 = 1_000_000_000;
