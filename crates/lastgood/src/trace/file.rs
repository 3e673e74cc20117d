//! The file of a trace: exchanges in a stream that is sealed piece by piece.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lastgood_repo::format::encoding::{DecodeError, Reader};
use lastgood_repo::format::key::{KeyError, RepositoryKeys};
use lastgood_repo::format::trace::{PIECE_BYTES_MAX, TAG_BYTES, TraceCipher, TraceHeader};
use zeroize::Zeroize;

use super::exchange::{Answer, Question};
use crate::error::{Error, ErrorKind};

/// Keeps exchanges. Where that fails, the run goes on and the trace ends there.
#[derive(Debug)]
pub(super) struct TraceWriter {
    path: PathBuf,
    file: File,
    cipher: TraceCipher,
    /// What is not sealed yet.
    open: Vec<u8>,
    failed: Option<Error>,
}

impl TraceWriter {
    /// Begins a trace in a new file for its owner alone; `start` is what the run begins with.
    pub(super) fn create(
        path: &Path,
        keys: &RepositoryKeys,
        random: &[u8; 32],
        start: Vec<u8>,
    ) -> Result<Self, Error> {
        let failed = |error| failed("create", path, error);
        let header = TraceHeader::new(keys, random, &start);
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(header.as_bytes()).map_err(failed)?;
        let cipher = header.cipher(keys).map_err(|error| damaged(path, error))?;
        let (path, open) = (path.to_owned(), Vec::new());
        let mut writer = Self { path, file, cipher, open, failed: None };
        writer.push(&Question::Start(start), &Answer::Done);
        writer.flush();
        match writer.failed.take() {
            None => Ok(writer),
            Some(error) => Err(error),
        }
    }

    /// Keeps an exchange; in the file at once, when it was one with the repository: what came last
    /// is what a run that is killed is asked about.
    pub(super) fn push(&mut self, question: &Question, answer: &Answer) {
        let mut exchange = Vec::new();
        question.encode(&mut exchange);
        answer.encode(&mut exchange);
        self.open.extend_from_slice(&(exchange.len() as u64).to_le_bytes());
        self.open.extend_from_slice(&exchange);
        exchange.zeroize();
        if question.is_of_backend() || self.open.len() >= PIECE_BYTES_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for piece in self.open.chunks(PIECE_BYTES_MAX) {
            if self.failed.is_some() {
                break;
            }
            let written = match self.cipher.seal(piece) {
                Some(sealed) => self.file.write_all(&sealed),
                None => Err(std::io::Error::other("it has more pieces than can be numbered")),
            };
            self.failed = written.err().map(|error| failed("write", &self.path, error));
        }
        self.open.zeroize();
    }

    /// Ends the file. Says why it is not whole, if it is not.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.flush();
        match self.failed.take() {
            None => self.file.sync_all().map_err(|error| failed("write", &self.path, error)),
            Some(error) => Err(error),
        }
    }
}

/// Gives exchanges back in their order.
#[derive(Debug)]
pub(super) struct TraceReader {
    path: PathBuf,
    file: BufReader<File>,
    cipher: TraceCipher,
    /// What is opened and not given back yet.
    open: Vec<u8>,
}

impl TraceReader {
    pub(super) fn open(path: &Path, keys: &RepositoryKeys) -> Result<Self, Error> {
        let failed = |error| failed("read", path, error);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut header = [0; TraceHeader::BYTES];
        file.read_exact(&mut header).map_err(failed)?;
        let header = TraceHeader::decode(&header).map_err(|error| damaged(path, error))?;
        let cipher = header.cipher(keys).map_err(|error| match error {
            KeyError::WrongKey => Error::new(
                ErrorKind::WrongKey,
                format!(
                    "the trace {} is of another repository, or of the time before its key was \
                     rotated",
                    path.display()
                ),
            ),
            error => damaged(path, error),
        })?;
        Ok(Self { path: path.to_owned(), file, cipher, open: Vec::new() })
    }

    /// The next exchange; nothing where the trace ends, or is cut off.
    pub(super) fn next(&mut self) -> Result<Option<(Question, Answer)>, Error> {
        let Some(length) = self.take(8)? else { return Ok(None) };
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&length);
        let length = usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        let Some(bytes) = self.take(length)? else { return Ok(None) };
        let mut reader = Reader::new(&bytes, "exchange");
        let decoded = Question::decode(&mut reader).and_then(|question| {
            let answer = Answer::decode(&mut reader)?;
            reader.finish()?;
            Ok((question, answer))
        });
        decoded.map(Some).map_err(|error| self.damaged(error))
    }

    pub(super) fn damaged(&self, error: DecodeError) -> Error {
        damaged(&self.path, error)
    }

    /// So many bytes of the stream, if there are.
    fn take(&mut self, count: usize) -> Result<Option<Vec<u8>>, Error> {
        while self.open.len() < count {
            let Some(piece) = self.piece()? else { return Ok(None) };
            self.open.extend_from_slice(&piece);
        }
        let rest = self.open.split_off(count);
        Ok(Some(std::mem::replace(&mut self.open, rest)))
    }

    /// The next piece; nothing when it is not there, or only its front is.
    fn piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes(length) as usize;
        if !(TAG_BYTES..=PIECE_BYTES_MAX + TAG_BYTES).contains(&length) {
            let error = DecodeError::Invalid { what: "trace", why: "a piece has no such length" };
            return Err(self.damaged(error));
        }
        let mut piece = vec![0; length];
        if !self.fill(&mut piece)? {
            return Ok(None);
        }
        self.cipher.open(piece).map(Some).map_err(|error| damaged(&self.path, error))
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<bool, Error> {
        match self.file.read_exact(out) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed("read", &self.path, error)),
        }
    }
}

fn failed(action: &str, path: &Path, error: std::io::Error) -> Error {
    let text = format!("cannot {action} the trace {}", path.display());
    Error::caused_by(ErrorKind::from(&error), text, error)
}

fn damaged(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused_by(ErrorKind::Damaged, format!("the trace {} is damaged", path.display()), error)
}
