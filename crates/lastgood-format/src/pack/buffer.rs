//! Where a pack lies until it is put.

use crate::memory::Memory;

/// A pack that is being made: room for its header, its frames, then all the rest. Dereferences to
/// the pack.
#[derive(Debug)]
pub struct PackBuffer {
    memory: Box<dyn Memory>,
    start: usize,
    header_bytes: usize,
    used: usize,
}

impl PackBuffer {
    /// No frames behind a header of `header_bytes`, in `memory`. The pack begins at a multiple of
    /// 4,096 bytes, so that it can be written from where it lies; should it outgrow the memory, it
    /// is moved, and only that is lost.
    pub(super) fn new(header_bytes: usize, memory: Box<dyn Memory>) -> Self {
        let bytes = (*memory).as_ref();
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(bytes.len());
        Self { memory, start, header_bytes, used: header_bytes }
    }

    /// So many more bytes, to be overwritten: what an earlier pack left there is not cleared.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.start.saturating_add(self.used);
        let end = start.saturating_add(bytes);
        self.used = self.used.saturating_add(bytes);
        if self.all().len() < end {
            let mut longer = Vec::with_capacity(end.max(self.all().len().saturating_mul(2)));
            longer.extend_from_slice(self.all());
            longer.resize(longer.capacity(), 0);
            self.memory = Box::new(longer);
        }
        self.all_mut().get_mut(start..end).unwrap_or_default()
    }

    /// All of the pack, which has `bytes` in all.
    pub(super) fn whole(&mut self, bytes: usize) -> &mut [u8] {
        self.room(bytes.saturating_sub(self.used));
        let start = self.start;
        self.all_mut().get_mut(start..start.saturating_add(bytes)).unwrap_or_default()
    }

    /// What follows the header.
    pub(super) fn frames(&self) -> &[u8] {
        self.get(self.header_bytes..).unwrap_or_default()
    }

    fn all(&self) -> &[u8] {
        (*self.memory).as_ref()
    }

    fn all_mut(&mut self) -> &mut [u8] {
        (*self.memory).as_mut()
    }
}

impl std::ops::Deref for PackBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.all().get(self.start..self.start.saturating_add(self.used)).unwrap_or_default()
    }
}

/// What disks and page caches work in.
const BLOCK_BYTES: usize = 4096;
