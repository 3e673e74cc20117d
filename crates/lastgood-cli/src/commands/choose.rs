//! Which entries of a snapshot are restored, by `--include` and `--exclude`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::Kind;
use lastgood::restore::{Choice, Choose};
use lastgood::select::{Decision, Facts, SelectOptions, Selection};

use crate::failure::{Code, Failure};

/// Patterns of a restore.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ChooseArgs {
    /// Restore only what matches this gitignore pattern; may be given several times
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<String>,
    /// The same, ignoring case
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<String>,
    /// Do not restore what matches this gitignore pattern; may be given several times
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, ignoring case
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
}

impl ChooseArgs {
    /// The rule for the library, for what lies below `base`; `None` when everything is restored.
    pub(super) fn rule(&self, base: &[u8]) -> Result<Option<Arc<Choose>>, Failure> {
        let include = Patterns::compile(&self.include, &self.iinclude, base)?;
        let exclude = Patterns::compile(&self.exclude, &self.iexclude, base)?;
        if include.is_none() && exclude.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(move |path: &[u8], is_directory: bool| {
            let is_excluded =
                exclude.as_ref().is_some_and(|rules| rules.matches(path, is_directory));
            let Some(include) = &include else {
                return if is_excluded { Choice::Skip } else { Choice::Restore };
            };
            match (is_excluded, include.matches_or_above(path, is_directory)) {
                (true, _) => Choice::Skip,
                (false, true) => Choice::Restore,
                (false, false) if is_directory => Choice::Pass,
                (false, false) => Choice::Skip,
            }
        })))
    }
}

/// Patterns that are asked for one path at a time.
struct Patterns {
    rules: Selection,
    base: Vec<u8>,
}

impl Patterns {
    fn compile(plain: &[String], folded: &[String], base: &[u8]) -> Result<Option<Self>, Failure> {
        if plain.is_empty() && folded.is_empty() {
            return Ok(None);
        }
        let options = SelectOptions {
            excludes: plain.to_vec(),
            iexcludes: folded.to_vec(),
            ..SelectOptions::default()
        };
        let root: PathBuf = Path::new("/").join(OsStr::from_bytes(base));
        let rules = Selection::compile(&options, &[root])
            .map_err(|error| Failure::caused(Code::Usage, &error))?;
        Ok(Some(Self { rules, base: base.to_vec() }))
    }

    /// Whether the entry at `path` matches. Paths have no leading `/`.
    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let Some(below) = path.strip_prefix(&*self.base) else {
            return false;
        };
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let kind = if is_directory { Kind::Directory } else { Kind::File };
        let facts = Facts { kind, size: 0, file_id: (0, 0) };
        if below.is_empty() {
            return matches!(self.rules.source(0, &facts), Decision::Exclude(_));
        }
        let (parent, name) = match below.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&below[..at], &below[at + 1..]),
            None => (&below[..0], below),
        };
        let mut scope = self.rules.enter(0, parent, |_, _| None);
        matches!(scope.decide(name, &facts), Decision::Exclude(_))
    }

    /// Whether the entry or a directory above it matches.
    fn matches_or_above(&self, path: &[u8], is_directory: bool) -> bool {
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        above.into_iter().any(|(at, _)| self.matches(&path[..at], true))
            || self.matches(path, is_directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_included_comes_with_all_below_it_and_the_way_to_it() {
        let args = ChooseArgs {
            include: vec!["/home/me/docs".to_owned(), "*.jpg".to_owned()],
            exclude: vec!["*.tmp".to_owned()],
            ..ChooseArgs::default()
        };
        let rule = args.rule(b"").unwrap().unwrap();
        let check = |path: &str, is_directory, expected| {
            assert_eq!(rule(path.as_bytes(), is_directory), expected, "{path}");
        };
        check("home", true, Choice::Pass);
        check("home/me/docs", true, Choice::Restore);
        check("home/me/docs/a/b", false, Choice::Restore);
        check("home/me/docs/a/b.tmp", false, Choice::Skip);
        check("home/me/other", false, Choice::Skip);
        check("srv/x.jpg", false, Choice::Restore);
        assert!(ChooseArgs::default().rule(b"").unwrap().is_none());
    }
}
