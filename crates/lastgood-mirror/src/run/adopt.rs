//! A plain copy that another tool made becomes a mirror, without being copied.

use std::path::Path as FilePath;

use lastgood_host::scan::Directory;

use super::scan::{self, Wanted};
use super::scrub::Slice;
use super::{Rules, RunOptions};
use crate::content;
use crate::delta::Manifest;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::{Mirror, Subject, Version};
use crate::place::{self, HostPlace, Place};
use crate::record::{self, At, Path, Present};
use crate::text::Seal;
use crate::texts::{manifest_text, versions_text};

/// Makes a mirror of the directory `path`, which holds a copy of the source: everything in it moves
/// into `latest/`, but what `leave` names, and is read once. Can be cut and done again.
///
/// # Errors
/// [`MirrorError::Foreign`] when it is a mirror, or holds something of one.
pub fn adopt(
    path: &FilePath,
    subject: &Subject,
    leave: &[Path],
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<Version, MirrorError> {
    let place = HostPlace::open(path)?;
    if place.stat(layout::MIRROR)?.is_some() {
        return Err(MirrorError::Foreign(path.into()));
    }
    let is_moved = place.stat(layout::DELTAS)?.is_some() && place.stat(ADOPT)?.is_none();
    if !is_moved {
        gather(&place, leave, path)?;
    }
    place::make_directories(&place, layout::STAGE)?;
    let mirror = Mirror::locked(place, path)?;
    place::empty(&*mirror.place, layout::STAGE)?;
    let latest = manifest(&mirror, path, options, rules, watch)?;
    let files = latest.values().filter(|present| present.is_file());
    let mut version = Version {
        name: mirror.free_name(&[], options.now)?,
        time: options.now,
        seal: Seal([0; 32]),
        files: files.clone().count() as u64,
        bytes: files.map(Present::size).sum(),
        kept: 0,
        bytes_kept: 0,
    };
    let (text, seal) = manifest_text(&version, &latest);
    version.seal = seal;
    let versions = versions_text(std::slice::from_ref(&version));
    let texts = [(layout::MANIFEST, text), (layout::VERSIONS, versions)];
    mirror.write_texts(texts.map(|(path, text)| (path.into(), text)).into())?;
    mirror.found(subject)?;
    Ok(version)
}

/// Moves everything into a directory of ours, which becomes `latest/` when all is there: the copy
/// may hold something of that name.
fn gather(place: &dyn Place, leave: &[Path], path: &FilePath) -> Result<(), MirrorError> {
    let root = Directory::open_root(path)?;
    let look = root.own_stat()?.entry(b"", record::DIRECTORY, root.own_details());
    let is_begun = place.stat(ADOPT)?.is_some();
    if !is_begun && !place.list(layout::OURS)?.is_empty() {
        return Err(MirrorError::Foreign(path.into()));
    }
    place::make_directories(place, ADOPT)?;
    place.sync()?;
    for name in place.list(b"")? {
        let stays = [layout::OURS, b"lost+found"].contains(&&*name) || leave.contains(&name);
        if !stays {
            place.rename(&name, &record::join(ADOPT, &name))?;
        }
    }
    place.look(ADOPT, &look)?;
    place::make_directories(place, layout::DELTAS)?;
    place.sync()?;
    place.rename(ADOPT, layout::LATEST)?;
    Ok(place.sync()?)
}

/// What lies in `latest/`, all of it read. The source was not looked at: the next run reads it.
fn manifest(
    mirror: &Mirror,
    path: &FilePath,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<Manifest, MirrorError> {
    let nothing = Manifest::new();
    let root = Directory::open_root(&path.join("latest"))?;
    let found = scan::scan(mirror, &nothing, &Slice::default(), &root, options, rules, watch)?;
    let files = found.wanted.values().filter(|it| matches!(it, Wanted::Read(_))).count();
    watch.total(files as u64, found.bytes_to_read(&nothing));
    let mut latest = Manifest::new();
    for (path, wanted) in found.wanted {
        check(watch)?;
        let present = match wanted {
            Wanted::Known(present) | Wanted::Check(present) => *present,
            Wanted::Read(_) => match read(mirror, &path, watch) {
                Ok(Some(present)) => present,
                Ok(None) => continue,
                Err(MirrorError::Host(error)) => {
                    let message = told(&error);
                    watch.trouble(Trouble { path, during: "read", message });
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let at = present.at.clone();
        latest.insert(path, present.at(at));
    }
    Ok(latest)
}

fn read(mirror: &Mirror, path: &Path, watch: &dyn Watch) -> Result<Option<Present>, MirrorError> {
    let Some(file) = mirror.place.open(&layout::latest(path))? else { return Ok(None) };
    let copied = content::copy(&file, None, &mut |count| {
        watch.bytes(path, count);
        !watch.is_cancelled()
    })?;
    let copied = copied.ok_or(MirrorError::Cancelled)?;
    watch.file(path);
    let stat = *file.stat();
    let node = record::content(copied.size, copied.hash);
    let entry = stat.entry(record::name(path), node, file.details());
    let at = At::Here(path.clone());
    Ok(Some(Present { entry, at, link: scan::link(&stat), hint: stat.hint }))
}

/// Where the copy is gathered.
const ADOPT: &[u8] = b".lastgood/adopt";
