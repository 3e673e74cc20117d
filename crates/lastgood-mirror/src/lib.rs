//! A mirror: a plain copy of the newest state, and plain reverse deltas of what it was before.
//!
//! `latest/` is what a file manager shows. A folder `backup-…` beside it holds the files that a
//! version had and the next one has not, at their own paths. Everything else is text
//! ([`text`], [`record`]), in which [`delta`] looks up what a path was at any time.
//! Spec: `docs/format/mirror.md`.
#![forbid(unsafe_code)]

mod above;
pub mod content;
pub mod delta;
mod error;
mod index;
pub mod journal;
pub mod layout;
mod mirror;
pub mod place;
pub mod record;
pub mod repair;
pub mod restore;
pub mod run;
pub mod scripts;
pub mod sheet;
pub mod text;
mod texts;
pub mod thin;
pub mod verify;

pub use error::{MirrorError, Trouble, Watch};
pub use mirror::{Mirror, Subject, Version, View};
