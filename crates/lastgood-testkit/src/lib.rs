//! A simulated world for tests: contract suites, backends that record, fail and damage, and the
//! protocol as a model.
//!
//! Only ever a dev-dependency. Nothing here asks a clock or draws a random number: what differs
//! from run to run comes in as a seed.

#![forbid(unsafe_code)]

pub mod backend_contract;
pub mod campaign;
pub mod chance;
pub mod disk;
pub mod explore;
pub mod faulty;
pub mod gc_model;
pub mod machine;
pub mod network;
pub mod recording;
pub mod schedule;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod tracer;
