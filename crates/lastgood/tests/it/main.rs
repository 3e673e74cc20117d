//! Operations on real trees, through the public API alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod bounded;
mod change;
mod collected;
mod deltas;
mod embedding;
mod faults;
mod golden;
mod interrupted;
mod lineage;
mod log;
mod moving;
mod partial;
mod place;
mod poisoned;
mod repair;
mod restore;
mod rollback;
mod rotation;
mod torture;
