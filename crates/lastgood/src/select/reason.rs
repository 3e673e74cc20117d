//! Which rule decided, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{OwnContent, PatternError};

/// The rule that keeps an entry out, or the negated pattern that brings it back.
///
/// Shown as what can follow "excluded by" or "included by".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A pattern.
    Pattern {
        /// As given, with its `!`.
        text: String,
        /// Where it was given.
        origin: Origin,
    },
    /// A file that excludes the content of the directory it lies in.
    Marker {
        /// Name of that file.
        name: Box<[u8]>,
        /// The flag that asks for it.
        origin: Origin,
    },
    /// A regular file over the limit.
    LargerThan {
        /// The limit.
        bytes: u64,
    },
    /// Another file system than that of the source.
    OtherFileSystem,
    /// A file system without files of its own.
    PseudoFileSystem {
        /// Its type.
        fs_type: &'static str,
    },
    /// A directory of this program.
    Own {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        holds: OwnContent,
    },
}

/// Where a rule was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, or the field of the options named like it.
    Flag(&'static str),
    /// A line of an exclude file.
    Line {
        /// The file as it was named.
        file: PathBuf,
        /// 1-based.
        line: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { text, origin } => write!(f, "pattern {text} ({origin})"),
            Self::Marker { name, origin } => {
                write!(f, "the file {} beside it ({origin})", String::from_utf8_lossy(name))
            }
            Self::LargerThan { bytes } => {
                write!(f, "its size of more than {bytes} bytes (--exclude-larger-than)")
            }
            Self::OtherFileSystem => {
                f.write_str("lying on another file system (--one-file-system)")
            }
            Self::PseudoFileSystem { fs_type } => {
                write!(f, "being a pseudo file system of type {fs_type}")
            }
            Self::Own { path, holds: OwnContent::Repository } => {
                write!(f, "being the repository {} itself", path.display())
            }
            Self::Own { path, holds: OwnContent::Cache } => {
                write!(f, "being the cache {} of lastgood", path.display())
            }
            Self::Own { path, holds: OwnContent::Mirror } => {
                write!(f, "being the mirror {} itself", path.display())
            }
        }
    }
}

/// Why rules or lists are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A file of patterns or sources cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A pattern is not understood.
    #[error("bad pattern {text:?} ({origin})")]
    Pattern {
        /// As given.
        text: String,
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// The patterns cannot be compiled together.
    #[error("the exclude patterns cannot be compiled together")]
    Patterns(#[source] PatternError),
    /// A marker that is no file name.
    #[error("bad --exclude-if-present {text:?}: needs a file name without a path, FILE[:HEADER]")]
    Marker {
        /// As given.
        text: String,
    },
    /// An entry of a list of sources is not one.
    #[error("bad entry in {}, {unit} {number}: {problem}", file.display())]
    List {
        /// The list.
        file: PathBuf,
        /// What is counted: `line`, or `name` in a raw list.
        unit: &'static str,
        /// 1-based.
        number: u64,
        /// What is wrong.
        problem: String,
    },
}
