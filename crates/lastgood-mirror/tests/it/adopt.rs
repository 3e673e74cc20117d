//! What other tools made becomes a mirror.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use lastgood_host::target::Target;
use lastgood_mirror::run::{adopt, subject};
use lastgood_mirror::{MirrorError, Version};

use crate::world::{Names, World, tree};

impl World {
    fn adopt(&self, leave: &[&str]) -> Result<Version, MirrorError> {
        let options = self.options();
        let subject = subject(&options.source).unwrap();
        let leave: Vec<Box<[u8]>> = leave.iter().map(|name| name.as_bytes().into()).collect();
        let target = self.mirror("");
        adopt(&target, &subject, &leave, &options, &mut Names(&[]), &self.troubles)
    }

    /// What `rsync -aH` makes.
    fn copy_plain(&self) {
        let status = Command::new("cp")
            .arg("-a")
            .arg(self.source(""))
            .arg(self.folder.path().join("mirror"))
            .status()
            .unwrap();
        assert!(status.success());
    }
}

#[test]
fn case_41_a_plain_copy_becomes_a_mirror_without_being_copied() {
    let mut world = World::new();
    world.write("a", b"one");
    world.write("latest/x", b"of the same name as what becomes of it");
    world.write("restore.sh", b"not ours");
    fs::hard_link(world.source("a"), world.source("b")).unwrap();
    symlink("a", world.source("link")).unwrap();
    world.copy_plain();
    fs::create_dir(world.mirror("rdiff-backup-data")).unwrap();
    fs::write(world.mirror("rdiff-backup-data/x"), b"of another tool").unwrap();
    let modified = fs::metadata(world.source("")).unwrap().modified().unwrap();
    fs::File::open(world.mirror("")).unwrap().set_modified(modified).unwrap();
    let inode = fs::metadata(world.mirror("a")).unwrap().ino();
    let version = world.adopt(&["rdiff-backup-data"]).unwrap();
    world.versions.push((version.name, tree(&world.source(""))));
    assert_eq!(fs::metadata(world.mirror("latest/a")).unwrap().ino(), inode);
    assert_eq!(fs::read(world.mirror("rdiff-backup-data/x")).unwrap(), b"of another tool");
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    world.check();
    assert!(matches!(world.adopt(&[]), Err(MirrorError::Foreign(_))));
    // The next run reads the source, and writes nothing.
    let report = world.run();
    assert_eq!((report.bytes_written, report.unchanged), (0, 4));
    assert_eq!(fs::metadata(world.mirror("latest/a")).unwrap().ino(), inode);
    world.write("a", b"two");
    world.run();
    world.check();
}

#[test]
fn case_41_an_adoption_that_was_cut_is_gone_on_with() {
    let world = World::new();
    world.write("a", b"one");
    world.write("b", b"two");
    world.write("latest/x", b"three");
    world.copy_plain();
    // As after the first of its renames.
    fs::create_dir_all(world.mirror(".lastgood/adopt")).unwrap();
    fs::rename(world.mirror("a"), world.mirror(".lastgood/adopt/a")).unwrap();
    world.adopt(&[]).unwrap();
    // When the directory itself was changed is known no more.
    let below = |root: &Path| tree(root).into_iter().skip(1).collect::<Vec<_>>();
    assert_eq!(below(&world.mirror("latest")), below(&world.source("")));
    // As after the last: nothing says yet that it is a mirror.
    fs::remove_file(world.mirror(".lastgood/mirror")).unwrap();
    fs::remove_file(world.mirror(".lastgood/second/mirror")).unwrap();
    world.adopt(&[]).unwrap();
    assert_eq!(below(&world.mirror("latest")), below(&world.source("")));
    assert!(!world.mirror("latest/latest/latest").exists());
}

#[test]
fn case_22_an_adoption_moves_nothing_while_somebody_else_is_at_it() {
    let world = World::new();
    world.write("a", b"one");
    world.write("b", b"two");
    world.copy_plain();
    fs::create_dir_all(world.mirror(".lastgood/adopt")).unwrap();
    fs::write(world.mirror(".lastgood/lock"), b"").unwrap();
    let theirs = Target::open_existing(&world.mirror(".lastgood")).unwrap();
    let theirs = theirs.root().open_file(b"lock").unwrap();
    assert!(theirs.try_lock().unwrap());
    let before = tree(&world.mirror(""));
    assert!(matches!(world.adopt(&[]), Err(MirrorError::Busy(_))));
    assert_eq!(tree(&world.mirror("")), before);
    drop(theirs);
    world.adopt(&[]).unwrap();
}

#[test]
fn case_41_what_another_tool_missed_is_put_right_and_kept() {
    let mut world = World::new();
    world.write("a", b"as it is");
    world.copy_plain();
    fs::write(world.mirror("a"), b"as it w@s").unwrap();
    let modified = fs::metadata(world.source("a")).unwrap().modified().unwrap();
    let copy = fs::File::options().write(true).open(world.mirror("a")).unwrap();
    copy.set_modified(modified).unwrap();
    let version = world.adopt(&[]).unwrap();
    assert_eq!(world.run().changed, 1);
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    let kept = world.mirror(&version.name).join("a");
    assert_eq!(fs::read(kept).unwrap(), b"as it w@s");
}
