//! Primitives of every chapter: little-endian integers, variable-length integers, byte strings,
//! and the *record*, a list of tagged fields. Spec: `docs/format/layout.md`, section 3.

use crate::limits::RECORD_FIELDS_MAX;

/// Bytes that are not what the chapter says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what} is cut short")]
    Truncated {
        /// The field or structure.
        what: &'static str,
    },
    /// A field holds what it must not.
    #[error("{what} is invalid: {why}")]
    Invalid {
        /// The field or structure.
        what: &'static str,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The object is of a later format than this program reads.
    #[error("{what} has version {version}, this program reads up to version {known}")]
    TooNew {
        /// The object kind.
        what: &'static str,
        /// Version found.
        version: u8,
        /// Newest version known.
        known: u8,
    },
}

impl DecodeError {
    pub(crate) const fn invalid(what: &'static str, why: &'static str) -> Self {
        Self::Invalid { what, why }
    }
}

/// Reads fields from the front of a byte string; never past its end.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`; `what` names the structure in errors.
    #[must_use]
    pub const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) =
            self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated { what: self.what })?;
        self.bytes = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) =
            self.bytes.split_first_chunk().ok_or(DecodeError::Truncated { what: self.what })?;
        self.bytes = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A two-byte little-endian integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A four-byte little-endian integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// An eight-byte little-endian integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A variable-length integer: seven bits a byte, lowest first, in its shortest form.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when it is not the shortest form or does not fit 64 bits.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7_u32;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(DecodeError::invalid(self.what, "an integer exceeds 64 bits"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(DecodeError::invalid(self.what, "an integer is not in its shortest form"))
                } else {
                    Ok(value)
                };
            }
            shift = shift.saturating_add(7);
        }
    }

    /// A variable-length integer of at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] above `max`, and as [`varint`](Self::varint).
    pub fn varint_max(&mut self, max: usize) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?)
            .ok()
            .filter(|&value| value <= max)
            .ok_or(DecodeError::invalid(self.what, "a count or length exceeds its limit"))
    }

    /// A variable-length integer that fits 32 bits.
    ///
    /// # Errors
    /// As [`varint`](Self::varint).
    pub fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?)
            .map_err(|_| DecodeError::invalid(self.what, "an integer exceeds 32 bits"))
    }

    /// A signed integer in zigzag form.
    ///
    /// # Errors
    /// As [`varint`](Self::varint).
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// A byte string with its length in front, at most `max` bytes.
    ///
    /// # Errors
    /// As [`varint_max`](Self::varint_max) and [`take`](Self::take).
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.varint_max(max)?;
        self.take(length)
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len()
    }

    /// A count of items that each take at least `bytes_min` of what is left, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when so many cannot follow, so callers may allocate for them.
    pub fn count(&mut self, max: usize, bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.varint_max(max)?;
        if count.saturating_mul(bytes_min) > self.left() {
            return Err(DecodeError::Truncated { what: self.what });
        }
        Ok(count)
    }

    /// An error about the structure being read.
    #[must_use]
    pub const fn invalid(&self, why: &'static str) -> DecodeError {
        DecodeError::Invalid { what: self.what, why }
    }

    /// Everything that is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Ends the structure.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when bytes are left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::invalid(self.what, "bytes follow its end"))
        }
    }
}

/// A length as it is stored.
///
/// # Panics
/// At 4 GiB: every length that is stored in four bytes has a limit far below.
pub(crate) const fn stored_length(length: usize) -> u32 {
    assert!(length <= u32::MAX as usize, "a length exceeds every limit");
    #[expect(clippy::cast_possible_truncation, reason = "it was just compared")]
    let length = length as u32;
    length
}

/// Appends fields to a byte string.
pub trait Write {
    /// Appends a variable-length integer in its shortest form.
    fn varint(&mut self, value: u64);
    /// Appends a signed integer in zigzag form.
    fn zigzag(&mut self, value: i64);
    /// Appends a byte string with its length in front.
    fn bytes(&mut self, bytes: &[u8]);
}

impl Write for Vec<u8> {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.push((value & 0x7f) as u8);
    }

    fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// Builds a record: fields of `tag, length, bytes` with ascending tags.
#[derive(Debug, Default)]
pub struct RecordWriter {
    bytes: Vec<u8>,
    last: u64,
}

impl RecordWriter {
    /// Appends one field.
    ///
    /// # Panics
    /// When `tag` is not above the one before: a record is written in order.
    pub fn field(&mut self, tag: u64, bytes: &[u8]) -> &mut Self {
        assert!(tag > self.last, "record fields are written in ascending order");
        self.last = tag;
        self.bytes.varint(tag);
        self.bytes.bytes(bytes);
        self
    }

    /// Appends a field that holds one variable-length integer.
    pub fn integer(&mut self, tag: u64, value: u64) -> &mut Self {
        let mut bytes = Vec::with_capacity(10);
        bytes.varint(value);
        self.field(tag, &bytes)
    }

    /// The finished record.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// A parsed record. Fields that nobody asks for are ignored.
#[derive(Debug)]
pub struct Record<'a> {
    fields: Vec<(u64, &'a [u8])>,
    what: &'static str,
}

impl<'a> Record<'a> {
    /// Parses `bytes`.
    ///
    /// # Errors
    /// When a field is cut short or tags do not ascend.
    pub fn parse(bytes: &'a [u8], what: &'static str) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, what);
        let mut fields: Vec<(u64, &[u8])> = Vec::new();
        while reader.left() > 0 {
            let tag = reader.varint()?;
            if fields.last().map_or(tag == 0, |&(last, _)| tag <= last) {
                return Err(reader.invalid("its fields are out of order"));
            }
            if fields.len() >= RECORD_FIELDS_MAX {
                return Err(reader.invalid("it has too many fields"));
            }
            let length = reader.left();
            fields.push((tag, reader.bytes(length)?));
        }
        Ok(Self { fields, what })
    }

    /// The field `tag`, if there is one.
    #[must_use]
    pub fn optional(&self, tag: u64) -> Option<&'a [u8]> {
        let at = self.fields.binary_search_by_key(&tag, |&(tag, _)| tag).ok()?;
        self.fields.get(at).map(|&(_, bytes)| bytes)
    }

    /// The field `tag`.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when it is missing.
    pub fn required(&self, tag: u64) -> Result<&'a [u8], DecodeError> {
        self.optional(tag).ok_or(DecodeError::invalid(self.what, "a required field is missing"))
    }

    /// The field `tag` as exactly `N` bytes.
    ///
    /// # Errors
    /// When it is missing or of another length.
    pub fn array<const N: usize>(&self, tag: u64) -> Result<[u8; N], DecodeError> {
        self.required(tag)?
            .try_into()
            .map_err(|_| DecodeError::invalid(self.what, "a field has the wrong length"))
    }

    /// The field `tag` as exactly `N` bytes, if there is one.
    ///
    /// # Errors
    /// When it is of another length.
    pub fn optional_array<const N: usize>(&self, tag: u64) -> Result<Option<[u8; N]>, DecodeError> {
        self.optional(tag).map(|_| self.array(tag)).transpose()
    }

    /// The field `tag` as a variable-length integer.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn integer(&self, tag: u64) -> Result<u64, DecodeError> {
        let mut reader = self.reader(tag)?;
        let value = reader.varint()?;
        reader.finish()?;
        Ok(value)
    }

    /// A reader over the field `tag`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn reader(&self, tag: u64) -> Result<Reader<'a>, DecodeError> {
        self.required(tag).map(|bytes| Reader::new(bytes, self.what))
    }

    /// A reader over the field `tag`, empty when it is missing.
    #[must_use]
    pub fn reader_or_empty(&self, tag: u64) -> Reader<'a> {
        Reader::new(self.optional(tag).unwrap_or_default(), self.what)
    }

    /// The field `tag` as text, empty when it is missing.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self, tag: u64) -> Result<String, DecodeError> {
        String::from_utf8(self.optional(tag).unwrap_or_default().to_vec())
            .map_err(|_| DecodeError::invalid(self.what, "a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests;
