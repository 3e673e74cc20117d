use super::*;
use crate::gc::{ChainLink, PackLocation, Retired, RoundList};
use crate::id::{PackId, SnapshotId};
use crate::key::{Class, ClassSecret};
use crate::object::{ObjectKind, SealedUnder, open, seal};
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
    Revision { number, root, ..Revision::new(&History::new(config()), 1_795_000_001) }
}

/// Rotates from one root to another, as revision `number`.
fn rotation(number: u64, before: &Secret, now: &Secret) -> Vec<u8> {
    let repository = keys().repository();
    rotation_of(number, before, now).encode(repository, before, now)
}

/// Puts down what was signed until now.
fn closing(number: u64, root: &Secret, heads: Heads) -> Vec<u8> {
    let closed = Some(Arc::new(heads));
    Revision { closed, ..revision(number, root) }.encode(keys().repository(), root, root)
}

/// The first root of the samples is 7; it gave way to 8, and that to 9.
fn history(heads: Option<Heads>) -> History {
    let mut history = History::new(config());
    history.add(&rotation(2, &root(7), &root(8))).unwrap();
    history.add(&rotation(3, &root(8), &root(9))).unwrap();
    if let Some(heads) = heads {
        history.add(&closing(4, &root(9), heads)).unwrap();
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
        assert_eq!(open(ObjectKind::Index, &new, 100, &sealed), Ok(b"segment".to_vec()));
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
    let writer = keys().writer(&WRITER).writer_id();
    let heads = Heads {
        snapshots: BTreeMap::from([(writer, 5)]),
        log: BTreeMap::from([(writer, 6)]),
        round: 3,
    };
    let (open, closed) = (history(None), history(Some(heads)));
    assert!(open.is_rotation_open() && !closed.is_rotation_open());
    let retired = |sequence| {
        let link = Some(ChainLink { writer, sequence, previous: None });
        let snapshot = SnapshotId::new([1; 32]);
        Retired { snapshot, time: 0, reason: String::new(), replaced_by: None, link }
    };
    let place = PackLocation { session: SESSION, pack: PackId::new([2; 32]) };
    let list = |round| RoundList { round, packs: vec![place] };
    for (history, signer, is_new_power) in [
        (&open, keys(), true),
        (&closed, keys(), false),
        (&closed, closed.keys(root(9)).unwrap(), true),
    ] {
        let (verifier, maintenance) = (history.verifier(), signer.maintenance());
        for (sequence, is_within) in [(5, true), (6, false)] {
            let record = retired(sequence);
            let bytes = record.encode(&signer, &maintenance);
            let expected =
                if is_within || is_new_power { Ok(record) } else { Err(KeyError::RotatedOut) };
            assert_eq!(Retired::decode(&verifier, &bytes), expected);
        }
        for (round, is_within) in [(3, true), (4, false)] {
            let bytes = list(round).encode(ObjectKind::Verdict, &signer, &maintenance);
            let decoded = RoundList::decode(ObjectKind::Verdict, &verifier, round, &bytes).unwrap();
            assert_eq!(decoded.packs.is_empty(), !is_within && !is_new_power, "round {round}");
        }
    }
}

#[test]
fn revisions_follow_each_other_and_are_signed_by_the_root_before() {
    let refused = |bytes: &[u8]| History::new(config()).add(bytes).unwrap_err();
    let add = |names: &[&str]| Revision {
        optional: names.iter().map(|&name| name.into()).collect(),
        ..revision(2, &root(7))
    };
    let repository = keys().repository();
    let bytes = add(&["faster"]).encode(repository, &root(7), &root(7));
    let mut history = History::new(config());
    history.add(&bytes).unwrap();
    assert!(history.has("faster") && history.has("nice-to-have") && !history.has("slower"));
    assert_eq!((history.number(), history.keys(root(7)).is_ok()), (2, true));
    history.add(&bytes).expect_err("a revision is taken once");
    assert_eq!(history.number(), 2);
    // A thief of nothing but the store, and one with a root of his own.
    let forged = add(&["worse"]).encode(repository, &root(6), &root(7));
    assert_eq!(refused(&forged), ConfigError::Key(KeyError::Signature));
    let forged = rotation(2, &root(6), &root(5));
    assert_eq!(refused(&forged), ConfigError::Key(KeyError::Signature));
    let elsewhere = RepositoryId::new(*b"other repository");
    let foreign = add(&[]).encode(elsewhere, &root(7), &root(7));
    assert_eq!(refused(&foreign), ConfigError::Key(KeyError::Signature));
    refused(&rotation(3, &root(7), &root(8)));
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
    let heads = Heads {
        snapshots: BTreeMap::from([(writers[0], 300), (writers[1], 1)]),
        log: BTreeMap::from([(writers[1], u64::MAX)]),
        round: 0,
    };
    let revision = Revision { closed: Some(Arc::new(heads)), ..rotation_of(2, &root(7), &root(8)) };
    let bytes = revision.encode(keys().repository(), &root(7), &root(8));
    let mut history = History::new(config());
    history.add(&bytes).unwrap();
    assert_eq!(history.revisions(), [revision]);
    refuses_damage(&bytes, |bytes| History::new(config()).add(bytes).is_ok());
}
