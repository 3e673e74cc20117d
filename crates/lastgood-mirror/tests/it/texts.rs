//! What is known of a mirror, where it is damaged, or a later release wrote it.

use std::fs;
use std::sync::Arc;

use lastgood_mirror::run::run;
use lastgood_mirror::text::TextError;
use lastgood_mirror::{Mirror, MirrorError, Trouble};

use crate::recorder::{End, Recorder, Step, copy, replay};

use crate::sick::Sick;
use crate::world::{Names, World, tree};

#[test]
fn a_mirror_whose_writers_have_to_know_more_is_read_and_not_changed() {
    for text in [".lastgood/mirror", ".lastgood/second/mirror"] {
        let mut world = World::new();
        world.write("a", b"1");
        world.run();
        let (was, is) = ("features\t-\t-\t-", "features\t-\tshared-history\tmore");
        world.reseal(text, was, is);
        world.write("a", b"2");
        let before = tree(&world.mirror(""));
        let refused = |error: MirrorError| match error {
            MirrorError::Text { source: TextError::Feature(feature), .. } => feature,
            other => panic!("{other}"),
        };
        assert_eq!(refused(world.try_run().unwrap_err()), "shared-history");
        let changed = Mirror::open_to_change(&world.mirror(""));
        assert_eq!(refused(changed.unwrap_err()), "shared-history");
        // All that was touched is the lock.
        assert_eq!(tree(&world.mirror("")), before);
        world.check();
        // A copy that rotted demands nothing.
        let bytes = fs::read(world.mirror(text)).unwrap();
        fs::write(world.mirror(text), [&bytes[..bytes.len() - 3], b"xx\n"].concat()).unwrap();
        world.run();
        world.check();
    }
}

impl World {
    /// Takes bytes away from the end of a text.
    fn spoil(&self, text: &str) {
        let bytes = fs::read(self.mirror(text)).unwrap();
        fs::write(self.mirror(text), &bytes[..bytes.len() / 2]).unwrap();
    }

    fn told(&self) -> Vec<Trouble> {
        std::mem::take(&mut *self.troubles.0.lock().unwrap())
    }

    /// A run that was held.
    fn held(&mut self) -> u64 {
        match self.try_run() {
            Err(MirrorError::Held(held)) => held.deleted,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_held_is_held_again_where_nobody_can_read_what_it_was() {
    let mut world = World::new();
    world.is_approved = false;
    (0..60).for_each(|number| world.write(&number.to_string(), b"content"));
    world.run();
    (0..60).for_each(|number| fs::remove_file(world.source(&number.to_string())).unwrap());
    assert_eq!(world.held(), 60);
    let approve = |world: &World| {
        let mirror = Mirror::open_to_change(&world.mirror("")).unwrap().0;
        mirror.approve().map(|held| held.deleted)
    };
    // One copy is enough.
    world.spoil(".lastgood/held");
    assert_eq!(world.verify().texts, [b".lastgood/held"[..].into()]);
    assert_eq!(approve(&world).unwrap(), 60);
    assert_eq!(world.verify().texts.len(), 0);
    // An approval that nobody can read is none.
    world.spoil(".lastgood/held");
    world.spoil(".lastgood/second/held");
    assert!(matches!(approve(&world), Err(MirrorError::Text { .. })));
    assert_eq!(world.held(), 60);
    let told = world.told();
    assert!(told.len() == 1 && *told[0].path == *b".lastgood/held", "{told:?}");
    approve(&world).unwrap();
    assert_eq!(world.run().deleted, 60);
    assert!(!world.mirror(".lastgood/held").exists());
    assert!(!world.mirror(".lastgood/second/held").exists());
    world.check();
    // Nor does one stand in the way of a run that does little.
    world.write("a", b"1");
    world.run();
    for copy in [".lastgood/held", ".lastgood/second/held"] {
        fs::write(world.mirror(copy), b"rotten").unwrap();
    }
    world.write("a", b"2");
    assert_eq!((world.run().changed, world.told().len()), (1, 1));
    assert!(!world.mirror(".lastgood/held").exists());
    world.check();
}

/// What a run does, step by step, from a copy of the mirror as it was before.
struct Cut {
    world: World,
    before: std::path::PathBuf,
    steps: Vec<Step>,
    /// Steps between which a journal is under way.
    under_way: std::ops::Range<usize>,
}

impl Cut {
    fn new() -> Self {
        let mut world = World::new();
        for name in ["changes", "goes", "moves", "stays", "d/x", "becomes"] {
            world.write(name, format!("{name} as it was").as_bytes());
        }
        world.run();
        world.write("changes", b"as it is");
        world.write("d/new", b"is new");
        fs::remove_file(world.source("goes")).unwrap();
        fs::rename(world.source("moves"), world.source("moved")).unwrap();
        fs::remove_file(world.source("becomes")).unwrap();
        world.write("becomes/directory", b"now");
        let before = world.folder.path().join("before");
        copy(&world.mirror(""), &before);
        let options = world.next_options();
        let recorder = Arc::new(Recorder::new(&world.mirror("")));
        let mirror = Mirror::on(recorder.clone(), &world.mirror(""));
        let report = run(&mirror, &options, &mut Names(&[]), &world.troubles).unwrap();
        world.versions.push((report.version.unwrap().name, tree(&world.source(""))));
        let steps = recorder.steps();
        let named =
            |step: &Step| matches!(step, Step::Rename(_, to) if **to == *b".lastgood/journal");
        let gone =
            |step: &Step| matches!(step, Step::Remove(path) if **path == *b".lastgood/journal");
        let begin = steps.iter().position(named).unwrap() + 1;
        let end = steps.iter().position(gone).unwrap();
        Self { world, before, steps, under_way: begin..end }
    }

    /// The older version comes back, and nothing is damaged once the commit is over.
    fn check(&self, is_over: bool) {
        let (world, to) = (&self.world, tempfile::tempdir().unwrap());
        let (name, expected) = &world.versions[0];
        let report = world.restore(name, "", &to.path().join("back"));
        assert_eq!((report.damaged, report.failed), (Vec::new(), 0));
        assert_eq!(tree(&to.path().join("back")), *expected);
        for script in ["restore.sh", "restore.py"] {
            let back = to.path().join(script);
            world.script(script, &[name.as_ref(), back.as_os_str()]);
            assert_eq!(tree(&back), *expected, "by {script}");
        }
        if is_over {
            let report = world.verify();
            assert_eq!((report.damaged, report.lost, report.broken), Default::default());
            // What was set aside may be another name of a file that is where it should be.
            let mut shown = tree(&world.mirror("latest"));
            let parted = |text: &mut String| text.truncate(text.find(" = ").unwrap_or(text.len()));
            shown.values_mut().for_each(parted);
            assert_eq!(shown, tree(&world.source("")));
        }
    }

    /// Makes the mirror what it was after so many steps.
    fn at(&self, count: usize) {
        fs::remove_dir_all(self.world.mirror("")).unwrap();
        copy(&self.before, &self.world.mirror(""));
        replay(&self.steps[..count], End::Killed, &self.world.mirror(""));
    }
}

#[test]
fn a_journal_is_rolled_forward_from_either_copy() {
    let cut = Cut::new();
    for (number, count) in cut.under_way.clone().step_by(3).enumerate() {
        cut.at(count);
        cut.world.spoil([".lastgood/journal", ".lastgood/second/journal"][number % 2]);
        cut.check(false);
        let (_, done) = Mirror::open_to_change(&cut.world.mirror("")).unwrap();
        assert_eq!(done.unreadable, None, "after {count} steps");
        cut.check(true);
    }
}

#[test]
fn without_any_copy_of_the_journal_the_next_run_goes_on_and_nothing_is_lost() {
    let cut = Cut::new();
    for count in cut.under_way.clone() {
        cut.at(count);
        cut.world.spoil(".lastgood/journal");
        cut.world.spoil(".lastgood/second/journal");
        let (mirror, done) = Mirror::open_to_change(&cut.world.mirror("")).unwrap();
        let (aside, _) = done.unreadable.unwrap();
        let aside = cut.world.mirror(std::str::from_utf8(&aside).unwrap());
        assert!(aside.join("journal").exists() && aside.join("stage").is_dir());
        let options = cut.world.options();
        let report = run(&mirror, &options, &mut Names(&[]), &cut.world.troubles);
        report.unwrap_or_else(|error| panic!("after {count} steps: {error}"));
        drop(mirror);
        cut.check(true);
    }
}

#[test]
fn a_move_whose_file_does_not_answer_ends_no_recovery() {
    let cut = Cut::new();
    for count in cut.under_way.clone().step_by(2) {
        cut.at(count);
        let mirror = Sick::failing(&cut.world.mirror(""), |call, path| {
            (call == "open" && path == b"latest/moves").then_some(5)
        });
        mirror.recover().unwrap_or_else(|error| panic!("after {count} steps: {error}"));
        cut.check(true);
    }
}
