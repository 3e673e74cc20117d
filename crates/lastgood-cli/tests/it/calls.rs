//! Real processes whose calls to the kernel fail: each call that concerns a file, with what kernels
//! answer, once or from then on, or cut short. `cargo xtask torture calls` makes it a campaign.
//!
//! Whatever fails: no panic, no success that is none, nothing lost that was there, a code that fits,
//! and the next run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use lastgood_testkit::campaign::{each_seed, first_failure, seeds, tell};
use lastgood_testkit::tracer::{self, Call, Errno, Fault};

use crate::world::{BINARY, Run, World, describe, noise};

/// What is done while calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    FirstBackup,
    Backup,
    Restore,
    RestoreInPlace,
    Forget,
}

const DEEDS: [Deed; 5] =
    [Deed::FirstBackup, Deed::Backup, Deed::Restore, Deed::RestoreInPlace, Deed::Forget];

/// What becomes of a call, and of all of its name after it.
#[derive(Debug, Clone, Copy)]
struct Meets {
    fault: Fault,
    is_sticky: bool,
}

const fn once(error: Errno) -> Meets {
    Meets { fault: Fault::Error(error), is_sticky: false }
}

const fn from_then_on(error: Errno) -> Meets {
    Meets { fault: Fault::Error(error), is_sticky: true }
}

const FAULTS: [Meets; 11] = [
    once(Errno::EIO),
    once(Errno::ENOSPC),
    once(Errno::EINTR),
    Meets { fault: Fault::Short, is_sticky: false },
    once(Errno::EMFILE),
    once(Errno::EACCES),
    once(Errno::EDQUOT),
    once(Errno::EROFS),
    from_then_on(Errno::EIO),
    from_then_on(Errno::ENOSPC),
    from_then_on(Errno::EACCES),
];

/// What a tree looks like to a user.
type Seen = BTreeMap<PathBuf, String>;

/// A repository with one snapshot, the files since then, and a target: what each run begins with.
struct Stage {
    world: World,
    /// The tree in the snapshot, and as it is now.
    first: Seen,
    now: Seen,
    calls: BTreeMap<Deed, Vec<(&'static str, usize)>>,
}

const PARTS: [&str; 3] = ["home", "docs", "target"];

impl Stage {
    fn new() -> Self {
        let world = World::new();
        for number in 0..6 {
            world.write(&format!("docs/{number}/small"), &noise(3000, number));
            world.write(&format!("docs/{number}/other"), &noise(100, number));
        }
        world.write("docs/large", &noise(5 << 20, 70));
        std::os::unix::fs::symlink("large", world.path("docs/link")).unwrap();
        world.run(&["backup", "docs"]).code(0);
        let first = describe(&world.path("docs"));
        world.run(&["restore", "latest", "-t", "target"]).code(0);
        world.write("target/1/small", b"changed");
        world.write("docs/2/small", &noise(3000, 80));
        world.write("docs/3/new", &noise(300, 81));
        fs::remove_dir_all(world.path("docs/4")).unwrap();
        world.write("docs/large", &[noise(2 << 20, 70), noise(3 << 20, 82)].concat());
        let now = describe(&world.path("docs"));
        for part in PARTS {
            copy(&world.path(part), &world.path(&format!("kept/{part}")));
        }
        let mut stage = Self { world, first, now, calls: BTreeMap::new() };
        for deed in DEEDS {
            let mut calls = Vec::new();
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            let run = stage.run(deed, &mut |call| {
                let count = counts.entry(call.name).or_default();
                calls.push((call.name, *count));
                *count += 1;
                None
            });
            assert_eq!(run.code, Some(0), "{deed:?}: {run:?}");
            stage.calls.insert(deed, calls);
        }
        stage
    }

    /// Everything is as it was in the beginning, and something is done to it.
    fn run(&self, deed: Deed, fate: &mut dyn FnMut(&Call) -> Option<Fault>) -> Run {
        for part in PARTS {
            let path = self.world.path(part);
            fs::remove_dir_all(&path).ok();
            let is_there = match deed {
                Deed::FirstBackup => part == "docs",
                Deed::Restore => part != "target",
                _ => true,
            };
            if is_there {
                copy(&self.world.path(&format!("kept/{part}")), &path);
            }
        }
        fs::create_dir_all(self.world.path("home")).unwrap();
        if deed == Deed::Forget {
            self.world.run(&["backup", "docs"]).code(0);
        }
        let mut command = tracer::stopped(self.world.command("sh"), BINARY);
        let [out, err] = ["out", "err"].map(|name| self.world.path(name));
        command.args(["--json"]).args(Self::arguments(deed));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        // What is printed is no file that matters.
        let mut of_files = |call: &Call| {
            if call.path == out || call.path == err { None } else { fate(call) }
        };
        let status = tracer::run(&mut command, &self.world.path(""), &mut of_files).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        Run { code: status.code(), out: read(&out), err: read(&err) }
    }

    const fn arguments(deed: Deed) -> &'static [&'static str] {
        match deed {
            Deed::FirstBackup | Deed::Backup => &["backup", "docs"],
            Deed::Restore | Deed::RestoreInPlace => &["restore", "latest", "-t", "target"],
            Deed::Forget => &["forget", "--keep-last", "1", "--gc"],
        }
    }

    /// One run with one fault, and what it left.
    fn meet(&self, deed: Deed, place: usize, meets: Meets) -> Result<Option<i32>, String> {
        let calls = &self.calls[&deed];
        let (name, number) = calls[place % calls.len()];
        let mut count = 0;
        let mut met = None;
        let run = self.run(deed, &mut |call| {
            if call.name != name {
                return None;
            }
            let is_met = count == number || (meets.is_sticky && count > number);
            count += 1;
            if !is_met {
                return None;
            }
            let fault = match meets.fault {
                Fault::Short if !call.moves_bytes => Fault::Error(Errno::EINTR),
                fault => fault,
            };
            met.get_or_insert_with(|| (call.clone(), fault));
            Some(fault)
        });
        // Threads may have shared the work in another way.
        let Some((call, fault)) = met else { return Ok(None) };
        self.verdict(deed, &run, &call, fault).map_err(|why| {
            format!(
                "{deed:?}, call {number} of {name}, {meets:?}, of {}: {why}",
                call.path.display()
            )
        })?;
        Ok(run.code)
    }

    fn verdict(&self, deed: Deed, run: &Run, call: &Call, fault: Fault) -> Result<(), String> {
        let told = format!("code {:?}\n{}", run.code, run.err);
        if run.err.contains("panicked") || run.err.contains("\"bug\"") {
            return Err(format!("it panicked: {told}"));
        }
        let codes = allowed(call, fault);
        let code = run.code.filter(|code| codes.contains(code));
        let code = code.ok_or_else(|| format!("none of {codes:?}: {told}"))?;
        if code == 0 {
            self.promise(deed).map_err(|why| format!("it says that it succeeded: {why}"))?;
        } else if run.err.is_empty() {
            return Err("it fails without a word".to_owned());
        }
        if deed != Deed::FirstBackup && deed != Deed::Forget {
            let first = self.world.run(&["--json", "snapshots"]).code(0).messages().remove(0);
            self.comes_back(first["id"].as_str().unwrap_or_default(), &self.first)?;
        }
        let again = self.world.run(Self::arguments(deed));
        if again.code != Some(0) {
            return Err(format!("the next run fails: {again:?}, after {told}"));
        }
        self.promise(deed).map_err(|why| format!("the next run: {why}, after {told}"))?;
        let check = self.world.run(&["check", "--read-data"]);
        match check.code {
            Some(0) => Ok(()),
            _ => Err(format!("it is damaged: {check:?}, after {told}")),
        }
    }

    /// What holds after a run that succeeded.
    fn promise(&self, deed: Deed) -> Result<(), String> {
        match deed {
            Deed::FirstBackup | Deed::Backup => self.comes_back("latest", &self.now),
            Deed::Restore | Deed::RestoreInPlace => {
                same(&describe(&self.world.path("target")), &self.first)
            }
            Deed::Forget => {
                let listed = self.world.run(&["--json", "snapshots"]).code(0).messages();
                let count = listed.iter().filter(|it| it["message_type"] == "snapshot").count();
                if count != 1 {
                    return Err(format!("there are {count} snapshots"));
                }
                self.comes_back("latest", &self.now)
            }
        }
    }

    fn comes_back(&self, snapshot: &str, expected: &Seen) -> Result<(), String> {
        let run = self.world.run(&["restore", snapshot, "-t", "back"]);
        if run.code != Some(0) {
            return Err(format!("{snapshot} does not come back: {run:?}"));
        }
        let back = self.world.path("back");
        let result = same(&describe(&back), expected);
        fs::remove_dir_all(back).unwrap();
        result
    }
}

/// The codes that a run may end with whose call fails so.
fn allowed(call: &Call, fault: Fault) -> &'static [i32] {
    let is_source = call.path.components().any(|part| part.as_os_str() == "docs");
    let takes_space = !is_source && TAKING_SPACE.contains(&call.name);
    match fault {
        // It is asked again.
        Fault::Short => &[0],
        Fault::Error(Errno::ENOSPC | Errno::EDQUOT) if takes_space => &[0, 3, 13],
        Fault::Error(Errno::EMFILE) if call.name.starts_with("open") => &[0, 3, 13],
        _ => &[0, 1, 3, 5, 10, 12, 13],
    }
}

/// Calls that a full disk has no room for.
const TAKING_SPACE: [&str; 10] = [
    "write",
    "pwrite64",
    "openat",
    "mkdirat",
    "linkat",
    "renameat",
    "renameat2",
    "fallocate",
    "fsync",
    "fdatasync",
];

fn same(found: &Seen, expected: &Seen) -> Result<(), String> {
    let paths: BTreeSet<&PathBuf> = found.keys().chain(expected.keys()).collect();
    let differs = |path: &&&PathBuf| found.get(**path) != expected.get(**path);
    match paths.iter().find(differs) {
        None => Ok(()),
        Some(path) => Err(format!(
            "{}: {:?} where {:?} is expected",
            path.display(),
            found.get(*path),
            expected.get(*path)
        )),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Stages are made once for each thread.
#[derive(Default)]
struct Stages(Mutex<Vec<Stage>>);

impl Stages {
    fn with<T>(&self, act: impl FnOnce(&Stage) -> T) -> T {
        let spare = self.0.lock().unwrap().pop();
        let stage = spare.unwrap_or_else(Stage::new);
        let result = act(&stage);
        self.0.lock().unwrap().push(stage);
        result
    }
}

/// Seeds go through all calls of each deed, one fault each, and then again with other faults: there
/// are eleven, so each call meets each in time, unless there are a multiple of eleven calls.
fn case(seed: u64) -> (Deed, usize, Meets) {
    let (deed, place) = (seed as usize % DEEDS.len(), seed as usize / DEEDS.len());
    (DEEDS[deed], place * STRIDE, FAULTS[place % FAULTS.len()])
}

#[test]
fn whatever_call_fails_nothing_is_lost_and_the_next_run_goes_on() {
    let (stages, seeds) = (Stages::default(), seeds(40));
    let campaign = each_seed(seeds.clone(), |seed, ended: &mut Option<i32>| {
        let (deed, place, meets) = case(seed);
        *ended = stages.with(|stage| stage.meet(deed, place, meets))?;
        Ok(())
    });
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    campaign.figures.iter().flatten().for_each(|code| *codes.entry(*code).or_default() += 1);
    let stages = stages.0.into_inner().unwrap();
    let calls: Vec<(Deed, usize)> =
        stages[0].calls.iter().map(|(deed, calls)| (*deed, calls.len())).collect();
    tell(&format!(
        "calls, seeds {seeds:?}: of {calls:?} calls; runs by how they ended: {codes:?}; broken \
         promises: {}",
        campaign.failed()
    ));
    campaign.end();
    assert!(codes.len() > 1, "nothing fails");
}

/// A kernel that takes bytes for written that are not is found out by what comes back.
#[test]
fn a_write_that_is_lost_is_noticed() {
    let stages = Stages::default();
    let seen = first_failure(0..200, |seed| {
        let place = seed as usize * STRIDE;
        let lies = Meets { fault: Fault::Pretended, is_sticky: false };
        stages.with(|stage| {
            let calls = &stage.calls[&Deed::Backup];
            match calls[place % calls.len()].0 {
                "write" | "pwrite64" | "writev" | "pwritev" => {
                    stage.meet(Deed::Backup, place, lies).map(drop)
                }
                _ => Ok(()),
            }
        })
    });
    let why = seen.map(|(_, why)| why).unwrap_or_default();
    tell(&format!("seeded bug, a write that is lost: {}", why.lines().next().unwrap_or("MISSED")));
    assert!(why.contains("it says that it succeeded") || why.contains("damaged"), "{why:?}");
}

/// A prime, so that few seeds meet calls from all parts of a run.
const STRIDE: usize = 7919;
