//! A file system that takes names for one which the source keeps apart: by their case, or by how
//! their characters are composed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use lastgood_format::entry::Entry;
use lastgood_host::HostError;
use lastgood_host::metadata::Unset;
use lastgood_host::scan::Stat;
use lastgood_host::source::SourceFile;
use lastgood_host::target::TargetFile;
use lastgood_mirror::Mirror;
use lastgood_mirror::place::{HostPlace, Place};
use lastgood_mirror::record;
use lastgood_mirror::restore::restore;
use lastgood_mirror::run::{RunReport, run, subject};
use lastgood_mirror::verify::verify;

use crate::world::{Names, World, tree};

/// A directory as such a file system shows it: a name stays as it was given first, and is found by
/// all others that fold to the same.
struct Folding {
    inner: HostPlace,
    root: PathBuf,
    fold: fn(&str) -> String,
}

impl Folding {
    fn mirror(world: &World, fold: fn(&str) -> String) -> Mirror {
        let root = world.mirror("");
        Mirror::on(
            Arc::new(Self { inner: HostPlace::open(&root).unwrap(), root: root.clone(), fold }),
            &root,
        )
    }

    /// Where a path is, whatever it is called there.
    fn at(&self, path: &[u8]) -> Vec<u8> {
        let mut at = Vec::new();
        for name in std::str::from_utf8(path).unwrap().split('/') {
            let directory = self.root.join(std::str::from_utf8(&at).unwrap());
            let names = fs::read_dir(directory).into_iter().flatten();
            let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
            let wanted = (self.fold)(name);
            let found = names.find(|it| (self.fold)(it) == wanted).unwrap_or_else(|| name.into());
            at = record::join(&at, found.as_bytes()).into_vec();
        }
        at
    }
}

impl Place for Folding {
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, HostError> {
        self.inner.stat(&self.at(path))
    }
    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, HostError> {
        self.inner.list(&self.at(path))
    }
    fn open(&self, path: &[u8]) -> Result<Option<SourceFile>, HostError> {
        self.inner.open(&self.at(path))
    }
    fn read_link(&self, path: &[u8]) -> Result<Option<Box<[u8]>>, HostError> {
        self.inner.read_link(&self.at(path))
    }
    fn make_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.inner.make_directory(&self.at(path))
    }
    fn create(&self, path: &[u8]) -> Result<TargetFile, HostError> {
        self.inner.create(&self.at(path))
    }
    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), HostError> {
        self.inner.make_symlink(&self.at(path), target)
    }
    fn link(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        self.inner.link(&self.at(from), &self.at(to))
    }
    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), HostError> {
        let (from, at) = (self.at(from), self.at(to));
        // To another name of itself: then it is called so.
        let to = match from == at {
            true => {
                let end = at.iter().rposition(|&byte| byte == b'/').map_or(0, |end| end + 1);
                let name = to.rsplit(|&byte| byte == b'/').next().unwrap();
                [&at[..end], name].concat()
            }
            false => at,
        };
        self.inner.rename(&from, &to)
    }
    fn remove(&self, path: &[u8]) -> Result<(), HostError> {
        self.inner.remove(&self.at(path))
    }
    fn remove_directory(&self, path: &[u8]) -> Result<(), HostError> {
        self.inner.remove_directory(&self.at(path))
    }
    fn look(&self, path: &[u8], entry: &Entry) -> Result<Vec<Unset>, HostError> {
        self.inner.look(&self.at(path), entry)
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
        self.inner.sync()
    }
}

/// As HFS and ZFS may: only how a character is composed means nothing.
fn forms(name: &str) -> String {
    name.replace("e\u{301}", "\u{e9}").replace("E\u{301}", "\u{c9}")
}

/// As ext4 and APFS may: case as well, with all that Unicode knows of it.
fn cases(name: &str) -> String {
    forms(name).to_uppercase().to_lowercase()
}

struct Story {
    world: World,
    fold: fn(&str) -> String,
}

impl Story {
    fn new(fold: fn(&str) -> String) -> Self {
        let world = World::new();
        fs::create_dir(world.mirror("")).unwrap();
        let subject = subject(&world.source("")).unwrap();
        Folding::mirror(&world, fold).found(&subject).unwrap();
        Self { world, fold }
    }

    /// Runs; which paths were told.
    fn run(&mut self) -> (RunReport, Vec<String>) {
        let options = self.world.next_options();
        let mirror = Folding::mirror(&self.world, self.fold);
        let report = run(&mirror, &options, &mut Names(&[]), &self.world.troubles).unwrap();
        if let Some(version) = &report.version {
            self.world.versions.push((version.name.clone(), tree(&self.world.source(""))));
        }
        let told = std::mem::take(&mut *self.world.troubles.0.lock().unwrap());
        (report, told.into_iter().map(|it| String::from_utf8(it.path.into()).unwrap()).collect())
    }

    /// All versions come back, but for what was left out.
    fn check(&self, left_out: &[&str]) {
        let mirror = Folding::mirror(&self.world, self.fold);
        for (name, expected) in &self.world.versions {
            let to = tempfile::tempdir().unwrap();
            let options = self.world.restore_options(name, "", &to.path().join("back"));
            let report = restore(&mirror, &options, &self.world.troubles).unwrap();
            assert_eq!((report.damaged, report.failed), (Vec::new(), 0), "{name}");
            let mut expected = expected.clone();
            expected.retain(|path, _| !left_out.iter().any(|out| path.starts_with(out)));
            assert_eq!(tree(&to.path().join("back")), expected, "{name}");
        }
        let verified = verify(&mirror, &self.world.troubles).unwrap();
        assert_eq!((verified.damaged, verified.lost), Default::default());
    }

    /// Nothing is to be done, and nobody did anything.
    fn rest(&mut self, left_out: &[&str]) {
        let (report, told) = self.run();
        assert_eq!((report.version, report.conflicts), (None, Vec::new()));
        assert_eq!(told, left_out);
    }
}

#[test]
fn case_10_names_that_the_mirror_takes_for_one_do_not_replace_each_other() {
    let both = [("caf\u{e9}", "cafe\u{301}"), ("\u{c9}t\u{e9}/x", "E\u{301}te\u{301}/x")];
    let folded = [("stra\u{df}e", "STRASSE"), ("k", "\u{212a}"), ("A", "a")];
    for (fold, pairs) in
        [(forms as fn(&str) -> String, both.to_vec()), (cases, [&both[..], &folded].concat())]
    {
        for (one, other) in pairs {
            let mut story = Story::new(fold);
            let root = |path: &'static str| path.split('/').next().unwrap();
            story.world.write(one, b"the first");
            story.world.write("beside", b"1");
            assert_eq!(story.run().1, Vec::<String>::new());
            story.world.write(other, b"the second");
            let (report, told) = story.run();
            assert_eq!((report.new, told), (0, vec![root(other).to_owned()]), "{one} {other}");
            story.check(&[root(other)]);
            story.rest(&[root(other)]);
            // Gone, the first leaves its place to the second.
            let first = story.world.source(root(one));
            fs::rename(first, story.world.folder.path().join("away")).unwrap();
            assert_eq!(story.run().1, Vec::<String>::new());
            let newest = story.world.versions.pop().unwrap();
            story.check(&[root(other)]);
            story.world.versions = vec![newest];
            story.check(&[]);
            story.rest(&[]);
        }
    }
}

#[test]
fn case_10_a_name_that_is_only_written_otherwise_is_renamed() {
    for fold in [forms, cases] {
        let mut story = Story::new(fold);
        for name in ["caf\u{e9}", "\u{e9}t\u{e9}/e\u{301}/file", "of two", "stays"] {
            story.world.write(name, name.as_bytes());
        }
        let world = &story.world;
        fs::hard_link(world.source("of two"), world.source("\u{e9}-two")).unwrap();
        story.run();
        let renamed = [
            ("caf\u{e9}", "cafe\u{301}"),
            ("\u{e9}t\u{e9}", "e\u{301}te\u{301}"),
            ("\u{e9}-two", "e\u{301}-two"),
        ];
        for (from, to) in renamed {
            fs::rename(story.world.source(from), story.world.source(to)).unwrap();
        }
        fs::remove_file(story.world.source("of two")).unwrap();
        let (report, told) = story.run();
        assert_eq!((report.bytes_written, told), (0, Vec::new()));
        story.check(&[]);
        story.rest(&[]);
        // And edited.
        fs::remove_file(story.world.source("cafe\u{301}")).unwrap();
        story.world.write("caf\u{e9}", b"with other bytes");
        story.run();
        story.check(&[]);
        story.rest(&[]);
        // What somebody puts there is found all the same.
        fs::write(story.world.mirror("latest/foreign\u{e9}"), b"1").unwrap();
        let (report, _) = story.run();
        assert_eq!(report.conflicts.len(), 1);
        story.rest(&[]);
    }
}

#[test]
fn names_that_differ_in_case_are_two_where_only_forms_mean_nothing() {
    let mut story = Story::new(forms);
    for name in ["A", "a", "\u{c9}", "\u{e9}"] {
        story.world.write(name, name.as_bytes());
    }
    assert_eq!(story.run().1, Vec::<String>::new());
    story.check(&[]);
    story.rest(&[]);
}
