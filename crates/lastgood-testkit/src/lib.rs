//! A simulated world for tests: contract suites, and backends that record, fail and damage.
//!
//! Only ever a dev-dependency. Nothing here asks a clock or draws a random number: what differs
//! from run to run comes in as a seed.

#![forbid(unsafe_code)]

pub mod backend_contract;
pub mod faulty;
pub mod machine;
pub mod recording;
