//! What an embedder or the command line needs to know of the host it runs on.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lastgood_host::identity::{self, Accounts};
use lastgood_host::scan::Kind;
use lastgood_host::volume;
use lastgood_repo::World;

use crate::error::{Error, ErrorKind};
use crate::select::{Facts, FileSystems, OwnContent, OwnDirectory, Probe, SelectOptions};
use crate::system::Home;

/// Name of this host.
#[must_use]
pub fn name() -> String {
    String::from_utf8_lossy(&identity::host_name()).into_owned()
}

/// What stays when the name changes: the machine id, or else a random number that is drawn once and
/// kept in the user's state folder.
///
/// # Errors
/// When that folder cannot be written.
pub fn id(home: &Home, world: &World) -> Result<[u8; 16], Error> {
    let machine_id = identity::machine_id().and_then(|text| u128::from_str_radix(&text, 16).ok());
    if let Some(id) = machine_id {
        return Ok(id.to_be_bytes());
    }
    let path = home.state.join("host-id");
    let failed = |action: &str, source: std::io::Error| {
        let message = format!("cannot {action} {}", path.display());
        Error::caused_by(ErrorKind::from(&source), message, source)
    };
    if let Ok(mut file) = File::open(&path) {
        let mut id = [0; 16];
        if file.read_exact(&mut id).is_ok() {
            return Ok(id);
        }
    }
    fs::create_dir_all(&home.state).map_err(|error| failed("create the folder of", error))?;
    let id: [u8; 16] = world.random();
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed("create", error))?;
    file.write_all(&id).and_then(|()| file.sync_all()).map_err(|error| failed("write", error))?;
    Ok(id)
}

/// Name of the user this process acts for; the number when there is no name.
#[must_use]
pub fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let accounts = Accounts::read().unwrap_or_default();
    accounts
        .user_name(uid)
        .map_or_else(|| uid.to_string(), |name| String::from_utf8_lossy(name).into_owned())
}

/// Whether both paths, or what will hold them, lie on one file system.
///
/// # Errors
/// When one cannot be examined.
pub fn same_file_system(one: &Path, other: &Path) -> Result<bool, Error> {
    Ok(volume::same_device(one, other)?)
}

/// Adds what is to be left out on this host whatever the user says: pseudo file systems, the
/// repository itself and the local cache.
pub fn add_rules(select: &mut SelectOptions, home: &Home, repository: &Path) {
    select.file_systems = file_systems();
    let own = [(repository, OwnContent::Repository), (&home.cache, OwnContent::Cache)];
    for (path, holds) in own {
        if let Ok(metadata) = fs::metadata(path) {
            let path = PathBuf::from(path);
            select.own_directories.push(OwnDirectory { path, file_id: file_id(&metadata), holds });
        }
    }
}

/// What is mounted; nothing is known where that cannot be read.
#[must_use]
pub fn file_systems() -> FileSystems {
    FileSystems::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
}

/// The live file system, for [`Selection::explain`](crate::select::Selection::explain).
#[derive(Debug, Clone, Copy, Default)]
pub struct Live;

impl Probe for Live {
    fn facts(&mut self, path: &Path) -> Option<Facts> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_socket() => Kind::Socket,
            kind if kind.is_char_device() => Kind::CharDevice,
            kind if kind.is_block_device() => Kind::BlockDevice,
            _ => Kind::File,
        };
        Some(Facts { kind, size: metadata.len(), file_id: file_id(&metadata) })
    }

    fn head(&mut self, path: &Path, bytes_max: usize) -> Option<Vec<u8>> {
        if bytes_max == 0 {
            return fs::symlink_metadata(path).ok().map(|_| Vec::new());
        }
        // Opening a pipe would wait for its writer.
        if !fs::symlink_metadata(path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(bytes_max as u64).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Device and inode as the scan has them.
fn file_id(metadata: &fs::Metadata) -> (u64, u64) {
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (u64::from(major) << 32 | u64::from(minor), metadata.ino())
}
