//! Storing blobs: a worker's open groups and packs, and what all workers of a session share.
//!
//! A worker owns its buffers from the blob to the compressed group; workers share the set of blobs
//! that are on their way, a few open packs to seal groups into, and the queue of finished packs. So
//! memory grows little with threads, and a small run ends in one pack of each class.

mod deltas;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam_channel::Sender;
use lastgood_format::config::DELTAS;
use lastgood_format::group::{Compression, FrameSize, GroupCompressor};
use lastgood_format::id::{BlobId, PackId, SessionId};
use lastgood_format::index::{BlobPrefix, IndexSegment};
use lastgood_format::key::{Class, ClassSecret};
use lastgood_format::limits::{BLOB_BYTES_MAX, GROUP_BYTES_MAX, PACK_BYTES_MAX};
use lastgood_format::object::name;
use lastgood_format::pack::{BlobKind, FinishedPack, GroupPayload, PackBuilder, PackedBlob};
use lastgood_format::packset::PackRef;
use lastgood_format::parity::ParityShare;

use crate::error::RepoError;
use crate::footing::{Footing, Footings};
use crate::index::Index;
use crate::objects::object_name;
use crate::pack_memory::PackPool;
use crate::reader::{BlobReader, Form};
use crate::repository::Repository;
use deltas::Previous;

/// How a session stores.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// zstd level of groups; `None` stores them as they are.
    pub level: Option<i32>,
    /// Plaintext bytes at which a group is closed.
    pub group_bytes: usize,
    /// Sealed bytes at which a pack is closed.
    pub pack_bytes: usize,
    /// Packs that are put at once beside the work. None: whoever fills a pack puts it, so that with
    /// one thread all calls come in one order.
    pub uploads: usize,
    /// Parity of packs.
    pub parity: ParityShare,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: Some(GroupCompressor::ORDINARY_LEVEL),
            group_bytes: 3 << 20,
            pack_bytes: 16 << 20,
            uploads: 2,
            parity: ParityShare::default(),
        }
    }
}

/// Counts of a session, each growing while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    /// Blobs that were new.
    pub blobs_new: AtomicU64,
    /// Plaintext bytes of data blobs that were new.
    pub data_bytes_new: AtomicU64,
    /// Plaintext bytes of metadata blobs that were new.
    pub meta_bytes_new: AtomicU64,
    /// Plaintext bytes of data blobs that the repository had.
    pub data_bytes_known: AtomicU64,
    /// Bytes of packs that were put.
    pub pack_bytes: AtomicU64,
    /// Packs that were put.
    pub packs: AtomicU64,
}

/// What the workers and uploaders of a session share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) repo: Arc<Repository>,
    pub(crate) index: Arc<Index>,
    pub(crate) settings: Settings,
    pub(crate) secrets: [ClassSecret; 3],
    pub(crate) tally: Arc<Tally>,
    /// Reads the packs that known blobs are said to be in, and bases of deltas.
    reader: BlobReader,
    /// Whether the repository takes deltas.
    takes_deltas: bool,
    /// Packs that may be referred to, with their lengths: see [`may_refer_to`](Self::may_refer_to).
    usable: HashSet<(PackId, u64)>,
    /// Blobs that were added and are in no index run yet.
    pending: Vec<Mutex<HashSet<BlobPrefix>>>,
    /// Packs that known blobs were found in.
    used: Mutex<HashSet<PackRef>>,
    /// Packs put by this session.
    stored: Mutex<Vec<PackRef>>,
    /// Index entries of packs that were put and are in no segment yet.
    segment: Mutex<IndexSegment>,
    /// Packs that groups are sealed into, for each class.
    open: [OpenPacks; 3],
    /// Groups that workers left open when they ended.
    leftovers: Mutex<[OpenGroup; 3]>,
    group_counter: AtomicU64,
    /// What packs are made in, for each class.
    memory: [PackMemory; 3],
    is_failed: AtomicBool,
    failure: Mutex<Option<RepoError>>,
}

/// An unsealed group.
#[derive(Debug, Default)]
struct OpenGroup {
    raw: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// The open packs of one class. A worker takes the first that nobody is sealing into.
#[derive(Debug)]
struct OpenPacks(Vec<Mutex<Option<PackBuilder>>>);

impl OpenPacks {
    fn new(class: Class) -> Self {
        Self((0..open_packs(class)).map(|_| Mutex::default()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Option<PackBuilder>> {
        let idle = self.0.iter().find_map(|pack| match pack.try_lock() {
            Ok(pack) => Some(pack),
            Err(TryLockError::Poisoned(pack)) => Some(pack.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        idle.unwrap_or_else(|| lock(&self.0[0]))
    }

    fn take_all(&self) -> impl Iterator<Item = PackBuilder> {
        self.0.iter().filter_map(|pack| lock(pack).take())
    }
}

/// What the packs of one class are made in.
#[derive(Debug)]
struct PackMemory {
    packs: Arc<PackPool>,
    /// For the sums of parity. A pack that has memory gets this without waiting.
    sums: Arc<PackPool>,
}

impl PackMemory {
    fn new(settings: &Settings, class: Class) -> Self {
        let pieces_max = open_packs(class) + settings.uploads + 1;
        let (bytes, parity) = (pack_bytes(settings, class), settings.parity);
        let sums = PackBuilder::sums_bytes(FrameSize::ORDINARY, bytes, parity);
        // The last group may begin just before the pack is full.
        let frames = bytes + settings.group_bytes + LONG_BLOB_BYTES;
        let pack = parity.with_parity(frames as u64) as usize + DIRECTORY_BYTES;
        Self {
            packs: Arc::new(PackPool::new(pack, pieces_max)),
            sums: Arc::new(PackPool::new(sums, pieces_max)),
        }
    }
}

impl Shared {
    pub(crate) fn new(
        repo: Arc<Repository>,
        index: Arc<Index>,
        mut settings: Settings,
        secrets: [ClassSecret; 3],
        usable: HashSet<(PackId, u64)>,
        tally: Arc<Tally>,
    ) -> Self {
        // However they are set, nothing is stored that no reader accepts: what two workers left
        // open makes one group.
        settings.group_bytes = settings.group_bytes.min(GROUP_BYTES_MAX / 2);
        let longest =
            PACK_BYTES_MAX / 2 * PACK_BYTES_MAX / settings.parity.with_parity(PACK_BYTES_MAX);
        settings.pack_bytes = settings.pack_bytes.min(longest as usize);
        let memory = Class::ALL.map(|class| PackMemory::new(&settings, class));
        Self {
            reader: BlobReader::new(repo.clone()),
            takes_deltas: repo.history().has(DELTAS),
            repo,
            index,
            settings,
            secrets,
            usable,
            tally,
            pending: (0..64).map(|_| Mutex::default()).collect(),
            used: Mutex::default(),
            stored: Mutex::default(),
            segment: Mutex::default(),
            open: Class::ALL.map(OpenPacks::new),
            leftovers: Mutex::default(),
            group_counter: AtomicU64::new(0),
            memory,
            is_failed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    pub(crate) fn secret(&self, class: Class) -> &ClassSecret {
        let [data, meta, refs] = &self.secrets;
        match class {
            Class::Data => data,
            Class::Meta => meta,
            Class::Refs => refs,
        }
    }

    /// Whether a pack of another session exists in its length, and no round of gc condemned it.
    pub(crate) fn may_refer_to(&self, pack: &PackRef) -> bool {
        self.is_usable(pack.pack, pack.bytes)
    }

    pub(crate) fn is_usable(&self, pack: PackId, bytes: u64) -> bool {
        self.usable.contains(&(pack, bytes))
    }

    /// The session that all of this is for.
    pub(crate) const fn session(&self) -> SessionId {
        let [data, ..] = &self.secrets;
        data.session
    }

    fn is_own_or_usable(&self, own: SessionId, pack: &PackRef) -> bool {
        pack.session == own || self.may_refer_to(pack)
    }

    /// What a blob stands on that this session stored or may refer to, in packs that `accept` takes.
    pub(crate) fn footing(
        &self,
        form: Form,
        blob: BlobId,
        accept: &dyn Fn(&PackRef) -> bool,
    ) -> Option<Footing> {
        let own = self.session();
        let may_refer_to = |pack: &PackRef| self.is_own_or_usable(own, pack) && accept(pack);
        let footings = Footings::new(&self.index, self.reader.packs(), &may_refer_to);
        match form {
            Form::Any => footings.of_session(own).find(blob),
            Form::Whole => footings.whole(blob).map(|at| Footing { pack: at.pack, base: None }),
        }
    }

    fn add_group(&self, pack: &mut PackBuilder, class: Class, group: &GroupPayload<'_>) {
        let random = self.repo.world().random();
        pack.add_group(self.secret(class), group, self.next_counter(), &random);
    }

    /// Starts a pack. Waits where too many are on their way.
    fn new_pack(&self, class: Class) -> PackBuilder {
        let PackMemory { packs, sums } = &self.memory[slot(class)];
        let (settings, size) = (&self.settings, FrameSize::ORDINARY);
        let pack = PackBuilder::new(self.secret(class), size, Box::new(packs.take()));
        let bytes = pack_bytes(settings, class);
        pack.expecting(bytes, settings.parity, Box::new(sums.take()))
    }

    /// A number that no other group of the session has.
    fn next_counter(&self) -> u64 {
        self.group_counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Records the first failure; everything after it stops.
    pub(crate) fn fail(&self, error: RepoError) {
        lock(&self.failure).get_or_insert(error);
        self.is_failed.store(true, Ordering::Release);
    }

    pub(crate) fn take_failure(&self) -> Option<RepoError> {
        lock(&self.failure).take()
    }

    pub(crate) fn check(&self) -> Result<(), RepoError> {
        if self.is_failed.load(Ordering::Acquire) {
            return Err(self.take_failure().unwrap_or(RepoError::Stopped));
        }
        Ok(())
    }

    /// Packs that this session put so far.
    pub(crate) fn stored_packs(&self) -> Vec<PackRef> {
        lock(&self.stored).clone()
    }

    /// Notes packs that the session needs beside those that it finds known blobs in.
    pub(crate) fn use_packs(&self, packs: impl IntoIterator<Item = PackRef>) {
        lock(&self.used).extend(packs);
    }

    /// Packs of others that known blobs were found in.
    pub(crate) fn used_packs(&self) -> HashSet<PackRef> {
        lock(&self.used).clone()
    }

    /// Puts a finished pack and notes what is in it. Runs on uploader threads, where there are any.
    pub(crate) fn store(&self, pack: FinishedPack) -> Result<(), RepoError> {
        let session = pack.layout.session;
        let object = object_name(&name::pack(session, pack.id));
        self.repo.backend().put(&object, &[&pack.bytes])?;
        let pack_ref = PackRef {
            session,
            pack: pack.id,
            class: pack.layout.class,
            bytes: pack.layout.pack_bytes() as u64,
        };
        self.tally.packs.fetch_add(1, Ordering::Relaxed);
        self.tally.pack_bytes.fetch_add(pack_ref.bytes, Ordering::Relaxed);
        lock(&self.stored).push(pack_ref);
        let mut segment = lock(&self.segment);
        segment.add_pack(pack_ref, &pack.directory.blobs);
        let full = segment.entries.len() >= SEGMENT_ENTRIES;
        let segment = if full { Some(std::mem::take(&mut *segment)) } else { None };
        segment.map_or(Ok(()), |segment| self.store_segment(segment))
    }

    /// Puts whatever index entries are left.
    pub(crate) fn flush_segment(&self) -> Result<(), RepoError> {
        let segment = std::mem::take(&mut *lock(&self.segment));
        if segment.packs.is_empty() { Ok(()) } else { self.store_segment(segment) }
    }

    /// Puts a segment for packs of other sessions that no segment covered.
    pub(crate) fn adopt(&self, segment: IndexSegment) -> Result<(), RepoError> {
        self.store_segment(segment)
    }

    fn store_segment(&self, mut segment: IndexSegment) -> Result<(), RepoError> {
        segment.entries.sort_unstable();
        let session = self.secret(Class::Meta).session;
        let bytes = segment.encode(self.repo.keys(), session, &self.repo.world().random());
        let id = lastgood_format::object::object_id(&bytes);
        self.repo.put(&name::index(id), &bytes)?;
        let blobs: Vec<BlobPrefix> = segment.entries.iter().map(|entry| entry.blob).collect();
        self.index.add(segment, id);
        for blob in blobs {
            lock(self.shard(blob)).remove(&blob);
        }
        Ok(())
    }

    fn shard(&self, blob: BlobPrefix) -> &Mutex<HashSet<BlobPrefix>> {
        &self.pending[usize::from(blob.0[0]) % self.pending.len()]
    }
}

/// Stores blobs for one worker of a session.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    finished: Sender<FinishedPack>,
    compressor: GroupCompressor,
    groups: [OpenGroup; 3],
    used: HashSet<PackRef>,
}

impl BlobWriter {
    pub(crate) fn new(shared: Arc<Shared>, finished: Sender<FinishedPack>) -> Self {
        let compressor = GroupCompressor::new(shared.settings.level.unwrap_or(1));
        Self { shared, finished, compressor, groups: Default::default(), used: HashSet::new() }
    }

    /// Stores a blob unless the repository has it, and returns its id. The blob is durable when
    /// the session is finished, and readable by nobody before.
    ///
    /// # Errors
    /// What stopped the session: its packs could not be put.
    ///
    /// # Panics
    /// When the blob is longer than [`lastgood_format::limits::BLOB_BYTES_MAX`].
    pub fn add(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<BlobId, RepoError> {
        let id = self.shared.repo.keys().blob_id(kind, bytes);
        self.add_identified(kind, id, bytes)?;
        Ok(id)
    }

    /// As [`add`](Self::add), for a blob whose id was computed already. Returns whether it was new.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn add_identified(
        &mut self,
        kind: BlobKind,
        id: BlobId,
        bytes: &[u8],
    ) -> Result<bool, RepoError> {
        let is_new = self.claim(Form::Any, kind, id, bytes.len());
        if is_new {
            self.append(PackedBlob { id, kind, base: None, bytes: bytes.len() as u32 }, bytes)?;
        }
        Ok(is_new)
    }

    /// Stores chunks that lie one after the other, each up to one of `ends`; appends their ids to
    /// `ids`. A run of new ones that makes a group by itself is sealed from where it lies. Each may be
    /// stored as a change of one of `previous`, the chunks of the version before, in order.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Panics
    /// As [`add`](Self::add), and when `ends` do not ascend within `bytes`.
    pub fn add_chunks(
        &mut self,
        bytes: &[u8],
        ends: &[usize],
        previous: &[BlobId],
        ids: &mut Vec<BlobId>,
    ) -> Result<(), RepoError> {
        let kind = BlobKind::Chunk;
        let mut previous = Previous::new(previous);
        let mut run: Vec<PackedBlob> = Vec::with_capacity(ends.len());
        let (mut start, mut run_start) = (0, 0);
        for &end in ends {
            let chunk = &bytes[start..end];
            let id = self.shared.repo.keys().blob_id(kind, chunk);
            ids.push(id);
            let like = previous.like(id);
            if self.claim(Form::Any, kind, id, chunk.len())
                && !self.append_delta(id, chunk, like)?
            {
                run.push(PackedBlob { id, kind, base: None, bytes: chunk.len() as u32 });
            } else {
                self.add_run(&bytes[run_start..start], &run)?;
                run.clear();
                run_start = end;
            }
            start = end;
        }
        self.add_run(&bytes[run_start..start], &run)
    }

    /// Stores new chunks that lie one after the other.
    fn add_run(&mut self, bytes: &[u8], blobs: &[PackedBlob]) -> Result<(), RepoError> {
        let group_bytes = self.shared.settings.group_bytes;
        if (group_bytes / 3..group_bytes * 2).contains(&bytes.len())
            && blobs.len() <= GROUP_BLOBS_MAX
        {
            return seal(
                &self.shared,
                &self.finished,
                &mut self.compressor,
                Class::Data,
                bytes,
                blobs,
            );
        }
        let mut rest = bytes;
        for blob in blobs {
            let (chunk, after) = rest.split_at(blob.bytes as usize);
            self.append(*blob, chunk)?;
            rest = after;
        }
        Ok(())
    }

    /// Appends a new blob to the open group of its class, which may be full then.
    fn append(&mut self, blob: PackedBlob, bytes: &[u8]) -> Result<(), RepoError> {
        let class = blob.kind.class();
        let group = &mut self.groups[slot(class)];
        if group.raw.len() + bytes.len() > GROUP_BYTES_MAX {
            group.seal(&self.shared, &self.finished, &mut self.compressor, class)?;
        }
        group.raw.extend_from_slice(bytes);
        group.blobs.push(blob);
        if !is_full_group(&self.shared.settings, group) {
            return Ok(());
        }
        group.seal(&self.shared, &self.finished, &mut self.compressor, class)
    }

    /// Counts a blob, and claims it for this worker unless it is stored or claimed.
    fn claim(&mut self, form: Form, kind: BlobKind, id: BlobId, bytes: usize) -> bool {
        assert!(bytes <= BLOB_BYTES_MAX, "a blob exceeds its limit");
        let is_new = !self.is_known(form, id, kind.class());
        let tally = &self.shared.tally;
        let counter = match (kind.class(), is_new) {
            (Class::Data, true) => &tally.data_bytes_new,
            (Class::Data, false) => &tally.data_bytes_known,
            (_, true) => &tally.meta_bytes_new,
            (_, false) => return false,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        tally.blobs_new.fetch_add(u64::from(is_new), Ordering::Relaxed);
        is_new
    }

    /// Claims a blob for this worker unless it is stored or claimed.
    fn is_known(&mut self, form: Form, id: BlobId, class: Class) -> bool {
        let prefix = BlobPrefix::from(id);
        let mut pending = lock(self.shared.shard(prefix));
        if pending.contains(&prefix) {
            return true;
        }
        // Pages of the pack set are located without the index, so the set decides for itself.
        if class != Class::Refs
            && let Some(found) = self.shared.footing(form, id, &|_| true)
        {
            drop(pending);
            self.used.extend(found.packs());
            return true;
        }
        pending.insert(prefix);
        false
    }

    /// Ends the worker: what it has left goes to whoever ends last, or to the session's finish.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn finish(mut self) -> Result<(), RepoError> {
        lock(&self.shared.used).extend(self.used.drain());
        let shared = self.shared.clone();
        let mut leftovers = lock(&shared.leftovers);
        for class in Class::ALL {
            let group = std::mem::take(&mut self.groups[slot(class)]);
            let leftover = &mut leftovers[slot(class)];
            leftover.raw.extend_from_slice(&group.raw);
            leftover.blobs.extend_from_slice(&group.blobs);
            if is_full_group(&shared.settings, leftover) {
                leftover.seal(&shared, &self.finished, &mut self.compressor, class)?;
            }
        }
        Ok(())
    }
}

/// Seals what the workers left of `class` and sends what is open. Frames fit what there is, so that
/// a run of a few bytes stores little more than a few bytes.
pub(crate) fn flush_leftovers(
    shared: &Shared,
    finished: &Sender<FinishedPack>,
    class: Class,
) -> Result<(), RepoError> {
    let group = std::mem::take(&mut lock(&shared.leftovers)[slot(class)]);
    let mut compressor = GroupCompressor::new(shared.settings.level.unwrap_or(1));
    let mut packs = shared.open[slot(class)].take_all();
    let mut last = packs.next();
    for pack in packs {
        last = Some(match last {
            Some(mut left) if fits(&shared.settings, class, &left, &pack) => {
                left.append(&pack);
                left
            }
            left => {
                left.map_or(Ok(()), |left| send(shared, finished, class, left))?;
                pack
            }
        });
    }
    if !group.blobs.is_empty() {
        let (compression, payload) = compress(shared, &mut compressor, &group.raw);
        let pack = last.get_or_insert_with(|| {
            let parity = shared.settings.parity;
            let size = frame_size_for(parity, payload.len(), group.blobs.len() * 36 + 24);
            PackBuilder::new(shared.secret(class), size, Box::new(Vec::new()))
        });
        let payload = group_payload(&group.raw, &group.blobs, shared, compression, payload);
        shared.add_group(pack, class, &payload);
    }
    last.map_or(Ok(()), |pack| send(shared, finished, class, pack))
}

impl OpenGroup {
    fn seal(
        &mut self,
        shared: &Shared,
        finished: &Sender<FinishedPack>,
        compressor: &mut GroupCompressor,
        class: Class,
    ) -> Result<(), RepoError> {
        seal(shared, finished, compressor, class, &self.raw, &self.blobs)?;
        self.raw.clear();
        self.blobs.clear();
        Ok(())
    }
}

/// Compresses a group, seals it into an open pack, and sends the pack when it is full.
fn seal(
    shared: &Shared,
    finished: &Sender<FinishedPack>,
    compressor: &mut GroupCompressor,
    class: Class,
    raw: &[u8],
    blobs: &[PackedBlob],
) -> Result<(), RepoError> {
    shared.check()?;
    let (compression, payload) = compress(shared, compressor, raw);
    let payload = group_payload(raw, blobs, shared, compression, payload);
    let mut open = shared.open[slot(class)].lock();
    let pack = open.get_or_insert_with(|| shared.new_pack(class));
    shared.add_group(pack, class, &payload);
    let full = open.take_if(|pack| is_full_pack(&shared.settings, class, pack));
    drop(open);
    full.map_or(Ok(()), |pack| send(shared, finished, class, pack))
}

fn group_payload<'a>(
    raw: &[u8],
    blobs: &'a [PackedBlob],
    shared: &Shared,
    compression: Compression,
    payload: &'a [u8],
) -> GroupPayload<'a> {
    let level = shared.settings.level.unwrap_or(1);
    GroupPayload { payload, raw_bytes: raw.len() as u32, compression, level, blobs }
}

/// Compresses unless a look at one byte in sixteen says that it cannot pay.
fn compress<'a>(
    shared: &Shared,
    compressor: &'a mut GroupCompressor,
    raw: &'a [u8],
) -> (Compression, &'a [u8]) {
    if shared.settings.level.is_none() || looks_random(raw) {
        (Compression::Stored, raw)
    } else {
        compressor.compress(raw)
    }
}

/// Whether the bytes are spread as evenly as those of compressed or encrypted data.
///
/// Looks at 64 bytes in every 1,024. The entropy of the sample must exceed 7.95 bits a byte, which
/// nothing that zstd 1 shortens by 3 % reaches unless it repeats itself over long distances; and
/// such repeats are chunks that were left out already.
fn looks_random(raw: &[u8]) -> bool {
    if raw.len() < 1 << 16 {
        return false;
    }
    let mut counts = [[0_u32; 256]; 2];
    for piece in raw.chunks(1024) {
        for pair in piece[..piece.len().min(64)].as_chunks::<2>().0 {
            counts[0][usize::from(pair[0])] += 1;
            counts[1][usize::from(pair[1])] += 1;
        }
    }
    let [even, odd] = counts;
    let total: u32 = even.iter().chain(&odd).sum();
    let bits: f64 = even
        .iter()
        .zip(&odd)
        .map(|(a, b)| f64::from(a + b))
        .filter(|&count| count > 0.0)
        .map(|count| count * (f64::from(total) / count).log2())
        .sum();
    bits > 7.95 * f64::from(total)
}

fn send(
    shared: &Shared,
    finished: &Sender<FinishedPack>,
    class: Class,
    pack: PackBuilder,
) -> Result<(), RepoError> {
    let random = shared.repo.world().random();
    let parity = shared.settings.parity;
    let pack = pack.finish(parity, shared.secret(class), shared.next_counter(), &random);
    if shared.settings.uploads == 0 {
        return shared.store(pack);
    }
    // Uploaders end early only after a failure, which is then the one to report.
    finished.send(pack).map_err(|_| shared.take_failure().unwrap_or(RepoError::Stopped))
}

/// The frame size that stores a group and a directory of these lengths in the fewest bytes.
fn frame_size_for(parity: ParityShare, group_bytes: usize, directory_bytes: usize) -> FrameSize {
    let stored = |size: &FrameSize| {
        let frames = size.count(group_bytes) + size.count(directory_bytes);
        let shards = frames + parity.layout(frames, size.stored()).shard_count(frames);
        shards * (size.stored() + 2 * 8)
    };
    (9..=12)
        .filter_map(|log2| FrameSize::from_log2(log2).ok())
        .min_by_key(stored)
        .unwrap_or(FrameSize::ORDINARY)
}

/// Metadata packs are kept small: they are what a reader without a copy fetches first.
fn pack_bytes(settings: &Settings, class: Class) -> usize {
    if class == Class::Data { settings.pack_bytes } else { settings.pack_bytes / 4 }
}

/// Packs of one class that are open at once. Sealing a group of data takes a third of the time that
/// its chunks take in all, so two keep six threads busy.
const fn open_packs(class: Class) -> usize {
    if matches!(class, Class::Data) { 2 } else { 1 }
}

const fn is_full_group(settings: &Settings, group: &OpenGroup) -> bool {
    group.raw.len() >= settings.group_bytes || group.blobs.len() >= GROUP_BLOBS_MAX
}

fn is_full_pack(settings: &Settings, class: Class, pack: &PackBuilder) -> bool {
    pack.bytes() >= pack_bytes(settings, class) || pack.blob_count() >= PACK_BLOBS
}

/// Whether two packs together are one that readers like.
fn fits(settings: &Settings, class: Class, one: &PackBuilder, other: &PackBuilder) -> bool {
    one.bytes() + other.bytes() <= pack_bytes(settings, class) * 3 / 2
        && one.blob_count() + other.blob_count() <= PACK_BLOBS * 3 / 2
}

const fn slot(class: Class) -> usize {
    class as usize - 1
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Entries at which a session stores an index segment: five megabytes.
const SEGMENT_ENTRIES: usize = 1 << 18;
/// Blobs at which a group is closed however short it is.
const GROUP_BLOBS_MAX: usize = 1 << 14;
/// Longer than all blobs but the chunks of an unusual chunker. A pack with a longer one in its last
/// group moves into memory of its own.
const LONG_BLOB_BYTES: usize = 1 << 20;
/// Longer than directory and checksums of all packs but those of tiny blobs.
const DIRECTORY_BYTES: usize = 1 << 20;
/// Blobs at which a pack is closed however short it is.
const PACK_BLOBS: usize = 1 << 16;
