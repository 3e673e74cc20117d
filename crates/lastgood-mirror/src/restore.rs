//! Bringing a version back, or one path of it, at any moment: also while a commit is under way.

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};

use lastgood_format::entry::Node;
use lastgood_host::HostError;
use lastgood_host::metadata::{ApplyPolicy, Metadata, Unset};
use lastgood_host::source::SourceFile;
use lastgood_host::target::{Target, TargetDirectory, temporary_name};

use crate::above::Above;
use crate::content;
use crate::delta::Version;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::mirror::{Mirror, View};
use crate::place;
use crate::record::{self, Path, Present};

/// How to restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Name of the version.
    pub version: String,
    /// What of it; empty for all.
    pub path: Path,
    /// Where to.
    pub target: PathBuf,
    /// What metadata may be set.
    pub policy: ApplyPolicy,
    /// Whether nothing is written.
    pub is_dry: bool,
}

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries that are there now.
    pub restored: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Files that are damaged or lost, and were not restored.
    pub damaged: Vec<Path>,
    /// Entries that could not be written.
    pub failed: u64,
    /// Kinds of metadata that could not be set, with how often.
    pub unset: Vec<(String, u64)>,
}

/// Restores.
///
/// # Errors
/// Trouble with one path does not end it.
pub fn restore(
    mirror: &Mirror,
    options: &RestoreOptions,
    watch: &dyn Watch,
) -> Result<RestoreReport, MirrorError> {
    let view = mirror.view_back_to(&[&options.version])?;
    let k = view.index(&options.version)?;
    let mut files = (0, 0);
    let mut all = RestoreReport::default();
    let mut wanted = Wanted::new(&view, k, &options.path)?;
    while let Some((_, present)) = wanted.next()? {
        files.0 += u64::from(present.is_file());
        files.1 += present.size();
        all.restored += 1;
        all.bytes += present.size();
    }
    if all.restored == 0 {
        return Err(MirrorError::NoPath(options.path.clone()));
    }
    watch.total(files.0, files.1);
    if options.is_dry {
        return Ok(all);
    }
    let mut restore = Restore {
        mirror,
        newer: None,
        options,
        watch,
        links: HashMap::new(),
        report: RestoreReport::default(),
    };
    let target = Target::open(&options.target)?;
    restore.write(&target, &view, k)?;
    target.sync_filesystem()?;
    Ok(restore.report)
}

/// What is wanted of a version, in the order of the bytes of the paths.
struct Wanted<'a> {
    version: Version<'a>,
    path: &'a [u8],
}

impl<'a> Wanted<'a> {
    fn new(view: &'a View, k: usize, path: &'a [u8]) -> Result<Self, MirrorError> {
        let mut version = view.history().version(k - view.first)?;
        version.seek(path)?;
        Ok(Self { version, path })
    }

    fn next(&mut self) -> Result<Option<(Path, Present)>, MirrorError> {
        while let Some((_, path, present)) = self.version.next().transpose()? {
            if record::is_below(&path, self.path) {
                return Ok(Some((path, present)));
            }
            if !path.starts_with(self.path) {
                break;
            }
        }
        Ok(None)
    }
}

struct Restore<'a> {
    mirror: &'a Mirror,
    /// What the texts say since a run ended meanwhile, and the index of the version there.
    newer: Option<(View, usize)>,
    options: &'a RestoreOptions,
    watch: &'a dyn Watch,
    /// Where the first file of each group of hard links went.
    links: HashMap<((u64, u64), Vec<u8>), Path>,
    report: RestoreReport,
}

impl Restore<'_> {
    fn write(&mut self, target: &Target, view: &View, k: usize) -> Result<(), MirrorError> {
        let path = self.options.path.clone();
        let mut wanted = Wanted::new(view, k, &path)?;
        let mut above: Above<Present> = Above::default();
        while let Some((path, present)) = wanted.next()? {
            check(self.watch)?;
            // The deepest first.
            above.pass(Some(&path)).iter().rev().for_each(|it| self.dress(target, it));
            let to = self.place(&path, &present);
            match self.entry((view, k), target, &path, &to, &present) {
                Ok(true) => {
                    self.report.restored += 1;
                    self.report.bytes += present.size();
                }
                Ok(false) => {
                    let message = "its bytes are damaged or lost".to_owned();
                    self.watch.trouble(Trouble { path: path.clone(), during: "restore", message });
                    self.report.damaged.push(path.clone());
                }
                Err(MirrorError::Host(error)) if !error.is_no_space() => {
                    self.tell(&path, &error);
                    self.report.failed += 1;
                }
                Err(error) => return Err(error),
            }
            if present.is_file() {
                self.watch.file(&path);
            }
            if present.entry.is_directory() {
                above.enter(path, present);
            }
        }
        above.pass(None).iter().rev().for_each(|it| self.dress(target, it));
        Ok(())
    }

    /// Sets the metadata of a directory that has all that belongs into it: what is put into a
    /// directory changes its times.
    fn dress(&mut self, target: &Target, (path, present): &(Path, Present)) {
        match target.directory(&self.place(path, present)) {
            Ok(directory) => {
                let metadata = Metadata::from(&present.entry);
                let unset = directory.apply(&metadata, self.options.policy);
                self.count(unset);
            }
            Err(error) => self.tell(path, &error),
        }
    }

    fn tell(&self, path: &Path, error: &HostError) {
        let (path, message) = (path.clone(), told(error));
        self.watch.trouble(Trouble { path, during: "restore", message });
    }

    /// Where a path goes: what was asked for is the target itself, or, if it is no directory, lies
    /// in it.
    fn place(&self, path: &[u8], present: &Present) -> Path {
        let rest = &path[self.options.path.len()..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let is_itself = rest.is_empty() && !present.entry.is_directory();
        if is_itself { record::name(path).into() } else { rest.into() }
    }

    /// Writes one entry; `false` when its bytes are not to be had.
    fn entry(
        &mut self,
        version: (&View, usize),
        target: &Target,
        path: &Path,
        to: &[u8],
        present: &Present,
    ) -> Result<bool, MirrorError> {
        if present.entry.is_directory() {
            self.directory(target, to)?;
            return Ok(true);
        }
        let parent = target.directory(record::parent(to).unwrap_or_default())?;
        let name = record::name(to);
        let temporary = temporary_name(self.report.restored);
        parent.remove_tree(&temporary, &mut |_| {});
        match &present.entry.node {
            Node::File { .. } => {
                if !self.file(version, (target, &parent, &temporary), path, to, present)? {
                    return Ok(false);
                }
            }
            Node::Symlink { target } => {
                let link = parent.create_symlink(&temporary, target)?;
                let unset = link.apply(&Metadata::from(&present.entry), self.options.policy);
                self.count(unset);
            }
            node => {
                let special = parent.create_special(&temporary, node)?;
                let unset = special.apply(&Metadata::from(&present.entry), self.options.policy);
                self.count(unset);
            }
        }
        match parent.rename(&temporary, name) {
            // A directory is in the way, and the version has none there.
            Err(error) if error.source.kind() == std::io::ErrorKind::IsADirectory => {
                parent.remove_directory(name)?;
                parent.rename(&temporary, name)?;
            }
            renamed => renamed?,
        }
        Ok(true)
    }

    fn directory(&self, target: &Target, to: &[u8]) -> Result<(), HostError> {
        if to.is_empty() {
            return Ok(());
        }
        let parent = target.directory(record::parent(to).unwrap_or_default())?;
        let name = record::name(to);
        match parent.enter_or_create(name) {
            Ok((directory, _)) => directory.unlock(),
            Err(error) if error.is_not_directory() => parent.replace_with_directory(name).map(drop),
            Err(error) => Err(error),
        }
    }

    fn file(
        &mut self,
        version: (&View, usize),
        (target, parent, temporary): (&Target, &TargetDirectory, &[u8]),
        path: &Path,
        to: &[u8],
        present: &Present,
    ) -> Result<bool, MirrorError> {
        let hash = present.hash().map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let key = present.link.map(|link| (link, hash));
        if let Some(first) = key.as_ref().and_then(|key| self.links.get(key)) {
            let directory = target.directory(record::parent(first).unwrap_or_default())?;
            match parent.hard_link(temporary, &directory, record::name(first)) {
                // It becomes a file of its own.
                Err(error) if error.is_no_link() => {}
                linked => return linked.map(|()| true).map_err(MirrorError::from),
            }
        }
        let Some(from) = self.open(version, path, present)? else { return Ok(false) };
        let file = parent.create_file(temporary)?;
        let watch = self.watch;
        let copied = content::copy(&from, Some(&file), &mut |count| {
            watch.bytes(path, count);
            true
        })?;
        let read = copied.map(|copied| lastgood_format::id::BlobId::new(copied.hash));
        if read != present.hash() {
            parent.remove_entry(temporary)?;
            return Ok(false);
        }
        let unset = file.apply(&Metadata::from(&present.entry), self.options.policy);
        self.count(unset);
        if let Some(key) = key {
            self.links.insert(key, to.into());
        }
        Ok(true)
    }

    /// Opens the bytes of a file. When they are not where they should be, a run may have ended
    /// since: then the texts say where they are now.
    fn open(
        &mut self,
        (view, k): (&View, usize),
        path: &Path,
        present: &Present,
    ) -> Result<Option<SourceFile>, MirrorError> {
        let (view, k) = match &self.newer {
            Some((view, k)) => (view, *k),
            None => (view, k),
        };
        if let Some(file) = view.open(self.mirror, k, path, present)? {
            return Ok(Some(file));
        }
        let Ok(view) = self.mirror.view_back_to(&[&self.options.version]) else { return Ok(None) };
        let Ok(k) = view.index(&self.options.version) else { return Ok(None) };
        let (view, k) = self.newer.insert((view, k));
        view.open(self.mirror, *k, path, present)
    }

    fn count(&mut self, unset: Vec<Unset>) {
        place::count_unset(&mut self.report.unset, unset);
    }
}

/// A path as the user gave it, below the source: without slashes around it.
///
/// # Errors
/// [`MirrorError::NoPath`] for one that no version can have.
pub fn below_source(path: &FilePath) -> Result<Path, MirrorError> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    let bytes: Path = if bytes == b"." { Path::default() } else { bytes.into() };
    if record::is_valid(&bytes) { Ok(bytes) } else { Err(MirrorError::NoPath(bytes)) }
}
