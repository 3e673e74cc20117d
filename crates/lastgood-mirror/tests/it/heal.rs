//! Rot, and what is lost: found, told, healed where somebody has the bytes, and never spread.

use std::fs;

use lastgood_mirror::MirrorError;

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
    let mirror = lastgood_mirror::Mirror::open(&world.mirror("")).unwrap();
    assert!(matches!(mirror.view(), Err(MirrorError::Text { .. })));
    // The newest version needs no delta.
    assert_eq!(mirror.view_from(usize::MAX).unwrap().latest.len(), 2);
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
