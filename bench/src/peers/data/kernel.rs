//! The source of the Linux kernel, and the same some releases of its stable branch later.
//!
//! That is what a source tree that people keep goes through: `git pull` and package updates write
//! the files that differ, and leave the others as they are.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::Maker;
use crate::peers::install::{Installed, Suite, succeed};

const PACKAGE: &str = "linux-source-6.1";

pub(super) fn make(maker: &Maker) -> anyhow::Result<String> {
    let (oldest, newest) = versions(maker.installed)?;
    for (version, tree) in [(&oldest, &maker.earlier), (&newest, &maker.later)] {
        extract(maker, version, tree)?;
    }
    let part = if maker.is_quick { QUICK_PARTS.join(", ") + " of " } else { String::new() };
    Ok(format!(
        "{part}Debian's {PACKAGE} {oldest}, and then {newest}: files that differ are replaced"
    ))
}

/// The tree of a version.
pub(super) fn extract(maker: &Maker, version: &str, tree: &Path) -> anyhow::Result<()> {
    let package = maker.installed.download(&Suite::Host, &format!("{PACKAGE}={version}"))?;
    let unpacked = maker.work.join("package");
    succeed(Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
    std::fs::create_dir_all(tree)?;
    let archive = unpacked.join(format!("usr/src/{PACKAGE}.tar.xz"));
    let mut command = Command::new("tar");
    command.args(["--extract", "--no-same-owner", "--strip-components=1"]);
    command.arg("--directory").arg(tree).arg("--file").arg(archive).env("XZ_OPT", "--threads=0");
    if maker.is_quick {
        command.args(QUICK_PARTS.map(|part| format!("{PACKAGE}/{part}")));
    }
    succeed(&mut command)?;
    crate::remove(&unpacked)
}

const QUICK_PARTS: [&str; 3] = ["kernel", "net", "fs"];

/// The oldest and the newest version that the archives of this release hold.
pub(super) fn versions(installed: &Installed) -> anyhow::Result<(String, String)> {
    let listed = succeed(installed.apt(&Suite::Host, "apt-cache")?.args(["madison", PACKAGE]))?;
    ends(&listed).with_context(|| format!("apt knows of no two versions of {PACKAGE}"))
}

/// The last and the first version of a list of `apt-cache madison`, which is sorted.
fn ends(listed: &str) -> Option<(String, String)> {
    let mut versions = listed.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim()));
    let newest = versions.next()?;
    Some((versions.next_back()?.to_owned(), newest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_list() {
        let line = |version| format!("{PACKAGE} | {version} | http://deb.debian.org/debian x\n");
        let both = |old: &str, new: &str| Some((old.to_owned(), new.to_owned()));
        let listed = line("6.1.192-2") + &line("6.1.190-1") + &line("6.1.170-3");
        assert_eq!(ends(&listed), both("6.1.170-3", "6.1.192-2"));
        assert_eq!(ends(&line("6.1.192-2")), None);
        assert_eq!(ends(""), None);
    }
}
