//! Where the frames of a pack lie until it is put.

use std::fmt;

/// Memory of which a pack is made: of a fixed length, and zero or whatever an earlier pack left.
pub trait PackMemory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + fmt::Debug {}

impl<M: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + fmt::Debug> PackMemory for M {}

/// Sealed frames, in a buffer that is used again and again. Dereferences to the frames.
#[derive(Debug)]
pub struct PackBuffer {
    memory: Box<dyn PackMemory>,
    start: usize,
    used: usize,
}

impl PackBuffer {
    /// Frames behind a header of `header_bytes`, in `memory`. They lie there as they will in the
    /// pack, in respect of blocks of 4,096 bytes, so that they can be written from where they are;
    /// if there come more, they are moved, and only that is lost.
    #[must_use]
    pub fn new(header_bytes: usize, memory: Box<dyn PackMemory>) -> Self {
        let start = memory.as_ref().as_ref().as_ptr().align_offset(BLOCK_BYTES);
        let start = start.wrapping_add(header_bytes) % BLOCK_BYTES;
        Self { memory, start, used: 0 }
    }

    /// The same memory with no frames in it.
    pub(super) fn cleared(self) -> Self {
        Self { used: 0, ..self }
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

    fn all(&self) -> &[u8] {
        self.memory.as_ref().as_ref()
    }

    fn all_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().as_mut()
    }

    pub(super) fn frames_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.start.saturating_add(self.used));
        self.all_mut().get_mut(start..end).unwrap_or_default()
    }
}

impl Default for PackBuffer {
    /// Memory that grows with the frames.
    fn default() -> Self {
        Self { memory: Box::new(Vec::new()), start: 0, used: 0 }
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
