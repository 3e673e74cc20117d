//! Mirrors on file systems of their own, where whoever runs the tests may mount them, and on one
//! that can do little.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::metadata::Unset;
use lastgood_host::scan::Stat;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;
use lastgood_mirror::Mirror;
use lastgood_mirror::place::{HostPlace, Place};
use lastgood_mirror::run::{run, subject};
use lastgood_mirror::thin::drop_version;

use crate::world::{Names, World, tree};

/// A file system of its own below a directory, as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this is not to be had: without root, the tools, or the file system.
    fn new(kind: &str, at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        if kind == "tmpfs" {
            let mount = [OsStr::new("-t"), "tmpfs".as_ref(), "none".as_ref(), at.as_ref()];
            return succeeds("mount", &mount).then_some(Self(at));
        }
        let image = at.with_extension(kind);
        fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let is_there = succeeds(&format!("mkfs.{kind}"), &[OsStr::new("-q"), image.as_ref()])
            && succeeds("mount", &[OsStr::new("-o"), "loop".as_ref(), image.as_ref(), at.as_ref()]);
        is_there.then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        succeeds("umount", &[self.0.as_os_str()]);
    }
}

fn succeeds(program: &str, arguments: &[&OsStr]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// A source of everything, which changes in every way.
fn story(world: &mut World, run: &mut dyn FnMut(&mut World)) {
    for number in 0..12 {
        world.write(&format!("many/{number}"), format!("file {number}").as_bytes());
    }
    world.write("large", &vec![7; 3_000_000]);
    world.write("hard1", b"of two names");
    fs::hard_link(world.source("hard1"), world.source("hard2")).unwrap();
    symlink("large", world.source("link")).unwrap();
    let odd = OsStr::new("Ünïcode \u{1F980} 'and' \"more\" \\ *?<>|:");
    fs::write(world.source("").join(odd), b"odd").unwrap();
    world.write(&"n".repeat(255), b"a long name");
    run(world);
    fs::rename(world.source("many"), world.source("moved")).unwrap();
    let mut bytes = vec![7; 3_000_000];
    bytes[1_234_567] = 8;
    world.write("large", &bytes);
    fs::remove_file(world.source("hard2")).unwrap();
    fs::remove_file(world.source("link")).unwrap();
    world.write("link/is/a/directory", b"now");
    run(world);
    fs::remove_dir_all(world.source("link")).unwrap();
    world.write("link", b"and a file");
    fs::set_permissions(world.source("moved/7"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(world.mirror("latest/moved/8"), b"edited by somebody").unwrap();
    run(world);
}

fn check(kind: &str) {
    let mut world = World::new();
    let Some(_mounted) = Mounted::new(kind, world.folder.path().join("mirror")) else {
        eprintln!("{kind} cannot be mounted here");
        return;
    };
    let device = |path: PathBuf| fs::metadata(path).unwrap().dev();
    assert_ne!(device(world.mirror("")), device(world.source("")));
    story(&mut world, &mut |world| {
        world.run();
        assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")), "on {kind}");
    });
    let gone = world.versions.remove(1).0;
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    drop_version(&mirror, &gone, false).unwrap();
    drop(mirror);
    world.check();
}

#[test]
fn a_mirror_is_a_mirror_on_ext4() {
    check("ext4");
}

#[test]
fn a_mirror_is_a_mirror_on_xfs() {
    check("xfs");
}

#[test]
fn a_mirror_is_a_mirror_on_btrfs() {
    check("btrfs");
}

#[test]
fn a_mirror_is_a_mirror_on_tmpfs() {
    check("tmpfs");
}

/// A place without hard links, as FAT is one.
struct Linkless(HostPlace);

impl Place for Linkless {
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError> {
        self.0.stat(path)
    }
    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, HostError> {
        self.0.list(path)
    }
    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError> {
        self.0.open(path)
    }
    fn make_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.0.make_directory(path)
    }
    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError> {
        self.0.create(path)
    }
    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), HostError> {
        self.0.make_symlink(path, target)
    }
    fn link(&self, from: &[u8], _: &[u8]) -> Result<(), HostError> {
        self.stat(from)?;
        let source = std::io::Error::from_raw_os_error(EPERM);
        Err(HostError { action: "link", path: Path::new("linkless").into(), source })
    }
    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &[u8]) -> Result<(), HostError> {
        self.0.remove(path)
    }
    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.0.remove_directory(path)
    }
    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError> {
        self.0.look(path, entry)
    }
    fn sync(&self) -> Result<(), HostError> {
        self.0.sync()
    }
}

#[test]
fn case_12_without_hard_links_every_version_comes_back() {
    let mut world = World::new();
    let mirror_at = world.mirror("");
    let subject = subject(&world.source("")).unwrap();
    drop(Mirror::open_or_create(&mirror_at, &subject).unwrap());
    let mirror = || {
        let place = Linkless(HostPlace::open(&mirror_at).unwrap());
        Mirror::on(Arc::new(place), &mirror_at)
    };
    story(&mut world, &mut |world| {
        let options = world.next_options();
        let report = run(&mirror(), &options, &mut Names(&[]), &world.troubles).unwrap();
        world.versions.push((report.version.unwrap().name, tree(&world.source(""))));
    });
    let latest = tree(&world.mirror("latest"));
    assert!(latest.keys().eq(tree(&world.source("")).keys()));
    let gone = world.versions.remove(1).0;
    drop_version(&mirror(), &gone, false).unwrap();
    world.check();
}

const IMAGE_BYTES: u64 = 320 << 20;
const EPERM: i32 = 1;
