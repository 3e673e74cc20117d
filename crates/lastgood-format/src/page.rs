//! Paged lists: how trees, recipes and tables stay cheap to change however long they grow.
//!
//! A list is cut into *leaf pages* after items whose key hashes to a boundary, so where it is cut
//! depends on the items alone and not on the history of edits. *Interior pages* list the pages
//! below and are cut by the same hashes with more bits. Changing one item rewrites one page per level.
//! Spec: `docs/format/tree.md`, section 2.

use std::ops::Deref;

use twox_hash::XxHash3_64;

use crate::encoding::{DecodeError, Reader, Write};
use crate::id::BlobId;
use crate::limits::{PAGE_ITEMS_MAX, PAGE_LEVEL_MAX, PAGE_WEIGHT_MAX, PATH_BYTES_MAX};

/// How one kind of leaf page encodes its items.
pub trait LeafCodec {
    /// What the list holds.
    type Item: Clone + std::fmt::Debug;

    /// Appends the encoding of a leaf page's items, of which there is at least one unless the
    /// whole list is empty.
    fn encode(items: &[Self::Item], out: &mut Vec<u8>);

    /// Parses what [`encode`](Self::encode) wrote, up to the end of `reader`.
    ///
    /// # Errors
    /// When the bytes are not a canonical encoding.
    fn decode(reader: Reader<'_>) -> Result<Vec<Self::Item>, DecodeError>;

    /// Hash that decides whether a page ends after this item.
    fn boundary_hash(item: &Self::Item) -> u64;

    /// What interior pages say of a page: its last key, for lists that are searched by key.
    fn key(_item: &Self::Item) -> &[u8] {
        &[]
    }

    /// Roughly how many bytes an item takes beyond a constant. Together the items of a page weigh
    /// at most [`PAGE_WEIGHT_MAX`] and one item more.
    fn weight(_item: &Self::Item) -> usize {
        0
    }

    /// What an item measures, for lists that are searched by position (bytes of a file).
    fn measure(_item: &Self::Item) -> u64 {
        1
    }
}

/// The hash of a key that decides page boundaries.
#[must_use]
pub fn boundary_hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// One page of a list below an interior page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The page.
    pub page: BlobId,
    /// Sum of the measures of all items below.
    pub measure: u64,
    /// Key of the last item below; empty for lists without keys.
    pub last_key: Box<[u8]>,
}

/// A decoded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page<T> {
    /// The items themselves.
    Leaf(Vec<T>),
    /// Pages of one level below, in order.
    Interior(Vec<Child>),
}

/// Encodes a page of a list whose leaves `C` encodes; `level` is 0 for a leaf.
#[must_use]
pub fn encode<C: LeafCodec>(level: u8, page: &Page<C::Item>) -> Vec<u8> {
    let mut bytes = vec![level];
    match page {
        Page::Leaf(items) => C::encode(items, &mut bytes),
        Page::Interior(children) => {
            bytes.varint(children.len() as u64);
            for child in children {
                bytes.varint(child.measure);
                bytes.bytes(&child.last_key);
                bytes.extend_from_slice(child.page.as_bytes());
            }
        }
    }
    // What no reader would accept must not be stored.
    debug_assert!(decode::<C>(&bytes, Some(level)).is_ok(), "a page does not decode again");
    bytes
}

/// Decodes a page of a list whose leaves `C` encodes.
///
/// `level` is the level the page must have; `None` for a root page, which may have any.
///
/// # Errors
/// When the bytes are not a canonical page of that level.
pub fn decode<C: LeafCodec>(
    bytes: &[u8],
    level: Option<u8>,
) -> Result<(u8, Page<C::Item>), DecodeError> {
    let mut reader = Reader::new(bytes, "page");
    let found = reader.u8()?;
    if found > PAGE_LEVEL_MAX || level.is_some_and(|level| level != found) {
        return Err(reader.invalid("its level is not the expected one"));
    }
    if found == 0 {
        return Ok((0, Page::Leaf(C::decode(reader)?)));
    }
    let count = reader.count(PAGE_ITEMS_MAX, 34)?;
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        children.push(Child {
            measure: reader.varint()?,
            last_key: reader.bytes(PATH_BYTES_MAX)?.into(),
            page: BlobId::new(reader.array()?),
        });
    }
    if children.is_empty() {
        return Err(reader.invalid("an interior page is empty"));
    }
    reader.finish()?;
    Ok((found, Page::Interior(children)))
}

/// Writes a list item by item, holding at most one page per level in memory.
#[derive(Debug, Clone)]
pub struct PageWriter<C: LeafCodec> {
    items: Vec<C::Item>,
    weight: usize,
    levels: Vec<Vec<Child>>,
}

impl<C: LeafCodec> Default for PageWriter<C> {
    fn default() -> Self {
        Self { items: Vec::new(), weight: 0, levels: Vec::new() }
    }
}

impl<C: LeafCodec> PageWriter<C> {
    /// Appends an item; `store` is called with each page that is complete and returns its id.
    ///
    /// # Errors
    /// What `store` returns; the list must then be dropped.
    pub fn push<E>(
        &mut self,
        item: C::Item,
        store: &mut dyn FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        let hash = C::boundary_hash(&item);
        self.weight = self.weight.saturating_add(C::weight(&item));
        self.items.push(item);
        if is_boundary(hash, 0)
            || self.items.len() >= PAGE_ITEMS_MAX
            || self.weight >= PAGE_WEIGHT_MAX
        {
            self.close_leaf(store)?;
            // A parent ends where its last child does, on rarer boundaries.
            let mut level = 0_usize;
            while self.levels.get(level).is_some_and(|children: &Vec<Child>| {
                is_boundary(hash, level.saturating_add(1))
                    || children.len() >= PAGE_ITEMS_MAX
                    || key_bytes(children) >= PAGE_WEIGHT_MAX
            }) {
                self.close_interior(level, store)?;
                level = level.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Ends the list and returns the id of its root page. An empty list has one empty leaf.
    ///
    /// # Errors
    /// What `store` returns.
    pub fn finish<E>(
        mut self,
        store: &mut dyn FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<BlobId, E> {
        if !self.items.is_empty() || self.levels.is_empty() {
            self.close_leaf(store)?;
        }
        let mut level = 0_usize;
        loop {
            let is_top = level.saturating_add(1) == self.levels.len();
            match self.levels.get(level).map(Vec::as_slice) {
                Some([root]) if is_top => return Ok(root.page),
                Some([]) | None => {}
                Some(_) => self.close_interior(level, store)?,
            }
            level = level.saturating_add(1);
        }
    }

    fn close_leaf<E>(
        &mut self,
        store: &mut dyn FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        self.weight = 0;
        let page = Page::Leaf(std::mem::take(&mut self.items));
        let (measure, last_key) = (page.measure::<C>(), page.last_key::<C>().into());
        let child = Child { page: store(&encode::<C>(0, &page))?, measure, last_key };
        if let Page::Leaf(mut items) = page {
            items.clear();
            self.items = items;
        }
        self.add_child(0, child);
        Ok(())
    }

    fn close_interior<E>(
        &mut self,
        level: usize,
        store: &mut dyn FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        let children = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
        let page = Page::Interior(children);
        let (measure, last_key) = (page.measure::<C>(), page.last_key::<C>().into());
        let number = u8::try_from(level.saturating_add(1)).unwrap_or(u8::MAX);
        let parent = Child { page: store(&encode::<C>(number, &page))?, measure, last_key };
        self.add_child(level.saturating_add(1), parent);
        Ok(())
    }

    fn add_child(&mut self, level: usize, child: Child) {
        while self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        if let Some(children) = self.levels.get_mut(level) {
            children.push(child);
        }
    }
}

/// Writes a whole list.
///
/// # Errors
/// What `store` returns.
pub fn write<C: LeafCodec, E>(
    items: impl IntoIterator<Item = C::Item>,
    store: &mut dyn FnMut(&[u8]) -> Result<BlobId, E>,
) -> Result<BlobId, E> {
    let mut writer = PageWriter::<C>::default();
    for item in items {
        writer.push(item, store)?;
    }
    writer.finish(store)
}

fn key_bytes(children: &[Child]) -> usize {
    children.iter().map(|child| child.last_key.len()).sum()
}

/// Reads a list item by item, holding one page per level in memory.
///
/// Every page must be what the page above says of it: its level, its last key, its measure. For
/// lists with keys, keys ascend over all pages. So no list is longer than its root says, and one
/// with keys names no page twice, however the pages refer to one another.
#[derive(Debug)]
pub struct PageReader<C: LeafCodec> {
    /// What is left of the interior pages on the way down, with their levels.
    branches: Vec<(u8, std::vec::IntoIter<Child>)>,
    leaf: std::vec::IntoIter<C::Item>,
    last_key: Option<Box<[u8]>>,
    measure: u64,
}

impl<C: LeafCodec> PageReader<C> {
    /// Starts with the root page; `load` returns the bytes of a page.
    ///
    /// # Errors
    /// What `load` returns; a malformed page is turned into `E`.
    pub fn open<B: Deref<Target = [u8]>, E: From<DecodeError>>(
        root: BlobId,
        load: &mut dyn FnMut(BlobId) -> Result<B, E>,
    ) -> Result<Self, E> {
        let mut reader =
            Self { branches: Vec::new(), leaf: Vec::new().into_iter(), last_key: None, measure: 0 };
        let bytes = load(root)?;
        let (level, page) = decode::<C>(&bytes, None)?;
        reader.measure = page.measure::<C>();
        reader.enter(level, page)?;
        Ok(reader)
    }

    /// Sum of the measures of all items.
    #[must_use]
    pub const fn measure(&self) -> u64 {
        self.measure
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// As [`open`](Self::open); the list must then be dropped.
    pub fn next<B: Deref<Target = [u8]>, E: From<DecodeError>>(
        &mut self,
        load: &mut dyn FnMut(BlobId) -> Result<B, E>,
    ) -> Result<Option<C::Item>, E> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Ok(Some(item));
            }
            let Some((level, children)) = self.branches.last_mut() else { return Ok(None) };
            let Some(child) = children.next() else {
                self.branches.pop();
                continue;
            };
            let (level, page) = decode::<C>(&load(child.page)?, Some(level.saturating_sub(1)))?;
            page.check_child::<C>(&child)?;
            self.enter(level, page)?;
        }
    }

    fn enter(&mut self, level: u8, page: Page<C::Item>) -> Result<(), DecodeError> {
        match page {
            Page::Interior(children) => self.branches.push((level, children.into_iter())),
            Page::Leaf(items) => {
                let first = items.first().map(C::key).unwrap_or_default();
                if !first.is_empty() && self.last_key.as_deref().is_some_and(|last| last >= first) {
                    return Err(DecodeError::invalid("page", "its items are out of order"));
                }
                self.last_key = items.last().map(|item| C::key(item).into());
                self.leaf = items.into_iter();
            }
        }
        Ok(())
    }
}

impl<T> Page<T> {
    /// Compares the page with what the page above says of it.
    ///
    /// # Errors
    /// When its last key or its measure is another, or it is empty: few empty pages that refer to
    /// one another would be endlessly many, and measure nothing.
    pub fn check_child<C: LeafCodec<Item = T>>(&self, child: &Child) -> Result<(), DecodeError> {
        if self.last_key::<C>() != &*child.last_key {
            return Err(DecodeError::invalid("page", "its last key is another"));
        }
        match self.measure::<C>() {
            0 => Err(DecodeError::invalid("page", "it is empty and not the only one")),
            measure if measure == child.measure => Ok(()),
            _ => Err(DecodeError::invalid("page", "its measure is another")),
        }
    }

    /// What all items below measure, by what the page itself says.
    #[must_use]
    pub fn measure<C: LeafCodec<Item = T>>(&self) -> u64 {
        match self {
            Self::Leaf(items) => items.iter().map(C::measure).fold(0, u64::saturating_add),
            Self::Interior(children) => {
                children.iter().map(|child| child.measure).fold(0, u64::saturating_add)
            }
        }
    }

    /// The key of the last item below.
    #[must_use]
    pub fn last_key<C: LeafCodec<Item = T>>(&self) -> &[u8] {
        match self {
            Self::Leaf(items) => items.last().map(C::key).unwrap_or_default(),
            Self::Interior(children) => {
                children.last().map(|child| &*child.last_key).unwrap_or_default()
            }
        }
    }
}

/// Visits the items of a list in order, as [`PageReader`] gives them.
///
/// # Errors
/// What `load` and `visit` return; a malformed page is turned into `E`.
pub fn walk<C: LeafCodec, B: Deref<Target = [u8]>, E: From<DecodeError>>(
    root: BlobId,
    load: &mut dyn FnMut(BlobId) -> Result<B, E>,
    visit: &mut dyn FnMut(C::Item) -> Result<(), E>,
) -> Result<(), E> {
    let mut pages = PageReader::<C>::open(root, load)?;
    while let Some(item) = pages.next(load)? {
        visit(item)?;
    }
    Ok(())
}

/// A leaf ends with probability 1/1024, an interior page of level `n` with 1/1024 to the `n + 1`.
const fn is_boundary(hash: u64, level: usize) -> bool {
    let bits = 10_usize.saturating_mul(level.saturating_add(1));
    bits < 64 && hash.trailing_zeros() as usize >= bits
}

#[cfg(test)]
mod tests;
