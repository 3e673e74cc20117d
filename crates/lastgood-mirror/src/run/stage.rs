//! Reading what is new into the stage, where nobody looks yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lastgood_format::entry::{Content, Entry, Hint, Marks, Node};
use lastgood_host::HostError;
use lastgood_host::scan::{Directory, Stat};
use lastgood_host::source::{SourceError, SourceFile, Stability};
use lastgood_host::target::TargetFile;

use super::fit::Abilities;
use super::links::Links;
use super::scan::{self, Found, Spoiled, Wanted};
use super::{RunOptions, RunReport};
use crate::content::{self, Copied};
use crate::delta::Manifest;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::Mirror;
use crate::record::{self, At, Path, Present};

/// The next version, complete: what of it is not in `latest/` yet is in the stage.
#[derive(Debug)]
pub(super) struct Staged {
    /// The next version.
    pub(super) new: Manifest,
    /// What is to be put in place: path in the stage by path in the version.
    pub(super) puts: BTreeMap<Path, Path>,
    /// Files that go elsewhere in `latest/`: path before, path after.
    pub(super) moved: BTreeMap<Path, Path>,
    /// Paths in `latest/` that are not as the manifest says.
    pub(super) spoiled: BTreeMap<Path, Spoiled>,
    /// Paths in `latest/` that are in no manifest.
    pub(super) extras: BTreeSet<Path>,
    /// What the file system of the mirror can do.
    pub(super) can: Abilities,
    /// What is known so far.
    pub(super) report: RunReport,
}

/// How a file was read.
struct Read {
    present: Present,
    /// Where its bytes are in the stage; `None` when they were only hashed.
    stage: Option<Path>,
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
    old: &Manifest,
    mut found: Found,
    root: &Directory,
    options: &RunOptions,
    watch: &dyn Watch,
) -> Result<Staged, MirrorError> {
    let wanted = std::mem::take(&mut found.wanted);
    let mut staged = Staged {
        new: Manifest::new(),
        puts: BTreeMap::new(),
        moved: BTreeMap::new(),
        spoiled: found.spoiled.clone(),
        extras: std::mem::take(&mut found.extras),
        can: found.can,
        report: RunReport { kept: found.kept, ..RunReport::default() },
    };
    let links = Links::new(old, &wanted);
    let (mut reads, mut checks) = (Vec::new(), Vec::new());
    for (path, wanted) in wanted {
        match wanted {
            Wanted::Read(stat) => reads.push((path, stat)),
            Wanted::Check(present) => checks.push((path, *present)),
            Wanted::Known(present) => {
                staged.new.insert(path, *present);
            }
        }
    }
    watch.total(reads.len() as u64, reads.iter().map(|(_, stat)| stat.size).sum());
    // What had this name before comes first: only then it is known which files have gone.
    let (known, fresh): (Vec<_>, Vec<_>) =
        reads.into_iter().partition(|(path, _)| old.get(path).is_some_and(Present::is_file));
    let mut stage =
        Stage { mirror, old, found: &found, root, options, watch, staged, links, count: 0 };
    for (path, present) in checks {
        stage.check(&path, present)?;
    }
    for (path, stat) in known {
        let seems_same = found.seems_same(old, &path, &stat);
        stage.known(&path, scan::link(&stat), seems_same)?;
    }
    let mut gone = Gone::new(old, &stage.staged);
    for (path, stat) in fresh {
        stage.fresh(&path, &stat, &mut gone)?;
    }
    stage.symlinks()?;
    Ok(stage.staged)
}

/// Files of the newest version whose bytes leave their path: they may have gone elsewhere.
struct Gone {
    by_file: HashMap<(u64, u64), Path>,
    by_hash: HashMap<(u64, [u8; 32]), Vec<Path>>,
}

impl Gone {
    fn new(old: &Manifest, staged: &Staged) -> Self {
        let mut gone = Self { by_file: HashMap::new(), by_hash: HashMap::new() };
        for (path, was) in old {
            let stays = staged.new.get(path).is_some_and(|is| is.entry.node == was.entry.node);
            if !was.is_file()
                || was.size() == 0
                || was.at == At::Lost
                || stays
                || staged.spoiled.contains_key(path)
            {
                continue;
            }
            if was.hint.inode != 0 {
                gone.by_file.insert((was.hint.device, was.hint.inode), path.clone());
            }
            let hash = was.hash().map(|id| *id.as_bytes()).unwrap_or_default();
            gone.by_hash.entry((was.size(), hash)).or_default().push(path.clone());
        }
        gone
    }

    /// Takes a file that had these bytes.
    fn take(&mut self, copied: &Copied) -> Option<Path> {
        self.by_hash.get_mut(&(copied.size, copied.hash))?.pop()
    }
}

struct Stage<'a> {
    mirror: &'a Mirror,
    old: &'a Manifest,
    found: &'a Found,
    root: &'a Directory,
    options: &'a RunOptions,
    watch: &'a dyn Watch,
    staged: Staged,
    links: Links,
    count: u64,
}

impl Stage<'_> {
    /// A file that looks as it did, and whose bytes in the mirror are as they were.
    fn check(&mut self, path: &Path, present: Present) -> Result<(), MirrorError> {
        let Some(read) = self.read(path, false)? else { return Ok(()) };
        if read.is_rotted(&present) {
            self.alarm(path);
        } else if read.present.entry.node != present.entry.node {
            // It was written to since it was looked at.
            return self.known(path, None, false);
        }
        self.staged.new.insert(path.clone(), present);
        self.watch.file(path);
        Ok(())
    }

    /// The source holds other bytes than it did, and nobody wrote them.
    fn alarm(&mut self, path: &Path) {
        let message = "its bytes are others than recorded, and no time of it changed: it rotted";
        let (path, during) = (path.clone(), "compare the source of");
        self.staged.report.source_rotted.push(path.clone());
        self.watch.trouble(Trouble { path, during, message: message.to_owned() });
    }

    /// A file that was a file before: perhaps only touched.
    fn known(
        &mut self,
        path: &Path,
        link: Option<(u64, u64)>,
        seems_same: bool,
    ) -> Result<(), MirrorError> {
        let old = &self.old[path];
        let read = match self.linked(path, link)? {
            None => self.read(path, !seems_same)?,
            linked => linked,
        };
        let Some(read) = read else { return Ok(()) };
        if read.is_rotted(old) && !read.is_link {
            // The mirror has nothing better, or it had not been read.
            self.alarm(path);
        }
        let is_same = old.entry.node == read.present.entry.node
            && old.at != At::Lost
            && !self.staged.spoiled.contains_key(path)
            && !self.links.part(path, old.link, read.present.link);
        if is_same {
            if let Some(stage) = read.stage {
                self.mirror.place.remove(&stage)?;
            }
            self.links.add(layout::latest(path), &read.present);
            self.staged.new.insert(path.clone(), read.present);
        } else if read.stage.is_none() {
            // It only seemed to be the same, or has to be a file of its own from now on.
            return self.known(path, None, false);
        } else {
            self.put(path, read)?;
        }
        self.watch.file(path);
        Ok(())
    }

    /// A file under a new name: perhaps one that had another name before.
    fn fresh(&mut self, path: &Path, stat: &Stat, gone: &mut Gone) -> Result<(), MirrorError> {
        if let Some(read) = self.linked(path, scan::link(stat))? {
            self.put(path, read)?;
            self.watch.file(path);
            return Ok(());
        }
        let is_likely = gone.by_file.get(&stat.file_id()).is_some_and(|from| {
            let was = &self.old[from];
            was.size() == stat.size && was.entry.mtime == stat.mtime
        });
        let Some(mut read) = self.read(path, !is_likely)? else { return Ok(()) };
        let copied = copied(&read.present);
        let from = gone.take(&copied).filter(|_| copied.size > 0);
        if let Some(from) = from
            && !self.links.part(&from, self.old[&from].link, read.present.link)
            && self.is_whole(&from, &copied)?
        {
            if let Some(stage) = read.stage.take() {
                self.mirror.place.remove(&stage)?;
            }
            self.links.add(layout::latest(&from), &read.present);
            self.staged.moved.insert(from, path.clone());
            self.staged.new.insert(path.clone(), read.present);
        } else {
            if read.stage.is_none() {
                // It only looked like one that moved.
                let Some(again) = self.read(path, true)? else { return Ok(()) };
                read = again;
            }
            self.put(path, read)?;
        }
        self.watch.file(path);
        Ok(())
    }

    /// Whether the mirror still has the bytes that it should have.
    fn is_whole(&self, path: &Path, copied: &Copied) -> Result<bool, MirrorError> {
        if !self.options.verifies_outgoing {
            return Ok(true);
        }
        Ok(content::hash(&*self.mirror.place, &layout::latest(path))? == Some(copied.hash))
    }

    /// Another name of a file whose bytes are there already; `None` when they are not, or the file
    /// system has no hard links.
    fn linked(
        &mut self,
        path: &Path,
        link: Option<(u64, u64)>,
    ) -> Result<Option<Read>, MirrorError> {
        let Some((from, first)) = self.links.get(link) else { return Ok(None) };
        let stage = self.next();
        match self.mirror.place.link(&from, &stage) {
            Err(error) if error.is_no_link() || error.is_not_found() => return Ok(None),
            linked => linked?,
        }
        let name = record::name(path).into();
        let entry = Entry { name, ..first.entry };
        let present = Present { entry, at: At::Here(path.clone()), ..first };
        Ok(Some(Read { present, stage: Some(stage), is_link: true }))
    }

    /// A path in the stage.
    fn next(&mut self) -> Path {
        self.count += 1;
        layout::stage(&self.count.to_string())
    }

    fn put(&mut self, path: &Path, read: Read) -> Result<(), MirrorError> {
        if let Some(stage) = read.stage {
            // A link looks as the file does, which may lie in `latest/` and be changed later only.
            if !read.is_link {
                let unset = self.mirror.place.look(&stage, &read.present.entry)?;
                super::plan::count_unset(&mut self.staged.report, unset);
                self.staged.report.bytes_written += read.present.size();
                self.links.add(stage.clone(), &read.present);
            }
            self.staged.puts.insert(path.clone(), stage);
        }
        self.staged.new.insert(path.clone(), read.present);
        Ok(())
    }

    /// Reads one file. `None` when there is nothing to be had: then the state before stays, or the
    /// file has gone.
    fn read(&mut self, path: &Path, is_kept: bool) -> Result<Option<Read>, MirrorError> {
        for attempt in 1..=ATTEMPTS_MAX {
            check(self.watch)?;
            match self.attempt(path, is_kept, attempt == ATTEMPTS_MAX) {
                Ok(Some(read)) => return Ok(Some(read)),
                Ok(None) => {}
                Err(Failure::Gone) => return Ok(None),
                Err(Failure::Mirror(error)) => return Err(error),
                Err(Failure::Source(error)) => {
                    self.lose(path, &error);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Reads once; `None` when it changed meanwhile and there is another attempt.
    fn attempt(
        &mut self,
        path: &Path,
        is_kept: bool,
        is_last: bool,
    ) -> Result<Option<Read>, Failure> {
        let parent = record::parent(path).unwrap_or_default();
        let descended;
        let directory = if parent.is_empty() {
            self.root
        } else {
            descended = self.root.open_descendant(parent).map_err(Failure::source)?;
            &descended
        };
        let file = match SourceFile::open(directory, record::name(path)) {
            Ok(file) => file,
            Err(SourceError::Host(error)) => return Err(Failure::source(error)),
            // What it has become is for the next run.
            Err(SourceError::ChangedKind { .. }) => return Err(Failure::Gone),
        };
        let stage = is_kept.then(|| self.next());
        let target = stage.as_ref().map(|stage| self.mirror.place.create(stage)).transpose()?;
        let base = match &target {
            Some(target) => self.shared(path, file.stat(), target)?,
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
            Err(error) if error.is_no_space() => return Err(error.into()),
            Err(error) => {
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
        Ok(Some(Read { present, stage, is_link: false }))
    }

    /// What the mirror has of a large file, if a new one can share its bytes.
    fn shared(
        &self,
        path: &Path,
        stat: &Stat,
        target: &TargetFile,
    ) -> Result<Option<SourceFile>, HostError> {
        let is_there = |old: &&Present| old.is_file() && old.size() >= SHARED_BYTES_MIN;
        let is_large = stat.size >= SHARED_BYTES_MIN && !stat.is_sparse();
        if !is_large || self.old.get(path).filter(is_there).is_none() {
            return Ok(None);
        }
        let Some(base) = self.mirror.place.open(&layout::latest(path))? else { return Ok(None) };
        Ok(target.share(&base)?.then_some(base))
    }

    /// What could not be read is not deleted.
    fn lose(&mut self, path: &Path, error: &HostError) {
        let message = told(error);
        self.watch.trouble(Trouble { path: path.clone(), during: "read", message });
        let Some(old) = self.old.get(path) else { return };
        let mut kept = scan::kept(old);
        if self.staged.spoiled.contains_key(path) {
            kept.at = At::Lost;
        }
        self.staged.report.kept += 1;
        self.staged.new.insert(path.clone(), kept);
    }

    /// Makes the symbolic links that are new, and says what is lost: files that somebody changed in
    /// `latest/` and that were not read again, because rules leave them out or nobody could.
    fn symlinks(&mut self) -> Result<(), MirrorError> {
        let mut unshown = 0;
        for (path, present) in &mut self.staged.new {
            let is_spoiled = self.staged.spoiled.contains_key(path);
            match &present.entry.node {
                Node::File { .. } if is_spoiled && !self.staged.puts.contains_key(path) => {
                    present.at = At::Lost;
                }
                Node::Symlink { .. } if !self.staged.can.has_symlinks => unshown += 1,
                Node::Symlink { target } => {
                    let old = self.old.get(path).map(|old| &old.entry.node);
                    if old == Some(&present.entry.node) && !is_spoiled {
                        continue;
                    }
                    self.count += 1;
                    let stage = layout::stage(&self.count.to_string());
                    self.mirror.place.make_symlink(&stage, target)?;
                    let unset = self.mirror.place.look(&stage, &present.entry)?;
                    super::plan::count_unset(&mut self.staged.report, unset);
                    self.staged.puts.insert(path.clone(), stage);
                }
                _ => {}
            }
        }
        if unshown > 0 {
            self.staged.report.unset.push(("symlink".to_owned(), unshown));
        }
        Ok(())
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
