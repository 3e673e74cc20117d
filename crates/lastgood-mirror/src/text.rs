//! Bookkeeping as text: lines of fields between tabs, under a seal.
//!
//! A text has a first line that says what it is, a line of features, its lines, and a last line
//! with the SHA-256 of all before it: SHA-256 and not BLAKE3, because every system can compute it
//! without us. Spec: `docs/format/mirror.md`, sections 2 and 3.

use std::fmt;

use aws_lc_rs::digest::{self, Context, SHA256};

#[cfg(test)]
mod tests;

/// SHA-256 of a text up to its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seal(pub [u8; 32]);

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It does not begin as such a text begins.
    #[error("it is no text of lastgood of the kind {0:?}")]
    Kind(&'static str),
    /// It needs something that this release does not know.
    #[error("it needs {0:?}, which this release does not know")]
    Feature(String),
    /// It is cut, or was changed.
    #[error("its seal does not match what it says")]
    Seal,
    /// A line makes no sense, though the seal matches.
    #[error("line {0} makes no sense")]
    Line(usize),
}

/// Builds a text.
pub struct Writer {
    /// What was not taken yet.
    bytes: Vec<u8>,
    /// Of what was taken.
    hash: Sha256,
}

impl Writer {
    /// A text of this kind that needs no feature.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let mut writer = Self { bytes: Vec::new(), hash: Sha256::new() };
        writer.line(&[MAGIC, VERSION, kind.as_bytes()]);
        writer.line(&[b"features", b"", b"", b""]);
        writer
    }

    /// Adds fields of a line whose others follow.
    pub(crate) fn fields(&mut self, fields: &[&[u8]]) {
        for field in fields {
            escape(field, &mut self.bytes);
            self.bytes.push(b'\t');
        }
    }

    /// Adds a line; fields are escaped here.
    pub fn line(&mut self, fields: &[&[u8]]) {
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.bytes.push(b'\t');
            }
            escape(field, &mut self.bytes);
        }
        self.bytes.push(b'\n');
    }

    /// Adds a line as it stands in another text, without its newline.
    pub(crate) fn copy(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
    }

    /// How much was not taken yet.
    pub(crate) const fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// What was added since the last time, to be written behind what was taken before.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.hash.update(&self.bytes);
        std::mem::take(&mut self.bytes)
    }

    /// Ends the text with its seal; what was not taken before.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, Seal) {
        self.hash.update(&self.bytes);
        let seal = Seal(self.hash.clone().finish());
        self.line(&[b"seal", seal.to_string().as_bytes()]);
        (self.bytes, seal)
    }
}

/// A text whose seal matches.
#[derive(Debug)]
pub struct Reader<'a> {
    lines: Vec<&'a [u8]>,
    seal: Seal,
}

impl<'a> Reader<'a> {
    /// Checks what kind of text it is, what it needs, and its seal.
    ///
    /// # Errors
    /// Nothing of a text with an error is used.
    pub fn open(kind: &'static str, bytes: &'a [u8]) -> Result<Self, TextError> {
        let body = bytes.strip_suffix(b"\n").ok_or(TextError::Seal)?;
        let mut lines: Vec<&[u8]> = body.split(|&byte| byte == b'\n').collect();
        check_first(kind, lines.first().copied().unwrap_or_default())?;
        let last = lines.pop().ok_or(TextError::Seal)?;
        // The line itself and the newline behind it.
        let sealed = &bytes[..bytes.len() - last.len() - 1];
        let seal = Seal(sha256(sealed));
        if last != format!("seal\t{seal}").as_bytes() {
            return Err(TextError::Seal);
        }
        check_features(lines.get(1).copied().unwrap_or_default())?;
        Ok(Self { lines: lines.split_off(2), seal })
    }

    /// Its seal.
    #[must_use]
    pub const fn seal(&self) -> Seal {
        self.seal
    }

    /// The lines between features and seal, each as its number and its fields.
    pub fn lines(&self) -> impl Iterator<Item = Result<(usize, Vec<Vec<u8>>), TextError>> {
        self.lines.iter().zip(3..).map(|(line, number)| {
            fields(line).map(|fields| (number, fields)).ok_or(TextError::Line(number))
        })
    }
}

/// Whether a text with this first line is of a kind.
pub(crate) fn check_first(kind: &'static str, line: &[u8]) -> Result<(), TextError> {
    let first = fields(line).unwrap_or_default();
    match first.iter().map(Vec::as_slice).collect::<Vec<_>>().as_slice() {
        [MAGIC, VERSION, found] if *found == kind.as_bytes() => Ok(()),
        [MAGIC, VERSION, _] | [] => Err(TextError::Kind(kind)),
        [MAGIC, version, ..] => {
            let version = String::from_utf8_lossy(version);
            Err(TextError::Feature(format!("format {version}")))
        }
        _ => Err(TextError::Kind(kind)),
    }
}

/// Whether nothing is needed that this release does not know.
pub(crate) fn check_features(line: &[u8]) -> Result<(), TextError> {
    match fields(line).unwrap_or_default().as_slice() {
        [word, needed, ..] if word == b"features" && needed.is_empty() => Ok(()),
        [word, needed, ..] if word == b"features" => {
            Err(TextError::Feature(String::from_utf8_lossy(needed).into_owned()))
        }
        _ => Err(TextError::Line(2)),
    }
}

/// Whether a writer need not know anything that this release does not know.
pub(crate) fn check_writer(line: &[u8]) -> Result<(), TextError> {
    match fields(line).unwrap_or_default().as_slice() {
        [word, _, needed, ..] if word == b"features" && !needed.is_empty() => {
            Err(TextError::Feature(String::from_utf8_lossy(needed).into_owned()))
        }
        _ => Ok(()),
    }
}

/// Fields of a line.
pub(crate) fn fields(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    line.split(|&byte| byte == b'\t').map(unescape).collect()
}

/// Writes a field so that `printf %b` of a shell gives it back: no control characters, never
/// empty, and `-` for what is empty.
pub fn escape(field: &[u8], out: &mut Vec<u8>) {
    if field.is_empty() {
        out.push(b'-');
    }
    let is_dash = field == b"-";
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'\\' && *byte != 0x7f;
    if !is_dash && field.iter().all(is_plain) {
        return out.extend_from_slice(field);
    }
    for &byte in field {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte if is_dash || byte < b' ' || byte == 0x7f => {
                out.extend_from_slice(format!("\\0{byte:03o}").as_bytes());
            }
            byte => out.push(byte),
        }
    }
}

/// The inverse of [`escape`]; `None` for what it never writes.
#[must_use]
pub fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"-" {
        return Some(Vec::new());
    }
    if !field.contains(&b'\\') {
        return (!field.is_empty()).then(|| field.to_vec());
    }
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            b'\\' => out.push(b'\\'),
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'0' => {
                let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
                out.push(u8::from_str_radix(digits, 8).ok()?);
                rest = &rest[3..];
            }
            _ => return None,
        }
    }
    (!field.is_empty()).then_some(out)
}

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// SHA-256 as bytes come.
#[derive(Clone)]
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let digest: digest::Digest = self.0.finish();
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        hash
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Seal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let id: lastgood_format::id::BlobId = text.parse().map_err(drop)?;
        Ok(Self(*id.as_bytes()))
    }
}

const MAGIC: &[u8] = b"lastgood-mirror";
const VERSION: &[u8] = b"1";
