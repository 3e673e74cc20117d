//! The names of one directory.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::Kind;

/// What `getdents64` fills: one per worker, used for every directory it lists.
#[derive(Debug)]
pub struct ListBuffer {
    bytes: Box<[MaybeUninit<u8>]>,
}

/// Larger buffers are not faster: `research/limits.md` B8.
const LIST_BUFFER_BYTES: usize = 64 << 10;

impl ListBuffer {
    /// Allocates 64 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Box::new_uninit_slice(LIST_BUFFER_BYTES) }
    }
}

impl Default for ListBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// All names of a directory at one moment, ascending by their raw bytes, each once, without `.`
/// and `..`.
///
/// 16 bytes per entry plus the name. Names that a tree cannot hold (longer than 255 bytes, which
/// file systems with UTF-16 names can have) are listed too; [`super::Directory::scan`] reports
/// them.
#[derive(Debug, Default)]
pub struct Listing {
    /// Names, each with its NUL.
    names: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where a name is, with enough of it to sort most directories without looking at `names`.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// First eight bytes, big-endian, padded with the NUL that no name contains.
    prefix: u64,
    start: u32,
    /// Without the NUL.
    length: u16,
    /// `None` where the file system does not say.
    kind: Option<Kind>,
}

impl Listing {
    pub(super) fn read(fd: BorrowedFd<'_>, buffer: &mut ListBuffer) -> Result<Self, Errno> {
        let mut listing = Self::default();
        let mut directory = RawDir::new(fd, &mut buffer.bytes);
        while let Some(entry) = directory.next() {
            match entry {
                Ok(entry) => listing.push(entry.file_name(), entry.file_type())?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        listing.sort();
        Ok(listing)
    }

    fn push(&mut self, name: &CStr, file_type: FileType) -> Result<(), Errno> {
        let bytes = name.to_bytes();
        if bytes == b"." || bytes == b".." {
            return Ok(());
        }
        let start = u32::try_from(self.names.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u16::try_from(bytes.len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.slots.push(Slot {
            prefix: prefix(bytes),
            start,
            length,
            kind: Kind::from_file_type(file_type),
        });
        self.names.extend_from_slice(name.to_bytes_with_nul());
        Ok(())
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.slots.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| a.name(names).cmp(b.name(names)))
        });
        // A directory that is renamed in while it is read may show a name twice.
        self.slots.dedup_by(|a, b| a.prefix == b.prefix && a.name(names) == b.name(names));
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the directory has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The name at `index`, which is below [`len`](Self::len).
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn name(&self, index: usize) -> &[u8] {
        self.slots[index].name(&self.names)
    }

    /// What the name stands for, as far as the file system says so in its listing: worth a look
    /// before an exclude rule, no substitute for [`super::Stat`].
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn kind(&self, index: usize) -> Option<Kind> {
        self.slots[index].kind
    }

    /// Index of `name`, if it is there.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        self.slots.binary_search_by(|slot| slot.name(&self.names).cmp(name)).ok()
    }

    /// All names, ascending.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.slots.iter().map(|slot| slot.name(&self.names))
    }

    /// The name with its NUL, so that no call has to copy it.
    pub(super) fn c_name(&self, index: usize) -> &CStr {
        let slot = &self.slots[index];
        let with_nul = &self.names[slot.start as usize..][..usize::from(slot.length) + 1];
        CStr::from_bytes_with_nul(with_nul).expect("every name was pushed as a C string")
    }
}

impl Slot {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.start as usize..][..usize::from(self.length)]
    }
}

fn prefix(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(8);
    first[..length].copy_from_slice(&name[..length]);
    u64::from_be_bytes(first)
}
