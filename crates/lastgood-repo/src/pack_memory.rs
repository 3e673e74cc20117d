//! The memory that packs are made in: so much and no more, used again and again.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use lastgood_backend::Pages;

use crate::packer::lock;

/// Pieces of memory of one length, of which there are only so many: who wants one more waits until
/// a pack has been put. So however many threads fill packs, memory stays the same.
#[derive(Debug)]
pub(crate) struct PackPool {
    piece_bytes: usize,
    pieces_max: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Pages>,
    made: usize,
}

/// A piece of a pool, which gets it back when this is dropped.
#[derive(Debug)]
pub(crate) struct PackPiece {
    pages: Option<Pages>,
    pool: Arc<PackPool>,
}

impl PackPool {
    pub(crate) fn new(piece_bytes: usize, pieces_max: usize) -> Self {
        Self { piece_bytes, pieces_max, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Takes a piece, of which all but zeros is of an earlier pack.
    pub(crate) fn take(self: &Arc<Self>) -> PackPiece {
        let mut state = lock(&self.state);
        let pages = loop {
            if let Some(pages) = state.idle.pop() {
                break pages;
            }
            if state.made < self.pieces_max {
                state.made += 1;
                break Pages::new(self.piece_bytes);
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        PackPiece { pages: Some(pages), pool: self.clone() }
    }
}

impl Drop for PackPiece {
    fn drop(&mut self) {
        lock(&self.pool.state).idle.extend(self.pages.take());
        self.pool.returned.notify_one();
    }
}

impl AsRef<[u8]> for PackPiece {
    fn as_ref(&self) -> &[u8] {
        self.pages.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl AsMut<[u8]> for PackPiece {
    fn as_mut(&mut self) -> &mut [u8] {
        self.pages.as_mut().map_or(&mut [], AsMut::as_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_more_than_there_is_waits_for_one_to_be_dropped() {
        let pool = Arc::new(PackPool::new(10, 2));
        let (mut one, two) = (pool.take(), pool.take());
        one.as_mut().fill(7);
        std::thread::scope(|scope| {
            let third = scope.spawn(|| pool.take().as_ref().to_vec());
            drop(one);
            assert_eq!(third.join().unwrap(), [7; 10], "it is used again");
        });
        drop(two);
        let state = lock(&pool.state);
        assert_eq!((state.idle.len(), state.made), (2, 2));
    }
}
