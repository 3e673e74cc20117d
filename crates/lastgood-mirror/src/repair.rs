//! Making whole again what a mirror should hold and does not: bytes that rotted, that went with a
//! folder, or that were lost before they could be kept, from whoever has them.
//!
//! Everything is read, as verifying does; what is put in place has the hash that was recorded. What
//! nobody has is recorded as lost, so that no version says otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::delta;
use crate::error::{MirrorError, Watch, check};
use crate::journal::{Journal, Operation};
use crate::layout;
use crate::mirror::{Mirror, View};
use crate::record::{self, At, Path, Present, State};
use crate::texts::{Head, manifest_text, records_text, versions_text};
use crate::verify;

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
    let files = files(&view);
    watch.total(files.len() as u64, files.iter().map(|file| file.present.size()).sum());
    let texts = verify::damaged_texts(mirror, &view)?;
    let mut report = RepairReport {
        texts: texts.iter().map(|(path, _)| path.clone()).collect(),
        ..RepairReport::default()
    };
    let mut inside = Inside { mirror, whole: HashMap::new() };
    let mut broken = Vec::new();
    for file in files {
        check(watch)?;
        let found = match file.is_lost() {
            true => None,
            false => verify::whole(mirror, &view, &file.place, file.present, watch),
        };
        watch.file(&file.path);
        match found.zip(file.present.hash()) {
            Some((place, hash)) => {
                report.whole += 1;
                inside.whole.insert(hash, place);
            }
            None => broken.push(file),
        }
    }
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

/// Bytes that a version should hold.
struct File<'a> {
    /// Index of the version.
    k: usize,
    /// The file that a record is of, below the source.
    path: Path,
    /// Where they are to be, below the mirror.
    place: Path,
    present: &'a Present,
}

/// What becomes of a file that is not what it should be.
struct Mend<'a> {
    file: File<'a>,
    /// Where its bytes are in the stage; `None` when nobody has them.
    stage: Option<Path>,
}

/// Every file that a version has of its own, and all that are recorded as lost.
fn files(view: &View) -> Vec<File<'_>> {
    let older = view.deltas.iter().enumerate().flat_map(|(k, delta)| {
        let present = delta.iter().filter_map(|(path, state)| Some((path, state.present()?)));
        present.map(move |(path, present)| (k, path, present))
    });
    let newest = view.deltas.len();
    let latest = view.latest.iter().map(|(path, present)| (newest, path, present));
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for (k, path, present) in older.chain(latest).filter(|(_, _, present)| present.is_file()) {
        let at = match &present.at {
            At::Next(_) => continue,
            At::Here(at) => at,
            At::Lost => path,
        };
        let place = match k == newest {
            true => layout::latest(at),
            false => layout::folder(&view.versions[k].name, at),
        };
        if seen.insert(place.clone()) {
            files.push(File { k, path: path.clone(), place, present });
        }
    }
    files
}

impl File<'_> {
    fn is_lost(&self) -> bool {
        self.present.at == At::Lost
    }

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
    mends: &[Mend<'_>],
    damaged: Vec<(Path, Vec<u8>)>,
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
        operations.push(Operation::Keep { from: file.place.clone(), to, hash: None });
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
        if let Some((path, present)) = view.latest.get_key_value(parent) {
            operations.push(Operation::Look(path.clone(), Box::new(present.clone())));
        }
    }
    let mut texts = texts(mirror, view, mends)?;
    // One of whose copies is damaged is written again, unless it is anyway.
    let news: BTreeSet<Path> = texts.iter().map(|(path, _)| path.clone()).collect();
    let others = damaged.into_iter().filter(|(path, _)| !news.contains(path));
    texts.extend(others);
    operations.extend(mirror.stage_texts(texts)?);
    operations.push(Operation::Barrier);
    let name = view.versions.last().map(|version| &*version.name).unwrap_or_default();
    let aside = mirror.free_place(layout::conflicts(name))?;
    mirror.commit(&Journal { aside, operations }).map(drop)
}

/// The texts that say something else now.
fn texts(
    mirror: &Mirror,
    view: &View,
    mends: &[Mend<'_>],
) -> Result<Vec<(Path, Vec<u8>)>, MirrorError> {
    let mut versions = view.versions.clone();
    let mut texts = Vec::new();
    for (k, old) in view.versions.iter().enumerate() {
        let moves = |mend: &&Mend<'_>| mend.file.k == k && mend.is_news();
        let news: BTreeMap<&Path, &Mend<'_>> =
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
        let change = |path: &Path, present: &mut Present| match (news.get(path), &present.at) {
            (Some(Mend { stage: Some(_), .. }), _) => present.at = At::Here(path.clone()),
            (_, At::Here(at)) if gone.contains(at) => present.at = At::Lost,
            _ => {}
        };
        if let Some(delta) = view.deltas.get(k) {
            let mut delta = delta.clone();
            for (path, state) in &mut delta {
                if let State::Present(present) = state {
                    change(path, present);
                }
            }
            let (_, mut head): (_, Head) = mirror.delta(view, old)?;
            head.replaces.push(old.seal);
            let records = delta.iter().map(|(path, state)| (path, state.clone()));
            let (text, seal) = records_text("delta", &old.name, old.time, &head, records);
            versions[k].seal = seal;
            versions[k].bytes_kept = delta::stored(&delta).map(|(_, bytes)| bytes).sum();
            texts.push((layout::delta(&old.name), text));
        } else {
            let mut latest = view.latest.clone();
            latest.iter_mut().for_each(|(path, present)| change(path, present));
            let (text, seal) = manifest_text(old, &latest);
            versions[k].seal = seal;
            texts.push((layout::MANIFEST.into(), text));
        }
    }
    if !texts.is_empty() {
        texts.push((layout::VERSIONS.into(), versions_text(&versions)));
    }
    Ok(texts)
}

impl Mend<'_> {
    /// Whether its record says something else now.
    fn is_news(&self) -> bool {
        self.file.is_lost() || self.stage.is_none()
    }
}
