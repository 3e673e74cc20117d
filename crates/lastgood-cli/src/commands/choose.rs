//! Which entries of a snapshot are restored, by `--include` and `--exclude`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lastgood::Kind;
use lastgood::restore::{Choice, Choose};
use lastgood::select::{Decision, Facts, Origin, SelectError, SelectOptions, Selection};

use crate::failure::{Code, Failure};

/// Patterns of a restore.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What is restored")]
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

/// What the patterns choose.
#[derive(Default)]
pub(super) struct Chosen {
    /// The rule for the library; `None` when everything is restored.
    pub(super) rule: Option<Arc<Choose>>,
    /// Whether something was included by a pattern; `None` without such a pattern.
    is_included: Option<Arc<AtomicBool>>,
}

impl Chosen {
    /// Whether there are patterns to include and nothing matched: most likely a slip.
    pub(super) fn includes_nothing(&self) -> bool {
        self.is_included.as_ref().is_some_and(|is_included| !is_included.load(Ordering::Relaxed))
    }
}

impl ChooseArgs {
    /// Whether everything is chosen.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { include, iinclude, exclude, iexclude } = self;
        include.is_empty() && iinclude.is_empty() && exclude.is_empty() && iexclude.is_empty()
    }

    /// What is chosen of that which lies below `base`.
    pub(super) fn chosen(&self, base: &[u8]) -> Result<Chosen, Failure> {
        let failed = |error: SelectError| Failure::caused(Code::Usage, &error);
        let include = Patterns::compile(&self.include, &self.iinclude, base)
            .map_err(|error| failed(named_include(error)))?;
        let exclude = Patterns::compile(&self.exclude, &self.iexclude, base).map_err(failed)?;
        if include.is_none() && exclude.is_none() {
            return Ok(Chosen::default());
        }
        let is_included = include.is_some().then(Arc::<AtomicBool>::default);
        let found = is_included.clone();
        let rule: Arc<Choose> = Arc::new(move |path: &[u8], is_directory: bool| {
            let is_excluded =
                exclude.as_ref().is_some_and(|rules| rules.matches(path, is_directory));
            let Some(include) = &include else {
                return if is_excluded { Choice::Skip } else { Choice::Restore };
            };
            let is_included = include.matches_or_above(path, is_directory);
            if let (true, Some(found)) = (is_included, &found) {
                found.store(true, Ordering::Relaxed);
            }
            match (is_excluded, is_included) {
                (true, _) => Choice::Skip,
                (false, true) => Choice::Restore,
                (false, false) if is_directory => Choice::Pass,
                (false, false) => Choice::Skip,
            }
        });
        Ok(Chosen { rule: Some(rule), is_included })
    }
}

/// The rules of the library are named for what they exclude.
fn named_include(error: SelectError) -> SelectError {
    match error {
        SelectError::Pattern { text, origin: Origin::Flag(flag), source } => {
            let flag = if flag == "--iexclude" { "--iinclude" } else { "--include" };
            SelectError::Pattern { text, origin: Origin::Flag(flag), source }
        }
        error => error,
    }
}

/// Patterns that are asked for one path at a time.
struct Patterns {
    rules: Selection,
    base: Vec<u8>,
}

impl Patterns {
    fn compile(
        plain: &[String],
        folded: &[String],
        base: &[u8],
    ) -> Result<Option<Self>, SelectError> {
        if plain.is_empty() && folded.is_empty() {
            return Ok(None);
        }
        let options = SelectOptions {
            excludes: plain.to_vec(),
            iexcludes: folded.to_vec(),
            ..SelectOptions::default()
        };
        let root: PathBuf = Path::new("/").join(OsStr::from_bytes(base));
        let rules = Selection::compile(&options, &[root])?;
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
        let chosen = args.chosen(b"").unwrap();
        assert!(chosen.includes_nothing());
        let rule = chosen.rule.clone().unwrap();
        let check = |path: &str, is_directory, expected| {
            assert_eq!(rule(path.as_bytes(), is_directory), expected, "{path}");
        };
        check("home", true, Choice::Pass);
        check("home/me/docs", true, Choice::Restore);
        check("home/me/docs/a/b", false, Choice::Restore);
        check("home/me/docs/a/b.tmp", false, Choice::Skip);
        check("home/me/other", false, Choice::Skip);
        check("srv/x.jpg", false, Choice::Restore);
        assert!(!chosen.includes_nothing());
        assert!(ChooseArgs::default().chosen(b"").unwrap().rule.is_none());
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_flag() {
        let bad = || vec!["[".to_owned()];
        let check = |args: ChooseArgs, flag: &str| {
            let failure = args.chosen(b"").err().unwrap();
            assert!(failure.text().contains(&format!("({flag})")), "{failure:?}");
        };
        check(ChooseArgs { include: bad(), ..ChooseArgs::default() }, "--include");
        check(ChooseArgs { iinclude: bad(), ..ChooseArgs::default() }, "--iinclude");
        check(ChooseArgs { exclude: bad(), ..ChooseArgs::default() }, "--exclude");
    }
}
