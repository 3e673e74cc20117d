//! One pass over a snapshot and a target: planning on this thread, doing on others.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::unbounded;
use lastgood_format::snapshot::Snapshot;
use lastgood_host::HostError;
use lastgood_host::metadata::{ApplyPolicy, Metadata};
use lastgood_host::scan::ListBuffer;
use lastgood_host::target::Target;
use lastgood_repo::BlobReader;

use crate::error::Error;
use crate::job::{Control, Severity};
use crate::restore::compare;
use crate::restore::context::{Context, OpenRing, Stop};
use crate::restore::folder::Folder;
use crate::restore::links::Links;
use crate::restore::owners::OwnerMap;
use crate::restore::plan::{Change, Overwrite};
use crate::restore::report::{Inner, Outcome, Record, chain};
use crate::restore::scope::Scope;
use crate::restore::walk::{Choose, Walk};
use crate::restore::work::{Window, work};

/// What is gone over, and how.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) reader: &'a BlobReader,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) scope: &'a Scope,
    pub(crate) choose: Option<&'a Choose>,
    /// `None` when there is none and nothing is written.
    pub(crate) target: Option<&'a Target>,
    pub(crate) target_path: &'a Path,
    /// Whether the target itself is to look like the directory whose content goes into it.
    pub(crate) apply_to_target: bool,
    pub(crate) writes: bool,
    /// Whether what was just written is compared.
    pub(crate) rereads: bool,
    pub(crate) overwrite: Overwrite,
    pub(crate) delete: bool,
    pub(crate) sparse: bool,
    pub(crate) policy: ApplyPolicy,
    pub(crate) items: bool,
    pub(crate) list_differences: bool,
    pub(crate) threads: usize,
}

impl Run<'_> {
    /// Says how much there is to do.
    pub(crate) fn announce(&self, control: &Control) -> Result<(), Error> {
        let totals = &self.snapshot.totals;
        let is_all = self.choose.is_none() && self.covers_all();
        let (files, bytes) = match is_all {
            true => (totals.files + totals.others, totals.bytes),
            false => self.scope.count(control, self.reader, self.choose)?,
        };
        control.add_total(files, bytes);
        control.total_is_known();
        Ok(())
    }

    fn covers_all(&self) -> bool {
        let prefix = self.scope.prefix();
        self.snapshot.sources.iter().all(|source| {
            let source = source.strip_prefix(b"/").unwrap_or(source);
            prefix.is_empty()
                || source
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }

    /// Plans and does.
    ///
    /// # Errors
    /// When cancelled, when the disk is full, or when the repository cannot be reached. What is
    /// done then stays.
    pub(crate) fn execute(self, control: &Control, owners: OwnerMap) -> Result<Inner, Error> {
        let ctx = Context {
            control,
            reader: self.reader,
            target: self.target,
            target_path: self.target_path,
            writes: self.writes,
            rereads: self.rereads,
            overwrite: self.overwrite,
            delete: self.delete,
            sparse: self.sparse,
            policy: self.policy,
            owners,
            record: Record::new(control, self.items, self.list_differences),
            folders: OpenRing::new(FOLDERS_OPEN_MAX),
            readers: OpenRing::new(FILES_OPEN_MAX),
            writers: OpenRing::new(FILES_OPEN_MAX),
            stop: Stop::default(),
        };
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            threads => threads,
        };
        let (sender, jobs) = unbounded();
        std::thread::scope(|scope| {
            for _ in 0..threads.min(THREADS_MAX) {
                let (ctx, jobs) = (&ctx, jobs.clone());
                scope.spawn(move || work(ctx, &jobs));
            }
            drop(jobs);
            self.plan(&ctx, Window::new(&ctx, sender))
        })?;
        if let Some(error) = ctx.stop.take() {
            return Err(error);
        }
        control.check()?;
        Ok(ctx.record.into_inner())
    }

    fn plan<'c>(&'c self, ctx: &'c Context<'c>, window: Window<'c>) -> Result<(), Error> {
        let choose =
            |path: &[u8], is_directory: bool| self.scope.choice(self.choose, path, is_directory);
        let prefix = match (&self.scope.only, &self.scope.path) {
            (Some(only), _) => only.clone(),
            (None, path) if path.is_empty() => Vec::new(),
            (None, path) => [&path[..], b"/"].concat(),
        };
        let links = Links::load(self.reader, self.snapshot.links, &prefix, &mut |gap| {
            let Some(error) = ctx.is_damage(gap.error) else {
                return;
            };
            let message = format!(
                "some hard links are lost; their names become files of their own: {}",
                chain(&error)
            );
            let at = self.target_path.to_path_buf();
            ctx.record.trouble(at, ctx.verb(), message, Severity::Error);
        });
        let mut walk = Walk {
            ctx,
            window,
            links,
            choose: &choose,
            sources: &self.snapshot.sources,
            buffer: ListBuffer::new(),
        };
        let root = self.root(ctx)?;
        let is_there = self.target.is_some();
        let walked = walk.directory(root, self.scope.tree, self.scope.path.clone(), is_there);
        walk.window.flush();
        // A stop has its own error, which says more than that the walk was cut.
        if ctx.is_stopped() { Ok(()) } else { walked }
    }

    /// The target as a folder, with what it is to look like.
    fn root(&self, ctx: &Context<'_>) -> Result<Arc<Folder>, HostError> {
        let open = self.target.map(|target| target.directory(b"")).transpose()?;
        let (Some(entry), Some(directory)) = (self.scope.entry.clone(), &open) else {
            return Ok(Folder::root(open, None));
        };
        let source = directory.source();
        let stat = source.own_stat()?;
        let differs = |wanted: &Metadata<'_>| {
            compare::metadata_differs(wanted, &stat, ctx.policy, || source.own_details())
        };
        let wanted = ctx.metadata(&entry);
        // One that differs by nothing but its time is most likely what an earlier run made.
        let mtime = stat.mtime;
        if !self.apply_to_target && differs(&Metadata { mtime, ..wanted }) {
            return Ok(Folder::root(open, None));
        }
        let differs = differs(&wanted);
        let outcome = if differs { Outcome::Changed(Change::Metadata) } else { Outcome::Equal };
        ctx.record.done(outcome, 0, || ctx.target_path.to_path_buf());
        let root = Folder::root(open, Some(entry));
        if differs {
            root.touch();
        }
        Ok(root)
    }
}

/// Directories of the target that are kept open.
const FOLDERS_OPEN_MAX: usize = 256;
/// Large files that are kept open, once to read and once to write.
const FILES_OPEN_MAX: usize = 128;
/// More workers than this only wait for each other.
const THREADS_MAX: usize = 64;
