//! The mirror on real directories: the cases of which other tools get some wrong, each under its
//! name, and the end of power at any moment.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod adopt;
mod busy;
mod cases;
mod crash;
mod file_systems;
mod folding;
mod guard;
mod heal;
mod insert;
mod kinds;
mod locked;
mod recorder;
mod sick;
mod texts;
mod world;
