//! Every persisted byte ⇄ types. A module per chapter of `docs/format`.
//!
//! This crate does no I/O, asks no clock and draws no random numbers: what it needs of either
//! comes in as an argument.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::big_endian_bytes,
        clippy::host_endian_bytes
    )
)]

pub mod chunker;
pub mod config;
pub mod delta;
pub mod encoding;
pub mod entry;
pub mod gc;
pub mod group;
pub mod guard;
pub mod hints;
pub mod id;
pub mod index;
pub mod key;
pub mod limits;
pub mod links;
pub mod log;
pub mod memory;
pub mod object;
pub mod pack;
pub mod packset;
pub mod page;
pub mod parity;
pub mod recipe;
pub mod revision;
#[cfg(feature = "seeded-bugs")]
pub mod seeded;
pub mod session;
pub mod slot;
pub mod snapshot;
pub mod trace;
pub mod tree;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod vectors;
