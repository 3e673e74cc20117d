//! What happens to every byte and entry, stage by stage, each alone and always on the same data, so
//! that a regression shows where it is.

use std::fmt;
use std::hint::black_box;

use lastgood_format::chunker::{Chunker, ChunkerParams, CutKey};
use lastgood_format::encoding::DecodeError;
use lastgood_format::entry::{Content, Entry, Marks, Node, Timestamp};
use lastgood_format::group::{
    Compression, FrameSize, GroupCompressor, GroupDecompressor, GroupSalt, open_frames, seal_frames,
};
use lastgood_format::id::{BlobId, PackId, RepositoryId, SessionId};
use lastgood_format::index::{BlobPrefix, IndexEntry, IndexSegment};
use lastgood_format::key::{Class, ClassSecret, RepositoryKeys, Secret};
use lastgood_format::pack::{BlobKind, GroupPayload, PackBuilder, PackedBlob, verify_bytes};
use lastgood_format::packset::PackRef;
use lastgood_format::page;
use lastgood_format::parity::{ParityShare, RunningSums};
use lastgood_format::tree::TreeCodec;

/// One stage.
pub struct Stage {
    /// What it is called.
    pub name: &'static str,
    /// Bytes that one run takes.
    pub bytes: usize,
    /// Makes its data, and returns what one run is.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All stages, in the order in which a byte meets them.
pub const STAGES: &[Stage] = &[
    Stage { name: "chunk", bytes: DATA_BYTES, prepare: chunk },
    Stage { name: "identify chunks", bytes: DATA_BYTES, prepare: || identify(64 << 10) },
    Stage { name: "identify small files", bytes: DATA_BYTES, prepare: || identify(4 << 10) },
    Stage { name: "compress", bytes: DATA_BYTES, prepare: compress },
    Stage { name: "seal", bytes: DATA_BYTES, prepare: seal },
    Stage { name: "sum up parity", bytes: DATA_BYTES, prepare: sum_up },
    Stage { name: "make a pack", bytes: DATA_BYTES, prepare: make_pack },
    Stage { name: "verify a pack", bytes: DATA_BYTES, prepare: verify },
    Stage { name: "open", bytes: DATA_BYTES, prepare: open },
    Stage { name: "decompress", bytes: DATA_BYTES, prepare: decompress },
    Stage { name: "write a tree", bytes: TREE_BYTES, prepare: write_tree },
    Stage { name: "read a tree", bytes: TREE_BYTES, prepare: read_tree },
    Stage { name: "compare two trees", bytes: TREE_BYTES, prepare: compare },
    Stage { name: "open an index segment", bytes: SEGMENT_ENTRIES * 32, prepare: open_segment },
];

impl Stage {
    /// The stage of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        STAGES.iter().find(|stage| stage.name == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn chunk() -> Box<dyn FnMut()> {
    let params = ChunkerParams::MinAes { target: 64 << 10 }.validate().expect("a usual target");
    let (chunker, data) = (Chunker::new(params, &CutKey::new([42; 32])), noise(DATA_BYTES));
    Box::new(move || {
        let mut rest = &data[..];
        while let Some(cut) = chunker.cut(rest, true) {
            rest = &rest[black_box(cut)..];
        }
    })
}

fn identify(bytes: usize) -> Box<dyn FnMut()> {
    let (keys, data) = (keys(), noise(DATA_BYTES));
    Box::new(move || {
        for blob in data.chunks(bytes) {
            black_box(keys.blob_id(BlobKind::Chunk, blob));
        }
    })
}

fn compress() -> Box<dyn FnMut()> {
    let (data, mut compressor) =
        (text(DATA_BYTES), GroupCompressor::new(GroupCompressor::ORDINARY_LEVEL));
    Box::new(move || {
        black_box(compressor.compress(&data));
    })
}

fn decompress() -> Box<dyn FnMut()> {
    let data = text(DATA_BYTES);
    let mut compressor = GroupCompressor::new(GroupCompressor::ORDINARY_LEVEL);
    let (compression, stored) = compressor.compress(&data);
    let (mut stored, mut out) = (stored.to_vec(), Vec::new());
    let mut decompressor = GroupDecompressor::default();
    Box::new(move || {
        decompressor
            .decompress(compression, &mut stored, DATA_BYTES, &mut out)
            .expect("what was compressed decompresses");
    })
}

fn seal() -> Box<dyn FnMut()> {
    let (secret, data, size) = (secret(), noise(DATA_BYTES), FrameSize::ORDINARY);
    let mut frames = vec![0; size.count(DATA_BYTES) * size.stored()];
    Box::new(move || seal_frames(&secret, SALT, size, &data, black_box(&mut frames)))
}

fn open() -> Box<dyn FnMut()> {
    let (secret, data, size) = (secret(), noise(DATA_BYTES), FrameSize::ORDINARY);
    let mut sealed = vec![0; size.count(DATA_BYTES) * size.stored()];
    seal_frames(&secret, SALT, size, &data, &mut sealed);
    let (mut frames, mut out) = (sealed.clone(), Vec::new());
    Box::new(move || {
        frames.copy_from_slice(&sealed);
        out.clear();
        open_frames(&secret, SALT, size, &mut frames, DATA_BYTES, &mut out)
            .expect("what was sealed opens");
    })
}

fn sum_up() -> Box<dyn FnMut()> {
    let (stripes, parity, length) = (64, 2, FrameSize::ORDINARY.stored());
    let memory = Box::new(vec![0; RunningSums::bytes(stripes, parity, length)]);
    let mut sums = RunningSums::new(stripes, parity, length, memory);
    let data = noise(DATA_BYTES);
    Box::new(move || sums.add(black_box(&data)))
}

fn pack(data: &[u8]) -> lastgood_format::pack::FinishedPack {
    let (keys, secret, share) = (keys(), secret(), ParityShare::default());
    let memory = || Box::new(Vec::new());
    let mut pack = PackBuilder::new(&secret, FrameSize::ORDINARY, memory()).expecting(
        data.len(),
        share,
        memory(),
    );
    let blob = |chunk: &[u8]| PackedBlob {
        id: keys.blob_id(BlobKind::Chunk, chunk),
        kind: BlobKind::Chunk,
        base: None,
        bytes: chunk.len() as u32,
    };
    for (counter, group) in data.chunks(1 << 20).enumerate() {
        let blobs: Vec<PackedBlob> = group.chunks(64 << 10).map(blob).collect();
        let payload = GroupPayload {
            payload: group,
            raw_bytes: group.len() as u32,
            compression: Compression::Stored,
            level: 1,
            blobs: &blobs,
        };
        pack.add_group(&secret, &payload, counter as u64, &[0; 32]);
    }
    pack.finish(share, &secret, u64::MAX, &[0; 32])
}

fn make_pack() -> Box<dyn FnMut()> {
    let data = noise(DATA_BYTES);
    Box::new(move || {
        black_box(pack(&data));
    })
}

fn verify() -> Box<dyn FnMut()> {
    let pack = pack(&noise(DATA_BYTES));
    Box::new(move || assert_eq!(verify_bytes(&pack.bytes), Ok(pack.id)))
}

/// Pages of a tree, in the order in which they are written; the id of a page is its number.
fn pages(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    let mut store = |bytes: &[u8]| -> Result<BlobId, DecodeError> {
        pages.push(bytes.to_vec());
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(pages.len() as u64 - 1).to_le_bytes());
        Ok(BlobId::new(id))
    };
    page::write::<TreeCodec, DecodeError>(entries.to_vec(), &mut store).expect("pages are kept");
    pages
}

fn write_tree() -> Box<dyn FnMut()> {
    let entries = entries();
    Box::new(move || {
        black_box(pages(&entries));
    })
}

fn all_entries(pages: &[Vec<u8>]) -> Vec<Entry> {
    let mut load = |id: BlobId| -> Result<&[u8], DecodeError> {
        let number = id.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(&pages[number as usize])
    };
    let mut root = [0; 32];
    root[..8].copy_from_slice(&(pages.len() as u64 - 1).to_le_bytes());
    let mut entries = Vec::new();
    let reader = page::PageReader::<TreeCodec>::open(BlobId::new(root), &mut load);
    let mut reader = reader.expect("the root is a page");
    while let Some(entry) = reader.next(&mut load).expect("what was written is read") {
        entries.push(entry);
    }
    entries
}

fn read_tree() -> Box<dyn FnMut()> {
    let pages = pages(&entries());
    Box::new(move || assert_eq!(all_entries(&pages).len(), TREE_ENTRIES))
}

fn compare() -> Box<dyn FnMut()> {
    let (before, mut after) = (entries(), entries());
    after.iter_mut().step_by(100).for_each(|entry| entry.mtime.seconds += 1);
    Box::new(move || {
        let merged = lastgood_diff::merge(
            &before,
            &after,
            |entry: &&Entry| &*entry.name,
            |entry: &&Entry| &*entry.name,
        );
        let differs = |step: &lastgood_diff::Merged<&Entry, &Entry>| match step {
            lastgood_diff::Merged::Both(before, after) => before != after,
            _ => true,
        };
        assert_eq!(merged.filter(differs).count(), TREE_ENTRIES.div_ceil(100));
    })
}

fn open_segment() -> Box<dyn FnMut()> {
    let keys = keys();
    let pack = PackRef {
        session: SessionId::new([3; 16]),
        pack: PackId::new([9; 32]),
        class: Class::Data,
        bytes: 16 << 20,
    };
    let mut ids = blake3::Hasher::new().update(b"blobs").finalize_xof();
    let mut entries: Vec<IndexEntry> = (0..SEGMENT_ENTRIES as u32)
        .map(|ordinal| {
            let mut id = [0; 16];
            ids.fill(&mut id);
            IndexEntry { blob: BlobPrefix(id), pack: 0, ordinal, bytes: 64 << 10 }
        })
        .collect();
    entries.sort_unstable();
    let segment = IndexSegment { packs: vec![pack], entries };
    let bytes = segment.encode(&keys, pack.session, &[0; 32]);
    Box::new(move || {
        let read = IndexSegment::decode(&keys, &bytes);
        assert!(read.is_ok_and(|segment| segment.entries.len() == SEGMENT_ENTRIES));
    })
}

/// A directory of files as a source tree has them.
fn entries() -> Vec<Entry> {
    let entry = |number: usize| Entry {
        name: format!("a file of the kernel {number:06}.c").into_bytes().into(),
        node: Node::File {
            size: 7_000,
            content: Content::Chunk(BlobId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())),
        },
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp { seconds: 1_700_000_000 + number as i64, nanos: 7 },
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    };
    (0..TREE_ENTRIES).map(entry).collect()
}

fn keys() -> RepositoryKeys {
    RepositoryKeys::new(Secret::new([1; 32]), RepositoryId::new([2; 16]))
}

fn secret() -> ClassSecret {
    ClassSecret::create(&keys(), Class::Data, SessionId::new([3; 16]), Secret::new([4; 32]))
}

/// What no compressor shortens.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    noise
}

/// Lines of words, the first ones often, as zstd finds them in source code: a quarter is left.
fn text(bytes: usize) -> Vec<u8> {
    let mut draws = blake3::Hasher::new().update(b"text").finalize_xof();
    let mut text = Vec::with_capacity(bytes + 64);
    while text.len() < bytes {
        let mut draw = [0; 4];
        draws.fill(&mut draw);
        let number = u32::from_le_bytes(draw);
        // Of 1,024 words, number n about in proportion to 1/n.
        let word = 1 << (number % 11);
        let word = word + (number >> 8) % word;
        let end = if number >> 28 == 0 { ";\n    " } else { " " };
        text.extend_from_slice(
            format!("word_{:x}{end}", word.wrapping_mul(2_654_435_761)).as_bytes(),
        );
    }
    text.truncate(bytes);
    text
}

/// As long as a group may be.
const DATA_BYTES: usize = 1 << 20;
const TREE_ENTRIES: usize = 10_000;
/// About what an entry takes.
const TREE_BYTES: usize = TREE_ENTRIES * 64;
const SEGMENT_ENTRIES: usize = 1 << 14;
const SALT: GroupSalt = GroupSalt([5; 16]);
