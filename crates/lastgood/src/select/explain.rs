//! Why a path is in or out.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::Match;
use lastgood_host::scan::Kind;

use super::{Decision, Facts, Reason, Scope, Selection};

/// The file system as far as an explanation looks at it.
pub trait Probe {
    /// What is at an absolute path, without following a link; `None` when nothing is.
    fn facts(&mut self, path: &Path) -> Option<Facts>;

    /// The first bytes of a file, at most `bytes_max`; `None` when it is not there or cannot be
    /// read. Asked for zero bytes it only looks whether it is there.
    fn head(&mut self, path: &Path, bytes_max: usize) -> Option<Vec<u8>>;
}

/// What the rules make of one path. Shown as the sentences `lastgood explain` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// The path asked for.
    pub path: PathBuf,
    /// The source it belongs to: the innermost that holds it.
    pub source: Option<&'a Path>,
    /// Whether there is such a path. If not, the rules were asked all the same: for a directory if
    /// the path ends in `/`, else for an empty file.
    pub exists: bool,
    /// In or out, and why.
    pub verdict: Verdict<'a>,
}

/// In or out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// In: no rule is against it.
    Included,
    /// In: a negated pattern has the last word.
    IncludedBy(&'a Reason),
    /// The directory is in, nothing below it is (but the marker file, if it is that).
    ContentExcluded(&'a Reason),
    /// Out.
    Excluded(&'a Reason),
    /// Out, because a directory above is out or its content is.
    ParentExcluded {
        /// That directory.
        parent: PathBuf,
        /// What keeps it out.
        reason: &'a Reason,
        /// A negated pattern for the path, which cannot bring it back from there.
        overruled: Option<&'a Reason>,
    },
    /// Out: below no source.
    Outside,
}

impl Verdict<'_> {
    /// Whether the path is backed up.
    #[must_use]
    pub const fn is_included(&self) -> bool {
        matches!(self, Self::Included | Self::IncludedBy(_) | Self::ContentExcluded(_))
    }
}

impl Selection {
    /// Walks from the source down to `path`, which is absolute, as the scan would.
    pub fn explain(&self, path: &Path, probe: &mut impl Probe) -> Explanation<'_> {
        let found = probe.facts(path);
        let depth = |root: &usize| self.roots[*root].path.as_os_str().len();
        let holds = |root: &usize| path.starts_with(&self.roots[*root].path);
        let root = (0..self.roots.len()).filter(holds).max_by_key(depth);
        let verdict = root.map_or(Verdict::Outside, |root| self.walk(root, path, found, probe));
        Explanation {
            path: path.into(),
            source: root.map(|root| &*self.roots[root].path),
            exists: found.is_some(),
            verdict,
        }
    }

    fn walk(
        &self,
        root: usize,
        path: &Path,
        found: Option<Facts>,
        probe: &mut impl Probe,
    ) -> Verdict<'_> {
        let top = &*self.roots[root].path;
        let below = path.strip_prefix(top).unwrap_or(Path::new(""));
        let is_directory = path.as_os_str().as_bytes().ends_with(b"/");
        let mut here = top.to_path_buf();
        let mut facts = probe.facts(top).unwrap_or(Facts::absent(true, 0));
        let root_device = facts.file_id.0;
        let parent_excluded = |parent: &Path, reason| {
            let kind = found.unwrap_or(Facts::absent(is_directory, root_device)).kind;
            let overruled = self.negation(root, below, kind);
            Verdict::ParentExcluded { parent: parent.into(), reason, overruled }
        };
        if let Decision::Exclude(reason) = self.source(root, &facts) {
            let is_asked = below.as_os_str().is_empty();
            return if is_asked { Verdict::Excluded(reason) } else { parent_excluded(top, reason) };
        }
        let mut verdict = Verdict::Included;
        let mut names = below.iter().peekable();
        while let Some(name) = names.next() {
            if let Some(reason) = self.content_reason(root_device, &facts) {
                return parent_excluded(&here, reason);
            }
            let is_asked = names.peek().is_none();
            let next = here.join(name);
            let absent = Facts::absent(is_directory || !is_asked, facts.file_id.0);
            let next_facts = if is_asked { found } else { probe.facts(&next) }.unwrap_or(absent);
            let mut scope = self.look_into(root, &here, probe);
            let name = name.as_bytes();
            match scope.decide(name, &next_facts) {
                Decision::Exclude(reason) if scope.content_excluded() == Some(reason) => {
                    return parent_excluded(&here, reason);
                }
                Decision::Exclude(reason) if is_asked => return Verdict::Excluded(reason),
                Decision::Exclude(reason) => return parent_excluded(&next, reason),
                Decision::Include => {}
            }
            verdict = match scope.matched(name, next_facts.kind) {
                Match::Whitelist(reason) => Verdict::IncludedBy(&self.reasons[reason]),
                _ => Verdict::Included,
            };
            (here, facts) = (next, next_facts);
        }
        if facts.kind != Kind::Directory {
            return verdict;
        }
        let content = self.content_reason(root_device, &facts);
        let content = content.or_else(|| self.look_into(root, &here, probe).content_excluded());
        content.map_or(verdict, Verdict::ContentExcluded)
    }

    fn content_reason(&self, root_device: u64, facts: &Facts) -> Option<&Reason> {
        match self.descend(root_device, facts.file_id.0) {
            Decision::Include => None,
            Decision::Exclude(reason) => Some(reason),
        }
    }

    fn look_into(&self, root: usize, directory: &Path, probe: &mut impl Probe) -> Scope<'_> {
        let below = directory.strip_prefix(&self.roots[root].path).unwrap_or(Path::new(""));
        self.enter(root, below.as_os_str().as_bytes(), |name, bytes_max| {
            probe.head(&directory.join(OsStr::from_bytes(name)), bytes_max)
        })
    }

    /// The negated pattern that would have the last word on a path, were its parents in.
    fn negation(&self, root: usize, below: &Path, kind: Kind) -> Option<&Reason> {
        let name = below.file_name()?.as_bytes();
        let parent = below.parent().unwrap_or(Path::new(""));
        let mut scope = self.enter(root, parent.as_os_str().as_bytes(), |_, _| None);
        match scope.matched(name, kind) {
            Match::Whitelist(reason) => Some(&self.reasons[reason]),
            _ => None,
        }
    }
}

impl Facts {
    const fn absent(is_directory: bool, device: u64) -> Self {
        let kind = if is_directory { Kind::Directory } else { Kind::File };
        Self { kind, size: 0, file_id: (device, 0) }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let state = if self.verdict.is_included() { "included" } else { "excluded" };
        write!(f, "{path} is {state}")?;
        match &self.verdict {
            Verdict::Included => f.write_str(": no rule excludes it")?,
            Verdict::IncludedBy(reason) => write!(f, " again by {reason}")?,
            Verdict::ContentExcluded(reason) => {
                write!(f, ", but its content is excluded by {reason}")?;
            }
            Verdict::Excluded(reason) => write!(f, " by {reason}")?,
            Verdict::ParentExcluded { parent, reason, overruled } => {
                let parent = parent.display();
                write!(f, " because its parent {parent} is excluded by {reason}")?;
                if let Some(reason) = overruled {
                    write!(f, "; {reason} cannot include it again from there")?;
                }
            }
            Verdict::Outside => f.write_str(": no source holds it")?,
        }
        if self.exists { Ok(()) } else { f.write_str(" (there is no such path now)") }
    }
}
