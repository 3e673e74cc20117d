//! `lastgood explain`.

mod lineage;
mod space;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lastgood::select::{Explanation, Origin, OwnContent, Reason, Selection, Verdict};
use lastgood::snapshots::{self, Filter};
use lastgood::this_host;
use serde_json::{Map, Value};

use super::pick;
use super::select::SelectArgs;
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::settings::absolute;
use crate::text;

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Why these are backed up, or not; with @SNAPSHOT behind it, where its content came from; with
    /// --space, snapshots
    #[arg(value_name = "PATH[@SNAPSHOT]", required_unless_present_any = ["blob", "space"])]
    paths: Vec<PathBuf>,
    /// Where this blob came from
    #[arg(long, value_name = "ID", conflicts_with_all = ["paths", "space"])]
    blob: Option<String>,
    /// What takes the space: by snapshot, by age and by directory; and what forgetting the
    /// snapshots that are named would free
    #[arg(long)]
    space: bool,
    /// How deep directories are told apart with --space [default: two below the deepest source]
    #[arg(long, value_name = "N", requires = "space")]
    depth: Option<usize>,
    /// What is backed up; may be given several times [default: the sources of the newest snapshot
    /// of this host that hold PATH]
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
    #[command(flatten)]
    select: SelectArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        if let Some(id) = &self.blob {
            return lineage::blob(app, id);
        }
        if self.space {
            let names = self.paths.iter().map(|name| name.to_string_lossy().into_owned());
            return space::run(app, &names.collect::<Vec<_>>(), self.depth);
        }
        let home = app.home()?;
        let repository = match app.named_repository() {
            Some(path) => path.to_owned(),
            None => home.default_repository(),
        };
        let mut options = self.select.options();
        this_host::add_rules(&mut options, &home, &repository);
        for path in &self.paths {
            if let Some((path, snapshot)) = in_snapshot(path) {
                let repo = app.open()?;
                let record = pick::one(app, &repo, snapshot)?;
                let path = absolute(Path::new(OsStr::from_bytes(path)))?;
                lineage::path(app, &repo, path_bytes(&path), &record)?;
                continue;
            }
            // Asked for as it was written: a slash at its end means a directory.
            let full = absolute(path)?;
            let sources = match self.source.as_slice() {
                [] => sources_of_last_backup(app, &full)?,
                given => given.iter().map(|source| absolute(source)).collect::<Result<_, _>>()?,
            };
            let selection = Selection::compile(&options, &sources)
                .map_err(|error| Failure::caused(Code::Usage, &error))?;
            show(app, &selection.explain(&full, &mut this_host::Live));
        }
        Ok(())
    }
}

/// The path and the snapshot of `PATH@SNAPSHOT`. What is there under the whole name is meant by it.
fn in_snapshot(path: &Path) -> Option<(&[u8], &str)> {
    let bytes = path_bytes(path);
    let at = bytes.iter().rposition(|byte| *byte == b'@')?;
    let (path_of, snapshot) = (bytes.get(..at)?, std::str::from_utf8(bytes.get(at + 1..)?).ok()?);
    let is_snapshot = snapshot.starts_with("latest")
        || !snapshot.is_empty() && snapshot.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_snapshot && !path_of.is_empty() && path.symlink_metadata().is_err())
        .then_some((path_of, snapshot))
}

/// The sources of the newest snapshot of this host of which one holds `path`.
fn sources_of_last_backup(app: &App<'_>, path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unknown = || {
        Failure::usage(format!("no backup of this host holds {}", path.display()))
            .hint("say what is backed up: lastgood explain --source DIR PATH")
    };
    if app.is_default_missing()? {
        return Err(unknown());
    }
    let repo = app.open()?;
    let host = app.environment.get("LASTGOOD_HOST").and_then(|host| host.to_str());
    let host = host.map_or_else(this_host::name, str::to_owned);
    let (records, _) = snapshots::list(&repo, &Filter { hosts: vec![host], ..Filter::default() })?;
    let sources = records.iter().rev().map(|record| {
        let paths = record.snapshot.sources.iter();
        paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect::<Vec<_>>()
    });
    let mut holding =
        sources.filter(|sources| sources.iter().any(|source| path.starts_with(source)));
    holding.next().ok_or_else(unknown)
}

fn show(app: &App<'_>, explanation: &Explanation<'_>) {
    let (name, reason) = match &explanation.verdict {
        Verdict::Included => ("included", None),
        Verdict::IncludedBy(reason) => ("included-again", Some(*reason)),
        Verdict::ContentExcluded(reason) => ("content-excluded", Some(*reason)),
        Verdict::Excluded(reason) => ("excluded", Some(*reason)),
        Verdict::ParentExcluded { reason, .. } => ("parent-excluded", Some(*reason)),
        Verdict::Outside => ("outside", None),
    };
    let mut fields = Map::new();
    text::put_path(&mut fields, "path", path_bytes(&explanation.path));
    fields.insert("exists".to_owned(), explanation.exists.into());
    fields.insert("included".to_owned(), explanation.verdict.is_included().into());
    fields.insert("verdict".to_owned(), name.into());
    if let Some(source) = explanation.source {
        text::put_path(&mut fields, "source", path_bytes(source));
    }
    if let Verdict::ParentExcluded { parent, overruled, .. } = &explanation.verdict {
        text::put_path(&mut fields, "parent", path_bytes(parent));
        if let Some(overruled) = overruled {
            fields.insert("overruled".to_owned(), reason_json(overruled));
        }
    }
    if let Some(reason) = reason {
        fields.insert("reason".to_owned(), reason_json(reason));
    }
    fields.insert("text".to_owned(), explanation.to_string().into());
    app.out.json("explanation", fields.into());
    app.out.line(text::escaped(explanation.to_string().as_bytes()));
}

fn reason_json(reason: &Reason) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    let origin = match reason {
        Reason::Pattern { text, origin } => {
            put("rule", "pattern".into());
            put("pattern", text.as_str().into());
            Some(origin)
        }
        Reason::Marker { name, origin } => {
            put("rule", "marker".into());
            put("marker", String::from_utf8_lossy(name).into());
            Some(origin)
        }
        Reason::LargerThan { bytes } => {
            put("rule", "larger-than".into());
            put("bytes", (*bytes).into());
            None
        }
        Reason::OtherFileSystem => {
            put("rule", "other-file-system".into());
            None
        }
        Reason::PseudoFileSystem { fs_type } => {
            put("rule", "pseudo-file-system".into());
            put("fs_type", (*fs_type).into());
            None
        }
        Reason::Own { path, holds } => {
            put("rule", "own".into());
            let holds = match holds {
                OwnContent::Repository => "repository",
                OwnContent::Cache => "cache",
                OwnContent::Mirror => "mirror",
            };
            put("holds", holds.into());
            put("path", path.to_string_lossy().into());
            None
        }
    };
    match origin {
        Some(Origin::Flag(flag)) => put("flag", (*flag).into()),
        Some(Origin::Line { file, line }) => {
            put("file", file.to_string_lossy().into());
            put("line", (*line).into());
        }
        None => {}
    }
    fields.into()
}
