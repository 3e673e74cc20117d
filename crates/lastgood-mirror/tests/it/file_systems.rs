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

use lastgood_testkit::campaign::tell;
use lastgood_testkit::chance::Chance;

use crate::world::{Names, World, tree};

/// A file system, how an image of it is made, and the ways to mount that: the kernel's first.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    mounts: &'static [&'static [&'static str]],
    /// Whether continuous integration has to have it.
    is_mandatory: bool,
}

const OF_THE_KERNEL: &[&str] = &["mount", "-o", "loop", "IMAGE", "AT"];

const KINDS: &[Kind] = &[
    Kind { name: "ext4", make: &["mkfs.ext4", "-q"], mounts: &[OF_THE_KERNEL], is_mandatory: true },
    Kind { name: "xfs", make: &["mkfs.xfs", "-q"], mounts: &[OF_THE_KERNEL], is_mandatory: true },
    Kind {
        name: "btrfs",
        make: &["mkfs.btrfs", "-q"],
        mounts: &[OF_THE_KERNEL],
        is_mandatory: true,
    },
    Kind {
        name: "tmpfs",
        make: &[],
        mounts: &[&["mount", "-t", "tmpfs", "none", "AT"]],
        is_mandatory: true,
    },
    Kind {
        name: "vfat",
        make: &["mkfs.vfat", "-F", "32"],
        mounts: &[OF_THE_KERNEL, &["fusefat", "-o", "rw+", "IMAGE", "AT"]],
        is_mandatory: true,
    },
    Kind {
        name: "exfat",
        make: &["mkfs.exfat"],
        mounts: &[OF_THE_KERNEL, &["mount.exfat-fuse", "DEVICE", "AT"]],
        is_mandatory: false,
    },
    Kind {
        name: "ntfs",
        make: &["mkfs.ntfs", "-Q", "-F", "-q"],
        mounts: &[
            &["mount", "-t", "ntfs3", "-o", "loop", "IMAGE", "AT"],
            &["ntfs-3g", "IMAGE", "AT"],
        ],
        is_mandatory: false,
    },
];

/// A file system of its own below a directory, as long as this lives.
struct Mounted {
    at: PathBuf,
    /// The program that mounted it.
    driver: &'static str,
    /// What a driver that wants a block device was given.
    device: Option<String>,
    /// Where its image is: in memory, where that is to be had, so that a full disk is no failure.
    _images: tempfile::TempDir,
}

impl Mounted {
    /// `None` where this is not to be had, which is told: without root, the tools, or the driver.
    fn new(name: &str, at: PathBuf) -> Option<Self> {
        let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
        fs::create_dir(&at).unwrap();
        let mounted = Self::of(kind, at);
        match &mounted {
            Ok((_, by)) => tell(&format!("file system {name}: tested by {by}")),
            Err(why) => {
                tell(&format!("file system {name}: NOT TESTED on this machine: {why}"));
                let must =
                    kind.is_mandatory && std::env::var_os("CI").is_some_and(|it| !it.is_empty());
                assert!(!must, "{name} has to be tested where everything is: {why}");
            }
        }
        mounted.ok().map(|(mounted, _)| mounted)
    }

    fn of(kind: &Kind, at: PathBuf) -> Result<(Self, String), String> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let images = tempfile::tempdir_in(parent).unwrap();
        let image = images.path().join(kind.name);
        fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let mut mounted = Self { at, driver: "", device: None, _images: images };
        if let [program, options @ ..] = kind.make {
            let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
            said(program, &[&options[..], &[image.as_ref()]].concat())?;
        }
        let mut whys = Vec::new();
        for mount in kind.mounts {
            match mounted.mount(mount, &image) {
                Ok(()) => {
                    mounted.driver = mount[0];
                    return Ok((mounted, mount[..mount.len() - 2].join(" ")));
                }
                Err(why) => whys.push(why),
            }
        }
        // Nothing is mounted that would have to go.
        mounted.at = PathBuf::new();
        Err(whys.join("; "))
    }

    fn mount(&mut self, words: &[&str], image: &Path) -> Result<(), String> {
        if words.contains(&"DEVICE") {
            let device = said("losetup", &["--find".as_ref(), "--show".as_ref(), image.as_ref()])?;
            self.device = Some(device.trim().to_owned());
        }
        let device = self.device.clone().unwrap_or_default();
        let words = words.iter().map(|word| match *word {
            "IMAGE" => image.as_os_str(),
            "DEVICE" => OsStr::new(&device),
            "AT" => self.at.as_os_str(),
            word => OsStr::new(word),
        });
        let words: Vec<&OsStr> = words.collect();
        said(words[0].to_str().unwrap(), &words[1..])?;
        let above = self.at.parent().unwrap();
        match fs::metadata(&self.at).unwrap().dev() == fs::metadata(above).unwrap().dev() {
            true => Err(format!("{:?} mounted nothing", words[0])),
            false => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.at.as_os_str().is_empty() {
            succeeds("umount", &[self.at.as_os_str()]);
        }
        if let Some(device) = &self.device {
            succeeds("losetup", &["-d".as_ref(), device.as_ref()]);
        }
    }
}

/// What a program says; why it failed else.
fn said(program: &str, arguments: &[&OsStr]) -> Result<String, String> {
    match Command::new(program).args(arguments).output() {
        Err(error) => Err(format!("{program}: {error}")),
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{program}: {}", said.lines().next().unwrap_or("it failed")))
        }
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

/// What a file system that is no Unix one does not show stands in the records, comes back, and is
/// not taken for somebody's edit; what it cannot hold at all is told.
fn check_weak(kind: &str, expected: &[&str]) {
    let mut world = World::new();
    let Some(mounted) = Mounted::new(kind, world.folder.path().join("mirror")) else { return };
    let forgets_times = mounted.driver == "fusefat";
    let told = |world: &World| -> Vec<String> {
        let told = std::mem::take(&mut *world.troubles.0.lock().unwrap());
        told.into_iter().map(|it| it.path.escape_ascii().to_string()).collect()
    };
    world.write("Report", b"first of its name");
    world.write("report", b"second");
    world.write("Case/Dir/file", b"in directories");
    world.write("a:b/below", b"in a directory");
    world.write("what? a name", b"forbidden");
    world.write("ends with a dot.", b"forgotten there");
    world.write("con.txt", b"a device, elsewhere");
    world.write("hard1", b"of two names");
    fs::hard_link(world.source("hard1"), world.source("hard2")).unwrap();
    symlink("Report", world.source("link")).unwrap();
    for (name, mode) in [("script", 0o750), ("secret", 0o600), ("readable", 0o444)] {
        world.write(name, name.as_bytes());
        fs::set_permissions(world.source(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    // Times that few file systems keep.
    let times = [("odd", 1_700_000_001, 987_654_321), ("old", 7, 5), ("far", 5_000_000_000, 1)];
    if forgets_times {
        tell(&format!(
            "file system {kind}: fusefat forgets times when it renames, so they are NOT TESTED"
        ));
        world.write("odd", b"odd");
    }
    for (name, seconds, nanos) in times.into_iter().filter(|_| !forgets_times) {
        world.write(name, name.as_bytes());
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanos);
        let file = fs::File::options().write(true).open(world.source(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    let first = world.run();
    assert_eq!(first.conflicts, Vec::<Box<[u8]>>::new());
    let left_out_here = told(&world);
    let left_out: Vec<&str> = left_out_here.iter().map(String::as_str).collect();
    // Drivers of one file system differ in what they make of a dot at the end.
    let without = left_out.iter().copied().filter(|name| *name != "ends with a dot.");
    assert_eq!(without.collect::<Vec<_>>(), expected, "on {kind}");
    // Nothing new, and nothing that anybody did.
    let again = world.run();
    assert_eq!((again.version, again.conflicts), (None, Vec::new()), "on {kind}");
    assert_eq!(told(&world), left_out);
    // Changed, moved, gone, only in case, only permissions; and somebody edits.
    world.write("odd", b"not so odd");
    let is_seen = in_any_case(&world);
    if is_seen {
        fs::rename(world.source("Case"), world.source("case")).unwrap();
    } else {
        tell(&format!(
            "file system {kind}: {} gives a name in another case another inode, so changes of case \
             are NOT TESTED",
            mounted.driver
        ));
    }
    fs::rename(world.source("readable"), world.source("Case2")).unwrap();
    fs::remove_file(world.source("hard1")).unwrap();
    fs::set_permissions(world.source("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(world.mirror("latest/script"), b"edited by somebody").unwrap();
    let second = world.run();
    assert_eq!(second.conflicts, [Box::from(&b"script"[..])]);
    assert_eq!(told(&world), left_out);
    let case = if is_seen { "latest/case/Dir/file" } else { "latest/Case/Dir/file" };
    assert_eq!(fs::read(world.mirror(case)).unwrap(), b"in directories");
    assert_eq!(fs::read(world.mirror("latest/script")).unwrap(), b"script");
    world.write("last", b"one more");
    world.run();
    let gone = world.versions.remove(1).0;
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    drop_version(&mirror, &gone, false).unwrap();
    drop(mirror);
    let verified = world.verify();
    assert_eq!((verified.damaged, verified.lost, verified.broken), Default::default());
    for (name, expected) in &world.versions {
        let to = tempfile::tempdir().unwrap();
        let mut expected = expected.clone();
        expected.retain(|path, _| !left_out.iter().any(|out| path.starts_with(out)));
        world.restore(name, "", &to.path().join("back"));
        assert_eq!(tree(&to.path().join("back")), expected, "{name} on {kind}");
        for script in ["restore.sh", "restore.py"] {
            let back = to.path().join(script);
            world.script(script, &[name.as_ref(), back.as_os_str()]);
            assert_eq!(tree(&back), expected, "{name} by {script} on {kind}");
        }
    }
}

/// Whether what a name in another case leads to is seen to be the same.
fn in_any_case(world: &World) -> bool {
    let inode = |name: &str| fs::metadata(world.mirror(name)).map(|it| it.ino()).ok();
    let other = inode("LATEST");
    other.is_none() || other == inode("latest")
}

/// Where a file system takes any name, and tells names apart by their case.
const NOTHING: &[&str] = &[];

#[test]
fn case_10_to_12_a_mirror_is_a_mirror_on_vfat() {
    check_weak("vfat", &["a:b", "report", "what? a name"]);
}

#[test]
fn case_10_to_12_a_mirror_is_a_mirror_on_exfat() {
    check_weak("exfat", &["a:b", "report", "what? a name"]);
}

#[test]
fn case_10_to_12_a_mirror_is_a_mirror_on_ntfs() {
    check_weak("ntfs", NOTHING);
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
    fn dress(
        &self,
        path: &[u8],
        file: &TargetFile,
        entry: &Entry,
    ) -> Result<Vec<Unset>, HostError> {
        self.0.dress(path, file, entry)
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
