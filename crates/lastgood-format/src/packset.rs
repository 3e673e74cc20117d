//! The set of packs that a snapshot needs, so that it restores without any index.
//! Spec: `docs/format/snapshot.md`, section 5.

use crate::encoding::{DecodeError, Reader, Write};
use crate::id::{PackId, SessionId};
use crate::key::Class;
use crate::limits::{PACK_BYTES_MAX, PAGE_ITEMS_MAX};
use crate::page::{LeafCodec, boundary_hash};

/// One pack, and where its writer put it. The id is the reference; the session is a hint, since a
/// repaired or replicated pack lies under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackRef {
    /// The session it was written by.
    pub session: SessionId,
    /// The pack.
    pub pack: PackId,
    /// Its class.
    pub class: Class,
    /// Its length in bytes.
    pub bytes: u64,
}

impl PackRef {
    /// Appends the stored form: 16 + 32 + 1 bytes and a length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(self.pack.as_bytes());
        out.push(self.class as u8);
        out.varint(self.bytes);
    }

    /// Parses the stored form.
    ///
    /// # Errors
    /// When the class is unknown or the length exceeds its limit.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: SessionId::new(reader.array()?),
            pack: PackId::new(reader.array()?),
            class: Class::from_u8(reader.u8()?)?,
            bytes: match reader.varint()? {
                bytes if bytes <= PACK_BYTES_MAX => bytes,
                _ => return Err(reader.invalid("the length of a pack exceeds its limit")),
            },
        })
    }
}

/// Encodes [`PackRef`] lists, which are sorted by session, then pack: what one session wrote lies
/// together, so a new session touches few pages.
#[derive(Debug, Clone, Copy)]
pub struct PackSetCodec;

impl LeafCodec for PackSetCodec {
    type Item = PackRef;

    fn encode(items: &[PackRef], out: &mut Vec<u8>) {
        out.varint(items.len() as u64);
        items.iter().for_each(|item| item.encode(out));
    }

    fn decode(mut reader: Reader<'_>) -> Result<Vec<PackRef>, DecodeError> {
        let count = reader.count(PAGE_ITEMS_MAX, 50)?;
        let mut items: Vec<PackRef> = Vec::with_capacity(count);
        for _ in 0..count {
            let item = PackRef::decode(&mut reader)?;
            if items
                .last()
                .is_some_and(|last| (last.session, last.pack) >= (item.session, item.pack))
            {
                return Err(reader.invalid("its packs are out of order"));
            }
            items.push(item);
        }
        reader.finish()?;
        Ok(items)
    }

    fn boundary_hash(item: &PackRef) -> u64 {
        boundary_hash(item.pack.as_bytes())
    }
}

#[cfg(test)]
mod tests;
