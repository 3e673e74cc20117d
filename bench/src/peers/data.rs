//! The data that is backed up: real, and the same wherever the same packages are to be had.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::change::Switch;
use super::install::Installed;

mod image;
mod kernel;
mod made;
mod postgres;

pub(super) use made::{Random, SEED, overwrite};

/// A kind of data, in an earlier and a later state.
pub(super) struct DataSet {
    pub name: &'static str,
    pub title: &'static str,
    make: fn(&Maker) -> anyhow::Result<String>,
}

/// All of them, in the order in which they are run.
pub(super) const DATA_SETS: [DataSet; 6] = [
    DataSet { name: "kernel", title: "kernel source", make: kernel::make },
    DataSet { name: "random", title: "incompressible file", make: made::random },
    DataSet { name: "image", title: "VM disk image", make: image::make },
    DataSet { name: "postgres", title: "PostgreSQL data directory", make: postgres::make },
    DataSet { name: "tiny", title: "tiny files", make: made::tiny },
    DataSet { name: "few", title: "handful of files", make: made::few },
];

/// What makes both states of a data set.
struct Maker<'a> {
    installed: &'a Installed,
    /// For what is needed only while it is made.
    work: PathBuf,
    /// To become the earlier state; neither is there yet.
    earlier: PathBuf,
    later: PathBuf,
    /// Smaller, to try the benchmark itself.
    is_quick: bool,
}

/// A data set that was made.
pub(super) struct Ready {
    pub switch: Switch,
    /// What it is, and how much, for the samples.
    pub facts: Value,
    /// A file in the later state, below the source; `None` where the source is one file.
    pub file: Option<PathBuf>,
}

impl DataSet {
    /// Makes it in `folder`, unless it is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn prepare(
        &self,
        folder: &Path,
        installed: &Installed,
        is_quick: bool,
    ) -> anyhow::Result<Ready> {
        let facts_path = folder.join("facts.json");
        if !facts_path.exists() {
            println!("making the {}", self.title);
            crate::remove(folder)?;
            let maker = Maker {
                installed,
                work: folder.join("work"),
                earlier: folder.join("earlier"),
                later: folder.join("later"),
                is_quick,
            };
            fs::create_dir_all(&maker.work)?;
            let what = (self.make)(&maker).with_context(|| format!("no {}", self.title))?;
            crate::remove(&maker.work)?;
            let switch = Switch::create(folder, &maker.earlier, &maker.later)?;
            fs::write(&facts_path, facts(&what, &switch)?.to_string())?;
        }
        let facts: Value = serde_json::from_str(&fs::read_to_string(&facts_path)?)?;
        let switch = Switch::open(folder)?;
        let file = facts["file"].as_str().map(PathBuf::from);
        Ok(Ready { switch, facts, file })
    }
}

/// Measures a data set, and leaves it in its earlier state.
fn facts(what: &str, switch: &Switch) -> anyhow::Result<Value> {
    let later = {
        switch.turn(true)?;
        Tree::of(switch.source())?
    };
    switch.turn(false)?;
    let earlier = Tree::of(switch.source())?;
    let files = later.files.len();
    ensure!(files > 0, "there are no files");
    // From the middle of a large source, so that nobody finds it at an end.
    let file = (files > 1).then(|| later.files[files / 2].clone());
    Ok(json!({
        "what": what,
        "entries": earlier.entries,
        "files": earlier.files.len(),
        "bytes": earlier.bytes,
        "later_bytes": later.bytes,
        "changes": switch.changes_count(),
        "file": file,
    }))
}

/// What is in a directory.
struct Tree {
    entries: u64,
    /// Regular ones that are not empty, in the order of their names.
    files: Vec<String>,
    /// Of all files.
    bytes: u64,
}

impl Tree {
    fn of(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { entries: 0, files: Vec::new(), bytes: 0 };
        let mut pending = vec![root.to_owned()];
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                let entry = entry?;
                let meta = entry.metadata()?;
                tree.entries += 1;
                if meta.is_dir() {
                    pending.push(entry.path());
                } else if meta.is_file() && meta.len() > 0 {
                    tree.bytes += meta.len();
                    let path = entry.path();
                    let name =
                        path.strip_prefix(root)?.to_str().context("a name that is no text")?;
                    tree.files.push(name.to_owned());
                }
            }
        }
        tree.files.sort_unstable();
        Ok(tree)
    }
}
