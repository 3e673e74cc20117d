//! Who this host is to a repository: a random name for each writer, kept in the user's state
//! folder. A run holds its name by a file lock, so two runs at once are two writers and their
//! chains never fork. A lost folder means a new name and nothing else.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lastgood_repo::Repository;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};

/// A writer name that this process holds until it is dropped.
#[derive(Debug)]
pub(crate) struct WriterState {
    name: [u8; 16],
    _lock: File,
}

impl WriterState {
    /// Takes the first name that no other process holds, or makes a new one.
    pub(crate) fn claim(state: &Path, repo: &Repository) -> Result<Self, Error> {
        let folder = state.join(repo.config().repository.to_string());
        fs::create_dir_all(&folder).map_err(|error| failed("create", &folder, error))?;
        for number in 0.. {
            let path = folder.join(format!("writer-{number}"));
            if let Some(writer) = Self::try_claim(&path, repo)? {
                return Ok(writer);
            }
        }
        Err(Error::new(ErrorKind::Bug, "there are more writers than numbers"))
    }

    fn try_claim(path: &Path, repo: &Repository) -> Result<Option<Self>, Error> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed("open", path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // Where nothing can be locked, no number would do.
            Err(error) => return Err(failed("lock", path, error.into())),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed("read", path, error))?;
        let name = match <[u8; 16]>::try_from(bytes.as_slice()) {
            Ok(name) => name,
            Err(_) => {
                // New, or cut short by a crash before its first use.
                let name = repo.world().random();
                rustix::fs::ftruncate(&file, 0)
                    .map_err(|error| failed("write", path, error.into()))?;
                rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))
                    .map_err(|error| failed("write", path, error.into()))?;
                file.write_all(&name).map_err(|error| failed("write", path, error))?;
                name
            }
        };
        Ok(Some(Self { name, _lock: file }))
    }

    /// The name, 16 random bytes.
    pub(crate) const fn name(&self) -> &[u8; 16] {
        &self.name
    }
}

fn failed(action: &str, path: &Path, source: std::io::Error) -> Error {
    let kind = ErrorKind::from(&source);
    Error::caused_by(kind, format!("cannot {action} {}", PathBuf::from(path).display()), source)
}
