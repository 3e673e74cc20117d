//! Comparing all that a mirror holds with what its texts say.

use std::collections::BTreeSet;

use lastgood_format::id::BlobId;
use lastgood_host::HostError;

use crate::content;
use crate::delta::{self, Delta};
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::{Mirror, View};
use crate::place;
use crate::record::{Path, Present};
use crate::text::Reader;
use crate::texts::Head;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Versions whose texts were read.
    pub versions: u64,
    /// Files that are what they should be.
    pub whole: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not, by their path below the mirror.
    pub damaged: Vec<Path>,
    /// Texts one of whose two copies is not as the other: nothing is lost.
    pub texts: Vec<Path>,
    /// Files that were known to be lost: version and path.
    pub lost: Vec<(String, Path)>,
    /// Links of the chain of seals that do not hold: names of versions.
    pub broken: Vec<String>,
}

/// Reads every file of every version once.
///
/// # Errors
/// Damaged files do not end it.
pub fn verify(mirror: &Mirror, watch: &dyn Watch) -> Result<VerifyReport, MirrorError> {
    let view = mirror.view()?;
    let mut report = VerifyReport { versions: view.versions.len() as u64, ..Default::default() };
    let files = stored(&view, &mut report);
    watch.total(files.len() as u64, files.iter().map(|(_, present)| present.size()).sum());
    for (place, present) in files {
        check(watch)?;
        if whole(mirror, &view, &place, present, watch).is_some() {
            report.whole += 1;
            report.bytes += present.size();
        } else {
            report.damaged.push(place.clone());
        }
        watch.file(&place);
    }
    report.texts = damaged_texts(mirror, &view)?.into_iter().map(|(path, _)| path).collect();
    report.broken = broken(mirror, &view)?;
    Ok(report)
}

/// Every file that any version needs, once, with what it should be.
fn stored<'a>(view: &'a View, report: &mut VerifyReport) -> Vec<(Path, &'a Present)> {
    let history = view.history();
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    let of =
        |delta: &'a Delta| delta.iter().filter_map(|(path, state)| Some((path, state.present()?)));
    let deltas = view.deltas.iter().map(of).enumerate();
    let records = deltas.flat_map(|(k, records)| records.map(move |record| (k, record)));
    let latest = view.latest.iter().map(|record| (view.deltas.len(), record));
    for (k, (path, present)) in records.chain(latest) {
        if !present.is_file() {
            continue;
        }
        let name = &view.versions[k].name;
        let place = match history.place(k, path) {
            _ if k == view.deltas.len() && present.at == crate::record::At::Lost => {
                report.lost.push((name.clone(), path.clone()));
                continue;
            }
            delta::Place::Folder(i, at) => layout::folder(&view.versions[i].name, &at),
            delta::Place::Latest(at) => layout::latest(&at),
            delta::Place::Lost => {
                report.lost.push((name.clone(), path.clone()));
                continue;
            }
        };
        if seen.insert(place.clone()) {
            files.push((place, present));
        }
    }
    files
}

/// Where the bytes are that should be at a place, if they are what was recorded: under another name
/// while a commit is under way.
pub(crate) fn whole(
    mirror: &Mirror,
    view: &View,
    place: &[u8],
    present: &Present,
    watch: &dyn Watch,
) -> Option<Path> {
    let is_whole = |at: &Path| -> Result<bool, HostError> {
        let Some(file) = mirror.place.open(at)? else { return Ok(false) };
        let copied = content::copy(&file, None, &mut |count| {
            watch.bytes(place, count);
            !watch.is_cancelled()
        })?;
        Ok(copied.map(|copied| BlobId::new(copied.hash)) == present.hash())
    };
    view.names(place).into_iter().find(|at| {
        is_whole(at).unwrap_or_else(|error| {
            let (path, message) = (place.into(), told(&error));
            watch.trouble(Trouble { path, during: "read", message });
            false
        })
    })
}

/// Texts one of whose copies is damaged or missing, with what they say. While a commit is under way
/// nothing is known of them.
pub(crate) fn damaged_texts(
    mirror: &Mirror,
    view: &View,
) -> Result<Vec<(Path, Vec<u8>)>, MirrorError> {
    if view.is_under_way() {
        return Ok(Vec::new());
    }
    let newest =
        view.versions.last().map(|newest| (layout::MANIFEST.into(), "latest", newest.seal));
    let older = view.versions.iter().take(view.deltas.len());
    let older = older.map(|version| (layout::delta(&version.name), "delta", version.seal));
    let sealed = older.chain(newest).map(|(path, kind, seal)| {
        let is_right =
            move |bytes: &[u8]| Reader::open(kind, bytes).is_ok_and(|reader| reader.seal() == seal);
        (path, Box::new(is_right) as Box<dyn Fn(&[u8]) -> bool>)
    });
    let others = [(layout::VERSIONS, "versions"), (layout::MIRROR, "mirror")];
    let others = others.into_iter().map(|(path, kind)| {
        let is_right = move |bytes: &[u8]| Reader::open(kind, bytes).is_ok();
        (Path::from(path), Box::new(is_right) as Box<dyn Fn(&[u8]) -> bool>)
    });
    let mut damaged = Vec::new();
    for (path, is_right) in sealed.chain(others) {
        let mut copies = Vec::new();
        for at in [path.clone(), layout::second(&path)] {
            copies.push(place::read(&*mirror.place, &at)?.filter(|bytes| is_right(bytes)));
        }
        // Where both are right, the first is what everybody reads.
        if copies.windows(2).any(|pair| pair[0] != pair[1])
            && let Some(bytes) = copies.into_iter().flatten().next()
        {
            damaged.push((path, bytes));
        }
    }
    Ok(damaged)
}

/// Versions whose delta does not name the one before it.
fn broken(mirror: &Mirror, view: &View) -> Result<Vec<String>, MirrorError> {
    let mut broken = Vec::new();
    let mut before: Option<(crate::text::Seal, Head)> = None;
    for version in view.versions.iter().take(view.deltas.len()) {
        let (_, head) = mirror.delta(view, version)?;
        if let Some((seal, older)) = &before {
            let is_known = |named| named == *seal || older.replaces.contains(&named);
            if !head.before.is_some_and(is_known) {
                broken.push(version.name.clone());
            }
        }
        before = Some((version.seal, head));
    }
    Ok(broken)
}
