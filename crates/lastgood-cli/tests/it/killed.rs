//! Real processes, killed at random moments, after which the power may go: what was committed
//! stays, and the next run goes on. `cargo xtask torture kill` makes it a campaign.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lastgood_testkit::campaign::{each_seed, tell};
use lastgood_testkit::chance::Chance;
use lastgood_testkit::machine::{self, Mounted};

use crate::world::{BINARY, Files, Run, World};

/// What the lives of repositories came to.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    runs: u64,
    backups_cut: u64,
    collections_cut: u64,
    power_cuts: u64,
    committed: usize,
    restored: usize,
}

/// A disk of its own for the home of a user. Whatever the file system had not sent to it is missing
/// from a copy of its image.
struct Disk {
    image: PathBuf,
    mounted: Option<Mounted>,
    home: PathBuf,
}

impl Disk {
    /// Nothing, where none can be made.
    fn new(world: &World) -> Option<Self> {
        let image = world.path("disk");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let arguments = [OsStr::new("-qF"), image.as_os_str()];
        if !machine::run("mkfs.ext4", &arguments) {
            return None;
        }
        let home = world.path("home");
        let mounted = Some(Self::mount(&image, &home)?);
        Some(Self { image, mounted, home })
    }

    fn mount(image: &Path, home: &Path) -> Option<Mounted> {
        // Nothing is sent to the disk on its own while a copy is made.
        Mounted::try_new(&[OsStr::new("-o"), "loop,commit=300".as_ref(), image.as_os_str()], home)
    }

    /// What is on the disk now.
    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.image.with_file_name(name);
        let arguments = ["--sparse=always".as_ref(), self.image.as_os_str(), copy.as_os_str()];
        assert!(machine::run("cp", &arguments), "the image can be copied");
        copy
    }

    /// Goes on with what was on the disk when a copy was made.
    fn put_in(&mut self, copy: PathBuf) {
        drop(self.mounted.take());
        fs::rename(copy, &self.image).unwrap();
        self.mounted = Self::mount(&self.image, &self.home);
        assert!(self.mounted.is_some(), "what a power cut leaves can be mounted");
    }
}

/// A repository whose runs are killed.
struct Life {
    disk: Option<Disk>,
    world: World,
    chance: Chance,
    source: String,
    files: Files,
    /// What must be there, and what must come back of it; the newest last.
    committed: Vec<(String, Files)>,
    /// How long a run lasts that nobody kills.
    lasts: Duration,
    power_cuts: u64,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let world = World::new();
        let source = world.text("source");
        let mut life = Self {
            disk: Disk::new(&world),
            world,
            power_cuts: 0,
            chance: Chance::new(seed),
            source,
            files: Files::new(),
            committed: Vec::new(),
            lasts: Duration::ZERO,
        };
        (0..FILES).for_each(|file| life.change(file));
        #[expect(clippy::disallowed_methods, reason = "runs are cut everywhere between their ends")]
        let began = Instant::now();
        life.world.run(&["backup", &life.source]).code(0);
        life.lasts = began.elapsed();
        life.committed.push((life.listed().remove(0), life.files.clone()));
        life
    }

    fn change(&mut self, file: usize) {
        let content = self.chance.number();
        let name = format!("{}/{file}", file % 4);
        self.world.write_content(&format!("source/{name}"), BYTES, content);
        self.files.insert(name, content);
    }

    /// The ids of all snapshots.
    fn listed(&self) -> Vec<String> {
        let listed = self.world.run(&["snapshots", "--json"]).code(0);
        let ids = listed
            .messages()
            .into_iter()
            .filter_map(|message| message["id"].as_str().map(str::to_owned));
        ids.collect()
    }

    /// Runs something and kills it at some moment, if it has not ended by then; tells which. It must
    /// not end in any other way. After one of two the power goes.
    fn kill(&mut self, args: &[&str]) -> Result<bool, String> {
        let moment = self.lasts.mul_f64((1 + self.chance.below(100)) as f64 / 100.0).as_secs_f64();
        let mut command = self.world.command("timeout");
        let run = Run::of(command.args(["-s", "KILL", &format!("{moment:.3}"), BINARY]).args(args));
        if self.chance.one_in(2)
            && let Some(disk) = &mut self.disk
        {
            disk.put_in(disk.copy("now"));
            self.power_cuts += 1;
        }
        match run.code {
            Some(0) => Ok(false),
            None | Some(CUT) => Ok(true),
            Some(_) => Err(format!("{args:?}: {run:?}")),
        }
    }

    /// A backup is killed; it has committed, or not.
    fn backup(&mut self) -> Result<bool, String> {
        (0..FILES / 2).for_each(|_| {
            let file = self.chance.below(FILES);
            self.change(file);
        });
        let source = self.source.clone();
        let was_cut = self.kill(&["backup", &source])?;
        let mut listed = self.listed();
        if listed.len() > self.committed.len() {
            let new = listed.pop().unwrap_or_default();
            self.committed.push((new, self.files.clone()));
        } else if !was_cut {
            return Err("a run that was not cut committed nothing".to_owned());
        }
        self.expect_all()?;
        Ok(was_cut)
    }

    /// Some are forgotten, and what they had is collected, until that is killed.
    fn collect(&mut self) -> Result<bool, String> {
        let doomed: Vec<String> =
            self.committed.iter().step_by(2).skip(1).map(|(id, _)| id.clone()).collect();
        let mut args = vec!["forget", "--gc"];
        args.extend(doomed.iter().map(String::as_str));
        let was_cut = if doomed.is_empty() {
            self.kill(&["gc", "--fence-after", "0"])?
        } else {
            self.kill(&args)?
        };
        let listed = self.listed();
        let is_gone = |id: &String| doomed.contains(id) && !listed.contains(id);
        self.committed.retain(|(id, _)| !is_gone(id));
        self.expect_all()?;
        Ok(was_cut)
    }

    fn expect_all(&self) -> Result<(), String> {
        let listed = self.listed();
        match self.committed.iter().map(|(id, _)| id).eq(&listed) {
            true => Ok(()),
            false => Err(format!("{:?} became {listed:?}", self.committed)),
        }
    }

    fn restores(&self, number: usize) -> Result<(), String> {
        let (id, files) = &self.committed[number];
        self.world.restores(id, files, BYTES)
    }

    fn live(seed: u64, figures: &mut Figures) -> Result<(), String> {
        let mut life = Self::begin(seed);
        while figures.backups_cut + figures.collections_cut < KILLS {
            figures.runs += 1;
            if figures.runs > RUNS_MAX {
                return Err("hardly any run is cut off".to_owned());
            }
            if figures.runs.is_multiple_of(5) {
                figures.collections_cut += u64::from(life.collect()?);
            } else {
                figures.backups_cut += u64::from(life.backup()?);
            }
            let number = life.chance.below(life.committed.len());
            life.restores(number)?;
        }
        life.world.run(&["backup", &life.source]).code(0);
        life.committed.push((life.listed().pop().unwrap_or_default(), life.files.clone()));
        life.world.run(&["gc", "--fence-after", "0", "--max-unused", "0"]).code(0);
        life.world.run(&["check", "--read-data"]).code(0);
        life.expect_all()?;
        (0..life.committed.len()).try_for_each(|number| life.restores(number))?;
        figures.power_cuts = life.power_cuts;
        figures.committed = life.committed.len();
        figures.restored = figures.runs as usize + life.committed.len();
        Ok(())
    }
}

#[test]
fn killed_runs_lose_nothing_that_was_committed() {
    let kills = std::env::var("LASTGOOD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let campaign = each_seed(0..kills.div_ceil(KILLS), Life::live);
    let sum = |of: fn(&Figures) -> u64| campaign.figures.iter().map(of).sum::<u64>();
    let (backups, collections) = (sum(|it| it.backups_cut), sum(|it| it.collections_cut));
    tell(&format!(
        "kill: of {} runs in {} repositories, {backups} backups and {collections} collections were \
         cut off, and the power went {} times; {} snapshots stayed, {} were restored and compared; repositories that lost a \
         committed snapshot or needed a repair by hand: {}",
        sum(|it| it.runs),
        campaign.figures.len(),
        sum(|it| it.power_cuts),
        sum(|it| it.committed as u64),
        sum(|it| it.restored as u64),
        campaign.failed()
    ));
    campaign.end();
}

/// A disk that forgets what it had taken is found out.
#[test]
fn a_disk_that_lies_is_noticed() {
    let mut life = Life::begin(0);
    let Some(before) = life.disk.as_ref().map(|disk| disk.copy("before")) else { return };
    life.world.write("source/new", b"new");
    life.world.run(&["backup", &life.source]).code(0);
    life.committed.push((life.listed().pop().unwrap(), life.files.clone()));
    life.expect_all().unwrap();
    life.disk.as_mut().unwrap().put_in(before);
    assert!(life.expect_all().is_err(), "a snapshot is gone, and nobody says so");
    tell("seeded bug, a disk that forgets what it had taken: seen");
}

/// How many runs of one repository are killed.
const KILLS: u64 = 25;
const RUNS_MAX: u64 = 10 * KILLS;
/// What `timeout` exits with when it had to kill.
const CUT: i32 = 137;
const FILES: usize = 24;
const BYTES: usize = 200_000;
const DISK_BYTES: u64 = 256 << 20;
