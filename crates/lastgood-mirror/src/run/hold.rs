//! A run that the guard held waits for somebody's approval, which is good for that much and once.

use super::Held;
use crate::error::MirrorError;
use crate::layout;
use crate::mirror::{Mirror, failed};
use crate::place;
use crate::text::{Reader, TextError, Writer};

/// What the last run would have done, and whether the next one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// What it would have done.
    pub held: Held,
    /// Whether somebody approved that.
    pub is_approved: bool,
}

impl Hold {
    /// Whether a run may do this, because somebody approved as much.
    pub(super) const fn covers(&self, held: &Held) -> bool {
        self.is_approved
            && held.deleted <= self.held.deleted
            && held.changed <= self.held.changed
            && (self.held.is_other_root || !held.is_other_root)
    }

    fn to_text(self) -> Vec<u8> {
        let Held { files, deleted, changed, is_other_root } = self.held;
        let mut out = Writer::new("held");
        out.line(&[
            b"held",
            files.to_string().as_bytes(),
            deleted.to_string().as_bytes(),
            changed.to_string().as_bytes(),
            word(is_other_root, "other"),
            word(self.is_approved, "approved"),
        ]);
        out.finish().0
    }

    fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let reader = Reader::open("held", bytes)?;
        let (number, fields) = reader.lines().next().ok_or(TextError::Line(3))??;
        let count = |field: &[u8]| {
            let text = std::str::from_utf8(field).ok();
            text.and_then(|text| text.parse().ok()).ok_or(TextError::Line(number))
        };
        let [_, files, deleted, changed, other, approved, ..] = fields.as_slice() else {
            return Err(TextError::Line(number));
        };
        let (files, deleted, changed) = (count(files)?, count(deleted)?, count(changed)?);
        let held = Held { files, deleted, changed, is_other_root: !other.is_empty() };
        Ok(Self { held, is_approved: !approved.is_empty() })
    }
}

impl Mirror {
    /// The run that is held, if one is.
    ///
    /// # Errors
    /// When no copy of the text can be read: then a run is held, and nobody knows which.
    pub fn hold(&self) -> Result<Option<Hold>, MirrorError> {
        let mut failure = None;
        for at in [layout::HELD.into(), layout::second(layout::HELD)] {
            match place::read(&*self.place, &at) {
                Ok(None) => {}
                Ok(Some(bytes)) => match Hold::parse(&bytes) {
                    Ok(hold) => return Ok(Some(hold)),
                    Err(source) => failure = failure.or(Some(failed(&at, source))),
                },
                Err(error) => failure = failure.or(Some(error.into())),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Lets the next run do what the held one would have done. The mirror is locked.
    ///
    /// # Errors
    /// [`MirrorError::NotHeld`].
    pub fn approve(&self) -> Result<Held, MirrorError> {
        let hold = self.hold()?.ok_or(MirrorError::NotHeld)?;
        self.set_hold(&Hold { is_approved: true, ..hold })?;
        Ok(hold.held)
    }

    pub(super) fn set_hold(&self, hold: &Hold) -> Result<(), MirrorError> {
        self.write_texts(vec![(layout::HELD.into(), hold.to_text())])
    }
}

const fn word(is_set: bool, word: &str) -> &[u8] {
    if is_set { word.as_bytes() } else { b"" }
}
