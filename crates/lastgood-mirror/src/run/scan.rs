//! What the source has, and what somebody did to `latest/`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lastgood_format::entry::{Hint, Marks, Node, Timestamp};
use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::scan::{Directory, Kind, ListBuffer, Seen, Stat};

use super::fit::Abilities;
use super::scrub::Slice;
use super::{Choice, Rules, RunOptions, RunReport};
use crate::delta::Manifest;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::Mirror;
use crate::record::{self, At, Path, Present};

/// What the next version is to have at a path.
#[derive(Debug)]
pub(super) enum Wanted {
    /// This; a file's bytes are in `latest/` already.
    Known(Box<Present>),
    /// A file that has to be read.
    Read(Box<Stat>),
    /// A file that looks as it did, to be read all the same: does it hold what it did?
    Check(Box<Present>),
}

/// Why what lies in `latest/` is not what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoiled {
    /// Somebody changed it, or removed it.
    Edited,
    /// Its bytes are others, and nothing else of it is.
    Rotted,
}

/// What the scan found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The next version.
    pub(super) wanted: BTreeMap<Path, Wanted>,
    /// Paths in `latest/` that are not as the manifest says, or not there.
    pub(super) spoiled: BTreeMap<Path, Spoiled>,
    /// Paths in `latest/` that the manifest does not have.
    pub(super) extras: BTreeSet<Path>,
    /// Paths that could not be read.
    pub(super) kept: u64,
    /// What the file system of the mirror can do.
    pub(super) can: Abilities,
    /// Moments from this one on may still be written to without a trace.
    pub(super) racy: Timestamp,
}

impl Found {
    /// Bytes of the files that have to be written, as far as that is known without reading them.
    pub(super) fn bytes_to_read(&self, old: &Manifest) -> u64 {
        let reads = self.wanted.iter().map(|(path, wanted)| match wanted {
            Wanted::Read(stat) if !self.seems_same(old, path, stat) => {
                stat.size.min(stat.allocated_bytes())
            }
            _ => 0,
        });
        reads.sum()
    }

    /// Whether a file probably holds what the mirror has of it, though it has to be read to know.
    pub(super) fn seems_same(&self, old: &Manifest, path: &[u8], stat: &Stat) -> bool {
        old.get(path).is_some_and(|old| {
            let is_there = old.is_file() && old.at != At::Lost;
            is_there && old.size() == stat.size && old.entry.mtime == stat.mtime
        }) && !self.spoiled.contains_key(path)
    }

    /// What a run would do, as far as that is known without reading a file.
    pub(super) fn forecast(&self, old: &Manifest) -> RunReport {
        let mut report = RunReport { kept: self.kept, ..RunReport::default() };
        for (path, wanted) in &self.wanted {
            let size = match wanted {
                Wanted::Read(stat) => stat.size,
                Wanted::Check(present) => present.size(),
                Wanted::Known(present) if present.is_file() => present.size(),
                Wanted::Known(_) => continue,
            };
            report.files += 1;
            report.bytes += size;
            match (wanted, old.get(path).is_some_and(Present::is_file)) {
                (Wanted::Known(_) | Wanted::Check(_), _) => report.unchanged += 1,
                (Wanted::Read(_), true) => report.changed += 1,
                (Wanted::Read(_), false) => report.new += 1,
            }
        }
        let files = old.iter().filter(|(_, present)| present.is_file());
        let is_gone = |path: &Path| match self.wanted.get(path) {
            None => true,
            Some(Wanted::Known(present)) => !present.is_file(),
            Some(Wanted::Read(_) | Wanted::Check(_)) => false,
        };
        report.deleted = files.filter(|(path, _)| is_gone(path)).count() as u64;
        report.bytes_written = self.bytes_to_read(old);
        report.conflicts = self.spoiled.keys().chain(&self.extras).cloned().collect();
        report
    }

    /// What the source looked like, to be believed next time: not what may have changed again in
    /// the same tick of its clock.
    pub(super) fn hint(&self, stat: &Stat) -> Hint {
        let is_racy = stat.mtime.max(stat.hint.ctime) >= self.racy;
        if is_racy { Hint::default() } else { stat.hint }
    }
}

/// Scans.
pub(super) fn scan(
    mirror: &Mirror,
    old: &Manifest,
    slice: &Slice,
    root: &Directory,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<Found, MirrorError> {
    let can = Abilities::of(mirror, options.is_dry)?;
    let racy = Timestamp { seconds: options.now.seconds - RACY_SECONDS, nanos: 0 };
    let mut scan = Scan {
        old,
        slice,
        options,
        rules,
        watch,
        buffer: ListBuffer::new(),
        found: Found { racy, can, ..Found::default() },
    };
    scan.inspect(mirror)?;
    let stat = root.own_stat()?;
    let record = scan.directory_record(b"", &stat, || root.own_details());
    scan.found.wanted.insert(Path::default(), Wanted::Known(record));
    scan.below(b"", root)?;
    Ok(scan.found)
}

struct Scan<'a> {
    old: &'a Manifest,
    slice: &'a Slice,
    options: &'a RunOptions,
    rules: &'a mut dyn Rules,
    watch: &'a dyn Watch,
    buffer: ListBuffer,
    found: Found,
}

impl Scan<'_> {
    /// Compares `latest/` with the manifest, without reading files.
    fn inspect(&mut self, mirror: &Mirror) -> Result<(), MirrorError> {
        let can = self.found.can;
        let known = can.keys(self.old);
        for (path, present) in self.old {
            check(self.watch)?;
            let stat = mirror.place.stat(&layout::latest(path))?;
            if !looks_as(present, stat.as_ref(), can) {
                self.found.spoiled.insert(path.clone(), Spoiled::Edited);
            } else if self.slice.rotted.contains(path) {
                self.found.spoiled.insert(path.clone(), Spoiled::Rotted);
            }
            if !present.entry.is_directory() {
                continue;
            }
            for name in mirror.place.list(&layout::latest(path))? {
                let child = record::join(path, &name);
                let is_known = self.old.get(&child).is_some_and(|present| can.shows(present));
                if !is_known && !known.contains_key(&can.key(&child)) {
                    self.found.extras.insert(child);
                }
            }
        }
        Ok(())
    }

    /// Everything in a directory.
    fn below(&mut self, path: &[u8], directory: &Directory) -> Result<(), MirrorError> {
        check(self.watch)?;
        let listing = match directory.list(&mut self.buffer) {
            Ok(listing) => listing,
            Err(error) => {
                self.unreadable(path, "list", &error);
                self.keep_below(path);
                return Ok(());
            }
        };
        self.rules.enter(path, directory);
        for scanned in directory.scan(&listing) {
            let child = record::join(path, scanned.name);
            match scanned.seen {
                Seen::Vanished => {}
                Seen::Unreadable(error) => {
                    self.unreadable(&child, "examine", &error);
                    self.keep(&child);
                }
                Seen::Stat(stat) => match self.rules.choose(scanned.name, &stat) {
                    Choice::Out => self.excluded(&child),
                    choice => self.entry(&child, directory, scanned.name, &stat, choice)?,
                },
            }
        }
        self.rules.leave();
        Ok(())
    }

    fn entry(
        &mut self,
        path: &[u8],
        parent: &Directory,
        name: &[u8],
        stat: &Stat,
        choice: Choice,
    ) -> Result<(), MirrorError> {
        match stat.kind {
            Kind::File => self.file(path, stat),
            Kind::Directory => {
                let record = self.directory_record(path, stat, || parent.details(name, stat));
                self.found.wanted.insert(path.into(), Wanted::Known(record));
                if choice == Choice::In {
                    match parent.open_child(name) {
                        Ok(directory) => self.below(path, &directory)?,
                        Err(error) if error.is_not_found() => {
                            self.found.wanted.remove(path);
                        }
                        Err(error) => {
                            self.unreadable(path, "open", &error);
                            self.keep_below(path);
                        }
                    }
                }
            }
            Kind::Symlink => match parent.read_link(name) {
                Ok(target) => {
                    self.known(path, stat, Node::Symlink { target }, parent.details(name, stat));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    self.unreadable(path, "read", &error);
                    self.keep(path);
                }
            },
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                if let Some(node) = stat.special_node() {
                    self.known(path, stat, node, parent.details(name, stat));
                }
            }
        }
        Ok(())
    }

    /// A file is believed to be unchanged when all that a writer leaves behind is as it was.
    fn file(&mut self, path: &[u8], stat: &Stat) {
        let same = self.old.get(path).filter(|old| {
            looks_unchanged(old, stat)
                && old.at != At::Lost
                && !self.found.spoiled.contains_key(path)
        });
        let wanted = match same {
            Some(old) => {
                let present = Box::new(Present { link: link(stat), ..old.clone() });
                match self.slice.whole.contains(path) {
                    true => Wanted::Check(present),
                    false => Wanted::Known(present),
                }
            }
            None => Wanted::Read(Box::new(*stat)),
        };
        self.found.wanted.insert(path.into(), wanted);
    }

    fn known(&mut self, path: &[u8], stat: &Stat, node: Node, details: Details) {
        self.tell_unread(path, &details);
        let entry = stat.entry(record::name(path), node, details);
        let hint = self.found.hint(stat);
        let present = Present { entry, at: At::Here(path.into()), link: None, hint };
        self.found.wanted.insert(path.into(), Wanted::Known(Box::new(present)));
    }

    fn directory_record(
        &mut self,
        path: &[u8],
        stat: &Stat,
        details: impl FnOnce() -> Details,
    ) -> Box<Present> {
        let old = self.old.get(path).filter(|old| {
            old.entry.is_directory() && old.hint == stat.hint && old.entry.marks == Marks::NONE
        });
        if let Some(old) = old {
            return Box::new(old.clone());
        }
        let details = details();
        self.tell_unread(path, &details);
        let entry = stat.entry(record::name(path), record::DIRECTORY, details);
        Box::new(Present {
            entry,
            at: At::Here(path.into()),
            link: None,
            hint: self.found.hint(stat),
        })
    }

    /// What cannot be looked at is not deleted: the last good state of it stays, with all below.
    fn keep(&mut self, path: &[u8]) {
        if let Some(old) = self.old.get(path) {
            self.found.kept += 1;
            self.found.wanted.insert(path.into(), Wanted::Known(Box::new(kept(old))));
        }
        self.keep_below(path);
    }

    fn keep_below(&mut self, path: &[u8]) {
        for (path, old) in below(self.old, path) {
            self.found.kept += 1;
            self.found.wanted.insert(path.clone(), Wanted::Known(Box::new(kept(old))));
        }
    }

    /// What rules leave out is not deleted either, unless that was asked for.
    fn excluded(&mut self, path: &[u8]) {
        if self.options.forgets_excluded {
            return;
        }
        let own = self.old.get_key_value(path);
        for (path, old) in own.into_iter().chain(below(self.old, path)) {
            self.found.wanted.insert(path.clone(), Wanted::Known(Box::new(old.clone())));
        }
    }

    fn unreadable(&self, path: &[u8], during: &'static str, error: &HostError) {
        self.watch.trouble(Trouble { path: path.into(), during, message: told(error) });
    }

    fn tell_unread(&self, path: &[u8], details: &Details) {
        for error in &details.unread {
            self.unreadable(path, "read the attributes of", error);
        }
    }
}

/// Whether nothing that a writer leaves behind differs from what was recorded of a file.
pub(super) fn looks_unchanged(old: &Present, stat: &Stat) -> bool {
    old.is_file()
        && old.size() == stat.size
        && old.entry.mtime == stat.mtime
        && old.hint == stat.hint
        && old.entry.marks == Marks::NONE
}

/// All that a manifest has below a path.
pub(super) fn below<'a>(
    manifest: &'a Manifest,
    path: &[u8],
) -> impl Iterator<Item = (&'a Path, &'a Present)> + use<'a> {
    let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
    let rest = manifest.range::<[u8], _>((Bound::Excluded(&prefix[..]), Bound::Unbounded));
    rest.take_while(move |(path, _)| path.starts_with(&prefix))
}

/// The state of a path as it was, because the source could not be read.
pub(super) fn kept(old: &Present) -> Present {
    let mut kept = old.clone();
    kept.entry.marks = kept.entry.marks.with(Marks::KEPT);
    kept.hint = Hint::default();
    kept
}

/// What hard links of one file share.
pub(super) fn link(stat: &Stat) -> Option<(u64, u64)> {
    (stat.links > 1).then(|| stat.file_id())
}

/// Whether what lies in `latest/` can be what a run put there.
pub(super) fn looks_as(present: &Present, stat: Option<&Stat>, can: Abilities) -> bool {
    let Some(stat) = stat else { return !can.shows(present) };
    match present.entry.node {
        Node::File { size, .. } if can.shows(present) => {
            stat.kind == Kind::File
                && stat.size == size
                && is_same_time(present.entry.mtime, stat.mtime)
        }
        Node::Directory { .. } => stat.kind == Kind::Directory,
        Node::Symlink { .. } => stat.kind == Kind::Symlink,
        _ => false,
    }
}

/// Whether a file system may show one time for the other: FAT keeps even seconds only.
fn is_same_time(wanted: Timestamp, shown: Timestamp) -> bool {
    wanted == shown || (shown.nanos == 0 && wanted.seconds.abs_diff(shown.seconds) <= 2)
}

/// A file may be written to again in this time without its stamps showing it: the coarsest clock
/// of a file system (FAT).
const RACY_SECONDS: i64 = 2;
