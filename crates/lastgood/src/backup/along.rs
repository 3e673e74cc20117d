//! Somebody who reads along: what a backup reads goes by there too, so that nobody reads it twice.

use std::cell::RefCell;

use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::source::SourceFile;

/// Who may want what is read. Threads share it.
pub(crate) trait ReadAlong: Sync {
    /// A file is about to be read; `None` when nobody wants it.
    fn open<'a>(&'a self, file: &SourceFile) -> Option<Box<dyn Along + 'a>>;
}

/// Who wants one file. Dropped before [`Along::finish`], it was not read whole, or changed meanwhile.
pub(crate) trait Along {
    /// These bytes of it were read; `false` when the rest is not wanted.
    fn bytes(&mut self, bytes: &[u8], at: u64) -> Result<bool, HostError>;
    /// All of it was read, and it was left alone meanwhile.
    fn finish(self: Box<Self>, details: &Details);
}

/// A file that is read, and who reads along.
pub(super) struct Reading<'a> {
    pub(super) file: SourceFile,
    along: RefCell<Option<Box<dyn Along + 'a>>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(file: SourceFile, along: Option<&'a dyn ReadAlong>) -> Self {
        let along = along.and_then(|along| along.open(&file));
        Self { file, along: RefCell::new(along) }
    }

    /// As [`SourceFile::read_at`].
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, HostError> {
        let length = self.file.read_at(buffer, offset)?;
        let mut along = self.along.borrow_mut();
        // What fails there is no trouble of the backup.
        if let Some(wanted) = &mut *along
            && length > 0
            && !wanted.bytes(&buffer[..length], offset).unwrap_or(false)
        {
            *along = None;
        }
        Ok(length)
    }

    /// The file again, and whoever heard all of it.
    pub(super) fn into_parts(self) -> (SourceFile, Option<Box<dyn Along + 'a>>) {
        (self.file, self.along.into_inner())
    }
}
