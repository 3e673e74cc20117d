//! What is known of a mirror, where it is damaged, or a later release wrote it.

use std::fs;

use lastgood_mirror::text::TextError;
use lastgood_mirror::{Mirror, MirrorError};

use crate::world::{World, tree};

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
