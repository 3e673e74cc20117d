//! A directory of the target while something in it is still to be done.
//!
//! Whoever has something to do in a directory holds it, and gives it back by
//! [`Folder::release`]. The last one to do so sets its metadata, then gives back the directory
//! above: so a directory is finished after all that is in it, in whatever order that is done.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::target::TargetDirectory;

use crate::restore::context::{Context, Slot, lock};

/// A directory of the target.
pub(crate) struct Folder {
    /// `None` for the target itself.
    parent: Option<Arc<Self>>,
    name: Box<[u8]>,
    /// What it is to look like; `None` when that is left as it is.
    wanted: Option<Entry>,
    open: Slot<TargetDirectory>,
    exists: AtomicBool,
    /// Whether it is not, or will not be, what is wanted.
    is_changed: AtomicBool,
}

impl Folder {
    /// The target itself.
    pub(crate) fn root(open: Option<TargetDirectory>, wanted: Option<Entry>) -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            name: Box::default(),
            wanted,
            exists: AtomicBool::new(open.is_some()),
            open: Arc::new(Mutex::new(open.map(Arc::new))),
            is_changed: AtomicBool::new(false),
        })
    }

    /// A directory that is there.
    pub(crate) fn existing(
        ctx: &Context<'_>,
        parent: &Arc<Self>,
        name: &[u8],
        wanted: Option<Entry>,
        open: TargetDirectory,
    ) -> Arc<Self> {
        let open = Arc::new(Mutex::new(Some(Arc::new(open))));
        ctx.folders.filled(&open);
        Arc::new(Self {
            parent: Some(parent.clone()),
            name: name.into(),
            wanted,
            open,
            exists: AtomicBool::new(true),
            is_changed: AtomicBool::new(false),
        })
    }

    /// A directory that is created when it is first opened.
    pub(crate) fn missing(parent: &Arc<Self>, wanted: Entry) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(parent.clone()),
            name: wanted.name.clone(),
            wanted: Some(wanted),
            open: Slot::default(),
            exists: AtomicBool::new(false),
            is_changed: AtomicBool::new(true),
        })
    }

    /// Something in it, or of it, is changed, and with that its modification time.
    pub(crate) fn touch(&self) {
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Opens it, creating it where it is missing.
    pub(crate) fn open(&self, ctx: &Context<'_>) -> Result<Arc<TargetDirectory>, HostError> {
        let mut open = lock(&self.open);
        if let Some(open) = &*open {
            return Ok(open.clone());
        }
        let directory = Arc::new(self.open_again(ctx)?);
        *open = Some(directory.clone());
        ctx.folders.filled(&self.open);
        Ok(directory)
    }

    fn open_again(&self, ctx: &Context<'_>) -> Result<TargetDirectory, HostError> {
        let Some(parent) = &self.parent else {
            return ctx.target.map_or_else(
                || Err(unopened(ctx.target_path.into())),
                |target| target.directory(b""),
            );
        };
        if self.exists.load(Ordering::Relaxed) {
            let is_open = lock(&parent.open).clone();
            return match (is_open, ctx.target) {
                (Some(parent), _) => parent.enter(&self.name),
                (None, Some(target)) => target.directory(&self.relative_path(b"")),
                (None, None) => Err(unopened(self.path(ctx, b""))),
            };
        }
        let above = parent.open(ctx)?;
        let made = match above.enter_or_create(&self.name) {
            Err(error) if error.is_denied() => {
                above.unlock()?;
                above.enter_or_create(&self.name)
            }
            made => made,
        };
        let (directory, _) = made?;
        parent.touch();
        self.exists.store(true, Ordering::Relaxed);
        if let Some(wanted) = &self.wanted {
            directory.set_early_flags(wanted.flags);
        }
        Ok(directory)
    }

    /// Where `name` in it is in the target, components joined by `/`.
    pub(crate) fn relative_path(&self, name: &[u8]) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        if !name.is_empty() {
            names.push(name);
        }
        let mut folder = self;
        while let Some(parent) = &folder.parent {
            names.push(&folder.name);
            folder = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Where `name` in it is, for messages; an empty name is the directory itself.
    pub(crate) fn path(&self, ctx: &Context<'_>, name: &[u8]) -> PathBuf {
        let relative = self.relative_path(name);
        let mut path = ctx.target_path.to_path_buf();
        if !relative.is_empty() {
            path.push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&relative));
        }
        path
    }

    /// Gives a directory back. The last to do so finishes it and what is then finished above.
    pub(crate) fn release(self: Arc<Self>, ctx: &Context<'_>) {
        let mut next = Some(self);
        while let Some(mut folder) = next.and_then(Arc::into_inner) {
            folder.finish(ctx);
            next = folder.parent.take();
        }
    }

    fn finish(&self, ctx: &Context<'_>) {
        // One that was never opened was never needed.
        let is_there = self.exists.load(Ordering::Relaxed);
        let is_changed = self.is_changed.load(Ordering::Relaxed);
        let Some(wanted) = self.wanted.as_ref().filter(|_| ctx.writes && is_there && is_changed)
        else {
            return;
        };
        match self.open(ctx) {
            Ok(directory) => {
                let unset = directory.apply(&ctx.metadata(wanted), ctx.policy);
                ctx.record.unset(unset, || self.path(ctx, b""));
            }
            Err(error) => ctx.host_error(self.path(ctx, b""), &error),
        }
    }
}

fn unopened(path: PathBuf) -> HostError {
    HostError {
        action: "open directory",
        path,
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    }
}
