//! The disk of a virtual machine: an ext4 file system that a Debian system was installed into, and
//! the same after more packages were installed on it.
//!
//! The system is unpacked from real packages. What is installed later is written into the same
//! file system by `debugfs`, so it lies where its allocator puts it, and everything else stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::Maker;
use crate::peers::install::{Suite, succeed};

pub(super) fn make(maker: &Maker) -> anyhow::Result<String> {
    let (mib, system, later) =
        if maker.is_quick { (512, QUICK_SYSTEM, QUICK_LATER) } else { (3072, SYSTEM, LATER) };
    let first = packages(maker, system)?;
    let both = packages(maker, &[system, later].concat())?;
    let tree = maker.work.join("tree");
    unpack(&first, &tree)?;
    fs::create_dir_all(&maker.earlier)?;
    fs::create_dir_all(&maker.later)?;
    let image = maker.earlier.join("disk.img");
    let mut command = file_system_tool("mkfs.ext4");
    command.args(["-q", "-b", "4096", "-U", UUID, "-E", &format!("hash_seed={UUID},nodiscard")]);
    command.arg("-d").arg(&tree).arg(&image).arg(format!("{mib}M"));
    succeed(&mut command)?;

    let later_image = maker.later.join("disk.img");
    succeed(Command::new("cp").arg("--sparse=always").arg(&image).arg(&later_image))?;
    let added = maker.work.join("added");
    let new: Vec<PathBuf> = both.iter().filter(|path| !first.contains(path)).cloned().collect();
    unpack(&new, &added)?;
    let script = maker.work.join("script");
    fs::write(&script, install_script(&added, &tree)?)?;
    let mut debugfs = file_system_tool("debugfs");
    succeed(debugfs.arg("-w").arg("-f").arg(&script).arg(&later_image))?;
    succeed(file_system_tool("e2fsck").args(["-f", "-n"]).arg(&later_image))
        .context("the later image is no whole file system")?;
    Ok(format!(
        "ext4 image of {mib} MiB with {} Debian packages ({} and what they need); later {} more \
         are installed ({})",
        first.len(),
        system.join(", "),
        new.len(),
        later.join(", ")
    ))
}

/// What the first system is for, beside what every Debian has.
const SYSTEM: &[&str] =
    &["clang", "default-jdk-headless", "libreoffice-writer", "texlive-latex-base"];
const LATER: &[&str] = &["git", "vim", "nginx", "redis-server", "rsync", "tmux"];
const QUICK_SYSTEM: &[&str] = &["perl", "python3"];
const QUICK_LATER: &[&str] = &["git"];

/// What a minimal system consists of, beside the packages that call themselves essential.
const MINIMAL: &[&str] = &["apt", "systemd-sysv", "udev", "ifupdown", "openssh-server", "locales"];

const UUID: &str = "6c617374-676f-4f64-8000-000000000001";

/// A program of e2fsprogs that always believes it is the same moment.
fn file_system_tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.env("E2FSPROGS_FAKE_TIME", "1700000000").env("DEBUGFS_PAGER", "cat");
    command
}

/// Downloads packages with all that they need, for a machine on which nothing is installed.
fn packages(maker: &Maker, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let status = maker.work.join("status");
    fs::write(&status, "")?;
    let folder = maker.installed.downloads().join("image");
    fs::create_dir_all(folder.join("partial"))?;
    let options = [
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache::archives={}", folder.display()),
        "APT::Install-Recommends=false".to_owned(),
        "Debug::NoLocking=true".to_owned(),
    ];
    let client = || -> anyhow::Result<Command> {
        let mut command = maker.installed.apt(&Suite::Host, "apt-get")?;
        command.args(options.iter().flat_map(|option| ["-o", option]));
        command.args(["install", "--yes", "--allow-remove-essential"]).args(MINIMAL).args(names);
        Ok(command)
    };
    succeed(client()?.arg("--download-only"))?;
    let listed = succeed(client()?.arg("--simulate"))?;
    let mut files: Vec<PathBuf> =
        listed.lines().filter_map(installed).map(|name| folder.join(name)).collect();
    files.sort();
    ensure!(!files.is_empty(), "apt installs nothing");
    for file in &files {
        ensure!(file.exists(), "{} was not downloaded", file.display());
    }
    Ok(files)
}

/// The file of a package that a simulation says it installs:
/// `Inst NAME (VERSION SUITE [ARCHITECTURE])`.
fn installed(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let version = rest.split(' ').next()?.replace(':', "%3a");
    let architecture = rest.split_once('[')?.1.split(']').next()?;
    Some(format!("{name}_{version}_{architecture}.deb"))
}

/// Unpacks packages into one tree.
fn unpack(packages: &[PathBuf], tree: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(tree)?;
    for package in packages {
        succeed(Command::new("dpkg").arg("-x").arg(package).arg(tree))?;
    }
    Ok(())
}

/// Commands of `debugfs` that put all of `added` into a file system that holds `tree`.
fn install_script(added: &Path, tree: &Path) -> anyhow::Result<String> {
    let mut script = String::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for name in crate::peers::same::names(&added.join(&directory))? {
            let path = directory.join(name);
            let (from, shown) = (added.join(&path), path.display());
            let meta = fs::symlink_metadata(&from)?;
            let is_there = tree.join(&path).symlink_metadata().is_ok();
            if meta.is_dir() {
                if !is_there {
                    script += &format!("mkdir \"/{shown}\"\n");
                }
                pending.push(path);
                continue;
            }
            if is_there {
                script += &format!("rm \"/{shown}\"\n");
            }
            if meta.is_symlink() {
                let target = fs::read_link(&from)?;
                script += &format!("symlink \"/{shown}\" \"{}\"\n", target.display());
            } else if meta.is_file() {
                script += &format!("write \"{}\" \"/{shown}\"\n", from.display());
            }
        }
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_a_simulation() {
        let check = |line, expected: Option<&str>| {
            assert_eq!(installed(line).as_deref(), expected, "{line}");
        };
        check(
            "Inst vim (2:9.0.1378-2 Debian:12.11/stable [amd64])",
            Some("vim_2%3a9.0.1378-2_amd64.deb"),
        );
        check(
            "Inst tzdata (2025b-0+deb12u1 Debian:12.11/stable, Debian-Security:12 [all]) []",
            Some("tzdata_2025b-0+deb12u1_all.deb"),
        );
        check("Conf vim (2:9.0.1378-2 Debian:12.11/stable [amd64])", None);
        check("Reading package lists...", None);
    }

    #[test]
    fn what_is_added_is_written_and_what_was_there_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [added, tree] = ["added", "tree"].map(|name| folder.path().join(name));
        fs::create_dir_all(added.join("usr/new")).unwrap();
        fs::create_dir_all(tree.join("usr")).unwrap();
        fs::write(added.join("usr/new/file"), "").unwrap();
        fs::write(added.join("usr/old"), "").unwrap();
        fs::write(tree.join("usr/old"), "").unwrap();
        std::os::unix::fs::symlink("file", added.join("usr/new/link")).unwrap();
        let from = added.display();
        let expected = format!(
            "mkdir \"/usr/new\"\nrm \"/usr/old\"\nwrite \"{from}/usr/old\" \"/usr/old\"\n\
             write \"{from}/usr/new/file\" \"/usr/new/file\"\nsymlink \"/usr/new/link\" \"file\"\n"
        );
        assert_eq!(install_script(&added, &tree).unwrap(), expected);
    }
}
