//! The real binary, killed at every call of the system that changes a mirror: each version comes back
//! at once, and the next command needs no help. `cargo xtask torture mirror-kill` makes it a campaign.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lastgood_testkit::campaign::{attempt, is_asked, seeds, tell};

use crate::world::{BINARY, Run, World, describe};

type Tree = BTreeMap<PathBuf, String>;

/// Calls that change something, or make it durable.
const CALLS: &str = "openat,openat2,pwrite64,write,ftruncate,mkdirat,unlinkat,linkat,symlinkat,\
                     renameat,renameat2,fchmod,fchmodat,utimensat,fsync,fdatasync,syncfs,ioctl";
/// Kills of each command when nobody asks for more.
const KILLS: u64 = 4;

/// A mirror before a command, and what each of its versions has to bring back.
struct Scene {
    world: World,
    name: &'static str,
    args: Vec<String>,
    versions: BTreeMap<String, Tree>,
    /// Versions that the command takes away.
    doomed: Vec<String>,
}

impl Scene {
    /// A mirror of three versions, whatever is done with it then.
    fn new(name: &'static str, prepare: impl FnOnce(&mut Self)) -> Self {
        let world = World::new();
        fs::create_dir(world.path("source")).unwrap();
        let mut scene =
            Self { world, name, args: Vec::new(), versions: BTreeMap::new(), doomed: Vec::new() };
        for file in ["a/one", "a/two", "b/three", "stays", "link/is/deep"] {
            scene.write(file, "first");
        }
        fs::hard_link(scene.source("stays"), scene.source("other name")).unwrap();
        prepare(&mut scene);
        scene
    }

    fn with_versions(name: &'static str, prepare: impl FnOnce(&mut Self)) -> Self {
        Self::new(name, |scene| {
            scene.run();
            scene.write("a/one", "second");
            scene.write("born", "later");
            scene.run();
            fs::rename(scene.source("a/two"), scene.source("moved")).unwrap();
            scene.write("born", "and changed");
            scene.run();
            prepare(scene);
        })
    }

    fn source(&self, name: &str) -> PathBuf {
        self.world.path("source").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        self.world.write(&format!("source/{name}"), format!("{name} {text}").as_bytes());
    }

    fn is(&self) -> Tree {
        describe(&self.world.path("source"))
    }

    /// Makes a version of what the source is now.
    fn run(&mut self) {
        let args =
            ["mirror", "run", &self.world.text("source"), "--to", &self.world.text("mirror")];
        let run = self.world.run(&[&["--json"], &args[..]].concat()).code(0);
        let name = run.summary()["version"].as_str().unwrap().to_owned();
        let is = self.is();
        self.versions.insert(name, is);
    }

    fn run_args(&self) -> Vec<String> {
        let (source, mirror) = (self.world.text("source"), self.world.text("mirror"));
        ["mirror", "run", &source, "--to", &mirror].map(str::to_owned).to_vec()
    }

    fn of_mirror(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let mirror = self.world.text("mirror");
        let args = [&["mirror", verb, &mirror], more].concat();
        args.into_iter().map(str::to_owned).collect()
    }

    fn name_of(&self, index: usize) -> String {
        self.versions.keys().nth(index).unwrap().clone()
    }

    /// Runs the command below strace, which does something to it.
    fn traced(&self, options: &[&str]) -> Run {
        let mut command = self.world.command("strace");
        let args = command.args(["-f", "-qq", "-o"]).arg(self.world.path("trace")).args(options);
        Run::of(args.arg(BINARY).args(&self.args))
    }

    fn before(&self) {
        let (mirror, kept) = (self.world.path("mirror"), self.world.path("kept"));
        if mirror.exists() {
            fs::remove_dir_all(&mirror).unwrap();
        }
        if kept.exists() {
            copy(&kept, &mirror);
        } else {
            // Nobody remembers that there was one.
            fs::remove_dir_all(self.world.path("home/.local/state/lastgood/mirrors")).ok();
        }
    }

    /// How many of the calls the busiest thread makes.
    fn calls(&self) -> u64 {
        self.before();
        self.traced(&["-e", &format!("trace={CALLS}")]).code(0);
        let trace = fs::read_to_string(self.world.path("trace")).unwrap();
        let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
        for line in trace.lines().filter(|line| !line.contains("resumed>")) {
            *calls.entry(line.split_whitespace().next().unwrap_or_default()).or_default() += 1;
        }
        calls.into_values().max().unwrap_or_default()
    }

    /// Kills the command when a thread of it makes that call.
    fn cut(&self, call: u64) -> Result<(), String> {
        self.before();
        let inject = format!("inject={CALLS}:signal=KILL:when={call}");
        self.traced(&["-e", &format!("trace={CALLS}"), "-e", &inject]);
        self.judge()
    }

    /// Every version comes back at once; the command, or a run, goes on by itself; and then they come
    /// back again.
    fn judge(&self) -> Result<(), String> {
        let known: Vec<&String> =
            self.versions.keys().filter(|it| !self.doomed.contains(it)).collect();
        known.iter().try_for_each(|name| self.comes_back(name))?;
        let again: Vec<&str> = self.args.iter().map(String::as_str).collect();
        // What was dropped is gone, which the next command to drop it says.
        let codes: &[i32] = if self.doomed.is_empty() { &[0] } else { &[0, 1] };
        self.ends_with(codes, &again)?;
        let run = self.run_args();
        self.ends_with(&[0], &run.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.ends_with(&[0], &["mirror", "verify", &self.world.text("mirror")])?;
        if describe(&self.world.path("mirror/latest")) != self.is() {
            return Err("latest is not what the source is".to_owned());
        }
        known.iter().try_for_each(|name| self.comes_back(name))
    }

    fn ends_with(&self, codes: &[i32], args: &[&str]) -> Result<(), String> {
        let run = self.world.run(args);
        match run.code.is_some_and(|code| codes.contains(&code)) {
            true => Ok(()),
            false => Err(format!("{args:?}: {run:?}")),
        }
    }

    fn comes_back(&self, name: &str) -> Result<(), String> {
        let back = self.world.path("back");
        let target = self.world.text("back");
        self.ends_with(
            &[0],
            &["mirror", "restore", &self.world.text("mirror"), "--at", name, "-t", &target],
        )?;
        let found = describe(&back);
        fs::remove_dir_all(&back).unwrap();
        match found == self.versions[name] {
            true => Ok(()),
            false => Err(format!("{name} came back as {found:?}")),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

fn scenes() -> Vec<Scene> {
    let first = Scene::new("first run", |scene| scene.args = scene.run_args());
    let changed = Scene::with_versions("changed run", |scene| {
        scene.write("a/one", "third");
        scene.write("new/directory/file", "new");
        fs::remove_dir_all(scene.source("link")).unwrap();
        std::os::unix::fs::symlink("stays", scene.source("link")).unwrap();
        fs::rename(scene.source("b"), scene.source("c")).unwrap();
        fs::remove_file(scene.source("other name")).unwrap();
        scene.args = scene.run_args();
    });
    let dropped = Scene::with_versions("drop", |scene| {
        scene.doomed = vec![scene.name_of(1)];
        scene.args = scene.of_mirror("drop", &[&scene.name_of(1)]);
    });
    let rotated = Scene::with_versions("rotate", |scene| {
        scene.doomed = vec![scene.name_of(0), scene.name_of(1)];
        scene.args = scene.of_mirror("rotate", &["--keep-last", "1"]);
    });
    let repaired = Scene::with_versions("repair", |scene| {
        // A text is lost, and another version has the bytes of what is damaged.
        let old = format!(".lastgood/deltas/{}", scene.name_of(0));
        fs::write(scene.world.path("mirror").join(old), b"damaged").unwrap();
        scene.args = scene.of_mirror("repair", &["--yes"]);
    });
    [first, changed, dropped, rotated, repaired]
        .into_iter()
        .inspect(|scene| {
            if scene.world.path("mirror").exists() {
                copy(&scene.world.path("mirror"), &scene.world.path("kept"));
            }
        })
        .collect()
}

/// Whether there is strace, and it may trace; where everything is tested, it has to.
fn can_trace() -> bool {
    let output = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can = output.is_ok_and(|output| output.status.success());
    if !can {
        tell("NOT TESTED on this machine: strace is missing, or may not trace");
        let must = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
        assert!(!must, "strace is needed where everything is tested");
    }
    can
}

#[test]
fn a_mirror_survives_a_kill_at_every_call() {
    if !can_trace() {
        return;
    }
    let most = seeds(KILLS);
    let most = most.end - most.start;
    let mut failures = Vec::new();
    for scene in scenes() {
        let calls = scene.calls();
        let step = (calls / most).max(1);
        // The slice begins somewhere in the first stride, so that it is no other one each time.
        let mut kills = 0;
        for call in (1..=calls + 1).rev().step_by(usize::try_from(step).unwrap()) {
            kills += 1;
            if let Err(why) = attempt(|| scene.cut(call)) {
                tell(&format!("{}, call {call}: {why}", scene.name));
                failures.push(format!("{}, call {call}", scene.name));
            }
        }
        if is_asked() {
            tell(&format!("{}: {calls} calls, killed at {kills} of them", scene.name));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
    if is_asked() {
        tell("lost versions: 0, manual steps: 0");
    }
}

/// A mistake: what leaves `latest` is given no second name, as if it had been.
#[test]
fn a_file_that_is_not_kept_is_noticed() {
    if !can_trace() {
        return;
    }
    let scene = scenes().into_iter().find(|scene| scene.name == "changed run").unwrap();
    scene.before();
    scene.judge().unwrap();
    scene.before();
    let calls = ["-e", "trace=linkat", "-e", "inject=linkat:retval=0"];
    scene.traced(&calls);
    assert!(scene.judge().is_err());
}
