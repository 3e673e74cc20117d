//! Reading what is new into the stage, where nobody looks yet.

use lastgood_format::entry::{Content, Entry, Hint, Marks, Node};
use lastgood_host::HostError;
use lastgood_host::scan::{Directory, Stat};
use lastgood_host::source::{SourceError, SourceFile, Stability};
use lastgood_host::target::TargetFile;

use super::ahead::{self, Ahead, Parents, Whole};
use super::gone::Gone;
use super::intake::Taken;
use super::scan::{self, Found, Wanted};
use super::staged::{BUILT, How, MOVED, PUT, Staged};
use super::{RunOptions, RunReport};
use crate::above::Above;
use crate::content::{self, Copied, CopyError};
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::index::Index;
use crate::layout;
use crate::mirror::Mirror;
use crate::place;
use crate::record::{self, At, Path, Present, State};
use crate::sheet::{Sheet, SheetWriter, WORDS};

/// How a file was read.
struct Read {
    present: Present,
    /// Where its bytes are in the stage; `None` when they were only hashed.
    stage: Option<Path>,
    /// That, if it was made just now.
    file: Option<TargetFile>,
    /// Whether that is another name of bytes that were there: they look as they should.
    is_link: bool,
}

impl Read {
    /// Whether other bytes were read than recorded, and nothing else of the file differs.
    fn is_rotted(&self, old: &Present) -> bool {
        let is_known = old.hint != Hint::default() && old.hint == self.present.hint;
        is_known
            && old.entry.mtime == self.present.entry.mtime
            && old.size() == self.present.size()
            && self.present.entry.marks == Marks::NONE
            && old.entry.node != self.present.entry.node
    }
}

/// Reads all that has to be read.
pub(super) fn stage(
    mirror: &Mirror,
    old: &Sheet,
    mut found: Found,
    taken: &Taken,
    root: &Directory,
    options: &RunOptions,
    watch: &dyn Watch,
) -> Result<Staged, MirrorError> {
    watch.total(found.reads.0, found.reads.1);
    let wanted = std::mem::take(&mut found.wanted);
    let report = RunReport { kept: found.forecast.kept, ..RunReport::default() };
    let writer = |name| SheetWriter::new(&*mirror.place, layout::stage(name), "staged", WORDS);
    let mut stage = Stage {
        mirror,
        root,
        options,
        watch,
        found,
        taken,
        report,
        unshown: 0,
        out: writer("known"),
        trees: Above::default(),
        count: 0,
        moved: Index::default(),
        ahead: None,
        parents: Parents::default(),
    };
    // What had this name before comes first: only then it is known which files have gone.
    stage.beside_a_reader(&wanted, |stage| stage.known_all(old, &wanted))?;
    let known = std::mem::replace(&mut stage.out, writer("staged")).finish()?;
    let mut gone = Gone::new(old, &known, &stage.found.spoiled)?;
    stage.trees = Above::default();
    stage.beside_a_reader(&known, |stage| stage.fresh_all(old, &known, &mut gone))?;
    let staged = stage.finish()?;
    drop(known);
    Ok(staged)
}

struct Stage<'a> {
    mirror: &'a Mirror,
    root: &'a Directory,
    options: &'a RunOptions,
    watch: &'a dyn Watch,
    found: Found,
    /// What somebody else has read.
    taken: &'a Taken,
    report: RunReport,
    /// Symbolic links that are in the records only.
    unshown: u64,
    out: SheetWriter<'a>,
    /// Directories that are new, with where they are built: they are put in place whole.
    trees: Above<Path>,
    count: u64,
    /// Files that go elsewhere in `latest/`: where a line says so, by the path before.
    moved: Index,
    /// Files that were read already.
    ahead: Option<Ahead>,
    parents: Parents,
}

impl Stage<'_> {
    /// Works while another thread reads ahead what a sheet wants read.
    fn beside_a_reader(
        &mut self,
        wanted: &Sheet,
        work: impl FnOnce(&mut Self) -> Result<(), MirrorError>,
    ) -> Result<(), MirrorError> {
        let (ahead, to) = Ahead::new();
        let (root, taken) = (self.root, self.taken);
        std::thread::scope(|scope| {
            self.ahead = Some(ahead);
            // Without the thread everything is read when its turn comes.
            let reader = std::thread::Builder::new();
            drop(reader.spawn_scoped(scope, move || ahead::read(root, wanted, taken, &to)));
            let worked = work(self);
            self.ahead = None;
            worked
        })
    }

    /// All but the files that have a new name.
    fn known_all(&mut self, old: &Sheet, wanted: &Sheet) -> Result<(), MirrorError> {
        let mut before = old.lines();
        for line in wanted.lines() {
            let line = line?;
            let path = &line.path;
            let was = match before.reach(path)? {
                Some(line) => old.state(&line)?.present().cloned(),
                None => None,
            };
            self.trees.pass(Some(path));
            match Wanted::parse(wanted, &line)? {
                Wanted::Gone => self.out.copy(&line)?,
                Wanted::Known(present) => self.entry(path, was.as_ref(), *present)?,
                Wanted::Check(present) => self.check(path, *present)?,
                Wanted::Read(seen) => match &was {
                    Some(was) if was.is_file() => {
                        let is_spoiled = self.is_spoiled(path);
                        let seems_same = scan::seems_same(Some(was), is_spoiled, &seen);
                        self.known(path, was, seen.link, seems_same)?;
                    }
                    _ => self.out.copy(&line)?,
                },
            }
        }
        Ok(())
    }

    /// The files that have a new name.
    fn fresh_all(
        &mut self,
        old: &Sheet,
        known: &Sheet,
        gone: &mut Gone<'_>,
    ) -> Result<(), MirrorError> {
        let mut before = old.lines();
        for line in known.lines() {
            let line = line?;
            self.trees.pass(Some(&line.path));
            match How::parse(known, &line)? {
                How::Read => {
                    let State::Present(seen) = known.record(&line, WORDS)? else { continue };
                    let was = match before.reach(&line.path)? {
                        Some(line) => old.state(&line)?.present().cloned(),
                        None => None,
                    };
                    self.fresh(&line.path, was.as_ref(), &seen, gone)?;
                    continue;
                }
                How::Put(at) if line.is_directory() => self.trees.enter(line.path.clone(), at),
                _ => {}
            }
            self.out.copy(&line)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Staged, MirrorError> {
        self.unshown += self.found.same.symlinks;
        if !self.found.can.has_symlinks && self.unshown > 0 {
            self.report.unset.push(("symlink".to_owned(), self.unshown));
        }
        let Self { mirror, found, mut report, out, moved, .. } = self;
        let sheet = out.finish()?;
        // What was built looks as it should when everything is in it.
        for line in sheet.reversed() {
            let line = line?;
            if !line.is_directory() {
                continue;
            }
            if let How::Put(at) | How::Built(at) = How::parse(&sheet, &line)?
                && let State::Present(present) = sheet.record(&line, WORDS)?
            {
                let unset = mirror.place.look(&at, &present.entry)?;
                place::count_unset(&mut report.unset, unset);
            }
        }
        Ok(Staged {
            sheet,
            moved: moved.sort(),
            spoiled: found.spoiled,
            extras: found.extras,
            masked: found.masked,
            links: found.links,
            same: found.same,
            can: found.can,
            report,
        })
    }

    fn is_spoiled(&self, path: &[u8]) -> bool {
        self.found.spoiled.contains_key(path)
    }

    fn note(&mut self, how: &[u8], at: &[u8], present: Present) -> Result<(), MirrorError> {
        let path = match &present.at {
            At::Here(path) | At::Next(path) => path.clone(),
            At::Lost => return Err(MirrorError::Missing(at.into())),
        };
        self.out.record(&[how, at], &path, &State::Present(Box::new(present)))
    }

    /// What is no file that has to be read.
    fn entry(
        &mut self,
        path: &Path,
        was: Option<&Present>,
        mut present: Present,
    ) -> Result<(), MirrorError> {
        let is_spoiled = self.is_spoiled(path);
        let (mut how, mut at) = (scan::KNOWN, Path::default());
        match &present.entry.node {
            // Somebody changed it in `latest/`, and rules leave it out, or nobody could read it.
            Node::File { .. } if is_spoiled => present.at = At::Lost,
            Node::Directory { .. } => {
                let is_below = self.trees.any(path).is_some();
                let is_new = !was.is_some_and(|was| was.entry.is_directory());
                // Where names are blind, a directory of another name may be the same.
                if is_below || (is_new && !path.is_empty() && !self.found.can.folds()) {
                    how = if is_below { BUILT } else { PUT };
                    at = self.next(path);
                    self.mirror.place.make_directory(&at)?;
                }
                if how == PUT {
                    self.trees.enter(path.clone(), at.clone());
                }
            }
            Node::Symlink { .. } if !self.found.can.has_symlinks => self.unshown += 1,
            Node::Symlink { target } => {
                let is_same = was.is_some_and(|was| was.entry.node == present.entry.node);
                if !is_same || is_spoiled {
                    how = self.put_word(path);
                    at = self.next(path);
                    self.mirror.place.make_symlink(&at, target)?;
                    let unset = self.mirror.place.look(&at, &present.entry)?;
                    place::count_unset(&mut self.report.unset, unset);
                }
            }
            _ => {}
        }
        self.out.record(&[how, &at], path, &State::Present(Box::new(present)))
    }

    /// Whether what is staged for a path is put in place, or is in a directory that is.
    fn put_word(&self, path: &[u8]) -> &'static [u8] {
        if self.trees.any(path).is_some() { BUILT } else { PUT }
    }

    /// A file that looks as it did, and whose bytes in the mirror are as they were.
    fn check(&mut self, path: &Path, present: Present) -> Result<(), MirrorError> {
        let Some(read) = self.read(path, Some(&present), present.link, false)? else {
            return Ok(());
        };
        if read.is_rotted(&present) {
            self.alarm(path);
        } else if read.present.entry.node != present.entry.node {
            // It was written to since it was looked at.
            return self.known(path, &present, None, false);
        }
        self.watch.file(path);
        self.note(scan::KNOWN, b"", present)
    }

    /// The source holds other bytes than it did, and nobody wrote them.
    fn alarm(&mut self, path: &Path) {
        let message = "its bytes are others than recorded, and no time of it changed: it rotted";
        let (path, during) = (path.clone(), "compare the source of");
        self.report.source_rotted.push(path.clone());
        self.watch.trouble(Trouble { path, during, message: message.to_owned() });
    }

    /// A file that was a file before: perhaps only touched.
    fn known(
        &mut self,
        path: &Path,
        was: &Present,
        link: Option<(u64, u64)>,
        seems_same: bool,
    ) -> Result<(), MirrorError> {
        let read = match self.linked(path, link)? {
            None => self.read(path, Some(was), link, !seems_same)?,
            linked => linked,
        };
        let Some(read) = read else { return Ok(()) };
        if read.is_rotted(was) && !read.is_link {
            // The mirror has nothing better, or it had not been read.
            self.alarm(path);
        }
        let is_same = was.entry.node == read.present.entry.node
            && was.at != At::Lost
            && !self.is_spoiled(path)
            && !self.found.links.part(path, was.link, read.present.link);
        if is_same {
            if let Some(stage) = read.stage {
                self.mirror.place.remove(&stage)?;
            }
            self.found.links.add(layout::latest(path), &read.present);
            self.note(scan::KNOWN, b"", read.present)?;
        } else if read.stage.is_none() {
            // It only seemed to be the same, or has to be a file of its own from now on.
            return self.known(path, was, None, false);
        } else {
            self.put(path, read)?;
        }
        self.watch.file(path);
        Ok(())
    }

    /// A file under a new name: perhaps one that had another name before.
    fn fresh(
        &mut self,
        path: &Path,
        was: Option<&Present>,
        seen: &Present,
        gone: &mut Gone<'_>,
    ) -> Result<(), MirrorError> {
        if let Some(read) = self.linked(path, seen.link)? {
            self.put(path, read)?;
            self.watch.file(path);
            return Ok(());
        }
        let is_kept = !gone.is_likely(seen);
        let Some(mut read) = self.read(path, was, seen.link, is_kept)? else { return Ok(()) };
        let copied = copied(&read.present);
        let from = gone
            .take(&copied)?
            .filter(|(from, was)| !self.found.links.part(from, was.link, read.present.link));
        if let Some((from, _)) = from
            && self.is_whole(&from, &copied)
        {
            if let Some(stage) = read.stage.take() {
                self.mirror.place.remove(&stage)?;
            }
            self.found.links.add(layout::latest(&from), &read.present);
            self.moved.add(&*from, self.out.len());
            self.note(MOVED, &from, read.present)?;
        } else {
            if read.stage.is_none() {
                // It only looked like one that moved.
                let Some(again) = self.read(path, was, None, true)? else { return Ok(()) };
                read = again;
            }
            self.put(path, read)?;
        }
        self.watch.file(path);
        Ok(())
    }

    /// Whether the mirror still has the bytes that it should have, and can read them.
    fn is_whole(&self, path: &Path, copied: &Copied) -> bool {
        if !self.options.verifies_outgoing {
            return true;
        }
        let hash = content::hash(&*self.mirror.place, &layout::latest(path));
        hash.is_ok_and(|hash| hash == Some(copied.hash))
    }

    /// Another name of a file whose bytes are there already; `None` when they are not, or the file
    /// system has no hard links.
    fn linked(
        &mut self,
        path: &Path,
        link: Option<(u64, u64)>,
    ) -> Result<Option<Read>, MirrorError> {
        let Some((from, first)) = self.found.links.get(link) else { return Ok(None) };
        let stage = self.next(path);
        match self.mirror.place.link(&from, &stage) {
            Err(error) if error.is_no_link() || error.is_not_found() => return Ok(None),
            linked => linked?,
        }
        let name = record::name(path).into();
        let entry = Entry { name, ..first.entry };
        let present = Present { entry, at: At::Here(path.clone()), ..first };
        Ok(Some(Read { present, stage: Some(stage), file: None, is_link: true }))
    }

    /// Where something is staged: at its own place in a directory that is new.
    fn next(&mut self, path: &[u8]) -> Path {
        if let Some((root, stage)) = self.trees.any(path) {
            return [stage, &path[root.len()..]].concat().into();
        }
        self.count += 1;
        layout::stage(&self.count.to_string())
    }

    fn put(&mut self, path: &Path, read: Read) -> Result<(), MirrorError> {
        let Some(stage) = read.stage else { return self.note(scan::KNOWN, b"", read.present) };
        // A link looks as the file does, which may lie in `latest/` and be changed later only.
        if !read.is_link {
            let unset = match &read.file {
                Some(file) => self.mirror.place.dress(&stage, file, &read.present.entry)?,
                None => self.mirror.place.look(&stage, &read.present.entry)?,
            };
            place::count_unset(&mut self.report.unset, unset);
            self.report.bytes_written += read.present.size();
            self.found.links.add(stage.clone(), &read.present);
        }
        self.note(self.put_word(path), &stage, read.present)
    }

    /// Reads one file. When there is nothing to be had, the state before stays, or the file has
    /// gone: then that is noted, and nothing is returned.
    fn read(
        &mut self,
        path: &Path,
        was: Option<&Present>,
        link: Option<(u64, u64)>,
        is_kept: bool,
    ) -> Result<Option<Read>, MirrorError> {
        if let Some(read) = self.taken(path, link, is_kept)? {
            return Ok(Some(read));
        }
        for attempt in 1..=ATTEMPTS_MAX {
            check(self.watch)?;
            match self.attempt(path, was, is_kept, attempt == ATTEMPTS_MAX) {
                Ok(Some(read)) => return Ok(Some(read)),
                Ok(None) => {}
                Err(Failure::Gone) => break,
                Err(Failure::Mirror(error)) => return Err(error),
                Err(Failure::Source(error)) => {
                    self.lose(path, was, &error)?;
                    return Ok(None);
                }
            }
        }
        if was.is_some() {
            self.out.record(&[scan::GONE, b""], path, &State::Absent)?;
        }
        Ok(None)
    }

    /// What somebody else has read of a file, unless that lacks what is needed.
    fn taken(
        &mut self,
        path: &Path,
        link: Option<(u64, u64)>,
        is_kept: bool,
    ) -> Result<Option<Read>, MirrorError> {
        let Some((found, at)) = self.taken.get(path, link)? else { return Ok(None) };
        let stage = match (is_kept, at) {
            (false, _) => None,
            (true, None) => return Ok(None),
            (true, Some(at)) => {
                let stage = self.next(path);
                match self.mirror.place.rename(&at, &stage) {
                    // Another name of the file has it, where names cannot share one.
                    Err(error) if error.is_not_found() => return Ok(None),
                    renamed => renamed?,
                }
                Some(stage)
            }
        };
        self.watch.bytes(path, found.size());
        let entry = Entry { name: record::name(path).into(), ..found.entry };
        let present = Present { entry, at: At::Here(path.clone()), ..found };
        Ok(Some(Read { present, stage, file: None, is_link: false }))
    }

    /// Reads once; `None` when it changed meanwhile and there is another attempt.
    fn attempt(
        &mut self,
        path: &Path,
        was: Option<&Present>,
        is_kept: bool,
        is_last: bool,
    ) -> Result<Option<Read>, Failure> {
        if let Some(whole) = self.ahead.as_mut().and_then(|ahead| ahead.take(path)) {
            return self.write(path, whole, is_kept).map(Some);
        }
        let parent = self.parents.of(self.root, path).map_err(Failure::source)?;
        let file = match SourceFile::open(parent.unwrap_or(self.root), record::name(path)) {
            Ok(file) => file,
            Err(SourceError::Host(error)) => return Err(Failure::source(error)),
            // What it has become is for the next run.
            Err(SourceError::ChangedKind { .. }) => return Err(Failure::Gone),
        };
        let stage = is_kept.then(|| self.next(path));
        let target = stage.as_ref().map(|stage| self.mirror.place.create(stage)).transpose()?;
        let base = match &target {
            Some(target) => shared(self.mirror, path, was, file.stat(), target)?,
            None => None,
        };
        let watch = self.watch;
        let mut step = |count| {
            watch.bytes(path, count);
            !watch.is_cancelled()
        };
        let copied = match (&base, &target) {
            (Some(base), Some(target)) => content::update(&file, base, target, &mut step),
            _ => content::copy(&file, target.as_ref(), &mut step),
        };
        let drop_stage = || match &stage {
            Some(stage) => self.mirror.place.remove(stage).map_err(Failure::from),
            None => Ok(()),
        };
        let copied = match copied {
            Ok(Some(copied)) => copied,
            Ok(None) => return Err(Failure::Mirror(MirrorError::Cancelled)),
            // The next file would fare no better: what was staged goes when the next run begins.
            Err(CopyError::Write(error)) => return Err(error.into()),
            Err(CopyError::Read(error)) => {
                drop_stage()?;
                return Err(Failure::source(error));
            }
        };
        let (stat, details) = (*file.stat(), file.details());
        for error in &details.unread {
            let (path, during) = (path.clone(), "read the attributes of");
            self.watch.trouble(Trouble { path, during, message: told(error) });
        }
        let is_stable = match file.finish().map_err(Failure::source)? {
            Stability::Stable => true,
            Stability::Changed(_) if !is_last => {
                drop_stage()?;
                return Ok(None);
            }
            Stability::Changed(_) => false,
        };
        let node = record::content(copied.size, copied.hash);
        let mut entry = stat.entry(record::name(path), node, details);
        let mut hint = self.found.hint(&stat);
        if !is_stable {
            let message = "it changed each time while it was read".to_owned();
            self.watch.trouble(Trouble { path: path.clone(), during: "read", message });
            entry.marks = Marks::UNSTABLE;
            hint = Hint::default();
        }
        let at = At::Here(path.clone());
        let present = Present { entry, at, link: scan::link(&stat), hint };
        Ok(Some(Read { present, stage, file: target, is_link: false }))
    }

    /// Stages a file that was read ahead.
    fn write(&mut self, path: &Path, whole: Whole, is_kept: bool) -> Result<Read, Failure> {
        let stage = is_kept.then(|| self.next(path));
        let write = |stage: &Path| place::write(&*self.mirror.place, stage, &whole.bytes);
        let file = stage.as_ref().map(write).transpose()?;
        let Whole { stat, details, bytes, hash } = whole;
        self.watch.bytes(path, bytes.len() as u64);
        let node = record::content(stat.size, hash);
        let entry = stat.entry(record::name(path), node, details);
        let (at, hint) = (At::Here(path.clone()), self.found.hint(&stat));
        Ok(Read {
            present: Present { entry, at, link: scan::link(&stat), hint },
            stage,
            file,
            is_link: false,
        })
    }

    /// What could not be read is not deleted.
    fn lose(
        &mut self,
        path: &Path,
        was: Option<&Present>,
        error: &HostError,
    ) -> Result<(), MirrorError> {
        let message = told(error);
        self.watch.trouble(Trouble { path: path.clone(), during: "read", message });
        let Some(was) = was else { return Ok(()) };
        let mut kept = scan::kept(was);
        if self.is_spoiled(path) {
            kept.at = At::Lost;
        }
        self.report.kept += 1;
        self.out.record(&[scan::KNOWN, b""], path, &State::Present(Box::new(kept)))
    }
}

/// Why a file was not read.
enum Failure {
    /// It has gone.
    Gone,
    /// The source.
    Source(HostError),
    /// The mirror.
    Mirror(MirrorError),
}

impl Failure {
    fn source(error: HostError) -> Self {
        if error.is_not_found() { Self::Gone } else { Self::Source(error) }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Mirror(error.into())
    }
}

/// What the mirror has of a large file, if a new one can share its bytes.
pub(super) fn shared(
    mirror: &Mirror,
    path: &[u8],
    was: Option<&Present>,
    stat: &Stat,
    target: &TargetFile,
) -> Result<Option<SourceFile>, HostError> {
    let was_large = was.is_some_and(|was| was.is_file() && was.size() >= SHARED_BYTES_MIN);
    let is_large = stat.size >= SHARED_BYTES_MIN && !stat.is_sparse();
    if !is_large || !was_large {
        return Ok(None);
    }
    let Some(base) = mirror.place.open(&layout::latest(path))? else { return Ok(None) };
    Ok(target.share(&base)?.then_some(base))
}

fn copied(present: &Present) -> Copied {
    let hash = match present.entry.node {
        Node::File { content: Content::Chunk(id) | Content::Recipe(id), .. } => *id.as_bytes(),
        _ => [0; 32],
    };
    Copied { size: present.size(), hash }
}

/// Shorter files are written whole.
const SHARED_BYTES_MIN: u64 = 1 << 20;
/// So often a file is read that changes while it is read.
const ATTEMPTS_MAX: usize = 3;
