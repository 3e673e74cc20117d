//! Where text and JSON go: results to standard output, everything else to standard error.
//!
//! With `--json` both carry JSON Lines and nothing else. Each line has `schema` and
//! `message_type`; what may stand in it is in `schema.json`.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use serde_json::{Map, Value};

use crate::failure::{Code, Failure};
use crate::text;

/// Number of the JSON schema. Fields may be added at any time; it changes when one changes meaning.
pub(crate) const SCHEMA: u64 = 1;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// Number of `-v`.
    pub(crate) verbosity: u8,
}

/// The two streams of this process.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) style: Style,
    /// What could steer a terminal is escaped when there is one.
    is_terminal: bool,
    stdout: Mutex<BufWriter<Stdout>>,
    /// Whether nobody reads any more; then nothing is written either.
    is_closed: AtomicBool,
    failed: Mutex<Option<io::Error>>,
    /// The bar on the terminal, which must not be written through.
    bar: Mutex<Option<ProgressBar>>,
}

impl Output {
    pub(crate) fn new(style: Style) -> Self {
        let stdout = io::stdout();
        Self {
            style,
            is_terminal: stdout.is_terminal(),
            stdout: Mutex::new(BufWriter::with_capacity(64 << 10, stdout)),
            is_closed: AtomicBool::new(false),
            failed: Mutex::new(None),
            bar: Mutex::new(None),
        }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.style.json
    }

    /// Shows lines above `bar` from now on, or without a bar again.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *lock(&self.bar) = bar;
    }

    /// A line of text on standard output; nothing with `--json`.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.style.json {
            self.above_bar(|| self.write(&[text.as_ref().as_bytes(), b"\n"]));
        }
    }

    /// A line that `-q` leaves out.
    pub(crate) fn info(&self, text: impl AsRef<str>) {
        if !self.style.quiet {
            self.line(text);
        }
    }

    /// Lines of text.
    pub(crate) fn lines(&self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        lines.into_iter().for_each(|line| self.line(line));
    }

    /// A path as a person reads it here: exact for a pipe, harmless for a terminal.
    pub(crate) fn path(&self, path: &[u8]) -> Vec<u8> {
        if self.is_terminal { text::escaped(path).into_bytes() } else { path.to_vec() }
    }

    /// A line with raw bytes in it; nothing with `--json`.
    pub(crate) fn bytes_line(&self, parts: &[&[u8]]) {
        if !self.style.json {
            self.above_bar(|| {
                self.write(parts);
                self.write(&[b"\n"]);
            });
        }
    }

    /// One message on standard output; nothing without `--json`.
    pub(crate) fn json(&self, message_type: &str, fields: Value) {
        if self.style.json {
            let mut line = message(message_type, fields).to_string();
            line.push('\n');
            self.write(&[line.as_bytes()]);
            // Whoever reads a stream of events wants each when it happens.
            if message_type == "status" {
                self.flush();
            }
        }
    }

    /// The same, made only when it is wanted.
    pub(crate) fn json_with(&self, message_type: &str, fields: impl FnOnce() -> Value) {
        if self.style.json {
            self.json(message_type, fields());
        }
    }

    /// Content as it is, whatever the style.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.stdout).write_all(bytes)
    }

    /// Something the user should know, on standard error.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.style.json {
            self.error_json("warning", serde_json::json!({ "message": text }));
        } else {
            self.error_line(&format!("warning: {text}"));
        }
    }

    /// Something that `-q` leaves out, on standard error.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if self.style.quiet {
        } else if self.style.json {
            self.error_json("note", serde_json::json!({ "message": text.as_ref() }));
        } else {
            self.error_line(text.as_ref());
        }
    }

    /// A line on standard error.
    pub(crate) fn error_line(&self, text: &str) {
        self.flush();
        self.above_bar(|| eprintln_quietly(text));
    }

    /// One message on standard error.
    pub(crate) fn error_json(&self, message_type: &str, fields: Value) {
        self.flush();
        eprintln_quietly(&message(message_type, fields).to_string());
    }

    /// Ends the output. Everything was written, or this says why not.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        self.flush();
        match lock(&self.failed).take() {
            Some(error) => {
                Err(Failure::io(Code::Failed, "cannot write to standard output", &error))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn flush(&self) {
        let flushed = lock(&self.stdout).flush();
        self.note_failure(flushed);
    }

    /// Ends the process when nobody reads standard output any more, as after `| head`: for commands
    /// that only read, whose output is all they do.
    pub(crate) fn exit_if_closed(&self) {
        if self.is_closed.load(Ordering::Relaxed) {
            std::process::exit(0);
        }
    }

    fn write(&self, parts: &[&[u8]]) {
        if self.is_closed.load(Ordering::Relaxed) || lock(&self.failed).is_some() {
            return;
        }
        let mut stdout = lock(&self.stdout);
        let written = parts.iter().try_for_each(|part| stdout.write_all(part));
        drop(stdout);
        self.note_failure(written);
    }

    fn note_failure(&self, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                lock(&self.failed).get_or_insert(error);
            }
        }
    }

    fn above_bar(&self, write: impl FnOnce()) {
        let bar = lock(&self.bar).clone();
        match bar {
            Some(bar) => bar.suspend(|| {
                write();
                self.flush();
            }),
            None => write(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fields with what every message has.
fn message(message_type: &str, fields: Value) -> Value {
    let mut all = Map::new();
    all.insert("schema".to_owned(), SCHEMA.into());
    all.insert("message_type".to_owned(), message_type.into());
    if let Value::Object(fields) = fields {
        all.extend(fields);
    }
    Value::Object(all)
}

/// The bytes of a path.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Writes a line to standard error. When that is gone there is nobody to tell.
pub(crate) fn eprintln_quietly(text: &str) {
    let mut line = text.to_owned();
    line.push('\n');
    drop(io::stderr().lock().write_all(line.as_bytes()));
}
