//! A repository on a backend: keys, sessions, packs, index, snapshots, check.
//!
//! This crate knows nothing of files or terminals. What it writes and in which order is in
//! `docs/format/commit.md`; what it reads is bounded, authenticated and compared with its id
//! before anybody uses it.

mod check;
mod each;
mod error;
mod footing;
mod gc;
mod history;
mod index;
mod last_seen;
mod lineage;
mod log;
mod objects;
mod pack_memory;
mod packer;
mod reader;
mod relocations;
mod repair;
mod repository;
mod reserve;
mod rounds;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod session;
mod snapshots;
mod space;
mod uncovered;
mod world;

pub use check::{CheckObserver, CheckPlan, CheckReport, ReadData, check};
pub use error::{Damage, RepoError, RepoErrorKind};
pub use gc::{
    Gc, GcObserver, GcOptions, GcPhase, GcPlan, GcReport, MaxUnused, OpenSession, PlannedRemoval,
    PlannedRepack, Reason,
};
pub use history::{Rotated, RotationPlan};
pub use index::{BlobSet, Index, IndexLocation, IndexOptions};
pub use last_seen::{LastSeen, Missing, SeenBy};
pub use lineage::{Fate, Lineage, Run, StoredCopy, path_of};
pub use log::{Deed, Log};
pub use packer::{BlobWriter, Settings, Tally};
pub use reader::{BlobPlace, BlobReader, GroupBuffers, ListCursor, Loaded, PackReader};
pub use repair::{
    Affected, INCOMPLETE_SUFFIX, LostBlobs, Recovered, Recovery, RepairPlan, RepairReport,
    Replacing, RepositoryCopy, repair,
};
pub use repository::{InitOptions, KeySlotInfo, OpenOptions, Repository};
#[cfg(feature = "seeded-bugs")]
pub use seeded::SeededBug;
pub use session::{Stored, WriteSession};
pub use snapshots::{RetireReport, SnapshotRecord, Snapshots};
pub use space::{Proceed, SnapshotSpace, Space, freed_by_forgetting, space};
pub use world::{Clock, Random, World};

pub use lastgood_backend as backend;
pub use lastgood_format as format;
