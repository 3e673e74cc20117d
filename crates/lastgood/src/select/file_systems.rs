//! What is mounted, and which of it has no files worth keeping.

use std::collections::HashMap;

use super::Reason;

/// The pseudo file systems among what is mounted, by device.
#[derive(Debug, Clone, Default)]
pub struct FileSystems {
    pseudo: HashMap<u64, Reason>,
}

impl FileSystems {
    /// Takes the content of `/proc/self/mountinfo`. Lines that are not understood are passed over:
    /// what they tell of is then backed up like anything else.
    #[must_use]
    pub fn parse(mountinfo: &[u8]) -> Self {
        let lines = mountinfo.split(|&byte| byte == b'\n');
        Self { pseudo: lines.filter_map(parse_line).collect() }
    }

    /// Why the content of this device is left out, if it is.
    pub(super) fn pseudo(&self, device: u64) -> Option<&Reason> {
        self.pseudo.get(&device)
    }
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELD…] - TYPE SOURCE OPTIONS`; blanks in a
/// field are escaped.
fn parse_line(line: &[u8]) -> Option<(u64, Reason)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(' ');
    let (major, minor) = fields.nth(2)?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    fields.find(|&field| field == "-")?;
    let found = fields.next()?;
    let fs_type = PSEUDO.iter().find(|&&pseudo| pseudo == found)?;
    let device = u64::from(major) << 32 | u64::from(minor);
    Some((device, Reason::PseudoFileSystem { fs_type }))
}

/// Views of the running system: nothing in them was stored by anyone, and reading some never ends.
const PSEUDO: &[&str] = &[
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];
