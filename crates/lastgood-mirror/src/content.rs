//! The bytes of files: hashed as they are read.

use lastgood_host::HostError;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;

use crate::error::MirrorError;
use crate::place::{Place, READ_BYTES};
use crate::text::Sha256;

/// SHA-256 of a file of the mirror; `None` where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn hash(place: &dyn Place, path: &[u8]) -> Result<Option<[u8; 32]>, HostError> {
    match place.open(path)? {
        Some(file) => Ok(copy(&file, None, &mut |_| true)?.map(|copied| copied.hash)),
        None => Ok(None),
    }
}

/// Which side of a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// That from which was read.
    #[error(transparent)]
    Read(HostError),
    /// That to which was written.
    #[error(transparent)]
    Write(HostError),
}

impl From<CopyError> for HostError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Read(error) | CopyError::Write(error) => error,
        }
    }
}

impl From<CopyError> for MirrorError {
    fn from(error: CopyError) -> Self {
        Self::Host(error.into())
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// How many bytes.
    pub size: u64,
    /// SHA-256 of all of them.
    pub hash: [u8; 32],
}

/// Reads a file to its end, into `to` where there is one; holes stay holes, as far as both file
/// systems know them. `step` hears of the bytes as they go by; `None` when it says to stop.
///
/// # Errors
/// What either file system says.
pub fn copy(
    from: &SourceFile,
    to: Option<&TargetFile>,
    step: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Copied>, CopyError> {
    let mut hash = Sha256::new();
    // Most files are small.
    let most = usize::try_from(from.stat().size).unwrap_or(READ_BYTES).clamp(1, READ_BYTES);
    let mut buffer = vec![0; most];
    let mut position = 0;
    for range in from.extents() {
        let range = range.map_err(CopyError::Read)?;
        if !skip(&mut hash, range.start - position, step) {
            return Ok(None);
        }
        position = range.start;
        while position < range.end {
            let wanted = (range.end - position).min(most as u64);
            let wanted = usize::try_from(wanted).unwrap_or(most);
            let count = from.read_at(&mut buffer[..wanted], position).map_err(CopyError::Read)?;
            if count == 0 {
                // Cut meanwhile: what was read is all there is.
                return finish(hash, position, to).map(Some);
            }
            hash.update(&buffer[..count]);
            if let Some(to) = to {
                to.write_at(&buffer[..count], position).map_err(CopyError::Write)?;
            }
            position += count as u64;
            if !step(count as u64) {
                return Ok(None);
            }
        }
    }
    if !skip(&mut hash, from.stat().size.saturating_sub(position), step) {
        return Ok(None);
    }
    finish(hash, position.max(from.stat().size), to).map(Some)
}

/// Reads a file to its end, into `to`, which shares its bytes with `base`: only pages that differ are
/// written. `step` as of [`copy`].
///
/// # Errors
/// What either file system says.
pub fn update(
    from: &SourceFile,
    base: &SourceFile,
    to: &TargetFile,
    step: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Copied>, CopyError> {
    let mut hash = Sha256::new();
    let (mut new, mut old) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
    let mut position = 0;
    loop {
        let count = read_full(from, &mut new, position).map_err(CopyError::Read)?;
        // What cannot be read of the old file is no reason not to have the new one.
        let known = read_full(base, &mut old[..count], position).unwrap_or_default();
        hash.update(&new[..count]);
        write_changed(to, &new[..count], &old[..known], position).map_err(CopyError::Write)?;
        position += count as u64;
        if count < READ_BYTES {
            return finish(hash, position, Some(to)).map(Some);
        }
        if !step(count as u64) {
            return Ok(None);
        }
    }
}

/// A copy that is made while somebody else reads: `base` and `to` as of [`update`].
pub(crate) struct Copying {
    hash: Sha256,
    to: Option<TargetFile>,
    base: Option<SourceFile>,
    position: u64,
}

impl Copying {
    pub(crate) fn new(to: Option<TargetFile>, base: Option<SourceFile>) -> Self {
        Self { hash: Sha256::new(), to, base, position: 0 }
    }

    /// These bytes were read; what was passed over is a hole. Whether the copy can go on: it cannot
    /// when they lie before others that it has.
    pub(crate) fn bytes(&mut self, bytes: &[u8], at: u64) -> Result<bool, HostError> {
        let Some(hole) = at.checked_sub(self.position) else { return Ok(false) };
        if hole > 0 && self.base.is_some() {
            return Ok(false);
        }
        skip(&mut self.hash, hole, &mut |_| true);
        self.hash.update(bytes);
        self.position = at + bytes.len() as u64;
        match (&self.to, &self.base) {
            (Some(to), Some(base)) => {
                let mut old = vec![0; bytes.len()];
                let known = read_full(base, &mut old, at).unwrap_or_default();
                write_changed(to, bytes, &old[..known], at)?;
            }
            (Some(to), None) => to.write_at(bytes, at)?,
            (None, _) => {}
        }
        Ok(true)
    }

    /// All was read of a file that was so long when it was opened.
    pub(crate) fn finish(mut self, size: u64) -> Result<Copied, HostError> {
        skip(&mut self.hash, size.saturating_sub(self.position), &mut |_| true);
        Ok(finish(self.hash, self.position.max(size), self.to.as_ref())?)
    }
}

/// Writes the pages that are other ones than before.
fn write_changed(to: &TargetFile, new: &[u8], old: &[u8], at: u64) -> Result<(), HostError> {
    let mut start = 0;
    while start < new.len() {
        let in_page = usize::try_from((at + start as u64) % PAGE_BYTES).unwrap_or_default();
        let page = start..new.len().min(start + PAGE_BYTES as usize - in_page);
        if old.get(page.clone()) != Some(&new[page.clone()]) {
            to.write_at(&new[page.clone()], at + start as u64)?;
        }
        start = page.end;
    }
    Ok(())
}

/// Fills the buffer, as far as the file goes.
fn read_full(file: &SourceFile, buffer: &mut [u8], at: u64) -> Result<usize, HostError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn finish(hash: Sha256, size: u64, to: Option<&TargetFile>) -> Result<Copied, CopyError> {
    if let Some(to) = to
        && to.stat().map_err(CopyError::Write)?.size != size
    {
        to.set_len(size).map_err(CopyError::Write)?;
    }
    Ok(Copied { size, hash: hash.finish() })
}

/// Takes a hole for the zeros that it reads as.
fn skip(hash: &mut Sha256, bytes: u64, step: &mut dyn FnMut(u64) -> bool) -> bool {
    let mut left = bytes;
    while left > 0 {
        let count = left.min(ZEROS.len() as u64);
        hash.update(usize::try_from(count).map_or(&ZEROS[..], |count| &ZEROS[..count]));
        left -= count;
        if !step(count) {
            return false;
        }
    }
    true
}

/// What file systems share at least.
const PAGE_BYTES: u64 = 4096;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
