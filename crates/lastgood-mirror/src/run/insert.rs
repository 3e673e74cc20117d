//! An older state comes between two versions, or before the oldest.

use std::collections::BTreeMap;

use lastgood_format::entry::Timestamp;
use lastgood_format::id::BlobId;
use lastgood_host::scan::Directory;

use super::intake::Taken;
use super::scrub::Slice;
use super::staged::How;
use super::{Rules, RunOptions, scan, stage};
use crate::content;
use crate::delta::insert::{to_new, to_newer};
use crate::delta::{self, Delta, Manifest};
use crate::error::{MirrorError, Watch, check};
use crate::journal::Operation;
use crate::layout;
use crate::mirror::{Mirror, Version, View};
use crate::record::{At, Path, Present, State};
use crate::sheet::Sheet;
use crate::text::Seal;
use crate::texts::{Head, records_text, versions_text};

/// Makes a version of a directory, at the moment `options.now`: every other version stays what it
/// is. `mirror` is locked and recovered.
///
/// # Errors
/// [`MirrorError::NoPlace`] when there is a version of that moment, or none after it. Nothing has
/// changed before the commit.
pub fn insert(
    mirror: &Mirror,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<Version, MirrorError> {
    let versions = mirror.view_from(usize::MAX)?.versions;
    let at = versions.partition_point(|version| version.time < options.now);
    match versions.get(at) {
        Some(next) if next.time > options.now => {}
        Some(_) => return Err(MirrorError::NoPlace("there is a version of that moment")),
        None => return Err(MirrorError::NoPlace("no version is newer; mirror run makes those")),
    }
    let root = Directory::open_root(&options.source)?;
    let nothing = Sheet::default();
    let found = scan::scan(mirror, &nothing, &Slice::default(), &root, options, rules, watch)?;
    found.need.check(options.room)?;
    let staged = stage::stage(mirror, &nothing, found, &Taken::default(), &root, options, watch)?;
    check(watch)?;
    let view = mirror.view_from(at.saturating_sub(1))?;
    let (mut new, mut staged_at) = (Manifest::new(), BTreeMap::new());
    for item in staged.items() {
        let (path, how, Some(present)) = item? else { continue };
        if let How::Put(at) | How::Built(at) = how {
            staged_at.insert(path.clone(), at);
        }
        new.insert(path, present);
    }
    Insertion { mirror, view: &view, at, new, staged_at }.commit(options.now)
}

struct Insertion<'a> {
    mirror: &'a Mirror,
    view: &'a View,
    /// Index that the version gets.
    at: usize,
    /// All that it has.
    new: Manifest,
    /// Where that is in the stage.
    staged_at: BTreeMap<Path, Path>,
}

impl Insertion<'_> {
    fn commit(&self, time: Timestamp) -> Result<Version, MirrorError> {
        let after = self.manifest(self.at)?;
        let newer = to_newer(&self.new, &after);
        let name = self.mirror.free_name(&self.view.versions, time)?;
        let files = self.new.values().filter(|present| present.is_file());
        let mut version = Version {
            name: name.clone(),
            time,
            seal: Seal([0; 32]),
            files: files.clone().count() as u64,
            bytes: files.map(Present::size).sum(),
            kept: 0,
            bytes_kept: delta::stored(&newer).map(|(_, bytes)| bytes).sum(),
        };
        let mut operations: Vec<Operation> = delta::stored(&newer)
            .filter_map(|(path, _)| {
                let from = self.staged_at.get(path)?.clone();
                Some(Operation::Put { from, to: layout::folder(&name, path) })
            })
            .collect();
        let mut versions = self.view.versions.clone();
        let mut texts = Vec::new();
        let mut freed = Vec::new();
        let head = if let Some(k) = self.at.checked_sub(1) {
            let older = self.older(k, &after, &mut operations)?;
            freed = self.freed(k, &older)?;
            let known = &self.view.versions[k];
            let (_, mut head) = self.mirror.delta(self.view, known)?;
            head.replaces.push(known.seal);
            let seal = delta_text(&mut texts, known, &head, &older);
            versions[k].seal = seal;
            versions[k].bytes_kept = delta::stored(&older).map(|(_, bytes)| bytes).sum();
            Head { before: Some(seal), replaces: head.replaces }
        } else {
            Head::default()
        };
        version.seal = delta_text(&mut texts, &version, &head, &newer);
        // The chain begins here: what was the oldest has one before it now.
        if let (0, Some(delta), Some(oldest)) =
            (self.at, self.view.deltas.first(), versions.first_mut())
        {
            let (_, mut head) = self.mirror.delta(self.view, oldest)?;
            head.replaces.push(oldest.seal);
            head.before = Some(version.seal);
            oldest.seal = delta_text(&mut texts, oldest, &head, &delta.load()?);
        }
        versions.insert(self.at, version.clone());
        texts.push((layout::VERSIONS.into(), versions_text(&versions)));
        operations.push(Operation::Barrier);
        operations.extend(self.mirror.stage_texts(texts)?);
        operations.push(Operation::Barrier);
        operations.extend(freed.into_iter().zip(1_u64..).map(|(from, number)| Operation::Put {
            from,
            to: layout::stage(&format!("gone-{number}")),
        }));
        operations.push(Operation::Barrier);
        let aside = self.mirror.free_place(layout::conflicts(&name))?;
        self.mirror.commit_all(aside, &operations)?;
        Ok(version)
    }

    /// All that a version has, as far as it is not lost.
    fn manifest(&self, k: usize) -> Result<Manifest, MirrorError> {
        let (history, k) = (self.view.history(), k - self.view.first);
        let mut manifest = Manifest::new();
        for found in history.version(k)? {
            let (_, path, present) = found?;
            let is_lost = present.is_file() && history.place(k, &path)? == delta::Place::Lost;
            let at = if is_lost { At::Lost } else { At::Here(path.clone()) };
            manifest.insert(path, present.at(at));
        }
        Ok(manifest)
    }

    /// The delta of the older neighbour, and the bytes that it needs of its own now.
    fn older(
        &self,
        k: usize,
        after: &Manifest,
        operations: &mut Vec<Operation>,
    ) -> Result<Delta, MirrorError> {
        let place = &*self.mirror.place;
        let name = &self.view.versions[k].name;
        let known = self.view.deltas[k - self.view.first].load()?;
        let inserted = to_new(&known, &self.manifest(k)?, &self.new, after);
        let mut older = inserted.older;
        for (number, (from, to)) in inserted.copies.into_iter().enumerate() {
            let Some(State::Present(record)) = older.get_mut(&to) else { continue };
            let stage = layout::stage(&format!("copy-{number}"));
            let copied = match self.view.open(self.mirror, self.at, &from, record)? {
                Some(file) => {
                    let target = place.create(&stage)?;
                    content::copy(&file, Some(&target), &mut |_| true)?
                }
                None => None,
            };
            if copied.map(|copied| BlobId::new(copied.hash)) == record.hash() {
                place.look(&stage, &record.entry)?;
                operations.push(Operation::Put { from: stage, to: layout::folder(name, &to) });
            } else {
                record.at = At::Lost;
            }
        }
        Ok(older)
    }

    /// Files that the older neighbour needs no more: the version has their bytes.
    fn freed(&self, k: usize, older: &Delta) -> Result<Vec<Path>, MirrorError> {
        let mut freed = Vec::new();
        for record in self.view.deltas[k - self.view.first].records() {
            let (path, state) = record?;
            let is_needed =
                older.get(&path).is_some_and(|state| delta::own_bytes(&path, state).is_some());
            if delta::own_bytes(&path, &state).is_some() && !is_needed {
                freed.push(layout::folder(&self.view.versions[k].name, &path));
            }
        }
        Ok(freed)
    }
}

fn delta_text(
    texts: &mut Vec<(Path, Vec<u8>)>,
    version: &Version,
    head: &Head,
    delta: &Delta,
) -> Seal {
    let records = delta.iter().map(|(path, state)| (path, state.clone()));
    let (text, seal) = records_text("delta", &version.name, version.time, head, records);
    texts.push((layout::delta(&version.name), text));
    seal
}
