//! lastgood, the library: back up, restore, verify and look at snapshots.
//!
//! Every operation is a [`Job`]: it runs on threads of its own, tells its progress, sends events,
//! can be cancelled at any moment and ends with a result. Clock, randomness and backend come in.

pub mod backup;
pub mod browse;
pub mod check;
pub mod diff;
pub mod error;
pub mod forget;
pub mod gc;
pub mod job;
pub mod keys;
pub mod lineage;
pub mod log;
pub mod mirror;
pub mod opening;
mod pages;
pub mod repair;
pub mod restore;
pub mod select;
pub mod snapshots;
pub mod system;
pub mod this_host;
pub mod trace;
pub mod undelete;
pub mod verify;
pub mod view;
mod writer_state;

pub use error::{Error, ErrorKind};
pub use job::{Action, Control, Event, Item, Job, Phase, Problem, Problems, Progress, Severity};
pub use lastgood_host::scan::Kind;
pub use lastgood_repo::format::chunker::ChunkerParams;
pub use lastgood_repo::format::entry::{Entry, Marks, Node, Timestamp};
pub use lastgood_repo::format::id::ObjectId;
pub use lastgood_repo::format::parity::ParityShare;
pub use lastgood_repo::format::slot::{Credential, SlotKind, WorkFactors, parse_recovery_code};
pub use lastgood_repo::format::snapshot::{Snapshot, SnapshotFlags};
pub use lastgood_repo::{KeySlotInfo, Repository, Settings, SnapshotRecord, World};
pub use system::Home;
