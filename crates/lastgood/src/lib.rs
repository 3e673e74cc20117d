//! lastgood, the library: back up, restore, verify and look at snapshots.
//!
//! Every operation is a [`Job`]: it runs on threads of its own, tells its progress, sends events,
//! can be cancelled at any moment and ends with a result. Clock, randomness and backend come in.

pub mod backup;
pub mod error;
pub mod job;
pub mod select;
pub mod system;
mod writer_state;

pub use error::{Error, ErrorKind};
pub use job::{Action, Control, Event, Item, Job, Phase, Problem, Problems, Progress, Severity};
