//! Reading packs: checksums, id, tags, and the id of every blob.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lastgood_format::object::name;
use lastgood_format::pack::{BlobEntry, OpenedPack, PackError, PackHeader, PackVerifier};
use lastgood_format::packset::PackRef;

use super::{Check, CheckPlan, ReadData, inner};
use crate::error::{Damage, RepoError, RepoErrorKind};
use crate::index::{BlobMarks, Mark};
use crate::packer::lock;
use crate::reader::{BlobPlace, GroupBuffers};

impl Check<'_> {
    /// Reads the packs that `plan` wants read, once and in windows.
    pub(super) fn read_packs(
        &mut self,
        plan: &CheckPlan,
        packs: &[PackRef],
        marks: &BlobMarks,
    ) -> Result<(), RepoError> {
        let packs = self.selection(plan.read_data, packs);
        self.observer.total(packs.len() as u64, packs.iter().map(|pack| pack.bytes).sum());
        let (read_count, read_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let errors = Mutex::new(Vec::new());
        let this = &*self;
        this.each(&packs, &|pack, buffers| {
            let mut reading = Reading { check: this, pack: *pack, marks, errors: Vec::new() };
            reading.read(buffers);
            lock(&errors).extend(reading.lost().into_iter().map(|error| (pack.pack, error)));
            read_count.fetch_add(1, Ordering::Relaxed);
            read_bytes.fetch_add(pack.bytes, Ordering::Relaxed);
            this.observer.done(1, pack.bytes)
        });
        let mut errors = inner(errors).into_iter();
        errors.try_for_each(|(pack, error)| self.pack_damage(pack, error))?;
        self.report.packs_read = read_count.into_inner();
        self.report.bytes_read = read_bytes.into_inner();
        self.report.is_stopped = self.report.packs_read < packs.len() as u64;
        Ok(())
    }

    fn selection(&self, read_data: ReadData, packs: &[PackRef]) -> Vec<PackRef> {
        let total: u64 = packs.iter().map(|pack| pack.bytes).sum();
        let lot = |pack: &PackRef| {
            u64::from_le_bytes(*pack.pack.as_bytes().first_chunk().unwrap_or(&[0; 8]))
        };
        let budget = match read_data {
            ReadData::No => return Vec::new(),
            ReadData::All => return packs.to_vec(),
            ReadData::Part { n, t } => {
                let chosen =
                    packs.iter().filter(|pack| lot(pack) % t.max(1) == n.saturating_sub(1));
                return chosen.copied().collect();
            }
            ReadData::Share(share) => (total as f64 * share.clamp(0.0, 1.0)) as u64,
            ReadData::Bytes(bytes) => bytes,
        };
        let salt = u64::from_le_bytes(self.repo.world().random());
        let mut packs = packs.to_vec();
        packs.sort_by_key(|pack| (lot(pack) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut sum = 0;
        packs.retain(|pack| {
            let is_within = sum < budget;
            sum += pack.bytes;
            is_within
        });
        packs
    }
}

/// One pack while it is read.
struct Reading<'a> {
    check: &'a Check<'a>,
    pack: PackRef,
    marks: &'a BlobMarks,
    errors: Vec<RepoError>,
}

impl Reading<'_> {
    /// Reads the pack from its front to its end. What is wrong with one part is noted, and the
    /// next part read.
    fn read(&mut self, buffers: &mut GroupBuffers) {
        let packs = self.check.reader.packs();
        let opened = match packs.open(self.pack) {
            Ok(opened) => opened,
            Err(error) => return self.errors.push(error),
        };
        let mut verifier = match self.verifier(&opened.header) {
            Ok(verifier) => Some(verifier),
            Err(error) => {
                self.errors.push(error);
                None
            }
        };
        let mut window = Vec::new();
        let mut blobs = opened.directory.blobs.as_slice();
        for (groups, range) in windows(&opened) {
            self.window(&range, &mut window, &mut verifier);
            for number in groups {
                let count = blobs.partition_point(|blob| blob.group as usize <= number);
                let (own, rest) = blobs.split_at(count);
                blobs = rest;
                let at = opened.header.group_range(&opened.directory.groups[number]);
                let frames = (at.start - range.start) as usize..(at.end - range.start) as usize;
                let number = number as u32;
                let fetched = window
                    .get_mut(frames)
                    .map(|frames| packs.group_of(self.pack, &opened, number, frames, buffers));
                let fetched = match fetched {
                    Some(Ok(())) => Ok(()),
                    // One bad sector must not hide the groups around it, and parity may mend it.
                    _ => packs.group(self.pack, &opened, number, buffers),
                };
                self.group(own, fetched, buffers);
            }
        }
        match verifier.map(PackVerifier::finish) {
            Some(Ok(id)) if id == self.pack.pack => {}
            Some(Ok(_)) => self.errors.push(packs.damaged(self.pack, Damage::Name)),
            Some(Err(error)) => self.errors.push(packs.damaged(self.pack, error)),
            None => {}
        }
    }

    /// What is wrong with the pack; nothing when all of it can be mended, which the repository
    /// notes.
    fn lost(self) -> Vec<RepoError> {
        let is_damaged = |error: &RepoError| error.kind() == RepoErrorKind::Damaged;
        if self.errors.is_empty() || !self.errors.iter().all(is_damaged) {
            return self.errors;
        }
        // It is whole, and would not be mended if it were not.
        let is_worthless = |error: &RepoError| {
            matches!(error, RepoError::Damaged { source: Damage::Pack(PackError::Parity), .. })
        };
        if self.errors.iter().any(is_worthless) {
            return self.errors;
        }
        match self.check.is_mendable(self.pack) {
            Ok(true) => Vec::new(),
            Ok(false) => self.errors,
            Err(error) => vec![error],
        }
    }

    /// Reads all of the pack that is no shard.
    fn verifier(&self, header: &PackHeader) -> Result<PackVerifier, RepoError> {
        let packs = self.check.reader.packs();
        let read = |start: usize, end: usize| {
            let mut part = Vec::new();
            packs.read(self.pack, start as u64, end as u64, &mut part).map(|()| part)
        };
        let front = read(0, header.header_bytes())?;
        let middle = read(header.middle_offset(), header.parity_offset())?;
        let end = read(header.directory_offset(), header.pack_bytes())?;
        PackVerifier::new(&front, &middle, &end).map_err(|error| packs.damaged(self.pack, error))
    }

    /// Reads a window of shards and compares them with their checksums. After the first that is
    /// damaged, nothing more is said of checksums and id.
    fn window(
        &mut self,
        range: &Range<u64>,
        window: &mut Vec<u8>,
        verifier: &mut Option<PackVerifier>,
    ) {
        let packs = self.check.reader.packs();
        let read = packs.read(self.pack, range.start, range.end, window);
        let result = read.and_then(|()| match verifier {
            Some(verifier) => {
                verifier.shards(window).map_err(|error| packs.damaged(self.pack, error))
            }
            None => Ok(()),
        });
        if let Err(error) = result {
            *verifier = None;
            self.errors.push(error);
        }
    }

    /// Whether an error is of this pack, and not of one that it needs.
    fn is_here(&self, error: &RepoError) -> bool {
        let here = name::pack(self.pack.session, self.pack.pack);
        match error {
            RepoError::Damaged { source: Damage::Base { .. }, .. } => false,
            RepoError::Damaged { object, .. } => *object == here,
            _ => false,
        }
    }

    /// Compares every blob of a group with its id.
    fn group(
        &mut self,
        blobs: &[BlobEntry],
        fetched: Result<(), RepoError>,
        buffers: &GroupBuffers,
    ) {
        let reader = &self.check.reader;
        if let Err(error) = fetched {
            self.errors.push(error);
            blobs.iter().for_each(|blob| self.marks.note(blob.id, self.pack.pack, Mark::Damaged));
            return;
        }
        for blob in blobs {
            let result = match blob.base {
                None => reader.packs().whole(self.pack, blob, &buffers.raw).map(drop),
                Some(_) => reader.load(&BlobPlace { pack: self.pack, entry: *blob }).map(drop),
            };
            if let Err(error) = result {
                // A delta whose base is lost is no damage here, and none at all where nothing needs
                // it: the walk of the trees tells.
                if blob.base.is_none() || self.is_here(&error) || !error.is_damage() {
                    self.errors.push(error);
                }
                self.marks.note(blob.id, self.pack.pack, Mark::Damaged);
            }
        }
    }
}

/// The shards of a pack in the order in which they lie, as windows of whole groups, then parity.
fn windows(opened: &OpenedPack) -> Vec<(Range<usize>, Range<u64>)> {
    let OpenedPack { header, directory, .. } = opened;
    let mut windows: Vec<(Range<usize>, Range<u64>)> = Vec::new();
    for (number, group) in directory.groups.iter().enumerate() {
        let range = header.group_range(group);
        match windows.last_mut() {
            Some((groups, window)) if range.end - window.start <= WINDOW_BYTES => {
                groups.end = number + 1;
                window.end = range.end;
            }
            _ => windows.push((number..number + 1, range)),
        }
    }
    let count = directory.groups.len();
    let mut at = header.parity_offset() as u64;
    let parity_end = header.directory_offset() as u64;
    while at < parity_end {
        let frames = WINDOW_BYTES >> header.frame_size.log2() << header.frame_size.log2();
        let end = parity_end.min(at + frames);
        windows.push((count..count, at..end));
        at = end;
    }
    windows
}

/// What is fetched of a pack at once: whole groups, one at least.
pub(super) const WINDOW_BYTES: u64 = 4 << 20;
