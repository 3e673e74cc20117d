//! What somebody did to `latest/` that a run cannot undo, or that it must not take for its own.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lastgood_mirror::run::{RunReport, run};

use crate::sick::Sick;
use crate::world::{Names, World, tree};

/// Files that nobody can change, as long as this lives.
struct Locked(Vec<PathBuf>);

impl Locked {
    /// `None` where this is not to be had: without root, the tool, or the file system.
    fn new(paths: &[PathBuf]) -> Option<Self> {
        let locked = Self(paths.to_vec());
        paths.iter().all(|path| chattr("+i", path.as_ref())).then_some(locked)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        for path in &self.0 {
            chattr("-i", path.as_ref());
        }
    }
}

fn chattr(flag: &str, path: &OsStr) -> bool {
    let output = Command::new("chattr").arg(flag).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

impl World {
    /// Runs, and says what was told of which path.
    fn run_and_hear(&mut self) -> (RunReport, Vec<String>) {
        let report = self.run();
        (report, self.hear())
    }

    fn hear(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.troubles.0.lock().unwrap());
        told.into_iter().map(|it| it.path.escape_ascii().to_string()).collect()
    }
}

#[test]
fn what_is_immutable_in_latest_stays_and_is_told_and_the_rest_is_done() {
    let mut world = World::new();
    for name in ["changes", "goes", "other", "stays", "dir/changes", "dir/stays", "becomes"] {
        world.write(name, b"as it was");
    }
    world.run();
    let latest = |name: &str| world.mirror("latest").join(name);
    let paths = ["changes", "goes", "stays", "becomes", "dir"].map(latest);
    let Some(locked) = Locked::new(&paths) else { return };
    for name in ["changes", "other", "dir/changes", "dir/new/below"] {
        world.write(name, b"as it is now");
    }
    fs::remove_file(world.source("goes")).unwrap();
    fs::remove_file(world.source("becomes")).unwrap();
    world.write("becomes/directory/now", b"of files");
    for _ in 0..2 {
        let (report, told) = world.run_and_hear();
        let of = ["becomes", "changes", "dir", "dir/changes", "dir/new", "goes"];
        assert_eq!(told, of.map(|name| format!("latest/{name}")));
        assert_eq!((report.kept, report.conflicts), (5, Vec::new()));
        let shown = |name: &str| fs::read(world.mirror("latest").join(name)).unwrap();
        assert_eq!(shown("changes"), b"as it was");
        assert_eq!(shown("other"), b"as it is now");
        let report = world.verify();
        assert_eq!((report.damaged, report.lost), Default::default());
    }
    drop(locked);
    let (report, told) = world.run_and_hear();
    assert_eq!((told, report.kept), (Vec::new(), 0));
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    let newest = world.versions.split_off(world.versions.len() - 1);
    world.versions.truncate(1);
    world.versions.extend(newest);
    world.check();
}

#[test]
fn what_the_system_refuses_to_change_is_told_and_the_rest_is_done() {
    let mut world = World::new();
    for name in ["refused/a", "refused/gone", "other"] {
        world.write(name, b"as it was");
    }
    world.run();
    for name in ["refused/a", "refused/new", "other"] {
        world.write(name, b"as it is now");
    }
    fs::remove_file(world.source("refused/gone")).unwrap();
    for _ in 0..2 {
        let options = world.next_options();
        let mirror = Sick::failing(&world.mirror(""), |call, path| {
            let is_change = ["rename", "remove", "link", "make directory"].contains(&call);
            (is_change && path.starts_with(b"latest/refused/")).then_some(EPERM)
        });
        run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
        let told = world.hear();
        assert!(told.contains(&"latest/refused/a".to_owned()), "{told:?}");
        assert!(told.iter().all(|path| path.starts_with("latest/refused/")), "{told:?}");
        assert!(!fs::exists(world.mirror(".lastgood/journal")).unwrap());
        let shown = |name: &str| fs::read(world.mirror("latest").join(name)).unwrap();
        assert_eq!(shown("refused/a"), b"as it was");
        assert_eq!(shown("other"), b"as it is now");
    }
    let told = world.run_and_hear().1;
    assert_eq!(told, Vec::<String>::new());
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
}

#[test]
fn what_somebody_puts_in_place_of_a_file_before_it_is_kept_does_not_become_history() {
    let mut world = World::new();
    for name in ["changes", "goes", "moves"] {
        world.write(name, format!("{name} as it was").as_bytes());
    }
    world.run();
    world.write("changes", b"as it is now");
    fs::remove_file(world.source("goes")).unwrap();
    fs::rename(world.source("moves"), world.source("moved")).unwrap();
    let options = world.next_options();
    let latest = world.mirror("latest");
    // After all was planned and read.
    let mirror = Sick::failing(&world.mirror(""), move |call, path| {
        if call == "rename" && path == b".lastgood/journal" {
            for name in ["changes", "goes", "moves"] {
                fs::write(latest.join(name), format!("{name} by somebody")).unwrap();
            }
        }
        None
    });
    run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
    assert_eq!(world.hear(), ["changes", "goes", "moves"].map(|name| format!("latest/{name}")));
    let kept = world.names(&world.folder_of(0));
    assert_eq!(kept, Vec::<String>::new());
    let aside = tree(&world.mirror(".lastgood/conflicts"));
    for name in ["changes", "goes", "moves"] {
        let text = format!("{name} by somebody");
        assert!(aside.values().any(|it| it.contains(&text)), "{text}");
    }
    world.run();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
}

const EPERM: i32 = 1;
