//! One line of gitignore syntax, read the way git reads it and written for the `ignore` crate.
//!
//! The matcher of the `ignore` crate takes a richer glob syntax than git has (`{a,b}`) and a
//! poorer one (no `[[:alpha:]]`, no escapes in a class, `[!a]` matches `/`). A pattern is therefore
//! parsed here by git's rules and rendered in the part of the syntax where both agree. Matching
//! itself is the crate's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};

mod class;

use class::Class;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Whether a match includes again.
    pub(super) negated: bool,
    /// Whether only directories match.
    pub(super) only_directories: bool,
    /// Whether it begins with `/`.
    rooted: bool,
    components: Vec<Component>,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is left that a name could match.
    #[error("nothing to match")]
    Empty,
    /// A component that no name can match.
    #[error("no name is empty, `.` or `..`")]
    DeadComponent,
    /// A `\` with nothing behind it.
    #[error("a backslash at the end escapes nothing; write \\\\ for a backslash")]
    DanglingEscape,
    /// A `[` without its `]`.
    #[error("the class is not closed; write \\[ for a bracket")]
    UnclosedClass,
    /// `[[:name:]]` with a name there is not.
    #[error("there is no class [:{0}:]")]
    UnknownClass(String),
    /// A class without a member.
    #[error("the class matches nothing")]
    EmptyClass,
    /// `[à-é]`: matching is by byte, so the range would not be what it looks like.
    #[error("only ASCII characters can bound a range")]
    WideRange,
    /// Not text.
    #[error("not UTF-8; put a ? for each byte that is not")]
    NotUtf8,
    /// The matcher refused it.
    #[error("{0}")]
    Unsupported(String),
}

/// What stands between two `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    /// `**`: any number of directories.
    AnyDepth,
    /// A name.
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyByte,
    AnyBytes,
    Class(Class),
}

impl Pattern {
    /// Takes a line of an exclude file; `None` for a comment or a blank line.
    pub(super) fn from_line(line: &str) -> Result<Option<Self>, PatternError> {
        let line = trim_trailing_spaces(line);
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        Self::parse(line).map(Some)
    }

    /// Takes a pattern as it is: `#` and blanks stand for themselves.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let (negated, text) = strip(text, '!');
        let (only_directories, text) = match text.strip_suffix('/') {
            Some(text) => (true, text),
            None => (false, text),
        };
        // As git has it: any `/`, an escaped one or one in a class too, ties it to the root.
        let anchored = text.contains('/');
        let (rooted, text) = strip(text, '/');
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut components = parse_components(text)?;
        if !anchored {
            components.insert(0, Component::AnyDepth);
        }
        components
            .dedup_by(|one, other| *one == Component::AnyDepth && *other == Component::AnyDepth);
        Ok(Self { negated, only_directories, rooted, components })
    }

    /// The pattern as seen from a source root, given by the names on its absolute path.
    ///
    /// A pattern that begins with the path of the root goes on from there; there can be more than
    /// one way to read a `**` on the way. Any other is meant relative to the root.
    pub(super) fn seen_from(&self, root: &[&[u8]], case_insensitive: bool) -> Vec<Seen> {
        let relative = vec![Seen::Below(0)];
        if !self.rooted || root.is_empty() {
            return relative;
        }
        // A wildcard in first place is no absolute path: `/*` means what lies in the root.
        if !self.components[0].is_literal() {
            return relative;
        }
        let mut positions = vec![0];
        for name in root {
            positions = self.advance(&positions, name, case_insensitive);
        }
        if positions.is_empty() {
            return relative;
        }
        let is_whole = |position| position == self.components.len();
        let seen = |position| {
            if is_whole(position) { Seen::Root } else { Seen::Below(position) }
        };
        positions.into_iter().map(seen).collect()
    }

    /// Positions after `name`, of a matcher that stands at each of `positions`.
    fn advance(&self, positions: &[usize], name: &[u8], case_insensitive: bool) -> Vec<usize> {
        let mut next = Vec::new();
        for &start in positions {
            let mut position = start;
            while self.components.get(position) == Some(&Component::AnyDepth) {
                next.push(position);
                position += 1;
                // `a/**` matches all that is in `a`, so it names this one as well.
                if position == self.components.len() {
                    next.push(position);
                }
            }
            let here = self.components.get(position);
            if here.is_some_and(|component| component.matches(name, case_insensitive)) {
                next.push(position + 1);
            }
        }
        next.sort_unstable();
        next.dedup();
        next
    }

    /// The line that makes the `ignore` crate match the components from `position` on.
    pub(super) fn render(&self, position: usize) -> String {
        let mut line = String::new();
        if self.negated {
            line.push('!');
        }
        render(&self.components[position..], &mut line);
        if self.only_directories {
            line.push('/');
        }
        line
    }
}

/// What a pattern means from a source root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The root itself.
    Root,
    /// What the components from this position on match below it.
    Below(usize),
}

fn strip(text: &str, first: char) -> (bool, &str) {
    text.strip_prefix(first).map_or((false, text), |rest| (true, rest))
}

/// Cuts spaces off the end, but none that is escaped.
fn trim_trailing_spaces(line: &str) -> &str {
    let bytes = line.as_bytes();
    let mut end = 0;
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let width = if byte == b'\\' { 2 } else { 1 };
        index = (index + width).min(bytes.len());
        if byte != b' ' {
            end = index;
        }
    }
    &line[..end]
}

fn parse_components(text: &str) -> Result<Vec<Component>, PatternError> {
    let mut components = Vec::new();
    let mut tokens = Vec::new();
    let mut has_double_star = false;
    let mut chars = text.chars().peekable();
    loop {
        match chars.next() {
            next @ (None | Some('/')) => {
                components.push(Component::new(std::mem::take(&mut tokens), has_double_star)?);
                has_double_star = false;
                if next.is_none() {
                    return Ok(components);
                }
            }
            // To git an escaped slash is a slash.
            Some('\\') if chars.peek() == Some(&'/') => {}
            Some('\\') => {
                tokens.push(Token::Literal(chars.next().ok_or(PatternError::DanglingEscape)?));
            }
            Some('?') => tokens.push(Token::AnyByte),
            Some('*') => {
                while chars.next_if_eq(&'*').is_some() {
                    has_double_star = true;
                }
                tokens.push(Token::AnyBytes);
            }
            Some('[') => tokens.push(Token::Class(Class::parse(&mut chars)?)),
            Some(literal) => tokens.push(Token::Literal(literal)),
        }
    }
}

impl Component {
    fn new(tokens: Vec<Token>, has_double_star: bool) -> Result<Self, PatternError> {
        match &tokens[..] {
            [Token::AnyBytes] if has_double_star => Ok(Self::AnyDepth),
            [] | [Token::Literal('.')] | [Token::Literal('.'), Token::Literal('.')] => {
                Err(PatternError::DeadComponent)
            }
            _ => Ok(Self::Name(tokens)),
        }
    }

    fn is_literal(&self) -> bool {
        match self {
            Self::AnyDepth => false,
            Self::Name(tokens) => tokens.iter().all(|token| matches!(token, Token::Literal(_))),
        }
    }

    /// Whether it is a name and matches `name`.
    fn matches(&self, name: &[u8], case_insensitive: bool) -> bool {
        let matcher = self.matcher(case_insensitive);
        *self != Self::AnyDepth
            && matcher
                .is_ok_and(|matcher| matcher.matched(OsStr::from_bytes(name), true).is_ignore())
    }

    fn matcher(&self, case_insensitive: bool) -> Result<Gitignore, PatternError> {
        let mut line = String::new();
        render(std::slice::from_ref(self), &mut line);
        build([(line.as_str(), case_insensitive)])
    }
}

/// Appends components as the `ignore` crate reads them, always tied to the root.
fn render(components: &[Component], line: &mut String) {
    if components.first() != Some(&Component::AnyDepth) {
        line.push('/');
    }
    for (index, component) in components.iter().enumerate() {
        if index > 0 {
            line.push('/');
        }
        match component {
            Component::AnyDepth => line.push_str("**"),
            Component::Name(tokens) => tokens.iter().for_each(|token| token.render(line)),
        }
    }
}

impl Token {
    fn render(&self, line: &mut String) {
        match self {
            Self::AnyByte => line.push('?'),
            Self::AnyBytes => line.push('*'),
            Self::Class(class) => class.render(line),
            // The crate cuts `\\` and white space off the end; in brackets they stay.
            Self::Literal('\\') => line.push_str("[\\]"),
            Self::Literal(space) if space.is_whitespace() => {
                line.push('{');
                line.push(*space);
                line.push('}');
            }
            Self::Literal(special) if special.is_ascii_punctuation() => {
                line.push('\\');
                line.push(*special);
            }
            Self::Literal(plain) => line.push(*plain),
        }
    }
}

/// Compiles rendered lines, each with whether case is ignored. What matches says by
/// [`line_index`] which line it was.
pub(super) fn build<'a>(
    lines: impl IntoIterator<Item = (&'a str, bool)>,
) -> Result<Gitignore, PatternError> {
    let unsupported = |error: ignore::Error| PatternError::Unsupported(error.to_string());
    let mut builder = GitignoreBuilder::new("");
    for (index, (line, case_insensitive)) in lines.into_iter().enumerate() {
        builder.case_insensitive(case_insensitive).map_err(unsupported)?;
        // The file a line came from is ours to fill: it carries the index.
        builder.add_line(Some(index.to_string().into()), line).map_err(unsupported)?;
    }
    builder.build().map_err(unsupported)
}

/// Compiles a pattern for single names, in which `**` is no more than `*`.
pub(super) fn name_matcher(text: &str) -> Result<Gitignore, PatternError> {
    let name = match parse_components(text)?.pop() {
        Some(Component::AnyDepth) => Component::Name(vec![Token::AnyBytes]),
        Some(name) => name,
        None => return Err(PatternError::Empty),
    };
    name.matcher(false)
}

/// Index of the line that matched.
pub(super) fn line_index(glob: &Glob) -> usize {
    let index = glob.from().and_then(|path| path.to_str()).and_then(|text| text.parse().ok());
    index.expect("every line was added with its index")
}
