//! Where a file has data and where it has holes.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use crate::HostError;
use crate::scan::Stat;
use crate::sys;

/// The data ranges of a file; see [`super::SourceFile::extents`].
///
/// Two calls of the system per range, none kept in memory: a file of a million holes costs no more
/// than one. Where the file system cannot tell, the rest of the file is one range.
#[derive(Debug)]
pub struct Extents<'a> {
    fd: BorrowedFd<'a>,
    path: &'a Path,
    position: u64,
    size: u64,
    /// Whether asking for holes can be worth it.
    sparse: bool,
}

impl<'a> Extents<'a> {
    pub(super) const fn new(fd: BorrowedFd<'a>, path: &'a Path, stat: &Stat, offset: u64) -> Self {
        Self { fd, path, position: offset, size: stat.size, sparse: stat.is_sparse() }
    }

    fn rest(&mut self) -> Range<u64> {
        let start = std::mem::replace(&mut self.position, self.size);
        start..self.size
    }

    fn next_range(&mut self) -> Result<Option<Range<u64>>, Errno> {
        if self.position >= self.size {
            return Ok(None);
        }
        if !self.sparse {
            return Ok(Some(self.rest()));
        }
        let start = match sys::retry(|| fs::seek(self.fd, SeekFrom::Data(self.position))) {
            Ok(start) if start < self.size => start.max(self.position),
            // No data up to the end, or the file was cut meanwhile.
            Ok(_) | Err(Errno::NXIO) => {
                self.position = self.size;
                return Ok(None);
            }
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(self.rest())),
            Err(errno) => return Err(errno),
        };
        self.position = start;
        let end = match sys::retry(|| fs::seek(self.fd, SeekFrom::Hole(start))) {
            Ok(end) => end.min(self.size),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => self.size,
            Err(errno) => return Err(errno),
        };
        if end <= start {
            // Punched between the two questions: whatever is there now is read as data.
            return Ok(Some(self.rest()));
        }
        self.position = end;
        Ok(Some(start..end))
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Range<u64>, HostError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_range() {
            Ok(range) => range.map(Ok),
            Err(errno) => {
                self.position = self.size;
                Some(Err(HostError::new("find the holes of", self.path.into(), errno)))
            }
        }
    }
}
