//! What asks first: an empty mount point, a slip, somebody's malice.

use std::fs;

use lastgood_mirror::{Mirror, MirrorError};

use crate::world::{World, tree};

#[test]
fn case_19_and_20_an_emptied_source_asks_first() {
    let mut world = World::new();
    for number in 0..20 {
        world.write(&format!("f{number}"), b"1");
    }
    world.run();
    world.is_approved = false;
    let before = tree(&world.mirror(""));
    fs::rename(world.source(""), world.folder.path().join("away")).unwrap();
    fs::create_dir(world.source("")).unwrap();
    let held = world.try_run().unwrap_err();
    let MirrorError::Held(held) = held else { panic!("{held}") };
    assert_eq!((held.deleted, held.is_other_root), (20, true));
    let relevant = |tree: crate::world::Tree| {
        tree.into_iter().filter(|(path, _)| !path.starts_with(".lastgood")).collect::<Vec<_>>()
    };
    assert_eq!(relevant(tree(&world.mirror(""))), relevant(before));
    world.is_approved = true;
    assert_eq!(world.run().deleted, 20);
    world.check();
    // What was approved is not asked again.
    world.is_approved = false;
    world.write("new", b"1");
    world.run();
}

#[test]
fn case_20_most_files_changed_at_once_asks_first() {
    let mut world = World::new();
    for number in 0..200 {
        world.write(&format!("f{number}"), b"1");
    }
    world.run();
    for number in 0..150 {
        world.write(&format!("f{number}"), b"scrambled");
    }
    world.is_approved = false;
    let MirrorError::Held(held) = world.try_run().unwrap_err() else { panic!("not held") };
    assert_eq!((held.changed, held.deleted), (150, 0));
}

#[test]
fn case_20_an_approval_is_good_for_that_much_and_once() {
    let mut world = World::new();
    world.is_approved = false;
    let write = |world: &World| {
        let names = (0..300).map(|number: u32| number.to_string());
        let missing = names.filter(|name| !world.source(name).exists());
        missing.for_each(|name| world.write(&name, b"content"));
    };
    let remove = |world: &World, numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| fs::remove_file(world.source(&number.to_string())).unwrap());
    };
    let open = |world: &World| Mirror::open_to_change(&world.mirror("")).unwrap().0;
    write(&world);
    world.run();
    assert!(matches!(open(&world).approve(), Err(MirrorError::NotHeld)));
    remove(&world, 0..100);
    let before = tree(&world.mirror("latest"));
    assert!(matches!(world.try_run(), Err(MirrorError::Held(_))));
    assert!(matches!(world.try_run(), Err(MirrorError::Held(_))));
    assert_eq!(tree(&world.mirror("latest")), before);
    assert_eq!(open(&world).approve().unwrap().deleted, 100);
    // More than was approved is held again, and then that much has to be approved.
    remove(&world, 100..110);
    assert!(matches!(world.try_run(), Err(MirrorError::Held(held)) if held.deleted == 110));
    assert!(matches!(world.try_run(), Err(MirrorError::Held(_))));
    open(&world).approve().unwrap();
    assert_eq!(world.run().deleted, 110);
    assert_eq!(open(&world).hold().unwrap(), None);
    world.check();
    // It was good for one run.
    write(&world);
    world.run();
    remove(&world, 0..100);
    assert!(matches!(world.try_run(), Err(MirrorError::Held(_))));
    // What is no danger any more ends the hold.
    write(&world);
    world.run();
    assert_eq!(open(&world).hold().unwrap(), None);
}
