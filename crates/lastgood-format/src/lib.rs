//! Every persisted byte ⇄ types. A module per chapter of `docs/format`.
//!
//! This crate does no I/O, asks no clock and draws no random numbers: what it needs of either
//! comes in as an argument.

pub mod chunker;
pub mod encoding;
pub mod entry;
pub mod group;
pub mod id;
pub mod key;
pub mod limits;
pub mod pack;
pub mod slot;
