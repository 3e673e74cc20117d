//! `lastgood mirror diff`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lastgood::diff::{Change, Visit};
use lastgood::mirror;
use lastgood::select::Selection;
use lastgood::{Entry, Error, this_host};

use super::super::changes::Changes;
use super::super::select::SelectArgs;
use super::{resolve, version_at};
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `mirror diff`.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// Directory of the mirror
    #[arg(value_name = "MIRROR")]
    mirror: PathBuf,
    /// The older side: latest, a name, or the version of a moment: @2026-11-01, @3d
    #[arg(value_name = "VERSION")]
    before: String,
    /// The newer side; `live` is what is there now
    #[arg(value_name = "VERSION|live", default_value = "latest")]
    after: String,
    /// Only what is at or below this path, below the source
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Show entries of which only metadata differs as well
    #[arg(long)]
    metadata: bool,
    #[command(flatten)]
    select: SelectArgs,
}

/// What `lastgood diff` does when a mirror is named in the place of a repository.
pub(in crate::commands) fn of_named(
    app: &App<'_>,
    mirror: &Path,
    (before, after): (&str, &str),
    metadata: bool,
    select: &SelectArgs,
) -> Result<(), Failure> {
    let (before, path) = resolve(mirror, before)?;
    let (after, other) = match after {
        LIVE => (LIVE.to_owned(), None),
        after => resolve(mirror, after)?,
    };
    if path.is_some() && other.is_some() && path != other {
        return Err(Failure::usage("versions of a mirror are compared at one path"));
    }
    show(app, mirror, (before, after), path.or(other).as_deref(), metadata, select)
}

impl DiffArgs {
    pub(super) fn run(&self, app: &App<'_>) -> Result<(), Failure> {
        let before = version_at(&self.mirror, &self.before)?.name;
        let after = match &*self.after {
            LIVE => LIVE.to_owned(),
            after => version_at(&self.mirror, after)?.name,
        };
        let path = self.path.as_deref();
        show(app, &self.mirror, (before, after), path, self.metadata, &self.select)
    }
}

fn show(
    app: &App<'_>,
    mirror: &Path,
    (before, after): (String, String),
    path: Option<&Path>,
    metadata: bool,
    select: &SelectArgs,
) -> Result<(), Failure> {
    let is_live = after == LIVE;
    let source = mirror::source(mirror)?;
    let rules =
        is_live.then(|| Selection::compile(&select.options(), std::slice::from_ref(&source)));
    let rules = rules.transpose().map_err(|error| Failure::caused(Code::Usage, &error))?;
    let mut shown = Shown { app, source, rules, changes: Changes::new(metadata), lost: 0 };
    let mut sides = vec![("source_version", before.clone())];
    if is_live {
        mirror::diff_live(mirror, &before, path, &mut shown)?;
    } else {
        mirror::diff(mirror, (&before, &after), path, &mut shown)?;
        sides.push(("target_version", after));
    }
    app.out.json("summary", shown.changes.summary(&sides));
    shown.changes.show_counts(app);
    match shown.lost {
        0 => Ok(()),
        lost => {
            let count = text::count(lost, "directory");
            Err(Failure::new(Code::Incomplete, format!("{count} could not be compared")))
        }
    }
}

/// Shows differences as they are met.
struct Shown<'a> {
    app: &'a App<'a>,
    source: PathBuf,
    /// What the source would be mirrored by.
    rules: Option<Selection>,
    changes: Changes,
    /// Directories that could not be listed.
    lost: u64,
}

impl Visit<Error> for Shown<'_> {
    fn change(&mut self, path: &[u8], change: Change) -> Result<(), Error> {
        self.changes.show(self.app, path, &change);
        Ok(())
    }

    fn unlisted(&mut self, path: &[u8], error: Error) -> Result<(), Error> {
        self.lost += 1;
        self.app.show_lost(path, "diff", error, self.lost);
        Ok(())
    }

    /// What the rules leave out is in no version, so it only looks as if it were new.
    fn is_meant(&mut self, path: &[u8], _: &Entry) -> bool {
        let path = self.source.join(std::ffi::OsStr::from_bytes(path));
        let is_in =
            |rules: &Selection| rules.explain(&path, &mut this_host::Live).verdict.is_included();
        self.rules.as_ref().is_none_or(is_in)
    }
}

/// What is there now.
const LIVE: &str = "live";
