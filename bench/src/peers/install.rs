//! Installing the peers, with ordinary package clients, below one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The place where the peers are installed.
pub(crate) struct Installed {
    /// What Debian packages hold.
    pub apt: PathBuf,
    /// A virtual environment of Python.
    pub venv: PathBuf,
    /// What cargo installed.
    pub cargo: PathBuf,
    /// Where packages and lists are downloaded to.
    downloads: PathBuf,
}

/// Runs a program to its end, and returns what it printed.
///
/// # Errors
/// When it cannot be started, or fails; with the end of what it said.
pub(super) fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let arguments: Vec<_> =
        command.get_args().map(|it| it.to_string_lossy().into_owned()).collect();
    let shown = format!("{} {}", command.get_program().to_string_lossy(), arguments.join(" "));
    let output = command.stdin(Stdio::null()).output().with_context(|| shown.clone())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown}: {}\n{}", output.status, last_lines(&said));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last lines of what a program said.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

const LINES_SHOWN: usize = 12;

impl Installed {
    /// Below `scratch`; nothing is done yet.
    pub(crate) fn new(scratch: &Path) -> Self {
        Self {
            apt: scratch.join("apt"),
            venv: scratch.join("venv"),
            cargo: scratch.join("cargo"),
            downloads: scratch.join("downloads"),
        }
    }

    /// Where packages are downloaded to.
    pub(super) fn downloads(&self) -> &Path {
        &self.downloads
    }

    /// Where the libraries of the Debian packages lie.
    pub(crate) fn libraries(&self) -> PathBuf {
        self.apt.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
    }

    /// Installs whatever of the peers is missing.
    ///
    /// # Errors
    /// When one cannot be installed.
    pub(super) fn peers(&self) -> anyhow::Result<()> {
        self.debian(&Suite::Host, LIBRARIES)?;
        self.debian(&Suite::Host, &["rsync"]).context("rsync is missing")?;
        self.debian(&Suite::Newer, &["restic"]).context("restic is missing")?;
        for (package, program) in PYTHON {
            let is_there = self.venv.join("bin").join(program).exists();
            is_there.then_some(()).map_or_else(|| self.python(package), Ok).context(*package)?;
        }
        for (package, version, program) in CARGO {
            if !self.cargo.join("bin").join(program).exists() {
                self.cargo(package, version).with_context(|| format!("{program} is missing"))?;
            }
        }
        Ok(())
    }

    /// Installs whatever of those that keep a mirror is missing.
    ///
    /// # Errors
    /// When one cannot be installed.
    pub(crate) fn mirrors(&self) -> anyhow::Result<()> {
        self.debian(&Suite::Host, LIBRARIES)?;
        self.debian(&Suite::Host, &["rsync", "rclone", "libfaketime"])?;
        let [.., (package, program)] = PYTHON else { return Ok(()) };
        let is_there = self.venv.join("bin").join(program).exists();
        is_there.then_some(()).map_or_else(|| self.python(package), Ok).context(*package)
    }

    /// Downloads Debian packages and extracts them below [`Self::apt`].
    ///
    /// # Errors
    /// When one is not to be had.
    pub(super) fn debian(&self, suite: &Suite, names: &[&str]) -> anyhow::Result<()> {
        let stamps = self.apt.join(".extracted");
        let missing = names.iter().filter(|name| !stamps.join(name).exists());
        for name in missing {
            println!("installing {name}");
            let file = self.download(suite, name)?;
            fs::create_dir_all(&stamps)?;
            succeed(Command::new("dpkg").arg("-x").arg(&file).arg(&self.apt))?;
            fs::write(stamps.join(name), "")?;
        }
        Ok(())
    }

    /// Downloads a Debian package, `NAME` or `NAME=VERSION`, and returns the file.
    ///
    /// # Errors
    /// When it is not to be had.
    pub(super) fn download(&self, suite: &Suite, package: &str) -> anyhow::Result<PathBuf> {
        let folder = self.downloads.join("debian").join(package);
        fs::create_dir_all(&folder)?;
        let found = |folder: &Path| -> anyhow::Result<Option<PathBuf>> {
            let files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
            let mut paths = files.into_iter().map(|file| file.path());
            Ok(paths.find(|path| path.extension().is_some_and(|it| it == "deb")))
        };
        if let Some(file) = found(&folder)? {
            return Ok(file);
        }
        let mut command = self.apt(suite, "apt-get")?;
        succeed(command.args(["download", package]).current_dir(&folder))?;
        found(&folder)?.with_context(|| format!("apt-get downloaded no {package}"))
    }

    /// A client of apt for the packages of a suite.
    pub(super) fn apt(&self, suite: &Suite, client: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(client);
        // It would warn of a directory that its own user may not write to.
        command.args(["-o", "APT::Sandbox::User=root"]);
        if let Suite::Newer = suite {
            let lists = self.downloads.join("lists");
            let sources = self.downloads.join("sources.list");
            let cache = self.downloads.join("cache");
            let options = [
                format!("Dir::Etc::sourcelist={}", sources.display()),
                "Dir::Etc::sourceparts=-".to_owned(),
                format!("Dir::State::lists={}", lists.display()),
                format!("Dir::Cache={}", cache.display()),
            ];
            command.args(options.iter().flat_map(|option| ["-o", option]));
            if !lists.exists() {
                fs::create_dir_all(lists.join("partial"))?;
                fs::create_dir_all(cache.join("archives/partial"))?;
                fs::write(&sources, NEWER)?;
                let mut update = Command::new("apt-get");
                update.args(command.get_args()).arg("update");
                succeed(&mut update).inspect_err(|_| drop(fs::remove_dir_all(&lists)))?;
            }
        }
        Ok(command)
    }

    fn python(&self, package: &str) -> anyhow::Result<()> {
        println!("installing {package}");
        if !self.venv.join("bin/pip").exists() {
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&self.venv))?;
        }
        let mut command = Command::new(self.venv.join("bin/pip"));
        self.with_libraries(&mut command);
        succeed(command.args(["install", "--quiet", package])).map(drop)
    }

    fn cargo(&self, package: &str, version: &str) -> anyhow::Result<()> {
        println!("installing {package} {version}, which takes minutes");
        let mut command = Command::new(env!("CARGO"));
        self.with_libraries(&mut command);
        command.args(["install", "--quiet", "--locked", "--no-default-features"]);
        command.args([package, "--version", version, "--root"]).arg(&self.cargo);
        command.env("CARGO_TARGET_DIR", self.downloads.join("target"));
        succeed(&mut command).map(drop)
    }

    /// Lets a build find the libraries of the Debian packages, which are in no usual place.
    fn with_libraries(&self, command: &mut Command) {
        let libraries = self.libraries();
        let shown = libraries.display();
        let include = self.apt.join("usr/include");
        command.env("PKG_CONFIG", self.apt.join("usr/bin/pkgconf"));
        command.env("PKG_CONFIG_SYSROOT_DIR", &self.apt);
        command.env("PKG_CONFIG_LIBDIR", libraries.join("pkgconfig"));
        command.env("LD_LIBRARY_PATH", &libraries).env("LIBRARY_PATH", &libraries);
        command.env("LDFLAGS", format!("-L{shown} -Wl,-rpath,{shown}"));
        command.env("CFLAGS", format!("-I{}", include.display()));
        command.env("C_INCLUDE_PATH", include);
    }
}

/// Whose packages.
pub(super) enum Suite {
    /// Of the release that runs here.
    Host,
    /// Of a newer release of Debian, for programs that need nothing of it.
    Newer,
}

/// The newer release.
const NEWER: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                     http://deb.debian.org/debian trixie main\n";

/// What the peers are built with and run with.
const LIBRARIES: &[&str] = &[
    "pkgconf-bin",
    "libpkgconf3",
    "libsodium-dev",
    "libsodium23",
    "liblz4-dev",
    "liblz4-1",
    "libzstd-dev",
    "libzstd1",
    "libxxhash-dev",
    "libxxhash0",
    "libacl1-dev",
    "libacl1",
    "libattr1-dev",
    "libssl-dev",
    "libssl3",
    "librsync-dev",
    "librsync2",
    "libb2-1",
    "libgomp1",
    "libpopt0",
];

/// Packages of Python, and the program that each installs.
const PYTHON: &[(&str, &str)] =
    &[("borgbackup==1.4.5", "borg"), ("rdiff-backup==2.2.7", "rdiff-backup")];

/// Crates with their versions, and the program that each installs.
const CARGO: &[(&str, &str, &str)] =
    &[("rustic-rs", "0.11.4", "rustic"), ("bupstash", "0.12.0", "bupstash")];
