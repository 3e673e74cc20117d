//! A part of the mirror is read in each run, so that all of it is read in a known time: rot is
//! found while the source still has the bytes.
//!
//! The order is that of the list of versions, and of paths in a version; `.lastgood/scrub` says how
//! far it got. That is a hint: without it the round begins anew.

use std::collections::BTreeSet;

use lastgood_format::entry::Timestamp;

use super::RunOptions;
use super::fit::Abilities;
use crate::content;
use crate::error::{MirrorError, Trouble, Watch, check, told};
use crate::layout;
use crate::mirror::{Mirror, View};
use crate::place;
use crate::record::{self, At, Path, Present};
use crate::sheet::Sheet;
use crate::text::{Reader, TextError, Writer};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// What was read of `latest/`: behind the first path, up to the second.
    read: Vec<(Option<Path>, Path)>,
    /// Files in `latest/` that are not what they should be.
    pub(super) rotted: BTreeSet<Path>,
    /// Files in `latest/` that could not be read: nothing is known of them.
    unread: BTreeSet<Path>,
    /// Files of older versions that are not, by their path below the mirror.
    pub(super) damaged: Vec<Path>,
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// How far it got, when that is news.
    reached: Option<Reached>,
}

/// How far a round got.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reached {
    /// What was due until this moment was read.
    time: Timestamp,
    /// Name of the folder of the last file that was read.
    folder: String,
    /// Its path there.
    path: Path,
}

/// Reads what is due since the last run.
pub(super) fn read(
    mirror: &Mirror,
    view: &View,
    options: &RunOptions,
    watch: &dyn Watch,
) -> Result<Slice, MirrorError> {
    let mut slice = Slice::default();
    let Some(newest) = view.versions.last() else { return Ok(slice) };
    if options.scrub_days == 0 || options.is_dry {
        return Ok(slice);
    }
    let time = newest.time.min(options.now);
    let start = Reached { time, folder: NEWEST.to_owned(), path: Path::default() };
    let known = load(mirror).filter(|known| known.time <= options.now);
    let from = known.clone().unwrap_or(start);
    let kept = view.versions.iter().map(|version| version.bytes_kept);
    let total = kept.sum::<u64>() + newest.bytes;
    let period = u64::from(options.scrub_days) * 86_400;
    let elapsed = options.now.seconds.abs_diff(from.time.seconds).min(period);
    let due = share(total, elapsed, period);
    let mut round = Round { mirror, view, watch, due, reached: from.clone(), slice: &mut slice };
    let is_all = !round.go()?;
    let mut reached = round.reached;
    // What was not read yet stays due.
    let seconds = if is_all { elapsed } else { share(period, slice.bytes, total).min(elapsed) };
    reached.time.seconds += i64::try_from(seconds).unwrap_or(i64::MAX);
    slice.reached = (known.as_ref() != Some(&reached)).then_some(reached);
    Ok(slice)
}

/// `part` of `whole`, of `all`.
fn share(all: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(all) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

impl Slice {
    /// Whether a file in `latest/`, which looks as it should, was read and is what it should be.
    pub(super) fn is_whole(&self, path: &[u8]) -> bool {
        let is_in = |(from, to): &(Option<Path>, Path)| {
            *path <= **to && from.as_ref().is_none_or(|from| *path > **from)
        };
        self.read.iter().any(is_in) && !self.rotted.contains(path) && !self.unread.contains(path)
    }

    /// Writes down how far it got.
    pub(super) fn note(&self, mirror: &Mirror) -> Result<(), MirrorError> {
        let Some(reached) = &self.reached else { return Ok(()) };
        let mut out = Writer::new("scrub");
        out.line(&[
            b"reached",
            record::time_text(reached.time).as_bytes(),
            reached.folder.as_bytes(),
            &reached.path,
        ]);
        let stage = layout::stage("scrub");
        place::write(&*mirror.place, &stage, &out.finish().0)?;
        Ok(mirror.place.rename(&stage, layout::SCRUB)?)
    }
}

fn load(mirror: &Mirror) -> Option<Reached> {
    // A hint that the disk does not give back is none.
    let bytes = place::read(&*mirror.place, layout::SCRUB).ok().flatten();
    bytes.and_then(|bytes| parse(&bytes).ok().flatten())
}

fn parse(bytes: &[u8]) -> Result<Option<Reached>, TextError> {
    let reader = Reader::open("scrub", bytes)?;
    let Some(line) = reader.lines().next() else { return Ok(None) };
    let (_, fields) = line?;
    let [_, time, folder, path, ..] = fields.as_slice() else { return Ok(None) };
    let folder = String::from_utf8(folder.clone()).ok();
    Ok(record::parse_time(time).zip(folder).map(|(time, folder)| Reached {
        time,
        folder,
        path: path.as_slice().into(),
    }))
}

struct Round<'a> {
    mirror: &'a Mirror,
    view: &'a View,
    watch: &'a dyn Watch,
    /// Bytes that may still be read.
    due: u64,
    reached: Reached,
    slice: &'a mut Slice,
}

impl Round<'_> {
    /// Reads on from where the last run got, around once at most. `false` when everything was read.
    fn go(&mut self) -> Result<bool, MirrorError> {
        let older = self.view.versions.len() - 1;
        let start = self.view.versions[..older]
            .iter()
            .position(|version| version.name == self.reached.folder)
            .unwrap_or(older);
        let begun = self.reached.path.clone();
        for step in 0..=older + 1 {
            let index = (start + step) % (older + 1);
            let is_first = step == 0;
            let is_last = step == older + 1;
            let in_turn = |path: &[u8]| match (is_first, is_last) {
                (true, _) => *path > *begun,
                (_, true) => *path <= *begun,
                _ => true,
            };
            let goes_on = if index == older {
                self.newest(&self.view.latest, &in_turn)?
            } else {
                self.older(index, &in_turn)?
            };
            if !goes_on {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn newest(
        &mut self,
        latest: &Sheet,
        in_turn: &dyn Fn(&[u8]) -> bool,
    ) -> Result<bool, MirrorError> {
        let mut before = None;
        let mut begun = None;
        for record in latest.records() {
            let (path, state) = record?;
            if !in_turn(&path) {
                before = Some(path);
                continue;
            }
            let Some(present) = state.present() else { continue };
            let shown = layout::latest(&path);
            // What does not answer here is told by the scan.
            let stat = self.mirror.place.stat(&shown).ok().flatten();
            // What somebody changed is no rot: the scan finds it.
            let is_there = present.is_file() && present.at != At::Lost;
            if !is_there || !super::shown::looks_as(present, stat.as_ref(), Abilities::default()) {
                continue;
            }
            match self.file(NEWEST, &path, &shown, present)? {
                Check::Whole => {}
                Check::Rotted => drop(self.slice.rotted.insert(path.clone())),
                Check::Unread => drop(self.slice.unread.insert(path.clone())),
                Check::NotDue => return Ok(false),
            }
            match begun {
                None => {
                    self.slice.read.push((before.take(), path));
                    begun = Some(self.slice.read.len() - 1);
                }
                Some(number) => self.slice.read[number].1 = path,
            }
        }
        Ok(true)
    }

    fn older(
        &mut self,
        index: usize,
        in_turn: &dyn Fn(&[u8]) -> bool,
    ) -> Result<bool, MirrorError> {
        let version = &self.view.versions[index];
        let delta = match self.mirror.delta(self.view, version) {
            Ok((delta, _)) => delta,
            // No run needs it, damaged or out of reach: what is newer goes on without.
            Err(
                error @ (MirrorError::Text { .. } | MirrorError::Missing(_) | MirrorError::Host(_)),
            ) => {
                let path = layout::delta(&version.name);
                // A disk that does not answer may have it all the same.
                if !matches!(error, MirrorError::Host(_)) {
                    self.slice.damaged.push(path.clone());
                }
                self.watch.trouble(Trouble { path, during: "read", message: told(&error) });
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        for record in delta.records() {
            let (path, state) = record?;
            let Some(present) = state.present().filter(|it| it.is_file()) else { continue };
            if present.at != At::Here(path.clone()) || !in_turn(&path) {
                continue;
            }
            let kept = layout::folder(&version.name, &path);
            match self.file(&version.name, &path, &kept, present)? {
                Check::Whole | Check::Unread => {}
                Check::Rotted => self.slice.damaged.push(kept),
                Check::NotDue => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether a file is what it should be. What cannot be read is told; it may be right.
    fn file(
        &mut self,
        folder: &str,
        path: &Path,
        at: &[u8],
        present: &Present,
    ) -> Result<Check, MirrorError> {
        check(self.watch)?;
        let Some(due) = self.due.checked_sub(present.size()) else { return Ok(Check::NotDue) };
        self.due = due;
        self.slice.bytes += present.size();
        self.reached.folder = folder.to_owned();
        self.reached.path.clone_from(path);
        Ok(match content::hash(&*self.mirror.place, at) {
            Ok(hash) if hash == present.hash().map(|id| *id.as_bytes()) => Check::Whole,
            Ok(_) => Check::Rotted,
            Err(error) => {
                let (path, message) = (at.into(), told(&error));
                self.watch.trouble(Trouble { path, during: "read", message });
                Check::Unread
            }
        })
    }
}

/// What became of a file that was to be read.
enum Check {
    Whole,
    Rotted,
    Unread,
    NotDue,
}

/// What the folder of the newest version is called here: its name changes with each run.
const NEWEST: &str = "latest";
