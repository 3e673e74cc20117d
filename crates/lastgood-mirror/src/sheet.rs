//! Lines in the order of their paths, read piece by piece: what a mirror knows of a million files
//! lies on disk and not in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lastgood_format::entry::Timestamp;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;

use crate::error::MirrorError;
use crate::mirror::failed;
use crate::place::{Place, READ_BYTES};
use crate::record::{self, Path, Present, State};
use crate::text::{self, Seal, Sha256, TextError, Writer};
use crate::texts::Head;

#[cfg(test)]
mod tests;

/// A text whose lines ascend by path: records, each of which may have fields before it.
pub struct Sheet {
    name: Path,
    held: Held,
    /// Which field of a line is the path.
    column: usize,
    /// Where a run of lines begins, and with which path.
    blocks: Vec<(u64, Path)>,
    /// Where the lines end.
    end: u64,
    /// The block that was looked at last: who asks in order asks for it again.
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

enum Held {
    Memory(Vec<u8>),
    File(SourceFile),
}

/// A line of a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The path of its record.
    pub path: Path,
    /// As it stands there, without its newline.
    pub(crate) raw: Vec<u8>,
    /// Where.
    pub(crate) start: u64,
}

impl Line {
    /// Whether its record is that of a directory, behind as many fields as a run puts there.
    pub(crate) fn is_directory(&self) -> bool {
        self.raw.split(|&byte| byte == b'\t').nth(WORDS) == Some(b"d")
    }

    /// Its first word.
    pub(crate) fn word(&self) -> &[u8] {
        self.raw.split(|&byte| byte == b'\t').next().unwrap_or_default()
    }

    /// Its record alone.
    pub(crate) fn bare(self) -> Self {
        let mut tabs = self.raw.iter().enumerate().filter(|(_, byte)| **byte == b'\t');
        let start = tabs.nth(WORDS - 1).map_or(0, |(at, _)| at + 1);
        Self { raw: self.raw[start..].to_vec(), ..self }
    }
}

impl std::fmt::Debug for Sheet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sheet({}, {} bytes)", self.name.escape_ascii(), self.end)
    }
}

impl Default for Sheet {
    fn default() -> Self {
        Self::over(Path::default(), Held::Memory(Vec::new()), 1, 0)
    }
}

impl Sheet {
    const fn over(name: Path, held: Held, column: usize, end: u64) -> Self {
        Self { name, held, column, blocks: Vec::new(), end, last: Mutex::new(None) }
    }

    /// Opens a sealed text of records; `None` where there is none. All of it is read once.
    ///
    /// # Errors
    /// When it is damaged; nothing of it is used then.
    pub(crate) fn open(
        place: &dyn Place,
        at: &[u8],
        kind: &'static str,
    ) -> Result<Option<(Self, Head, Seal)>, MirrorError> {
        let Some(file) = place.open(at)? else { return Ok(None) };
        let size = file.stat().size;
        let held = match size {
            0..=MEMORY_BYTES_MAX => {
                let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
                let count = file.read_at(&mut bytes, 0)?;
                bytes.truncate(count);
                Held::Memory(bytes)
            }
            _ => Held::File(file),
        };
        Self::sealed(at, held, size, kind).map(Some)
    }

    /// A sheet of records that never was on disk.
    #[cfg(test)]
    pub(crate) fn of<'a>(records: impl Iterator<Item = (&'a Path, State)>) -> Self {
        let head = Head::default();
        let (bytes, _) =
            crate::texts::records_text("delta", "", Default::default(), &head, records);
        let size = bytes.len() as u64;
        Self::sealed(b"", Held::Memory(bytes), size, "delta").unwrap().0
    }

    /// Opens a sealed text of any lines, for [`Sheet::line_at`] only; `None` where there is none.
    ///
    /// # Errors
    /// When it is damaged; nothing of it is used then.
    pub(crate) fn open_lines(
        place: &dyn Place,
        at: &[u8],
        kind: &'static str,
    ) -> Result<Option<Self>, MirrorError> {
        let Some(file) = place.open(at)? else { return Ok(None) };
        let size = file.stat().size;
        let sheet = Self::checked(at, Held::File(file), size, kind)?.0;
        sheet.head()?;
        Ok(Some(sheet))
    }

    /// Looks whether a text is what it should be, and where lines begin, some way apart.
    fn checked(
        at: &[u8],
        held: Held,
        size: u64,
        kind: &'static str,
    ) -> Result<(Self, Seal, Vec<u64>), MirrorError> {
        let bad = |source| failed(at, source);
        let mut sheet = Self::over(at.into(), held, 1, size);
        text::check_first(kind, &sheet.line_at(0)?.unwrap_or_default()).map_err(bad)?;
        sheet.end = size.checked_sub(SEAL_BYTES).ok_or_else(|| bad(TextError::Seal))?;
        let (seal, starts) = sheet.read_all()?;
        let mut last = [0; SEAL_BYTES as usize];
        sheet.read(&mut last, sheet.end)?;
        match last == *format!("seal\t{seal}\n").as_bytes() {
            true => Ok((sheet, seal, starts)),
            false => Err(bad(TextError::Seal)),
        }
    }

    fn sealed(
        at: &[u8],
        held: Held,
        size: u64,
        kind: &'static str,
    ) -> Result<(Self, Head, Seal), MirrorError> {
        let (mut sheet, seal, starts) = Self::checked(at, held, size, kind)?;
        let (head, start) = sheet.head()?;
        let later = starts.into_iter().filter(|begin| *begin > start);
        for begin in std::iter::once(start).chain(later) {
            let Some(raw) = sheet.line_at(begin)? else { continue };
            let path = sheet.path_of(&raw, begin)?;
            if sheet.blocks.last().is_some_and(|(_, before)| *before >= path) {
                return Err(sheet.bad_line(begin));
            }
            sheet.blocks.push((begin, path));
        }
        Ok((sheet, head, seal))
    }

    /// Its hash, and where lines begin, so many bytes apart.
    fn read_all(&self) -> Result<(Seal, Vec<u64>), MirrorError> {
        let mut hash = Sha256::new();
        let mut starts = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        let (mut at, mut wanted) = (0, BLOCK_BYTES);
        while at < self.end {
            let count = READ_BYTES.min(usize::try_from(self.end - at).unwrap_or(READ_BYTES));
            let bytes = &mut buffer[..count];
            self.read(bytes, at)?;
            hash.update(bytes);
            while wanted < at + count as u64 {
                let from = usize::try_from(wanted.saturating_sub(at)).unwrap_or_default();
                let Some(end) = bytes[from..].iter().position(|&byte| byte == b'\n') else {
                    wanted = at + count as u64;
                    break;
                };
                let start = at + (from + end) as u64 + 1;
                if start < self.end {
                    starts.push(start);
                }
                wanted = start + BLOCK_BYTES;
            }
            at += count as u64;
        }
        Ok((Seal(hash.finish()), starts))
    }

    /// What is said before the records, and where these begin.
    fn head(&self) -> Result<(Head, u64), MirrorError> {
        let mut head = Head::default();
        let (mut at, mut number) = (0, 1);
        while let Some(line) = self.line_at(at)? {
            let is_record = match number {
                1 => false,
                2 => text::check_features(&line)
                    .map(|()| false)
                    .map_err(|it| failed(&self.name, it))?,
                _ => !head.take(&line).ok_or_else(|| self.bad_line(at))?,
            };
            if is_record {
                break;
            }
            at += line.len() as u64 + 1;
            number += 1;
        }
        Ok((head, at))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), MirrorError> {
        match &self.held {
            Held::Memory(all) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let found = all.get(start..).and_then(|rest| rest.get(..bytes.len()));
                bytes.copy_from_slice(found.ok_or_else(|| self.cut())?);
            }
            Held::File(file) => {
                if file.read_at(bytes, at)? < bytes.len() {
                    return Err(self.cut());
                }
            }
        }
        Ok(())
    }

    fn cut(&self) -> MirrorError {
        failed(&self.name, TextError::Seal)
    }

    /// The line that begins there, without its newline; `None` at the end.
    pub(crate) fn line_at(&self, start: u64) -> Result<Option<Vec<u8>>, MirrorError> {
        let mut line = Vec::new();
        while start + (line.len() as u64) < self.end {
            let from = line.len();
            let rest = self.end - start - from as u64;
            line.resize(from + LINE_BYTES.min(usize::try_from(rest).unwrap_or(LINE_BYTES)), 0);
            self.read(&mut line[from..], start + from as u64)?;
            if let Some(end) = line[from..].iter().position(|&byte| byte == b'\n') {
                line.truncate(from + end);
                return Ok(Some(line));
            }
        }
        match line.is_empty() {
            true => Ok(None),
            false => Err(self.cut()),
        }
    }

    /// The line that begins there, with its path.
    pub(crate) fn whole_line_at(&self, start: u64) -> Result<Option<Line>, MirrorError> {
        let Some(raw) = self.line_at(start)? else { return Ok(None) };
        Ok(Some(Line { path: self.path_of(&raw, start)?, raw, start }))
    }

    /// The path of the line that begins there.
    pub(crate) fn path_at(&self, start: u64) -> Result<Option<Path>, MirrorError> {
        Ok(self.whole_line_at(start)?.map(|line| line.path))
    }

    fn path_of(&self, raw: &[u8], start: u64) -> Result<Path, MirrorError> {
        let field = raw.split(|&byte| byte == b'\t').nth(self.column);
        field
            .and_then(text::unescape)
            .and_then(|path| record::unshown_path(&path))
            .ok_or_else(|| self.bad_line(start))
    }

    /// The line that begins there makes no sense.
    pub(crate) fn bad_line(&self, start: u64) -> MirrorError {
        let mut before = vec![0; usize::try_from(start).unwrap_or_default()];
        let count = match self.read(&mut before, 0) {
            Ok(()) => before.iter().filter(|&&byte| byte == b'\n').count(),
            Err(_) => 0,
        };
        failed(&self.name, TextError::Line(count + 1))
    }

    fn block(&self, index: usize) -> Result<Arc<Vec<u8>>, MirrorError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, bytes)) = &*last
            && *known == index
        {
            return Ok(bytes.clone());
        }
        let start = self.blocks[index].0;
        let end = self.blocks.get(index + 1).map_or(self.end, |(next, _)| *next);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
        self.read(&mut bytes, start)?;
        let bytes = Arc::new(bytes);
        *last = Some((index, bytes.clone()));
        Ok(bytes)
    }

    /// Whether it has no line.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The line of a path.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn line(&self, path: &[u8]) -> Result<Option<Line>, MirrorError> {
        let Some(index) = self.block_of(path) else { return Ok(None) };
        let block = self.block(index)?;
        let mut wanted = Vec::new();
        text::escape(record::shown(path), &mut wanted);
        let mut start = self.blocks[index].0;
        for raw in block.split(|&byte| byte == b'\n').filter(|raw| !raw.is_empty()) {
            if raw.split(|&byte| byte == b'\t').nth(self.column) == Some(&wanted) {
                return Ok(Some(Line { path: path.into(), raw: raw.to_vec(), start }));
            }
            start += raw.len() as u64 + 1;
        }
        Ok(None)
    }

    /// The block that a path is in, if it is in any.
    fn block_of(&self, path: &[u8]) -> Option<usize> {
        self.blocks.partition_point(|(_, first)| **first <= *path).checked_sub(1)
    }

    /// What is said of a path, where lines are records.
    ///
    /// # Errors
    /// When it cannot be read, or makes no sense.
    pub fn get(&self, path: &[u8]) -> Result<Option<State>, MirrorError> {
        self.line(path)?.map(|line| self.state(&line)).transpose()
    }

    /// What is at a path, where lines are records.
    ///
    /// # Errors
    /// As of [`Sheet::get`].
    pub fn present(&self, path: &[u8]) -> Result<Option<Present>, MirrorError> {
        Ok(match self.get(path)? {
            Some(State::Present(present)) => Some(*present),
            Some(State::Absent) | None => None,
        })
    }

    /// The record of a line.
    pub(crate) fn state(&self, line: &Line) -> Result<State, MirrorError> {
        self.record(line, 0)
    }

    /// The record behind so many other fields.
    pub(crate) fn record(&self, line: &Line, others: usize) -> Result<State, MirrorError> {
        let fields = text::fields(&line.raw).ok_or_else(|| self.bad_line(line.start))?;
        let record = fields.get(others..).and_then(record::parse);
        record.map(|(_, state)| state).ok_or_else(|| self.bad_line(line.start))
    }

    /// One of the words before the record of a line.
    pub(crate) fn word(&self, line: &Line, number: usize) -> Result<Path, MirrorError> {
        let word = line.raw.split(|&byte| byte == b'\t').nth(number).and_then(text::unescape);
        word.map(Path::from).ok_or_else(|| self.bad_line(line.start))
    }

    /// All lines, in order.
    #[must_use]
    pub fn lines(&self) -> Lines<'_> {
        Lines { sheet: self, block: None, next: 0, within: 0, last: None, peeked: None }
    }

    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = Result<(Path, State), MirrorError>> {
        self.lines().map(|line| line.and_then(|line| Ok((line.path.clone(), self.state(&line)?))))
    }

    /// All records at once, where there are not many.
    ///
    /// # Errors
    /// When one cannot be read, or makes no sense.
    pub(crate) fn load(&self) -> Result<BTreeMap<Path, State>, MirrorError> {
        self.records().collect()
    }

    /// All lines, the last first.
    pub(crate) fn reversed(&self) -> impl Iterator<Item = Result<Line, MirrorError>> {
        (0..self.blocks.len()).rev().flat_map(|index| {
            let lines = self.lines_of(index);
            let (lines, failure) = match lines {
                Ok(lines) => (lines, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            lines.into_iter().rev().map(Ok).chain(failure)
        })
    }

    fn lines_of(&self, index: usize) -> Result<Vec<Line>, MirrorError> {
        let block = self.block(index)?;
        let mut start = self.blocks[index].0;
        let raws = block.split(|&byte| byte == b'\n').filter(|raw| !raw.is_empty());
        raws.map(|raw| {
            let line = Line { path: self.path_of(raw, start)?, raw: raw.to_vec(), start };
            start += raw.len() as u64 + 1;
            Ok(line)
        })
        .collect()
    }
}

/// Lines of a sheet, one after the other.
#[derive(Debug)]
pub struct Lines<'a> {
    sheet: &'a Sheet,
    block: Option<Arc<Vec<u8>>>,
    /// The block after this one.
    next: usize,
    within: usize,
    /// Paths ascend, so that none is there twice.
    last: Option<Path>,
    peeked: Option<Line>,
}

impl Lines<'_> {
    /// The next line, which stays the next.
    ///
    /// # Errors
    /// When it cannot be read, or makes no sense.
    pub fn peek(&mut self) -> Result<Option<&Line>, MirrorError> {
        if self.peeked.is_none() {
            self.peeked = self.read()?;
        }
        Ok(self.peeked.as_ref())
    }

    /// The line of a path, where that comes next: all before it are passed over.
    pub(crate) fn reach(&mut self, path: &[u8]) -> Result<Option<Line>, MirrorError> {
        self.seek(path)?;
        let is_there = self.peek()?.is_some_and(|line| *line.path == *path);
        Ok(if is_there { self.peeked.take() } else { None })
    }

    /// Passes over all lines before a path.
    pub(crate) fn seek(&mut self, path: &[u8]) -> Result<(), MirrorError> {
        if self.peek()?.is_none_or(|line| *line.path >= *path) {
            return Ok(());
        }
        if let Some(index) = self.sheet.block_of(path)
            && index >= self.next
        {
            (self.block, self.next, self.within, self.peeked) = (None, index, 0, None);
        }
        while self.peek()?.is_some_and(|line| *line.path < *path) {
            self.peeked = None;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Line>, MirrorError> {
        loop {
            let Some(block) = &self.block else {
                if self.next == self.sheet.blocks.len() {
                    return Ok(None);
                }
                self.block = Some(self.sheet.block(self.next)?);
                (self.next, self.within) = (self.next + 1, 0);
                continue;
            };
            let rest = &block[self.within..];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                self.block = None;
                continue;
            };
            let start = self.sheet.blocks[self.next - 1].0 + self.within as u64;
            let raw = rest[..length].to_vec();
            self.within += length + 1;
            let path = self.sheet.path_of(&raw, start)?;
            if self.last.as_ref().is_some_and(|last| *last >= path) {
                return Err(self.sheet.bad_line(start));
            }
            self.last = Some(path.clone());
            return Ok(Some(Line { path, raw, start }));
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, MirrorError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.peek() {
            Ok(_) => self.peeked.take().map(Ok),
            Err(error) => {
                // Nothing behind it is believed.
                (self.block, self.next) = (None, self.sheet.blocks.len());
                Some(Err(error))
            }
        }
    }
}

/// Writes a sheet: a small one stays in memory.
pub(crate) struct SheetWriter<'a> {
    place: &'a dyn Place,
    at: Path,
    column: usize,
    out: Writer,
    file: Option<TargetFile>,
    written: u64,
    blocks: Vec<(u64, Path)>,
}

impl<'a> SheetWriter<'a> {
    /// A sheet of this kind; `at` is where it goes, and nothing is there. Lines have so many fields
    /// before their record.
    pub(crate) fn new(place: &'a dyn Place, at: Path, kind: &str, others: usize) -> Self {
        let out = Writer::new(kind);
        let column = others + 1;
        Self { place, at, column, out, file: None, written: 0, blocks: Vec::new() }
    }

    /// Adds the lines before the records.
    pub(crate) fn head(&mut self, kind: &str, name: &str, time: Timestamp, head: &Head) {
        for line in head.lines(kind, name, time) {
            self.out.line(&line.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }

    /// Adds a record behind other fields.
    pub(crate) fn record(
        &mut self,
        others: &[&[u8]],
        path: &[u8],
        state: &State,
    ) -> Result<(), MirrorError> {
        self.begin(path)?;
        record::write(others, path, state, &mut self.out);
        Ok(())
    }

    /// Adds a line of another sheet.
    pub(crate) fn copy(&mut self, line: &Line) -> Result<(), MirrorError> {
        self.begin(&line.path)?;
        self.out.copy(&line.raw);
        Ok(())
    }

    /// Adds a record that has no place in the order: of a journal.
    pub(crate) fn unordered(&mut self, path: &[u8], state: &State) -> Result<(), MirrorError> {
        record::write(&[], path, state, &mut self.out);
        if self.out.waiting() >= READ_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a line that is no record.
    pub(crate) fn line(&mut self, fields: &[&[u8]]) -> Result<(), MirrorError> {
        self.out.line(fields);
        if self.out.waiting() >= READ_BYTES { self.flush() } else { Ok(()) }
    }

    /// Whether it has no record so far.
    pub(crate) const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// How long it is so far.
    pub(crate) const fn len(&self) -> u64 {
        self.written + self.out.waiting() as u64
    }

    fn begin(&mut self, path: &[u8]) -> Result<(), MirrorError> {
        let start = self.len();
        if self.blocks.last().is_none_or(|(last, _)| last + BLOCK_BYTES <= start) {
            self.blocks.push((start, path.into()));
        }
        if self.out.waiting() >= READ_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), MirrorError> {
        let bytes = self.out.take();
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), MirrorError> {
        if self.file.is_none() {
            self.file = Some(self.place.create(&self.at)?);
        }
        if let Some(file) = &self.file {
            file.write_at(bytes, self.written)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends it where nobody else will look for it.
    pub(crate) fn finish(mut self) -> Result<Sheet, MirrorError> {
        let end = self.len();
        let held = if self.file.is_some() {
            self.flush()?;
            self.reopen()?
        } else {
            Held::Memory(self.out.take())
        };
        let blocks = std::mem::take(&mut self.blocks);
        Ok(Sheet { blocks, ..Sheet::over(self.at, held, self.column, end) })
    }

    /// Ends it as a text on disk.
    pub(crate) fn seal(mut self) -> Result<(Sheet, Seal), MirrorError> {
        self.flush()?;
        let end = self.written;
        let out = std::mem::replace(&mut self.out, Writer::new(""));
        let (rest, seal) = out.finish();
        self.write(&rest)?;
        let held = self.reopen()?;
        let blocks = std::mem::take(&mut self.blocks);
        Ok((Sheet { blocks, ..Sheet::over(self.at, held, self.column, end) }, seal))
    }

    fn reopen(&self) -> Result<Held, MirrorError> {
        let file = self.place.open(&self.at)?;
        file.map(Held::File).ok_or_else(|| MirrorError::Missing(self.at.clone()))
    }
}

/// What a run notes before a record: what is to be done, and one more word.
pub(crate) const WORDS: usize = 2;
/// So much of a sheet is looked through for a path.
const BLOCK_BYTES: u64 = 16 << 10;
/// Shorter texts are held in memory: a file less is open for each.
const MEMORY_BYTES_MAX: u64 = 32 << 10;
/// Most lines are shorter.
const LINE_BYTES: usize = 512;
/// The last line of a text: a word, a tab, a seal and a newline.
const SEAL_BYTES: u64 = 4 + 1 + 64 + 1;
