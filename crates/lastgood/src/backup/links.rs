//! Hard links: which paths are one file, and its content once it was read.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lastgood_host::HostError;
use lastgood_host::scan::Stat;
use lastgood_repo::format::entry::Entry;
use lastgood_repo::format::limits::PATH_BYTES_MAX;
use lastgood_repo::format::links::Link;

use super::engine::lock;
use super::sorter::Sorter;

/// Files with more than one name that were met so far.
#[derive(Debug)]
pub(super) struct LinkTable(Mutex<Table>);

#[derive(Debug)]
struct Table {
    folder: PathBuf,
    /// Names by file: device, inode, path, and whether it was met or taken back.
    names: Sorter,
    /// The first failure to note a name.
    failure: Option<io::Error>,
    /// What was stored of files, while more names may follow.
    stored: HashMap<(u64, u64), Stored>,
    /// The keys of these, oldest first.
    order: VecDeque<(u64, u64)>,
}

/// What was stored of a file, and the state it was in.
#[derive(Debug)]
struct Stored {
    stat: Stat,
    entry: Entry,
    /// Names that were not met yet, as far as can be known.
    names_left: u64,
}

impl LinkTable {
    /// A table that sorts large numbers of names in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self(Mutex::new(Table {
            names: Sorter::new(folder.to_owned(), SORTER_BYTES),
            folder: folder.to_owned(),
            failure: None,
            stored: HashMap::new(),
            order: VecDeque::new(),
        }))
    }

    /// Notes that `path` is a name of the file; returns what another name of it has stored.
    pub(super) fn meet(&self, stat: &Stat, path: &[u8]) -> Option<Entry> {
        let mut table = lock(&self.0);
        table.note(stat, path, MET);
        let id = stat.file_id();
        let stored = table.stored.get_mut(&id)?;
        stored.names_left = stored.names_left.saturating_sub(1);
        let entry = stat.is_unchanged_since(&stored.stat).then(|| stored.entry.clone());
        if stored.names_left == 0 {
            table.stored.remove(&id);
        }
        entry
    }

    /// Takes `path` back: what was read there is not the file that was met.
    pub(super) fn forget(&self, stat: &Stat, path: &[u8]) {
        lock(&self.0).note(stat, path, TAKEN_BACK);
    }

    /// Notes what was stored of the file. When too much is noted, the oldest is dropped: a file
    /// whose names lie so far apart is read for each.
    pub(super) fn stored(&self, stat: &Stat, entry: &Entry) {
        let mut guard = lock(&self.0);
        let table: &mut Table = &mut guard;
        let id = stat.file_id();
        let len = table.stored.len();
        table.stored.entry(id).or_insert_with(|| Stored {
            stat: *stat,
            entry: entry.clone(),
            names_left: stat.links.saturating_sub(1).into(),
        });
        if table.stored.len() > len {
            table.order.push_back(id);
        }
        while table.order.len() > STORED_MAX {
            if let Some(oldest) = table.order.pop_front() {
                table.stored.remove(&oldest);
            }
        }
    }

    /// Visits the rows of the snapshot's table, sorted by path, and empties this one.
    ///
    /// # Errors
    /// When names could not be sorted, and what `visit` returns.
    pub(super) fn visit_rows<E: From<HostError>>(
        &self,
        mut visit: impl FnMut(Link) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut table = lock(&self.0);
        let failed = {
            let folder = table.folder.clone();
            move |source| HostError { action: "sort hard links in", path: folder.clone(), source }
        };
        if let Some(error) = table.failure.take() {
            return Err(failed(error).into());
        }
        let rows = table.take_rows().map_err(&failed)?;
        drop(table);
        let result = rows.visit(|row| {
            let Some(end) = row.iter().position(|&byte| byte == 0) else { return Ok(()) };
            let (path, leader) = (row[..end].into(), row[end + 1..].into());
            visit(Link { path, leader }).map_err(RowError::Visit)
        });
        result.map_err(|error| match error {
            RowError::Sort(error) => failed(error).into(),
            RowError::Visit(error) => error,
        })
    }
}

impl Table {
    fn note(&mut self, stat: &Stat, path: &[u8], mark: u8) {
        // No reader takes a longer one; it is stored as a file of its own.
        if path.len() > PATH_BYTES_MAX || self.failure.is_some() {
            return;
        }
        let (device, inode) = stat.file_id();
        let file = [device.to_be_bytes(), inode.to_be_bytes()];
        let noted = self.names.push(&[file.as_flattened(), path, &[0, mark]]);
        self.failure = noted.err();
    }

    /// Turns names sorted by file into rows: path, NUL, the first path of the same file.
    fn take_rows(&mut self) -> io::Result<Sorter> {
        self.stored.clear();
        self.order.clear();
        let sorter = || Sorter::new(self.folder.clone(), SORTER_BYTES);
        let (mut rows, names) = (sorter(), std::mem::replace(&mut self.names, sorter()));
        // A name waits for the next string, which may take it back.
        let mut leader: Vec<u8> = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        let mut settle = |last: Option<Vec<u8>>| -> io::Result<()> {
            let Some(name) = last else { return Ok(()) };
            let (file, path) = name.split_at(FILE_ID_BYTES);
            if leader.starts_with(file) {
                rows.push(&[path, &[0], &leader[FILE_ID_BYTES..]])
            } else {
                leader = name;
                Ok(())
            }
        };
        names.visit(|string| -> io::Result<()> {
            let (name, mark) = string.split_at(string.len() - 2);
            if last.as_deref() == Some(name) && mark == [0, MET] {
                Ok(())
            } else if mark == [0, MET] {
                settle(last.replace(name.to_vec()))
            } else {
                last = None;
                Ok(())
            }
        })?;
        settle(last)?;
        Ok(rows)
    }
}

enum RowError<E> {
    Sort(io::Error),
    Visit(E),
}

impl<E> From<io::Error> for RowError<E> {
    fn from(error: io::Error) -> Self {
        Self::Sort(error)
    }
}

/// Marks of a name, in the order in which they must be seen.
const MET: u8 = 0;
const TAKEN_BACK: u8 = 1;
const FILE_ID_BYTES: usize = 16;
/// Memory for sorting names, once by file and once by path.
const SORTER_BYTES: usize = 8 << 20;
/// Files whose content is remembered for their other names: about 10 MiB.
const STORED_MAX: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lastgood_host::scan::Directory;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against a plain map: rows are sorted by path, each with the smallest path of its file.
        #[test]
        fn rows_are_those_of_a_plain_map(
            names in vec((0_u64..20, any::<bool>(), any::<bool>()), 0..200),
            salt in any::<u64>(),
        ) {
            let folder = std::env::temp_dir();
            let stat = Directory::stat_path(&folder).unwrap();
            let table = LinkTable::new(&folder);
            let mut files: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
            for (number, (inode, is_long, is_taken_back)) in names.into_iter().enumerate() {
                let mut stat = stat;
                stat.hint.inode = inode;
                let mixed = (number as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut path = format!("{mixed:016x}").into_bytes();
                path.truncate(if is_long { 16 } else { 15 });
                table.meet(&stat, &path);
                if is_taken_back {
                    table.forget(&stat, &path);
                } else {
                    files.entry(inode).or_default().push(path);
                }
            }
            let mut expected = Vec::new();
            for mut paths in files.into_values() {
                paths.sort();
                let (leader, others) = paths.split_first().unwrap();
                expected.extend(others.iter().map(|path| Link {
                    path: path.clone().into(),
                    leader: leader.clone().into(),
                }));
            }
            expected.sort();
            let mut found = Vec::new();
            table.visit_rows(|row| { found.push(row); Ok::<_, HostError>(()) }).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
