//! Promises that a mistake of one line would break; with the feature `seeded-bugs`, each such
//! mistake is made, and must show.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood::backup::{BackupOptions, Stream, StreamFrom};
use lastgood::restore::RestoreOptions;
use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_format::object::name;
use lastgood_format::pack::{mend, open_whole};

use super::world::{Source, create};
use crate::place::noise;

type Verdict = Result<(), String>;

/// A repository of a few backups, as objects, and opened.
fn stocked() -> (Arc<lastgood::Repository>, Objects, Source) {
    let source = Source::new(11);
    let memory = MemoryBackend::new();
    let repo = create(Arc::new(memory.clone()), 5).unwrap();
    for _ in 0..3 {
        source.change();
        source.backup(&repo).unwrap();
    }
    (repo, memory.objects(), source)
}

fn packs(objects: &Objects) -> impl Iterator<Item = (&str, &[u8])> {
    let all = objects.iter().map(|(name, bytes)| (name.as_str(), &**bytes));
    all.filter(|(name, _)| name.starts_with(name::PACKS))
}

/// No two groups of a session and class are sealed with the same salt, of which their key and
/// nonces are made.
fn no_key_seals_twice() -> Verdict {
    let (repo, objects, _source) = stocked();
    let mut sealed = BTreeMap::new();
    let mut groups = 0;
    for (name, bytes) in packs(&objects) {
        let opened = open_whole(repo.keys(), bytes).map_err(|error| format!("{error:?}"))?;
        let (session, class) = (opened.header.session, opened.header.class as u8);
        for group in &opened.directory.groups {
            groups += 1;
            if let Some(other) = sealed.insert((session, class, group.salt.0), name) {
                return Err(format!("{other} and {name} hold groups of one key and nonce"));
            }
        }
    }
    assert!(groups > 3, "{groups} groups are too few to tell");
    Ok(())
}

/// Every frame of every pack can be made anew from the others.
fn every_frame_is_mended() -> Verdict {
    let (_repo, objects, _source) = stocked();
    let mut spots = 0;
    for (name, bytes) in packs(&objects) {
        let id = name.rsplit('/').next().and_then(|id| id.parse().ok()).ok_or("no id")?;
        for at in (0..bytes.len()).step_by(400) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            spots += 1;
            match mend(&damaged, id) {
                Ok(mended) if mended.bytes == bytes => {}
                Ok(_) => return Err(format!("{name} at {at}: mended to something else")),
                Err(error) => return Err(format!("{name} at {at}: {error}")),
            }
        }
    }
    assert!(spots > 50, "{spots} spots are too few to tell");
    Ok(())
}

/// Gives at most so many bytes at once, as a pipe does.
struct Trickle {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(1000).min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// A stream that comes in pieces is stored to its end.
fn a_stream_in_pieces_is_whole() -> Verdict {
    let source = Source::new(3);
    let repo = create(Arc::new(MemoryBackend::new()), 9).unwrap();
    let bytes = noise(17, 50_000);
    let reader = Box::new(Trickle { bytes: bytes.clone(), at: 0 });
    let stream = Stream { path: PathBuf::from("piped"), from: StreamFrom::Reader(reader) };
    let options = BackupOptions { stream: Some(stream), sources: Vec::new(), ..source.options() };
    let record = source.backup_with(&repo, options).map_err(|error| format!("{error:?}"))?;
    let target = source.beside("target");
    let options =
        RestoreOptions { host_id: [7; 16], ..RestoreOptions::new(record, target.clone()) };
    lastgood::restore::start(repo, options).wait(drop).map_err(|error| format!("{error:?}"))?;
    let found = std::fs::read(target.join("piped")).map_err(|error| error.to_string())?;
    if found == bytes {
        return Ok(());
    }
    Err(format!("{} of {} bytes of a stream were stored", found.len(), bytes.len()))
}

#[test]
fn no_group_shares_its_key() {
    no_key_seals_twice().unwrap();
}

#[test]
fn no_frame_is_outside_of_the_parity() {
    every_frame_is_mended().unwrap();
}

#[test]
fn pieces_of_a_stream_are_no_end() {
    a_stream_in_pieces_is_whole().unwrap();
}

/// Each mistake breaks its promise. Only with the feature `seeded-bugs`, and alone in its process.
#[cfg(feature = "seeded-bugs")]
#[test]
fn mistakes_of_one_line_are_seen() {
    use lastgood_format::seeded::{Mistake, plant};

    let cases: [(Mistake, fn() -> Verdict); 4] = [
        (Mistake::NonceReused, no_key_seals_twice),
        (Mistake::StripeMissized, every_frame_is_mended),
        (Mistake::LinkFollowed, || super::hostile::swapped(0..1000).map(drop)),
        (Mistake::ShortReadTrusted, a_stream_in_pieces_is_whole),
    ];
    let mut missed = Vec::new();
    for (mistake, promise) in cases {
        plant(Some(mistake));
        let verdict = promise();
        plant(None);
        let seen = verdict.err();
        lastgood_testkit::campaign::tell(&format!(
            "seeded bug {mistake:?}: {}",
            seen.as_deref().unwrap_or("MISSED")
        ));
        if seen.is_none() {
            missed.push(mistake);
        }
    }
    assert!(missed.is_empty(), "not seen: {missed:?}");
}
