//! Packs: many groups of one class in one object, with an encrypted directory at the end.
//!
//! ```text
//! header │ frames of the groups │ checksums │ header │ parity shards │ frames of the directory │
//! checksums │ header │ footer
//! ```
//! A *shard* is a frame: parity and checksums are over ciphertext, so rot is found and mended
//! without any key. Spec: `docs/format/pack.md`.

mod buffer;
mod builder;
mod mend;
mod verify;

pub use buffer::PackBuffer;
pub use builder::{FinishedPack, GroupPayload, PackBuilder};
pub use mend::{Mended, TooDamaged, mend};
pub use verify::{PackVerifier, verify_bytes};

use twox_hash::XxHash3_64;

use crate::encoding::{DecodeError, Reader, Write, stored_length};
use crate::group::{Compression, FrameSize, GroupSalt, Purpose, SUITE, TAG_BYTES, open_frames_as};
use crate::id::{BlobId, PackId, RepositoryId, SessionId};
use crate::key::{Class, ClassSecret, KeyError, RepositoryKeys};
use crate::limits::{
    BLOB_BYTES_MAX, GROUP_BYTES_MAX, PACK_BLOBS_MAX, PACK_BYTES_MAX, PACK_HEADER_BYTES_MAX,
    WRAPPED_BYTES_MAX,
};
use crate::object::write_wrapped;
use crate::parity::{ParityLayout, Stripes};

/// What a blob holds. Blobs of different kinds never have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BlobKind {
    /// A chunk of a file.
    Chunk = 1,
    /// A page of a tree.
    Tree = 2,
    /// A page of a recipe.
    Recipe = 3,
    /// A page of change-detection hints.
    Hints = 4,
    /// A page of the hard-link table.
    Links = 5,
    /// A page of the set of packs that a snapshot needs.
    PackSet = 6,
}

impl BlobKind {
    /// How many kinds there are.
    pub const COUNT: usize = 6;
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Chunk, Self::Tree, Self::Recipe, Self::Hints, Self::Links, Self::PackSet];

    /// What it is called, in a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Tree => "tree",
            Self::Recipe => "recipe",
            Self::Hints => "hints",
            Self::Links => "links",
            Self::PackSet => "pack-set",
        }
    }

    /// The kind with this number.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_u8(number: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|&kind| kind as u8 == number)
            .ok_or(DecodeError::invalid("blob kind", "unknown number"))
    }

    /// Position in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn ordinal(self) -> usize {
        (self as usize).saturating_sub(1)
    }

    /// The class whose packs hold such blobs.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Chunk => Class::Data,
            Self::PackSet => Class::Refs,
            Self::Tree | Self::Recipe | Self::Hints | Self::Links => Class::Meta,
        }
    }
}

/// One blob in a pack's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobEntry {
    /// Its id.
    pub id: BlobId,
    /// Its kind.
    pub kind: BlobKind,
    /// The blob it is a delta against, in a pack that the same snapshots need; `None` when whole.
    pub base: Option<BlobId>,
    /// Index of its group in the directory.
    pub group: u32,
    /// Where it starts in the group's plaintext, in bytes.
    pub offset: u32,
    /// How many bytes of the group's plaintext it takes.
    pub bytes: u32,
}

/// One group in a pack's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEntry {
    /// Index of its first frame.
    pub first_frame: u32,
    /// Bytes of payload, which is what compression made of the plaintext.
    pub stored_bytes: u32,
    /// Bytes of plaintext.
    pub raw_bytes: u32,
    /// How the payload was made.
    pub compression: Compression,
    /// Salt of the group's key.
    pub salt: GroupSalt,
}

/// What is in a pack: groups in frame order, blobs in group order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Groups in the order of their frames.
    pub groups: Vec<GroupEntry>,
    /// Blobs in the order of their groups and offsets.
    pub blobs: Vec<BlobEntry>,
}

impl Directory {
    /// Appends a group after the ones there are. Its blobs come as id, kind, base and length.
    pub(crate) fn push(&mut self, group: GroupEntry, blobs: &[PackedBlob]) {
        let index = stored_length(self.groups.len());
        let mut offset = 0_u32;
        self.blobs.extend(blobs.iter().map(|blob| {
            let entry = BlobEntry {
                id: blob.id,
                kind: blob.kind,
                base: blob.base,
                group: index,
                offset,
                bytes: blob.bytes,
            };
            offset = offset.saturating_add(blob.bytes);
            entry
        }));
        self.groups.push(group);
    }

    /// The plaintext that a pack's last frames hold.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blobs.len().saturating_mul(36));
        out.varint(self.groups.len() as u64);
        let mut blobs = self.blobs.as_slice();
        for (index, group) in self.groups.iter().enumerate() {
            let count = blobs.iter().take_while(|blob| blob.group as usize == index).count();
            let (own, rest) = blobs.split_at(count);
            blobs = rest;
            out.varint(u64::from(group.stored_bytes));
            out.varint(u64::from(group.raw_bytes));
            out.push(group.compression as u8);
            out.extend_from_slice(&group.salt.0);
            out.varint(count as u64);
            for blob in own {
                out.push(blob.kind as u8 | if blob.base.is_some() { DELTA } else { 0 });
                out.varint(u64::from(blob.bytes));
                out.extend_from_slice(blob.id.as_bytes());
                if let Some(base) = blob.base {
                    out.extend_from_slice(base.as_bytes());
                }
            }
        }
        out
    }

    /// Parses a directory and checks that lengths add up and frames follow one another.
    ///
    /// # Errors
    /// When they do not, or a blob is of another class than `class`.
    pub fn decode(bytes: &[u8], class: Class, size: FrameSize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "pack directory");
        let group_count = reader.count(PACK_BLOBS_MAX, 20)?;
        let mut directory = Self { groups: Vec::with_capacity(group_count), blobs: Vec::new() };
        let mut first_frame = 0_usize;
        for index in 0..group_count {
            let stored = reader.varint_max(GROUP_BYTES_MAX)?;
            let raw = reader.varint_max(GROUP_BYTES_MAX)?;
            let compression = Compression::from_u8(reader.u8()?)?;
            let salt = GroupSalt(reader.array()?);
            let blob_count = reader.count(PACK_BLOBS_MAX, 34)?;
            let mut offset = 0_usize;
            for _ in 0..blob_count {
                let tag = reader.u8()?;
                let kind = BlobKind::from_u8(tag & !DELTA)?;
                if kind.class() != class {
                    return Err(reader.invalid("a blob is of another class than its pack"));
                }
                let length = reader.varint_max(BLOB_BYTES_MAX)?;
                let id = BlobId::new(reader.array()?);
                let base = if tag & DELTA != 0 { Some(BlobId::new(reader.array()?)) } else { None };
                directory.blobs.push(BlobEntry {
                    id,
                    kind,
                    base,
                    group: stored_length(index),
                    offset: stored_length(offset),
                    bytes: stored_length(length),
                });
                offset = offset.saturating_add(length);
            }
            if offset != raw || directory.blobs.len() > PACK_BLOBS_MAX {
                return Err(reader.invalid("its blobs do not fill their group"));
            }
            directory.groups.push(GroupEntry {
                first_frame: stored_length(first_frame),
                stored_bytes: stored_length(stored),
                raw_bytes: stored_length(raw),
                compression,
                salt,
            });
            first_frame = first_frame.saturating_add(size.count(stored));
        }
        reader.finish()?;
        Ok(directory)
    }
}

/// A blob as it is handed to [`PackBuilder::add_group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// Its id.
    pub id: BlobId,
    /// Its kind.
    pub kind: BlobKind,
    /// The blob it is a delta against.
    pub base: Option<BlobId>,
    /// Its length in the group's plaintext.
    pub bytes: u32,
}

impl PackedBlob {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(&self.bytes.to_le_bytes());
        if let Some(base) = self.base {
            out.extend_from_slice(base.as_bytes());
        }
    }
}

/// The plain part of a pack, stored at its front, in its middle and near its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackHeader {
    /// Class of every blob inside.
    pub class: Class,
    /// Length of every frame.
    pub frame_size: FrameSize,
    /// Layout of the parity shards.
    pub parity: ParityLayout,
    /// The repository.
    pub repository: RepositoryId,
    /// The session that wrote it.
    pub session: SessionId,
    /// Frames of the groups.
    pub group_frames: u32,
    /// Payload bytes of the directory.
    pub directory_bytes: u32,
    /// Salt of the directory's key.
    pub directory_salt: GroupSalt,
    /// Commitment of the class secret.
    pub commitment: [u8; 32],
    /// The class secret, wrapped.
    pub wrapped: Vec<u8>,
}

impl PackHeader {
    /// Frames of the directory.
    #[must_use]
    pub const fn directory_frames(&self) -> usize {
        self.frame_size.count(self.directory_bytes as usize)
    }

    /// All frames, the directory's included.
    #[must_use]
    pub const fn frames(&self) -> usize {
        (self.group_frames as usize).saturating_add(self.directory_frames())
    }

    /// Parity shards.
    #[must_use]
    pub const fn parity_count(&self) -> usize {
        self.parity.shard_count(self.frames())
    }

    /// How the shards lie in stripes, in the order in which they lie in the pack.
    const fn stripes(&self) -> Stripes {
        self.parity.stripes(self.frames(), self.group_frames as usize)
    }

    /// Length of the stored header.
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        (HEADER_FIXED_BYTES + CHECKSUM_BYTES).saturating_add(self.wrapped.len())
    }

    /// Where the frames of the groups end, and checksums and header stand for the first time.
    #[must_use]
    pub const fn middle_offset(&self) -> usize {
        let groups = (self.group_frames as usize).saturating_mul(self.frame_size.stored());
        self.header_bytes().saturating_add(groups)
    }

    /// Where the parity shards start in the pack, in bytes.
    #[must_use]
    pub const fn parity_offset(&self) -> usize {
        self.middle_offset()
            .saturating_add(self.checksums_bytes())
            .saturating_add(self.header_bytes())
    }

    /// Length of the stored header of a pack that is sealed under `secret`.
    #[must_use]
    pub const fn header_bytes_under(secret: &ClassSecret) -> usize {
        (HEADER_FIXED_BYTES + CHECKSUM_BYTES).saturating_add(secret.wrapped.len())
    }

    /// Where the directory's frames start in the pack, in bytes.
    #[must_use]
    pub const fn directory_offset(&self) -> usize {
        let parity = self.parity_count().saturating_mul(self.frame_size.stored());
        self.parity_offset().saturating_add(parity)
    }

    /// Length of the directory's frames.
    const fn directory_frames_bytes(&self) -> usize {
        self.directory_frames().saturating_mul(self.frame_size.stored())
    }

    /// Length of the checksums of all shards.
    const fn checksums_bytes(&self) -> usize {
        self.frames().saturating_add(self.parity_count()).saturating_mul(CHECKSUM_BYTES)
    }

    /// Length of everything after the directory's frames.
    #[must_use]
    pub const fn tail_bytes(&self) -> usize {
        self.checksums_bytes().saturating_add(self.header_bytes()).saturating_add(FOOTER_BYTES)
    }

    /// Length of the pack.
    #[must_use]
    pub const fn pack_bytes(&self) -> usize {
        self.directory_offset()
            .saturating_add(self.directory_frames_bytes())
            .saturating_add(self.tail_bytes())
    }

    /// A pack of this header in its parts.
    fn parts<'a>(&self, pack: &'a mut [u8]) -> PackParts<'a> {
        let mut from = 0;
        let mut rest = pack;
        let mut part = |end: usize| {
            let (part, after) = std::mem::take(&mut rest)
                .split_at_mut_checked(end.saturating_sub(from))
                .unwrap_or_default();
            (from, rest) = (end, after);
            part
        };
        PackParts {
            front: part(self.header_bytes()),
            groups: part(self.middle_offset()),
            middle: part(self.parity_offset()),
            parity: part(self.directory_offset()),
            directory: part(self.directory_offset().saturating_add(self.directory_frames_bytes())),
            tail: part(self.pack_bytes()),
        }
    }

    /// The footer of the pack, of which every field follows from the header.
    const fn footer(&self) -> PackFooter {
        PackFooter {
            pack_bytes: self.pack_bytes() as u64,
            header_bytes: stored_length(self.header_bytes()),
            end_bytes: stored_length(self.pack_bytes().saturating_sub(self.directory_offset())),
        }
    }

    /// Where the frames of `group` lie in the pack, in bytes.
    #[must_use]
    pub fn group_range(&self, group: &GroupEntry) -> std::ops::Range<u64> {
        let frame = self.frame_size.stored() as u64;
        let start = (self.header_bytes() as u64)
            .saturating_add(u64::from(group.first_frame).saturating_mul(frame));
        let frames = self.frame_size.count(group.stored_bytes as usize) as u64;
        start..start.saturating_add(frames.saturating_mul(frame))
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.header_bytes());
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&[
            self.class as u8,
            SUITE,
            self.frame_size.log2(),
            u8::from(self.parity != ParityLayout::NONE),
        ]);
        out.extend_from_slice(&self.parity.data_shards.to_le_bytes());
        out.extend_from_slice(&self.parity.parity_shards.to_le_bytes());
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(&self.group_frames.to_le_bytes());
        out.extend_from_slice(&self.directory_bytes.to_le_bytes());
        out.extend_from_slice(&self.directory_salt.0);
        out.extend_from_slice(&self.commitment);
        write_wrapped(&self.wrapped, &mut out);
        let checksum = XxHash3_64::oneshot(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Parses a header from the front of `bytes` and checks its checksum and lengths.
    ///
    /// # Errors
    /// When it is not the header of a version 1 pack.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "pack header");
        let magic: [u8; 8] = reader.array()?;
        if magic[..6] != HEADER_MAGIC[..6] || magic[7] != HEADER_MAGIC[7] {
            return Err(reader.invalid("it does not start with the magic of a pack"));
        }
        if magic[6] != FORMAT {
            return Err(DecodeError::TooNew { what: "pack", version: magic[6], known: FORMAT });
        }
        let class = Class::from_u8(reader.u8()?)?;
        let suite = reader.u8()?;
        let frame_size = FrameSize::from_log2(reader.u8()?)?;
        let scheme = reader.u8()?;
        let parity = ParityLayout { data_shards: reader.u16()?, parity_shards: reader.u16()? };
        let header = Self {
            class,
            frame_size,
            parity,
            repository: RepositoryId::new(reader.array()?),
            session: SessionId::new(reader.array()?),
            group_frames: reader.u32()?,
            directory_bytes: reader.u32()?,
            directory_salt: GroupSalt(reader.array()?),
            commitment: reader.array()?,
            wrapped: {
                let length = usize::from(reader.u16()?);
                if length > WRAPPED_BYTES_MAX {
                    return Err(reader.invalid("its wrapped secret is too long"));
                }
                reader.take(length)?.to_vec()
            },
        };
        let length = header.header_bytes().saturating_sub(8);
        let covered = bytes.get(..length).unwrap_or_default();
        if reader.u64()? != XxHash3_64::oneshot(covered) {
            return Err(reader.invalid("its checksum does not fit"));
        }
        if suite != SUITE || (scheme == 0) != (parity == ParityLayout::NONE) || scheme > 1 {
            return Err(reader.invalid("its cipher suite or parity scheme is unknown"));
        }
        if u64::from(header.group_frames).saturating_mul(frame_size.stored() as u64)
            > PACK_BYTES_MAX
            || u64::from(header.directory_bytes) > PACK_BYTES_MAX
            || header.pack_bytes() as u64 > PACK_BYTES_MAX
            || !parity.is_possible()
        {
            return Err(reader.invalid("its lengths exceed their limits"));
        }
        Ok(header)
    }
}

/// A pack in its parts, in order.
struct PackParts<'a> {
    front: &'a mut [u8],
    groups: &'a mut [u8],
    /// Checksums and header.
    middle: &'a mut [u8],
    parity: &'a mut [u8],
    directory: &'a mut [u8],
    /// Checksums, header and footer.
    tail: &'a mut [u8],
}

/// The fixed end of a pack, from which everything else is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFooter {
    /// Length of the pack.
    pub pack_bytes: u64,
    /// Length of the header.
    pub header_bytes: u32,
    /// How many bytes from the end hold the directory's frames and all that follows.
    pub end_bytes: u32,
}

impl PackFooter {
    /// The stored form.
    ///
    /// # Panics
    /// Never: its fields have fixed lengths.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.pack_bytes.to_le_bytes());
        out.extend_from_slice(&self.header_bytes.to_le_bytes());
        out.extend_from_slice(&self.end_bytes.to_le_bytes());
        let checksum = XxHash3_64::oneshot(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&FOOTER_MAGIC);
        out.try_into().expect("the footer's fields have fixed lengths")
    }

    /// Parses the last [`FOOTER_BYTES`] bytes of a pack.
    ///
    /// # Errors
    /// When they are not the footer of a pack.
    pub fn decode(bytes: &[u8; FOOTER_BYTES]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "pack footer");
        let footer = Self {
            pack_bytes: reader.u64()?,
            header_bytes: reader.u32()?,
            end_bytes: reader.u32()?,
        };
        let checksum = reader.u64()?;
        if reader.array::<8>()? != FOOTER_MAGIC || checksum != XxHash3_64::oneshot(&bytes[..16]) {
            return Err(reader.invalid("its magic or checksum does not fit"));
        }
        if footer.pack_bytes > PACK_BYTES_MAX
            || u64::from(footer.end_bytes) > footer.pack_bytes
            || footer.header_bytes as usize > PACK_HEADER_BYTES_MAX
        {
            return Err(reader.invalid("its lengths exceed their limits"));
        }
        Ok(footer)
    }
}

/// Length of the fixed end of a pack.
pub const FOOTER_BYTES: usize = 32;

/// Opens the end of a pack: checks the header against `repository`, unwraps the class secret and
/// opens the directory. `end` is the last `end_bytes` of the pack, as its footer tells, and is
/// overwritten.
///
/// # Errors
/// [`PackError`] tells what is wrong with which part.
pub fn open_end(keys: &RepositoryKeys, end: &mut [u8]) -> Result<OpenedPack, PackError> {
    let (rest, footer) = end.split_last_chunk_mut().ok_or(PackError::Footer(TOO_SHORT))?;
    let footer = PackFooter::decode(footer).map_err(PackError::Footer)?;
    let at =
        rest.len().checked_sub(footer.header_bytes as usize).ok_or(PackError::Footer(TOO_SHORT))?;
    let (rest, header) = rest.split_at_mut(at);
    let header = PackHeader::decode(header).map_err(PackError::Header)?;
    if header.repository != keys.repository() {
        return Err(PackError::Foreign);
    }
    let frames_bytes = header.directory_frames_bytes();
    if footer != header.footer()
        || rest.len() != frames_bytes.saturating_add(header.checksums_bytes())
    {
        return Err(PackError::Footer(TOO_SHORT));
    }
    let secret =
        ClassSecret::open(keys, header.class, header.session, &header.wrapped, &header.commitment)
            .map_err(PackError::Key)?;
    let mut plain = Vec::new();
    open_frames_as(
        Purpose::Directory,
        &secret,
        header.directory_salt,
        header.frame_size,
        rest.get_mut(..frames_bytes).unwrap_or_default(),
        header.directory_bytes as usize,
        &mut plain,
    )
    .map_err(|error| PackError::Key(error.source))?;
    let directory =
        Directory::decode(&plain, header.class, header.frame_size).map_err(PackError::Directory)?;
    let frames_used: usize =
        directory.groups.iter().map(|g| header.frame_size.count(g.stored_bytes as usize)).sum();
    if frames_used != header.group_frames as usize {
        return Err(PackError::Directory(DecodeError::invalid(
            "pack directory",
            "its groups do not fill the pack's frames",
        )));
    }
    Ok(OpenedPack { header, secret, directory })
}

/// Opens the directory of a pack that is in memory whole, as [`open_end`] does.
///
/// # Errors
/// [`PackError`] tells what is wrong with which part.
pub fn open_whole(keys: &RepositoryKeys, pack: &[u8]) -> Result<OpenedPack, PackError> {
    let footer = pack.last_chunk().ok_or(PackError::Footer(TOO_SHORT))?;
    let footer = PackFooter::decode(footer).map_err(PackError::Footer)?;
    let start = pack.len().saturating_sub(footer.end_bytes as usize);
    open_end(keys, &mut pack.get(start..).unwrap_or_default().to_vec())
}

/// A pack whose directory is open: what it takes to read its groups.
#[derive(Debug, Clone)]
pub struct OpenedPack {
    /// Its header.
    pub header: PackHeader,
    /// The secret of its class.
    pub secret: ClassSecret,
    /// What is in it.
    pub directory: Directory,
}

/// What is wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Its footer.
    #[error("the footer is damaged")]
    Footer(#[source] DecodeError),
    /// Its header.
    #[error("the header is damaged")]
    Header(#[source] DecodeError),
    /// What stands between its groups and its parity is not what stands at its end.
    #[error("the checksums or the header in its middle are damaged")]
    Middle,
    /// Its parity is not that of its other shards: it was made so.
    #[error("its parity is wrong, so that nothing could be mended by it")]
    Parity,
    /// Its directory decrypts to something else than a directory.
    #[error("the directory is malformed")]
    Directory(#[source] DecodeError),
    /// Its directory or wrapped secret does not open.
    #[error("the directory does not open")]
    Key(#[source] KeyError),
    /// It belongs to another repository.
    #[error("it belongs to another repository")]
    Foreign,
    /// One shard, counted as they lie in the pack.
    #[error("shard {0} is damaged")]
    Shard(usize),
}

/// Hashes what makes the id of a pack. Spec: pack §7. The bulk takes part by tags and checksums only.
#[derive(Debug)]
struct PackHasher {
    hasher: blake3::Hasher,
    batch: Vec<u8>,
}

impl PackHasher {
    fn new(header: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("lastgood 2026-11 v1 pack id");
        hasher.update(header);
        Self { hasher, batch: Vec::with_capacity(1 << 16) }
    }

    fn tags(&mut self, frames: &[u8], size: FrameSize) {
        for tag in frame_tags(frames, size) {
            self.batch.extend_from_slice(tag);
            if self.batch.len() >= 1 << 16 {
                self.hasher.update(&self.batch);
                self.batch.clear();
            }
        }
    }

    fn finish(mut self, checksums: &[u8]) -> PackId {
        self.hasher.update(&self.batch).update(checksums);
        PackId::new(*self.hasher.finalize().as_bytes())
    }
}

fn frame_tags(frames: &[u8], size: FrameSize) -> impl Iterator<Item = &[u8]> {
    frames
        .chunks_exact(size.stored())
        .filter_map(|frame| frame.last_chunk::<TAG_BYTES>())
        .map(|tag| &tag[..])
}

const FORMAT: u8 = 1;
const HEADER_MAGIC: [u8; 8] = *b"lgpack\x01\n";
const FOOTER_MAGIC: [u8; 8] = *b"lgend\0\x01\n";
const HEADER_FIXED_BYTES: usize = 8 + 4 + 4 + 16 + 16 + 4 + 4 + 16 + 32 + 2;
const CHECKSUM_BYTES: usize = 8;
const DELTA: u8 = 0x80;
const TOO_SHORT: DecodeError = DecodeError::Truncated { what: "pack" };

#[cfg(test)]
mod tests;
