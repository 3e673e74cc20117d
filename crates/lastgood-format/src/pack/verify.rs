//! Verifying a whole pack without any key: every shard by its checksum, the pack by its id.

use twox_hash::XxHash3_64;

use super::{FOOTER_BYTES, PackError, PackFooter, PackHasher, PackHeader, TOO_SHORT};
use crate::encoding::DecodeError;
use crate::id::PackId;
use crate::parity::RunningSums;

/// Verifies a pack piece by piece, so that it need not be in memory whole: first its two ends, then
/// the shards between them in the order in which they lie.
#[derive(Debug)]
pub struct PackVerifier {
    header: PackHeader,
    hasher: PackHasher,
    parity: RunningSums,
    /// The directory's frames, the checksums.
    end: Vec<u8>,
    /// How many shards between the ends were taken.
    shards: usize,
}

impl PackVerifier {
    /// Begins with the pack's header, with what lies between the frames of the groups and parity,
    /// and with its last bytes, from the directory's frames on.
    ///
    /// # Errors
    /// [`PackError`] names the first part that is damaged.
    pub fn new(front: &[u8], middle: &[u8], end: &[u8]) -> Result<Self, PackError> {
        let header = PackHeader::decode(front).map_err(PackError::Header)?;
        let footer = end.last_chunk().ok_or(PackError::Footer(TOO_SHORT))?;
        let footer = PackFooter::decode(footer).map_err(PackError::Footer)?;
        if footer != header.footer() || end.len() != footer.end_bytes as usize {
            return Err(PackError::Footer(DecodeError::invalid("pack", "its length does not fit")));
        }
        let rest = end.get(..end.len().saturating_sub(FOOTER_BYTES)).unwrap_or_default();
        let at = rest.len().saturating_sub(header.header_bytes());
        let (rest, copy) = rest.split_at_checked(at).unwrap_or_default();
        if front.get(..header.header_bytes()) != Some(copy) {
            return Err(PackError::Header(DecodeError::invalid("pack header", COPIES_DIFFER)));
        }
        let checksums = rest.get(header.directory_frames_bytes()..).unwrap_or_default();
        if middle != [checksums, copy].concat() {
            return Err(PackError::Middle);
        }
        let hasher = PackHasher::new(copy);
        let stripes = header.stripes();
        let (size, memory) = (header.frame_size.stored(), Box::new(Vec::new()));
        let parity = RunningSums::new(stripes.count, stripes.parity, size, memory);
        let this = Self { header, hasher, parity, end: rest.to_vec(), shards: 0 };
        this.check(this.shard_count(), this.directory())?;
        Ok(this)
    }

    /// Takes the shards that follow those taken before: the frames of the groups, then parity.
    ///
    /// # Errors
    /// [`PackError::Shard`] names the first that is damaged. The next may be taken nevertheless;
    /// the id is then another.
    pub fn shards(&mut self, shards: &[u8]) -> Result<(), PackError> {
        let size = self.header.frame_size;
        let group_frames = (self.header.group_frames as usize).saturating_sub(self.shards);
        let groups = group_frames.saturating_mul(size.stored()).min(shards.len());
        self.hasher.tags(shards.get(..groups).unwrap_or_default(), size);
        self.parity.add(shards);
        let first = self.shards;
        self.shards = self.shards.saturating_add(shards.len() >> size.log2());
        self.check(first, shards)
    }

    /// The id of the pack, whose every byte is then as it was when the id was made.
    ///
    /// # Errors
    /// [`PackError::Footer`] when shards are missing; [`PackError::Parity`] when the pack is what
    /// its id says and could not be mended.
    pub fn finish(mut self) -> Result<PackId, PackError> {
        if self.shards != self.shard_count() {
            return Err(PackError::Footer(TOO_SHORT));
        }
        let (directory, checksums) =
            self.end.split_at_checked(self.header.directory_frames_bytes()).unwrap_or_default();
        self.hasher.tags(directory, self.header.frame_size);
        self.parity.add(directory);
        if !self.parity.is_consistent() {
            return Err(PackError::Parity);
        }
        Ok(self.hasher.finish(checksums))
    }

    /// How many shards lie before the directory's.
    const fn shard_count(&self) -> usize {
        (self.header.group_frames as usize).saturating_add(self.header.parity_count())
    }

    fn directory(&self) -> &[u8] {
        self.end.get(..self.header.directory_frames_bytes()).unwrap_or_default()
    }

    /// Compares `shards` with their checksums, the first of which is number `first`.
    fn check(&self, first: usize, shards: &[u8]) -> Result<(), PackError> {
        let checksums = self.end.get(self.header.directory_frames_bytes()..).unwrap_or_default();
        let checksums = checksums.chunks_exact(8).enumerate().skip(first);
        let shards = shards.chunks(self.header.frame_size.stored());
        for (shard, (number, checksum)) in shards.zip(checksums) {
            if XxHash3_64::oneshot(shard).to_le_bytes() != checksum {
                return Err(PackError::Shard(number));
            }
        }
        Ok(())
    }
}

/// Computes the id of a whole pack and checks every shard's checksum, without any key.
///
/// # Errors
/// [`PackError`] names the first part that is damaged.
pub fn verify_bytes(pack: &[u8]) -> Result<PackId, PackError> {
    let header = PackHeader::decode(pack).map_err(PackError::Header)?;
    let part = |start: usize, end: usize| pack.get(start..end).ok_or(PackError::Footer(TOO_SHORT));
    let end = part(header.directory_offset(), pack.len())?;
    let middle = part(header.middle_offset(), header.parity_offset())?;
    let mut verifier = PackVerifier::new(pack, middle, end)?;
    verifier.shards(part(header.header_bytes(), header.middle_offset())?)?;
    verifier.shards(part(header.parity_offset(), header.directory_offset())?)?;
    verifier.finish()
}

const COPIES_DIFFER: &str = "its copies differ";
