//! The tools, and what each is called with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};

use crate::peers::Installed;

/// A tool that keeps a plain copy and the past of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Lastgood,
    Rdiff,
    Rsync,
    Rclone,
}

impl Tool {
    pub(super) const ALL: [Self; 4] = [Self::Lastgood, Self::Rdiff, Self::Rsync, Self::Rclone];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lastgood => "lastgood mirror",
            Self::Rdiff => "rdiff-backup",
            Self::Rsync => "rsync --backup-dir",
            Self::Rclone => "rclone --backup-dir",
        }
    }
}

/// Where the programs are.
pub(super) struct Programs {
    lastgood: PathBuf,
    apt: PathBuf,
    libraries: PathBuf,
    venv: PathBuf,
    home: PathBuf,
}

impl Programs {
    pub(super) fn new(installed: &Installed, lastgood: &Path, scratch: &Path) -> Self {
        Self {
            lastgood: lastgood.to_owned(),
            apt: installed.apt.clone(),
            libraries: installed.libraries(),
            venv: installed.venv.clone(),
            home: scratch.join("home"),
        }
    }

    fn program(&self, tool: Tool) -> PathBuf {
        match tool {
            Tool::Lastgood => self.lastgood.clone(),
            Tool::Rdiff => self.venv.join("bin/rdiff-backup"),
            Tool::Rsync => self.apt.join("usr/bin/rsync"),
            Tool::Rclone => self.apt.join("usr/bin/rclone"),
        }
    }

    pub(super) fn version(&self, tool: Tool) -> anyhow::Result<String> {
        let mut command = Command::new(self.program(tool));
        command.arg("--version").env("LD_LIBRARY_PATH", &self.libraries).env("HOME", &self.home);
        let output = command.output().with_context(|| format!("{} does not run", tool.name()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_version = |word: &&str| word.trim_start_matches('v').starts_with(char::is_numeric);
        Ok(text
            .split_whitespace()
            .find(is_version)
            .unwrap_or_default()
            .trim_start_matches('v')
            .into())
    }

    /// A place to try a tool in.
    pub(super) fn place(&self, tool: Tool, folder: &Path) -> anyhow::Result<Place<'_>> {
        for name in ["source", "target", "home"] {
            fs::create_dir(folder.join(name))?;
        }
        Ok(Place { programs: self, tool, folder: folder.to_owned() })
    }
}

/// A source, and where a tool mirrors it to.
pub(super) struct Place<'a> {
    programs: &'a Programs,
    pub(super) tool: Tool,
    pub(super) folder: PathBuf,
}

/// How a run is made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// Which moment it is, in days; the folder of rsync and rclone is named after it.
    pub(super) day: i64,
    /// Whether root may not read what its owner closed, as nobody else may.
    pub(super) is_bound: bool,
    /// Whether the user says that all of it is meant, where a tool asks.
    pub(super) is_meant: bool,
    /// After how many milliseconds it is killed.
    pub(super) killed_after: Option<u128>,
}

impl Place<'_> {
    pub(super) fn source(&self, name: &str) -> PathBuf {
        self.folder.join("source").join(name)
    }

    pub(super) fn target(&self) -> PathBuf {
        self.folder.join("target/t")
    }

    /// The plain copy of what is newest.
    pub(super) fn newest(&self, name: &str) -> PathBuf {
        match self.tool {
            Tool::Rdiff => self.target().join(name),
            _ => self.target().join("latest").join(name),
        }
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.source(name);
        fs::create_dir_all(path.parent().context("a path has a parent")?)?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    fn program(&self, how: How) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some(millis) = how.killed_after {
            let seconds = format!("{:.3}", millis as f64 / 1000.0);
            words.extend(["timeout", "-s", "KILL", &seconds].map(str::to_owned));
        }
        if how.is_bound {
            words.extend(BOUND.iter().map(|&word| word.to_owned()));
        }
        words.push(self.programs.program(self.tool).to_string_lossy().into_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.folder).stdin(Stdio::null());
        command.env("HOME", self.folder.join("home"));
        command.env("LD_LIBRARY_PATH", &self.programs.libraries);
        command.env("RCLONE_CONFIG", "/dev/null");
        command
    }

    /// Lets the tool keep what the source is.
    pub(super) fn run(&self, how: How) -> anyhow::Result<Output> {
        let mut command = self.program(how);
        let (source, target) = (self.folder.join("source"), self.target());
        let with_slash = source.join("");
        let old = target.join("old").join(how.day.to_string());
        match self.tool {
            Tool::Lastgood => {
                command
                    .args(["mirror", "run"])
                    .args(how.is_meant.then_some("--approve"))
                    .arg(&source)
                    .arg("--to")
                    .arg(&target);
                let library = self.programs.libraries.join("faketime/libfaketime.so.1");
                if how.day != 0 && library.exists() {
                    command.env("LD_PRELOAD", library).env("FAKETIME", date(how.day));
                    command.env("FAKETIME_DONT_RESET", "1").env("NO_FAKE_STAT", "1");
                }
            }
            Tool::Rdiff => {
                command.args(["--current-time", &seconds(how.day).to_string(), "backup"]);
                command.arg(&source).arg(&target);
            }
            Tool::Rsync => {
                fs::create_dir_all(&target)?;
                command.args(["-aHAX", "--delete", "--backup", "--backup-dir"]).arg(old);
                command.arg(&with_slash).arg(target.join("latest"));
            }
            Tool::Rclone => {
                fs::create_dir_all(&target)?;
                command.args(["sync", "--links", "--metadata", "--backup-dir"]).arg(old);
                command.arg(&source).arg(target.join("latest"));
            }
        }
        command.output().with_context(|| format!("{} does not start", self.tool.name()))
    }

    /// The same; it has to end well.
    pub(super) fn run_well(&self, day: i64) -> anyhow::Result<()> {
        let output = self.run(How { day, is_meant: true, ..How::default() })?;
        ensure!(output.status.success(), "a plain run failed: {}", last_line(&output));
        Ok(())
    }

    /// Brings back what the source was on a day, with what the tool has for that; where it has
    /// nothing, by laying the folders of later days over a copy of the newest. `later` are the days
    /// of the runs after that, oldest first; `number` counts the runs from 0.
    pub(super) fn restore(
        &self,
        number: usize,
        day: i64,
        later: &[i64],
    ) -> anyhow::Result<PathBuf> {
        let back = self.folder.join(format!("back-{number}"));
        match self.tool {
            Tool::Lastgood => {
                let listed = self
                    .program(How::default())
                    .args(["--json", "mirror", "versions"])
                    .arg(self.target())
                    .output()?;
                let text = String::from_utf8_lossy(&listed.stdout).into_owned();
                let lines = text
                    .lines()
                    .filter_map(|it| serde_json::from_str::<serde_json::Value>(it).ok());
                let names: Vec<String> =
                    lines.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect();
                // One that was dropped is counted by the caller.
                let name = names.get(number).context("there is no such version")?;
                let mut command = self.program(How::default());
                command
                    .args(["mirror", "restore"])
                    .arg(self.target())
                    .args(["--at", name, "-t"])
                    .arg(&back);
                succeeds(&mut command)?;
            }
            Tool::Rdiff => {
                let mut command = self.program(How::default());
                command.args(["--current-time", &seconds(90).to_string(), "restore", "--at"]);
                command.arg(seconds(day).to_string()).arg(self.target()).arg(&back);
                succeeds(&mut command)?;
            }
            Tool::Rsync | Tool::Rclone => {
                succeeds(
                    Command::new("cp").arg("-a").arg(self.target().join("latest")).arg(&back),
                )?;
                for day in later.iter().rev() {
                    let old = self.target().join("old").join(day.to_string());
                    if old.exists() {
                        let mut command = Command::new(self.programs.program(Tool::Rsync));
                        command.env("LD_LIBRARY_PATH", &self.programs.libraries);
                        succeeds(command.args(["-a", "--force"]).arg(old.join("")).arg(&back))?;
                    }
                }
            }
        }
        Ok(back)
    }

    /// Runs another command of the tool.
    pub(super) fn other(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.program(How::default()).args(arguments).output()?)
    }

    /// Bytes that everything below the target takes.
    pub(super) fn size(&self) -> anyhow::Result<u64> {
        let output =
            Command::new("du").args(["-s", "-B1"]).arg(self.folder.join("target")).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().next().and_then(|it| it.parse().ok()).context("du says no number")
    }
}

fn succeeds(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", last_line(&output));
    Ok(())
}

/// The last line of what a program said of its trouble.
pub(super) fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(120).collect()
}

/// Seconds of a day since 1970.
fn seconds(day: i64) -> i64 {
    1_790_000_000 + day * 86_400
}

fn date(day: i64) -> String {
    format!("@2026-{:02}-{:02} 12:00:00", 9 + day / 28, 1 + day % 28)
}

/// Root as everybody else is: what a mode forbids is forbidden.
const BOUND: [&str; 3] = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
];
