//! What of a source is backed up.
//!
//! A [`Selection`] is compiled once from [`SelectOptions`] and the sources of a run, and answers
//! without any I/O: the scan asks a [`Scope`] per directory for each entry, and
//! [`Selection::explain`] asks the same questions along one path and says what it found.
//! The rules as users see them are in `docs/manual/exclude.md`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::Gitignore;
use lastgood_host::scan::{Kind, Stat};

mod explain;
mod file_systems;
mod pattern;
mod reason;
mod size;
mod sources;

pub use explain::{Explanation, Probe, Verdict};
pub use file_systems::FileSystems;
pub use pattern::PatternError;
pub use reason::{Origin, Reason, SelectError};
pub use size::{ByteSize, ByteSizeError};
pub use sources::{ListKind, ListProblem, SourceList};

use pattern::{Pattern, Seen};

/// Header of a file `CACHEDIR.TAG` that counts, by the Cache Directory Tagging Specification.
pub const CACHE_TAG_HEADER: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// The rules as given, each as on the command line.
///
/// Of the patterns that match an entry the last one decides: those of `exclude_files` come first,
/// then `excludes`, then `iexcludes`, each in the order given.
#[derive(Debug, Clone, Default)]
pub struct SelectOptions {
    /// `--exclude-file`: files of gitignore lines.
    pub exclude_files: Vec<PathBuf>,
    /// `--exclude`: gitignore patterns; `#` and trailing blanks stand for themselves.
    pub excludes: Vec<String>,
    /// `--iexclude`: the same, ignoring the case of ASCII letters.
    pub iexcludes: Vec<String>,
    /// `--exclude-caches`.
    pub exclude_caches: bool,
    /// `--exclude-if-present`: `FILE` or `FILE:HEADER`.
    pub exclude_if_present: Vec<Vec<u8>>,
    /// `--exclude-larger-than`: files of more bytes than this are left out.
    pub exclude_larger_than: Option<ByteSize>,
    /// `--one-file-system`.
    pub one_file_system: bool,
    /// Devices of sources that lie below another source and are scanned with it. They were named,
    /// so they are entered like the device of the source itself.
    pub named_devices: Vec<u64>,
    /// Directories of this program, left out wherever they are met.
    pub own_directories: Vec<OwnDirectory>,
    /// What is mounted, to know pseudo file systems by. Without it none is known.
    pub file_systems: FileSystems,
}

/// A directory that holds what this program writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDirectory {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// Device and inode, as [`Stat::file_id`] has them.
    pub file_id: (u64, u64),
    /// What it is.
    pub holds: OwnContent,
}

/// What this program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnContent {
    /// A repository.
    Repository,
    /// A cache.
    Cache,
    /// A mirror.
    Mirror,
}

/// Compiled rules for the sources of one run.
///
/// Memory is proportional to the rules, not to the sources, unless absolute patterns differ in
/// what they mean to each.
#[derive(Debug)]
pub struct Selection {
    reasons: Vec<Reason>,
    roots: Vec<Root>,
    markers: Vec<Marker>,
    size_limit: Option<(u64, usize)>,
    own: Vec<((u64, u64), usize)>,
    one_file_system: Option<usize>,
    named_devices: Vec<u64>,
    file_systems: FileSystems,
}

/// Whether an entry is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is.
    Include,
    /// It is not.
    Exclude(&'a Reason),
}

/// What of an entry the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Device and inode.
    pub file_id: (u64, u64),
}

impl From<&Stat> for Facts {
    fn from(stat: &Stat) -> Self {
        Self { kind: stat.kind, size: stat.size, file_id: stat.file_id() }
    }
}

/// The rules as they stand in one directory; see [`Selection::enter`].
///
/// Cheap to clone, for threads that share a directory.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    selection: &'a Selection,
    patterns: Option<&'a Patterns>,
    marker: Option<&'a Marker>,
    /// Path of the directory below the root with a `/` behind it, then the name being decided.
    path: Vec<u8>,
    directory_bytes: usize,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Patterns that name the root itself, in order.
    named_by: Vec<Named>,
    patterns: Option<Arc<Patterns>>,
}

struct Patterns {
    matcher: Gitignore,
    /// Index of the reason for each line of the matcher.
    reasons: Vec<usize>,
}

/// An absolute pattern that names a source.
#[derive(Debug)]
struct Named {
    negated: bool,
    only_directories: bool,
    reason: usize,
}

/// A file whose presence excludes the content of its directory.
#[derive(Debug)]
struct Marker {
    name: Box<[u8]>,
    header: Box<[u8]>,
    reason: usize,
}

/// A pattern with the index of its reason.
struct Rule {
    pattern: Pattern,
    case_insensitive: bool,
    reason: usize,
}

impl Selection {
    /// Reads the exclude files and compiles the rules for `roots`: the sources as the user named
    /// them, made absolute without resolving links.
    ///
    /// # Errors
    /// When a file cannot be read or a rule is not understood; the message names file and line.
    pub fn compile(options: &SelectOptions, roots: &[PathBuf]) -> Result<Self, SelectError> {
        let mut selection = Self {
            reasons: Vec::new(),
            roots: Vec::new(),
            markers: Vec::new(),
            size_limit: None,
            own: Vec::new(),
            one_file_system: None,
            named_devices: options.named_devices.clone(),
            file_systems: options.file_systems.clone(),
        };
        let rules = selection.add_patterns(options)?;
        selection.add_markers(options)?;
        selection.size_limit = options
            .exclude_larger_than
            .map(|ByteSize(bytes)| (bytes, selection.add(Reason::LargerThan { bytes })));
        selection.one_file_system =
            options.one_file_system.then(|| selection.add(Reason::OtherFileSystem));
        for own in &options.own_directories {
            let reason = Reason::Own { path: own.path.clone(), holds: own.holds };
            let reason = selection.add(reason);
            selection.own.push((own.file_id, reason));
        }
        selection.roots = compile_roots(&rules, roots)?;
        Ok(selection)
    }

    /// Whether the source of this index in the list given to [`compile`](Self::compile) is backed
    /// up. A source was named by the user, so only a pattern that names it by its absolute path,
    /// or being a directory of this program, keeps it out.
    ///
    /// # Panics
    /// If there is no such source.
    #[must_use]
    pub fn source(&self, root: usize, facts: &Facts) -> Decision<'_> {
        if let Some(reason) = self.own_reason(facts) {
            return self.out(reason);
        }
        let is_directory = facts.kind == Kind::Directory;
        let applies = |named: &&Named| is_directory || !named.only_directories;
        match self.roots[root].named_by.iter().rev().find(applies) {
            Some(named) if !named.negated => self.out(named.reason),
            _ => Decision::Include,
        }
    }

    /// The rules inside a directory, given by the index of its source and its path below it (empty
    /// for the source itself).
    ///
    /// `head` is asked for marker files only: it gives the first bytes, at most as many as asked
    /// for, of the entry of that name in the directory, or `None` when there is none or it cannot
    /// be read. Asked for zero bytes it only looks whether the name is there.
    ///
    /// # Panics
    /// If there is no such source.
    pub fn enter(
        &self,
        root: usize,
        directory: &[u8],
        mut head: impl FnMut(&[u8], usize) -> Option<Vec<u8>>,
    ) -> Scope<'_> {
        let marker = self.markers.iter().find(|marker| {
            let wanted = marker.header.len();
            head(&marker.name, wanted).is_some_and(|found| found.starts_with(&marker.header))
        });
        let patterns = self.roots[root].patterns.as_deref();
        let mut path = Vec::new();
        if patterns.is_some() && !directory.is_empty() {
            path.reserve(directory.len() + 64);
            path.extend_from_slice(directory);
            path.push(b'/');
        }
        let directory_bytes = path.len();
        Scope { selection: self, patterns, marker, path, directory_bytes }
    }

    /// Whether the content of a directory on `device` is scanned, in a source that lies on
    /// `root_device`. The directory itself is kept either way, so that there is something to mount
    /// on again.
    #[must_use]
    pub fn descend(&self, root_device: u64, device: u64) -> Decision<'_> {
        if device == root_device || self.named_devices.contains(&device) {
            return Decision::Include;
        }
        match (self.one_file_system, self.file_systems.pseudo(device)) {
            (Some(reason), _) => self.out(reason),
            (None, Some(reason)) => Decision::Exclude(reason),
            (None, None) => Decision::Include,
        }
    }

    fn own_reason(&self, facts: &Facts) -> Option<usize> {
        if facts.kind != Kind::Directory {
            return None;
        }
        self.own.iter().find(|(file_id, _)| *file_id == facts.file_id).map(|(_, reason)| *reason)
    }

    fn out(&self, reason: usize) -> Decision<'_> {
        Decision::Exclude(&self.reasons[reason])
    }

    fn add(&mut self, reason: Reason) -> usize {
        self.reasons.push(reason);
        self.reasons.len() - 1
    }

    fn add_patterns(&mut self, options: &SelectOptions) -> Result<Vec<Rule>, SelectError> {
        let mut rules = Vec::new();
        for file in &options.exclude_files {
            let content = std::fs::read(file)
                .map_err(|source| SelectError::Read { path: file.clone(), source })?;
            let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
            for (line, number) in content.split(|&byte| byte == b'\n').zip(1..) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let origin = Origin::Line { file: file.clone(), line: number };
                self.add_pattern(&mut rules, line, origin, false, Pattern::from_line)?;
            }
        }
        let flags = [(&options.excludes, "--exclude"), (&options.iexcludes, "--iexclude")];
        for (texts, flag) in flags {
            for text in texts {
                let parse = |text: &str| Pattern::parse(text).map(Some);
                let case_insensitive = flag == "--iexclude";
                let origin = Origin::Flag(flag);
                self.add_pattern(&mut rules, text.as_bytes(), origin, case_insensitive, parse)?;
            }
        }
        Ok(rules)
    }

    fn add_pattern(
        &mut self,
        rules: &mut Vec<Rule>,
        text: &[u8],
        origin: Origin,
        case_insensitive: bool,
        parse: impl Fn(&str) -> Result<Option<Pattern>, PatternError>,
    ) -> Result<(), SelectError> {
        let parsed = std::str::from_utf8(text).map_err(|_| PatternError::NotUtf8).and_then(parse);
        let text = String::from_utf8_lossy(text).into_owned();
        match parsed {
            Ok(None) => Ok(()),
            Ok(Some(pattern)) => {
                let reason = self.add(Reason::Pattern { text, origin });
                rules.push(Rule { pattern, case_insensitive, reason });
                Ok(())
            }
            Err(source) => Err(SelectError::Pattern { text, origin, source }),
        }
    }

    fn add_markers(&mut self, options: &SelectOptions) -> Result<(), SelectError> {
        if options.exclude_caches {
            self.add_marker(b"CACHEDIR.TAG", CACHE_TAG_HEADER, Origin::Flag("--exclude-caches"));
        }
        for spec in &options.exclude_if_present {
            let end = spec.iter().position(|&byte| byte == b':').unwrap_or(spec.len());
            let (name, header) = (&spec[..end], spec.get(end + 1..).unwrap_or_default());
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
                let text = String::from_utf8_lossy(spec).into_owned();
                return Err(SelectError::Marker { text });
            }
            self.add_marker(name, header, Origin::Flag("--exclude-if-present"));
        }
        Ok(())
    }

    fn add_marker(&mut self, name: &[u8], header: &[u8], origin: Origin) {
        let reason = self.add(Reason::Marker { name: name.into(), origin });
        self.markers.push(Marker { name: name.into(), header: header.into(), reason });
    }
}

impl<'a> Scope<'a> {
    /// Whether the entry called `name` in this directory is backed up. For a directory that is
    /// not, nothing below it is asked for any more; for one that is and lies on another device
    /// than the source, [`Selection::descend`] decides on its content.
    pub fn decide(&mut self, name: &[u8], facts: &Facts) -> Decision<'a> {
        let selection = self.selection;
        if let Some(reason) = selection.own_reason(facts) {
            return selection.out(reason);
        }
        if let Some(marker) = self.marker
            && *marker.name != *name
        {
            return selection.out(marker.reason);
        }
        if let Match::Ignore(reason) = self.matched(name, facts.kind) {
            return selection.out(reason);
        }
        match selection.size_limit {
            Some((limit, reason)) if facts.kind == Kind::File && facts.size > limit => {
                selection.out(reason)
            }
            _ => Decision::Include,
        }
    }

    /// The same for an entry of which only the name is known, because it cannot be examined. It is
    /// left out only where that does not depend on what it is.
    pub fn decide_unseen(&mut self, name: &[u8]) -> Decision<'a> {
        let unseen = |kind| Facts { kind, size: 0, file_id: (0, 0) };
        match self.decide(name, &unseen(Kind::File)) {
            Decision::Include => Decision::Include,
            Decision::Exclude(_) => self.decide(name, &unseen(Kind::Directory)),
        }
    }

    /// Why nothing but the marker file in this directory is backed up, when that is so.
    #[must_use]
    pub fn content_excluded(&self) -> Option<&'a Reason> {
        self.marker.map(|marker| &self.selection.reasons[marker.reason])
    }

    /// The pattern that decides on `name` if it alone were asked, as the index of its reason.
    fn matched(&mut self, name: &[u8], kind: Kind) -> Match<usize> {
        let Some(patterns) = self.patterns else {
            return Match::None;
        };
        self.path.truncate(self.directory_bytes);
        self.path.extend_from_slice(name);
        let path = Path::new(OsStr::from_bytes(&self.path));
        let matched = patterns.matcher.matched(path, kind == Kind::Directory);
        matched.map(|glob| patterns.reasons[pattern::line_index(glob)])
    }
}

/// Roots to which the patterns mean the same share one matcher.
fn compile_roots(rules: &[Rule], roots: &[PathBuf]) -> Result<Vec<Root>, SelectError> {
    let mut shared: HashMap<Vec<(usize, String)>, Option<Arc<Patterns>>> = HashMap::new();
    let mut compiled = Vec::with_capacity(roots.len());
    for path in roots {
        let names: Vec<&[u8]> = path.iter().skip(1).map(OsStr::as_bytes).collect();
        let mut named_by = Vec::new();
        let mut lines = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for seen in rule.pattern.seen_from(&names, rule.case_insensitive) {
                match seen {
                    Seen::Root => named_by.push(Named {
                        negated: rule.pattern.negated,
                        only_directories: rule.pattern.only_directories,
                        reason: rule.reason,
                    }),
                    Seen::Below(position) => {
                        lines.push((index, rule.pattern.render(position)));
                    }
                }
            }
        }
        let patterns = match shared.get(&lines) {
            Some(patterns) => patterns.clone(),
            None => {
                let patterns = Patterns::compile(rules, &lines)?.map(Arc::new);
                shared.insert(lines, patterns.clone());
                patterns
            }
        };
        compiled.push(Root { path: path.clone(), named_by, patterns });
    }
    Ok(compiled)
}

impl Patterns {
    fn compile(rules: &[Rule], lines: &[(usize, String)]) -> Result<Option<Self>, SelectError> {
        if lines.is_empty() {
            return Ok(None);
        }
        let texts = lines.iter().map(|(rule, line)| (&**line, rules[*rule].case_insensitive));
        let matcher = pattern::build(texts).map_err(SelectError::Patterns)?;
        let reasons = lines.iter().map(|(rule, _)| rules[*rule].reason).collect();
        Ok(Some(Self { matcher, reasons }))
    }
}

impl fmt::Debug for Patterns {
    /// Without the automata.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").field("reasons", &self.reasons).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
