//! The campaign that shows that nothing is ever lost, as long as it is wished.
//!
//! Each harness is a test, of which continuous integration runs a short slice: a crate may use what
//! the harnesses use in its tests alone. They run with the checks of a development build.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

/// A harness: what it is called, the tests that it is, and how many seeds it runs.
struct Harness {
    name: &'static str,
    package: &'static str,
    tests: &'static str,
    seeds: u64,
}

/// Tests that plant mistakes in the package that they test.
const SEEDED_BUGS_FEATURE: &str = "seeded-bugs";
/// Packages that have such a feature.
const SEEDED_PACKAGES: &[&str] = &["lastgood-repo", "lastgood"];

const HARNESSES: &[Harness] = &[
    Harness {
        name: "crash",
        package: "lastgood",
        tests: "torture::crash::nothing_committed",
        seeds: 150,
    },
    Harness {
        name: "simulation",
        package: "lastgood-repo",
        tests: "simulated::nothing_is_lost",
        seeds: 5000,
    },
    Harness { name: "damage", package: "lastgood", tests: "torture::damage", seeds: 1000 },
    Harness { name: "hostile", package: "lastgood", tests: "torture::hostile", seeds: 300 },
    Harness { name: "faults", package: "lastgood", tests: "faults::", seeds: 1 },
    // Here a seed is a run that replaces 40 files while they are read.
    Harness { name: "mirror-readers", package: "lastgood-mirror", tests: "case_02", seeds: 2500 },
    // Here a seed is a kill of each command: at every call when there are more seeds than calls.
    Harness { name: "mirror-kill", package: "lastgood-cli", tests: "mirror_cut::", seeds: 100_000 },
    Harness { name: "kill", package: "lastgood-cli", tests: "killed::", seeds: 500 },
    // Here a seed is one call that fails; these go through all calls of each deed about once.
    Harness { name: "calls", package: "lastgood-cli", tests: "calls::whatever", seeds: 4000 },
    // Here a seed is a second.
    Harness { name: "crowd", package: "lastgood-cli", tests: "crowd::", seeds: 600 },
];

/// Tests that plant a mistake each and fail when it is not seen.
const SEEDED_BUGS: &[Harness] = &[
    Harness { name: "crash", package: "lastgood", tests: "torture::crash::mistakes", seeds: 0 },
    Harness { name: "faults", package: "lastgood", tests: "faults::a_put_that_is_lost", seeds: 0 },
    Harness { name: "lines", package: "lastgood", tests: "planted::mistakes", seeds: 0 },
    Harness { name: "calls", package: "lastgood-cli", tests: "calls::a_write", seeds: 0 },
    Harness { name: "kill", package: "lastgood-cli", tests: "killed::a_disk", seeds: 0 },
    Harness {
        name: "mirror-kill",
        package: "lastgood-cli",
        tests: "mirror_cut::a_file_that_is_not_kept",
        seeds: 0,
    },
    Harness { name: "ids", package: "lastgood-repo", tests: "session::mistakes", seeds: 0 },
    Harness { name: "deltas", package: "lastgood-repo", tests: "deltas::bases", seeds: 0 },
    Harness {
        name: "readers",
        package: "lastgood-repo",
        tests: "gc::a_reader_that_is_not",
        seeds: 0,
    },
    Harness { name: "model", package: "lastgood-testkit", tests: "mistakes", seeds: 0 },
    Harness { name: "orders", package: "lastgood-repo", tests: "interleaved::mistakes", seeds: 0 },
    Harness {
        name: "simulation",
        package: "lastgood-repo",
        tests: "simulated::mistakes",
        seeds: 0,
    },
];

/// What was asked for.
struct Asked {
    harness: Option<String>,
    first: u64,
    seeds: Option<u64>,
    is_seeded: bool,
}

/// Runs one harness or all, and prints what they met.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let asked = Asked::parse(arguments)?;
    let harnesses = if asked.is_seeded { SEEDED_BUGS } else { HARNESSES };
    let is_meant =
        |harness: &&Harness| asked.harness.as_deref().is_none_or(|name| name == harness.name);
    let meant: Vec<&Harness> = harnesses.iter().filter(is_meant).collect();
    ensure!(!meant.is_empty(), "there is no such harness\n\n{USAGE}");
    let mut broken = Vec::new();
    for harness in meant {
        if !harness.run(root, &asked)? {
            broken.push(harness.name);
        }
    }
    ensure!(broken.is_empty(), "broken promises in: {}", broken.join(", "));
    Ok(())
}

impl Asked {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut asked = Self { harness: None, first: 0, seeds: None, is_seeded: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().context(USAGE)?;
                text.parse().with_context(|| format!("{text:?} is no number"))
            };
            match argument.as_str() {
                "--seeds" | "--kills" | "--seconds" => asked.seeds = Some(number()?),
                "--first" => asked.first = number()?,
                "--seeded-bugs" => asked.is_seeded = true,
                name if !name.starts_with('-') && asked.harness.is_none() => {
                    asked.harness = Some(name.to_owned());
                }
                _ => bail!("{argument:?} is not understood\n\n{USAGE}"),
            }
        }
        Ok(asked)
    }
}

impl Harness {
    /// Runs it, passes on the lines with its figures, and returns whether every promise was kept.
    fn run(&self, root: &Path, asked: &Asked) -> anyhow::Result<bool> {
        let seeds = asked.seeds.unwrap_or(self.seeds);
        match asked.is_seeded {
            true => println!("{}, with seeded bugs", self.name),
            false => println!("{}, seeds {} to {}", self.name, asked.first, asked.first + seeds),
        }
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--quiet", "--locked", "--package", self.package, "--test", "it"]);
        if asked.is_seeded && SEEDED_PACKAGES.contains(&self.package) {
            command.args(["--features", SEEDED_BUGS_FEATURE]);
        }
        command.args([self.tests, "--", "--nocapture"]);
        if asked.is_seeded {
            // Some mistakes are made by a whole process.
            command.arg("--test-threads=1");
        }
        if !asked.is_seeded {
            command.env("LASTGOOD_TORTURE", format!("{}+{seeds}", asked.first));
            command.env("LASTGOOD_KILLS", seeds.to_string());
            command.env("LASTGOOD_SECONDS", seeds.to_string());
        }
        #[expect(clippy::disallowed_methods, reason = "tells people how long it took")]
        let began = Instant::now();
        let output = command.current_dir(root).stderr(Stdio::inherit()).output()?;
        let seconds = began.elapsed().as_secs();
        let text = String::from_utf8_lossy(&output.stdout);
        let is_figure = |line: &&str| line.contains(':') && !line.starts_with("test result");
        text.lines().filter(is_figure).for_each(|line| println!("  {line}"));
        let is_kept = output.status.success();
        println!("  {} in {seconds} s", if is_kept { "kept" } else { "BROKEN" });
        Ok(is_kept)
    }
}

const USAGE: &str =
    "usage: cargo xtask torture [HARNESS] [--seeds N] [--first SEED] [--seeded-bugs]";
