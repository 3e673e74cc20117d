//! How a pack is made: groups are sealed into it, then it is closed.

use twox_hash::{XxHash3_64, XxHash3_128};

use super::{
    BlobEntry, Directory, GroupEntry, PackBuffer, PackHasher, PackHeader, PackParts, PackedBlob,
};
use crate::encoding::stored_length;
use crate::group::{Compression, FrameSize, GroupSalt, Purpose, seal_frames, seal_frames_as};
use crate::id::PackId;
use crate::key::ClassSecret;
use crate::limits::{GROUP_BYTES_MAX, PACK_BLOBS_MAX, PACK_BYTES_MAX};
use crate::memory::Memory;
use crate::parity::{ParityLayout, ParityShare, RunningSums, Stripes};

/// Assembles one pack in memory.
#[derive(Debug)]
pub struct PackBuilder {
    frame_size: FrameSize,
    directory: Directory,
    buffer: PackBuffer,
    checksums: Vec<u64>,
    /// Parity of the frames so far, where their number is known well enough.
    sums: Option<RunningSums>,
}

impl PackBuilder {
    /// Starts a pack under `secret`, in `memory`.
    #[must_use]
    pub fn new(secret: &ClassSecret, frame_size: FrameSize, memory: Box<dyn Memory>) -> Self {
        Self {
            frame_size,
            directory: Directory::default(),
            buffer: PackBuffer::new(PackHeader::header_bytes_under(secret), memory),
            checksums: Vec::new(),
            sums: None,
        }
    }

    /// Sums parity up while groups are sealed and still in a cache, for a pack that will be closed
    /// at about so many bytes of frames, in [`sums_bytes`](Self::sums_bytes) of memory. Of a pack
    /// that ends far from that it is computed at once.
    #[must_use]
    pub fn expecting(mut self, bytes: usize, parity: ParityShare, memory: Box<dyn Memory>) -> Self {
        let stripes = expected_stripes(self.frame_size, bytes, parity);
        self.sums = (stripes.parity > 0).then(|| {
            RunningSums::new(stripes.count, stripes.parity, self.frame_size.stored(), memory)
        });
        self
    }

    /// Bytes of memory that [`expecting`](Self::expecting) needs.
    #[must_use]
    pub fn sums_bytes(frame_size: FrameSize, bytes: usize, parity: ParityShare) -> usize {
        let stripes = expected_stripes(frame_size, bytes, parity);
        RunningSums::bytes(stripes.count, stripes.parity, frame_size.stored())
    }

    /// Seals one group into the pack.
    ///
    /// `level` is the compressor's, `counter` numbers the session's groups, `random` is fresh.
    ///
    /// # Panics
    /// When no reader would accept the pack: the blobs do not fill the group, or limits are passed.
    pub fn add_group(
        &mut self,
        secret: &ClassSecret,
        group: &GroupPayload<'_>,
        counter: u64,
        random: &[u8; 32],
    ) {
        let filled: u64 = group.blobs.iter().map(|blob| u64::from(blob.bytes)).sum();
        assert!(filled == u64::from(group.raw_bytes), "the blobs do not fill their group");
        assert!(group.raw_bytes as usize <= GROUP_BYTES_MAX, "a group exceeds its limit");
        assert!(
            self.blob_count().saturating_add(group.blobs.len()) <= PACK_BLOBS_MAX,
            "a pack has too many blobs"
        );
        let salt = GroupSalt::hedged(secret, counter, random, &[&group.determinants()]);
        let first_frame = self.frame_count();
        let (size, count) = (self.frame_size, self.frame_size.count(group.payload.len()));
        let sealed = self.buffer.room(count.saturating_mul(size.stored()));
        seal_frames(secret, salt, size, group.payload, sealed);
        if let Some(sums) = &mut self.sums {
            sums.add(sealed);
        }
        self.checksums
            .extend(sealed.chunks_exact(self.frame_size.stored()).map(XxHash3_64::oneshot));
        self.directory.push(
            GroupEntry {
                first_frame: stored_length(first_frame),
                stored_bytes: stored_length(group.payload.len()),
                raw_bytes: group.raw_bytes,
                compression: group.compression,
                salt,
            },
            group.blobs,
        );
    }

    /// Appends the groups of another pack of the same session and class.
    ///
    /// # Panics
    /// When the two have frames of different sizes, or more blobs together than a pack may have.
    pub fn append(&mut self, other: &Self) {
        assert_eq!(self.frame_size, other.frame_size, "joined packs have frames of one size");
        assert!(
            self.blob_count().saturating_add(other.blob_count()) <= PACK_BLOBS_MAX,
            "joined packs have too many blobs"
        );
        self.sums = None;
        let frame_offset = stored_length(self.frame_count());
        let group_offset = stored_length(self.directory.groups.len());
        self.buffer.room(other.bytes()).copy_from_slice(other.buffer.frames());
        self.checksums.extend_from_slice(&other.checksums);
        self.directory.groups.extend(other.directory.groups.iter().map(|group| GroupEntry {
            first_frame: group.first_frame.saturating_add(frame_offset),
            ..*group
        }));
        self.directory.blobs.extend(
            other
                .directory
                .blobs
                .iter()
                .map(|blob| BlobEntry { group: blob.group.saturating_add(group_offset), ..*blob }),
        );
    }

    fn frame_count(&self) -> usize {
        self.bytes() >> self.frame_size.log2()
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.directory.groups.is_empty()
    }

    /// Bytes of sealed frames so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.frames().len()
    }

    /// Blobs so far.
    #[must_use]
    pub fn blob_count(&self) -> usize {
        self.directory.blobs.len()
    }

    /// Seals the directory, computes parity and closes the pack.
    ///
    /// # Panics
    /// When the pack exceeds [`PACK_BYTES_MAX`]: its writer closes packs long before.
    #[must_use]
    pub fn finish(
        mut self,
        parity: ParityShare,
        secret: &ClassSecret,
        counter: u64,
        random: &[u8; 32],
    ) -> FinishedPack {
        let plain = self.directory.encode();
        let directory_salt = GroupSalt::hedged(secret, counter, random, &[b"directory", &plain]);
        let frames = self.frame_count().saturating_add(self.frame_size.count(plain.len()));
        let header = PackHeader {
            class: secret.class,
            frame_size: self.frame_size,
            parity: self.parity_layout(parity, frames),
            repository: secret.repository,
            session: secret.session,
            group_frames: stored_length(self.frame_count()),
            directory_bytes: stored_length(plain.len()),
            directory_salt,
            commitment: secret.secret.commitment(),
            wrapped: secret.wrapped.clone(),
        };
        assert!(header.pack_bytes() as u64 <= PACK_BYTES_MAX, "a pack exceeds its limit");

        let (purpose, size) = (Purpose::Directory, self.frame_size);
        let header_bytes = header.encode();
        let parts = header.parts(self.buffer.whole(header.pack_bytes()));
        let PackParts { front, groups, middle, parity, directory, tail } = parts;
        seal_frames_as(purpose, secret, directory_salt, size, &plain, directory);
        protect(&header, self.sums, groups, parity, directory);
        let rest = parity.chunks_exact(size.stored()).chain(directory.chunks_exact(size.stored()));
        self.checksums.extend(rest.map(XxHash3_64::oneshot));
        let checksums: Vec<u8> =
            self.checksums.iter().flat_map(|checksum| checksum.to_le_bytes()).collect();
        let mut hasher = PackHasher::new(&header_bytes);
        hasher.tags(groups, size);
        hasher.tags(directory, size);
        let id = hasher.finish(&checksums);
        let footer = header.footer().encode();
        front.copy_from_slice(&header_bytes);
        middle.copy_from_slice(&[&checksums[..], &header_bytes].concat());
        tail.copy_from_slice(&[&checksums[..], &header_bytes, &footer].concat());
        FinishedPack { id, bytes: self.buffer, directory: self.directory, layout: header }
    }

    /// The layout of parity, in the stripes that were summed up, if it can be.
    fn parity_layout(&mut self, parity: ParityShare, frames: usize) -> ParityLayout {
        let length = self.frame_size.stored();
        let summed = self.sums.as_ref().map(RunningSums::geometry);
        summed.and_then(|geometry| parity.layout_in(geometry, frames, length)).unwrap_or_else(
            || {
                self.sums = None;
                parity.layout(frames, length)
            },
        )
    }
}

/// The stripes of a pack that is closed at so many bytes of frames.
fn expected_stripes(frame_size: FrameSize, bytes: usize, parity: ParityShare) -> Stripes {
    let frames = bytes >> frame_size.log2();
    parity.layout(frames, frame_size.stored()).stripes(frames, 0)
}

/// Computes the parity of a pack, from sums over `groups` where they were taken.
fn protect(
    header: &PackHeader,
    sums: Option<RunningSums>,
    groups: &mut [u8],
    parity: &mut [u8],
    directory: &mut [u8],
) {
    let size = header.frame_size.stored();
    #[cfg(feature = "seeded-bugs")]
    let mut missized = directory.to_vec();
    #[cfg(feature = "seeded-bugs")]
    let directory = if crate::seeded::is_planted(crate::seeded::Mistake::StripeMissized)
        && let Some(last) = missized.chunks_exact_mut(size).last()
    {
        last.fill(0);
        &mut missized[..]
    } else {
        directory
    };
    if let Some(sums) = sums {
        sums.parity(directory, parity);
    } else if !parity.is_empty() {
        let shards = groups.chunks_exact_mut(size).chain(parity.chunks_exact_mut(size));
        let mut shards: Vec<_> = shards.chain(directory.chunks_exact_mut(size)).collect();
        header.stripes().protect(&mut shards);
    }
}

/// A group ready to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct GroupPayload<'a> {
    /// What compression made of the plaintext.
    pub payload: &'a [u8],
    /// Length of the plaintext.
    pub raw_bytes: u32,
    /// How the payload was made.
    pub compression: Compression,
    /// Level of the compressor.
    pub level: i32,
    /// The blobs that make up the plaintext, in order.
    pub blobs: &'a [PackedBlob],
}

impl GroupPayload<'_> {
    /// Everything the payload is a function of: the plaintext, by the ids and lengths of its
    /// blobs, and the compressor, by its level and version; and, should that compressor not be
    /// deterministic after all, a fast hash of the payload itself.
    fn determinants(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blobs.len().saturating_mul(40));
        out.push(self.compression as u8);
        out.extend_from_slice(&self.level.to_le_bytes());
        out.extend_from_slice(&zstd::zstd_safe::version_number().to_le_bytes());
        out.extend_from_slice(&(self.payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&XxHash3_128::oneshot(self.payload).to_le_bytes());
        for blob in self.blobs {
            blob.encode(&mut out);
        }
        out
    }
}

/// A pack ready to be stored.
#[derive(Debug)]
pub struct FinishedPack {
    /// Its id.
    pub id: PackId,
    /// All its bytes.
    pub bytes: PackBuffer,
    /// What is in it.
    pub directory: Directory,
    /// Its header, parsed.
    pub layout: PackHeader,
}
