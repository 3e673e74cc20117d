//! What each text of a mirror says, as lines. Spec: `docs/format/mirror.md`, section 3.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use lastgood_format::entry::Timestamp;

use crate::delta::{Delta, Manifest};
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

/// The manifest of the newest version as text.
pub(crate) fn manifest_text(version: &Version, latest: &Manifest) -> (Vec<u8>, Seal) {
    let records =
        latest.iter().map(|(path, present)| (path, State::Present(Box::new(present.clone()))));
    records_text("latest", &version.name, version.time, &Head::default(), records)
}

/// A manifest or a delta as text.
pub(crate) fn records_text<'a>(
    kind: &str,
    name: &str,
    time: Timestamp,
    head: &Head,
    records: impl Iterator<Item = (&'a Path, State)>,
) -> (Vec<u8>, Seal) {
    let mut out = Writer::new(kind);
    out.line(&[b"version", name.as_bytes(), record::time_text(time).as_bytes()]);
    if kind == "delta" {
        let before = head.before.map(|seal| seal.to_string()).unwrap_or_default();
        out.line(&[b"before", before.as_bytes()]);
    }
    for seal in &head.replaces {
        out.line(&[b"replaces", seal.to_string().as_bytes()]);
    }
    for (path, state) in records {
        record::write(path, &state, &mut out);
    }
    out.finish()
}

/// Seal, records and the rest of a manifest or a delta.
pub(crate) fn parse_records(
    kind: &'static str,
    bytes: &[u8],
) -> Result<(Seal, Delta, Head), TextError> {
    let reader = Reader::open(kind, bytes)?;
    let mut records = Delta::new();
    let mut head = Head::default();
    for line in reader.lines() {
        let (number, fields) = line?;
        let bad = || TextError::Line(number);
        let seal = |field: &[u8]| {
            let text = std::str::from_utf8(field).map_err(|_| bad())?;
            text.parse::<Seal>().map_err(|()| bad())
        };
        match fields.as_slice() {
            [word, ..] if word == b"version" => {}
            [word, none, ..] if word == b"before" && none.is_empty() => {}
            [word, found, ..] if word == b"before" => head.before = Some(seal(found)?),
            [word, found, ..] if word == b"replaces" => head.replaces.push(seal(found)?),
            fields => {
                let (path, state) = record::parse(fields).ok_or_else(bad)?;
                // Paths ascend, so that none is there twice.
                if records.last_key_value().is_some_and(|(last, _)| *last >= path) {
                    return Err(bad());
                }
                records.insert(path, state);
            }
        }
    }
    Ok((reader.seal(), records, head))
}
