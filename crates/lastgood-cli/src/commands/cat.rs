//! `lastgood cat`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lastgood::browse;

use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::{Code, Failure};

/// Flags of `cat`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshot, with the path of the file behind a colon or as the next argument
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,
    /// Path of the file in the snapshot
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Write into this file, which must not exist, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let named = pick::resolve(app, &repo, &self.snapshot, &self.filter)?;
        let given = self.path.as_ref().map(|path| path.as_bytes().to_vec());
        let path = match (named.path, given) {
            (Some(path), None) | (None, Some(path)) => path,
            (Some(_), Some(_)) => return Err(Failure::usage("the path is given twice")),
            (None, None) => {
                return Err(Failure::usage("no path is given")
                    .hint("name a file of the snapshot: lastgood cat latest:/etc/fstab"));
            }
        };
        let Some(target) = &self.target else {
            let mut sink = Sink { inner: io::stdout().lock(), error: None };
            let result = browse::cat(&repo, &named.record, &path, &mut sink);
            return outcome(result, sink.error, "cannot write to standard output");
        };
        let failed = format!("cannot write {}", target.display());
        let file =
            File::create_new(target).map_err(|error| Failure::io(Code::Failed, &failed, &error))?;
        let mut sink = Sink { inner: BufWriter::new(file), error: None };
        let result = browse::cat(&repo, &named.record, &path, &mut sink);
        outcome(result, sink.error, &failed)
    }
}

/// Tells failures of writing from failures of reading.
struct Sink<W> {
    inner: W,
    error: Option<io::Error>,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        self.noted(flushed)
    }
}

impl<W> Sink<W> {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.error = Some(error);
            }
            kind.into()
        })
    }
}

fn outcome(
    result: Result<(), lastgood::Error>,
    written: Option<io::Error>,
    failed: &str,
) -> Result<(), Failure> {
    match (result, written) {
        (_, Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        (_, Some(error)) => Err(Failure::io(Code::Failed, failed, &error)),
        (Err(error), None) if error.kind() == lastgood::ErrorKind::Invalid => {
            // The request was well-formed; the snapshot has something else there.
            Err(Failure::from(error).with_code(Code::Failed))
        }
        (result, None) => Ok(result?),
    }
}
