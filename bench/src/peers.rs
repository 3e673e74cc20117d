//! The benchmark against other tools: `cargo xtask bench`.
//!
//! It installs the peers, makes the data, lets the tools take turns, and writes the report. Tools,
//! workloads, data and goals are tables; see the modules of these names.
#![expect(clippy::print_stdout, reason = "it tells how far it is")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use self::data::{DATA_SETS, DataSet};
use self::foreground::Foreground;
pub(crate) use self::install::Installed;
use self::install::succeed;
use self::measure::Cost;
use self::round::Place;
use self::samples::{DATE, Results, Sample, Series};
use self::tool::{ALONE, Places, TOOLS, Tool};
use self::workload::{Operation, State};

mod change;
mod data;
mod foreground;
mod goals;
mod install;
mod measure;
mod report;
mod round;
mod same;
mod samples;
mod stats;
mod tool;
mod workload;

/// What is asked for.
#[derive(Debug)]
struct Asked {
    is_quick: bool,
    state: State,
    /// Only the report is written again.
    is_report: bool,
    discards: bool,
    rounds: u64,
    sets: Vec<&'static str>,
    tools: Vec<&'static str>,
    scratch: PathBuf,
}

/// Runs the benchmark of the `lastgood` command at `lastgood`, in the workspace at `root`.
///
/// # Errors
/// When something cannot be installed, made or run, and in the end when an operation of a tool
/// failed or restored something else than what was backed up.
pub fn run(root: &Path, lastgood: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let asked = Asked::parse(arguments)?;
    fs::create_dir_all(&asked.scratch)?;
    let scratch = asked.scratch.canonicalize()?;
    let lock = File::create(scratch.join("lock"))?;
    lock.try_lock().context("another run uses the scratch directory")?;
    let (samples_path, report_path) = if asked.is_quick {
        (scratch.join("quick.json"), scratch.join("quick.md"))
    } else {
        (root.join(SAMPLES), root.join("docs").join(REPORT))
    };
    let results = if asked.is_report {
        Results::read(&samples_path)?.context("there are no samples")?
    } else {
        asked.measure(root, lastgood, &scratch, &samples_path)?
    };
    fs::write(&report_path, report::report(&results))?;
    println!("\n{}", fs::read_to_string(&report_path)?);
    println!("report: {}\nsamples: {}", report_path.display(), samples_path.display());
    ensure!(results.failures.is_empty(), "{} operations failed", results.failures.len());
    Ok(())
}

/// All samples of runs in full, in the workspace.
const SAMPLES: &str = "bench/samples.json";

/// The report on them, among the documents.
const REPORT: &str = "benchmarks.md";

impl Asked {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut asked = Self {
            is_quick: false,
            state: State::Warm,
            is_report: false,
            discards: false,
            rounds: 0,
            sets: DATA_SETS.iter().map(|set| set.name).collect(),
            tools: TOOLS.iter().map(|tool| tool.name).collect(),
            scratch: std::env::temp_dir().join("lastgood-bench"),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => asked.is_quick = true,
                "--cold" => asked.state = State::Cold,
                "--busy" => asked.state = State::Busy,
                "--report" => asked.is_report = true,
                "--discard" => asked.discards = true,
                "--rounds" => asked.rounds = value()?.parse().context("--rounds")?,
                "--scratch" => asked.scratch = value()?.into(),
                "--only" => asked.sets = chosen(value()?, &asked.sets)?,
                "--tools" => asked.tools = chosen(value()?, &asked.tools)?,
                _ => bail!("{argument:?} is not understood\n\n{USAGE}"),
            }
        }
        if asked.rounds == 0 {
            asked.rounds = if asked.is_quick { 1 } else { 5 };
        }
        Ok(asked)
    }

    /// Runs all that is asked for, and adds its samples to those at `samples_path` after each round.
    fn measure(
        &self,
        root: &Path,
        lastgood: &Path,
        scratch: &Path,
        samples_path: &Path,
    ) -> anyhow::Result<Results> {
        let installed = Installed::new(scratch);
        installed.peers()?;
        let mut results = Results {
            commit: commit(root)?,
            is_quick: self.is_quick,
            machine: machine(scratch)?,
            versions: versions(&installed, lastgood)?,
            data: BTreeMap::new(),
            samples: Vec::new(),
            failures: Vec::new(),
        };
        for (tool, version) in &results.versions {
            println!("{tool}: {version}");
        }
        let place = Place { installed: &installed, lastgood, folder: scratch.join("run") };
        for set in DATA_SETS.iter().filter(|set| self.sets.contains(&set.name)) {
            self.rounds(set, &place, scratch, &mut results, samples_path)?;
        }
        Results::read(samples_path)?.context("nothing was measured")
    }

    /// Lets all tools take turns with a data set.
    fn rounds(
        &self,
        set: &DataSet,
        place: &Place,
        scratch: &Path,
        results: &mut Results,
        samples_path: &Path,
    ) -> anyhow::Result<()> {
        let size = if self.is_quick { "-quick" } else { "" };
        let folder = scratch.join("data").join(format!("{}{size}", set.name));
        let ready = set.prepare(&folder, place.installed, self.is_quick)?;
        results.data.insert(set.name.to_owned(), ready.facts.clone());
        for round in 1..=self.rounds {
            let mut order: Vec<&Tool> =
                TOOLS.iter().filter(|tool| self.tools.contains(&tool.name)).collect();
            let turn = (round - 1) as usize % order.len().max(1);
            order.rotate_left(turn);
            if self.state == State::Busy {
                results.samples.push(self.alone(set, place, round)?);
            }
            for tool in order {
                println!("{}, round {round} of {}: {}", set.name, self.rounds, tool.name);
                let (data, tool_name) = (set.name.to_owned(), tool.name.to_owned());
                let series = Series { data, state: self.state, tool: tool_name };
                ready.switch.turn(false)?;
                settle();
                let outcome = place.run(tool, &ready, &series, round)?;
                results.samples.extend(outcome.samples);
                results.failures.extend(outcome.failures);
            }
            let all = match Results::read(samples_path)? {
                Some(earlier) => earlier.merge(results.clone()),
                None => results.clone(),
            };
            all.write(samples_path)?;
        }
        if self.discards {
            crate::remove(&folder)?;
        }
        Ok(())
    }

    /// How the program that people wait for fares while no tool runs.
    #[expect(clippy::disallowed_methods, reason = "it measures time")]
    fn alone(&self, set: &DataSet, place: &Place, round: u64) -> anyhow::Result<Sample> {
        rustix::fs::sync();
        let program = Foreground::start(&place.foreground())?;
        std::thread::sleep(Duration::from_secs(10));
        let latency = Some(program.end()?);
        let (data, tool) = (set.name.to_owned(), ALONE.to_owned());
        let series = Series { data, state: self.state, tool };
        let (operation, cost) = (Operation::Initial, Cost::NONE);
        Ok(Sample { series, round, operation, cost, stored_bytes: None, latency })
    }
}

/// Lets the source grow older. One that was written in the seconds before a backup is the exception,
/// and careful tools then read again what they cannot trust to be unchanged.
#[expect(clippy::disallowed_methods, reason = "the age of files is that of the clock")]
fn settle() {
    std::thread::sleep(Duration::from_secs(4));
}

/// Those of `known` that a list with commas names.
fn chosen(list: &str, known: &[&'static str]) -> anyhow::Result<Vec<&'static str>> {
    let find = |name| {
        let found = known.iter().copied().find(|it| *it == name);
        found.with_context(|| format!("{name:?} is none of {}", known.join(", ")))
    };
    list.split(',').map(find).collect()
}

const USAGE: &str = "usage: cargo xtask bench [--quick] [--cold | --busy] [--rounds N] [--only DATA,...] \
                     [--tools TOOL,...] [--scratch DIR] [--discard] [--report]";

/// The commit that is checked out, and whether it was changed.
fn commit(root: &Path) -> anyhow::Result<String> {
    let git = || {
        let mut command = Command::new("git");
        command.current_dir(root);
        command
    };
    let commit = succeed(git().args(["rev-parse", "--short=12", "HEAD"]))?;
    let mut status = git();
    status.args(["status", "--porcelain", "--", "."]);
    // What a run writes is no change.
    status.arg(format!(":!docs/{REPORT}")).arg(format!(":!{SAMPLES}"));
    let changed = succeed(&mut status)?;
    Ok(commit.trim().to_owned() + if changed.is_empty() { "" } else { " with changes" })
}

/// What people want to know of the machine.
fn machine(scratch: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    let (cpu, memory) = (text("/proc/cpuinfo")?, text("/proc/meminfo")?);
    let kib = value_of(&memory, "MemTotal").and_then(|it| it.trim_end_matches(" kB").parse().ok());
    let gib = kib.map_or(0.0, |kib: f64| kib / f64::from(1 << 20));
    let cores = std::thread::available_parallelism()?;
    let model = value_of(&cpu, "model name").unwrap_or("unknown");
    let mut find = Command::new("findmnt");
    let file_system = succeed(find.args(["-n", "-o", "FSTYPE", "--target"]).arg(scratch))?;
    let date = succeed(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let fields = [
        (DATE, date.trim().to_owned()),
        ("file system", file_system.trim().to_owned()),
        ("kernel", text("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("machine", format!("{cores} cores of {model}, {gib:.0} GiB")),
    ];
    Ok(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The value of a line `NAME : VALUE`.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(it, value)| (it.trim(), value.trim())).find(|(it, _)| *it == name).map(|it| it.1)
}

/// What each tool says when it is asked for its version; fails if one does not run.
fn versions(installed: &Installed, lastgood: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let libraries = installed.libraries();
    let places = Places(vec![
        ("lastgood", lastgood),
        ("apt", &installed.apt),
        ("venv", &installed.venv),
        ("cargo", &installed.cargo),
        ("libraries", &libraries),
    ]);
    let version = |tool: &Tool| {
        let mut words = tool.version.iter().map(|word| places.fill(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("LD_LIBRARY_PATH", &libraries);
        let printed = succeed(&mut command).with_context(|| format!("{} is missing", tool.name))?;
        let line = printed.lines().next().unwrap_or_default().trim();
        Ok((tool.name.to_owned(), line.to_owned()))
    };
    TOOLS.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Asked> {
        Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_say_what_is_run() {
        let all = parse("").unwrap();
        assert_eq!(
            (all.rounds, all.sets.len(), all.tools.len()),
            (5, DATA_SETS.len(), TOOLS.len())
        );
        let part = parse("--quick --only random,kernel --tools restic --scratch d --cold").unwrap();
        assert_eq!((part.rounds, part.state), (1, State::Cold));
        assert_eq!((part.sets, part.tools), (vec!["random", "kernel"], vec!["restic"]));
        assert_eq!(part.scratch, Path::new("d"));
        assert_eq!(parse("--quick --rounds 3").unwrap().rounds, 3);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |line, says: &str| {
            let said = format!("{:#}", parse(line).unwrap_err());
            assert!(said.starts_with(says), "{said}");
        };
        check("--only films", "\"films\" is none of kernel, random");
        check("--tools", "--tools needs a value");
        check("--rounds many", "--rounds: invalid digit");
        check("kernel", "\"kernel\" is not understood");
    }

    #[test]
    fn a_tool_that_is_missing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let installed = Installed::new(folder.path());
        let missing = versions(&installed, Path::new("/nowhere/lastgood")).unwrap_err();
        assert_eq!(missing.to_string(), "lastgood is missing");
        let missing = versions(&installed, Path::new("true")).unwrap_err();
        assert_eq!(missing.to_string(), "restic is missing");
    }

    #[test]
    fn values_of_the_machine() {
        let text = "model name\t: AMD EPYC\nMemTotal:       100 kB\n";
        assert_eq!(value_of(text, "model name"), Some("AMD EPYC"));
        assert_eq!(value_of(text, "MemTotal"), Some("100 kB"));
        assert_eq!(value_of(text, "MemFree"), None);
    }

    #[test]
    fn every_word_in_the_tables_of_tools_is_known() {
        let words = ["lastgood", "apt", "venv", "cargo", "libraries", "repo", "home", "source"];
        let words = words.into_iter().chain(["target", "file", "name", "first", "last"]);
        let places = Places(words.map(|word| (word, Path::new("/x"))).collect());
        for tool in &TOOLS {
            let lines = tool.operations.iter().flat_map(|(_, lines)| lines.iter());
            for word in lines.chain(tool.init).copied().flatten() {
                assert!(!places.fill(word).is_empty());
            }
            tool.environment.iter().for_each(|(_, value)| drop(places.fill(value)));
        }
    }
}
