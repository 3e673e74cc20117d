//! What the source has, and what somebody did to `latest/`.

use std::collections::{BTreeMap, BTreeSet};

use lastgood_format::entry::{Hint, Marks, Node, Timestamp};
use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::scan::{Directory, Kind, ListBuffer, Seen, Stat};

use super::fit::{Abilities, Names, Rivals};
use super::guard::Held;
use super::links::Links;
use super::room::Need;
use super::scrub::Slice;
use super::shown::{Shown, Spoiled, children, tell_fixed};
use super::{Choice, Rules, RunOptions, RunReport};
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::Mirror;
use crate::record::{self, At, Path, Present, State};
use crate::sheet::{Line, Lines, Sheet, SheetWriter, WORDS};

/// What the next version is to have at a path.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Nothing.
    Gone,
    /// This; a file's bytes are in `latest/` already.
    Known(Box<Present>),
    /// A file that has to be read, as it was seen, without its hash.
    Read(Box<Present>),
    /// A file that looks as it did, to be read all the same: does it hold what it did?
    Check(Box<Present>),
}

impl Wanted {
    /// From a line of [`Found::wanted`].
    pub(super) fn parse(sheet: &Sheet, line: &Line) -> Result<Self, MirrorError> {
        let word = line.word();
        let present = match sheet.record(line, WORDS)? {
            State::Absent => return Ok(Self::Gone),
            State::Present(present) => present,
        };
        match word {
            KNOWN => Ok(Self::Known(present)),
            READ => Ok(Self::Read(present)),
            CHECK => Ok(Self::Check(present)),
            _ => Err(sheet.bad_line(line.start)),
        }
    }

    /// Whether a line is of a file that has to be read.
    pub(super) fn is_read(line: &Line) -> bool {
        [READ, CHECK].contains(&line.word())
    }

    fn split(self) -> (&'static [u8], State) {
        match self {
            Self::Gone => (GONE, State::Absent),
            Self::Known(present) => (KNOWN, State::Present(present)),
            Self::Read(present) => (READ, State::Present(present)),
            Self::Check(present) => (CHECK, State::Present(present)),
        }
    }
}

/// What the scan found.
#[derive(Debug)]
pub(super) struct Found {
    /// Where the next version differs from the newest, or what lies there has to be set right.
    pub(super) wanted: Sheet,
    /// Paths in `latest/` that are not as the manifest says, or not there.
    pub(super) spoiled: BTreeMap<Path, Spoiled>,
    /// Paths in `latest/` that the manifest does not have.
    pub(super) extras: BTreeSet<Path>,
    /// Paths of the newest version that are other names of others, each with that.
    pub(super) masked: BTreeMap<Path, Path>,
    /// Files of more than one name.
    pub(super) links: Links,
    /// What a run would do, as far as that is known without reading a file.
    pub(super) forecast: RunReport,
    /// What of the next version the newest one has just so.
    pub(super) same: Same,
    /// What the guard looks at.
    pub(super) held: Held,
    /// Files that have to be read, and their bytes.
    pub(super) reads: (u64, u64),
    /// What it takes of the room that the mirror has.
    pub(super) need: Need,
    /// What the file system of the mirror can do.
    pub(super) can: Abilities,
    /// Moments from this one on may still be written to without a trace.
    pub(super) racy: Timestamp,
}

/// What did not change.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Same {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Paths of which an older state had been kept, and is still.
    pub(super) kept: u64,
    pub(super) symlinks: u64,
}

impl Found {
    /// What the source looked like, to be believed next time: not what may have changed again in
    /// the same tick of its clock.
    pub(super) fn hint(&self, stat: &Stat) -> Hint {
        hint(stat, self.racy)
    }
}

fn hint(stat: &Stat, racy: Timestamp) -> Hint {
    if stat.mtime.max(stat.hint.ctime) >= racy { Hint::default() } else { stat.hint }
}

/// Whether a file probably holds what the mirror has of it, though it has to be read to know.
pub(super) fn seems_same(old: Option<&Present>, is_spoiled: bool, seen: &Present) -> bool {
    old.is_some_and(|old| {
        let is_there = old.is_file() && old.at != At::Lost;
        is_there && old.size() == seen.size() && old.entry.mtime == seen.entry.mtime
    }) && !is_spoiled
}

/// Scans.
pub(super) fn scan(
    mirror: &Mirror,
    old: &Sheet,
    slice: &Slice,
    root: &Directory,
    options: &RunOptions,
    rules: &mut dyn Rules,
    watch: &dyn Watch,
) -> Result<Found, MirrorError> {
    let can = Abilities::of(mirror, options.is_dry)?;
    let racy = Timestamp { seconds: options.now.seconds - RACY_SECONDS, nanos: 0 };
    let mut scan = Scan {
        mirror,
        manifest: old,
        old: old.lines(),
        slice,
        options,
        rules,
        watch,
        can,
        racy,
        buffer: ListBuffer::new(),
        names: Names::new(mirror),
        shown: Shown::new(mirror, old, slice, watch, can),
        out: SheetWriter::new(&*mirror.place, layout::stage("wanted"), "wanted", WORDS),
        masked: BTreeMap::new(),
        links: Links::default(),
        forecast: RunReport::default(),
        same: Same::default(),
        held: Held { files: 0, deleted: 0, changed: 0, is_other_root: false },
        reads: (0, 0),
        need: Need::default(),
        data: 0,
    };
    let stat = root.own_stat()?;
    let was = scan.reach(b"")?;
    let record = scan.directory_record(b"", was.as_ref(), &stat, || root.own_details());
    scan.put(b"", was.as_ref(), Wanted::Known(record))?;
    scan.below(b"", root)?;
    scan.finish()
}

struct Scan<'a> {
    mirror: &'a Mirror,
    manifest: &'a Sheet,
    /// What of the newest version was not looked at yet.
    old: Lines<'a>,
    slice: &'a Slice,
    options: &'a RunOptions,
    rules: &'a mut dyn Rules,
    watch: &'a dyn Watch,
    can: Abilities,
    racy: Timestamp,
    buffer: ListBuffer,
    names: Names<'a>,
    shown: Shown<'a>,
    out: SheetWriter<'a>,
    /// Names that another one has in the mirror, each with that one.
    masked: BTreeMap<Path, Path>,
    links: Links,
    forecast: RunReport,
    same: Same,
    held: Held,
    reads: (u64, u64),
    need: Need,
    /// What a file has to be given room for that was looked at last.
    data: u64,
}

/// What is done with all that lies below a path, when its turn in the order comes.
enum Later {
    /// It is looked at.
    Enter(Directory),
    /// The last good state of it stays: it could not be looked at.
    Keep,
    /// It stays as it was: rules leave it out.
    Leave,
}

impl Scan<'_> {
    fn finish(mut self) -> Result<Found, MirrorError> {
        while let Some(line) = self.old.next().transpose()? {
            self.gone(&line)?;
        }
        self.shown.settle(None)?;
        let forecast = &mut self.forecast;
        forecast.conflicts = self.shown.spoiled.keys().chain(&self.shown.extras).cloned().collect();
        Ok(Found {
            wanted: self.out.finish()?,
            spoiled: self.shown.spoiled,
            extras: self.shown.extras,
            masked: self.masked,
            links: self.links,
            forecast: self.forecast,
            same: self.same,
            held: self.held,
            reads: self.reads,
            need: self.need,
            can: self.can,
            racy: self.racy,
        })
    }

    /// What the newest version has at a path. All that it has before that was not in the source.
    fn reach(&mut self, path: &[u8]) -> Result<Option<Present>, MirrorError> {
        while let Some(line) = self.old.peek()? {
            if *line.path >= *path {
                break;
            }
            let line = line.clone();
            self.old.next().transpose()?;
            self.gone(&line)?;
        }
        match self.old.reach(path)? {
            Some(line) => self.was(&line).map(Some),
            None => Ok(None),
        }
    }

    /// What the newest version has below a path; all before that was not in the source.
    fn next_below(&mut self, path: &[u8]) -> Result<Option<(Path, Present)>, MirrorError> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        while let Some(line) = self.old.peek()? {
            let is_below = line.path.starts_with(&prefix);
            if !is_below && *line.path > *prefix {
                break;
            }
            let line = line.clone();
            self.old.next().transpose()?;
            if is_below {
                let was = self.was(&line)?;
                return Ok(Some((line.path, was)));
            }
            self.gone(&line)?;
        }
        Ok(None)
    }

    fn gone(&mut self, line: &Line) -> Result<(), MirrorError> {
        let was = self.was(line)?;
        self.put(&line.path, Some(&was), Wanted::Gone)
    }

    fn was(&mut self, line: &Line) -> Result<Present, MirrorError> {
        check(self.watch)?;
        match self.manifest.state(line)? {
            State::Present(present) => {
                self.shown.meet(&line.path, &present)?;
                Ok(*present)
            }
            State::Absent => Err(self.manifest.bad_line(line.start)),
        }
    }

    /// What the next version can have at a path: where nobody can change what `latest/` shows, that
    /// stays, and is told. `None` where nothing comes to be.
    fn possible(&mut self, path: &[u8], was: Option<&Present>, wanted: Wanted) -> Option<Wanted> {
        if self.shown.fixed.is_empty() {
            return Some(wanted);
        }
        if was.is_none() && self.shown.fixed.is_below_missing(path) {
            return None;
        }
        let is = match &wanted {
            Wanted::Gone => None,
            Wanted::Known(is) | Wanted::Read(is) | Wanted::Check(is) => Some(&**is),
        };
        let is_directory = |it: Option<&Present>| it.is_some_and(|it| it.entry.is_directory());
        let stays_directory = is_directory(was) && is_directory(is);
        let why = match stays_directory {
            // What a directory looks like is its own.
            true => self.shown.fixed.why_itself(path),
            false => self.shown.fixed.why(path),
        };
        let Some(why) = why.map(str::to_owned) else { return Some(wanted) };
        let is_spoiled = self.shown.spoiled.remove(path).is_some();
        let is_same = matches!(&wanted, Wanted::Known(is) | Wanted::Check(is) if was == Some(is));
        if is_same && !is_spoiled {
            return Some(wanted);
        }
        tell_fixed(self.watch, path, &why);
        if is_directory(is) && !stays_directory {
            self.shown.fixed.miss(path);
        }
        self.forecast.kept += u64::from(was.is_some());
        was.map(|was| Wanted::Known(Box::new(kept(was))))
    }

    /// Notes what the next version is to have at a path.
    fn put(
        &mut self,
        path: &[u8],
        was: Option<&Present>,
        wanted: Wanted,
    ) -> Result<(), MirrorError> {
        let Some(wanted) = self.possible(path, was, wanted) else { return Ok(()) };
        let is_spoiled = was.is_some() && self.shown.spoiled.contains_key(path);
        self.tally(was, &wanted, is_spoiled);
        let is = match &wanted {
            Wanted::Gone => None,
            Wanted::Known(is) | Wanted::Read(is) | Wanted::Check(is) => Some(&**is),
        };
        let is_there = matches!(wanted, Wanted::Known(_) | Wanted::Check(_));
        let data = std::mem::take(&mut self.data);
        self.need.add(path, was, &wanted, data, self.options.room);
        self.links.meet(path, was, is, is_there);
        if let (Wanted::Known(is), Some(was)) = (&wanted, was)
            && **is == *was
            && !is_spoiled
        {
            self.same.kept += u64::from(was.entry.marks.contains(Marks::KEPT));
            self.same.symlinks += u64::from(matches!(was.entry.node, Node::Symlink { .. }));
            if was.is_file() {
                self.same.files += 1;
                self.same.bytes += was.size();
            }
            return Ok(());
        }
        // A dry run has the numbers, and writes nothing.
        if self.options.is_dry {
            return Ok(());
        }
        let (word, state) = wanted.split();
        self.out.record(&[word, b""], path, &state)
    }

    fn tally(&mut self, was: Option<&Present>, wanted: &Wanted, is_spoiled: bool) {
        let (held, forecast) = (&mut self.held, &mut self.forecast);
        let was_file = was.is_some_and(Present::is_file);
        held.files += u64::from(was_file);
        let is = match wanted {
            Wanted::Known(is) | Wanted::Read(is) | Wanted::Check(is) if is.is_file() => is,
            _ => {
                held.deleted += u64::from(was_file);
                forecast.deleted += u64::from(was_file);
                return;
            }
        };
        forecast.files += 1;
        forecast.bytes += is.size();
        match wanted {
            Wanted::Read(_) if was_file => {
                forecast.changed += 1;
                held.changed += u64::from(!is_spoiled);
            }
            Wanted::Read(_) => forecast.new += 1,
            _ => forecast.unchanged += 1,
        }
        if matches!(wanted, Wanted::Read(_)) {
            self.reads.0 += 1;
            self.reads.1 += is.size();
        }
    }

    /// Everything in a directory.
    fn below(&mut self, path: &[u8], directory: &Directory) -> Result<(), MirrorError> {
        check(self.watch)?;
        let listing = match directory.list(&mut self.buffer) {
            Ok(listing) => listing,
            Err(error) => {
                self.unreadable(path, "list", &error);
                return self.keep_below(path);
            }
        };
        self.rules.enter(path, directory);
        let mut rivals = match self.options.is_dry {
            true => Rivals::default(),
            false => Rivals::among(self.mirror, self.can, &listing)?,
        };
        // What lies below `a` comes after `a-x`.
        let mut later: BTreeMap<Path, Later> = BTreeMap::new();
        for scanned in directory.scan(&listing) {
            while let Some((name, then)) = first_before(&mut later, scanned.name) {
                self.later(&record::join(path, &name), then)?;
            }
            let child = record::join(path, scanned.name);
            let then = match scanned.seen {
                Seen::Vanished => None,
                Seen::Unreadable(error) => {
                    self.unreadable(&child, "examine", &error);
                    self.keep(&child)?
                }
                Seen::Stat(stat) => match self.rules.choose(scanned.name, &stat) {
                    Choice::Out => self.excluded(&child)?,
                    choice => self.entry(&child, directory, &stat, choice, &mut rivals)?,
                },
            };
            later.extend(then.map(|then| ([scanned.name, b"/"].concat().into(), then)));
        }
        while let Some((name, then)) = later.pop_first() {
            self.later(&record::join(path, &name[..name.len() - 1]), then)?;
        }
        self.rules.leave();
        Ok(())
    }

    fn later(&mut self, path: &[u8], then: Later) -> Result<(), MirrorError> {
        match then {
            Later::Enter(directory) => self.below(path, &directory),
            Later::Keep => self.keep_below(path),
            Later::Leave => {
                while let Some((path, was)) = self.next_below(path)? {
                    self.put(&path, Some(&was), Wanted::Known(Box::new(was.clone())))?;
                }
                Ok(())
            }
        }
    }

    /// Whether the mirror can hold a name; what was there first keeps it.
    fn fits(
        &mut self,
        path: &[u8],
        was: Option<&Present>,
        rivals: &mut Rivals,
    ) -> Result<bool, MirrorError> {
        if self.options.is_dry {
            return Ok(true);
        }
        let (parent, name) = (record::parent(path).unwrap_or_default(), record::name(path));
        let holder = rivals.holder(name, || children(self.manifest, parent))?;
        let message = if let Some(holder) = holder.filter(|holder| ***holder != *name) {
            if was.is_some() {
                self.masked.insert(path.into(), record::join(parent, holder));
            }
            "the mirror's file system takes it and another name for one"
        } else if was.is_none() && !self.names.fit(name)? {
            "the mirror's file system does not allow its name"
        } else {
            return Ok(true);
        };
        let (path, during) = (path.into(), "mirror");
        self.watch.trouble(Trouble { path, during, message: message.to_owned() });
        Ok(false)
    }

    fn entry(
        &mut self,
        path: &[u8],
        parent: &Directory,
        stat: &Stat,
        choice: Choice,
        rivals: &mut Rivals,
    ) -> Result<Option<Later>, MirrorError> {
        let was = self.reach(path)?;
        let (was, name) = (was.as_ref(), record::name(path));
        if !self.fits(path, was, rivals)? {
            if let Some(was) = was {
                self.put(path, Some(was), Wanted::Gone)?;
            }
            return Ok(None);
        }
        let wanted = match stat.kind {
            Kind::File => self.file(path, was, stat),
            Kind::Directory => return self.directory(path, was, parent, stat, choice),
            Kind::Symlink => match parent.read_link(name) {
                Ok(target) => {
                    self.known(path, stat, Node::Symlink { target }, parent.details(name, stat))
                }
                Err(error) if error.is_not_found() => Wanted::Gone,
                Err(error) => {
                    self.unreadable(path, "read", &error);
                    return self.keep_was(path, was);
                }
            },
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                match stat.special_node() {
                    Some(node) => self.known(path, stat, node, parent.details(name, stat)),
                    None => Wanted::Gone,
                }
            }
        };
        if was.is_some() || !matches!(wanted, Wanted::Gone) {
            self.put(path, was, wanted)?;
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        path: &[u8],
        was: Option<&Present>,
        parent: &Directory,
        stat: &Stat,
        choice: Choice,
    ) -> Result<Option<Later>, MirrorError> {
        let name = record::name(path);
        let then = match choice {
            Choice::In => match parent.open_child(name) {
                Ok(directory) => Some(Later::Enter(directory)),
                Err(error) if error.is_not_found() => {
                    return match was {
                        Some(was) => self.put(path, Some(was), Wanted::Gone).map(|()| None),
                        None => Ok(None),
                    };
                }
                Err(error) => {
                    self.unreadable(path, "open", &error);
                    Some(Later::Keep)
                }
            },
            Choice::Shallow | Choice::Out => None,
        };
        let record = self.directory_record(path, was, stat, || parent.details(name, stat));
        self.put(path, was, Wanted::Known(record))?;
        Ok(then)
    }

    /// A file is believed to be unchanged when all that a writer leaves behind is as it was.
    fn file(&mut self, path: &[u8], was: Option<&Present>, stat: &Stat) -> Wanted {
        let same = was.filter(|was| {
            looks_unchanged(was, stat)
                && was.at != At::Lost
                && !self.shown.spoiled.contains_key(path)
        });
        match same {
            Some(was) => {
                let present = Box::new(Present { link: link(stat), ..was.clone() });
                match self.slice.is_whole(path) {
                    true => Wanted::Check(present),
                    false => Wanted::Known(present),
                }
            }
            None => {
                let seen = seen(path, stat);
                let is_spoiled = self.shown.spoiled.contains_key(path);
                // Other names of a file take no room of their own.
                if !seems_same(was, is_spoiled, &seen) && !self.links.knows(seen.link) {
                    self.data = data_bytes(stat);
                    self.forecast.bytes_written += self.data;
                    self.data = self.data.max(1);
                }
                Wanted::Read(Box::new(seen))
            }
        }
    }

    fn known(&self, path: &[u8], stat: &Stat, node: Node, details: Details) -> Wanted {
        self.tell_unread(path, &details);
        let entry = stat.entry(record::name(path), node, details);
        let hint = hint(stat, self.racy);
        Wanted::Known(Box::new(Present { entry, at: At::Here(path.into()), link: None, hint }))
    }

    fn directory_record(
        &self,
        path: &[u8],
        was: Option<&Present>,
        stat: &Stat,
        details: impl FnOnce() -> Details,
    ) -> Box<Present> {
        let same = was.filter(|was| {
            was.entry.is_directory() && was.hint == stat.hint && was.entry.marks == Marks::NONE
        });
        if let Some(was) = same {
            return Box::new(was.clone());
        }
        let details = details();
        self.tell_unread(path, &details);
        let entry = stat.entry(record::name(path), record::DIRECTORY, details);
        let at = At::Here(path.into());
        Box::new(Present { entry, at, link: None, hint: hint(stat, self.racy) })
    }

    /// What cannot be looked at is not deleted: the last good state of it stays, with all below.
    fn keep(&mut self, path: &[u8]) -> Result<Option<Later>, MirrorError> {
        let was = self.reach(path)?;
        self.keep_was(path, was.as_ref())
    }

    fn keep_was(
        &mut self,
        path: &[u8],
        was: Option<&Present>,
    ) -> Result<Option<Later>, MirrorError> {
        let Some(was) = was else { return Ok(None) };
        self.forecast.kept += 1;
        self.put(path, Some(was), Wanted::Known(Box::new(kept(was))))?;
        Ok(Some(Later::Keep))
    }

    fn keep_below(&mut self, path: &[u8]) -> Result<(), MirrorError> {
        while let Some((path, was)) = self.next_below(path)? {
            self.forecast.kept += 1;
            self.put(&path, Some(&was), Wanted::Known(Box::new(kept(&was))))?;
        }
        Ok(())
    }

    /// What rules leave out is not deleted either, unless that was asked for.
    fn excluded(&mut self, path: &[u8]) -> Result<Option<Later>, MirrorError> {
        let Some(was) = self.reach(path)? else { return Ok(None) };
        if self.options.forgets_excluded {
            return self.put(path, Some(&was), Wanted::Gone).map(|()| None);
        }
        self.put(path, Some(&was), Wanted::Known(Box::new(was.clone())))?;
        Ok(Some(Later::Leave))
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

/// What comes before a name, without the slash that put it in its place.
fn first_before(later: &mut BTreeMap<Path, Later>, name: &[u8]) -> Option<(Path, Later)> {
    let first = later.first_entry().filter(|first| **first.key() < *name)?;
    let (name, then) = first.remove_entry();
    Some((name[..name.len() - 1].into(), then))
}

/// How much of a file is no hole, as far as can be told without opening it: what the file system of
/// the source compresses counts for less than it takes.
const fn data_bytes(stat: &Stat) -> u64 {
    match stat.is_sparse() && stat.size >= HOLEY_BYTES_MIN {
        true => stat.allocated_bytes(),
        false => stat.size,
    }
}

/// A file as it was seen, before it is read.
fn seen(path: &[u8], stat: &Stat) -> Present {
    let node = record::content(stat.size, [0; 32]);
    let entry = stat.entry(record::name(path), node, Details::default());
    Present { entry, at: At::Here(path.into()), link: link(stat), hint: stat.hint }
}

/// Whether nothing that a writer leaves behind differs from what was recorded of a file.
pub(super) fn looks_unchanged(old: &Present, stat: &Stat) -> bool {
    old.is_file()
        && old.size() == stat.size
        && old.entry.mtime == stat.mtime
        && old.hint == stat.hint
        && old.entry.marks == Marks::NONE
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

pub(super) const GONE: &[u8] = b"gone";
pub(super) const KNOWN: &[u8] = b"known";
pub(super) const READ: &[u8] = b"read";
pub(super) const CHECK: &[u8] = b"check";
/// Holes of shorter files are not worth to be looked for.
const HOLEY_BYTES_MIN: u64 = 64 << 10;
/// A file may be written to again in this time without its stamps showing it: the coarsest clock
/// of a file system (FAT).
const RACY_SECONDS: i64 = 2;
