//! Restore: what is promised of the target, tried on repositories in memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood::backup::{BackupOptions, Parent};
use lastgood::restore::{Change, Choice, Overwrite, RestoreOptions, RestoreReport, start};
use lastgood::verify::VerifyOptions;
use lastgood::{
    ChunkerParams, Entry, Error, ErrorKind, Node, Repository, SnapshotRecord, Timestamp, system,
};
use lastgood_backend::local::LocalBackend;
use lastgood_format::entry::{Content, Marks};
use lastgood_format::id::BlobId;
use lastgood_format::links::{Link, LinksCodec};
use lastgood_format::pack::BlobKind;
use lastgood_format::page;
use lastgood_format::snapshot::{OwnerNames, Snapshot, SnapshotFlags, Totals};
use lastgood_format::tree::TreeCodec;
use lastgood_repo::{InitOptions, OpenOptions, RepoError, WriteSession};

/// A repository, a source and a target.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) repo: Arc<Repository>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["source", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let backend = LocalBackend::create(&folder.path().join("repository")).unwrap();
        let init = InitOptions {
            credential: lastgood::Credential::KeyFile(lastgood_format::key::Secret::new([7; 32])),
            label: "test".to_owned(),
            work: lastgood::WorkFactors::DEFAULT,
            chunker: ChunkerParams::Fixed { block: 16 << 10 },
        };
        let options = OpenOptions::default();
        let repo = Repository::create(Arc::new(backend), system::world(), &init, options).unwrap();
        Self { folder, repo: Arc::new(repo) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens the repository again, so nothing is remembered.
    fn reopen(&mut self) {
        let backend = LocalBackend::open(&self.path("repository")).unwrap();
        let root = self.repo.keys().root().clone();
        let credential = lastgood::Credential::Root(root);
        let options = OpenOptions::default();
        let repo =
            Repository::open(Arc::new(backend), system::world(), &credential, options).unwrap();
        self.repo = Arc::new(repo);
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn backup(&self) -> SnapshotRecord {
        self.backup_of(&["source"])
    }

    fn backup_of(&self, sources: &[&str]) -> SnapshotRecord {
        let options = BackupOptions {
            sources: sources.iter().map(|name| self.path(name)).collect(),
            parent: Parent::None,
            host: "host".to_owned(),
            host_id: HOST,
            user: "user".to_owned(),
            threads: 2,
            ..BackupOptions::new(Vec::new(), self.path("state"))
        };
        let report = lastgood::backup::start(self.repo.clone(), options).wait(drop).unwrap();
        assert_eq!(report.problems.errors, 0, "{:?}", report.problems);
        report.snapshot.unwrap()
    }

    pub(crate) fn options(&self, snapshot: &SnapshotRecord) -> RestoreOptions {
        let mut options = RestoreOptions::new(snapshot.clone(), self.path("target"));
        options.host_id = HOST;
        options.threads = 2;
        options
    }

    pub(crate) fn try_restore(&self, options: RestoreOptions) -> Result<RestoreReport, Error> {
        start(self.repo.clone(), options).wait(drop)
    }

    fn restore(&self, options: RestoreOptions) -> RestoreReport {
        self.try_restore(options).unwrap()
    }

    /// Restores, and expects the target to be the source.
    fn check(&self, options: RestoreOptions) -> RestoreReport {
        let report = self.restore(options);
        assert_eq!(report.problems.errors, 0, "{:?}", report.problems);
        assert_same(&self.path("source"), &self.path("target"));
        report
    }

    /// Commits a snapshot of a tree made by hand.
    pub(crate) fn commit(
        &self,
        make: impl FnOnce(&mut Hand<'_>) -> Vec<Entry>,
        links: Vec<Link>,
    ) -> SnapshotRecord {
        let session =
            WriteSession::begin(&self.repo, lastgood::Settings::default(), &[3; 16]).unwrap();
        let mut writer = session.writer();
        let mut hand = Hand { writer: &mut writer };
        let entries = make(&mut hand);
        let tree = hand.tree(entries);
        let hints = hand.page::<lastgood_format::hints::HintsCodec>(Vec::new(), BlobKind::Hints);
        let links = hand.page::<LinksCodec>(links, BlobKind::Links);
        writer.finish().unwrap();
        let chain = self.repo.snapshots().unwrap().next_in_chain(session.writer_id(), &[]);
        let now = Timestamp { seconds: 1, nanos: 0 };
        session
            .finish(&[], |stored| Snapshot {
                session: stored.session,
                pack_set: stored.pack_set,
                ref_packs: stored.ref_packs,
                started: now,
                finished: now,
                tree,
                hints,
                links,
                sources: vec![b"/".to_vec()],
                host: "elsewhere".to_owned(),
                host_id: [9; 16],
                user: "user".to_owned(),
                tags: Vec::new(),
                owners: OwnerNames::default(),
                chunker: ChunkerParams::Fixed { block: 16 << 10 }.into(),
                chain,
                totals: Totals::default(),
                flags: SnapshotFlags::default(),
                program: "test".to_owned(),
                original: None,
            })
            .unwrap()
    }
}

/// Makes trees by hand.
pub(crate) struct Hand<'a> {
    writer: &'a mut lastgood_repo::BlobWriter,
}

impl Hand<'_> {
    fn page<C: page::LeafCodec>(&mut self, items: Vec<C::Item>, kind: BlobKind) -> BlobId {
        let mut store = |bytes: &[u8]| self.writer.add(kind, bytes);
        page::write::<C, RepoError>(items, &mut store).unwrap()
    }

    fn tree(&mut self, mut entries: Vec<Entry>) -> BlobId {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.page::<TreeCodec>(entries, BlobKind::Tree)
    }

    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Entry {
        let id = self.writer.add(BlobKind::Chunk, bytes).unwrap();
        entry(name, Node::File { size: bytes.len() as u64, content: Content::Chunk(id) })
    }

    pub(crate) fn directory(&mut self, name: &str, entries: Vec<Entry>) -> Entry {
        let tree = self.tree(entries);
        Entry { mode: 0o755, ..entry(name, Node::Directory { tree }) }
    }

    /// A directory of one file whose name no program would have written.
    pub(crate) fn bad_directory(&mut self, name: &str, bad: &str) -> Entry {
        let stand_in = "q".repeat(bad.len());
        let file = self.file(&stand_in, b"escaped");
        let mut pages = Vec::new();
        let mut keep = |bytes: &[u8]| {
            pages.push(bytes.to_vec());
            Ok(BlobId::new([0; 32]))
        };
        page::write::<TreeCodec, RepoError>(vec![file], &mut keep).unwrap();
        let [page] = &mut pages[..] else { panic!("one page is enough") };
        let at = page.windows(bad.len()).position(|part| part == stand_in.as_bytes()).unwrap();
        page[at..at + bad.len()].copy_from_slice(bad.as_bytes());
        let tree = self.writer.add(BlobKind::Tree, page).unwrap();
        Entry { mode: 0o755, ..entry(name, Node::Directory { tree }) }
    }
}

pub(crate) fn entry(name: &str, node: Node) -> Entry {
    Entry {
        name: name.as_bytes().into(),
        node,
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp { seconds: 1_000_000, nanos: 5 },
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    }
}

const HOST: [u8; 16] = [1; 16];

/// Bytes that do not repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Everything below a directory that a program can see, by a naive walk.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(relative) = left.pop() {
        let path = root.join(&relative);
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let mut what = format!(
            "{:o} {}:{} {}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if kind.is_dir() {
            let mut children: Vec<_> =
                fs::read_dir(&path).unwrap().map(|child| child.unwrap().file_name()).collect();
            children.sort();
            left.extend(children.into_iter().rev().map(|name| relative.join(name)));
        } else if kind.is_symlink() {
            what += &format!(" to {:?}", fs::read_link(&path).unwrap());
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let sum: u64 =
                bytes.iter().fold(7, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
            what += &format!(" {} {sum:x}", bytes.len());
        } else {
            what += &format!(" device {}", meta.rdev());
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            let first = names.entry(meta.ino()).or_insert_with(|| relative.clone());
            what += &format!(" is {first:?}");
        }
        let mut buffer = vec![0; 4096];
        let length = rustix::fs::llistxattr(&path, &mut buffer).unwrap_or(0);
        let mut attributes: Vec<&[u8]> =
            buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        attributes.sort();
        for name in attributes {
            let mut value = vec![0; 4096];
            let name = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(&path, name, &mut value).unwrap();
            what += &format!(" {name:?}={:?}", &value[..length]);
        }
        seen.insert(relative, what);
    }
    seen
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (describe(one), describe(other));
    let differ = |path: &&PathBuf| one.get(*path) != other.get(*path);
    let paths: Vec<&PathBuf> = one.keys().chain(other.keys()).filter(differ).collect();
    let tell = |path: &&PathBuf| format!("{path:?}: {:?}, {:?}", one.get(*path), other.get(*path));
    let told: Vec<String> = paths.iter().map(tell).collect();
    assert!(told.is_empty(), "{told:#?}");
}

fn set_mtime(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// A bit of everything.
fn fill(world: &World) {
    world.write("source/empty", "");
    world.write("source/small", "hello");
    world.write("source/deep/er/file", noise(1, 100_000));
    world.write("source/large", noise(2, 1_000_000));
    world.write("source/repeats", vec![b'x'; 1_000_000]);
    fs::create_dir(world.path("source/nothing")).unwrap();
    symlink("../nowhere", world.path("source/link")).unwrap();
    fs::hard_link(world.path("source/small"), world.path("source/deep/same")).unwrap();
    fs::hard_link(world.path("source/large"), world.path("source/large.2")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"od\xff\n d");
    fs::write(world.path("source").join(odd), "odd").unwrap();
    let sparse = fs::File::create(world.path("source/sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(&noise(3, 50_000), 5 << 20).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        world.path("source/pipe"),
        rustix::fs::Mode::from_raw_mode(0o640),
    )
    .unwrap();
    let small = world.path("source/small");
    rustix::fs::setxattr(&small, "user.mark", b"value", rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(&small, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(world.path("source/deep/er"), fs::Permissions::from_mode(0o555)).unwrap();
    set_mtime(&world.path("source/deep/er"), 1_234_567);
}

#[test]
fn everything_comes_back() {
    let world = World::new();
    fill(&world);
    let snapshot = world.backup();
    let mut options = world.options(&snapshot);
    options.verify = true;
    options.sync = true;
    let report = world.check(options);
    assert_eq!(report.counts.unchanged + report.counts.failed, 0);
    assert_eq!(report.verified.unwrap().different, 0);
    let sparse = fs::metadata(world.path("target/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes are holes");
}

#[test]
fn what_is_there_is_left_alone() {
    let world = World::new();
    fill(&world);
    let snapshot = world.backup();
    world.check(world.options(&snapshot));
    let before = fs::metadata(world.path("target/large")).unwrap();
    let report = world.check(world.options(&snapshot));
    let counts = report.counts;
    assert_eq!(
        (counts.created, counts.updated, counts.deleted, counts.bytes_written),
        (0, 0, 0, 0)
    );
    let after = fs::metadata(world.path("target/large")).unwrap();
    assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
}

#[test]
fn in_place_only_what_differs_is_written() {
    let world = World::new();
    world.write("source/large", noise(2, 1 << 20));
    let snapshot = world.backup();
    world.check(world.options(&snapshot));
    let target = world.path("target/large");
    let inode = fs::metadata(&target).unwrap().ino();
    let file = fs::OpenOptions::new().write(true).open(&target).unwrap();
    file.write_all_at(b"other", 500_000).unwrap();
    drop(file);
    let report = world.check(world.options(&snapshot));
    assert_eq!(report.counts.bytes_written, 16 << 10, "one block");
    assert_eq!(report.counts.updated, 1);
    assert_eq!(fs::metadata(&target).unwrap().ino(), inode);

    // Longer, shorter, and full where there is a hole.
    for length in [2 << 20, 5_000] {
        fs::OpenOptions::new().write(true).open(&target).unwrap().set_len(length).unwrap();
        world.check(world.options(&snapshot));
    }
}

#[test]
fn holes_are_restored_over_data() {
    let world = World::new();
    let sparse = fs::File::create(world.path("source/sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(&noise(3, 65_536), 1 << 20).unwrap();
    let snapshot = world.backup();
    world.write("target/sparse", noise(4, 4 << 20));
    world.check(world.options(&snapshot));
    let sparse = fs::metadata(world.path("target/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes are holes");
}

#[test]
fn another_name_of_a_file_is_not_changed_with_it() {
    let world = World::new();
    world.write("source/small", "small");
    world.write("source/large", noise(2, 200_000));
    world.write("source/mode", "mode");
    let snapshot = world.backup();
    let outside =
        [("small", b"SMALL".to_vec()), ("large", noise(9, 200_000)), ("mode", b"mode".to_vec())];
    for (name, bytes) in &outside {
        let path = world.write(&format!("outside/{name}"), bytes);
        fs::create_dir_all(world.path("target")).unwrap();
        fs::hard_link(&path, world.path("target").join(name)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let before = describe(&world.path("outside"));
    world.restore(world.options(&snapshot));
    let after = describe(&world.path("outside"));
    for (name, bytes) in &outside {
        assert_eq!(&fs::read(world.path("outside").join(name)).unwrap(), bytes);
        // But for the number of names.
        let strip = |seen: &BTreeMap<PathBuf, String>| {
            seen[Path::new(name)].split(" is ").next().unwrap().to_owned()
        };
        assert_eq!(strip(&before), strip(&after));
    }
    let same = fs::read(world.path("target/large")).unwrap() == noise(2, 200_000);
    assert!(same && fs::read(world.path("target/small")).unwrap() == b"small");
}

/// The system lets nobody write to a program that runs; it runs on, and its name gets a new file.
#[test]
fn a_program_that_runs_is_replaced() {
    let world = World::new();
    let program = fs::read("/bin/sleep").unwrap();
    let with_end = |end: &[u8]| [&program[..], end].concat();
    fs::write(world.path("source/sleep"), with_end(b"as backed up")).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(world.path("source/sleep"), mode).unwrap();
    let snapshot = world.backup();
    world.check(world.options(&snapshot));
    let target = world.path("target/sleep");
    fs::write(&target, with_end(b"another end!")).unwrap();
    let inode = fs::metadata(&target).unwrap().ino();
    let mut running = std::process::Command::new(&target).arg("1000").spawn().unwrap();
    world.check(world.options(&snapshot));
    assert_ne!(fs::metadata(&target).unwrap().ino(), inode);
    assert!(running.try_wait().unwrap().is_none(), "it runs on");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn hard_links_are_mended_and_kinds_replaced() {
    let world = World::new();
    world.write("source/a", "linked");
    fs::hard_link(world.path("source/a"), world.path("source/b")).unwrap();
    fs::hard_link(world.path("source/a"), world.path("source/c")).unwrap();
    world.write("source/file", "file");
    symlink("elsewhere", world.path("source/link")).unwrap();
    world.write("source/dir/inside", "inside");
    let snapshot = world.backup();
    world.check(world.options(&snapshot));
    // b is a file of its own, c is gone, and the others have changed kind.
    let target = world.path("target");
    fs::remove_file(target.join("b")).unwrap();
    fs::write(target.join("b"), "linked").unwrap();
    fs::remove_file(target.join("c")).unwrap();
    fs::remove_file(target.join("file")).unwrap();
    symlink("/etc/passwd", target.join("file")).unwrap();
    fs::remove_file(target.join("link")).unwrap();
    fs::create_dir(target.join("link")).unwrap();
    fs::remove_dir_all(target.join("dir")).unwrap();
    fs::write(target.join("dir"), "no directory").unwrap();
    let report = world.check(world.options(&snapshot));
    assert_eq!(report.counts.unchanged, 1, "{:?}", report.counts);
}

#[test]
fn a_full_directory_gives_way_only_with_delete() {
    let world = World::new();
    world.write("source/name", "file");
    let snapshot = world.backup();
    world.write("target/name/precious", "data");
    let report = world.restore(world.options(&snapshot));
    assert_eq!(report.problems.errors, 1);
    assert!(world.path("target/name/precious").exists());
    world.check(RestoreOptions { delete: true, ..world.options(&snapshot) });
}

#[test]
fn delete_removes_what_the_snapshot_has_not() {
    let world = World::new();
    world.write("source/keep/file", "file");
    let snapshot = world.backup();
    world.check(world.options(&snapshot));
    world.write("target/surplus/deep/file", "x");
    world.write("target/keep/surplus", "x");
    symlink("/", world.path("target/keep/link")).unwrap();
    let dry = RestoreOptions { delete: true, dry_run: true, ..world.options(&snapshot) };
    assert_eq!(world.restore(dry).counts.deleted, 3);
    assert!(world.path("target/surplus/deep/file").exists());
    world.check(RestoreOptions { delete: true, ..world.options(&snapshot) });
}

#[test]
fn a_dry_run_counts_the_bytes_that_a_run_writes() {
    let world = World::new();
    world.write("source/small", "small");
    world.write("source/same", "same");
    world.write("source/large", noise(3, 1 << 20));
    let snapshot = world.backup();
    world.write("target/same", "same");
    let dry = RestoreOptions { dry_run: true, ..world.options(&snapshot) };
    let would = world.restore(dry).counts;
    let does = world.restore(world.options(&snapshot)).counts;
    assert_eq!((would.bytes_written, would.bytes_kept), ((1 << 20) + 5, 4));
    assert_eq!((does.bytes_written, does.bytes_kept), ((1 << 20) + 5, 4));
}

#[test]
fn delete_spares_the_neighbours_of_sources() {
    let world = World::new();
    world.write("home/one/file", "1");
    world.write("home/two/file", "2");
    let snapshot = world.backup_of(&["home/one", "home/two"]);
    world.write("home/three/file", "3");
    world.write("home/one/surplus", "x");
    let target = world.path("home");
    let options = RestoreOptions { delete: true, target, ..world.options(&snapshot) };
    let report = world.restore(options);
    assert_eq!(report.counts.deleted, 1);
    assert!(world.path("home/three/file").exists());
    assert!(!world.path("home/one/surplus").exists());
}

#[test]
fn overwrite_is_obeyed() {
    let world = World::new();
    let source = world.write("source/file", "snapshot");
    set_mtime(&source, 2_000_000);
    let snapshot = world.backup();
    let check = |overwrite, mtime: u64, text: &str, expected: &str| {
        let target = world.write("target/file", text);
        set_mtime(&target, mtime);
        let report = world.restore(RestoreOptions { overwrite, ..world.options(&snapshot) });
        let found = fs::read_to_string(target).unwrap();
        assert_eq!(found, expected, "{overwrite:?} {mtime} {:?}", report.counts);
    };
    check(Overwrite::Never, 1_000_000, "target", "target");
    check(Overwrite::IfNewer, 1_000_000, "target", "snapshot");
    check(Overwrite::IfNewer, 3_000_000, "target", "target");
    check(Overwrite::IfChanged, 2_000_000, "TRUSTED!", "TRUSTED!");
    check(Overwrite::IfChanged, 2_000_001, "TRUSTED!", "snapshot");
    check(Overwrite::Always, 2_000_000, "TRUSTED!", "snapshot");
}

#[test]
fn a_part_is_restored_with_links_among_it() {
    let world = World::new();
    world.write("source/a/leader", noise(1, 50_000));
    fs::create_dir_all(world.path("source/b")).unwrap();
    for name in ["one", "two"] {
        fs::hard_link(world.path("source/a/leader"), world.path("source/b").join(name)).unwrap();
    }
    let snapshot = world.backup();
    let report =
        world.restore(RestoreOptions { subpath: b"b".to_vec(), ..world.options(&snapshot) });
    assert_eq!(report.problems.errors, 0);
    let inode = |name: &str| fs::metadata(world.path("target").join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("two"));
    assert_eq!(fs::read(world.path("target/one")).unwrap(), noise(1, 50_000));

    let absolute = world.path("source/a/leader").into_os_string().into_encoded_bytes();
    let target = world.path("single");
    world.restore(RestoreOptions { subpath: absolute, target, ..world.options(&snapshot) });
    assert_eq!(fs::read(world.path("single/leader")).unwrap(), noise(1, 50_000));

    let target = world.path("full");
    world.restore(RestoreOptions { full_paths: true, target, ..world.options(&snapshot) });
    let inside = world.path("source").strip_prefix("/").unwrap().to_path_buf();
    assert_same(&world.path("source"), &world.path("full").join(inside));

    let missing = RestoreOptions { subpath: b"none".to_vec(), ..world.options(&snapshot) };
    assert_eq!(world.try_restore(missing).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_chosen_is_restored() {
    let world = World::new();
    world.write("source/a/take", "1");
    world.write("source/a/leave", "2");
    world.write("source/b/leave", "3");
    let snapshot = world.backup();
    let choose = |path: &[u8], directory: bool| match directory {
        true => Choice::Pass,
        false if path.ends_with(b"take") => Choice::Restore,
        false => Choice::Skip,
    };
    world.restore(RestoreOptions { choose: Some(Arc::new(choose)), ..world.options(&snapshot) });
    assert!(world.path("target/a/take").exists());
    assert!(!world.path("target/a/leave").exists());
    assert!(!world.path("target/b").exists(), "only made for what is in it");
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().mtime();
    assert_eq!(mode("source/a"), mode("target/a"));
}

#[test]
fn a_lost_index_changes_nothing() {
    let mut world = World::new();
    fill(&world);
    let snapshot = world.backup();
    fs::remove_dir_all(world.path("repository/index")).unwrap();
    fs::create_dir(world.path("repository/index")).unwrap();
    world.reopen();
    world.check(world.options(&snapshot));
}

#[test]
fn damage_costs_only_what_is_damaged() {
    let mut world = World::new();
    world.write("source/victim", noise(1, 3 << 20));
    let snapshot = world.backup();
    let packs: Vec<PathBuf> = files(&world.path("repository/packs"));
    // The largest pack holds the data.
    let pack = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(pack);
    let file = file.unwrap_or_else(|_| {
        fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
        fs::OpenOptions::new().write(true).open(pack).unwrap()
    });
    // More than parity makes up for.
    file.write_all_at(&[0xff; 200_000], 1_500_000).unwrap();
    drop(file);
    world.write("source/later", noise(2, 100_000));
    world.reopen();
    let report = world.restore(world.options(&snapshot));
    assert!(report.problems.errors >= 1 && report.counts.failed == 1, "{:?}", report.counts);
    assert!(!report.damaged.is_empty());
    let restored = fs::read(world.path("target/victim")).unwrap();
    let original = noise(1, 3 << 20);
    assert_eq!(restored.len(), original.len());
    let is_damaged = |at: usize| report.damaged.iter().any(|d| d.range.contains(&(at as u64)));
    let differ = (0..original.len()).find(|&at| restored[at] != original[at] && !is_damaged(at));
    assert_eq!(differ, None, "what is not reported is whole");
    let whole = (0..original.len()).filter(|&at| !is_damaged(at)).count();
    assert!(whole >= 1 << 20, "{whole} bytes are whole");
    let time = |name: &str| fs::metadata(world.path(name)).unwrap().mtime_nsec();
    assert_ne!(time("target/victim"), time("source/victim"), "only what is whole has its time");
}

#[test]
fn links_in_the_way_are_not_followed() {
    let world = World::new();
    world.write("source/dir/file", "snapshot");
    let snapshot = world.backup();
    world.write("outside/file", "outside");
    fs::create_dir(world.path("target")).unwrap();
    symlink(world.path("outside"), world.path("target/dir")).unwrap();
    let report = world.restore(world.options(&snapshot));
    assert_eq!(report.problems.errors, 0);
    assert_eq!(fs::read_to_string(world.path("outside/file")).unwrap(), "outside");
    assert_same(&world.path("source"), &world.path("target"));
}

#[test]
fn hostile_links_are_harmless() {
    let world = World::new();
    world.write("secret", "secret");
    let secret = world.path("secret").into_os_string().into_encoded_bytes();
    let link = |path: &str, leader: &str| Link {
        path: path.as_bytes().into(),
        leader: leader.as_bytes().into(),
    };
    let links = vec![
        link("file", "dir/none"),
        link("other", "dir"),
        link("third", "link"),
        link("zzz", "file"),
    ];
    let snapshot = world.commit(
        |hand| {
            let symlink = Node::Symlink { target: secret.into() };
            let setuid = Entry { mode: 0o4755, ..hand.file("setuid", b"power") };
            let device = Node::CharDevice {
                device: lastgood_format::entry::DeviceNumber { major: 1, minor: 3 },
            };
            let inner = hand.file("inner", b"inner");
            vec![
                hand.directory("dir", vec![inner]),
                hand.file("file", b"file"),
                entry("link", symlink),
                hand.file("other", b"other"),
                hand.file("third", b"third"),
                hand.file("zzz", b"another content"),
                setuid,
                entry("device", device),
            ]
        },
        links,
    );
    let report = world.restore(world.options(&snapshot));
    assert_eq!(report.problems.errors, 0, "{:?}", report.problems);
    for (name, text) in [("file", "file"), ("other", "other"), ("third", "third")] {
        assert_eq!(fs::read_to_string(world.path("target").join(name)).unwrap(), text);
    }
    assert_eq!(fs::read_to_string(world.path("target/zzz")).unwrap(), "another content");
    assert_eq!(fs::read_to_string(world.path("secret")).unwrap(), "secret");
    assert!(!world.path("target/device").exists());
    assert_eq!(fs::metadata(world.path("target/setuid")).unwrap().mode() & 0o7777, 0o755);
    let withheld: Vec<&str> = report.withheld.iter().map(|kind| &*kind.what).collect();
    assert_eq!(withheld, ["device", "setuid bit"]);

    let target = world.path("special");
    world.restore(RestoreOptions { special: true, target, ..world.options(&snapshot) });
    assert_eq!(fs::metadata(world.path("special/setuid")).unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn a_lying_length_is_damage() {
    let world = World::new();
    let snapshot = world.commit(
        |hand| {
            let mut file = hand.file("file", b"twelve bytes");
            if let Node::File { size, .. } = &mut file.node {
                *size = 13;
            }
            vec![file, hand.file("good", b"good")]
        },
        Vec::new(),
    );
    let report = world.restore(world.options(&snapshot));
    assert_eq!(report.damaged.len(), 1);
    assert!(!world.path("target/file").exists());
    assert_eq!(fs::read_to_string(world.path("target/good")).unwrap(), "good");
}

#[test]
fn deep_trees_come_back() {
    let world = World::new();
    let depth = 1200;
    let snapshot = world.commit(
        |hand| {
            let mut entries = vec![hand.file("bottom", b"bottom")];
            for _ in 0..depth {
                entries = vec![hand.directory("a-name-of-some-length", entries)];
            }
            entries
        },
        Vec::new(),
    );
    let report = world.restore(world.options(&snapshot));
    assert_eq!(report.problems.errors, 0, "{:?}", report.problems.listed.first());
    assert_eq!(report.counts.created, depth + 1);
    let again = world.restore(world.options(&snapshot));
    assert_eq!((again.counts.created, again.counts.updated), (0, 0), "{:?}", again.counts);
    // The standard library removes trees of any depth, and so does a restore.
    let empty = world.commit(|_| Vec::new(), Vec::new());
    let report = world.restore(RestoreOptions { delete: true, ..world.options(&empty) });
    assert_eq!(report.counts.deleted, depth + 1);
}

/// As deep as a snapshot reaches: a level of its own stack each would end the process.
#[test]
fn the_deepest_tree_is_checked_and_its_damage_found() {
    let world = World::new();
    let depth = lastgood_format::limits::TREE_DEPTH_MAX - 10;
    let missing = Content::Chunk(BlobId::new([0x5a; 32]));
    let deep = |hand: &mut Hand<'_>, bottom: Entry| {
        (0..depth).fold(bottom, |below, _| hand.directory("d", vec![below]))
    };
    world.commit(
        |hand| {
            let bottom = hand.file("bottom", b"bottom");
            vec![deep(hand, bottom)]
        },
        Vec::new(),
    );
    let check = || {
        let options =
            lastgood::check::CheckOptions { read_data: lastgood::check::ReadData::All, threads: 2 };
        lastgood::check::start(world.repo.clone(), options).wait(drop).unwrap()
    };
    assert_eq!(check().damage, Vec::<String>::new());
    assert!(check().blobs > depth as u64);
    let broken = world.commit(
        |hand| vec![deep(hand, entry("bottom", Node::File { size: 6, content: missing }))],
        Vec::new(),
    );
    let report = check();
    assert_eq!(report.affected.len(), 1, "{:?}", report.damage);
    let (snapshot, path) = &report.affected[0];
    assert!(*snapshot == broken.id && path.ends_with(b"/d/d/bottom"), "{} bytes", path.len());
}

#[test]
fn a_huge_sparse_file_comes_back_at_once() {
    let world = World::new();
    let file = fs::File::create(world.path("source/huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"here", 1 << 39).unwrap();
    drop(file);
    let snapshot = world.backup();
    for _ in 0..2 {
        let report = world.restore(world.options(&snapshot));
        assert_eq!(report.problems.errors, 0);
        let target = fs::File::open(world.path("target/huge")).unwrap();
        assert_eq!(target.metadata().unwrap().len(), 1 << 40);
        let mut bytes = [0; 6];
        target.read_exact_at(&mut bytes, (1 << 39) - 1).unwrap();
        assert_eq!(&bytes, b"\0here\0");
        assert!(target.metadata().unwrap().blocks() < 4096);
    }
}

#[test]
fn stored_zeros_become_holes_when_asked_for() {
    let world = World::new();
    let mut bytes = noise(1, 1 << 20);
    bytes[100_000..900_000].fill(0);
    world.write("source/zeros", &bytes);
    let snapshot = world.backup();
    world.check(RestoreOptions { sparse: true, ..world.options(&snapshot) });
    let blocks = fs::metadata(world.path("target/zeros")).unwrap().blocks();
    assert!(blocks * 512 < 400_000, "{blocks}");
}

#[test]
fn cancelled_it_leaves_nothing_that_passes_for_whole() {
    let world = World::new();
    for number in 0..40 {
        world.write(&format!("source/{number:02}"), noise(number, 300_000));
    }
    let snapshot = world.backup();
    let job = start(world.repo.clone(), RestoreOptions { items: true, ..world.options(&snapshot) });
    let control = job.control();
    let mut seen = 0;
    let result = job.wait(|_| {
        seen += 1;
        if seen == 5 {
            control.cancel();
        }
    });
    match result {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
        // All was done before anybody listened.
        Ok(report) => assert_eq!(report.counts.failed, 0),
    }
    for entry in fs::read_dir(world.path("target")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with(".lastgood-") {
            let same = fs::read(world.path("target").join(&name)).unwrap()
                == fs::read(world.path("source").join(&name)).unwrap();
            assert!(same, "{name} is whole");
        }
    }
    world.check(world.options(&snapshot));
}

#[test]
fn leftovers_are_gone_on_with() {
    let world = World::new();
    world.write("source/large", noise(1, 1 << 20));
    let snapshot = world.backup();
    world.check(world.options(&snapshot));
    // As a cut run leaves it: half of it, under the name it has until it is whole.
    let hash = page::boundary_hash(b"large");
    let part = lastgood_host::target::temporary_name(hash);
    let part = world.path("target").join(std::ffi::OsStr::from_bytes(&part));
    fs::rename(world.path("target/large"), &part).unwrap();
    fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(1 << 19).unwrap();
    let report = world.check(world.options(&snapshot));
    assert_eq!(report.counts.bytes_written, 1 << 19);
    assert!(!part.exists());
}

#[test]
fn the_repository_is_no_target() {
    let world = World::new();
    world.write("source/file", "file");
    let snapshot = world.backup();
    for target in ["repository", "repository/new/deeper"] {
        let target = world.path(target);
        let error = world.try_restore(RestoreOptions { target, ..world.options(&snapshot) });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(!world.path("repository/new").exists());
}

#[test]
fn an_existing_target_keeps_its_own_metadata() {
    let world = World::new();
    world.write("source/file", "file");
    fs::set_permissions(world.path("source"), fs::Permissions::from_mode(0o700)).unwrap();
    let snapshot = world.backup();
    world.write("target/other", "other");
    fs::set_permissions(world.path("target"), fs::Permissions::from_mode(0o751)).unwrap();
    world.restore(world.options(&snapshot));
    assert_eq!(fs::metadata(world.path("target")).unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn verify_names_every_difference() {
    let world = World::new();
    fill(&world);
    let snapshot = world.backup();
    let verify = || {
        let options = VerifyOptions { host_id: HOST, ..VerifyOptions::new(snapshot.clone()) };
        lastgood::verify::start(world.repo.clone(), options).wait(drop).unwrap()
    };
    let report = verify();
    assert_eq!((report.different, report.problems.errors), (0, 0), "{:?}", report.differences);
    assert!(report.bytes > 2_000_000);

    let file = fs::OpenOptions::new().write(true).open(world.path("source/repeats")).unwrap();
    let times = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"y", 999_999).unwrap();
    file.set_modified(times).unwrap();
    fs::remove_file(world.path("source/pipe")).unwrap();
    fs::set_permissions(world.path("source/empty"), fs::Permissions::from_mode(0o600)).unwrap();
    world.write("source/zzz", "new");
    let report = verify();
    let mut found: Vec<(String, Change)> = report
        .differences
        .iter()
        .map(|difference| {
            let name = difference.path.file_name().unwrap().to_string_lossy().into_owned();
            (name, difference.change)
        })
        .collect();
    found.sort();
    let expected = [
        ("empty", Change::Metadata),
        ("pipe", Change::Created),
        ("repeats", Change::Content),
        ("source", Change::Metadata),
        ("zzz", Change::Deleted),
    ];
    let expected: Vec<(String, Change)> =
        expected.iter().map(|(name, change)| ((*name).to_owned(), *change)).collect();
    assert_eq!(found, expected);
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
