//! Whether there is room for what a run would write, before anything is written.

use lastgood_host::volume::Space;

use super::scan::Wanted;
use crate::error::MirrorError;
use crate::record::{self, Path, Present};

/// What the file system of a mirror has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free.
    pub bytes: u64,
    /// Files and directories that it can take; `None` where it has no fixed number of them.
    pub entries: Option<u64>,
    /// What each file takes is a multiple of this.
    pub block_bytes: u64,
}

impl Room {
    /// No end of it.
    pub const ENDLESS: Self = Self { bytes: u64::MAX, entries: None, block_bytes: 1 };
}

impl From<Space> for Room {
    fn from(space: Space) -> Self {
        let Space { available, entries_available, block_bytes, .. } = space;
        Self { bytes: available, entries: entries_available, block_bytes }
    }
}

/// What a run would take of it. What leaves `latest/` takes nothing, but for the directories that
/// it goes to.
#[derive(Debug, Default)]
pub(super) struct Need {
    bytes: u64,
    entries: u64,
    /// The directory of the file that went into history last.
    kept_in: Option<Path>,
}

impl Need {
    /// What the next version is to have at a path; a file to be read holds so much data.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        was: Option<&Present>,
        wanted: &Wanted,
        data: u64,
        room: Room,
    ) {
        // The manifest is written anew, twice.
        self.bytes += 2 * (path.len() as u64 + RECORD_BYTES);
        let is = match wanted {
            Wanted::Gone => None,
            Wanted::Known(is) | Wanted::Read(is) | Wanted::Check(is) => Some(&**is),
        };
        let is_file = is.is_some_and(Present::is_file);
        let is_same = is.zip(was).is_some_and(|(is, was)| is.entry.node == was.entry.node);
        if matches!(wanted, Wanted::Read(_)) && data > 0 {
            self.entry(data, room);
        } else if !is_file && is.is_some() && !is_same {
            self.entry(1, room);
        }
        let stays = is_same || matches!(wanted, Wanted::Known(_) | Wanted::Check(_));
        if was.is_some_and(Present::is_file) && !stays {
            self.keep(path, room);
        }
    }

    fn entry(&mut self, bytes: u64, room: Room) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes.next_multiple_of(room.block_bytes.max(1)));
    }

    /// The directories that a file needs in the folder of its version, each counted once: paths come
    /// in order.
    fn keep(&mut self, path: &[u8], room: Room) {
        let mut above = record::parent(path);
        while let Some(directory) = above {
            if self.kept_in.as_ref().is_some_and(|last| record::is_below(last, directory)) {
                break;
            }
            self.entry(1, room);
            above = record::parent(directory);
        }
        self.kept_in = record::parent(path).map(Path::from);
    }

    /// # Errors
    /// [`MirrorError::NoSpace`] and [`MirrorError::NoEntries`].
    pub(super) fn check(&self, room: Room) -> Result<(), MirrorError> {
        let (needed, available) = (self.bytes.saturating_add(RESERVE_BYTES), room.bytes);
        if needed > available {
            return Err(MirrorError::NoSpace { needed, available });
        }
        let needed = self.entries + RESERVE_ENTRIES;
        match room.entries {
            Some(available) if needed > available => {
                Err(MirrorError::NoEntries { needed, available })
            }
            _ => Ok(()),
        }
    }
}

/// Most records are shorter, without their paths.
const RECORD_BYTES: u64 = 256;
/// Room for texts and directories.
const RESERVE_BYTES: u64 = 16 << 20;
const RESERVE_ENTRIES: u64 = 64;
