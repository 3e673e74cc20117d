//! A repository on a backend that fails, and that several work on at once.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod deltas;
mod gc;
mod interleaved;
mod place;
mod repair;
mod session;
mod simulated;
mod small;
