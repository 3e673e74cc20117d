//! The backends and the layers around them, against their contract.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod campaign;
mod contract;
mod gc_model;
mod layers;
mod local;
mod power_cut;
mod retry;
mod schedule;
