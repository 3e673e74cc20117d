//! A plain copy that another tool made becomes a mirror, without being copied.

use std::path::Path as FilePath;

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::scan::Directory;

use super::scan::{self, Wanted};
use super::scrub::Slice;
use super::{Rules, RunOptions};
use crate::content;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::{Mirror, Subject, Version};
use crate::place::{self, HostPlace, Place};
use crate::record::{self, At, Path, Present, State};
use crate::sheet::{Sheet, SheetWriter};
use crate::text::Seal;
use crate::texts::{Head, versions_text};

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
    let root = Directory::open_root(path)?;
    // As it is before anything of ours is in it.
    let look = root.own_stat()?.entry(b"", record::DIRECTORY, root.own_details());
    let is_free = |place: &dyn Place| -> Result<bool, HostError> {
        let is_begun = place.stat(ADOPT)?.is_some() || place.stat(layout::DELTAS)?.is_some();
        let names = place.list(layout::OURS)?;
        Ok(is_begun || names.iter().all(|name| [&b"lock"[..], b"stage"].contains(&&**name)))
    };
    if place.stat(layout::MIRROR)?.is_some() || !is_free(&place)? {
        return Err(MirrorError::Foreign(path.into()));
    }
    place::make_directories(&place, layout::OURS)?;
    let mirror = Mirror::locked(place, path)?;
    // Somebody else may have made one before the lock was ours.
    if mirror.is_founded()? {
        return Err(MirrorError::Foreign(path.into()));
    }
    let place = &*mirror.place;
    let is_moved = place.stat(layout::DELTAS)?.is_some() && place.stat(ADOPT)?.is_none();
    if !is_moved {
        gather(place, leave, &look)?;
    }
    place::make_directories(place, layout::STAGE)?;
    place::empty(place, layout::STAGE)?;
    let mut version = Version {
        name: mirror.free_name(&[], options.now)?,
        time: options.now,
        seal: Seal([0; 32]),
        files: 0,
        bytes: 0,
        kept: 0,
        bytes_kept: 0,
    };
    write_manifest(&mirror, path, &mut version, options, rules, watch)?;
    let versions = versions_text(std::slice::from_ref(&version));
    mirror.write_texts(vec![(layout::VERSIONS.into(), versions)])?;
    mirror.found(subject)?;
    Ok(version)
}

/// Moves everything into a directory of ours, which becomes `latest/` when all is there: the copy
/// may hold something of that name.
fn gather(place: &dyn Place, leave: &[Path], look: &Entry) -> Result<(), MirrorError> {
    place::make_directories(place, ADOPT)?;
    place.sync()?;
    for name in place.list(b"")? {
        let stays = [layout::OURS, b"lost+found"].contains(&&*name) || leave.contains(&name);
        if !stays {
            place.rename(&name, &record::join(ADOPT, &name))?;
        }
    }
    place.look(ADOPT, look)?;
    place::make_directories(place, layout::DELTAS)?;
    place.sync()?;
    place.rename(ADOPT, layout::LATEST)?;
    Ok(place.sync()?)
}

/// Writes down what lies in `latest/`, all of it read. The source was not looked at: the next run
/// reads it.
fn write_manifest(
    mirror: &Mirror,
    path: &FilePath,
    version: &mut Version,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<(), MirrorError> {
    let nothing = Sheet::default();
    let root = Directory::open_root(&path.join("latest"))?;
    let found = scan::scan(mirror, &nothing, &Slice::default(), &root, options, rules, watch)?;
    watch.total(found.reads.0, found.reads.1);
    let text = layout::stage("text-latest");
    let mut out = SheetWriter::new(&*mirror.place, text.clone(), "latest", 0);
    out.head("latest", &version.name, version.time, &Head::default());
    for line in found.wanted.lines() {
        check(watch)?;
        let line = line?;
        let present = match Wanted::parse(&found.wanted, &line)? {
            Wanted::Gone => continue,
            Wanted::Known(present) | Wanted::Check(present) => *present,
            Wanted::Read(_) => match read(mirror, &line.path, watch) {
                Ok(Some(present)) => present,
                Ok(None) => continue,
                Err(MirrorError::Host(error)) => {
                    let (path, message) = (line.path, told(&error));
                    watch.trouble(Trouble { path, during: "read", message });
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        version.files += u64::from(present.is_file());
        version.bytes += present.size();
        let present = present.at(At::Here(line.path.clone()));
        out.record(&[], &line.path, &State::Present(Box::new(present)))?;
    }
    version.seal = out.seal()?.1;
    let puts = mirror.stage_second(&text, layout::MANIFEST.into())?;
    mirror.put_texts(&puts)
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
