//! What direct transfers, past the page cache, need on both ways.

use std::sync::{Mutex, PoisonError};

use crate::Pages;

/// Aligned buffers, kept for the next transfer.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Pages>>);

impl Buffers {
    /// Lends a buffer of [`BUFFER_BYTES`].
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = idle.unwrap_or_else(|| Pages::new(BUFFER_BYTES));
        let done = work(buffer.as_mut());
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_BUFFERS_MAX {
            idle.push(buffer);
        }
        done
    }
}

/// Shorter transfers are not worth being direct: the page cache answers sooner.
pub(super) const DIRECT_BYTES_MIN: usize = 1 << 20;
/// One transfer. Measured: 2 to 16 MiB are equally fast, 512 KiB is a third slower.
pub(super) const BUFFER_BYTES: usize = 4 << 20;
/// Enough for every logical block and page size in use; where it is not, transfers are buffered.
pub(super) const ALIGNMENT: usize = 4096;
const IDLE_BUFFERS_MAX: usize = 4;
