//! The end of a run at any moment, of its process or of the power: no version is lost, each can be
//! restored before anything is rolled forward, and the next run goes on by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood_format::entry::Timestamp;
use lastgood_host::metadata::ApplyPolicy;
use lastgood_mirror::Mirror;
use lastgood_mirror::repair::{Donor, repair};
use lastgood_mirror::restore::{RestoreOptions, restore};
use lastgood_mirror::run::{Room, RunOptions, insert, run, subject};
use lastgood_mirror::thin::drop_version;
use lastgood_mirror::verify::verify;

use crate::heal::Stranger;
use crate::recorder::{End, Recorder, Step, copy, replay};
use crate::world::{Names, Tree, Troubles, tree};

/// Two runs on top of two versions, step by step.
struct Story {
    folder: tempfile::TempDir,
    steps: Vec<Step>,
    /// How many steps there were when the first of the two runs was over.
    first_over: usize,
    /// What the source was at each version.
    trees: BTreeMap<String, Tree>,
    /// Names in order: two that were there, and one for each run.
    names: Vec<String>,
}

impl Story {
    fn new() -> Self {
        // Where nothing has to reach a disk, the test is about steps and not about waiting.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(parent).unwrap();
        let mut story = Self {
            folder,
            steps: Vec::new(),
            first_over: 0,
            trees: BTreeMap::new(),
            names: Vec::new(),
        };
        fs::create_dir(story.source("")).unwrap();
        for name in ["changes", "goes", "moves", "swap1", "swap2", "flat", "edited", "d/e/deep"] {
            story.write(name, name.as_bytes());
        }
        story.write("tree/x", b"below");
        story.write("hard1", b"of many names");
        story.link("hard1", "hard2");
        symlink("changes", story.source("link")).unwrap();
        let subject = subject(&story.source("")).unwrap();
        let (mirror, _) = Mirror::open_or_create(&story.mirror(), &subject).unwrap();
        story.run(&mirror, 1);
        story.write("changes", b"changed once");
        story.write("later", b"came later");
        story.run(&mirror, 2);
        drop(mirror);
        copy(&story.mirror(), &story.path("base"));
        let recorder = Arc::new(Recorder::new(&story.mirror()));
        let mirror = Mirror::on(recorder.clone(), &story.mirror());
        story.change();
        story.run(&mirror, 3);
        story.first_over = recorder.steps().len();
        story.change_again();
        story.run(&mirror, 4);
        story.steps = recorder.steps();
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self, name: &str) -> PathBuf {
        self.path("source").join(name)
    }

    fn mirror(&self) -> PathBuf {
        self.path("mirror")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.source(name).parent().unwrap()).unwrap();
        fs::write(self.source(name), bytes).unwrap();
    }

    /// Everything that can happen to a path.
    fn link(&self, from: &str, to: &str) {
        fs::hard_link(self.source(from), self.source(to)).unwrap();
    }

    fn change(&self) {
        self.write("changes", b"changed twice");
        fs::remove_file(self.source("goes")).unwrap();
        fs::rename(self.source("moves"), self.source("d/moved")).unwrap();
        fs::rename(self.source("swap1"), self.source("swap")).unwrap();
        fs::rename(self.source("swap2"), self.source("swap1")).unwrap();
        fs::rename(self.source("swap"), self.source("swap2")).unwrap();
        self.link("hard1", "hard3");
        fs::remove_file(self.source("flat")).unwrap();
        self.write("flat/now/deep", b"file to directory");
        fs::remove_dir_all(self.source("tree")).unwrap();
        self.write("tree", b"directory to file");
        fs::remove_file(self.source("link")).unwrap();
        symlink("tree", self.source("link")).unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.source("d/e/deep"), mode).unwrap();
        fs::write(self.mirror().join("latest/edited"), b"by somebody").unwrap();
    }

    fn change_again(&self) {
        self.write("changes", b"changed for the third time");
        self.write("d/moved", b"and its bytes go");
        self.write("goes", b"is back");
        fs::remove_dir_all(self.source("flat")).unwrap();
        fs::remove_file(self.source("hard2")).unwrap();
        self.write("new1", b"one");
        self.write("new2", b"two");
    }

    fn options(&self, day: i64) -> RunOptions {
        RunOptions {
            source: self.source(""),
            // Far from the real clock: nothing is racy.
            now: Timestamp { seconds: 4_000_000_000 + 86_400 * day, nanos: 0 },
            is_approved: true,
            forgets_excluded: false,
            verifies_outgoing: true,
            scrub_days: 1,
            is_dry: false,
            room: Room::ENDLESS,
        }
    }

    fn run(&mut self, mirror: &Mirror, day: i64) {
        let report =
            run(mirror, &self.options(day), &mut Names(&[]), &Troubles::default()).unwrap();
        let name = report.version.unwrap().name;
        self.trees.insert(name.clone(), tree(&self.source("")));
        self.names.push(name);
    }

    /// The mirror as it is when the machine ends after so many steps.
    fn ended(&self, count: usize, end: End) -> PathBuf {
        let at = self.path("ended");
        if at.exists() {
            fs::remove_dir_all(&at).unwrap();
        }
        copy(&self.path("base"), &at);
        replay(&self.steps[..count], end, &at);
        at
    }

    /// What is wrong with a mirror: `None` when each version that it lists is as it was, and it
    /// lists at least so many.
    fn complaint(&self, mirror: &Mirror, least: usize) -> Option<String> {
        let view = match mirror.view() {
            Ok(view) => view,
            Err(error) => return Some(format!("no view: {error}")),
        };
        let listed: Vec<&str> = view.versions.iter().map(|it| it.name.as_str()).collect();
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if !known.starts_with(&listed) || listed.len() < least {
            return Some(format!("{listed:?} are listed"));
        }
        listed.into_iter().find_map(|name| self.differs(mirror, name, &self.trees[name]))
    }

    fn differs(&self, mirror: &Mirror, name: &str, expected: &Tree) -> Option<String> {
        let to = self.path("back");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        let options = RestoreOptions {
            version: name.to_owned(),
            path: Box::default(),
            target: to.clone(),
            policy: ApplyPolicy { owner: true, special: true },
            is_dry: false,
        };
        match restore(mirror, &options, &Troubles::default()) {
            Ok(report) if report.damaged.is_empty() && report.failed == 0 => {}
            Ok(report) => return Some(format!("{name}: {report:?}")),
            Err(error) => return Some(format!("{name}: {error}")),
        }
        let found = tree(&to);
        let paths = expected.keys().chain(found.keys());
        let other = paths.into_iter().find(|path| expected.get(*path) != found.get(*path))?;
        let (expected, found) = (expected.get(other), found.get(other));
        Some(format!("{name}: {}: {found:?} and not {expected:?}", other.display()))
    }

    /// What goes wrong when the machine ends after so many steps.
    fn trouble_after(&self, count: usize, end: End) -> Option<String> {
        let at = self.ended(count, end);
        // A version that was reported is there, and those before it.
        let least = match count {
            count if count == self.steps.len() => 4,
            count if count >= self.first_over => 3,
            _ => 2,
        };
        let unlocked = Mirror::open(&at).unwrap();
        if let Some(complaint) = self.complaint(&unlocked, least) {
            return Some(format!("before recovery: {complaint}"));
        }
        self.trouble_behind(&at, least)
    }

    /// What goes wrong from recovery on.
    fn trouble_behind(&self, at: &Path, least: usize) -> Option<String> {
        let mirror = match Mirror::open_to_change(at) {
            Ok((mirror, _)) => mirror,
            Err(error) => return Some(format!("recovery: {error}")),
        };
        if let Some(complaint) = self.complaint(&mirror, least) {
            return Some(format!("after recovery: {complaint}"));
        }
        let report = match run(&mirror, &self.options(9), &mut Names(&[]), &Troubles::default()) {
            Ok(report) => report,
            Err(error) => return Some(format!("the next run: {error}")),
        };
        if tree(&at.join("latest")) != tree(&self.source("")) {
            return Some("the next run leaves another latest".to_owned());
        }
        let verified = verify(&mirror, &Troubles::default()).unwrap();
        // What somebody wrote over was lost by that, in the run that found it or the next.
        if !verified.damaged.is_empty() || !verified.lost.is_empty() || !verified.broken.is_empty()
        {
            return Some(format!("after the next run: {verified:?}"));
        }
        let newest = report.version.map(|version| version.name);
        let versions = mirror.view().unwrap().versions;
        versions.iter().find_map(|version| {
            let expected = match &newest {
                Some(newest) if *newest == version.name => tree(&self.source("")),
                _ => self.trees[&version.name].clone(),
            };
            self.differs(&mirror, &version.name, &expected)
        })
    }

    /// Ends the machine after each step of a change of the versions, in several ways. `judge` looks
    /// at what is left and at what recovery makes of it, and is told whether that is the whole
    /// change, and where it was cut.
    fn cut_anywhere(&self, judge: &dyn Fn(&Mirror, bool, &str)) {
        for count in 0..=self.steps.len() {
            for end in [End::Killed, End::Power(1), End::Power(2), End::Power(3), End::Power(4)] {
                let cut = format!("{end:?} after {count} steps");
                let at = self.ended(count, end);
                judge(&Mirror::open(&at).unwrap(), false, &cut);
                let (mirror, _) = Mirror::open_to_change(&at).unwrap();
                judge(&mirror, count == self.steps.len(), &cut);
                let verified = verify(&mirror, &Troubles::default()).unwrap();
                assert_eq!((verified.damaged, verified.broken), Default::default());
            }
        }
    }

    /// The first trouble, wherever the machine ends after so many steps.
    fn first_trouble(
        &self,
        mut counts: std::ops::RangeInclusive<usize>,
        seeds: u64,
    ) -> Option<String> {
        counts.find_map(|count| {
            let ends = (0..seeds).map(End::Power).chain([End::Killed]);
            ends.into_iter().find_map(|end| {
                let trouble = self.trouble_after(count, end)?;
                let last = count.checked_sub(1).map(|last| &self.steps[last]);
                Some(format!("{end:?} after {count} steps, the last {last:?}: {trouble}"))
            })
        })
    }
}

#[test]
fn wherever_a_run_ends_no_version_is_lost_and_the_next_run_goes_on() {
    let story = Story::new();
    assert!(story.steps.len() > 60, "{}", story.steps.len());
    assert_eq!(story.first_trouble(0..=story.steps.len(), 3), None);
}

#[test]
fn each_barrier_is_needed() {
    let mut story = Story::new();
    let syncs: Vec<usize> =
        (0..story.steps.len()).filter(|&index| matches!(story.steps[index], Step::Sync)).collect();
    let per_run = syncs.iter().filter(|&&index| index < story.first_over).count();
    for (number, &index) in syncs.iter().take(per_run).enumerate() {
        // That of the journal is for file systems without hard links, where what is kept is renamed:
        // here the next run finds it without.
        if number == 1 {
            continue;
        }
        // Nothing but the barrier is missing: an empty rename takes its place.
        let step = std::mem::replace(
            &mut story.steps[index],
            Step::Rename(b".lastgood/none"[..].into(), b".lastgood/none"[..].into()),
        );
        // What one barrier left open the next but one has closed.
        let until = syncs[number + 2];
        let trouble = story.first_trouble(index..=until, 40);
        assert!(trouble.is_some(), "barrier {number} can be left out");
        story.steps[index] = step;
    }
}

#[test]
fn a_recovery_that_is_cut_is_recovered_from() {
    let story = Story::new();
    let begins = story
        .steps
        .iter()
        .position(|step| matches!(step, Step::Rename(_, to) if **to == *b".lastgood/journal"));
    let begins = begins.unwrap() + 2;
    for count in (begins..story.first_over).step_by(5) {
        let at = story.ended(count, End::Killed);
        let begun = story.path("begun");
        copy(&at, &begun);
        let recorder = Arc::new(Recorder::new(&at));
        Mirror::on(recorder.clone(), &at).recover().unwrap();
        let steps = recorder.steps();
        for cut in 0..=steps.len() {
            for end in [End::Killed, End::Power(1), End::Power(2)] {
                let again = story.path("again");
                copy(&begun, &again);
                replay(&steps[..cut], end, &again);
                let trouble = story
                    .complaint(&Mirror::open(&again).unwrap(), 2)
                    .or_else(|| story.trouble_behind(&again, 3));
                assert_eq!(trouble, None, "{end:?} after {cut} steps of recovery at {count}");
                fs::remove_dir_all(&again).unwrap();
            }
        }
        fs::remove_dir_all(&begun).unwrap();
    }
}

#[test]
fn a_removal_that_is_cut_costs_no_other_version() {
    let mut story = Story::new();
    for index in [1, 0] {
        let base = story.path("base");
        fs::remove_dir_all(&base).unwrap();
        copy(&story.mirror(), &base);
        let recorder = Arc::new(Recorder::new(&story.mirror()));
        let mirror = Mirror::on(recorder.clone(), &story.mirror());
        let gone = story.names[index].clone();
        drop_version(&mirror, &gone, false).unwrap();
        story.steps = recorder.steps();
        story.cut_anywhere(&|mirror, is_over, cut| {
            let versions = mirror.view().unwrap().versions;
            let listed: Vec<&str> = versions.iter().map(|it| it.name.as_str()).collect();
            assert!(!is_over || !listed.contains(&gone.as_str()), "{cut}");
            for name in story.names.iter().filter(|name| **name != gone) {
                let differs = story.differs(mirror, name, &story.trees[name]);
                assert_eq!(differs, None, "{cut}");
            }
        });
        story.names.remove(index);
    }
}

#[test]
fn a_repair_that_is_cut_is_gone_on_with() {
    let mut story = Story::new();
    let old = story.names[0].clone();
    let rotten = [format!("{old}/changes"), "latest/d/e/deep".to_owned()];
    for name in &rotten {
        fs::write(story.mirror().join(name), b"rubbish").unwrap();
    }
    let lost = format!("{}/goes", story.names[1]);
    fs::remove_file(story.mirror().join(&lost)).unwrap();
    let base = story.path("base");
    fs::remove_dir_all(&base).unwrap();
    copy(&story.mirror(), &base);
    let mend = |mirror: &Mirror| {
        let bytes: [&[u8]; 3] = [b"changes", b"d/e/deep", b"goes"];
        let mut donors: Vec<Box<dyn Donor>> = vec![Box::new(Stranger(bytes.to_vec()))];
        repair(mirror, &mut donors, false, &Troubles::default()).unwrap()
    };
    let recorder = Arc::new(Recorder::new(&story.mirror()));
    assert_eq!(mend(&Mirror::on(recorder.clone(), &story.mirror())).healed.len(), 3);
    story.steps = recorder.steps();
    for count in 0..=story.steps.len() {
        for end in [End::Killed, End::Power(1), End::Power(2), End::Power(3), End::Power(4)] {
            let at = story.ended(count, end);
            let (mirror, _) = Mirror::open_to_change(&at).unwrap();
            let done = mend(&mirror);
            assert!(count < story.steps.len() || !done.has_work());
            let complaint = story.complaint(&mirror, 4);
            assert_eq!(complaint, None, "{end:?} after {count} steps");
            let verified = verify(&mirror, &Troubles::default()).unwrap();
            assert_eq!((verified.damaged, verified.broken), Default::default());
        }
    }
}

#[test]
fn an_insertion_that_is_cut_costs_no_version() {
    let mut story = Story::new();
    let base = story.path("base");
    fs::remove_dir_all(&base).unwrap();
    copy(&story.mirror(), &base);
    let recorder = Arc::new(Recorder::new(&story.mirror()));
    story.write("changes", b"in between");
    fs::remove_file(story.source("edited")).unwrap();
    let mut options = story.options(2);
    options.now.seconds += 1;
    let mirror = Mirror::on(recorder.clone(), &story.mirror());
    let version = insert(&mirror, &options, &mut Names(&[]), &Troubles::default()).unwrap();
    let inserted = version.name;
    story.trees.insert(inserted.clone(), tree(&story.source("")));
    story.steps = recorder.steps();
    story.cut_anywhere(&|mirror, is_over, cut| {
        let versions = mirror.view().unwrap().versions;
        let is_there = versions.iter().any(|version| version.name == inserted);
        assert!(is_there || !is_over, "{cut}");
        for name in story.names.iter().chain(is_there.then_some(&inserted)) {
            let differs = story.differs(mirror, name, &story.trees[name]);
            assert_eq!(differs, None, "{cut}");
        }
    });
}

#[test]
fn the_scripts_restore_while_a_run_is_cut() {
    let story = Story::new();
    for count in (0..story.steps.len()).step_by(9) {
        let end = if count % 27 == 0 { End::Power(1) } else { End::Killed };
        let at = story.ended(count, end);
        let listed = Mirror::open(&at).unwrap().view().unwrap().versions;
        for script in ["restore.sh", "restore.py"] {
            let program = if script.ends_with(".sh") { "sh" } else { "python3" };
            for name in listed.iter().map(|version| &version.name) {
                let to = story.path("by-script");
                let output = std::process::Command::new(program)
                    .arg(at.join(script))
                    .args([name.as_str(), to.to_str().unwrap()])
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{script}, {end:?} after {count}: {said}");
                let expected = &story.trees[name];
                assert_eq!(tree(&to), *expected, "{script}, {name}, {end:?} after {count} steps");
                fs::remove_dir_all(&to).unwrap();
            }
        }
    }
}
