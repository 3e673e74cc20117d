//! Comparing all that a mirror holds with what its texts say.

use lastgood_format::id::BlobId;
use lastgood_host::HostError;

use crate::content;
use crate::delta;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::{Mirror, View};
use crate::place;
use crate::record::{At, Path, Present, State};
use crate::sheet::Sheet;
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
    /// Files that could not be read: they may be what they should be.
    pub unread: Vec<Path>,
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
    let mut total = (0, 0);
    each_stored(&view, &mut |file| {
        total = (total.0 + 1, total.1 + file.present.size());
        Ok(())
    })?;
    watch.total(total.0, total.1);
    each_stored(&view, &mut |file| {
        check(watch)?;
        if file.is_lost() {
            return Ok(());
        }
        match look(mirror, &view, &file.place, &file.present, watch)? {
            Look::Whole => {
                report.whole += 1;
                report.bytes += file.present.size();
            }
            Look::Damaged => report.damaged.push(file.place.clone()),
            Look::Unread => report.unread.push(file.place.clone()),
        }
        watch.file(&file.place);
        Ok(())
    })?;
    report.lost = lost(&view)?;
    report.texts = damaged_texts(mirror, &view)?.into_iter().map(|text| text.path).collect();
    report.broken = broken(mirror, &view)?;
    Ok(report)
}

/// A file that a version has of its own, or should have.
pub(crate) struct Stored {
    /// Index of the version.
    pub(crate) k: usize,
    /// The file that a record is of, below the source.
    pub(crate) path: Path,
    /// Where its bytes are to be, below the mirror.
    pub(crate) place: Path,
    pub(crate) present: Present,
}

impl Stored {
    /// Whether that is known to be nowhere.
    pub(crate) fn is_lost(&self) -> bool {
        self.present.at == At::Lost
    }
}

/// Visits every file that a version has of its own, once, and all that are recorded as lost.
pub(crate) fn each_stored(
    view: &View,
    visit: &mut dyn FnMut(Stored) -> Result<(), MirrorError>,
) -> Result<(), MirrorError> {
    for (k, sheet) in view.deltas.iter().chain([&view.latest]).enumerate() {
        for record in sheet.records() {
            let (path, state) = record?;
            let State::Present(present) = state else { continue };
            let at = match &present.at {
                _ if !present.is_file() => continue,
                At::Next(_) => continue,
                At::Lost => &path,
                At::Here(at) => at,
            };
            // Another record may have its bytes in the same place.
            if *at != path
                && let Some(holder) = sheet.present(at)?
                && holder.at == At::Here(at.clone())
                && holder.hash() == present.hash()
            {
                continue;
            }
            let place = match view.versions.get(k).filter(|_| k < view.deltas.len()) {
                Some(version) => layout::folder(&version.name, at),
                None => layout::latest(at),
            };
            visit(Stored { k, path: path.clone(), place, present: *present })?;
        }
    }
    Ok(())
}

/// Files of all versions whose bytes are nowhere, and that is known.
fn lost(view: &View) -> Result<Vec<(String, Path)>, MirrorError> {
    let history = view.history();
    let mut lost = Vec::new();
    for (k, sheet) in view.deltas.iter().chain([&view.latest]).enumerate() {
        for record in sheet.records() {
            let (path, state) = record?;
            let Some(present) = state.present().filter(|present| present.is_file()) else {
                continue;
            };
            let is_lost = match &present.at {
                At::Here(_) => false,
                At::Lost => true,
                At::Next(_) => history.place(k, &path)? == delta::Place::Lost,
            };
            if is_lost {
                lost.push((view.versions[k].name.clone(), path));
            }
        }
    }
    Ok(lost)
}

/// What a file is that should be at a place.
pub(crate) enum Look {
    /// What was recorded; under another name while a commit is under way.
    Whole,
    /// Something else, or nothing.
    Damaged,
    /// That is not known: it could not be read, which was told.
    Unread,
}

/// Reads a file, and compares it with what was recorded of it.
pub(crate) fn look(
    mirror: &Mirror,
    view: &View,
    place: &[u8],
    present: &Present,
    watch: &dyn Watch,
) -> Result<Look, MirrorError> {
    let is_whole = |at: &Path| -> Result<bool, HostError> {
        let Some(file) = mirror.place.open(at)? else { return Ok(false) };
        let copied = content::copy(&file, None, &mut |count| {
            watch.bytes(place, count);
            !watch.is_cancelled()
        })?;
        Ok(copied.map(|copied| BlobId::new(copied.hash)) == present.hash())
    };
    let mut found = Look::Damaged;
    for at in view.names(place)? {
        match is_whole(&at) {
            Ok(true) => return Ok(Look::Whole),
            // Who stops reading has read nothing wrong.
            Ok(false) => check(watch)?,
            Err(error) => {
                let (path, message) = (place.into(), told(&error));
                watch.trouble(Trouble { path, during: "read", message });
                found = Look::Unread;
            }
        }
    }
    Ok(found)
}

/// Texts one of whose copies is damaged or missing. While a commit is under way
/// nothing is known of them.
pub(crate) fn damaged_texts(mirror: &Mirror, view: &View) -> Result<Vec<Copies>, MirrorError> {
    if view.is_under_way() {
        return Ok(Vec::new());
    }
    let newest =
        view.versions.last().map(|newest| (layout::MANIFEST.into(), "latest", newest.seal));
    let older = view.versions.iter().take(view.deltas.len());
    let older = older.map(|version| (layout::delta(&version.name), "delta", version.seal));
    let mut damaged = Vec::new();
    for (path, kind, seal) in older.chain(newest) {
        let mut whole = Vec::new();
        for at in [path.clone(), layout::second(&path)] {
            // The seal is of all that it says.
            match Sheet::open(&*mirror.place, &at, kind) {
                Ok(Some((_, _, found))) if found == seal => whole.push(at),
                Ok(_) | Err(MirrorError::Text { .. } | MirrorError::Host(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if let [from] = whole.as_slice() {
            damaged.push(Copies { path, from: from.clone() });
        }
    }
    let small =
        [(layout::VERSIONS, "versions"), (layout::MIRROR, "mirror"), (layout::HELD, "held")];
    for (path, kind) in small {
        let names = [Path::from(path), layout::second(path)];
        let mut copies = Vec::new();
        for at in &names {
            let is_right = |bytes: &Vec<u8>| Reader::open(kind, bytes).is_ok();
            copies.push(place::read(&*mirror.place, at).ok().flatten().filter(is_right));
        }
        // Where both are right, the first is what everybody reads.
        if copies[0] != copies[1]
            && let Some(number) = copies.iter().position(Option::is_some)
        {
            damaged.push(Copies { path: path.into(), from: names[number].clone() });
        }
    }
    Ok(damaged)
}

/// A text of which one copy has to be written again.
pub(crate) struct Copies {
    pub(crate) path: Path,
    /// The copy that is whole.
    pub(crate) from: Path,
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
