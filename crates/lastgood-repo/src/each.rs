//! Requests that wait for a store and not for each other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::RepoError;
use crate::packer::lock;

/// Works on `items` with several threads; the results come in the order of the items.
///
/// # Errors
/// The first error that was met.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, RepoError> + Sync,
) -> Result<Vec<R>, RepoError> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(items.len()));
    let failed = Mutex::new(None);
    let run = || {
        while let Some((number, item)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            items.get(number).map(|item| (number, item))
        } {
            match work(item) {
                Ok(result) => lock(&found).push((number, result)),
                Err(error) => {
                    lock(&failed).get_or_insert(error);
                    next.store(items.len(), Ordering::Relaxed);
                }
            }
        }
    };
    match threads.min(items.len()) {
        0 | 1 => run(),
        threads => std::thread::scope(|scope| {
            (0..threads).for_each(|_| {
                scope.spawn(run);
            });
        }),
    }
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_unstable_by_key(|(number, _)| *number);
    Ok(found.into_iter().map(|(_, result)| result).collect())
}
