use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::entry::{Content, Entry, Hint, Node, Timestamp, Xattr};
use crate::hints::{HintItem, HintsCodec};
use crate::limits::{BLOB_BYTES_MAX, ENTRY_XATTR_BYTES_MAX};
use crate::links::{Link, LinksCodec};
use crate::recipe::{Part, RecipeCodec};
use crate::samples::{
    PageStore, blob_id, check_canonical, mix, numbered_file, numbered_id, page_lengths, rewritten,
};
use crate::tree::TreeCodec;

/// An item whose boundary hash can be chosen, and that reads back with its number.
fn item(inode: u64, boundary: u64) -> HintItem {
    HintItem { hint: Hint { inode, ..Hint::default() }, children: None, boundary }
}

fn check_list(boundaries: impl IntoIterator<Item = u64>) -> PageStore {
    let items: Vec<_> =
        boundaries.into_iter().enumerate().map(|(n, b)| item(n as u64, b)).collect();
    let mut store = PageStore::default();
    let root = store.write::<HintsCodec>(items.iter().copied());
    let read: Vec<_> = store.read::<HintsCodec>(root).iter().map(|item| item.hint.inode).collect();
    assert!(read.iter().copied().eq(0..items.len() as u64), "items are lost or out of order");
    for bytes in store.pages.values() {
        assert!(check_canonical::<HintsCodec>(bytes));
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Boundaries of all ranks, far denser than hashes give.
    #[test]
    fn lists_read_back_wherever_they_are_cut(
        boundaries in vec(prop_oneof![
            6 => Just(1_u64), 3 => Just(1 << 10), 2 => Just(1 << 20), 1 => Just(1 << 30), 1 => Just(0),
        ], 0..200),
    ) {
        check_list(boundaries);
    }

    #[test]
    fn interior_pages_have_one_form(
        level in 1..=PAGE_LEVEL_MAX,
        children in vec((blob_id(), any::<u64>(), vec(any::<u8>(), 0..30)), 1..10),
        bit in any::<prop::sample::Index>(),
    ) {
        let children = children
            .into_iter()
            .map(|(page, measure, key)| Child { page, measure, last_key: key.into() })
            .collect();
        let page = Page::Interior(children);
        let mut bytes = encode::<TreeCodec>(level, &page);
        prop_assert_eq!(decode::<TreeCodec>(&bytes, None), Ok((level, page.clone())));
        prop_assert_eq!(decode::<TreeCodec>(&bytes, Some(level)), Ok((level, page)));
        prop_assert!(decode::<TreeCodec>(&bytes, Some(level - 1)).is_err());
        for end in 0..bytes.len() {
            prop_assert!(decode::<TreeCodec>(&bytes[..end], None).is_err());
        }
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        check_canonical::<TreeCodec>(&bytes);
    }
}

#[test]
fn lists_of_every_awkward_length_read_back() {
    const N: usize = PAGE_ITEMS_MAX;
    for count in [0, 1, N - 1, N, N + 1, 2 * N, 3 * N + 5] {
        // Nothing ends a page but its limit.
        check_list(std::iter::repeat_n(1, count));
    }
    // Every item ends a page of every level.
    let pages = check_list(std::iter::repeat_n(0, 300)).pages;
    assert!(pages.values().all(|bytes| bytes[0] <= PAGE_LEVEL_MAX));
    check_list((0..20_000).map(mix));
}

#[test]
fn pages_too_deep_or_of_no_items_are_refused() {
    let child = Child { page: BlobId::new([1; 32]), measure: 1, last_key: [].into() };
    let mut bytes = encode::<TreeCodec>(PAGE_LEVEL_MAX, &Page::Interior(vec![child]));
    assert!(decode::<TreeCodec>(&bytes, None).is_ok());
    bytes[0] += 1;
    assert!(decode::<TreeCodec>(&bytes, None).is_err());
    assert!(decode::<TreeCodec>(&[1, 0], None).is_err());
    assert!(decode::<TreeCodec>(&[], None).is_err());
}

/// A hostile list of pages that refer to one another cannot be walked for ever.
#[test]
fn pages_that_repeat_are_refused_by_the_walk() {
    let mut store = PageStore::default();
    let leaf = store.write::<TreeCodec>((0..10).map(numbered_file));
    let child = Child { page: leaf, measure: 10, last_key: numbered_file(9).name };
    let bytes = encode::<TreeCodec>(1, &Page::Interior(vec![child; 2]));
    let root = BlobId::new(*blake3::hash(&bytes).as_bytes());
    store.pages.insert(root, bytes);
    let mut visited = 0;
    let result = walk::<TreeCodec, _, DecodeError>(
        root,
        &mut |id| Ok(store.pages[&id].clone()),
        &mut |_| {
            visited += 1;
            Ok(())
        },
    );
    assert!(result.is_err());
    assert_eq!(visited, 10);
}

/// Nor can one without keys, whose pages may repeat: what a page holds is what its parent says.
#[test]
fn a_list_is_as_long_as_its_root_says() {
    let mut store = PageStore::default();
    let leaf = store.write::<HintsCodec>((0..10).map(|number| item(number, 1)));
    let mut check = |measure: u64, is_whole: bool| {
        let child = Child { page: leaf, measure, last_key: [].into() };
        let bytes = encode::<HintsCodec>(1, &Page::Interior(vec![child; 3]));
        let root = BlobId::new(*blake3::hash(&bytes).as_bytes());
        store.pages.insert(root, bytes);
        let mut load = |id| Ok::<_, DecodeError>(store.pages[&id].clone());
        let mut pages = PageReader::<HintsCodec>::open(root, &mut load).unwrap();
        assert_eq!(pages.measure(), 3 * measure);
        let mut count = 0;
        let is_read = loop {
            match pages.next(&mut load) {
                Ok(Some(_)) => count += 1,
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert_eq!((is_read, count), (is_whole, if is_whole { 30 } else { 0 }));
    };
    check(10, true);
    check(9, false);
    check(11, false);

    let empty = store.write::<HintsCodec>([]);
    let child = Child { page: empty, measure: 0, last_key: [].into() };
    let bytes = encode::<HintsCodec>(1, &Page::Interior(vec![child; 3]));
    let root = BlobId::new(*blake3::hash(&bytes).as_bytes());
    store.pages.insert(root, bytes);
    let mut load = |id| Ok::<_, DecodeError>(store.pages[&id].clone());
    assert!(walk::<HintsCodec, _, _>(root, &mut load, &mut |_| Ok(())).is_err());
}

/// Pages must stay storable as blobs whatever the entries hold.
#[test]
fn heavy_entries_make_short_pages() {
    let target = vec![b't'; 4095];
    let symlinks = (0..9000).map(|number| Entry {
        node: Node::Symlink { target: target.clone().into() },
        ..numbered_file(number)
    });
    // The longest sets that are allowed, all different, and all the same.
    let heavy = |number: u64, tag: u8| Entry {
        xattrs: Some(
            (0..ENTRY_XATTR_BYTES_MAX / 65_600)
                .map(|index| Xattr {
                    name: format!("user.{index:03}").into_bytes().into(),
                    value: vec![tag; 65_536].into(),
                })
                .collect(),
        ),
        ..numbered_file(number)
    };
    let mut store = PageStore::default();
    let root = store.write::<TreeCodec>(symlinks);
    assert_eq!(store.read::<TreeCodec>(root).len(), 9000);
    let root = store.write::<TreeCodec>((0..20).map(|number| heavy(number, number as u8)));
    assert_eq!(store.read::<TreeCodec>(root).len(), 20);
    let root = store.write::<TreeCodec>((0..20).map(|number| heavy(number, 0)));
    assert_eq!(store.read::<TreeCodec>(root).len(), 20);

    let path = |number: u64| {
        let name = format!("{}-{number:05}", "d".repeat(240));
        [&*"directory/".repeat(5000), &*name].concat().into_bytes().into_boxed_slice()
    };
    let leader: Box<[u8]> = b"a".to_vec().into();
    let links = (0..300).map(|number| Link { path: path(number), leader: leader.clone() });
    let root = store.write::<LinksCodec>(links);
    assert_eq!(store.read::<LinksCodec>(root).len(), 300);
    assert!(store.pages.values().all(|page| page.len() <= BLOB_BYTES_MAX));
}

fn touched(number: u64) -> Entry {
    let file = numbered_file(number);
    Entry {
        mtime: Timestamp { seconds: 1_800_000_000, nanos: 1 },
        node: Node::File { size: 77, content: Content::Chunk(numbered_id(!number)) },
        ..file
    }
}

#[test]
fn one_changed_entry_of_a_million_rewrites_three_pages() {
    const COUNT: u64 = 1_000_000;
    let (root, before) = page_lengths::<TreeCodec>((0..COUNT).map(numbered_file));
    for changed in [777_777, COUNT - 1] {
        let entries = (0..COUNT).map(|n| if n == changed { touched(n) } else { numbered_file(n) });
        let (other, after) = page_lengths::<TreeCodec>(entries);
        assert_ne!(root, other);
        let (pages, bytes) = rewritten(&before, &after);
        assert!((1..=3).contains(&pages), "entry {changed} rewrites {pages} pages");
        assert!(bytes <= 512 << 10, "entry {changed} rewrites {bytes} bytes");
    }
}

#[test]
fn insertion_and_removal_stay_local() {
    const COUNT: u64 = 100_000;
    let (root, before) = page_lengths::<TreeCodec>((0..COUNT).map(numbered_file));
    for at in [0, 77_777, COUNT - 1] {
        let (_, removed) =
            page_lengths::<TreeCodec>((0..COUNT).filter(|&n| n != at).map(numbered_file));
        let inserted = (0..COUNT).flat_map(|n| {
            let new = Entry { name: format!("file-{n:07}.txt~").into_bytes().into(), ..touched(n) };
            [Some(numbered_file(n)), (n == at).then_some(new)].into_iter().flatten()
        });
        let (_, inserted) = page_lengths::<TreeCodec>(inserted);
        for after in [removed, inserted] {
            let (pages, bytes) = rewritten(&before, &after);
            assert!(pages <= 5, "an edit at {at} rewrites {pages} pages");
            assert!(bytes <= 1 << 20, "an edit at {at} rewrites {bytes} bytes");
        }
    }
    // Undone edits leave no trace: pages are a function of the list, not of its history.
    let (again, pages) = page_lengths::<TreeCodec>((0..COUNT).map(numbered_file));
    assert_eq!((again, pages), (root, before));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Where a page ends depends on what it holds and nothing before it: after a boundary, the
    /// pages of a list are those of its rest.
    #[test]
    fn pages_are_a_function_of_the_entries_alone(
        edits in vec((0_u64..3000, any::<bool>()), 0..400),
        shuffle in any::<u64>(),
    ) {
        let build = |edits: &[(u64, bool)]| {
            let mut names: std::collections::BTreeSet<u64> = (0..3000).step_by(2).collect();
            for (number, insert) in edits {
                if *insert { names.insert(*number); } else { names.remove(number); }
            }
            page_lengths::<TreeCodec>(names.into_iter().map(numbered_file))
        };
        // The last edit of each name wins, so reorder only edits of different names.
        let last: HashMap<u64, bool> = edits.iter().copied().collect();
        let mut reordered: Vec<_> = last.into_iter().collect();
        reordered.sort_unstable_by_key(|(number, _)| mix(number ^ shuffle));
        prop_assert_eq!(build(&edits), build(&reordered));
    }
}

/// 4 TiB in 64 KiB blocks.
const IMAGE_BLOCKS: u64 = (4 << 40) / IMAGE_BLOCK_BYTES;
const IMAGE_BLOCK_BYTES: u64 = 64 << 10;

fn block(id: u64) -> Part {
    Part::Chunk { id: numbered_id(id), bytes: IMAGE_BLOCK_BYTES as u32 }
}

/// Runs of 1 to 64 mapped blocks, as first block, length, and length of the hole that follows:
/// about one block in 256 is mapped.
fn extents() -> impl Iterator<Item = (u64, u64, u64)> {
    let mut number = 0;
    std::iter::from_fn(move || {
        (number < IMAGE_BLOCKS).then(|| {
            let blocks = (1 + mix(number) % 64).min(IMAGE_BLOCKS - number);
            let hole = (1 + mix(!number) % 16_384).min(IMAGE_BLOCKS - number - blocks);
            let extent = (number, blocks, hole);
            number += blocks + hole;
            extent
        })
    })
}

fn sparse_image(changed: u64) -> impl Iterator<Item = Part> {
    extents().flat_map(move |(start, blocks, hole)| {
        let id = move |number: u64| if number == changed { !number } else { number };
        let hole = (hole > 0).then_some(Part::Hole { bytes: hole * IMAGE_BLOCK_BYTES });
        (start..start + blocks).map(move |number| block(id(number))).chain(hole)
    })
}

#[test]
fn one_changed_block_of_a_4_tib_sparse_image_rewrites_three_pages() {
    const NONE: u64 = u64::MAX;
    let bytes: u64 = sparse_image(NONE).map(|part| part.file_bytes()).sum();
    assert_eq!(bytes, 4 << 40);
    let (root, before) = page_lengths::<RecipeCodec>(sparse_image(NONE));
    for extent in [0, 1000, 4567, 7000] {
        let (start, blocks, _) = extents().nth(extent).unwrap();
        let (other, after) = page_lengths::<RecipeCodec>(sparse_image(start + blocks / 2));
        assert_ne!(root, other);
        let (pages, bytes) = rewritten(&before, &after);
        assert!((1..=3).contains(&pages), "a block of extent {extent} rewrites {pages} pages");
        assert!(bytes <= 512 << 10, "a block of extent {extent} rewrites {bytes} bytes");
    }
}

/// 67 million blocks and 2.3 GB of recipe: minutes in a debug build, so only when asked for.
#[test]
fn one_changed_block_of_a_4_tib_full_image_rewrites_three_pages() {
    if std::env::var_os("LASTGOOD_SLOW_TESTS").is_none() {
        return;
    }
    let image = |changed: u64| {
        (0..IMAGE_BLOCKS).map(move |number| block(if number == changed { !number } else { number }))
    };
    let (_, before) = page_lengths::<RecipeCodec>(image(u64::MAX));
    let (_, after) = page_lengths::<RecipeCodec>(image(40_000_000));
    let (pages, bytes) = rewritten(&before, &after);
    assert!((1..=3).contains(&pages), "{pages} pages");
    assert!(bytes <= 512 << 10, "{bytes} bytes");
}
