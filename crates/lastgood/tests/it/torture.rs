//! The campaign: repositories are treated badly, by a seed, and nothing that was committed is ever
//! lost. A short slice runs with all tests; `cargo xtask torture` makes it as long as wished.

mod crash;
mod damage;
mod hostile;
mod planted;
mod world;
