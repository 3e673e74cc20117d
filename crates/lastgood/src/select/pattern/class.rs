//! `[a-z]`: a set of bytes, by git's rules.

use std::iter::Peekable;
use std::str::Chars;

use super::PatternError;

/// A class of a pattern. It never matches `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    ascii: [bool; 128],
    /// Members outside ASCII. Matching is by byte, here as in git: each stands for its bytes.
    wide: Vec<char>,
}

impl Class {
    /// Takes what follows `[`, up to and with its `]`.
    pub(super) fn parse(chars: &mut Peekable<Chars<'_>>) -> Result<Self, PatternError> {
        let negated = chars.next_if(|&first| first == '!' || first == '^').is_some();
        let mut class = Self { negated, ascii: [false; 128], wide: Vec::new() };
        let mut range_start = None;
        let mut is_first = true;
        loop {
            let member = chars.next().ok_or(PatternError::UnclosedClass)?;
            if member == ']' && !is_first {
                break;
            }
            is_first = false;
            if member == '-'
                && let Some(start) = range_start.take()
                && chars.peek().is_some_and(|&next| next != ']')
            {
                let end = chars.next().ok_or(PatternError::UnclosedClass)?;
                class.add_range(start, unescape(end, chars)?)?;
            } else if member == '[' && chars.peek() == Some(&':') {
                range_start = class.add_named(chars)?;
            } else {
                let member = unescape(member, chars)?;
                class.add(member);
                range_start = Some(member);
            }
        }
        class.ascii[usize::from(b'/')] = negated;
        if !negated && class.wide.is_empty() && !class.ascii.contains(&true) {
            return Err(PatternError::EmptyClass);
        }
        Ok(class)
    }

    /// Appends the class as the `ignore` crate reads it: no escapes, `]` first, `-` last.
    pub(super) fn render(&self, line: &mut String) {
        let members = |wanted: fn(char) -> bool| {
            (0..128_u8)
                .map(char::from)
                .filter(move |&member| self.ascii[member as usize] && wanted(member))
        };
        let is_plain = |member| !matches!(member, ']' | '!' | '^' | '-');
        let is_safe_first = |member| !matches!(member, '!' | '^' | '-');
        if !self.negated && self.wide.is_empty() && members(is_safe_first).next().is_none() {
            // Nothing could stand first without turning the class into another.
            let escaped: Vec<String> = members(|_| true).map(|one| format!("\\{one}")).collect();
            line.push('{');
            line.push_str(&escaped.join(","));
            line.push('}');
            return;
        }
        line.push_str(if self.negated { "[!" } else { "[" });
        line.extend(members(|member| member == ']'));
        line.extend(&self.wide);
        line.extend(members(is_plain));
        line.extend(members(|member| member == '!' || member == '^'));
        line.extend(members(|member| member == '-'));
        line.push(']');
    }

    fn add(&mut self, member: char) {
        match u8::try_from(member) {
            Ok(byte) if byte.is_ascii() => self.ascii[usize::from(byte)] = true,
            _ => self.wide.push(member),
        }
    }

    /// An inverted range has no members, as in git.
    fn add_range(&mut self, start: char, end: char) -> Result<(), PatternError> {
        if !start.is_ascii() || !end.is_ascii() {
            return Err(PatternError::WideRange);
        }
        for member in start..=end {
            self.add(member);
        }
        Ok(())
    }

    /// Takes `:alpha:]` after its `[`. What does not end in `:]` is no name but a plain `[`, which
    /// is returned as what a range may start with.
    fn add_named(&mut self, chars: &mut Peekable<Chars<'_>>) -> Result<Option<char>, PatternError> {
        let mut ahead = chars.clone();
        ahead.next();
        let mut name = String::new();
        loop {
            match ahead.next().ok_or(PatternError::UnclosedClass)? {
                ']' => break,
                character => name.push(character),
            }
        }
        let Some(name) = name.strip_suffix(':') else {
            self.add('[');
            return Ok(Some('['));
        };
        let contains = named(name).ok_or_else(|| PatternError::UnknownClass(name.into()))?;
        for byte in (0..128_u8).filter(contains) {
            self.ascii[usize::from(byte)] = true;
        }
        *chars = ahead;
        Ok(None)
    }
}

fn unescape(member: char, chars: &mut Peekable<Chars<'_>>) -> Result<char, PatternError> {
    if member == '\\' { chars.next().ok_or(PatternError::UnclosedClass) } else { Ok(member) }
}

fn named(name: &str) -> Option<fn(&u8) -> bool> {
    Some(match name {
        "alnum" => u8::is_ascii_alphanumeric,
        "alpha" => u8::is_ascii_alphabetic,
        "blank" => |byte| matches!(byte, b' ' | b'\t'),
        "cntrl" => u8::is_ascii_control,
        "digit" => u8::is_ascii_digit,
        "graph" => u8::is_ascii_graphic,
        "lower" => u8::is_ascii_lowercase,
        "print" => |byte| matches!(byte, b' '..=b'~'),
        "punct" => u8::is_ascii_punctuation,
        "space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        "upper" => u8::is_ascii_uppercase,
        "xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
