//! Files of the newest version whose bytes leave their path: they may have gone elsewhere.

use std::collections::BTreeMap;

use super::shown::Spoiled;
use super::staged::How;
use crate::content::Copied;
use crate::error::MirrorError;
use crate::index::Index;
use crate::record::{At, Path, Present, State};
use crate::sheet::{Sheet, WORDS};

/// Where they are, in as few bytes as that takes.
pub(super) struct Gone<'a> {
    old: &'a Sheet,
    known: &'a Sheet,
    /// By what is to be seen of a file.
    seen: Index,
    /// Lines of `known`, by size and hash.
    by_hash: Index,
    /// Which of them moved.
    taken: Vec<bool>,
}

impl<'a> Gone<'a> {
    pub(super) fn new(
        old: &'a Sheet,
        known: &'a Sheet,
        spoiled: &BTreeMap<Path, Spoiled>,
    ) -> Result<Self, MirrorError> {
        let (mut seen, mut by_hash) = (Index::default(), Index::default());
        let mut before = old.lines();
        for line in known.lines() {
            let line = line?;
            let Some(found) = before.reach(&line.path)? else { continue };
            let State::Present(was) = old.state(&found)? else { continue };
            let stays = match known.record(&line, WORDS)? {
                State::Present(is) => {
                    !matches!(How::parse(known, &line)?, How::Read)
                        && is.entry.node == was.entry.node
                }
                State::Absent => false,
            };
            let is_there = was.is_file() && was.size() > 0 && was.at != At::Lost;
            if !is_there || stays || spoiled.contains_key(&line.path) {
                continue;
            }
            if was.hint.inode != 0 {
                seen.add(look(&was), line.start);
            }
            by_hash.add((was.size(), hash(&was)), line.start);
        }
        let (seen, by_hash) = (seen.sort(), by_hash.sort());
        Ok(Self { old, known, seen, taken: vec![false; by_hash.len()], by_hash })
    }

    /// Whether a file looks like one of them.
    pub(super) fn is_likely(&self, seen: &Present) -> bool {
        self.seen.find(look(seen)).next().is_some()
    }

    /// Takes a file that had these bytes.
    pub(super) fn take(&mut self, copied: &Copied) -> Result<Option<(Path, Present)>, MirrorError> {
        for (number, start) in self.by_hash.find((copied.size, copied.hash)).rev() {
            if self.taken[number] {
                continue;
            }
            let Some(path) = self.known.path_at(start)? else { continue };
            if let Some(was) = self.old.present(&path)?
                && was.size() == copied.size
                && hash(&was) == copied.hash
            {
                self.taken[number] = true;
                return Ok(Some((path, was)));
            }
        }
        Ok(None)
    }
}

/// What is to be seen of a file that only moved.
fn look(present: &Present) -> (u64, u64, u64, i64, u32) {
    let (hint, time) = (&present.hint, present.entry.mtime);
    (hint.device, hint.inode, present.size(), time.seconds, time.nanos)
}

fn hash(present: &Present) -> [u8; 32] {
    present.hash().map(|id| *id.as_bytes()).unwrap_or_default()
}
