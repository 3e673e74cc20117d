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
use lastgood::{Entry, Error, ErrorKind, Node, Repository, this_host};
use serde_json::{Map, Value, json};

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

/// What one side has and the other has not.
#[derive(Debug, Default)]
struct Tally {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Counts {
    changed_files: u64,
    added: Tally,
    removed: Tally,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let is_live = self.after == "live";
        if self.content && !is_live {
            return Err(Failure::usage("--content goes with live only"));
        }
        let repo = app.open()?;
        let before = pick::resolve(app, &repo, &self.before, &self.filter)?;
        if self.content {
            return self.by_content(app, repo, before);
        }
        let mut counts = Counts::default();
        let mut lost = Lost::default();
        let after = match is_live {
            true => {
                lost = self.live(app, &repo, &before, &mut counts)?;
                None
            }
            false => Some(self.snapshots(app, &repo, &before, &mut counts, &mut lost)?),
        };
        let mut fields = json!({
            "source_snapshot": before.record.id.to_string(),
            "changed_files": counts.changed_files,
            "added": counts.added.json(),
            "removed": counts.removed.json(),
        });
        if let Some(after) = after {
            fields["target_snapshot"] = after.record.id.to_string().into();
        }
        app.out.json("summary", fields);
        counts.show(app);
        lost.failure()
    }

    fn snapshots(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
        before: &Named,
        counts: &mut Counts,
        lost: &mut Lost,
    ) -> Result<Named, Failure> {
        let after = pick::resolve(app, repo, &self.after, &self.filter)?;
        let paths = (
            before.path.as_deref().or(after.path.as_deref()),
            after.path.as_deref().or(before.path.as_deref()),
        );
        let base = trimmed(paths.1.unwrap_or_default());
        let mut shown = Shown { args: self, app, counts, base, rules: None, lost: Lost::default() };
        diff::snapshots(repo, (&before.record, paths.0), (&after.record, paths.1), &mut shown)?;
        *lost = shown.lost;
        Ok(after)
    }

    fn live(
        &self,
        app: &App<'_>,
        repo: &Arc<Repository>,
        before: &Named,
        counts: &mut Counts,
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
        let mut shown = Shown { args: self, app, counts, base: b"", rules, lost: Lost::default() };
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
        let mut counts = Counts::default();
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
            self.show(app, path, &change, &mut counts);
        }
        app.out.json(
            "summary",
            json!({
                "source_snapshot": id,
                "changed_files": counts.changed_files,
                "added": counts.added.json(),
                "removed": counts.removed.json(),
            }),
        );
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

    fn show(&self, app: &App<'_>, path: &[u8], change: &Change, counts: &mut Counts) {
        let (sign, newer) = match change {
            Change::Added(entry) => {
                counts.added.add(entry);
                ("+", entry)
            }
            Change::Removed(entry) => {
                counts.removed.add(entry);
                ("-", entry)
            }
            Change::Modified { after, differences, .. } => {
                let sign = match (differences.kind, differences.content, differences.metadata) {
                    (true, ..) => "T",
                    (_, true, true) if self.metadata => "MU",
                    (_, true, _) => "M",
                    (_, _, true) if self.metadata => "U",
                    _ => return,
                };
                counts.changed_files += u64::from(sign != "U" && entry::size(after).is_some());
                (sign, after)
            }
        };
        app.out.json_with("change", || {
            let mut fields = Map::new();
            text::put_path(&mut fields, "path", path);
            fields.insert("modifier".to_owned(), sign.into());
            fields.insert("type".to_owned(), entry::kind(&newer.node).0.into());
            let (before, after) = match change {
                Change::Added(after) => (None, Some(after)),
                Change::Removed(before) => (Some(before), None),
                Change::Modified { before, after, .. } => (Some(before), Some(after)),
            };
            for (name, side) in [("size_before", before), ("size_after", after)] {
                if let Some(size) = side.and_then(entry::size) {
                    fields.insert(name.to_owned(), size.into());
                }
            }
            fields.into()
        });
        let is_whole_directory = newer.is_directory() && !matches!(change, Change::Modified { .. });
        let slash: &[u8] = if is_whole_directory { b"/" } else { b"" };
        let head = format!("{sign:<5}");
        app.out.bytes_line(&[head.as_bytes(), &app.out.path(path), slash]);
        app.out.exit_if_closed();
    }
}

/// Shows differences as they are met.
struct Shown<'a> {
    args: &'a Args,
    app: &'a App<'a>,
    counts: &'a mut Counts,
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
        self.args.show(self.app, &self.path(path), &change, self.counts);
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

impl Counts {
    fn show(&self, app: &App<'_>) {
        let Self { changed_files, added, removed } = self;
        app.out.info("");
        app.out.info(format!(
            "Files:       {:>5} new, {:>5} removed, {changed_files:>5} changed",
            added.files, removed.files
        ));
        app.out.info(format!(
            "Directories: {:>5} new, {:>5} removed",
            added.directories, removed.directories
        ));
        app.out
            .info(format!("Others:      {:>5} new, {:>5} removed", added.others, removed.others));
        app.out.info(format!("Added:   {}", text::size(added.bytes)));
        app.out.info(format!("Removed: {}", text::size(removed.bytes)));
    }
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        match entry.node {
            Node::File { size, .. } => {
                self.files += 1;
                self.bytes += size;
            }
            Node::Directory { .. } => self.directories += 1,
            _ => self.others += 1,
        }
    }

    fn json(&self) -> Value {
        json!({
            "files": self.files,
            "dirs": self.directories,
            "others": self.others,
            "bytes": self.bytes,
        })
    }
}

/// Without the slashes around it.
fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}
