//! `lastgood diff`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::diff::{self, Change, Differences, Visit};
use lastgood::restore::{Change as Found, Owners};
use lastgood::select::Selection;
use lastgood::snapshots::Named;
use lastgood::verify::{self, VerifyOptions};
use lastgood::view::SnapshotView;
use lastgood::{Entry, Error, ErrorKind, Repository, this_host};

use super::changes::Changes;
use super::entry;
use super::pick;
use super::select::SelectArgs;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::text;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The older side
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    before: String,
    /// The newer side; `live` is what is there now
    #[arg(value_name = "SNAPSHOT[:PATH]|live", default_value = "live")]
    after: String,
    /// Show entries of which only metadata differs as well
    #[arg(long)]
    metadata: bool,
    /// With live: read every file and compare its content
    #[arg(long)]
    content: bool,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let is_live = self.after == "live";
        if self.content && !is_live {
            return Err(Failure::usage("--content goes with live only"));
        }
        if let Some(mirror) = app.named_mirror() {
            if self.content || !self.filter.is_empty() {
                let message =
                    "--content, --host, --path and --tag: for a repository, and this is a mirror";
                return Err(Failure::usage(message));
            }
            let sides = (&*self.before, &*self.after);
            return super::mirror::diff_of_named(app, mirror, sides, self.metadata, &self.select);
        }
        let repo = app.open()?;
        let before = pick::resolve(app, &repo, &self.before, &self.filter)?;
        if self.content {
            return self.by_content(app, repo, before);
        }
        let mut changes = Changes::new(self.metadata);
        let mut lost = Lost::default();
        let after = match is_live {
            true => {
                lost = self.live(app, &repo, &before, &mut changes)?;
                None
            }
            false => Some(self.snapshots(app, &repo, &before, &mut changes, &mut lost)?),
        };
        let mut sides = vec![("source_snapshot", before.record.id.to_string())];
        sides.extend(after.map(|after| ("target_snapshot", after.record.id.to_string())));
        app.out.json("summary", changes.summary(&sides));
        changes.show_counts(app);
        lost.failure()
    }

    fn snapshots(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
        before: &Named,
        changes: &mut Changes,
        lost: &mut Lost,
    ) -> Result<Named, Failure> {
        let after = pick::resolve(app, repo, &self.after, &self.filter)?;
        let paths = (
            before.path.as_deref().or(after.path.as_deref()),
            after.path.as_deref().or(before.path.as_deref()),
        );
        let base = trimmed(paths.1.unwrap_or_default());
        let mut shown = Shown { app, changes, base, rules: None, lost: Lost::default() };
        diff::snapshots(repo, (&before.record, paths.0), (&after.record, paths.1), &mut shown)?;
        *lost = shown.lost;
        Ok(after)
    }

    fn live(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
        before: &Named,
        changes: &mut Changes,
    ) -> Result<Lost, Failure> {
        let mut options = self.select.options();
        this_host::add_rules(&mut options, &app.home()?, Path::new(repo.location()));
        let sources = &before.record.snapshot.sources;
        let sources: Vec<PathBuf> = sources
            .iter()
            .map(|path| Path::new(std::ffi::OsStr::from_bytes(path)).into())
            .collect();
        let rules = Selection::compile(&options, &sources)
            .map_err(|error| Failure::caused(Code::Usage, &error))?;
        let rules = Some(rules);
        let mut shown = Shown { app, changes, base: b"", rules, lost: Lost::default() };
        diff::live(repo, &before.record, before.path.as_deref(), &mut shown)?;
        Ok(shown.lost)
    }

    /// Reads every file and compares it with what is stored, without fetching that.
    fn by_content(
        &self,
        app: &App<'_>,
        repo: Arc<Repository>,
        before: Named,
    ) -> Result<(), Failure> {
        let host_id = this_host::id(&app.home()?, repo.world())?;
        let id = before.record.id.to_string();
        let options = VerifyOptions {
            subpath: before.path.unwrap_or_default(),
            owners: Owners::Auto,
            host_id,
            ..VerifyOptions::new(before.record)
        };
        let view = SnapshotView::open(&repo, options.snapshot.clone())?;
        let report = app.run(verify::start(repo, options))?;
        let mut changes = Changes::new(self.metadata);
        for difference in &report.differences {
            let path = path_bytes(&difference.path);
            let (recorded, live) = diff::sides(&view, &difference.path);
            let change = match (difference.change, recorded, live) {
                (Found::Created, Some(recorded), _) => Change::Removed(recorded),
                (Found::Deleted, _, Some(live)) => Change::Added(live),
                (change, Some(before), Some(after)) => {
                    let differences = Differences {
                        kind: change == Found::Kind,
                        content: matches!(change, Found::Content | Found::Link),
                        metadata: change == Found::Metadata,
                    };
                    Change::Modified { before, after, differences }
                }
                // It changed again since it was compared.
                _ => continue,
            };
            changes.show(app, path, &change);
        }
        app.out.json("summary", changes.summary(&[("source_snapshot", id)]));
        let (equal, bytes) = (text::count(report.equal, "entry"), text::size(report.bytes));
        app.out.info(format!("{equal} equal, {bytes} read; {} differ", report.different));
        match report.problems.errors {
            0 => Ok(()),
            count => {
                let message = format!("{} could not be compared", text::count(count, "entry"));
                Err(Failure::new(Code::Incomplete, message))
            }
        }
    }
}

/// Shows differences as they are met.
struct Shown<'a> {
    app: &'a App<'a>,
    changes: &'a mut Changes,
    /// What stands before every path, without slashes around it.
    base: &'a [u8],
    /// What the newer side would be backed up by.
    rules: Option<Selection>,
    lost: Lost,
}

/// Directories that could not be listed.
#[derive(Debug, Default)]
struct Lost {
    stored: u64,
    live: u64,
}

impl Lost {
    fn failure(&self) -> Result<(), Failure> {
        if self.stored > 0 || self.live == 0 {
            return entry::all_listed(self.stored);
        }
        let count = text::count(self.live, "directory");
        Err(Failure::new(Code::Incomplete, format!("{count} could not be compared")))
    }
}

impl Shown<'_> {
    fn path(&self, below: &[u8]) -> Vec<u8> {
        let parts = [self.base, trimmed(below)];
        let parts = parts.iter().filter(|part| !part.is_empty());
        let path = parts.flat_map(|part| [b"/", *part]).collect::<Vec<_>>().concat();
        if path.is_empty() { b"/".to_vec() } else { path }
    }
}

impl Visit<Error> for Shown<'_> {
    fn change(&mut self, path: &[u8], change: Change) -> Result<(), Error> {
        let path = self.path(path);
        self.changes.show(self.app, &path, &change);
        Ok(())
    }

    fn unlisted(&mut self, path: &[u8], error: Error) -> Result<(), Error> {
        match error.kind() {
            ErrorKind::Damaged => self.lost.stored += 1,
            _ if self.rules.is_none() => return Err(error),
            _ => self.lost.live += 1,
        }
        let number = self.lost.stored + self.lost.live;
        self.app.show_lost(&self.path(path), "diff", error, number);
        Ok(())
    }

    /// What the rules leave out is in no snapshot, so it only looks as if it were new.
    fn is_meant(&mut self, path: &[u8], _: &Entry) -> bool {
        let path = self.path(path);
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        let is_in =
            |rules: &Selection| rules.explain(path, &mut this_host::Live).verdict.is_included();
        self.rules.as_ref().is_none_or(is_in)
    }
}

/// Without the slashes around it.
fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}
