//! One sorted run of index entries, in memory or in a file of the local copy.
//!
//! A file is: blocks of 4,096 bytes, each a tag and up to 145 entries; then the head, which holds
//! sources, packs, the first key of every block and the filters; then the head's length and tag.
//! Tags are keyed, and a block's covers its place in its run: a backup stores no blob that the index
//! knows, so nobody without the key of the repository may make it know one. It is a cache: whatever
//! does not check is thrown away and made again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use lastgood_format::encoding::{DecodeError, Reader, Write as _};
use lastgood_format::id::ObjectId;
use lastgood_format::index::{BlobPrefix, IndexEntry, IndexSegment};
use lastgood_format::packset::PackRef;
use xorf::{BinaryFuse8, Descriptor, Filter};

use super::IndexLocation;
use crate::error::RepoError;

/// A sorted run.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The segments it was made from.
    pub(super) sources: Vec<ObjectId>,
    packs: Vec<PackRef>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Memory(Vec<IndexEntry>),
    File(RunFile),
}

impl Default for Body {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

#[derive(Debug)]
struct RunFile {
    file: File,
    path: PathBuf,
    tags: Tags,
    entry_count: usize,
    /// Leading key of the first entry of each block.
    fences: Vec<u64>,
    /// Filters over consecutive shards of [`SHARD_BLOCKS`] blocks.
    filters: Vec<BinaryFuse8>,
    /// A bit for each block: whether its tag was compared. The file never changes.
    verified: Vec<AtomicU64>,
    /// Blocks that were looked into, each with its number, in the place of it modulo their number:
    /// all of them in a run of up to [`KEPT_BLOCKS_MAX`].
    kept: Vec<OnceLock<(usize, Box<[u8; BLOCK_BYTES]>)>>,
}

impl Run {
    /// A run in memory of the entries of `segment`, in whatever order they are.
    pub(super) fn sorted(mut segment: IndexSegment, sources: Vec<ObjectId>) -> Self {
        segment.entries.sort_unstable();
        Self { sources, packs: segment.packs, body: Body::Memory(segment.entries) }
    }

    /// One run of several that are in memory; nothing when one is a file.
    pub(super) fn merged_in_memory(runs: &[&Self]) -> Option<Self> {
        let (mut segment, mut sources) = (IndexSegment::default(), Vec::new());
        for run in runs {
            let Body::Memory(entries) = &run.body else { return None };
            segment.append(IndexSegment { packs: run.packs.clone(), entries: entries.clone() });
            sources.extend(&run.sources);
        }
        Some(Self::sorted(segment, sources))
    }

    pub(super) fn packs(&self) -> &[PackRef] {
        &self.packs
    }

    pub(super) fn entry_count(&self) -> usize {
        match &self.body {
            Body::Memory(entries) => entries.len(),
            Body::File(file) => file.entry_count,
        }
    }

    /// The first place of a blob that `accept` takes, which is told the entry's position too.
    pub(super) fn find(
        &self,
        blob: BlobPrefix,
        accept: &mut dyn FnMut(usize, &IndexLocation) -> bool,
    ) -> io::Result<Option<IndexLocation>> {
        let mut found = None;
        self.find_entry(blob, &mut |position, entry| {
            let Some(&pack) = self.packs.get(entry.pack as usize) else { return false };
            let location = IndexLocation { pack, ordinal: entry.ordinal, bytes: entry.bytes };
            found = accept(position, &location).then_some(location);
            found.is_some()
        })?;
        Ok(found)
    }

    /// Whether `accept` takes one of a blob's entries, each given with its position.
    pub(super) fn find_entry(
        &self,
        blob: BlobPrefix,
        accept: &mut dyn FnMut(usize, &IndexEntry) -> bool,
    ) -> io::Result<bool> {
        match &self.body {
            Body::Memory(entries) => {
                let start = entries.partition_point(|entry| entry.blob < blob);
                let same = entries[start..].iter().take_while(|entry| entry.blob == blob);
                Ok((start..).zip(same).any(|(position, entry)| accept(position, entry)))
            }
            Body::File(file) => {
                let leading = blob.leading();
                // The entry may lie in the last block that starts below it, or after.
                let after = file.fences.partition_point(|&fence| fence < leading);
                let mut block = after.saturating_sub(1);
                if !file.may_hold(block, blob) && !file.may_hold(after, blob) {
                    return Ok(false);
                }
                while file.fences.get(block).is_some_and(|&fence| fence <= leading) {
                    let first = block * BLOCK_ENTRIES;
                    let is_accepted = file.with_block(block, |entries| {
                        let start = entries.partition_point(|entry| entry[..16] < blob.0[..]);
                        let same = entries[start..].iter().take_while(|it| it[..16] == blob.0);
                        let mut places = (first + start..).zip(same.map(decode_entry));
                        places.any(|(position, entry)| accept(position, &entry))
                    })?;
                    if is_accepted {
                        return Ok(true);
                    }
                    block += 1;
                }
                Ok(false)
            }
        }
    }

    /// Says that the run cannot be read.
    pub(super) fn failed(&self, source: io::Error) -> RepoError {
        let path = match &self.body {
            Body::Memory(_) => PathBuf::new(),
            Body::File(file) => file.path.clone(),
        };
        RepoError::Cache { action: "read", path, source }
    }

    /// Calls `visit` with every entry, in order.
    pub(super) fn scan(&self, visit: &mut dyn FnMut(&IndexEntry)) -> io::Result<()> {
        match &self.body {
            Body::Memory(entries) => entries.iter().for_each(visit),
            Body::File(file) => {
                let mut bytes = [0; BLOCK_BYTES];
                for block in 0..file.fences.len() {
                    let entries = file.read_block(block, &mut bytes)?;
                    entries.iter().map(decode_entry).for_each(|entry| visit(&entry));
                }
            }
        }
        Ok(())
    }
}

impl RunFile {
    fn may_hold(&self, block: usize, blob: BlobPrefix) -> bool {
        self.filters
            .get(block / SHARD_BLOCKS)
            .is_some_and(|filter| filter.contains(&blob.filter_key()))
    }

    /// Does `work` with the entries of a block as they are stored, of which most are only compared.
    fn with_block<T>(&self, block: usize, work: impl FnOnce(&[StoredEntry]) -> T) -> io::Result<T> {
        let slot = &self.kept[block % self.kept.len()];
        if let Some((number, bytes)) = slot.get()
            && *number == block
        {
            return Ok(work(self.entries(block, bytes)));
        }
        let mut bytes = [0; BLOCK_BYTES];
        self.read_block(block, &mut bytes)?;
        let done = work(self.entries(block, &bytes));
        if slot.get().is_none() {
            // Whoever was first has kept this one or another: both are right.
            slot.set((block, Box::new(bytes))).ok();
        }
        Ok(done)
    }

    /// Reads a block into `bytes`.
    fn read_block<'a>(
        &self,
        block: usize,
        bytes: &'a mut [u8; BLOCK_BYTES],
    ) -> io::Result<&'a [StoredEntry]> {
        self.file.read_exact_at(bytes, (block * BLOCK_BYTES) as u64)?;
        let (tag, rest) = bytes.split_at(TAG_BYTES);
        let (word, bit) = (&self.verified[block / 64], 1 << (block % 64));
        // To compare it takes longer than all the rest.
        if word.load(Ordering::Relaxed) & bit == 0 {
            if tag != self.tags.block(block, rest) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged", self.path.display()),
                ));
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(self.entries(block, bytes))
    }

    fn entries<'a>(&self, block: usize, bytes: &'a [u8; BLOCK_BYTES]) -> &'a [StoredEntry] {
        let count = self.entry_count.saturating_sub(block * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        &bytes[TAG_BYTES..].as_chunks().0[..count]
    }
}

/// Merges runs until each is more than twice as large as the next smaller one.
pub(super) fn compact(
    runs: &mut Vec<Arc<Run>>,
    write: &dyn Fn(&[&Run]) -> Result<Run, RepoError>,
) -> Result<(), RepoError> {
    // What is empty and of no segment would stand in the way of all others.
    runs.retain(|run| run.entry_count() > 0 || !run.sources.is_empty());
    loop {
        runs.sort_by_key(|run| std::cmp::Reverse(run.entry_count()));
        let [.., larger, smaller] = runs.as_slice() else { return Ok(()) };
        if larger.entry_count() > 2 * smaller.entry_count().max(1) {
            return Ok(());
        }
        let merged = write(&[larger, smaller])?;
        for run in runs.split_off(runs.len() - 2) {
            if let Body::File(file) = &run.body {
                remove(&file.path);
            }
        }
        runs.push(Arc::new(merged));
    }
}

/// The folder that holds the local copy of one repository's index, and the key of its tags.
#[derive(Debug, Clone)]
pub(crate) struct LocalCopy {
    folder: PathBuf,
    key: [u8; 32],
}

impl LocalCopy {
    pub(crate) const fn new(folder: PathBuf, key: [u8; 32]) -> Self {
        Self { folder, key }
    }

    /// Opens the runs that are made of `segments` alone and removes all others.
    pub(super) fn open_all(&self, segments: &HashSet<ObjectId>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let Ok(entries) = fs::read_dir(&self.folder) else { return runs };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "run") {
                continue;
            }
            let known = |run: &Run| {
                run.sources.iter().all(|id| segments.contains(id))
                    && !runs.iter().any(|r| r.sources.iter().any(|id| run.sources.contains(id)))
            };
            match self.open(&path) {
                Ok(run) if known(&run) => runs.push(run),
                // Made from segments that are gone, merged into another run, or damaged.
                _ => remove(&path),
            }
        }
        runs
    }

    /// Writes the merge of `runs` as one file.
    pub(super) fn write(&self, runs: &[&Run]) -> Result<Run, RepoError> {
        let sources: Vec<ObjectId> = runs.iter().flat_map(|run| &run.sources).copied().collect();
        let path = self.folder.join(Tags::new(&self.key, &sources).file_name());
        let temporary = self.write_temporary(runs)?;
        fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        self.open(&path).map_err(failed("read", &path))
    }

    /// Writes the merge of `runs` to a file without a name, which is gone when the run is dropped.
    pub(super) fn write_nameless(&self, runs: &[&Run]) -> Result<Run, RepoError> {
        let temporary = self.write_temporary(runs)?;
        let run = self.open(&temporary).map_err(failed("read", &temporary));
        remove(&temporary);
        run
    }

    fn write_temporary(&self, runs: &[&Run]) -> Result<PathBuf, RepoError> {
        fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
        // Two repositories open in one process may write the same run at once.
        let number = TEMPORARIES.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{}-{number}.tmp", std::process::id()));
        let written = self.write_to(&temporary, runs);
        if written.is_err() {
            // On a full disk, half a file would be in the way of everything else.
            remove(&temporary);
        }
        written.map(|()| temporary)
    }

    /// Memory is bounded by one shard and a block of each run.
    fn write_to(&self, temporary: &Path, runs: &[&Run]) -> Result<(), RepoError> {
        let sources: Vec<ObjectId> = runs.iter().flat_map(|run| &run.sources).copied().collect();
        let tags = Tags::new(&self.key, &sources);
        let mut writer = RunWriter::create(temporary, tags).map_err(failed("create", temporary))?;
        let mut packs = Vec::new();
        let mut cursors = Vec::new();
        for run in runs {
            let cursor = Cursor::new(run, packs.len() as u32);
            cursors.push(cursor.map_err(failed("read", &self.folder))?);
            packs.extend_from_slice(&run.packs);
        }
        while let Some(cursor) =
            cursors.iter_mut().filter(|c| c.head.is_some()).min_by_key(|c| c.head)
        {
            let entry = cursor.next().map_err(failed("read", &self.folder))?;
            writer.push(entry).map_err(failed("write", temporary))?;
        }
        writer.finish(&sources, &packs).map_err(failed("write", temporary))
    }

    fn open(&self, path: &Path) -> io::Result<Run> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut end = [0; 8 + TAG_BYTES];
        let head_end = bytes.checked_sub(end.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        file.read_exact_at(&mut end, head_end)?;
        let (length, tag) = end.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("the first 8 of more bytes"));
        let start = head_end.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
        let mut head = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut head, start)?;
        if tag != tag_of(&self.key, &[b"head", &head]) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        decode_head(&head, &self.key, file, path).map_err(io::Error::other)
    }
}

/// Makes the tags of one run, which no other run and no other key has.
#[derive(Debug, Clone, Copy)]
struct Tags {
    key: [u8; 32],
    run: [u8; TAG_BYTES],
}

impl Tags {
    /// Runs of the same sources in the same order are the same.
    fn new(key: &[u8; 32], sources: &[ObjectId]) -> Self {
        let names: Vec<u8> = sources.iter().flat_map(|id| *id.as_bytes()).collect();
        Self { key: *key, run: tag_of(key, &[b"run", &names]) }
    }

    fn file_name(&self) -> String {
        format!("{:032x}.run", u128::from_be_bytes(self.run))
    }

    fn block(&self, number: usize, bytes: &[u8]) -> [u8; TAG_BYTES] {
        tag_of(&self.key, &[b"block", &self.run, &(number as u64).to_le_bytes(), bytes])
    }

    fn head(&self, bytes: &[u8]) -> [u8; TAG_BYTES] {
        tag_of(&self.key, &[b"head", bytes])
    }
}

/// A tag over `parts`, of which all but the last are of one length for each first one.
fn tag_of(key: &[u8; 32], parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a tag")
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepoError {
    let path = path.to_owned();
    move |source| RepoError::Cache { action, path, source }
}

/// Reads a run from its start, with pack numbers shifted.
struct Cursor<'a> {
    run: &'a Run,
    pack_offset: u32,
    buffer: Vec<IndexEntry>,
    at: usize,
    next_block: usize,
    head: Option<IndexEntry>,
}

impl<'a> Cursor<'a> {
    fn new(run: &'a Run, pack_offset: u32) -> io::Result<Self> {
        let mut cursor =
            Self { run, pack_offset, buffer: Vec::new(), at: 0, next_block: 0, head: None };
        cursor.advance()?;
        Ok(cursor)
    }

    fn next(&mut self) -> io::Result<IndexEntry> {
        let head = self.head.take().expect("only cursors with a head are asked");
        self.advance()?;
        Ok(head)
    }

    fn advance(&mut self) -> io::Result<()> {
        let entries = match &self.run.body {
            Body::Memory(entries) => entries,
            Body::File(file) => {
                if self.at == self.buffer.len() && self.next_block < file.fences.len() {
                    let mut bytes = [0; BLOCK_BYTES];
                    let entries = file.read_block(self.next_block, &mut bytes)?;
                    self.buffer = entries.iter().map(decode_entry).collect();
                    self.next_block += 1;
                    self.at = 0;
                }
                &self.buffer
            }
        };
        self.head = entries
            .get(self.at)
            .map(|entry| IndexEntry { pack: entry.pack + self.pack_offset, ..*entry });
        self.at += 1;
        Ok(())
    }
}

struct RunWriter {
    out: BufWriter<File>,
    tags: Tags,
    block: Vec<u8>,
    entry_count: usize,
    fences: Vec<u64>,
    shard: Vec<u64>,
    filters: Vec<BinaryFuse8>,
}

impl RunWriter {
    fn create(path: &Path, tags: Tags) -> io::Result<Self> {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Self {
            out: BufWriter::with_capacity(1 << 18, file),
            tags,
            block: Vec::with_capacity(BLOCK_BYTES),
            entry_count: 0,
            fences: Vec::new(),
            shard: Vec::new(),
            filters: Vec::new(),
        })
    }

    fn push(&mut self, entry: IndexEntry) -> io::Result<()> {
        if self.block.is_empty() {
            if self.fences.len().is_multiple_of(SHARD_BLOCKS) {
                self.close_shard()?;
            }
            self.fences.push(entry.blob.leading());
        }
        self.block.extend_from_slice(&entry.blob.0);
        for number in [entry.pack, entry.ordinal, entry.bytes] {
            self.block.extend_from_slice(&number.to_le_bytes());
        }
        self.shard.push(entry.blob.filter_key());
        self.entry_count += 1;
        if self.block.len() == BLOCK_ENTRIES * ENTRY_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.block.resize(BLOCK_BYTES - TAG_BYTES, 0);
        self.out.write_all(&self.tags.block(self.fences.len() - 1, &self.block))?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    fn close_shard(&mut self) -> io::Result<()> {
        if self.shard.is_empty() {
            return Ok(());
        }
        // One blob in several packs is one key.
        self.shard.sort_unstable();
        self.shard.dedup();
        self.filters.push(BinaryFuse8::try_from(&self.shard).map_err(io::Error::other)?);
        self.shard.clear();
        Ok(())
    }

    fn finish(mut self, sources: &[ObjectId], packs: &[PackRef]) -> io::Result<()> {
        self.close_block()?;
        self.close_shard()?;
        let mut head = MAGIC.to_vec();
        head.varint(sources.len() as u64);
        sources.iter().for_each(|id| head.extend_from_slice(id.as_bytes()));
        head.varint(packs.len() as u64);
        packs.iter().for_each(|pack| pack.encode(&mut head));
        head.varint(self.entry_count as u64);
        self.fences.iter().for_each(|fence| head.extend_from_slice(&fence.to_le_bytes()));
        for filter in &self.filters {
            head.extend_from_slice(&filter.descriptor.seed.to_le_bytes());
            head.extend_from_slice(&filter.descriptor.segment_length.to_le_bytes());
            head.extend_from_slice(&filter.descriptor.segment_length_mask.to_le_bytes());
            head.extend_from_slice(&filter.descriptor.segment_count_length.to_le_bytes());
            head.bytes(&filter.fingerprints);
        }
        self.out.write_all(&head)?;
        self.out.write_all(&(head.len() as u64).to_le_bytes())?;
        self.out.write_all(&self.tags.head(&head))?;
        self.out.flush()
    }
}

fn decode_head(head: &[u8], key: &[u8; 32], file: File, path: &Path) -> Result<Run, DecodeError> {
    let mut reader = Reader::new(head, "index run");
    if reader.array::<8>()? != MAGIC {
        return Err(reader.invalid("it is of another version"));
    }
    let count = reader.count(usize::MAX, 32)?;
    let sources: Vec<ObjectId> =
        (0..count).map(|_| Ok(ObjectId::new(reader.array()?))).collect::<Result<_, _>>()?;
    let count = reader.count(usize::MAX, 50)?;
    let packs = (0..count).map(|_| PackRef::decode(&mut reader)).collect::<Result<_, _>>()?;
    let entry_count = reader.varint_max(usize::MAX)?;
    let block_count = entry_count.div_ceil(BLOCK_ENTRIES);
    let (fences, _) = reader.take(block_count.saturating_mul(8))?.as_chunks::<8>();
    let fences = fences.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
    let filters = (0..block_count.div_ceil(SHARD_BLOCKS))
        .map(|_| {
            let descriptor = Descriptor {
                seed: reader.u64()?,
                segment_length: reader.u32()?,
                segment_length_mask: reader.u32()?,
                segment_count_length: reader.u32()?,
            };
            let length = reader.left();
            Ok(BinaryFuse8 { descriptor, fingerprints: reader.bytes(length)?.into() })
        })
        .collect::<Result<_, _>>()?;
    reader.finish()?;
    let (path, tags) = (path.to_owned(), Tags::new(key, &sources));
    let verified = (0..block_count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    let kept = (0..block_count.clamp(1, KEPT_BLOCKS_MAX)).map(|_| OnceLock::new()).collect();
    let file = RunFile { file, path, tags, entry_count, fences, filters, verified, kept };
    let body = Body::File(file);
    Ok(Run { sources, packs, body })
}

/// An entry as it lies in a file.
type StoredEntry = [u8; ENTRY_BYTES];

fn decode_entry(bytes: &StoredEntry) -> IndexEntry {
    let number = |at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes of an entry"))
    };
    IndexEntry {
        blob: BlobPrefix(*bytes.first_chunk().expect("an entry starts with its prefix")),
        pack: number(16),
        ordinal: number(20),
        bytes: number(24),
    }
}

/// A cache file that cannot be removed is only found useless again.
fn remove(path: &Path) {
    drop(fs::remove_file(path));
}

static TEMPORARIES: AtomicU64 = AtomicU64::new(0);

const MAGIC: [u8; 8] = *b"lgrun\0\x02\n";
const BLOCK_BYTES: usize = 4096;
const ENTRY_BYTES: usize = 28;
const TAG_BYTES: usize = 16;
/// Four megabytes: all of an index of 148,000 blobs.
const KEPT_BLOCKS_MAX: usize = 1 << 10;
const BLOCK_ENTRIES: usize = (BLOCK_BYTES - TAG_BYTES) / ENTRY_BYTES;
/// Blocks under one filter: about a million entries, so building one takes little memory.
const SHARD_BLOCKS: usize = 7168;
