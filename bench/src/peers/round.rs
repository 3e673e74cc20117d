//! One round: a tool does everything once, with a new repository.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::data::{Random, Ready, SEED, overwrite};
use super::foreground::{Foreground, Latency};
use super::install::{Installed, last_lines};
use super::measure::{self, Cost};
use super::same::{compare_trees, is_same_content};
use super::samples::{Failure, Sample, Series};
use super::tool::{Line, PRINTED, Places, Tool};
use super::workload::{Operation, State};

/// Where a round happens.
pub(super) struct Place<'a> {
    pub installed: &'a Installed,
    pub lastgood: &'a Path,
    /// Made for the round, and removed after it.
    pub folder: PathBuf,
}

/// What a round made known.
#[derive(Default)]
pub(super) struct Outcome {
    pub samples: Vec<Sample>,
    pub failures: Vec<Failure>,
}

/// What an operation took.
struct Done {
    cost: Cost,
    stored_bytes: Option<u64>,
    latency: Option<Latency>,
}

impl Place<'_> {
    /// Lets `tool` do everything that it can with a data set.
    ///
    /// An operation that fails, or that restores something else than what was backed up, is a
    /// failure, and has no sample.
    ///
    /// # Errors
    /// When the round itself cannot go on.
    pub(super) fn run(
        &self,
        tool: &Tool,
        ready: &Ready,
        series: &Series,
        round: u64,
    ) -> anyhow::Result<Outcome> {
        crate::remove(&self.folder)?;
        for name in ["home", TARGET, TARGET_OF_ONE] {
            fs::create_dir_all(self.folder.join(name))?;
        }
        ready.switch.turn(false)?;
        for line in tool.init {
            let source = ready.switch.source();
            self.call(tool, ready, line, source, None, &[])
                .with_context(|| format!("{} makes no repository", tool.name))?;
        }
        let mut outcome = Outcome::default();
        for operation in Operation::all() {
            let Some(lines) = tool.lines(operation) else { continue };
            let is_told = !operation.needs_files() || ready.file.is_some();
            if !is_told || !series.state.tells_of(operation) {
                continue;
            }
            let series = series.clone();
            match self.operate(tool, ready, operation, lines, series.state) {
                Ok(Done { cost, stored_bytes, latency }) => {
                    println!("{:>18} {:>9.3} s", operation.name(), cost.seconds);
                    let sample = Sample { series, round, operation, cost, stored_bytes, latency };
                    outcome.samples.push(sample);
                }
                Err(error) => {
                    let what = format!("{error:#}");
                    println!("{} fails to {}: {what}", tool.name, operation.name());
                    outcome.failures.push(Failure { series, operation, what });
                }
            }
        }
        ready.switch.turn(false)?;
        crate::remove(&self.folder)?;
        Ok(outcome)
    }

    /// Does one operation, and looks at what came of it.
    fn operate(
        &self,
        tool: &Tool,
        ready: &Ready,
        operation: Operation,
        lines: &[Line],
        state: State,
    ) -> anyhow::Result<Done> {
        let source = ready.switch.source();
        let target = self.folder.join(match operation {
            Operation::RestoreFile => TARGET_OF_ONE,
            _ => TARGET,
        });
        match operation {
            Operation::Changed => ready.switch.turn(true)?,
            Operation::RestoreInPlace => alter(&target)?,
            _ => (),
        }
        let ids = self.snapshot_ids(tool, ready, operation)?;
        let directory = if operation.is_restore() { &target } else { source };
        let print_to = (operation == Operation::RestoreFile).then(|| target.join(PRINTED));
        rustix::fs::sync();
        if state == State::Cold {
            fs::write("/proc/sys/vm/drop_caches", "3").context("only root can drop the caches")?;
        }
        let foreground = || Foreground::start(&self.foreground());
        let foreground = (state == State::Busy).then(foreground).transpose()?;
        let mut cost = Cost::NONE;
        for line in lines {
            let next = self.call(tool, ready, line, directory, print_to.as_deref(), &ids)?;
            cost = cost.then(next);
        }
        let latency = foreground.map(Foreground::end).transpose()?;
        match operation {
            Operation::Restore | Operation::RestoreInPlace => compare_trees(source, &target)?,
            Operation::RestoreFile => {
                let file = ready.file.as_ref().context("there is a file")?;
                let is_same = is_same_content(&source.join(file), &target.join(tool.one_file))?;
                ensure!(is_same, "{} is not restored", file.display());
            }
            _ => (),
        }
        let changes_repo = operation <= Operation::Changed || operation == Operation::Forget;
        let stored = changes_repo.then(|| stored_bytes(&self.folder.join(REPO))).transpose()?;
        Ok(Done { cost, stored_bytes: stored, latency })
    }

    /// Where the program beside a tool has its files, from round to round.
    pub(super) fn foreground(&self) -> PathBuf {
        self.folder.with_file_name("foreground")
    }

    /// Runs one command of a tool.
    fn call(
        &self,
        tool: &Tool,
        ready: &Ready,
        line: Line,
        directory: &Path,
        print_to: Option<&Path>,
        ids: &[(&'static str, PathBuf)],
    ) -> anyhow::Result<Cost> {
        let mut command = self.command(tool, ready, line, directory, ids);
        let errors = self.folder.join("errors");
        command.stdout(match print_to {
            Some(path) => Stdio::from(File::create(path)?),
            None => Stdio::null(),
        });
        command.stderr(File::create(&errors)?);
        let (cost, status) = measure::run(&mut command)?;
        let has_warned = status.code().is_some_and(|code| tool.warnings.contains(&code));
        if !status.success() && !has_warned {
            let said = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
            bail!("{}: {status}: {}", line.join(" "), last_lines(&said));
        }
        Ok(cost)
    }

    fn command(
        &self,
        tool: &Tool,
        ready: &Ready,
        line: Line,
        directory: &Path,
        ids: &[(&'static str, PathBuf)],
    ) -> Command {
        let (repo, home) = (self.folder.join(REPO), self.folder.join("home"));
        let target = self.folder.join(TARGET);
        let target = if directory.ends_with(TARGET_OF_ONE) { directory } else { &target };
        let libraries = self.installed.libraries();
        let file = ready.file.clone().unwrap_or_default();
        let mut places = vec![
            ("lastgood", self.lastgood),
            ("apt", &self.installed.apt),
            ("venv", &self.installed.venv),
            ("cargo", &self.installed.cargo),
            ("libraries", &libraries),
            ("repo", &repo),
            ("home", &home),
            ("source", ready.switch.source()),
            ("target", target),
            ("file", &file),
            ("name", file.file_name().map_or(Path::new(""), Path::new)),
        ];
        places.extend(ids.iter().map(|(word, id)| (*word, id.as_path())));
        let places = Places(places);
        let mut words = line.iter().map(|word| places.fill(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(directory).stdin(Stdio::null());
        command.env_clear().env("HOME", &home).env("LANG", "C.UTF-8");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (name, value) in tool.environment {
            command.env(name, places.fill(value));
        }
        command
    }

    /// The ids of the first and the last snapshot, for a tool that only takes ids.
    fn snapshot_ids(
        &self,
        tool: &Tool,
        ready: &Ready,
        operation: Operation,
    ) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
        let Some(line) = tool.snapshots.filter(|_| operation == Operation::Diff) else {
            return Ok(Vec::new());
        };
        let mut command = self.command(tool, ready, line, ready.switch.source(), &[]);
        let printed = super::install::succeed(&mut command)?;
        ends(&printed).context("there are no snapshots")
    }
}

/// The ids of the first and the last snapshot of a list in JSON.
fn ends(printed: &str) -> Option<Vec<(&'static str, PathBuf)>> {
    let list: Value = serde_json::from_str(printed).ok()?;
    let id = |snapshot: &Value| Some(PathBuf::from(snapshot["id"].as_str()?));
    let list = list.as_array()?;
    Some(vec![("first", id(list.first()?)?), ("last", id(list.last()?)?)])
}

const REPO: &str = "repo";
const TARGET: &str = "target";
const TARGET_OF_ONE: &str = "target-of-one";

/// Changes 1 % of a tree: of every large file one block in 100, and of the others one file in 100.
fn alter(tree: &Path) -> anyhow::Result<()> {
    let mut random = Random(SEED + 1);
    let mut small = 0;
    let mut pending = vec![tree.to_owned()];
    while let Some(path) = pending.pop() {
        for name in super::same::names(&path)? {
            let path = path.join(name);
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                pending.push(path);
            } else if meta.is_file() && meta.len() >= LARGE_BYTES {
                overwrite(&path, &mut random)?;
            } else if meta.is_file() {
                small += 1;
                if small % 100 == 0 {
                    fs::write(&path, &random.block()[..random_length(meta.len())])?;
                }
            }
        }
    }
    Ok(())
}

const LARGE_BYTES: u64 = 100 * (64 << 10);

/// A length that a spoilt file gets: another one than it has.
fn random_length(bytes: u64) -> usize {
    (bytes as usize / 2 + 1) % (64 << 10)
}

/// The lengths of all files of a repository.
fn stored_bytes(repo: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut pending = vec![repo.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                pending.push(entry.path());
            } else {
                bytes += meta.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
