//! Whether a restored tree is the one that was backed up.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// Compares kinds, contents, targets of links and permissions of all below two directories.
///
/// # Errors
/// Names the first entry that differs, or that cannot be read.
pub(super) fn compare_trees(expected: &Path, restored: &Path) -> anyhow::Result<()> {
    let mut pending = vec![Path::new("").to_owned()];
    while let Some(directory) = pending.pop() {
        let (left, right) =
            (names(&expected.join(&directory))?, names(&restored.join(&directory))?);
        if let Some(name) = left.symmetric_difference(&right).next() {
            let which = if left.contains(name) { "is missing" } else { "was not backed up" };
            bail!("{} {which}", directory.join(name).display());
        }
        for name in left {
            let path = directory.join(name);
            let (left, right) = (expected.join(&path), restored.join(&path));
            let is_directory = compare(&left, &right)
                .with_context(|| format!("{} is not restored", path.display()))?;
            if is_directory {
                pending.push(path);
            }
        }
    }
    Ok(())
}

/// Compares two entries, and returns whether they are directories.
fn compare(left: &Path, right: &Path) -> anyhow::Result<bool> {
    let (before, after) = (fs::symlink_metadata(left)?, fs::symlink_metadata(right)?);
    ensure!(before.file_type() == after.file_type(), "it is of another kind");
    if before.is_symlink() {
        ensure!(fs::read_link(left)? == fs::read_link(right)?, "it leads elsewhere");
        return Ok(false);
    }
    let mode = |meta: &Metadata| meta.permissions().mode() & 0o7777;
    ensure!(mode(&before) == mode(&after), "its permissions are {:o}", mode(&after));
    if before.is_file() {
        ensure!(before.len() == after.len(), "its length is {}", after.len());
        ensure!(is_same_content(left, right)?, "its content differs");
    }
    Ok(before.is_dir())
}

/// Whether two files hold the same.
///
/// # Errors
/// When one cannot be read.
pub(super) fn is_same_content(left: &Path, right: &Path) -> anyhow::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut before, mut after) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let read = fill(&mut left, &mut before)?;
        let same = fill(&mut right, &mut after)? == read && before[..read] == after[..read];
        if !same || read == 0 {
            return Ok(same);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

const BUFFER_BYTES: usize = 128 << 10;

/// The names in a directory.
///
/// # Errors
/// When it cannot be listed.
pub(super) fn names(directory: &Path) -> anyhow::Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    Ok(entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two equal trees, of which `spoil` changes the second; what is then said of it.
    fn check(spoil: impl FnOnce(&Path), says: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let trees = ["a", "b"].map(|name| folder.path().join(name));
        for tree in &trees {
            fs::create_dir_all(tree.join("d/e")).unwrap();
            fs::write(tree.join("d/file"), vec![7; BUFFER_BYTES + 9]).unwrap();
            std::os::unix::fs::symlink("file", tree.join("d/link")).unwrap();
        }
        spoil(&trees[1]);
        let said = compare_trees(&trees[0], &trees[1]).err().map(|error| format!("{error:#}"));
        assert_eq!(said.as_deref(), says);
    }

    #[test]
    fn equal_trees_are_the_same() {
        check(|_| (), None);
    }

    #[test]
    fn every_difference_is_found() {
        check(|tree| fs::remove_dir(tree.join("d/e")).unwrap(), Some("d/e is missing"));
        check(|tree| fs::write(tree.join("new"), "").unwrap(), Some("new was not backed up"));
        let mut last = vec![7; BUFFER_BYTES + 9];
        last[BUFFER_BYTES + 8] = 8;
        check(
            |tree| fs::write(tree.join("d/file"), last).unwrap(),
            Some("d/file is not restored: its content differs"),
        );
        check(
            |tree| fs::write(tree.join("d/file"), "").unwrap(),
            Some("d/file is not restored: its length is 0"),
        );
        check(
            |tree| {
                let mode = fs::Permissions::from_mode(0o600);
                fs::set_permissions(tree.join("d/file"), mode).unwrap();
            },
            Some("d/file is not restored: its permissions are 600"),
        );
        check(
            |tree| {
                fs::remove_file(tree.join("d/link")).unwrap();
                std::os::unix::fs::symlink("e", tree.join("d/link")).unwrap();
            },
            Some("d/link is not restored: it leads elsewhere"),
        );
        check(
            |tree| {
                fs::remove_file(tree.join("d/link")).unwrap();
                fs::write(tree.join("d/link"), "file").unwrap();
            },
            Some("d/link is not restored: it is of another kind"),
        );
    }
}
