//! Making whole again what a mirror should hold and does not: bytes that rotted, that went with a
//! folder, or that were lost before they could be kept, from whoever has them.
//!
//! Everything is read, as verifying does; what is put in place has the hash that was recorded. What
//! nobody has is recorded as lost, so that no version says otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lastgood_format::id::BlobId;

use crate::content;
use crate::delta;
use crate::error::{MirrorError, Watch, check};
use crate::journal::Operation;
use crate::layout;
use crate::mirror::{Mirror, View, seconds_first};
use crate::place;
use crate::record::{self, At, Path, State};
use crate::sheet::SheetWriter;
use crate::texts::{Head, versions_text};
use crate::verify::{self, Copies, Look, Stored};

mod donor;

use donor::Inside;
pub use donor::{Donor, Source, Taker, Wanted};

/// Bytes that are there again, or can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// The version that has them.
    pub version: String,
    /// The file, below the source.
    pub path: Path,
    /// How many.
    pub bytes: u64,
    /// Who had them.
    pub from: String,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Files that are what they should be.
    pub whole: u64,
    /// Files that are so again.
    pub healed: Vec<Healed>,
    /// Texts one of whose two copies is damaged or missing, and is written again.
    pub texts: Vec<Path>,
    /// Files whose bytes nobody has, by version and path: recorded as lost from now on.
    pub lost: Vec<(String, Path)>,
    /// Files that were recorded as lost before, and whose bytes nobody has.
    pub still_lost: Vec<(String, Path)>,
    /// Files that could not be read, by their path below the mirror. They stay as they are: that a
    /// disk does not answer is no proof that it forgot.
    pub unread: Vec<Path>,
}

impl RepairReport {
    /// Whether anything of the mirror changes.
    #[must_use]
    pub const fn has_work(&self) -> bool {
        !self.healed.is_empty() || !self.lost.is_empty() || !self.texts.is_empty()
    }
}

/// Repairs; a dry run only says what would be done. Else `mirror` is locked and recovered.
///
/// # Errors
/// Nothing has changed before the commit.
pub fn repair(
    mirror: &Mirror,
    donors: &mut [Box<dyn Donor + '_>],
    is_dry: bool,
    watch: &dyn Watch,
) -> Result<RepairReport, MirrorError> {
    let view = mirror.view()?;
    let texts = verify::damaged_texts(mirror, &view)?;
    let mut report = RepairReport {
        texts: texts.iter().map(|text| text.path.clone()).collect(),
        ..RepairReport::default()
    };
    let broken = broken(mirror, &view, &mut report, watch)?;
    let mut inside = Inside { mirror, whole: holders(&view, &broken, &report.unread)? };
    let mut mends = Vec::new();
    for (file, number) in broken.into_iter().zip(1_u64..) {
        check(watch)?;
        let stage = (!is_dry).then(|| layout::stage(&number.to_string()));
        let version = view.versions[file.k].name.clone();
        let path = file.path.clone();
        match file.ask(mirror, &view, &mut inside, donors, stage.as_ref())? {
            Some(from) => {
                let bytes = file.present.size();
                report.healed.push(Healed { version, path, bytes, from });
                mends.push(Mend { file, stage });
            }
            None if file.is_lost() => report.still_lost.push((version, path)),
            None => {
                report.lost.push((version, path));
                mends.push(Mend { file, stage: None });
            }
        }
    }
    if !is_dry && report.has_work() {
        commit(mirror, &view, &mends, texts)?;
    }
    Ok(report)
}

/// Files that are not what they should be.
fn broken(
    mirror: &Mirror,
    view: &View,
    report: &mut RepairReport,
    watch: &dyn Watch,
) -> Result<Vec<Stored>, MirrorError> {
    let mut total = (0, 0);
    verify::each_stored(view, &mut |file| {
        total = (total.0 + 1, total.1 + file.present.size());
        Ok(())
    })?;
    watch.total(total.0, total.1);
    let mut broken = Vec::new();
    verify::each_stored(view, &mut |file| {
        check(watch)?;
        watch.file(&file.path);
        if file.is_lost() {
            broken.push(file);
            return Ok(());
        }
        match verify::look(mirror, view, &file.place, &file.present, watch)? {
            Look::Whole => report.whole += 1,
            Look::Damaged => broken.push(file),
            Look::Unread => report.unread.push(file.place),
        }
        Ok(())
    })?;
    Ok(broken)
}

/// Where files lie that are whole and have bytes that others should have.
fn holders(
    view: &View,
    broken: &[Stored],
    unread: &[Path],
) -> Result<HashMap<BlobId, Path>, MirrorError> {
    let mut whole = HashMap::new();
    if broken.is_empty() {
        return Ok(whole);
    }
    let wanted: BTreeSet<BlobId> = broken.iter().filter_map(|file| file.present.hash()).collect();
    let others: BTreeSet<&Path> = broken.iter().map(|file| &file.place).chain(unread).collect();
    verify::each_stored(view, &mut |file| {
        let hash = file.present.hash().filter(|hash| wanted.contains(hash));
        if let Some(hash) = hash
            && !others.contains(&file.place)
        {
            whole.insert(hash, file.place);
        }
        Ok(())
    })?;
    Ok(whole)
}

/// What becomes of a file that is not what it should be.
struct Mend {
    file: Stored,
    /// Where its bytes are in the stage; `None` when nobody has them.
    stage: Option<Path>,
}

impl Stored {
    /// Asks everybody for the bytes; who had them.
    fn ask(
        &self,
        mirror: &Mirror,
        view: &View,
        inside: &mut Inside<'_>,
        donors: &mut [Box<dyn Donor + '_>],
        stage: Option<&Path>,
    ) -> Result<Option<String>, MirrorError> {
        let Some(hash) = self.present.hash() else { return Ok(None) };
        let (time, size) = (view.versions[self.k].time, self.present.size());
        let wanted = Wanted { path: &self.path, time, size, hash };
        let to = stage.map(|stage| mirror.place.create(stage)).transpose()?;
        let mut taker = Taker::new(to.as_ref(), hash);
        let others = donors.iter_mut().map(|donor| &mut **donor as &mut dyn Donor);
        for donor in std::iter::once(inside as &mut dyn Donor).chain(others) {
            if donor.offer(&wanted, &mut taker)? {
                if let Some(stage) = stage {
                    mirror.place.look(stage, &self.present.entry)?;
                }
                return Ok(Some(donor.name()));
            }
        }
        stage.map_or(Ok(()), |stage| mirror.place.remove(stage))?;
        Ok(None)
    }
}

/// Puts in place what was found, and records what was not.
fn commit(
    mirror: &Mirror,
    view: &View,
    mends: &[Mend],
    damaged: Vec<Copies>,
) -> Result<(), MirrorError> {
    let newest = view.deltas.len();
    let mut operations = Vec::new();
    let mut aside: BTreeMap<usize, Path> = BTreeMap::new();
    for Mend { file, .. } in mends {
        // What is missing is not there to be kept: a second time, it would be what healed it.
        if mirror.place.stat(&file.place)?.is_none() {
            continue;
        }
        let folder = match aside.get(&file.k) {
            Some(folder) => folder.clone(),
            None => mirror.free_place(layout::damaged(&view.versions[file.k].name))?,
        };
        let to = record::join(&folder, &file.path);
        aside.insert(file.k, folder);
        let from = file.place.clone();
        operations.push(Operation::Keep { from, to, hash: None, looks: None });
    }
    operations.push(Operation::Barrier);
    operations.extend(mends.iter().map(|Mend { file, stage }| match stage {
        Some(stage) => Operation::Put { from: stage.clone(), to: file.place.clone() },
        None => Operation::Clear(file.place.clone()),
    }));
    let shown = mends.iter().filter(|mend| mend.file.k == newest);
    let parents: BTreeSet<&[u8]> =
        shown.filter_map(|mend| record::parent(&mend.file.path)).collect();
    for parent in parents.into_iter().rev() {
        if let Some(present) = view.latest.present(parent)? {
            operations.push(Operation::Look(parent.into(), Box::new(present)));
        }
    }
    let (mut news, mut puts) = (BTreeSet::new(), Vec::new());
    for (text, path) in texts(mirror, view, mends)? {
        puts.extend(mirror.stage_second(&text, path.clone())?);
        news.insert(path);
    }
    // One of whose copies is damaged is written again, unless it is anyway.
    for (Copies { path, from }, number) in damaged.into_iter().zip(1_u64..) {
        if news.contains(&path) {
            continue;
        }
        let file = mirror.place.open(&from)?.ok_or_else(|| MirrorError::Missing(from.clone()))?;
        let text = layout::stage(&format!("copy-{number}"));
        content::copy(&file, Some(&mirror.place.create(&text)?), &mut |_| true)?;
        puts.extend(mirror.stage_second(&text, path)?);
    }
    operations.extend(seconds_first(puts));
    operations.push(Operation::Barrier);
    let name = view.versions.last().map(|version| &*version.name).unwrap_or_default();
    let aside = mirror.free_place(layout::conflicts(name))?;
    mirror.commit_all(aside, &operations).map(drop)
}

/// The texts that say something else now: where each is in the stage, and whose place it takes.
fn texts(mirror: &Mirror, view: &View, mends: &[Mend]) -> Result<Vec<(Path, Path)>, MirrorError> {
    let mut versions = view.versions.clone();
    let mut texts = Vec::new();
    for (k, old) in view.versions.iter().enumerate() {
        let moves = |mend: &&Mend| mend.file.k == k && mend.is_news();
        let news: BTreeMap<&Path, &Mend> =
            mends.iter().filter(moves).map(|mend| (&mend.file.path, mend)).collect();
        if news.is_empty() {
            continue;
        }
        // Other records of the version may have said that their bytes are in the same place.
        let gone: BTreeSet<&Path> = news
            .values()
            .filter(|mend| mend.stage.is_none())
            .filter_map(|mend| match &mend.file.present.at {
                At::Here(at) => Some(at),
                _ => None,
            })
            .collect();
        let (kind, sheet, path, head) = match view.deltas.get(k) {
            Some(delta) => {
                let (_, mut head): (_, Head) = mirror.delta(view, old)?;
                head.replaces.push(old.seal);
                ("delta", delta, layout::delta(&old.name), head)
            }
            None => ("latest", &view.latest, layout::MANIFEST.into(), Head::default()),
        };
        let text = layout::stage(&format!("text-{k}"));
        let mut out = SheetWriter::new(&*mirror.place, text.clone(), kind, 0);
        out.head(kind, &old.name, old.time, &head);
        let mut bytes_kept = 0;
        for line in sheet.lines() {
            let line = line?;
            let mut state = sheet.state(&line)?;
            if let State::Present(present) = &mut state {
                match (news.get(&line.path), &present.at) {
                    (Some(Mend { stage: Some(_), .. }), _) => {
                        present.at = At::Here(line.path.clone());
                    }
                    (_, At::Here(at)) if gone.contains(at) => present.at = At::Lost,
                    _ => {}
                }
            }
            bytes_kept += delta::own_bytes(&line.path, &state).unwrap_or_default();
            out.record(&[], &line.path, &state)?;
        }
        versions[k].seal = out.seal()?.1;
        if k < view.deltas.len() {
            versions[k].bytes_kept = bytes_kept;
        }
        texts.push((text, path));
    }
    if !texts.is_empty() {
        let text = layout::stage("text-versions");
        place::write(&*mirror.place, &text, &versions_text(&versions))?;
        texts.push((text, layout::VERSIONS.into()));
    }
    Ok(texts)
}

impl Mend {
    /// Whether its record says something else now.
    fn is_news(&self) -> bool {
        self.file.is_lost() || self.stage.is_none()
    }
}
