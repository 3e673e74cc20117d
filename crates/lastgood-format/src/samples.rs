//! What the tests of every module share: one repository's keys, strategies for each type, and
//! the ways in which bytes are damaged.

use std::collections::{BTreeMap, HashMap};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::entry::{Content, DeviceNumber, Entry, Hint, Marks, Node, Timestamp, Xattr};
use crate::id::{BlobId, PackId, RepositoryId, SessionId, SnapshotId, WriterId};
use crate::key::{Class, ClassSecret, RepositoryKeys, Secret};
use crate::limits::{BLOB_BYTES_MAX, PACK_BYTES_MAX};
use crate::packset::PackRef;
use crate::page::{self, LeafCodec, Page};

/// The keys of the repository that every test writes to.
pub(crate) fn keys() -> RepositoryKeys {
    RepositoryKeys::new(Secret::new([7; 32]), RepositoryId::new(*b"this repository!"))
}

/// The keys of another repository with the same root secret: only its name tells it apart.
pub(crate) fn other_keys() -> RepositoryKeys {
    RepositoryKeys::new(Secret::new([7; 32]), RepositoryId::new(*b"other repository"))
}

pub(crate) const SESSION: SessionId = SessionId::new(*b"sixteen byte ids");
pub(crate) const OTHER_SESSION: SessionId = SessionId::new(*b"another session!");
pub(crate) const WRITER: [u8; 16] = *b"the writer's own";

/// The secret of `class` in [`SESSION`].
pub(crate) fn secret(class: Class) -> ClassSecret {
    ClassSecret::create(&keys(), class, SESSION, Secret::new([class as u8; 32]))
}

/// Every strict prefix, and a copy with one byte more.
pub(crate) fn truncations(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let longer = [bytes, &[0]].concat();
    (0..bytes.len()).map(|end| bytes[..end].to_vec()).chain([longer])
}

/// Every copy with one bit changed.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

/// Asserts that `opens` takes `bytes` and refuses every truncation and every flipped bit of it.
pub(crate) fn refuses_damage(bytes: &[u8], opens: impl Fn(&[u8]) -> bool) {
    assert!(opens(bytes), "the undamaged object is refused");
    for (number, damaged) in truncations(bytes).enumerate() {
        assert!(!opens(&damaged), "truncation {number} of {} is accepted", bytes.len());
    }
    for (bit, damaged) in flips(bytes).enumerate() {
        assert!(!opens(&damaged), "flipped bit {} of byte {} is accepted", bit % 8, bit / 8);
    }
}

/// Asserts that whatever decodes is the only encoding of what it decodes to.
pub(crate) fn check_canonical<C: LeafCodec>(bytes: &[u8]) -> bool {
    match page::decode::<C>(bytes, None) {
        Ok((level, page)) => {
            let again = page::encode::<C>(level, &page);
            assert!(again == bytes, "a page has two encodings:\n{bytes:02x?}\n{again:02x?}");
            true
        }
        Err(_) => false,
    }
}

/// Round trip of one leaf page, and canonicality of every damaged form of it.
pub(crate) fn check_leaf<C: LeafCodec>(items: Vec<C::Item>) -> Result<(), TestCaseError>
where
    C::Item: Clone + PartialEq + std::fmt::Debug,
{
    let bytes = page::encode::<C>(0, &Page::Leaf(items.clone()));
    let (level, decoded) = page::decode::<C>(&bytes, Some(0)).map_err(|error| {
        TestCaseError::fail(format!("an encoded page does not decode: {error}"))
    })?;
    prop_assert_eq!(level, 0);
    prop_assert_eq!(decoded, Page::Leaf(items));
    // A page is plain: damage may go unseen here, but is never a second form of something.
    // Of long pages some, with an odd step, so that every bit of a byte has its turn.
    let step = (bytes.len() / 300) | 1;
    for end in (0..bytes.len()).step_by(step) {
        let decodes = check_canonical::<C>(&bytes[..end]);
        prop_assert!(!decodes, "a page cut at {} decodes", end);
    }
    let mut damaged = bytes;
    for bit in (0..damaged.len() * 8).step_by(step) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        check_canonical::<C>(&damaged);
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    Ok(())
}

/// Pages by id, as a repository would keep them.
#[derive(Default)]
pub(crate) struct PageStore {
    pub(crate) pages: HashMap<BlobId, Vec<u8>>,
}

impl PageStore {
    pub(crate) fn write<C: LeafCodec>(
        &mut self,
        items: impl IntoIterator<Item = C::Item>,
    ) -> BlobId {
        page::write::<C, std::convert::Infallible>(items, &mut |bytes| {
            let id = BlobId::new(*blake3::hash(bytes).as_bytes());
            self.pages.insert(id, bytes.to_vec());
            Ok(id)
        })
        .unwrap()
    }

    pub(crate) fn read<C: LeafCodec>(&self, root: BlobId) -> Vec<C::Item> {
        let mut items = Vec::new();
        page::walk::<C, _, crate::encoding::DecodeError>(
            root,
            &mut |id| Ok(self.pages[&id].clone()),
            &mut |item| {
                items.push(item);
                Ok(())
            },
        )
        .unwrap();
        items
    }
}

/// Ids and lengths of the pages of a list, without their bytes: for lists of millions.
pub(crate) fn page_lengths<C: LeafCodec>(
    items: impl IntoIterator<Item = C::Item>,
) -> (BlobId, HashMap<BlobId, usize>) {
    let mut pages = HashMap::new();
    let root = page::write::<C, std::convert::Infallible>(items, &mut |bytes| {
        let id = BlobId::new(*blake3::hash(bytes).as_bytes());
        pages.insert(id, bytes.len());
        Ok(id)
    })
    .unwrap();
    (root, pages)
}

/// Count and bytes of the pages in `after` that `before` does not have.
pub(crate) fn rewritten(
    before: &HashMap<BlobId, usize>,
    after: &HashMap<BlobId, usize>,
) -> (usize, usize) {
    let new = after.iter().filter(|(id, _)| !before.contains_key(*id));
    new.fold((0, 0), |(pages, bytes), (_, length)| (pages + 1, bytes + length))
}

/// Cheap numbers that look random: SplitMix64.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes that do not compress, a function of `seed`.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// A blob id that is a function of `number`.
pub(crate) fn numbered_id(number: u64) -> BlobId {
    let mut bytes = [0; 32];
    for (index, part) in bytes.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mix(number.wrapping_mul(4).wrapping_add(index as u64)).to_le_bytes());
    }
    BlobId::new(bytes)
}

macro_rules! id_strategy {
    ($($function:ident $type:ty;)*) => {$(
        pub(crate) fn $function() -> impl Strategy<Value = $type> {
            any::<[u8; <$type>::BYTES]>().prop_map(<$type>::new)
        }
    )*};
}
id_strategy! {
    blob_id BlobId;
    pack_id PackId;
    snapshot_id SnapshotId;
    session_id SessionId;
    writer_id WriterId;
}

/// Names of any allowed bytes: short ones that share prefixes, wild ones, and the longest.
pub(crate) fn name() -> impl Strategy<Value = Box<[u8]>> {
    prop_oneof![
        vec(prop_oneof![Just(b'a'), Just(b'.'), Just(b'\n'), Just(0xff)], 1..6),
        vec(any::<u8>(), 1..40),
        vec(any::<u8>(), 255),
    ]
    .prop_map(|mut bytes| {
        bytes.iter_mut().filter(|b| matches!(**b, 0 | b'/')).for_each(|b| *b = b'x');
        bytes.into_boxed_slice()
    })
    .prop_filter("dots are no names", |name| Entry::is_valid_name(name))
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn xattrs() -> impl Strategy<Value = Option<Box<[Xattr]>>> {
    let name = vec(1_u8..=255, 1..20).prop_map(Vec::into_boxed_slice);
    let set = btree_map(name, vec(any::<u8>(), 0..40), 1..4).prop_map(|set| {
        set.into_iter().map(|(name, value)| Xattr { name, value: value.into() }).collect()
    });
    // Few distinct sets, so that entries share them.
    prop_oneof![
        4 => Just(None),
        1 => set.prop_map(Some),
        1 => Just(Some([Xattr { name: (*b"user.x").into(), value: (*b"1").into() }].into())),
    ]
}

pub(crate) fn node() -> impl Strategy<Value = Node> {
    let device =
        || (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| DeviceNumber { major, minor });
    prop_oneof![
        Just(Node::File { size: 0, content: Content::Empty }),
        (1_u64.., blob_id())
            .prop_map(|(size, id)| Node::File { size, content: Content::Chunk(id) }),
        (1_u64.., blob_id())
            .prop_map(|(size, id)| Node::File { size, content: Content::Recipe(id) }),
        blob_id().prop_map(|tree| Node::Directory { tree }),
        vec(1_u8..=255, 1..50).prop_map(|target| Node::Symlink { target: target.into() }),
        vec(1_u8..=255, 4095).prop_map(|target| Node::Symlink { target: target.into() }),
        Just(Node::Fifo),
        Just(Node::Socket),
        device().prop_map(|device| Node::CharDevice { device }),
        device().prop_map(|device| Node::BlockDevice { device }),
    ]
}

fn entry(name: Box<[u8]>) -> impl Strategy<Value = Entry> {
    let number = || prop_oneof![Just(0), Just(1000), any::<u32>()];
    let flags = prop_oneof![2 => Just(0), 1 => any::<u32>()];
    let marks = prop_oneof![2 => Just(0), 1 => any::<u8>()];
    (node(), 0_u16..=0o7777, number(), number(), timestamp(), flags, marks, xattrs()).prop_map(
        move |(node, mode, uid, gid, mtime, flags, marks, xattrs)| Entry {
            name: name.clone(),
            node,
            mode,
            uid,
            gid,
            mtime,
            flags,
            marks: Marks(marks),
            xattrs,
        },
    )
}

/// Sorted entries with distinct names.
pub(crate) fn entries(count_max: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(name().prop_flat_map(entry), 0..=count_max).prop_map(|entries| {
        let sorted: BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        sorted.into_values().collect()
    })
}

pub(crate) fn hint() -> impl Strategy<Value = Hint> {
    (timestamp(), timestamp(), any::<u64>(), any::<u64>())
        .prop_map(|(ctime, btime, inode, device)| Hint { ctime, btime, inode, device })
}

pub(crate) fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::ALL.to_vec())
}

pub(crate) fn pack_ref() -> impl Strategy<Value = PackRef> {
    (session_id(), pack_id(), class(), 0..=PACK_BYTES_MAX)
        .prop_map(|(session, pack, class, bytes)| PackRef { session, pack, class, bytes })
}

pub(crate) fn blob_bytes() -> impl Strategy<Value = u32> {
    prop_oneof![1_u32..300, 1..=BLOB_BYTES_MAX as u32]
}

/// An ordinary file, for lists of millions.
pub(crate) fn numbered_file(number: u64) -> Entry {
    Entry {
        name: format!("file-{number:07}.txt").into_bytes().into(),
        node: Node::File {
            size: 1 + mix(number) % 100_000,
            content: Content::Chunk(numbered_id(number)),
        },
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp {
            seconds: 1_700_000_000 + (mix(number) % 10_000_000) as i64,
            nanos: (mix(number + 1) % 1_000_000_000) as u32,
        },
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    }
}
