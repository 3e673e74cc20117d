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
use lastgood_host::volume;
use lastgood_mirror::Mirror;
use lastgood_mirror::place::{HostPlace, Place};
use lastgood_mirror::restore::restore;
use lastgood_mirror::run::{run, subject};
use lastgood_mirror::thin::drop_version;
use lastgood_mirror::verify::verify;

use lastgood_testkit::chance::Chance;

use crate::world::{Names, World, tree};

/// A file system of its own below a directory, as long as this lives.
struct Mounted {
    at: PathBuf,
    /// Where its image is: in memory, where that is to be had, so that a full disk is no failure.
    _images: tempfile::TempDir,
}

impl Mounted {
    /// `None` where this is not to be had: without root, the tools, or the file system.
    fn new(kind: &str, at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let images = tempfile::tempdir_in(parent).unwrap();
        if kind == "tmpfs" {
            let mount = [OsStr::new("-t"), "tmpfs".as_ref(), "none".as_ref(), at.as_ref()];
            return succeeds("mount", &mount).then_some(Self { at, _images: images });
        }
        let image = images.path().join(kind);
        fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let is_there = succeeds(&format!("mkfs.{kind}"), &[OsStr::new("-q"), image.as_ref()])
            && succeeds("mount", &[OsStr::new("-o"), "loop".as_ref(), image.as_ref(), at.as_ref()]);
        is_there.then_some(Self { at, _images: images })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        succeeds("umount", &[self.at.as_os_str()]);
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
        // Without root, the tools or the file system there is nothing to be tested.
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

/// A large file of which little changes costs little, and its old version is whole and plain.
fn check_sharing(kind: &str) {
    let mut world = World::new();
    let Some(_mounted) = Mounted::new(kind, world.folder.path().join("mirror")) else { return };
    let mut chance = Chance::new(7);
    let mut bytes: Vec<u8> =
        (0..LARGE_BYTES / 8).flat_map(|_| chance.number().to_le_bytes()).collect();
    world.write("large", &bytes);
    world.run();
    let free = |world: &World| {
        succeeds("sync", &[]);
        volume::space(&world.mirror("")).unwrap().available
    };
    let before = free(&world);
    let old = bytes.clone();
    bytes[20_000_000] ^= 1;
    bytes.extend_from_slice(b"and a little more");
    world.write("large", &bytes);
    assert_eq!(world.run().changed, 1);
    let grown = before.saturating_sub(free(&world));
    assert!(grown < LARGE_BYTES as u64 / 8, "{grown} bytes more on {kind}");
    let kept = world.mirror(&world.folder_of(0)).join("large");
    assert!(
        fs::read(kept).unwrap() == old && fs::read(world.mirror("latest/large")).unwrap() == bytes
    );
    // Shorter than before, and with holes where bytes were.
    world.write("large", &bytes[..30_000_000]);
    world.run();
    fs::File::options().write(true).open(world.source("large")).unwrap().set_len(0).unwrap();
    fs::File::options().write(true).open(world.source("large")).unwrap().set_len(9 << 20).unwrap();
    world.run();
    let verified = world.verify();
    assert_eq!((verified.damaged, verified.lost), Default::default());
    assert_eq!(fs::read(world.mirror("latest/large")).unwrap(), vec![0; 9 << 20]);
}

#[test]
fn case_15_a_small_edit_of_a_large_file_costs_little_on_xfs() {
    check_sharing("xfs");
}

#[test]
fn case_15_and_36_a_small_edit_of_a_large_file_costs_little_on_btrfs() {
    check_sharing("btrfs");
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

/// A place as FAT is one: without links of either kind, with names that may not hold everything,
/// and whose case means nothing.
struct Weak(HostPlace);

impl Weak {
    /// Where a path is: whatever its case, in lower case.
    fn at(path: &[u8]) -> Result<Vec<u8>, HostError> {
        let text = String::from_utf8(path.to_vec()).map_err(|_| refused(EINVAL))?;
        if text.contains([':', '*', '?', '"', '<', '>', '|', '\\']) {
            return Err(refused(EINVAL));
        }
        if text.split('/').any(|name| name.len() > 143) {
            return Err(refused(ENAMETOOLONG));
        }
        let names: Vec<&str> = text.split('/').map(|name| name.trim_end_matches('.')).collect();
        Ok(names.join("/").to_lowercase().into_bytes())
    }
}

fn refused(errno: i32) -> HostError {
    let source = std::io::Error::from_raw_os_error(errno);
    HostError { action: "do", path: Path::new("this on a weak file system").into(), source }
}

impl Place for Weak {
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError> {
        self.0.stat(&Self::at(path)?)
    }
    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, HostError> {
        self.0.list(&Self::at(path)?)
    }
    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError> {
        self.0.open(&Self::at(path)?)
    }
    fn read_link(&self, path: &[u8]) -> Result<Option<Box<[u8]>>, HostError> {
        self.0.read_link(&Self::at(path)?)
    }
    fn make_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.0.make_directory(&Self::at(path)?)
    }
    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError> {
        self.0.create(&Self::at(path)?)
    }
    fn make_symlink(&self, _: &[u8], _: &[u8]) -> Result<(), HostError> {
        Err(refused(EPERM))
    }
    fn link(&self, from: &[u8], _: &[u8]) -> Result<(), HostError> {
        match self.stat(from)? {
            Some(_) => Err(refused(EPERM)),
            None => Err(refused(ENOENT)),
        }
    }
    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.0.rename(&Self::at(from)?, &Self::at(to)?)
    }
    fn remove(&self, path: &[u8]) -> Result<(), HostError> {
        self.0.remove(&Self::at(path)?)
    }
    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.0.remove_directory(&Self::at(path)?)
    }
    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError> {
        self.0.look(&Self::at(path)?, entry)
    }
    fn sync(&self) -> Result<(), HostError> {
        self.0.sync()
    }
}

#[test]
fn case_10_to_12_a_weak_file_system_holds_what_it_can_and_says_what_it_cannot() {
    let mut world = World::new();
    let mirror_at = world.mirror("");
    fs::create_dir(&mirror_at).unwrap();
    let mirror = || Mirror::on(Arc::new(Weak(HostPlace::open(&mirror_at).unwrap())), &mirror_at);
    mirror().found(&subject(&world.source("")).unwrap()).unwrap();
    let run = |world: &mut World| -> Vec<String> {
        let options = world.next_options();
        let report = run(&mirror(), &options, &mut Names(&[]), &world.troubles).unwrap();
        world.versions.push((report.version.unwrap().name, tree(&world.source(""))));
        let told = std::mem::take(&mut *world.troubles.0.lock().unwrap());
        told.into_iter().map(|it| it.path.escape_ascii().to_string()).collect()
    };
    let check = |world: &World, left_out: &[&str]| {
        for (name, expected) in &world.versions {
            let to = tempfile::tempdir().unwrap();
            let options = world.restore_options(name, "", &to.path().join("back"));
            let report = restore(&mirror(), &options, &world.troubles).unwrap();
            assert_eq!((report.damaged, report.failed), (Vec::new(), 0), "{name}");
            let mut expected = expected.clone();
            expected.retain(|path, _| !left_out.iter().any(|out| path.starts_with(out)));
            let back = tree(&to.path().join("back"));
            assert_eq!(back, expected, "{name}");
        }
        let verified = verify(&mirror(), &world.troubles).unwrap();
        assert_eq!((verified.damaged, verified.lost), Default::default());
    };
    world.write("Report", b"first of its name");
    world.write("Case/Dir/file", b"in directories");
    world.write("hard1", b"of two names");
    fs::hard_link(world.source("hard1"), world.source("hard2")).unwrap();
    symlink("Report", world.source("link")).unwrap();
    assert_eq!(run(&mut world), Vec::<String>::new());
    // Nothing new, and nothing that anybody did.
    let options = world.next_options();
    let none = lastgood_mirror::run::run(&mirror(), &options, &mut Names(&[]), &world.troubles);
    let none = none.unwrap();
    assert_eq!((none.version, none.conflicts), (None, Vec::new()));
    assert_eq!(none.unset, [("symlink".to_owned(), 1)]);
    // Other names come that are the same there, and some that cannot be.
    world.write("report", b"second");
    world.write("what? a name", b"forbidden");
    world.write("a:b/below", b"in a directory");
    world.write("report.", b"would be another's");
    let long = "x".repeat(200);
    world.write(&long, b"of a long name");
    let told = ["a:b", "report", "report.", "what? a name", &long];
    assert_eq!(run(&mut world), told);
    check(&world, &told);
    // Only the case changes; the first of its name goes, and the second takes its place.
    fs::rename(world.source("hard1"), world.source("Hard1")).unwrap();
    fs::rename(world.source("Case"), world.source("case")).unwrap();
    fs::remove_file(world.source("Report")).unwrap();
    assert_eq!(run(&mut world), ["a:b", "report.", "what? a name", &long]);
    let shown = fs::read(world.mirror("latest/report")).unwrap();
    assert_eq!(shown, b"second");
    assert_eq!(fs::read(world.mirror("latest/case/dir/file")).unwrap(), b"in directories");
    assert_eq!(fs::read(world.mirror("latest/hard1")).unwrap(), b"of two names");
    let newest = world.versions.pop().unwrap();
    check(&world, &told);
    world.versions = vec![newest];
    check(&world, &["a:b", "report.", "what? a name", &long]);
}

const LARGE_BYTES: usize = 48 << 20;
const IMAGE_BYTES: u64 = 320 << 20;
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const ENAMETOOLONG: i32 = 36;
