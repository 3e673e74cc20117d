//! Files that somebody else reads: what the mirror needs of them is taken on the way, so that the
//! source is read once for both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lastgood_host::HostError;
use lastgood_host::metadata::Details;
use lastgood_host::scan::Stat;
use lastgood_host::source::SourceFile;

use super::gone::Gone;
use super::scan::{self, Found, Wanted};
use super::stage;
use crate::content::Copying;
use crate::error::MirrorError;
use crate::index::Index;
use crate::layout;
use crate::mirror::Mirror;
use crate::record::{self, At, Path, Present, State};
use crate::sheet::{Sheet, SheetWriter, WORDS};

/// What a run wants of the source, while others read. Threads may share it.
pub struct Intake<'a> {
    mirror: &'a Mirror,
    old: &'a Sheet,
    found: &'a Found,
    gone: Gone<'a>,
    count: AtomicU64,
    taken: Mutex<Notes<'a>>,
}

/// What was taken so far.
struct Notes<'a> {
    out: SheetWriter<'a>,
    index: Index,
    files: u64,
    bytes: u64,
    /// Nothing more is noted when that has failed.
    failure: Option<MirrorError>,
}

/// What was taken.
#[derive(Debug, Default)]
pub struct Taken {
    sheet: Sheet,
    /// Lines of the sheet, by [`key`].
    index: Index,
    /// Files that were taken.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A file that is being read. Dropped, it was not.
pub struct Taking<'t, 'a> {
    intake: &'t Intake<'a>,
    path: Path,
    stat: Stat,
    copying: Copying,
    /// Where its bytes are written; `None` when they are only hashed.
    stage: Option<Path>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        mirror: &'a Mirror,
        old: &'a Sheet,
        found: &'a Found,
    ) -> Result<Self, MirrorError> {
        let out = SheetWriter::new(&*mirror.place, layout::stage("taken"), "staged", WORDS);
        let notes = Notes { out, index: Index::default(), files: 0, bytes: 0, failure: None };
        Ok(Self {
            mirror,
            old,
            found,
            gone: Gone::new(old, &found.wanted, &found.spoiled)?,
            count: AtomicU64::new(0),
            taken: Mutex::new(notes),
        })
    }

    /// Somebody is about to read a file of the source, by its path below that; `None` when the
    /// mirror has no use for it, or cannot take it. Then it reads for itself.
    pub fn open(&self, path: &[u8], file: &SourceFile) -> Option<Taking<'_, 'a>> {
        self.try_open(path, file).ok().flatten()
    }

    fn try_open(
        &self,
        path: &[u8],
        file: &SourceFile,
    ) -> Result<Option<Taking<'_, 'a>>, MirrorError> {
        let wanted = &self.found.wanted;
        let Some(line) = wanted.line(path)? else { return Ok(None) };
        let was = self.old.present(path)?;
        let is_kept = match Wanted::parse(wanted, &line)? {
            Wanted::Gone | Wanted::Known(_) => return Ok(None),
            Wanted::Check(_) => false,
            Wanted::Read(seen) => match &was {
                Some(was) if was.is_file() => {
                    let is_spoiled = self.found.spoiled.contains_key(path);
                    !scan::seems_same(Some(was), is_spoiled, &seen)
                }
                _ => !self.gone.is_likely(&seen),
            },
        };
        let mut taking = Taking {
            intake: self,
            path: path.into(),
            stat: *file.stat(),
            copying: Copying::new(None, None),
            stage: None,
        };
        if is_kept {
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            let at = layout::stage(&format!("taken-{number}"));
            let target = self.mirror.place.create(&at)?;
            taking.stage = Some(at);
            let base = stage::shared(self.mirror, path, was.as_ref(), file.stat(), &target)?;
            taking.copying = Copying::new(Some(target), base);
        }
        Ok(Some(taking))
    }

    fn note(&self, present: Present, at: &[u8]) {
        let mut notes = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.failure.is_none()
            && let Err(error) = notes.add(present, at)
        {
            notes.failure = Some(error);
        }
    }

    /// Nobody reads any more.
    ///
    /// # Errors
    /// When what was taken could not be written down.
    pub fn finish(self) -> Result<Taken, MirrorError> {
        let notes = self.taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        match notes.failure {
            Some(error) => Err(error),
            None => Ok(Taken {
                sheet: notes.out.finish()?,
                index: notes.index.sort(),
                files: notes.files,
                bytes: notes.bytes,
            }),
        }
    }
}

impl Notes<'_> {
    fn add(&mut self, present: Present, at: &[u8]) -> Result<(), MirrorError> {
        let At::Here(path) = &present.at else { return Ok(()) };
        let path = path.clone();
        let start = self.out.len();
        self.index.add(key(&path, None), start);
        if present.link.is_some() {
            self.index.add(key(&path, present.link), start);
        }
        (self.files, self.bytes) = (self.files + 1, self.bytes + present.size());
        self.out.record(&[scan::READ, at], &path, &State::Present(Box::new(present)))
    }
}

impl Taking<'_, '_> {
    /// These bytes of it were read, and those between them and the ones before are a hole; `false`
    /// when the mirror cannot use them, and has to read for itself.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn bytes(&mut self, bytes: &[u8], at: u64) -> Result<bool, HostError> {
        self.copying.bytes(bytes, at)
    }

    /// All of it was read, and it was left alone meanwhile.
    pub fn finish(mut self, details: &Details) {
        let copying = std::mem::replace(&mut self.copying, Copying::new(None, None));
        // Whoever reads it next tells what could not be read of it.
        let Ok(copied) = copying.finish(self.stat.size) else { return };
        if !details.unread.is_empty() {
            return;
        }
        let node = record::content(copied.size, copied.hash);
        let (flags, xattrs) = (details.flags, details.xattrs.clone());
        let details = Details { flags, xattrs, unread: Vec::new() };
        let entry = self.stat.entry(record::name(&self.path), node, details);
        let present = Present {
            entry,
            at: At::Here(self.path.clone()),
            link: scan::link(&self.stat),
            hint: self.intake.found.hint(&self.stat),
        };
        self.intake.note(present, self.stage.take().as_deref().unwrap_or_default());
    }
}

impl Drop for Taking<'_, '_> {
    fn drop(&mut self) {
        if let Some(stage) = &self.stage {
            // The stage is emptied in any case; this only frees the space sooner.
            drop(self.intake.mirror.place.remove(stage));
        }
    }
}

impl Taken {
    /// What was read of a file, under this name or another one, and where its bytes are, unless they
    /// were only hashed.
    pub(super) fn get(
        &self,
        path: &[u8],
        link: Option<(u64, u64)>,
    ) -> Result<Option<(Present, Option<Path>)>, MirrorError> {
        let by_link = link.map(|_| key(path, link));
        for key in std::iter::once(key(path, None)).chain(by_link) {
            for (_, start) in self.index.find(key) {
                let Some(line) = self.sheet.whole_line_at(start)? else { continue };
                let is_it = *line.path == *path;
                let State::Present(present) = self.sheet.record(&line, WORDS)? else { continue };
                if is_it || (link.is_some() && present.link == link) {
                    let at = self.sheet.word(&line, 1)?;
                    return Ok(Some((*present, (!at.is_empty()).then_some(at))));
                }
            }
        }
        Ok(None)
    }

    /// Whether a path was taken.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.get(path, None).is_ok_and(|found| found.is_some())
    }
}

/// What a file is found by: its path, or what all its names share.
fn key(path: &[u8], link: Option<(u64, u64)>) -> (Option<&[u8]>, Option<(u64, u64)>) {
    (link.is_none().then_some(path), link)
}
