use lastgood_format::id::SessionId;

use super::*;

fn place(pack: u8) -> PackLocation {
    PackLocation { session: SessionId::new([pack; 16]), pack: PackId::new([pack; 32]) }
}

fn relocations(moved: &[(u8, &[u8])]) -> Relocations {
    let mut relocations = Relocations::default();
    for (number, (from, to)) in moved.iter().enumerate() {
        let to: Vec<PackLocation> = to.iter().map(|pack| place(*pack)).collect();
        let positions = (0..to.len() as u32).collect();
        let relocation = Relocation { to, moved: vec![(place(*from), positions)] };
        relocations.add(ObjectId::new([number as u8; 32]), &relocation);
    }
    relocations
}

#[test]
fn relocations_of_relocated_packs_are_followed() {
    let relocations = relocations(&[(1, &[2, 3]), (2, &[4]), (4, &[2]), (9, &[8])]);
    let mut found: Vec<_> = relocations.closure([place(1).pack]).into_iter().collect();
    found.sort();
    assert_eq!(found, [place(2), place(3), place(4)]);
}

/// `usable`, `decided` and `pending` are packs, and `expected` what may be named for pack 1.
fn check(
    moved: &[(u8, &[u8])],
    usable: &[u8],
    decided: &[u8],
    pending: &[u8],
    expected: Option<&[u8]>,
) {
    let places = |packs: &[u8]| packs.iter().map(|pack| place(*pack)).collect();
    let lists = RoundLists { decided: places(decided), pending: places(pending) };
    let usable: HashSet<PackId> = usable.iter().map(|pack| place(*pack).pack).collect();
    let is_usable = |pack: PackId| usable.contains(&pack);
    let relocations = relocations(moved);
    let found = StandIns::new(&relocations, &lists, &is_usable).of(place(1).pack);
    let expected: Option<std::collections::BTreeSet<PackId>> =
        expected.map(|packs| packs.iter().map(|pack| place(*pack).pack).collect());
    assert_eq!(found, expected, "{moved:?} {usable:?} {decided:?} {pending:?}");
}

#[test]
fn a_writer_names_what_a_round_relied_on() {
    check(&[], &[1], &[], &[], Some(&[1]));
    check(&[(1, &[2])], &[1, 2], &[], &[], Some(&[1]));
    check(&[(1, &[2])], &[2], &[1], &[], Some(&[2]));
    check(&[(1, &[2, 3])], &[2, 3], &[1], &[], Some(&[2, 3]));
    check(&[(1, &[])], &[], &[1], &[], Some(&[]));
    check(&[(1, &[2]), (2, &[3])], &[3], &[1, 2], &[], Some(&[3]));
    // Nobody relied on the second relocation, which leads to what is gone.
    check(&[(1, &[2]), (1, &[3])], &[2], &[1, 3], &[], Some(&[2]));
}

#[test]
fn a_writer_does_not_name_what_may_lack_something() {
    // Undecided, lost without a verdict, or in a verdict without having been moved.
    check(&[(1, &[2])], &[2], &[], &[1], None);
    check(&[(1, &[2])], &[2], &[], &[], None);
    check(&[], &[], &[1], &[], None);
    // The same of what stands in.
    check(&[(1, &[2, 3])], &[2], &[1], &[3], None);
    check(&[(1, &[2, 3])], &[2], &[1], &[], None);
}
