//! Who may have bytes that a mirror lost, and how they are taken.

use std::collections::HashMap;

use lastgood_format::entry::Timestamp;
use lastgood_format::id::BlobId;
use lastgood_host::HostError;
use lastgood_host::scan::Directory;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;

use crate::content;
use crate::error::MirrorError;
use crate::mirror::Mirror;
use crate::record::{self, Path};
use crate::text::Sha256;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where the file was, below the source.
    pub path: &'a [u8],
    /// Moment of the version that had it so.
    pub time: Timestamp,
    /// How long it is.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub hash: BlobId,
}

/// Somebody who may have bytes.
pub trait Donor {
    /// What a plan calls it.
    fn name(&self) -> String;

    /// Gives files that may be what is wanted, one after the other, until one is; `false` when none
    /// was. What cannot be read is passed over.
    ///
    /// # Errors
    /// Of the mirror.
    fn offer(&mut self, wanted: &Wanted<'_>, taker: &mut Taker<'_>) -> Result<bool, MirrorError>;
}

/// Takes what is offered, if it is what was recorded.
pub struct Taker<'a> {
    /// Where it goes; `None` in a dry run.
    to: Option<&'a TargetFile>,
    hash: BlobId,
    running: Sha256,
    size: u64,
}

impl<'a> Taker<'a> {
    pub(super) fn new(to: Option<&'a TargetFile>, hash: BlobId) -> Self {
        Self { to, hash, running: Sha256::new(), size: 0 }
    }

    /// Another file is offered.
    ///
    /// # Errors
    /// Of the mirror.
    pub fn begin(&mut self) -> Result<(), HostError> {
        (self.running, self.size) = (Sha256::new(), 0);
        // No hole of it may show what was offered before.
        self.to.map_or(Ok(()), |to| to.set_len(0))
    }

    /// The next bytes of it.
    ///
    /// # Errors
    /// Of the mirror.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        if let Some(to) = self.to {
            to.write_at(bytes, self.size)?;
        }
        self.running.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Whether all that came since the beginning is what is wanted.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        BlobId::new(self.running.clone().finish()) == self.hash
    }

    /// Takes a whole file of this machine, with its holes; whether it is what is wanted.
    ///
    /// # Errors
    /// Of either file system.
    pub fn take(&mut self, file: &SourceFile) -> Result<bool, HostError> {
        self.begin()?;
        let copied = content::copy(file, self.to, &mut |_| true)?;
        Ok(copied.is_some_and(|copied| BlobId::new(copied.hash) == self.hash))
    }
}

/// Other files of the same mirror.
pub(super) struct Inside<'a> {
    pub(super) mirror: &'a Mirror,
    /// Where whole files lie.
    pub(super) whole: HashMap<BlobId, Path>,
}

impl Donor for Inside<'_> {
    fn name(&self) -> String {
        "another file of the mirror".to_owned()
    }

    fn offer(&mut self, wanted: &Wanted<'_>, taker: &mut Taker<'_>) -> Result<bool, MirrorError> {
        let Some(place) = self.whole.get(&wanted.hash) else { return Ok(false) };
        match self.mirror.place.open(place)? {
            Some(file) => Ok(taker.take(&file)?),
            None => Ok(false),
        }
    }
}

/// The source, as it is now.
pub struct Source {
    root: Directory,
}

impl Source {
    /// The source in a directory.
    #[must_use]
    pub const fn new(root: Directory) -> Self {
        Self { root }
    }
}

impl Donor for Source {
    fn name(&self) -> String {
        "the source".to_owned()
    }

    fn offer(&mut self, wanted: &Wanted<'_>, taker: &mut Taker<'_>) -> Result<bool, MirrorError> {
        let parent = record::parent(wanted.path).unwrap_or_default();
        let descended;
        let directory = match parent.is_empty() {
            true => &self.root,
            false => match self.root.open_descendant(parent) {
                Ok(found) => {
                    descended = found;
                    &descended
                }
                Err(_) => return Ok(false),
            },
        };
        match SourceFile::open(directory, record::name(wanted.path)) {
            Ok(file) if file.stat().size == wanted.size => Ok(taker.take(&file).unwrap_or(false)),
            _ => Ok(false),
        }
    }
}
