//! What each text of a mirror says, as lines. Spec: `docs/format/mirror.md`, section 3.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use lastgood_format::entry::Timestamp;

use crate::mirror::{Subject, Version};
use crate::record::{self, Path, State};
use crate::text::{Reader, Seal, TextError, Writer};

impl Subject {
    /// As text.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Writer::new("mirror");
        out.line(&[b"source", self.source.as_os_str().as_bytes()]);
        out.line(&[b"root", self.root.to_string().as_bytes()]);
        out.finish().0
    }

    /// From text.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let mut subject = Self { source: PathBuf::new(), root: 0 };
        for line in Reader::open("mirror", bytes)?.lines() {
            let (number, fields) = line?;
            let bad = TextError::Line(number);
            match fields.as_slice() {
                [word, path, ..] if word == b"source" => {
                    subject.source = std::ffi::OsString::from_vec(path.clone()).into();
                }
                [word, inode, ..] if word == b"root" => {
                    let text = std::str::from_utf8(inode).map_err(|_| bad.clone())?;
                    subject.root = text.parse().map_err(|_| bad)?;
                }
                _ => return Err(bad),
            }
        }
        Ok(subject)
    }
}

/// The list of versions as text.
#[must_use]
pub(crate) fn versions_text(versions: &[Version]) -> Vec<u8> {
    let mut out = Writer::new("versions");
    for version in versions {
        out.line(&[
            b"version",
            version.name.as_bytes(),
            record::time_text(version.time).as_bytes(),
            version.seal.to_string().as_bytes(),
            version.files.to_string().as_bytes(),
            version.bytes.to_string().as_bytes(),
            version.kept.to_string().as_bytes(),
            version.bytes_kept.to_string().as_bytes(),
        ]);
    }
    out.finish().0
}

/// The list of versions.
pub(crate) fn parse_versions(bytes: &[u8]) -> Result<Vec<Version>, TextError> {
    let reader = Reader::open("versions", bytes)?;
    let versions = reader.lines().map(|line| {
        let (number, fields) = line?;
        version_of(&fields).ok_or(TextError::Line(number))
    });
    let versions: Vec<Version> = versions.collect::<Result<_, _>>()?;
    match versions.is_sorted_by(|one, other| one.time < other.time) {
        true => Ok(versions),
        false => Err(TextError::Line(3)),
    }
}

fn version_of(fields: &[Vec<u8>]) -> Option<Version> {
    let [word, name, time, seal, files, bytes, kept, bytes_kept, ..] = fields else { return None };
    let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
    let number = |field: &[u8]| text(field)?.parse().ok();
    let name = text(name).filter(|name| name.starts_with("backup-") && !name.contains('/'))?;
    (word == b"version").then_some(Version {
        name,
        time: record::parse_time(time)?,
        seal: text(seal)?.parse().ok()?,
        files: number(files)?,
        bytes: number(bytes)?,
        kept: number(kept)?,
        bytes_kept: number(bytes_kept)?,
    })
}

/// What a delta says beside its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Seal of the next older delta when this one was written.
    pub(crate) before: Option<Seal>,
    /// Seals of the deltas that it took the place of.
    pub(crate) replaces: Vec<Seal>,
}

impl Head {
    /// Takes a line before the records; whether it is one, and `None` when it makes no sense.
    pub(crate) fn take(&mut self, line: &[u8]) -> Option<bool> {
        let is_ours = [&b"version\t"[..], b"before\t", b"replaces\t"];
        if !is_ours.iter().any(|word| line.starts_with(word)) {
            return Some(false);
        }
        let seal = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<Seal>().ok();
        match crate::text::fields(line)?.as_slice() {
            [word, ..] if word == b"version" => {}
            [word, none, ..] if word == b"before" && none.is_empty() => {}
            [word, found, ..] if word == b"before" => self.before = Some(seal(found)?),
            [_, found, ..] => self.replaces.push(seal(found)?),
            _ => return None,
        }
        Some(true)
    }

    /// The lines before the records.
    pub(crate) fn lines(&self, kind: &str, name: &str, time: Timestamp) -> Vec<Vec<Vec<u8>>> {
        let of = |seal: &Seal| seal.to_string().into_bytes();
        let mut lines = vec![vec![
            b"version".to_vec(),
            name.as_bytes().to_vec(),
            record::time_text(time).into_bytes(),
        ]];
        if kind == "delta" {
            let before = self.before.as_ref().map(of).unwrap_or_default();
            lines.push(vec![b"before".to_vec(), before]);
        }
        lines.extend(self.replaces.iter().map(|seal| vec![b"replaces".to_vec(), of(seal)]));
        lines
    }
}

/// A delta as text.
pub(crate) fn records_text<'a>(
    kind: &str,
    name: &str,
    time: Timestamp,
    head: &Head,
    records: impl Iterator<Item = (&'a Path, State)>,
) -> (Vec<u8>, Seal) {
    let mut out = Writer::new(kind);
    for line in head.lines(kind, name, time) {
        out.line(&line.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    for (path, state) in records {
        record::write(&[], path, &state, &mut out);
    }
    out.finish()
}
