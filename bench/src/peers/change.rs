//! A source that is switched between an earlier and a later state, in which everything that is
//! equal in both stays untouched: the same inodes, and the same times.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::fs::{CWD, RenameFlags};

use super::same::{is_same_content, names};

/// The source, and beside it what differs in its other state.
pub(super) struct Switch {
    source: PathBuf,
    /// What is not in the source now: one file or directory for each change.
    aside: PathBuf,
    /// The changes, which are the same in both directions.
    changes: Vec<Change>,
    /// Exists while the source is in its later state.
    is_later: PathBuf,
}

/// What the way from one state to the other does with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    kind: Kind,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Something else is there.
    Replace,
    /// Only the later state has it.
    Add,
    /// Only the earlier state has it.
    Remove,
}

impl Switch {
    /// Makes `folder/source` of the earlier state, and keeps of the later one what differs.
    ///
    /// # Errors
    /// When a file cannot be read or moved.
    pub(super) fn create(folder: &Path, earlier: &Path, later: &Path) -> anyhow::Result<Self> {
        let mut changes = Vec::new();
        compare(earlier, later, Path::new(""), &mut changes)?;
        let aside = folder.join("aside");
        fs::create_dir_all(&aside)?;
        let mut lines = String::new();
        for (index, Change { kind, path }) in changes.iter().enumerate() {
            let shown = || path.display().to_string();
            if *kind == Kind::Replace {
                make_newer(&earlier.join(path), &later.join(path)).with_context(shown)?;
            }
            if *kind != Kind::Remove {
                fs::rename(later.join(path), aside.join(index.to_string())).with_context(shown)?;
            }
            let path = path.to_str().context("a name that is no text")?;
            lines += &format!("{kind:?}\t{path}\n");
        }
        fs::remove_dir_all(later)?;
        fs::rename(earlier, folder.join("source"))?;
        fs::write(folder.join("changes"), lines)?;
        Self::open(folder)
    }

    /// One that was made.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("changes");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let changes = text.lines().map(Change::parse).collect::<Option<Vec<_>>>();
        Ok(Self {
            source: folder.join("source"),
            aside: folder.join("aside"),
            changes: changes.with_context(|| format!("{} is damaged", path.display()))?,
            is_later: folder.join("is-later"),
        })
    }

    pub(super) fn source(&self) -> &Path {
        &self.source
    }

    pub(super) fn changes_count(&self) -> usize {
        self.changes.len()
    }

    /// Brings the source into its later state, or back.
    ///
    /// # Errors
    /// When something cannot be moved; the source is then in between, and of no more use.
    pub(super) fn turn(&self, to_later: bool) -> anyhow::Result<()> {
        if self.is_later.exists() == to_later {
            return Ok(());
        }
        let between = self.is_later.with_extension("broken");
        ensure!(!between.exists(), "{} is in no state: remove it", self.source.display());
        fs::write(&between, "")?;
        for (index, Change { kind, path }) in self.changes.iter().enumerate() {
            let (aside, path) = (self.aside.join(index.to_string()), self.source.join(path));
            match (kind, to_later) {
                (Kind::Replace, _) => {
                    rustix::fs::renameat_with(CWD, &aside, CWD, &path, RenameFlags::EXCHANGE)?;
                }
                (Kind::Add, true) | (Kind::Remove, false) => fs::rename(&aside, &path)?,
                (Kind::Add, false) | (Kind::Remove, true) => fs::rename(&path, &aside)?,
            }
        }
        match to_later {
            true => fs::rename(&between, &self.is_later)?,
            false => {
                fs::remove_file(&self.is_later)?;
                fs::remove_file(&between)?;
            }
        }
        Ok(())
    }
}

impl Change {
    fn parse(line: &str) -> Option<Self> {
        let (kind, path) = line.split_once('\t')?;
        let kind = match kind {
            "Replace" => Kind::Replace,
            "Add" => Kind::Add,
            "Remove" => Kind::Remove,
            _ => return None,
        };
        Some(Self { kind, path: path.into() })
    }
}

/// Lets a changed file have been written an hour later than before, if it was not later anyhow:
/// what a generator makes within a second would be taken for unchanged.
fn make_newer(before: &Path, after: &Path) -> std::io::Result<()> {
    let [was, is] = [before, after].map(fs::symlink_metadata);
    let (was, is) = (was?, is?);
    let due = was.modified()? + Duration::from_hours(1);
    if is.is_file() && is.modified()? < due {
        File::options().write(true).open(after)?.set_modified(due)?;
    }
    Ok(())
}

/// Finds what differs below `path` in two trees.
fn compare(
    earlier: &Path,
    later: &Path,
    path: &Path,
    changes: &mut Vec<Change>,
) -> anyhow::Result<()> {
    let (before, after) = (names(&earlier.join(path))?, names(&later.join(path))?);
    for name in before.union(&after) {
        let path = path.join(name);
        let kind = match (before.contains(name), after.contains(name)) {
            (true, false) => Some(Kind::Remove),
            (false, _) => Some(Kind::Add),
            (true, true) => difference(earlier, later, &path, changes)?,
        };
        changes.extend(kind.map(|kind| Change { kind, path }));
    }
    Ok(())
}

/// How an entry that is in both trees differs, looking below it where it is a directory.
fn difference(
    earlier: &Path,
    later: &Path,
    path: &Path,
    changes: &mut Vec<Change>,
) -> anyhow::Result<Option<Kind>> {
    let (left, right) = (earlier.join(path), later.join(path));
    let (before, after) = (fs::symlink_metadata(&left)?, fs::symlink_metadata(&right)?);
    let is_same = if before.file_type() != after.file_type() {
        false
    } else if before.is_dir() {
        compare(earlier, later, path, changes)?;
        true
    } else if before.is_file() {
        before.len() == after.len()
            && before.permissions() == after.permissions()
            && is_same_content(&left, &right)?
    } else {
        fs::read_link(&left)? == fs::read_link(&right)?
    };
    Ok((!is_same).then_some(Kind::Replace))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn content(tree: &Path) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        let mut pending = vec![tree.to_owned()];
        while let Some(path) = pending.pop() {
            for name in names(&path).unwrap() {
                let path = path.join(name);
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((path.strip_prefix(tree).unwrap().to_owned(), text));
                }
            }
        }
        found.sort();
        found
    }

    fn write(tree: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_source_goes_to_its_later_state_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let (earlier, later) = (folder.path().join("a"), folder.path().join("b"));
        write(&earlier, &[("same", "1"), ("d/changed", "2"), ("d/gone", "3"), ("e/f/gone", "4")]);
        write(&later, &[("same", "1"), ("d/changed", "5"), ("new/one", "6"), ("d/new", "7")]);
        write(&earlier, &[("kind", "8")]);
        write(&later, &[("kind/inside", "9")]);
        let states = [content(&earlier), content(&later)];
        let inode = fs::metadata(earlier.join("same")).unwrap().ino();

        let switch = Switch::create(folder.path(), &earlier, &later).unwrap();
        assert_eq!(content(switch.source()), states[0]);
        for to_later in [true, true, false, true, false] {
            let switch = Switch::open(folder.path()).unwrap();
            switch.turn(to_later).unwrap();
            assert_eq!(content(switch.source()), states[usize::from(to_later)]);
            assert_eq!(fs::metadata(switch.source().join("same")).unwrap().ino(), inode);
        }
        assert_eq!(switch.changes_count(), 6);

        let modified = || fs::metadata(switch.source().join("d/changed")).unwrap().modified();
        let before = modified().unwrap();
        switch.turn(true).unwrap();
        assert_eq!(modified().unwrap().duration_since(before).unwrap().as_secs(), 3600);
    }
}
