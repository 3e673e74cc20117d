//! A disk that does not answer for some files: that is no proof that their bytes are gone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::metadata::Unset;
use lastgood_host::scan::{Directory, Stat};
use lastgood_host::source::SourceFile;
use lastgood_host::target::{Target, TargetFile};
use lastgood_mirror::place::{HostPlace, Place};
use lastgood_mirror::repair::{Donor, Source, repair};
use lastgood_mirror::restore::restore;
use lastgood_mirror::run::run;
use lastgood_mirror::verify::verify;
use lastgood_mirror::{Mirror, MirrorError};

use crate::world::{Names, World, tree};

/// A directory of which some calls fail.
pub(crate) struct Sick {
    inner: HostPlace,
    fails: Box<Fails>,
}

/// What a call for a path fails with, if it does.
type Fails = dyn Fn(&'static str, &[u8]) -> Option<i32> + Send + Sync;

impl Sick {
    /// A mirror on a disk that does not answer for some files.
    fn mirror(root: &Path, unread: &[&str]) -> Mirror {
        let unread: Vec<Vec<u8>> = unread.iter().map(|path| path.as_bytes().to_vec()).collect();
        Self::failing(root, move |call, path| {
            (call == "open" && unread.iter().any(|it| it == path)).then_some(EIO)
        })
    }

    /// A mirror on a disk of which some calls fail.
    pub(crate) fn failing(
        root: &Path,
        fails: impl Fn(&'static str, &[u8]) -> Option<i32> + Send + Sync + 'static,
    ) -> Mirror {
        let inner = HostPlace::open(root).unwrap();
        Mirror::on(Arc::new(Self { inner, fails: Box::new(fails) }), root)
    }

    fn ask(&self, call: &'static str, path: &[u8]) -> Result<(), HostError> {
        let Some(errno) = (self.fails)(call, path) else { return Ok(()) };
        let source = std::io::Error::from_raw_os_error(errno);
        Err(HostError { action: call, path: OsStr::from_bytes(path).into(), source })
    }
}

impl Place for Sick {
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError> {
        self.ask("stat", path)?;
        self.inner.stat(path)
    }
    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, HostError> {
        self.ask("list", path)?;
        self.inner.list(path)
    }
    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError> {
        self.ask("open", path)?;
        self.inner.open(path)
    }
    fn read_link(&self, path: &[u8]) -> Result<Option<Box<[u8]>>, HostError> {
        self.ask("read link", path)?;
        self.inner.read_link(path)
    }
    fn make_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.ask("make directory", path)?;
        self.inner.make_directory(path)
    }
    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError> {
        self.ask("create", path)?;
        match self.ask("write", path) {
            Ok(()) => self.inner.create(path),
            // It takes no bytes that are no number.
            Err(_) => {
                Target::open_existing(Path::new("/proc/self"))?.root().open_file(b"oom_score_adj")
            }
        }
    }
    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), HostError> {
        self.ask("make symlink", path)?;
        self.inner.make_symlink(path, target)
    }
    fn link(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.ask("link", from)?;
        self.inner.link(from, to)
    }
    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.ask("rename", from)?;
        self.ask("rename", to)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &[u8]) -> Result<(), HostError> {
        self.ask("remove", path)?;
        self.inner.remove(path)
    }
    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.ask("remove directory", path)?;
        self.inner.remove_directory(path)
    }
    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError> {
        self.ask("look", path)?;
        self.inner.look(path, entry)
    }
    fn dress(
        &self,
        path: &[u8],
        file: &TargetFile,
        entry: &Entry,
    ) -> Result<Vec<Unset>, HostError> {
        self.inner.dress(path, file, entry)
    }
    fn sync(&self) -> Result<(), HostError> {
        self.ask("sync", b"")?;
        self.inner.sync()
    }
}

#[test]
fn case_30_a_file_that_cannot_be_read_is_told_and_left_alone() {
    let mut world = World::new();
    world.write("read", b"answers");
    world.write("unread", b"does not answer");
    world.run();
    let before = tree(&world.mirror(""));
    let mirror = Sick::mirror(&world.mirror(""), &["latest/unread"]);
    let verified = verify(&mirror, &world.troubles).unwrap();
    assert_eq!((verified.whole, verified.damaged.len()), (1, 0));
    assert_eq!(verified.unread, [b"latest/unread"[..].into()]);
    // The source has the bytes, and still nothing is touched.
    let source = Source::new(Directory::open_root(&world.source("")).unwrap());
    let mut donors: Vec<Box<dyn Donor>> = vec![Box::new(source)];
    let report = repair(&mirror, &mut donors, false, &world.troubles).unwrap();
    assert_eq!((report.has_work(), report.unread), (false, verified.unread));
    assert_eq!(tree(&world.mirror("")), before);
    let told = std::mem::take(&mut *world.troubles.0.lock().unwrap());
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn case_29_what_cannot_be_read_is_not_taken_for_rot_by_a_run() {
    let mut world = World::new();
    world.scrub_days = 1;
    world.write("stays", b"does not answer when its turn comes");
    world.write("goes", b"is here");
    world.run();
    let options = world.next_options();
    let mirror = Sick::mirror(&world.mirror(""), &["latest/stays"]);
    let report = run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
    assert_eq!((report.rotted.len(), report.version), (0, None));
    // On its way out neither: it goes into history as it is.
    fs::remove_file(world.source("goes")).unwrap();
    let options = world.next_options();
    let mirror = Sick::mirror(&world.mirror(""), &["latest/goes"]);
    let report = run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
    assert_eq!((report.rotted.len(), report.deleted), (0, 1));
    let kept = world.mirror(&world.folder_of(0)).join("goes");
    assert_eq!(fs::read(kept).unwrap(), b"is here");
    world.versions.push((report.version.unwrap().name, tree(&world.source(""))));
    world.check();
}

#[test]
fn a_text_is_read_from_its_second_copy_where_the_disk_does_not_answer_for_the_first() {
    let mut world = World::new();
    world.write("a", b"one");
    world.run();
    world.write("a", b"two");
    world.run();
    let old = world.folder_of(0);
    for text in ["versions".to_owned(), "latest".into(), "mirror".into(), format!("deltas/{old}")] {
        let mirror = Sick::mirror(&world.mirror(""), &[&format!(".lastgood/{text}")]);
        assert!(mirror.subject().is_ok(), "{text}");
        let to = tempfile::tempdir().unwrap();
        let options = world.restore_options(&old, "", &to.path().join("back"));
        let restored = restore(&mirror, &options, &world.troubles).unwrap();
        assert_eq!((restored.damaged.len(), restored.failed), (0, 0), "{text}");
        assert_eq!(fs::read(to.path().join("back/a")).unwrap(), b"one");
        let damaged = verify(&mirror, &world.troubles).unwrap().texts;
        assert_eq!(damaged, [format!(".lastgood/{text}").into_bytes().into_boxed_slice()]);
        assert!(repair(&mirror, &mut [], false, &world.troubles).unwrap().has_work());
    }
}

#[test]
fn the_reading_of_everything_goes_on_past_a_text_that_no_copy_answers_for() {
    let mut world = World::new();
    world.scrub_days = 1;
    world.write("a", b"one");
    world.run();
    world.write("a", b"two");
    world.run();
    world.write("a", b"three");
    let text = format!(".lastgood/deltas/{}", world.folder_of(0));
    let second = text.replace(".lastgood/", ".lastgood/second/");
    let options = world.next_options();
    let mirror = Sick::mirror(&world.mirror(""), &[&text, &second, ".lastgood/scrub"]);
    let report = run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
    assert_eq!(report.damaged.len(), 0);
    let told = std::mem::take(&mut *world.troubles.0.lock().unwrap());
    assert!(told.len() == 1 && *told[0].path == *text.as_bytes(), "{told:?}");
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    world.versions.push((report.version.unwrap().name, tree(&world.source(""))));
    world.check();
}

#[test]
fn a_mirror_that_takes_no_bytes_is_told_as_such_and_not_as_trouble_of_the_source() {
    for (name, length) in [("small", 1000), ("large", 1 << 20)] {
        let mut world = World::new();
        world.write(name, b"as it was");
        world.run();
        world.write(name, &vec![b'x'; length]);
        let before = tree(&world.mirror("latest"));
        let options = world.next_options();
        let mirror = Sick::failing(&world.mirror(""), |call, path| {
            (call == "write" && path == b".lastgood/stage/1").then_some(EIO)
        });
        let failed = run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap_err();
        let MirrorError::Host(failed) = failed else { panic!("{failed}") };
        assert!(failed.path.ends_with("oom_score_adj") && failed.action == "write", "{failed}");
        assert_eq!(world.troubles.0.lock().unwrap().len(), 0);
        assert_eq!(tree(&world.mirror("latest")), before);
        world.run();
        world.check();
    }
}

const EIO: i32 = 5;
