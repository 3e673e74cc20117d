//! Who we are, and who owns what.

use std::collections::HashMap;
use std::path::Path;

use rustix::process::geteuid;
use rustix::system::uname;

use crate::HostError;

#[cfg(test)]
mod tests;

/// Names of users and groups, as `/etc/passwd` and `/etc/group` have them.
///
/// Read once. The name service switch is not asked: a static program cannot load its modules, and
/// a lookup over the network per owner is no part of a scan. Accounts known only to a directory
/// service therefore have no name here and are kept by number.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Names,
    groups: Names,
}

#[derive(Debug, Clone, Default)]
struct Names {
    by_id: HashMap<u32, Box<[u8]>>,
    by_name: HashMap<Box<[u8]>, u32>,
}

impl Accounts {
    /// Reads the files of this host. A missing one has no names.
    ///
    /// # Errors
    /// When one is there and cannot be read.
    pub fn read() -> Result<Self, HostError> {
        Ok(Self::parse(
            &read_if_there(Path::new("/etc/passwd"))?,
            &read_if_there(Path::new("/etc/group"))?,
        ))
    }

    /// Takes the content of the two files; lines that are not understood are passed over. Where a
    /// number or a name appears twice, the first line counts, as it does for the system.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Names::parse(passwd), groups: Names::parse(group) }
    }

    /// Name of a user.
    #[must_use]
    pub fn user_name(&self, uid: u32) -> Option<&[u8]> {
        self.users.by_id.get(&uid).map(|name| &**name)
    }

    /// Name of a group.
    #[must_use]
    pub fn group_name(&self, gid: u32) -> Option<&[u8]> {
        self.groups.by_id.get(&gid).map(|name| &**name)
    }

    /// Number of the user of this name.
    #[must_use]
    pub fn user_id(&self, name: &[u8]) -> Option<u32> {
        self.users.by_name.get(name).copied()
    }

    /// Number of the group of this name.
    #[must_use]
    pub fn group_id(&self, name: &[u8]) -> Option<u32> {
        self.groups.by_name.get(name).copied()
    }
}

impl Names {
    /// Lines of `name:password:number:…`.
    fn parse(file: &[u8]) -> Self {
        let mut names = Self::default();
        for line in file.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
            if let Some(id) = id
                && !name.is_empty()
                && !matches!(name[0], b'#' | b'+' | b'-')
            {
                names.by_id.entry(id).or_insert_with(|| name.into());
                names.by_name.entry(name.into()).or_insert(id);
            }
        }
        names
    }
}

/// Name of this host.
#[must_use]
pub fn host_name() -> Vec<u8> {
    uname().nodename().to_bytes().to_vec()
}

/// What stays the same for this installation when its name changes: `/etc/machine-id`, where there
/// is one.
#[must_use]
pub fn machine_id() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Whether the process runs as root, so that owners, devices and `trusted.*` can be expected to
/// work. In a container root may still be refused.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

fn read_if_there(path: &Path) -> Result<Vec<u8>, HostError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| HostError { action: "read", path: path.into(), source }),
    }
}
