//! A run beside others who write, and a run with much to do.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_mirror::run::run;
use lastgood_mirror::{Mirror, Trouble, Watch};

use crate::recorder::{Recorder, Step};
use crate::world::{Names, Troubles, World, tree};

/// Writes to a file of the source whenever some of it was read, so often.
struct Writer<'a> {
    file: PathBuf,
    times: Cell<u32>,
    troubles: &'a Troubles,
}

impl Watch for Writer<'_> {
    fn is_cancelled(&self) -> bool {
        false
    }
    fn bytes(&self, path: &[u8], _: u64) {
        if path == b"log" && self.times.get() > 0 {
            self.times.set(self.times.get() - 1);
            let mut file = fs::File::options().append(true).open(&self.file).unwrap();
            file.write_all(b"one more line\n").unwrap();
        }
    }
    fn file(&self, _: &[u8]) {}
    fn total(&self, _: u64, _: u64) {}
    fn trouble(&self, trouble: Trouble) {
        self.troubles.trouble(trouble);
    }
}

/// Runs while the log is written to so often; what was told.
fn run_beside_a_writer(world: &mut World, times: u32) -> Vec<Trouble> {
    let options = world.next_options();
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    let troubles = Troubles::default();
    let watch = Writer { file: world.source("log"), times: Cell::new(times), troubles: &troubles };
    run(&mirror, &options, &mut Names(&[]), &watch).unwrap();
    assert_eq!(watch.times.get(), 0);
    troubles.0.into_inner().unwrap()
}

#[test]
fn case_16_a_file_that_changes_while_it_is_read_is_read_again() {
    let mut world = World::new();
    world.write("log", b"begun\n");
    world.run();
    world.write("log", &[b'x'; 1_000_000]);
    assert_eq!(run_beside_a_writer(&mut world, 1), Vec::new());
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    // Each time: what was read last is there, is marked, and is read again by the next run.
    world.write("log", &[b'y'; 1_000_000]);
    let troubles = run_beside_a_writer(&mut world, 12);
    assert_eq!((troubles.len(), troubles[0].during), (1, "read"));
    let text = fs::read_to_string(world.mirror(".lastgood/latest")).unwrap();
    let record = text.lines().find(|line| line.starts_with("f\tlog\t")).unwrap();
    assert_eq!(record.split('\t').nth(10), Some("1"));
    assert!(fs::metadata(world.mirror("latest/log")).unwrap().len() > 1_000_000);
    let first = tempfile::tempdir().unwrap();
    world.restore(&world.folder_of(0), "", first.path());
    assert_eq!(fs::read(first.path().join("log")).unwrap(), b"begun\n");
    let report = world.run();
    assert_eq!((report.changed, tree(&world.mirror("latest"))), (1, tree(&world.source(""))));
}

#[test]
fn case_35_many_files_cost_no_more_syncs_than_few() {
    let syncs = |count: u32| {
        let mut world = World::new();
        world.write("first", b"1");
        world.run();
        for number in 0..count {
            world.write(&format!("d{}/{number}", number % 7), b"many");
        }
        let recorder = Arc::new(Recorder::new(&world.mirror("")));
        let mirror = Mirror::on(recorder.clone(), &world.mirror(""));
        let options = world.next_options();
        let report = run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
        assert_eq!(report.new, u64::from(count));
        recorder.steps().iter().filter(|step| matches!(step, Step::Sync)).count()
    };
    assert_eq!(syncs(7), syncs(700));
}

/// Does something to the mirror while the source is read.
struct Meddler<'a>(&'a dyn Fn(), &'a Troubles);

impl Watch for Meddler<'_> {
    fn is_cancelled(&self) -> bool {
        false
    }
    fn bytes(&self, _: &[u8], _: u64) {}
    fn file(&self, path: &[u8]) {
        if path == b"zz" {
            (self.0)();
        }
    }
    fn total(&self, _: u64, _: u64) {}
    fn trouble(&self, trouble: Trouble) {
        self.1.trouble(trouble);
    }
}

#[test]
fn case_24_what_somebody_puts_into_latest_during_a_run_is_kept_and_ends_nothing() {
    let mut world = World::new();
    for name in ["d/changes", "d/stays", "touched/x", "last/x"] {
        world.write(name, b"first");
    }
    world.run();
    world.write("d/changes", b"changed");
    world.write("d/new", b"from the source");
    world.write("new", b"from the source");
    world.write("zz", b"is read last");
    fs::remove_file(world.source("touched/x")).unwrap();
    let options = world.next_options();
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    let latest = |name: &str| world.mirror("latest").join(name);
    let meddle = || {
        fs::write(latest("new"), b"by somebody").unwrap();
        for name in ["d", "touched"] {
            fs::rename(latest(name), world.folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/", latest("d")).unwrap();
        fs::write(latest("touched"), b"no directory").unwrap();
    };
    let watch = Meddler(&meddle, &world.troubles);
    run(&mirror, &options, &mut Names(&[]), &watch).unwrap();
    drop(mirror);
    let held = |world: &World, bytes: &str| {
        let found = tree(&world.mirror(".lastgood/conflicts"));
        found.values().any(|text| text.contains(bytes))
    };
    assert!(held(&world, "by somebody"));
    assert!(!fs::exists(world.mirror(".lastgood/journal")).unwrap());
    let told = std::mem::take(&mut *world.troubles.0.lock().unwrap());
    assert!(told.iter().any(|it| *it.path == *b"latest/new"), "{told:?}");
    world.run();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    assert!(held(&world, "by somebody") && held(&world, "no directory"));
}
