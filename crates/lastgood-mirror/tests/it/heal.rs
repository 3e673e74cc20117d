//! Rot, and what is lost: found, told, healed where somebody has the bytes, and never spread.

use std::fs;

use lastgood_host::scan::Directory;
use lastgood_mirror::repair::{Donor, RepairReport, Source, Taker, Wanted, repair};
use lastgood_mirror::thin::drop_version;
use lastgood_mirror::{Mirror, MirrorError};

use crate::world::{World, tree};

#[test]
fn case_29_rot_does_not_enter_history() {
    let mut world = World::new();
    world.write("a", b"true bytes");
    world.run();
    world.rot("latest/a");
    assert_eq!(world.verify().damaged, [b"latest/a"[..].into()]);
    world.write("a", b"the next version");
    let report = world.run();
    assert_eq!(report.rotted, [b"a"[..].into()]);
    let aside = world.mirror(".lastgood/damaged").join(world.folder_of(0)).join("a");
    assert_eq!(fs::read(aside).unwrap(), b"urue bytes");
    let to = tempfile::tempdir().unwrap();
    let report = world.restore(&world.folder_of(0), "", to.path());
    assert_eq!(report.damaged, [b"a"[..].into()]);
    assert!(!to.path().join("a").exists());
}

#[test]
fn case_30_rot_in_a_folder_or_a_text_is_found() {
    let mut world = World::new();
    world.write("a", b"one");
    world.run();
    world.write("a", b"two two");
    world.run();
    world.check();
    let kept = format!("{}/a", world.folder_of(0));
    fs::write(world.mirror(&kept), b"0ne").unwrap();
    assert_eq!(world.verify().damaged, [kept.as_bytes().into()]);
    let delta = world.mirror(".lastgood/deltas").join(world.folder_of(0));
    let mut text = fs::read(&delta).unwrap();
    text[60] ^= 1;
    fs::write(&delta, text).unwrap();
    // The second copy says the same.
    world.restore(&world.folder_of(0), "", &world.folder.path().join("back"));
    let verified = world.verify();
    assert_eq!((verified.texts.len(), verified.damaged.len()), (1, 1));
    let second = world.mirror(".lastgood/second/deltas").join(world.folder_of(0));
    fs::write(second, b"rubbish").unwrap();
    let mirror = Mirror::open(&world.mirror("")).unwrap();
    assert!(matches!(mirror.view(), Err(MirrorError::Text { .. })));
    // The newest version needs no delta.
    assert_eq!(mirror.view_from(usize::MAX).unwrap().latest.lines().count(), 2);
}

#[test]
fn case_40_a_lost_folder_costs_only_what_was_in_it() {
    let mut world = World::new();
    world.write("a", b"1");
    world.write("b", b"1");
    world.run();
    world.write("a", b"22");
    world.run();
    world.write("b", b"22");
    world.run();
    fs::remove_dir_all(world.mirror(&world.folder_of(1))).unwrap();
    let lost = format!("{}/b", world.folder_of(1));
    assert_eq!(world.verify().damaged, [lost.as_bytes().into()]);
    let restored = |index: usize| {
        let to = tempfile::tempdir().unwrap();
        let report = world.restore(&world.folder_of(index), "", to.path());
        (report.damaged, fs::read(to.path().join("a")).unwrap(), to.path().join("b").exists())
    };
    let is_lost = vec![b"b"[..].into()];
    assert_eq!(restored(0), (is_lost.clone(), b"1".to_vec(), false));
    assert_eq!(restored(1), (is_lost, b"22".to_vec(), false));
    assert_eq!(restored(2), (Vec::new(), b"22".to_vec(), true));
    // The mirror goes on.
    world.write("a", b"333");
    world.run();
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
}

#[test]
fn case_29_rot_in_the_mirror_is_healed_from_the_source() {
    let mut world = World::new();
    world.scrub_days = 1;
    world.write("d/a", b"true bytes");
    world.write("b", b"others");
    world.run();
    world.rot("latest/d/a");
    let report = world.run();
    let expected = vec![b"d/a"[..].into()];
    assert_eq!((&report.rotted, &report.healed), (&expected, &expected));
    assert_eq!((report.version, report.bytes_checked), (None, 16));
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    let aside = world.mirror(".lastgood/damaged").join(world.folder_of(0));
    assert_eq!(fs::read(aside.join("d/a")).unwrap(), b"urue bytes");
    world.check();
    // Again, in the same version: what is left of it goes beside the other.
    world.rot("latest/d/a");
    assert_eq!(world.run().healed, expected);
    assert!(aside.with_extension("").exists());
    world.check();
    let report = world.run();
    assert_eq!((report.rotted, report.version), (Vec::new(), None));
}

#[test]
fn case_29_rot_on_its_way_into_history_is_healed_by_the_same_bytes_elsewhere() {
    let mut world = World::new();
    world.write("a", b"true bytes");
    world.write("copy", b"true bytes");
    world.run();
    world.rot("latest/a");
    world.write("a", b"the next version");
    let report = world.run();
    assert_eq!((&report.rotted, &report.healed), (&report.healed, &vec![b"a"[..].into()]));
    world.check();
}

#[test]
fn case_29_rot_in_the_source_is_told_and_does_not_spread() {
    let mut world = World::new();
    world.scrub_days = 1;
    world.write("a", b"rotten now");
    world.run();
    world.rot_source("a", b"good bytes");
    let report = world.run();
    assert_eq!(report.source_rotted, [b"a"[..].into()]);
    assert_eq!((report.version, report.rotted), (None, Vec::new()));
    assert_eq!(fs::read(world.mirror("latest/a")).unwrap(), b"good bytes");
    assert_eq!(world.troubles.0.lock().unwrap().len(), 1);
    // It is told until somebody does something about it.
    assert_eq!(world.run().source_rotted.len(), 1);
    world.write("a", b"good again");
    let report = world.run();
    assert_eq!((report.source_rotted, report.changed), (Vec::new(), 1));
    assert_eq!(fs::read(world.mirror(&world.folder_of(0)).join("a")).unwrap(), b"good bytes");
}

#[test]
fn case_29_where_both_have_rotted_the_source_is_a_new_version() {
    let mut world = World::new();
    world.scrub_days = 1;
    world.write("a", b"rotten now");
    world.run();
    world.rot_source("a", b"good bytes");
    world.rot("latest/a");
    let report = world.run();
    let expected = vec![b"a"[..].into()];
    assert_eq!((report.source_rotted, report.rotted), (expected.clone(), expected));
    assert_eq!((report.healed, report.version.is_some()), (Vec::new(), true));
    assert_eq!(world.verify().lost, [(world.folder_of(0), b"a"[..].into())]);
    assert_eq!(fs::read(world.mirror("latest/a")).unwrap(), b"rotten now");
}

#[test]
fn case_29_everything_is_read_once_in_so_many_days() {
    let mut world = World::new();
    world.scrub_days = 10;
    for number in 0..30 {
        world.write(&format!("d{}/{number}", number % 3), &[number; 1000]);
    }
    world.run();
    for number in 0..30 {
        world.write(&format!("d{}/{number}", number % 3), &[number + 100; 1500]);
    }
    let sizes = |world: &mut World, runs: u32| -> Vec<u64> {
        (0..runs).map(|_| world.run().bytes_checked).collect()
    };
    let total = 30 * 2500;
    // The first of them makes the second version, and reads of the first one only.
    let read = sizes(&mut world, 12);
    assert!(read.iter().all(|bytes| *bytes <= total / 10 + 1500), "{read:?}");
    assert!(read[1..11].iter().sum::<u64>() > total - 3000, "{read:?}");
    // Rot anywhere is found before everything was read again.
    let kept = format!("{}/d1/13", world.folder_of(0));
    world.rot(&kept);
    world.rot("latest/d2/17");
    let (mut damaged, mut healed) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let report = world.run();
        damaged.extend(report.damaged);
        healed.extend(report.healed);
    }
    assert!(damaged.contains(&kept.as_bytes().into()) && damaged.len() <= 2, "{damaged:?}");
    assert_eq!(healed, [b"d2/17"[..].into()]);
    // A run after a long time reads everything, and a clock that goes back reads nothing.
    world.set_clock(4_100_000_000);
    assert_eq!(world.run().bytes_checked, total);
    world.set_clock(4_000_000_000);
    assert_eq!(world.run().bytes_checked, 0);
}

/// Says that it has what it is given: one file after the other.
pub(crate) struct Stranger(pub(crate) Vec<&'static [u8]>);

impl Donor for Stranger {
    fn name(&self) -> String {
        "a stranger".to_owned()
    }

    fn offer(&mut self, _: &Wanted<'_>, taker: &mut Taker<'_>) -> Result<bool, MirrorError> {
        for bytes in &self.0 {
            taker.begin()?;
            taker.write(bytes)?;
            if taker.is_wanted() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl World {
    /// Repairs with the help of the source and of a stranger.
    fn repair(&self, bytes: &[&'static [u8]], is_dry: bool) -> RepairReport {
        let source = Source::new(Directory::open_root(&self.source("")).unwrap());
        let mut donors: Vec<Box<dyn Donor>> =
            vec![Box::new(source), Box::new(Stranger(bytes.to_vec()))];
        let (mirror, _) = Mirror::open_to_change(&self.mirror("")).unwrap();
        repair(&mirror, &mut donors, is_dry, &self.troubles).unwrap()
    }
}

#[test]
fn case_30_what_rotted_is_taken_from_whoever_has_it() {
    let mut world = World::new();
    world.write("d/a", b"one");
    world.write("b", b"one");
    world.write("c", b"unchanged");
    world.run();
    world.write("d/a", b"two two");
    world.write("b", b"three");
    world.run();
    let old = world.folder_of(0);
    world.rot(&format!("{old}/d/a"));
    world.rot("latest/c");
    world.rot("latest/b");
    // A plan changes nothing.
    let before = tree(&world.mirror(""));
    let plan = world.repair(&[b"strange", b"three"], true);
    assert_eq!(tree(&world.mirror("")), before);
    let report = world.repair(&[b"strange", b"three"], false);
    assert_eq!(plan, report);
    let healed: Vec<_> = report.healed.iter().map(|it| (&*it.path, it.from.as_str())).collect();
    let inside = "another file of the mirror";
    let expected: [(&[u8], _); 3] = [(b"d/a", inside), (b"b", "the source"), (b"c", "the source")];
    assert_eq!(healed, expected);
    assert_eq!((report.whole, report.lost), (2, Vec::new()));
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    assert_eq!(fs::read(world.mirror(".lastgood/damaged").join(&old).join("d/a")).unwrap(), b"nne");
    world.check();
    assert!(!world.repair(&[], false).has_work());
    // The next version is made of what was healed.
    world.write("c", b"changed");
    assert_eq!(world.run().rotted, Vec::<Box<[u8]>>::new());
    world.check();
}

#[test]
fn case_40_what_was_lost_with_a_folder_is_recorded_and_can_come_back() {
    let mut world = World::new();
    world.write("a", b"first");
    world.write("b", b"there and back");
    world.write("c", b"only once");
    world.run();
    world.write("a", b"second");
    world.write("c", b"something else");
    fs::rename(world.source("b"), world.source("moved")).unwrap();
    world.run();
    world.write("moved", b"third");
    world.run();
    let lost = world.folder_of(0);
    fs::remove_dir_all(world.mirror(&lost)).unwrap();
    fs::remove_dir_all(world.mirror(&world.folder_of(1))).unwrap();
    let report = world.repair(&[b"first"], false);
    assert_eq!(report.healed.len(), 1);
    assert_eq!(report.lost.len(), 2);
    assert_eq!(fs::read(world.mirror(&lost).join("a")).unwrap(), b"first");
    // Nobody says otherwise from now on: it is lost, and no damage any more.
    let verified = world.verify();
    assert_eq!((verified.damaged, verified.broken), Default::default());
    // The bytes that moved are lost under both names.
    assert_eq!(verified.lost.len(), 3);
    let report = world.repair(&[], false);
    assert_eq!((report.has_work(), report.still_lost.len()), (false, 2));
    // Somebody has them after all.
    let report = world.repair(&[b"there and back", b"only once"], false);
    assert_eq!((report.healed.len(), report.still_lost), (2, Vec::new()));
    world.check();
    world.write("a", b"fourth");
    world.run();
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    drop_version(&mirror, &world.versions.remove(1).0, false).unwrap();
    world.check();
}

#[test]
fn a_version_needs_no_older_text() {
    let mut world = World::new();
    for bytes in [b"one", b"two", b"six"] {
        world.write("a", bytes);
        world.run();
    }
    for copy in [".lastgood/deltas", ".lastgood/second/deltas"] {
        fs::write(world.mirror(copy).join(world.folder_of(0)), b"rubbish").unwrap();
    }
    let to = tempfile::tempdir().unwrap();
    world.restore(&world.folder_of(1), "", to.path());
    assert_eq!(fs::read(to.path().join("a")).unwrap(), b"two");
}

#[test]
fn case_30_any_text_may_be_lost_once() {
    let mut world = World::new();
    for bytes in [b"one", b"two", b"six"] {
        world.write("a", bytes);
        world.run();
    }
    let delta = format!("deltas/{}", world.folder_of(0));
    for name in ["mirror", "versions", "latest", &delta] {
        for copy in [".lastgood", ".lastgood/second"] {
            let text = world.mirror(copy).join(name);
            let right = fs::read(&text).unwrap();
            for is_missing in [false, true] {
                match is_missing {
                    false => fs::write(&text, &right[..right.len() / 2]).unwrap(),
                    true => fs::remove_file(&text).unwrap(),
                }
                let back = tempfile::tempdir().unwrap();
                world.restore(&world.folder_of(0), "", back.path());
                assert_eq!(fs::read(back.path().join("a")).unwrap(), b"one");
                for script in ["restore.sh", "restore.py"] {
                    let to = back.path().join(script);
                    world.script(script, &[world.folder_of(0).as_ref(), to.as_ref()]);
                    assert_eq!(fs::read(to.join("a")).unwrap(), b"one");
                }
                assert_eq!(world.verify().texts.len(), 1, "{}", text.display());
                assert_eq!(world.repair(&[], false).texts.len(), 1);
                assert_eq!(fs::read(&text).unwrap(), right);
                assert_eq!(world.verify().texts, Vec::<Box<[u8]>>::new());
            }
        }
    }
    world.check();
}

#[test]
fn case_30_damage_in_the_text_of_an_old_version_stops_nobody() {
    let mut world = World::new();
    world.scrub_days = 1;
    for bytes in [b"one", b"two", b"six"] {
        world.write("a", bytes);
        world.run();
    }
    let name = world.folder_of(0);
    for copy in [".lastgood/deltas", ".lastgood/second/deltas"] {
        fs::write(world.mirror(copy).join(&name), b"rubbish").unwrap();
    }
    world.write("a", b"the next version");
    let report = world.run();
    assert_eq!(report.damaged, [format!(".lastgood/deltas/{name}").into_bytes().into()]);
    assert_eq!(tree(&world.mirror("latest")), tree(&world.source("")));
    let (mirror, _) = Mirror::open_to_change(&world.mirror("")).unwrap();
    drop_version(&mirror, &world.versions.remove(0).0, false).unwrap();
    drop(mirror);
    world.check();
}
