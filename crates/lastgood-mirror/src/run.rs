//! A run: the mirror becomes what the source is, and keeps what it was.
//!
//! Scan, plan, guard, space, stage: until here nothing of the mirror changed, and a run may end at
//! any moment. Then one [`Journal`](crate::journal::Journal) is made durable and done.

mod adopt;
mod ahead;
mod commit;
mod fit;
mod fixed;
mod gone;
mod guard;
mod hold;
mod insert;
mod intake;
mod links;
mod past;
mod plan;
mod room;
mod scan;
mod scrub;
mod shown;
mod stage;
mod staged;

use std::path::{Path as FilePath, PathBuf};

use lastgood_format::entry::Timestamp;
use lastgood_host::scan::{Directory, Stat};

use self::scan::Found;
use self::scrub::Slice;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::journal;
use crate::layout;
use crate::mirror::{Mirror, Subject, Version, View};
use crate::record::Path;

pub use adopt::adopt;
pub use guard::Held;
pub use hold::Hold;
pub use insert::insert;
pub use intake::{Intake, Taken, Taking};
pub use room::Room;

/// What of a source is mirrored.
pub trait Rules {
    /// A directory is entered, by its path below the source.
    fn enter(&mut self, path: &[u8], directory: &Directory);
    /// The directory that was entered last is left.
    fn leave(&mut self);
    /// What to do with an entry of the directory that was entered last.
    fn choose(&mut self, name: &[u8], stat: &Stat) -> Choice;
}

/// What to do with an entry of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is mirrored, with all that is in it.
    In,
    /// It is mirrored, and what is in it is not: something is mounted there.
    Shallow,
    /// It is not mirrored.
    Out,
}

/// How to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The source.
    pub source: PathBuf,
    /// When it is.
    pub now: Timestamp,
    /// Whether the guard was asked already.
    pub is_approved: bool,
    /// Whether what rules leave out now is removed from the newest version, as if it were deleted;
    /// else it stays as it was.
    pub forgets_excluded: bool,
    /// Whether files are read before they go into history: rot never gets there as if it were true.
    pub verifies_outgoing: bool,
    /// In so many days everything that the mirror holds is read once, a part of it in each run; 0
    /// for never.
    pub scrub_days: u32,
    /// Whether nothing is written.
    pub is_dry: bool,
    /// What the file system of the mirror has room for.
    pub room: Room,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunReport {
    /// The version that was made; `None` when nothing changed, and in a dry run.
    pub version: Option<Version>,
    /// Files that are new, moved ones not counted.
    pub new: u64,
    /// Files whose content differs.
    pub changed: u64,
    /// Files that are elsewhere now, at no bytes.
    pub moved: u64,
    /// Files that are gone.
    pub deleted: u64,
    /// Files that are as they were.
    pub unchanged: u64,
    /// Files of the source.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Paths of which the older state was kept, because the source could not be read.
    pub kept: u64,
    /// Paths that somebody else changed in `latest/`; what they held is in `.lastgood/conflicts`.
    pub conflicts: Vec<Path>,
    /// Files in `latest/` that had rotted; what is left of them is in `.lastgood/damaged`.
    pub rotted: Vec<Path>,
    /// Those of them whose bytes are there again, because the source has them.
    pub healed: Vec<Path>,
    /// Files of the source whose bytes are others than recorded, though nothing of it shows:
    /// neither time nor inode. The mirror keeps what it has.
    pub source_rotted: Vec<Path>,
    /// Files of older versions that have rotted, by their path below the mirror.
    pub damaged: Vec<Path>,
    /// Bytes of the mirror that were read because it was their turn.
    pub bytes_checked: u64,
    /// Kinds of metadata that `latest/` does not show, with how often; the records have them.
    pub unset: Vec<(String, u64)>,
}

/// Runs. `mirror` is locked and recovered.
///
/// # Errors
/// [`MirrorError::Held`] when the guard asks; then, and on any error before the commit, nothing
/// changed. After that the next run rolls forward.
pub fn run(
    mirror: &Mirror,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<RunReport, MirrorError> {
    begin(mirror, options, rules, watch)?.finish(mirror, options, Taken::default(), watch)
}

/// A run that knows what it has to do, and was let.
#[derive(Debug)]
pub struct Begun {
    view: View,
    slice: Slice,
    found: Found,
    root: Directory,
    /// What the mirror is of, where that is another directory than before.
    subject: Option<Subject>,
    /// Whether a run was held.
    is_held: bool,
}

/// Looks at what there is, and asks the guard. `mirror` is locked and recovered.
///
/// # Errors
/// As of [`run`]; nothing changed.
pub fn begin(
    mirror: &Mirror,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<Begun, MirrorError> {
    let root = Directory::open_root(&options.source)?;
    let view = mirror.view_from(usize::MAX)?;
    let slice = scrub::read(mirror, &view, options, watch)?;
    let mut found = scan::scan(mirror, &view.latest, &slice, &root, options, rules, watch)?;
    check(watch)?;
    let subject = mirror.subject()?;
    let now = Subject { root: root.own_stat()?.hint.inode, ..subject.clone() };
    let (hold, is_held) = known_hold(mirror, watch)?;
    found.held.is_other_root = !view.latest.is_empty() && subject.root != now.root;
    if let Some(held) = guard::check(found.held)
        && !options.is_approved
        && !hold.is_some_and(|hold| hold.covers(&held))
    {
        if !options.is_dry {
            mirror.set_hold(&Hold { held, is_approved: false })?;
        }
        return Err(MirrorError::Held(held));
    }
    if !options.is_dry {
        found.need.check(options.room)?;
    }
    let subject = (now != subject).then_some(now);
    Ok(Begun { view, slice, found, root, subject, is_held })
}

impl Begun {
    /// What of the source has to be read, for somebody who reads it anyway.
    ///
    /// # Errors
    /// When the mirror cannot be read.
    pub fn intake<'a>(&'a self, mirror: &'a Mirror) -> Result<Intake<'a>, MirrorError> {
        Intake::new(mirror, &self.view.latest, &self.found)
    }

    /// Goes on: what was not taken in is read, and the mirror becomes what the source is.
    ///
    /// # Errors
    /// As of [`run`].
    pub fn finish(
        self,
        mirror: &Mirror,
        options: &RunOptions,
        taken: Taken,
        watch: &dyn Watch,
    ) -> Result<RunReport, MirrorError> {
        let Self { view, slice, found, root, subject, is_held } = self;
        if options.is_dry {
            return Ok(found.forecast);
        }
        let staged = stage::stage(mirror, &view.latest, found, &taken, &root, options, watch)?;
        check(watch)?;
        let news = commit::News { subject: subject.as_ref(), ends_hold: is_held };
        let report = commit::commit(mirror, &view, staged, &news, options, watch)?;
        slice.note(mirror)?;
        Ok(RunReport { damaged: slice.damaged, bytes_checked: slice.bytes, ..report })
    }
}

/// The run that is held, as far as that is known, and whether one is. Of what nobody can read, nobody
/// approved anything: the guard asks anew.
fn known_hold(mirror: &Mirror, watch: &dyn Watch) -> Result<(Option<Hold>, bool), MirrorError> {
    match mirror.hold() {
        Ok(hold) => Ok((hold, hold.is_some())),
        Err(error) if journal::is_unreadable(&error) => {
            let (path, message) = (layout::HELD.into(), told(&error));
            watch.trouble(Trouble { path, during: "read", message });
            Ok((None, true))
        }
        Err(error) => Err(error),
    }
}

/// What a mirror of `source` says that it is of.
///
/// # Errors
/// When the source is no directory that can be opened.
pub fn subject(source: &FilePath) -> Result<Subject, MirrorError> {
    let root = Directory::open_root(source)?.own_stat()?.hint.inode;
    Ok(Subject { source: source.into(), root })
}
