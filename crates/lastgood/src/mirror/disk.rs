//! Whether a mirror lies on an encrypted disk: it encrypts nothing itself.

use std::path::Path;

use lastgood_host::volume;

/// Whether the disk below a directory is encrypted (dm-crypt, LUKS); `None` where that cannot be
/// said, as on a network.
#[must_use]
pub fn is_on_encrypted_disk(path: &Path) -> Option<bool> {
    let (major, minor) = volume::device(path).ok()?;
    let block = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    block.exists().then(|| is_encrypted(&block, LAYERS_MAX))
}

/// Whether a block device is one of dm-crypt, or lies on such.
fn is_encrypted(block: &Path, layers: u32) -> bool {
    let uuid = std::fs::read_to_string(block.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with("CRYPT-") {
        return true;
    }
    let below = std::fs::read_dir(block.join("slaves")).into_iter().flatten().flatten();
    layers > 0 && below.into_iter().any(|device| is_encrypted(&device.path(), layers - 1))
}

/// So many devices may lie on top of each other: partitions, RAID, LVM.
const LAYERS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn case_31_encryption_is_seen_below_other_layers() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::create_dir_all(plain.join("slaves")).unwrap();
        assert!(!is_encrypted(&plain, LAYERS_MAX));
        let crypt = plain.join("slaves/dm-1/slaves/dm-0");
        fs::create_dir_all(crypt.join("dm")).unwrap();
        fs::write(crypt.join("dm/uuid"), "LVM-of no such kind\n").unwrap();
        assert!(!is_encrypted(&plain, LAYERS_MAX));
        fs::write(crypt.join("dm/uuid"), "CRYPT-LUKS2-0123-backup\n").unwrap();
        assert!(is_encrypted(&plain, LAYERS_MAX));
        assert!(!is_encrypted(&plain, 1));
    }
}
