//! Where this host has made mirrors, kept in the user's state folder: one that is not where it was is
//! on a disk that is not mounted, more often than not, and another one in its place would fill the
//! disk that is. A lost folder means that nobody notices, and nothing else.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// # Errors
/// [`ErrorKind::Held`] when this host has made a mirror in `target`, where there is none now.
pub(super) fn refuse_another(state: &Path, target: &Path) -> Result<(), Error> {
    if !note(state, target).is_ok_and(|note| note.exists()) {
        return Ok(());
    }
    let message = format!(
        "the mirror that was in {} is not there; is its disk mounted? To make another one there: \
         lastgood mirror run --approve",
        target.display()
    );
    Err(Error::new(ErrorKind::Held, message))
}

/// Notes that there is a mirror in `target`.
///
/// # Errors
/// When that cannot be written.
pub(super) fn remember(state: &Path, target: &Path) -> std::io::Result<()> {
    let note = note(state, target)?;
    if note.exists() {
        return Ok(());
    }
    fs::create_dir_all(state.join(FOLDER))?;
    fs::write(note, target.as_os_str().as_bytes())
}

/// Named after the path, and holds it for whoever looks.
fn note(state: &Path, target: &Path) -> std::io::Result<PathBuf> {
    let target = std::path::absolute(target)?;
    let name = blake3::hash(target.as_os_str().as_bytes()).to_hex();
    Ok(state.join(FOLDER).join(&name[..32]))
}

const FOLDER: &str = "mirrors";
