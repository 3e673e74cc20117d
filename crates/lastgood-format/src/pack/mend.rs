//! Mending a damaged pack from its parity, without any key.
//!
//! A shard is good when its checksum stands in the middle of the pack or at its end; every other
//! shard is computed from its stripe. All that is no shard follows from the shards and from one of
//! the three headers, and is made anew. Whether the result is the pack that was stored is decided
//! by its name and by nothing else. Spec: `docs/format/pack.md`, section 9.

use twox_hash::XxHash3_64;

use super::{CHECKSUM_BYTES, FOOTER_BYTES, HEADER_MAGIC, PackHasher, PackHeader};
use crate::id::PackId;

/// A pack as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many shards were damaged.
    pub shards: usize,
}

/// More of a pack is damaged than its parity makes up for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{lost} of its shards are damaged beyond what parity makes up for")]
pub struct TooDamaged {
    /// The pack with as much mended as could be, for those who can tell by a tag what is good;
    /// nothing where no header was left.
    pub bytes: Vec<u8>,
    /// How many shards could not be computed, as far as that is known.
    pub lost: usize,
}

/// Makes of a damaged `pack` the one that is called `id`.
///
/// Bytes that could not be read may be anything, such as zeros; a pack that is cut short may be
/// given as it is.
///
/// # Errors
/// [`TooDamaged`] when that cannot be done. What is returned is never another pack.
pub fn mend(pack: &[u8], id: PackId) -> Result<Mended, TooDamaged> {
    let mut mended = Err(TooDamaged { bytes: Vec::new(), lost: 0 });
    // There are several only where somebody made one up.
    for header in headers(pack) {
        mended = mended.or_else(|_| mend_by(&header, pack, id));
    }
    mended
}

/// The different headers in `pack` that lie where they say.
fn headers(pack: &[u8]) -> Vec<PackHeader> {
    let mut found = Vec::new();
    for (at, start) in pack.windows(HEADER_MAGIC.len()).enumerate() {
        if start != HEADER_MAGIC || found.len() >= HEADERS_MAX {
            continue;
        }
        let Ok(header) = PackHeader::decode(pack.get(at..).unwrap_or_default()) else { continue };
        let tables = header.checksums_bytes();
        let places = [
            0,
            header.middle_offset().saturating_add(tables),
            header.pack_bytes().saturating_sub(FOOTER_BYTES.saturating_add(header.header_bytes())),
        ];
        if places.contains(&at) && !found.contains(&header) {
            found.push(header);
        }
    }
    found
}

/// Mends `pack`, given one of its headers.
fn mend_by(header: &PackHeader, pack: &[u8], id: PackId) -> Result<Mended, TooDamaged> {
    // Nothing is allocated for what could not be mended: a directory that is cut off.
    let parity_bytes = header.parity_count().saturating_mul(header.frame_size.stored());
    let missing = header.pack_bytes().saturating_sub(pack.len());
    if missing > parity_bytes.saturating_add(header.tail_bytes()) {
        return Err(TooDamaged { bytes: Vec::new(), lost: 0 });
    }
    let mut pack = pack.to_vec();
    pack.resize(header.pack_bytes(), 0);
    let mut parts = Parts::of(header, &mut pack);
    let is_damaged = parts.damaged();
    let shards = is_damaged.iter().filter(|&&is_damaged| is_damaged).count();
    let lost = match shards {
        0 => 0,
        _ => header.stripes().mend(&mut parts.shards, &is_damaged).len(),
    };
    let found = parts.make_anew(header);
    if found == id {
        Ok(Mended { bytes: pack, shards })
    } else {
        Err(TooDamaged { bytes: pack, lost })
    }
}

/// A pack in its parts.
struct Parts<'a> {
    front: &'a mut [u8],
    /// Checksums and header, between the groups and parity.
    middle: &'a mut [u8],
    /// Checksums, header and footer.
    end: &'a mut [u8],
    /// As they lie in the pack.
    shards: Vec<&'a mut [u8]>,
    checksums_bytes: usize,
}

impl<'a> Parts<'a> {
    fn of(header: &PackHeader, pack: &'a mut [u8]) -> Self {
        let size = header.frame_size.stored();
        let middle_bytes = header.parity_offset().saturating_sub(header.middle_offset());
        let (front, rest) = split(pack, header.header_bytes());
        let (groups, rest) = split(rest, (header.group_frames as usize).saturating_mul(size));
        let (middle, rest) = split(rest, middle_bytes);
        let (others, end) = split(rest, rest.len().saturating_sub(header.tail_bytes()));
        let shards = groups.chunks_exact_mut(size).chain(others.chunks_exact_mut(size)).collect();
        Self { front, middle, end, shards, checksums_bytes: header.checksums_bytes() }
    }

    /// For each shard, whether neither of its checksums fits.
    fn damaged(&self) -> Vec<bool> {
        let tables = [&*self.middle, &*self.end]
            .map(|table| table.get(..self.checksums_bytes).unwrap_or_default());
        let stored = tables[0].chunks_exact(CHECKSUM_BYTES);
        let stored = stored.zip(tables[1].chunks_exact(CHECKSUM_BYTES));
        let shards = self.shards.iter().zip(stored);
        shards
            .map(|(shard, stored)| {
                let checksum = XxHash3_64::oneshot(shard).to_le_bytes();
                checksum != stored.0 && checksum != stored.1
            })
            .collect()
    }

    /// Writes all that is no shard, and computes the id.
    fn make_anew(self, header: &PackHeader) -> PackId {
        let header_bytes = header.encode();
        let checksums: Vec<u8> =
            self.shards.iter().flat_map(|shard| XxHash3_64::oneshot(shard).to_le_bytes()).collect();
        self.front.copy_from_slice(&header_bytes);
        self.middle.copy_from_slice(&[&checksums[..], &header_bytes].concat());
        let footer = header.footer().encode();
        self.end.copy_from_slice(&[&checksums[..], &header_bytes, &footer].concat());
        let mut hasher = PackHasher::new(&header_bytes);
        let parity = header.stripes().parity_shards();
        for (number, shard) in self.shards.iter().enumerate() {
            if !parity.contains(&number) {
                hasher.tags(shard, header.frame_size);
            }
        }
        hasher.finish(&checksums)
    }
}

/// Splits as far as there is something to split; lengths were derived from one header.
fn split(bytes: &mut [u8], at: usize) -> (&mut [u8], &mut [u8]) {
    let at = at.min(bytes.len());
    bytes.split_at_mut(at)
}

/// Headers that are tried. A pack has one in three copies.
const HEADERS_MAX: usize = 4;

#[cfg(test)]
mod tests;
