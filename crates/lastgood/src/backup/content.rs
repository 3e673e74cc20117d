//! The bytes of files: read, cut into chunks, store.
//!
//! A small file goes through one worker's window. A large one is cut by its owner, which hands
//! batches of chunks to whoever is idle and stores the rest itself; parts come back in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::scan::{Directory, Stat};
use lastgood_host::source::{SourceError, SourceFile, Stability};
use lastgood_repo::format::entry::{Content, Node};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::page::PageWriter;
use lastgood_repo::format::recipe::{Part, PartJoiner, RecipeCodec};

use super::along::Reading;
use super::engine::{Engine, Worker, lock};
use super::sink::Stop;

/// What reading a file gave.
pub(super) enum FileRead {
    /// Its bytes are stored.
    Stored {
        /// Size and content.
        node: Node,
        /// Its metadata, as it was when it was opened.
        stat: Box<Stat>,
        /// Attributes and flags.
        details: Details,
        /// Whether it was left alone while it was read.
        is_stable: bool,
    },
    /// It could not be opened or read.
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The verb.
        during: &'static str,
        /// What happened.
        message: String,
    },
}

/// A buffer that a file is read through.
#[derive(Debug)]
pub(super) struct Window {
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(chunk_bytes_max: usize) -> Self {
        Self { bytes: vec![0; WINDOW_BYTES + chunk_bytes_max] }
    }
}

/// Chunks of a large file that wait to be stored.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each chunk ends in `bytes`.
    ends: Vec<usize>,
    /// Position among the file's batches.
    number: u64,
    file: Arc<LargeFile>,
    is_stored: bool,
}

impl Drop for Batch {
    /// Whoever gives a batch up, cancelled or by a panic, must not leave its file waiting for it.
    fn drop(&mut self) {
        if !self.is_stored {
            self.file.fail();
        }
    }
}

/// A large file whose batches are on their way.
#[derive(Debug, Default)]
pub(super) struct LargeFile {
    state: Mutex<LargeState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LargeState {
    /// Parts of batches that are stored, by number.
    parts: BTreeMap<u64, Vec<Part>>,
    is_failed: bool,
}

/// Buffers of batches that are stored, for the next ones.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers(Mutex<Vec<Vec<u8>>>);

impl SpareBuffers {
    fn take(&self) -> Vec<u8> {
        lock(&self.0).pop().unwrap_or_default()
    }

    fn give(&self, buffer: Vec<u8>) {
        lock(&self.0).push(buffer);
    }
}

/// Reads from a source, a stretch at a time.
type ReadAt<'r> = dyn FnMut(&mut [u8], u64) -> Result<usize, HostError> + 'r;

/// Why reading stopped.
pub(super) enum ReadStop {
    /// The file cannot be read.
    Host(HostError),
    /// The run ends.
    Stop(Stop),
}

impl From<Stop> for ReadStop {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<HostError> for ReadStop {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl Engine<'_> {
    /// Reads a stretch of a file.
    fn read_at(
        &self,
        reading: &Reading<'_>,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, HostError> {
        let length = reading.read_at(buffer, offset)?;
        if let Some(trace) = &self.trace {
            trace.content(reading.file.path(), offset, &buffer[..length]);
        }
        Ok(length)
    }

    /// Where chunks end in `bytes`; what follows the last end is none yet, unless `is_end`.
    fn cuts(&self, bytes: &[u8], is_end: bool) -> Vec<usize> {
        let mut ends = Vec::with_capacity(bytes.len() / (self.chunker.max_bytes() / 4).max(1) + 1);
        let mut at = 0;
        while at < bytes.len() {
            let Some(cut) = self.chunker.cut(&bytes[at..], is_end) else { break };
            at += cut;
            ends.push(at);
        }
        ends
    }
}

impl Worker<'_> {
    /// Reads and stores a file, of which `previous` were the chunks before. A small one that changes
    /// meanwhile is read again, a few times.
    pub(super) fn read_file(
        &mut self,
        directory: &Directory,
        name: &[u8],
        previous: &[BlobId],
    ) -> Result<FileRead, Stop> {
        let mut tries_left = 3;
        loop {
            tries_left -= 1;
            let file = match SourceFile::open(directory, name) {
                Ok(file) => file,
                Err(SourceError::Host(error)) => return Ok(unreadable(&error)),
                Err(SourceError::ChangedKind { path, .. }) => {
                    let message = "it is no longer a regular file, as it was when it was listed";
                    return Ok(FileRead::Unreadable {
                        path,
                        during: "open",
                        message: message.to_owned(),
                    });
                }
            };
            let stat = Box::new(*file.stat());
            let details = file.details();
            let reading = Reading::new(file, self.engine.along);
            let node = match self.store_file(&reading, previous) {
                Ok(node) => node,
                Err(ReadStop::Host(error)) => return Ok(unreadable(&error)),
                Err(ReadStop::Stop(stop)) => return Err(stop),
            };
            let (file, along) = reading.into_parts();
            let is_stable = match file.finish() {
                Ok(stability) => stability == Stability::Stable,
                Err(error) => return Ok(unreadable(&error)),
            };
            if let Some(along) = along.filter(|_| is_stable) {
                along.finish(&details);
            }
            if is_stable || tries_left == 0 || stat.size > WINDOW_BYTES as u64 {
                return Ok(FileRead::Stored { node, stat, details, is_stable });
            }
        }
    }

    fn store_file(&mut self, file: &Reading<'_>, previous: &[BlobId]) -> Result<Node, ReadStop> {
        let stat = file.file.stat();
        let size = stat.size;
        if stat.is_sparse() {
            return self.store_sparse(file);
        }
        if size <= WINDOW_BYTES as u64 {
            let mut window = std::mem::take(&mut self.window.bytes);
            let stored = self.store_small(file, &mut window, previous);
            self.window.bytes = window;
            if let Some(node) = stored? {
                return Ok(node);
            }
        }
        let mut recipe = Recipe::default();
        let engine = self.engine;
        self.store_range(&mut recipe, 0..u64::MAX, &mut |buffer, offset| {
            engine.read_at(file, buffer, offset)
        })?;
        Ok(recipe.finish(self)?)
    }

    /// Stores a file that fits the window; nothing when it grew beyond.
    fn store_small(
        &mut self,
        file: &Reading<'_>,
        window: &mut [u8],
        previous: &[BlobId],
    ) -> Result<Option<Node>, ReadStop> {
        let length = self.engine.read_at(file, window, 0)?;
        if length == window.len() {
            return Ok(None);
        }
        self.engine.control.add_done(1, length as u64);
        let bytes = &window[..length];
        let parts = self.sink.add_chunks(bytes, &self.engine.cuts(bytes, true), previous)?;
        let mut recipe = Recipe::default();
        recipe.extend(self, parts)?;
        Ok(Some(recipe.finish(self)?))
    }

    /// Stores the data of a file with holes, and its holes as such.
    fn store_sparse(&mut self, file: &Reading<'_>) -> Result<Node, ReadStop> {
        let size = file.file.stat().size;
        let mut recipe = Recipe::default();
        let mut at = 0;
        for extent in file.file.extents() {
            let extent = extent?;
            if extent.start > at {
                recipe.push(self, Part::Hole { bytes: extent.start - at })?;
            }
            let engine = self.engine;
            at = self.store_range(&mut recipe, extent.clone(), &mut |buffer, offset| {
                engine.read_at(file, buffer, offset)
            })?;
            if at < extent.end {
                // It was cut short meanwhile; what follows is no hole of it.
                return Ok(recipe.finish(self)?);
            }
        }
        if size > at {
            recipe.push(self, Part::Hole { bytes: size - at })?;
        }
        self.engine.control.add_done(1, 0);
        Ok(recipe.finish(self)?)
    }

    /// Stores what `read` gives of `range`, which may end sooner; returns where it ended.
    pub(super) fn store_range(
        &mut self,
        recipe: &mut Recipe,
        range: std::ops::Range<u64>,
        read: &mut ReadAt<'_>,
    ) -> Result<u64, ReadStop> {
        let engine = self.engine;
        let chunk_max = engine.chunker.max_bytes();
        let file = Arc::new(LargeFile::default());
        let (mut pushed, mut taken) = (0_u64, 0_u64);
        let mut offset = range.start;
        let mut carried: Vec<u8> = Vec::new();
        let mut is_end = false;
        while !is_end {
            if engine.control.is_cancelled() {
                return Err(Stop::Cancelled.into());
            }
            if engine.partial_is_due() {
                self.pause()?;
            }
            let mut bytes = engine.spare_buffers.take();
            bytes.resize(WINDOW_BYTES + chunk_max, 0);
            bytes[..carried.len()].copy_from_slice(&carried);
            let room = (bytes.len() - carried.len()) as u64;
            let wanted = room.min(range.end - offset) as usize;
            let start = carried.len();
            // Batches that are on their way when this fails are stored for nothing, and harmless.
            let got = read(&mut bytes[start..start + wanted], offset)?;
            offset += got as u64;
            engine.control.add_done(0, got as u64);
            is_end = got < wanted || offset == range.end;
            bytes.truncate(start + got);
            let ends = engine.cuts(&bytes, is_end);
            let at = ends.last().copied().unwrap_or(0);
            carried.clear();
            carried.extend_from_slice(&bytes[at..]);
            if !ends.is_empty() {
                let number = pushed;
                let batch = Batch { bytes, ends, number, file: file.clone(), is_stored: false };
                pushed += 1;
                if let Some(batch) = engine.offer(batch) {
                    self.store_batch(batch)?;
                }
            }
            while taken < pushed {
                let parts = match file.take(taken) {
                    Some(parts) => parts,
                    // Everybody may be busy with a file of their own, and parts must not pile up.
                    None if is_end || pushed - taken > BATCHES_AHEAD_MAX => {
                        file.wait_for(self, taken)?
                    }
                    None => break,
                };
                taken += 1;
                recipe.extend(self, parts)?;
            }
        }
        Ok(offset)
    }

    /// Stores the chunks of a batch and tells its file.
    pub(super) fn store_batch(&mut self, mut batch: Batch) -> Result<(), Stop> {
        let parts = self.sink.add_chunks(&batch.bytes, &batch.ends, &[])?;
        batch.is_stored = true;
        self.engine.spare_buffers.give(std::mem::take(&mut batch.bytes));
        batch.file.finish(batch.number, parts);
        Ok(())
    }
}

impl LargeFile {
    fn finish(&self, number: u64, parts: Vec<Part>) {
        lock(&self.state).parts.insert(number, parts);
        self.changed.notify_all();
    }

    fn fail(&self) {
        lock(&self.state).is_failed = true;
        self.changed.notify_all();
    }

    fn take(&self, number: u64) -> Option<Vec<Part>> {
        lock(&self.state).parts.remove(&number)
    }

    /// Waits for a batch, storing others meanwhile.
    fn wait_for(&self, worker: &mut Worker<'_>, number: u64) -> Result<Vec<Part>, Stop> {
        loop {
            if let Some(parts) = self.take(number) {
                return Ok(parts);
            }
            if let Some(batch) = worker.engine.take_batch() {
                worker.store_batch(batch)?;
                continue;
            }
            let mut state = lock(&self.state);
            while !state.parts.contains_key(&number) && !state.is_failed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_failed {
                return Err(Stop::Cancelled);
            }
        }
    }
}

/// A recipe that grows part by part, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Recipe {
    joiner: PartJoiner,
    pages: PageWriter<RecipeCodec>,
    /// The only part so far.
    only: Option<Part>,
    part_count: u64,
    bytes: u64,
}

impl Recipe {
    fn extend(&mut self, worker: &mut Worker<'_>, parts: Vec<Part>) -> Result<(), Stop> {
        parts.into_iter().try_for_each(|part| self.push(worker, part))
    }

    fn push(&mut self, worker: &mut Worker<'_>, part: Part) -> Result<(), Stop> {
        self.bytes += part.file_bytes();
        match self.joiner.push(part) {
            Some(done) => self.page(worker, done),
            None => Ok(()),
        }
    }

    fn page(&mut self, worker: &mut Worker<'_>, part: Part) -> Result<(), Stop> {
        self.part_count += 1;
        if self.part_count == 1 {
            self.only = Some(part);
            return Ok(());
        }
        let sink = &mut worker.sink;
        let mut store = |bytes: &[u8]| sink.add(BlobKind::Recipe, bytes);
        if let Some(first) = self.only.take() {
            self.pages.push(first, &mut store)?;
        }
        self.pages.push(part, &mut store)
    }

    /// The file's size and content: one chunk stands for itself, everything else is a recipe.
    pub(super) fn finish(mut self, worker: &mut Worker<'_>) -> Result<Node, Stop> {
        let size = self.bytes;
        if let Some(last) = std::mem::take(&mut self.joiner).finish() {
            self.page(worker, last)?;
        }
        let content = match self.only {
            None if self.part_count == 0 => Content::Empty,
            Some(Part::Chunk { id, .. }) => Content::Chunk(id),
            only => {
                let sink = &mut worker.sink;
                let mut store = |bytes: &[u8]| sink.add(BlobKind::Recipe, bytes);
                if let Some(part) = only {
                    self.pages.push(part, &mut store)?;
                }
                Content::Recipe(self.pages.finish(&mut store)?)
            }
        };
        Ok(Node::File { size, content })
    }
}

fn unreadable(error: &HostError) -> FileRead {
    FileRead::Unreadable {
        path: error.path.clone(),
        during: error.action,
        message: if error.is_not_found() {
            "it vanished after it was listed".to_owned()
        } else {
            error.source.to_string()
        },
    }
}

/// What is read at once, beside what is carried over from before: fits the second-level cache.
pub(super) const WINDOW_BYTES: usize = 1 << 20;
/// Batches of one file that may be stored while an earlier one is not.
const BATCHES_AHEAD_MAX: u64 = 64;
