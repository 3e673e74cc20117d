//! A repository on a backend that fails.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod place;
mod repair;
mod session;
