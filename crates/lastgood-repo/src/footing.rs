//! What a blob stands on: the pack that holds it and, where it is a change of another blob there, the
//! pack that holds that one whole. Whoever refers to a blob refers to both.
//! Spec: `docs/format/pack.md`, section 6.

use std::cell::RefCell;

use lastgood_format::id::{BlobId, SessionId};
use lastgood_format::pack::BlobEntry;
use lastgood_format::packset::PackRef;

use crate::error::RepoError;
use crate::index::{Index, IndexLocation};
use crate::reader::{BlobPlace, PackReader};

/// The packs to name for the sake of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footing {
    /// The one that holds it.
    pub(crate) pack: PackRef,
    /// The one that holds its base whole, where it is a delta there and nobody named that yet.
    pub(crate) base: Option<PackRef>,
}

impl Footing {
    pub(crate) fn packs(self) -> impl Iterator<Item = PackRef> {
        [Some(self.pack), self.base].into_iter().flatten()
    }
}

/// Looks for blobs in packs that may be referred to. The index only says where to look: what it
/// claims wrongly would be missing from a snapshot.
pub(crate) struct Footings<'a> {
    index: &'a Index,
    packs: &'a PackReader,
    may_refer_to: &'a dyn Fn(&PackRef) -> bool,
    own: Option<SessionId>,
    /// Why the first pack could not be looked into that the store did not give.
    unread: RefCell<Option<RepoError>>,
}

impl<'a> Footings<'a> {
    pub(crate) const fn new(
        index: &'a Index,
        packs: &'a PackReader,
        may_refer_to: &'a dyn Fn(&PackRef) -> bool,
    ) -> Self {
        Self { index, packs, may_refer_to, own: None, unread: RefCell::new(None) }
    }

    /// Believes the index of packs of this session, which wrote both, and named the packs of bases
    /// when it did.
    pub(crate) const fn of_session(mut self, own: SessionId) -> Self {
        self.own = Some(own);
        self
    }

    /// What a blob stands on, if all of that may be referred to.
    pub(crate) fn find(&self, blob: BlobId) -> Option<Footing> {
        let mut deltas = Vec::new();
        // Nothing is asked of the index while it answers.
        let found = self.index.find(blob, &mut |at| {
            if Some(at.pack.session) == self.own {
                return (self.may_refer_to)(&at.pack);
            }
            match self.entry(at, blob) {
                Some(BlobEntry { base: Some(base), .. }) => {
                    deltas.push((at.pack, base));
                    false
                }
                entry => entry.is_some(),
            }
        });
        let is_whole = found.map(|at| Footing { pack: at.pack, base: None });
        is_whole.or_else(|| {
            deltas.into_iter().find_map(|(pack, base)| {
                let base = self.whole(base)?.pack;
                Some(Footing { pack, base: Some(base) })
            })
        })
    }

    /// Where a blob lies whole.
    pub(crate) fn whole(&self, blob: BlobId) -> Option<BlobPlace> {
        self.place(blob, &|entry| entry.base.is_none())
    }

    /// Where the blob lies whole of which a change of `blob` is to be one: `blob` itself, or its own
    /// base, so that no delta is made of a delta.
    pub(crate) fn base(&self, blob: BlobId) -> Option<BlobPlace> {
        let place = self.place(blob, &|_| true)?;
        match place.entry.base {
            None => Some(place),
            Some(base) => self.whole(base),
        }
    }

    fn place(&self, blob: BlobId, accept: &dyn Fn(&BlobEntry) -> bool) -> Option<BlobPlace> {
        let mut place = None;
        self.index.find(blob, &mut |at| {
            let entry = self.entry(at, blob).filter(accept);
            place = entry.map(|entry| BlobPlace { pack: at.pack, entry });
            place.is_some()
        });
        place
    }

    /// What a pack's own directory says of a blob that the index tells of.
    fn entry(&self, at: &IndexLocation, blob: BlobId) -> Option<BlobEntry> {
        if !(self.may_refer_to)(&at.pack) {
            return None;
        }
        match self.packs.open(at.pack) {
            Ok(opened) => {
                let entry = opened.directory.blobs.get(at.ordinal as usize);
                entry.copied().filter(|entry| entry.id == blob)
            }
            Err(error) => {
                if error.is_unread() {
                    self.unread.borrow_mut().get_or_insert(error);
                }
                None
            }
        }
    }

    /// Why a pack could not be looked into that may hold what was not found.
    pub(crate) fn unread(self) -> Option<RepoError> {
        self.unread.into_inner()
    }
}
