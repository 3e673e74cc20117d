//! Space that is kept for the day when there is no other: what frees some has to store a little
//! before. Spec: `docs/format/layout.md`, section 6.

use lastgood_backend::{BackendError, ErrorKind, PutOutcome};
use lastgood_format::object::name;

use crate::error::RepoError;
use crate::objects::{self, object_name};
use crate::repository::{Repository, parse_number};

/// Who may spend which part of the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spender {
    /// Retires snapshots, which frees nothing yet: the pieces of odd numbers, so that what gc needs
    /// is left.
    Forget,
    /// Removes packs: every piece.
    Gc,
}

impl Spender {
    const fn may_spend(self, piece: u64) -> bool {
        match self {
            Self::Forget => piece % 2 == 1,
            Self::Gc => true,
        }
    }
}

impl Repository {
    /// Makes the reserve as large as a repository of so many packs wants it. Returns whether there
    /// was room for it.
    ///
    /// # Errors
    /// Whatever the backend says, but for a place that is full or refuses.
    pub fn keep_reserve(&self, packs: u64) -> Result<bool, RepoError> {
        let wanted = PIECES + packs / PACKS_PER_PIECE;
        match self.fill_reserve(wanted) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::NoSpace | ErrorKind::Denied) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fill_reserve(&self, wanted: u64) -> Result<(), BackendError> {
        let there = self.reserve_pieces()?;
        for piece in (0..wanted).filter(|piece| !there.contains(piece)) {
            // Nothing that a file system compresses, or knows already, takes the space it says.
            let mut bytes = vec![0; PIECE_BYTES];
            blake3::Hasher::new_keyed(&self.world().random()).finalize_xof().fill(&mut bytes);
            self.backend().put(&object_name(&name::reserve(piece)), &[&bytes])?;
        }
        for piece in there.into_iter().filter(|piece| *piece >= wanted) {
            self.backend().remove(&object_name(&name::reserve(piece)))?;
        }
        Ok(())
    }

    /// Puts an object that lets space be freed: where the store is full, pieces of the reserve go
    /// until there is room for it.
    pub(crate) fn put_to_free(
        &self,
        spender: Spender,
        object: &str,
        content: &[u8],
    ) -> Result<PutOutcome, BackendError> {
        self.with_room(spender, || objects::put(self.backend().as_ref(), object, content))
    }

    /// Does what may need space, and does it again without a piece of the reserve for as long as the
    /// store is full and there is one. Somebody else may take that space, so one piece may not do.
    pub(crate) fn with_room<T>(
        &self,
        spender: Spender,
        act: impl Fn() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        loop {
            match act() {
                Err(error) if error.kind == ErrorKind::NoSpace => {
                    if !self.spend_piece(spender)? {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    /// Removes a piece of the reserve. Returns whether there was one.
    fn spend_piece(&self, spender: Spender) -> Result<bool, BackendError> {
        let pieces = self.reserve_pieces()?;
        let Some(piece) = pieces.into_iter().filter(|piece| spender.may_spend(*piece)).max() else {
            return Ok(false);
        };
        self.backend().remove(&object_name(&name::reserve(piece)))?;
        Ok(true)
    }

    fn reserve_pieces(&self) -> Result<Vec<u64>, BackendError> {
        let mut pieces = Vec::new();
        self.backend().list(name::RESERVE, &mut |listed| {
            let number = listed.name.as_str().strip_prefix(name::RESERVE);
            pieces.extend(number.and_then(parse_number));
        })?;
        Ok(pieces)
    }
}

/// Large beside what one object of gc takes, small beside a pack.
const PIECE_BYTES: usize = 256 << 10;
/// Of a small repository: 4 MiB in all. Where there is room for bytes and for no more files, each
/// piece gives one file or directory; forget takes up to four, and gc after it seven.
const PIECES: u64 = 16;
/// A condemn list and a verdict that name so many packs, guarded, take less than a piece.
const PACKS_PER_PIECE: u64 = 1024;
