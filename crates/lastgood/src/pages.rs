//! Reading a paged list item by item, going on behind pages that cannot be read.

use lastgood_format::encoding::DecodeError;
use lastgood_format::id::BlobId;
use lastgood_format::pack::BlobKind;
use lastgood_format::page::{self, Child, LeafCodec, Page};
use lastgood_repo::{BlobReader, Damage, RepoError};

/// The items of one list, in order. Holds one leaf page, and the rest of one interior page a level.
pub(crate) struct Pages<'a, C: LeafCodec> {
    reader: &'a BlobReader,
    kind: BlobKind,
    root: Option<BlobId>,
    /// Level of the pages that each iterator names, which is one less than that of its own page.
    levels: Vec<(u8, std::vec::IntoIter<Child>)>,
    items: std::vec::IntoIter<C::Item>,
    last_key: Option<Box<[u8]>>,
}

/// A page that cannot be read, and what was below it.
pub(crate) struct Gap {
    /// Why.
    pub(crate) error: RepoError,
    /// Sum of the measures of what is missing; `None` when nothing is known of it.
    pub(crate) measure: Option<u64>,
}

impl<'a, C: LeafCodec> Pages<'a, C> {
    pub(crate) fn new(reader: &'a BlobReader, kind: BlobKind, root: BlobId) -> Self {
        Self {
            reader,
            kind,
            root: Some(root),
            levels: Vec::new(),
            items: Vec::new().into_iter(),
            last_key: None,
        }
    }

    fn next_page(&mut self) -> Option<(BlobId, Option<u8>, Option<Child>)> {
        if let Some(root) = self.root.take() {
            return Some((root, None, None));
        }
        while let Some((level, children)) = self.levels.last_mut() {
            if let Some(child) = children.next() {
                return Some((child.page, Some(*level), Some(child)));
            }
            self.levels.pop();
        }
        None
    }

    /// Takes in one page. Keys ascend over all pages, and each page ends with the key that the
    /// page above tells, so a list that refers to its pages twice is found out.
    fn enter(
        &mut self,
        page: BlobId,
        level: Option<u8>,
        child: Option<&Child>,
    ) -> Result<(), RepoError> {
        let bytes = self.reader.blob(self.kind, page)?;
        let invalid = |why| self.damaged(page, DecodeError::Invalid { what: "page", why });
        let (found, decoded) =
            page::decode::<C>(&bytes, level).map_err(|error| self.damaged(page, error))?;
        if let Some(child) = child {
            decoded.check_child::<C>(child).map_err(|error| self.damaged(page, error))?;
        }
        match decoded {
            Page::Leaf(items) => {
                let first = items.first().map(C::key).unwrap_or_default();
                if !first.is_empty() && self.last_key.as_deref().is_some_and(|last| last >= first) {
                    return Err(invalid("its items are out of order"));
                }
                self.last_key = Some(items.last().map(C::key).unwrap_or_default().into());
                self.items = items.into_iter();
            }
            Page::Interior(children) => {
                self.levels.push((found - 1, children.into_iter()));
            }
        }
        Ok(())
    }

    fn damaged(&self, page: BlobId, error: DecodeError) -> RepoError {
        RepoError::Damaged {
            object: format!("blob {page}"),
            location: self.reader.repo().location().to_owned(),
            source: Damage::Decode(error),
        }
    }
}

impl<C: LeafCodec> Iterator for Pages<'_, C> {
    type Item = Result<C::Item, Gap>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            let (page, level, child) = self.next_page()?;
            if let Err(error) = self.enter(page, level, child.as_ref()) {
                let measure = child.as_ref().map(|child| child.measure);
                if let Some(child) = child {
                    self.last_key = Some(child.last_key);
                }
                return Some(Err(Gap { error, measure }));
            }
        }
    }
}
