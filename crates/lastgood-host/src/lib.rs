//! The machine: what a source holds, and how it comes back.
//!
//! Everything that knows the operating system lives in this crate, behind small modules; the rest
//! of the workspace sees only the types of `lastgood-format`. This is the Linux implementation.
//!
//! Two rules hold everywhere. Below the path a user gave, a name is only ever resolved as **one
//! component of an open directory**, and a symbolic link is never followed: neither a hostile tree
//! nor a racing process can move a read or a write elsewhere, and no path is too long. And every
//! failure names its path: see [`HostError`].
#![forbid(unsafe_code)]

mod error;
pub mod identity;
pub mod metadata;
pub mod scan;
pub mod source;
mod sys;
pub mod target;
pub mod volume;

pub use error::HostError;
