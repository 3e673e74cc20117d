use super::*;
use crate::gc::{ChainLink, Lost, PackLocation, Relocation, Retired, RoundList};
use crate::id::{PackId, SnapshotId};
use crate::key::{Class, ClassSecret};
use crate::object::{ObjectKind, SealedUnder, object_id, open as open_sealed, seal};
use crate::samples::{OTHER_SESSION, SESSION, WRITER, keys, refuses_damage};

fn root(number: u8) -> Secret {
    Secret::new([number; 32])
}

fn config() -> Config {
    Config {
        repository: keys().repository(),
        root: keys().root_signer().public(),
        created: 1_795_000_000,
        required: Vec::new(),
        read_compatible: Vec::new(),
        optional: vec!["nice-to-have".into()],
        chunker: crate::chunker::ChunkerParams::Fixed { block: 65_536 }.into(),
    }
}

fn revision(number: u64, root: &Secret) -> Revision {
    let root = root_signer(root, keys().repository()).public();
    let before = number - 1;
    Revision { number, before, root, ..Revision::new(&History::new(config()), 1_795_000_001) }
}

/// Rotates from one root to another, as revision `number`.
fn rotation(number: u64, before: &Secret, now: &Secret) -> Vec<u8> {
    let repository = keys().repository();
    rotation_of(number, before, now).encode(repository, before, now)
}

/// Puts down what was signed until now.
fn closing(number: u64, root: &Secret, there: Inventory) -> Vec<u8> {
    let closed = Some(Arc::new(there));
    Revision { closed, ..revision(number, root) }.encode(keys().repository(), root, root)
}

/// The first root of the samples is 7; it gave way to 8, and that to 9.
fn history(there: Option<Inventory>) -> History {
    let mut history = History::new(config());
    assert_eq!(history.add(2, &rotation(2, &root(7), &root(8))), Ok(true));
    assert_eq!(history.add(3, &rotation(3, &root(8), &root(9))), Ok(true));
    if let Some(there) = there {
        assert_eq!(history.add(4, &closing(4, &root(9), there)), Ok(true));
    }
    history
}

#[test]
fn the_newest_root_opens_what_every_root_before_sealed() {
    let history = history(None);
    let new = history.keys(root(9)).unwrap();
    for old in [7, 8] {
        assert_eq!(history.keys(root(old)).err(), Some(KeyError::WrongKey));
    }
    let random = Secret::new([1; 32]);
    for old in [&keys(), &history_until(1).keys(root(8)).unwrap(), &new] {
        let wrapped = old.wrap(Class::Meta, SESSION, &random);
        assert_eq!(new.unwrap(Class::Meta, SESSION, &wrapped), Ok(random.clone()));
        assert!(new.unwrap(Class::Meta, OTHER_SESSION, &wrapped).is_err());
        let under = SealedUnder::Index(old.index(), SESSION);
        let sealed = seal(ObjectKind::Index, new.repository(), under, &[3; 32], b"segment");
        assert_eq!(open_sealed(ObjectKind::Index, &new, 100, &sealed), Ok(b"segment".to_vec()));
        let id = |keys: &RepositoryKeys| keys.blob_id(crate::pack::BlobKind::Chunk, b"a chunk");
        assert_eq!(id(old), id(&new), "what is stored stays known");
        assert_eq!(old.cut(), new.cut());
    }
    let wrapped = new.wrap(Class::Data, SESSION, &random);
    assert_eq!(keys().unwrap(Class::Data, SESSION, &wrapped), Err(KeyError::Forged));
    assert!(ClassSecret::open(&new, Class::Data, SESSION, &wrapped, &random.commitment()).is_ok());
}

fn history_until(revisions: usize) -> History {
    let mut whole = history(None);
    whole.revisions.truncate(revisions);
    whole
}

#[test]
fn what_a_root_signs_after_it_was_rotated_out_does_not_count() {
    let (thief, maintenance) = (keys(), keys().maintenance());
    let snapshot = |number: u8| SnapshotId::new([number; 32]);
    let place = PackLocation { session: SESSION, pack: PackId::new([2; 32]) };
    let moved = |to: &[PackLocation]| {
        let moved = vec![(place, (0..to.len() as u32).collect())];
        Relocation { to: to.to_vec(), moved }.encode(&thief, &maintenance)
    };
    let sealed = |number: u8| {
        let under = SealedUnder::Index(thief.index(), SESSION);
        seal(ObjectKind::Index, thief.repository(), under, &[number; 32], b"segment")
    };
    let list = |round| RoundList { round, packs: vec![place] };
    let retired = |number| {
        let (reason, replaced_by) = (String::new(), None);
        let link = Some(ChainLink {
            writer: thief.writer(&WRITER).writer_id(),
            sequence: 1,
            previous: None,
        });
        Retired { snapshot: snapshot(number), time: 0, reason, replaced_by, link }
    };
    let lost = |number| Lost { snapshot: snapshot(number), time: 0, accepted_by: String::new() };
    let there = Inventory {
        live: [snapshot(1)].into(),
        retired: [snapshot(2)].into(),
        lost: [snapshot(3)].into(),
        relocations: [object_id(&moved(&[]))].into(),
        segments: [object_id(&sealed(1))].into(),
        log: BTreeMap::new(),
        round: 3,
    };
    assert!([1, 2, 3].iter().all(|number| there.has_snapshot(snapshot(*number))));
    let (open, closed) = (history(None), history(Some(there)));
    assert!(open.is_rotation_open() && !closed.is_rotation_open());
    let random = Secret::new([1; 32]);
    let wrapped = thief.wrap(Class::Data, SESSION, &random);
    for (history, is_closed) in [(&open, false), (&closed, true)] {
        let (verifier, owner) = (history.verifier(), history.keys(root(9)).unwrap());
        let check = |what: &str, result: Result<(), KeyError>, was_there: bool| {
            let expected = if was_there || !is_closed { Ok(()) } else { Err(KeyError::RotatedOut) };
            assert_eq!(result, expected, "{what}, {was_there}");
        };
        // A snapshot that was live is not retired by whoever could once.
        for (number, was_there) in [(2, true), (1, false), (4, false)] {
            let bytes = retired(number).encode(&thief, &maintenance);
            check("retired", Retired::decode(&verifier, &bytes).map(drop), was_there);
        }
        for (number, was_there) in [(3, true), (1, false), (4, false)] {
            let bytes = lost(number).encode(&thief, &maintenance);
            let decoded = Lost::decode(&verifier, snapshot(number), &bytes);
            check("lost", decoded.map(drop), was_there);
        }
        for (to, was_there) in [(&[][..], true), (&[place][..], false)] {
            check("moved", Relocation::decode(&verifier, &moved(to)).map(drop), was_there);
        }
        for (number, was_there) in [(1, true), (2, false)] {
            let opened = open_sealed(ObjectKind::Index, &owner, 100, &sealed(number));
            check("segment", opened.map(drop), was_there);
        }
        for (round, was_there) in [(3, true), (4, false)] {
            let bytes = list(round).encode(ObjectKind::Verdict, &thief, &maintenance);
            let decoded = RoundList::decode(ObjectKind::Verdict, &verifier, round, &bytes).unwrap();
            assert_eq!(decoded.packs.is_empty(), is_closed && !was_there, "round {round}");
        }
        assert_eq!(owner.is_rotated_out(Class::Data, SESSION, &wrapped), is_closed);
        let wrapped = owner.wrap(Class::Data, SESSION, &random);
        assert!(!owner.is_rotated_out(Class::Data, SESSION, &wrapped));
        // The new root has every power.
        let bytes = retired(1).encode(&owner, &owner.maintenance());
        assert_eq!(Retired::decode(&verifier, &bytes), Ok(retired(1)));
    }
}

#[test]
fn what_no_root_signed_is_passed_over() {
    let repository = keys().repository();
    let add = |names: &[&str]| Revision {
        optional: names.iter().map(|&name| name.into()).collect(),
        ..revision(2, &root(7))
    };
    let taken = |bytes: &[u8]| History::new(config()).add(2, bytes);
    let bytes = add(&["faster"]).encode(repository, &root(7), &root(7));
    let mut history = History::new(config());
    assert_eq!(history.add(2, &bytes), Ok(true));
    assert!(history.has("faster") && history.has("nice-to-have") && !history.has("slower"));
    assert_eq!((history.number(), history.keys(root(7)).is_ok()), (2, true));
    // A thief of nothing but the store, and one with a root of his own.
    let elsewhere = RepositoryId::new(*b"other repository");
    let unknown = Revision { required: vec!["time-travel".into()], ..revision(2, &root(6)) };
    for forged in [
        add(&["worse"]).encode(repository, &root(6), &root(7)),
        rotation(2, &root(6), &root(5)),
        add(&[]).encode(elsewhere, &root(7), &root(7)),
        unknown.encode(repository, &root(6), &root(6)),
        rotation(3, &root(7), &root(8)),
        [&bytes[..6], b"\x02", &bytes[7..]].concat(),
        Vec::new(),
    ] {
        assert_eq!(taken(&forged), Ok(false));
    }
    // Nor does a copy say anything, nor do any of them stand in the way of the next.
    assert_eq!(history.add(3, &bytes), Ok(false));
    history.pass_over(4);
    assert_eq!((history.number(), history.passed_over()), (2, &[3, 4][..]));
    let next = Revision::new(&history, 0);
    assert_eq!((next.number, next.before), (5, 2));
    let next = next.encode(repository, &root(7), &root(7));
    assert!(history.add(5, &next).unwrap() && history.passed_over().is_empty());
    assert!(history.has_revision(5, &next) && !history.has_revision(3, &bytes));
    assert_eq!(
        [1, 2, 3, 4, 5, 6].map(|number| history.is_void(number)),
        [false, false, true, true, false, false]
    );
    // But one that was signed after another is not taken without that.
    let mut lacking = History::new(config());
    lacking.pass_over(2);
    lacking.add(5, &next).unwrap_err();
    assert!(lacking.has_revision(2, &bytes), "it may come back from a copy");
}

#[test]
fn what_a_root_signed_and_cannot_be_taken_is_refused() {
    let repository = keys().repository();
    let refused = |bytes: &[u8]| History::new(config()).add(2, bytes).unwrap_err();
    // A root that is not sealed could never open what was before.
    let unsealed = Revision { root: revision(2, &root(8)).root, ..revision(2, &root(7)) };
    refused(&unsealed.encode(repository, &root(7), &root(8)));
    let mut silent = rotation_of(2, &root(7), &root(8));
    silent.required.clear();
    refused(&silent.encode(repository, &root(7), &root(8)));
    let unknown = Revision { required: vec!["time-travel".into()], ..revision(2, &root(7)) };
    let unknown = unknown.encode(repository, &root(7), &root(7));
    assert_eq!(refused(&unknown), ConfigError::UnknownFeature("time-travel".into()));
}

fn rotation_of(number: u64, before: &Secret, now: &Secret) -> Revision {
    let mut revision = revision(number, before);
    revision.rotate(keys().repository(), before, now);
    revision.required.push(ROTATED_ROOTS.to_owned());
    revision
}

#[test]
fn damaged_revisions_are_refused_and_whole_ones_read_back() {
    let writers = [WriterId::new([1; 16]), WriterId::new([2; 16])];
    let there = Inventory {
        live: [SnapshotId::new([1; 32]), SnapshotId::new([2; 32])].into(),
        log: BTreeMap::from([(writers[0], 1), (writers[1], u64::MAX)]),
        ..Inventory::default()
    };
    let mut revision = rotation_of(2, &root(7), &root(8));
    revision.closed = Some(Arc::new(there));
    let bytes = revision.encode(keys().repository(), &root(7), &root(8));
    let mut history = History::new(config());
    history.add(2, &bytes).unwrap();
    assert_eq!(history.revisions(), [revision]);
    refuses_damage(&bytes, |bytes| History::new(config()).add(2, bytes) == Ok(true));
}
