//! Lists of sources: `--files-from` and its verbatim and raw forms.

use std::ffi::{OsStr, OsString};
use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;

use super::pattern::name_matcher;
use super::{PatternError, SelectError};

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// `--files-from`: a glob pattern per line. White space around it is cut off; blank lines and
    /// lines that begin with `#` are passed over.
    Patterns,
    /// `--files-from-verbatim`: a path per line, as it is. Empty lines are passed over.
    Verbatim,
    /// `--files-from-raw`: paths, each ended by a NUL.
    Raw,
}

/// The sources a list names.
#[derive(Debug, Default)]
pub struct SourceList {
    /// In the order of the list, what one pattern names sorted; duplicates stay. Whether a path
    /// exists was looked at in a list of patterns only.
    pub sources: Vec<PathBuf>,
    /// What to warn of.
    pub problems: Vec<ListProblem>,
}

/// Trouble with a pattern of a list, none that stops a run.
#[derive(Debug, thiserror::Error)]
pub enum ListProblem {
    /// Nothing is named by it.
    #[error("pattern {pattern:?} ({}:{line}) names nothing that exists", file.display())]
    Unmatched {
        /// As written.
        pattern: String,
        /// The list.
        file: PathBuf,
        /// 1-based.
        line: u64,
    },
    /// What a directory holds cannot be seen, so the pattern may have missed something.
    #[error("cannot list {} for a pattern ({}:{line})", path.display(), file.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The list.
        file: PathBuf,
        /// 1-based.
        line: u64,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl SourceList {
    /// Reads a list from a file.
    ///
    /// # Errors
    /// When it cannot be read, or an entry is none; the message names file and line.
    pub fn read(kind: ListKind, file: &Path) -> Result<Self, SelectError> {
        let content = std::fs::read(file)
            .map_err(|source| SelectError::Read { path: file.into(), source })?;
        Self::parse(kind, file, &content)
    }

    /// Takes the content of a list that was read from `file`, a name for messages. Relative
    /// patterns are looked up in the working directory.
    ///
    /// # Errors
    /// When an entry is none; the message names file and line.
    pub fn parse(kind: ListKind, file: &Path, content: &[u8]) -> Result<Self, SelectError> {
        let mut list = Self::default();
        if kind == ListKind::Raw {
            list.sources = parse_raw(file, content)?;
            return Ok(list);
        }
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        for (line, number) in content.split(|&byte| byte == b'\n').zip(1..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let entry = if kind == ListKind::Patterns { line.trim_ascii() } else { line };
            let is_comment = kind == ListKind::Patterns && entry.starts_with(b"#");
            if entry.is_empty() || is_comment {
                continue;
            }
            if entry.contains(&0) {
                let problem = "holds a NUL; lists with NUL between names go to --files-from-raw";
                return Err(bad_entry(file, "line", number, problem.into()));
            }
            let is_pattern =
                entry.iter().any(|&byte| PATTERN_CHARACTERS.contains(&char::from(byte)));
            if kind == ListKind::Verbatim || !is_pattern {
                list.add_path(kind, file, number, entry);
            } else {
                list.add_pattern(file, number, entry)?;
            }
        }
        Ok(list)
    }

    fn add_path(&mut self, kind: ListKind, file: &Path, line: u64, entry: &[u8]) {
        let path = Path::new(OsStr::from_bytes(entry));
        if kind == ListKind::Verbatim || path.symlink_metadata().is_ok() {
            self.sources.push(path.into());
        } else {
            self.unmatched(file, line, entry);
        }
    }

    fn add_pattern(&mut self, file: &Path, line: u64, entry: &[u8]) -> Result<(), SelectError> {
        let bad = |problem: String| bad_entry(file, "line", line, problem);
        let text = std::str::from_utf8(entry).map_err(|_| {
            bad("a pattern must be UTF-8; paths that are not go to --files-from-verbatim".into())
        })?;
        let is_absolute = text.starts_with('/');
        let mut found = vec![PathBuf::from(if is_absolute { "/" } else { "" })];
        for part in text.split('/').filter(|part| !part.is_empty()) {
            let part = Part::parse(part).map_err(|error| bad(error.to_string()))?;
            found = self.expand(file, line, found, &part);
        }
        if found.is_empty() {
            self.unmatched(file, line, entry);
        }
        self.sources.append(&mut found);
        Ok(())
    }

    /// What `part` names in each of `directories`.
    fn expand(
        &mut self,
        file: &Path,
        line: u64,
        directories: Vec<PathBuf>,
        part: &Part<'_>,
    ) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in directories {
            match part.names_in(&directory) {
                Ok(names) => found.extend(names.iter().map(|name| directory.join(name))),
                Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {}
                Err(source) => {
                    let file = file.into();
                    self.problems.push(ListProblem::Unreadable {
                        path: directory,
                        file,
                        line,
                        source,
                    });
                }
            }
        }
        found
    }

    fn unmatched(&mut self, file: &Path, line: u64, entry: &[u8]) {
        let pattern = String::from_utf8_lossy(entry).into_owned();
        self.problems.push(ListProblem::Unmatched { pattern, file: file.into(), line });
    }
}

/// What stands between two `/` of a pattern.
enum Part<'a> {
    Plain(&'a str),
    Pattern(Gitignore),
}

impl<'a> Part<'a> {
    fn parse(text: &'a str) -> Result<Self, PatternError> {
        if text.contains(PATTERN_CHARACTERS) {
            name_matcher(text).map(Self::Pattern)
        } else {
            Ok(Self::Plain(text))
        }
    }

    /// Sorted. Hidden names match like any other.
    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let matcher = match self {
            Self::Plain(name) => {
                directory.join(name).symlink_metadata()?;
                return Ok(vec![name.into()]);
            }
            Self::Pattern(matcher) => matcher,
        };
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(here)? {
            names.push(entry?.file_name());
        }
        names.retain(|name| matcher.matched(name, true).is_ignore());
        names.sort_unstable();
        Ok(names)
    }
}

fn parse_raw(file: &Path, content: &[u8]) -> Result<Vec<PathBuf>, SelectError> {
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let bad = |number, problem: &str| Err(bad_entry(file, "name", number, problem.into()));
    let Some(content) = content.strip_suffix(&[0]) else {
        let number = content.split(|&byte| byte == 0).count() as u64;
        return bad(number, "the NUL at its end is missing: the list may be cut short");
    };
    let mut sources = Vec::new();
    for (name, number) in content.split(|&byte| byte == 0).zip(1..) {
        if name.is_empty() {
            return bad(number, "the name is empty");
        }
        sources.push(PathBuf::from(OsStr::from_bytes(name)));
    }
    Ok(sources)
}

fn bad_entry(file: &Path, unit: &'static str, number: u64, problem: String) -> SelectError {
    SelectError::List { file: file.into(), unit, number, problem }
}

const PATTERN_CHARACTERS: [char; 4] = ['*', '?', '[', '\\'];
