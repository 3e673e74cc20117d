//! An entry that has metadata and no content to write.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use crate::HostError;
use crate::metadata::{self, ApplyPolicy, Handle, Metadata, Unset};
use crate::scan::Stat;
use crate::sys;

/// A link, pipe, socket or device node, held without being opened.
#[derive(Debug)]
pub struct TargetNode {
    fd: OwnedFd,
    stat: Stat,
}

impl TargetNode {
    pub(super) fn open(fd: OwnedFd, path: PathBuf) -> Result<Self, HostError> {
        let stat = sys::stat_open(fd.as_fd())
            .and_then(|raw| Stat::from_statx(&raw).ok_or(Errno::OPNOTSUPP));
        match stat {
            Ok(stat) => Ok(Self { fd, stat }),
            Err(errno) => Err(HostError::new("examine", path, errno)),
        }
    }

    /// Its metadata at the opening.
    #[must_use]
    pub const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Sets all metadata that its kind has.
    #[must_use]
    pub fn apply(&self, wanted: &Metadata<'_>, policy: ApplyPolicy) -> Vec<Unset> {
        metadata::apply(Handle::Path(self.fd.as_fd()), wanted, policy)
    }
}
