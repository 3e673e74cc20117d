use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use lastgood_backend::{Backend, ErrorKind, ObjectName};
use lastgood_repo::format::id::{BlobId, PackId};
use lastgood_repo::format::key::Secret;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::slot::{Credential, WorkFactors};
use lastgood_repo::{
    BlobReader, CheckObserver, RepairPlan, RepairReport, RepoError, Repository, Settings,
    WriteSession, repair,
};
use lastgood_testkit::faulty::{Calls, Failure, Moment};

use crate::place::Place;

struct Silent;

impl CheckObserver for Silent {
    fn total(&self, _: u64, _: u64) {}

    fn done(&self, _: u64, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn damaged(&self, _: &str) {}
}

fn run(repo: &Arc<Repository>, dry_run: bool) -> Result<RepairReport, RepoError> {
    run_after(repo, dry_run, &HashSet::new())
}

/// The same when these packs were found whole just now.
fn run_after(
    repo: &Arc<Repository>,
    dry_run: bool,
    whole: &HashSet<PackId>,
) -> Result<RepairReport, RepoError> {
    let plan = RepairPlan { threads: 1, dry_run, writer_name: [2; 16], copies: &[], whole };
    repair(repo, &plan, &Silent)
}

/// A repository with two packs of known blobs, and the objects that go with them.
struct Stored {
    place: Place,
    blobs: BTreeMap<BlobId, Vec<u8>>,
}

impl Stored {
    fn new() -> Self {
        let place = Place::new();
        let mut blobs = BTreeMap::new();
        for seed in 0..2_u8 {
            let session = WriteSession::begin(&place.repo, Settings::default(), &[1; 16]).unwrap();
            let mut writer = session.writer();
            for number in 0..40_u8 {
                let mut bytes = vec![0; 3000];
                blake3::Hasher::new().update(&[seed, number]).finalize_xof().fill(&mut bytes);
                blobs.insert(writer.add(BlobKind::Chunk, &bytes).unwrap(), bytes);
            }
            writer.finish().unwrap();
        }
        Self { place, blobs }
    }

    /// Changes every object that is there now.
    fn damage(&self, change: impl Fn(&mut [u8])) -> Vec<ObjectName> {
        let objects = self.place.memory.objects();
        for (name, bytes) in &objects {
            let mut bytes = bytes.to_vec();
            change(&mut bytes);
            self.place.memory.overwrite(name, &bytes);
        }
        objects.into_keys().collect()
    }

    fn assert_readable(&self) -> Arc<Repository> {
        let repo = self.place.reopened();
        let reader = BlobReader::new(repo.clone());
        for (id, bytes) in &self.blobs {
            let found = reader.blob(BlobKind::Chunk, *id).unwrap();
            assert!(*found == bytes[..], "{id} is read as other bytes");
        }
        repo
    }
}

#[test]
fn what_a_plan_found_whole_is_not_read_again() {
    let stored = Stored::new();
    let packs = stored.place.names("packs/");
    let damaged = ObjectName::new(&format!("packs/{}", packs[0])).unwrap();
    let mut bytes = stored.place.memory.objects()[&damaged].to_vec();
    bytes[200] ^= 1;
    stored.place.memory.overwrite(&damaged, &bytes);
    let plan = run(&stored.place.reopened(), true).unwrap();
    assert_eq!((plan.whole.len(), plan.repaired.len()), (packs.len() - 1, 1));
    let done = run_after(&stored.place.reopened(), false, &plan.whole).unwrap();
    assert_eq!((done.repaired, done.bytes_read), (plan.repaired, bytes.len() as u64));
    assert!(plan.bytes_read > done.bytes_read);
    stored.place.memory.remove(&damaged).unwrap();
    stored.assert_readable();
}

#[test]
fn what_was_repaired_is_read_when_the_damaged_is_lost() {
    let stored = Stored::new();
    let before = stored.place.memory.objects();
    let damaged = stored.damage(|bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let names: Vec<String> = damaged.iter().map(|name| name.as_str().to_owned()).collect();
    // A dry run tells and does nothing.
    let with_damage = stored.place.memory.objects();
    let repo = stored.place.reopened();
    let report = run(&repo, true).unwrap();
    assert_eq!((report.repaired, report.lost), (names.clone(), vec![]));
    assert!(stored.place.memory.objects() == with_damage, "a dry run changed something");

    let report = run(&repo, false).unwrap();
    assert_eq!((report.repaired, report.lost), (names, vec![]));
    let after = stored.place.memory.objects();
    for (name, bytes) in &with_damage {
        assert!(after.get(name) == Some(bytes), "{name} was written over");
    }
    // What is stored now is what was stored first, under other names.
    for (name, bytes) in &before {
        assert!(after.values().any(|stored| stored == bytes), "{name} is not stored again");
    }
    assert_eq!(stored.assert_readable().mended(), [""; 0], "it still counts as damaged");
    let again = run(&stored.place.reopened(), false).unwrap();
    assert_eq!((again.repaired, again.lost), (vec![], vec![]), "it is repaired twice");
    assert!(stored.place.memory.objects() == after);

    // Nothing is needed any more of what was damaged.
    for name in &damaged {
        let length = after[name].len();
        stored.place.memory.overwrite(name, &vec![0xa5; length]);
    }
    stored.assert_readable();
}

/// Nothing can mend a slot without a copy, and what is left of it need not stay damage for ever.
#[test]
fn what_is_left_of_a_damaged_key_slot_can_be_removed() {
    let place = Place::new();
    let key = Credential::KeyFile(Secret::new([8; 32]));
    let id = place.repo.add_key(&key, WorkFactors::DEFAULT, "second").unwrap();
    let slot = ObjectName::new(&lastgood_repo::format::object::name::key(id)).unwrap();
    let mut bytes = place.memory.objects()[&slot].to_vec();
    bytes[20..].fill(0);
    place.memory.overwrite(&slot, &bytes);
    let damage = crate::small::checked(&place.repo).damage;
    assert!(damage.len() == 1 && damage[0].contains(&id.to_string()), "{damage:?}");
    place.repo.remove_key(id).unwrap();
    assert_eq!(crate::small::checked(&place.repo).damage, [""; 0]);
    let last = place.repo.key_slots().unwrap()[0].id;
    assert!(place.repo.remove_key(last).is_err(), "the last one stays");
}

/// It would open nothing, and somebody would rely on it.
#[test]
fn no_key_is_added_to_a_root_that_was_rotated_out() {
    let place = Place::new();
    let late = place.reopened();
    place.repo.rotate(&crate::place::credential(), WorkFactors::DEFAULT, "new").unwrap();
    let slots = place.names("keys/");
    let key = Credential::KeyFile(Secret::new([8; 32]));
    assert!(late.add_key(&key, WorkFactors::DEFAULT, "late").is_err());
    assert_eq!(place.names("keys/"), slots);
}

#[test]
fn what_cannot_be_mended_is_named_and_nothing_is_stored_for_it() {
    let stored = Stored::new();
    stored.damage(|bytes| {
        let length = bytes.len();
        // The config or its copy is needed to come as far as here; either mends the other.
        if !bytes.starts_with(b"lgconf") {
            bytes[length / 50..].fill(0);
        }
    });
    let damaged = stored.place.memory.objects();
    let repo = &stored.place.repo;
    let report = run(repo, false).unwrap();
    assert_eq!(report.repaired, [""; 0]);
    // Packs tell what the index told, as far as they can be read.
    let segments = damaged.keys().filter(|name| name.as_str().starts_with("index/"));
    let segments: Vec<String> = segments.map(|name| name.as_str().to_owned()).collect();
    assert_eq!(report.unindexed, segments);
    let others = damaged.len() - 2 - segments.len();
    assert_eq!(report.lost.len() + report.damaged_packs.len(), others, "{report:?}");
    let mut left = damaged;
    left.retain(|name, _| !name.as_str().starts_with("index/"));
    assert!(stored.place.memory.objects() == left);
}

/// However it fails, nothing is lost, and the next repair completes it.
#[test]
fn whatever_call_fails_a_repair_can_be_repeated() {
    let stored = Stored::new();
    stored.damage(|bytes| {
        let at = bytes.len() / 3;
        bytes[at] ^= 4;
    });
    let damaged = stored.place.memory.objects();
    let calls = {
        let repo = stored.place.reopened();
        let before = stored.place.faulty.call_count();
        run(&repo, false).unwrap();
        stored.place.faulty.call_count() - before
    };
    let mut failures = 0;
    for call in 0..calls {
        for moment in [Moment::Before, Moment::After] {
            stored.place.memory.replace(damaged.clone());
            let repo = stored.place.reopened();
            let first = stored.place.faulty.call_count();
            let failing = Calls::From(first + call);
            stored.place.faulty.fail(Failure { calls: failing, moment, kind: ErrorKind::NoSpace });
            let result = run(&repo, false);
            stored.place.faulty.heal();
            // The last ends the session, which gc does as well if it must.
            let mended = stored.assert_readable().mended();
            assert!(result.is_err() || mended.is_empty(), "call {call} failed {moment:?}");
            failures += u64::from(result.is_err());
            let report = run(&stored.place.reopened(), false).unwrap();
            assert_eq!(report.lost, [""; 0], "call {call} {moment:?}");
            assert_eq!(stored.assert_readable().mended(), [""; 0], "call {call} {moment:?}");
        }
    }
    assert!(calls > 30 && failures >= 2 * (calls - 3), "{failures} failures of {calls} calls");
}

/// A key that was removed must not open the repository from a copy.
#[test]
fn a_key_is_removed_with_what_was_repaired_of_it() {
    let stored = Stored::new();
    let repo = &stored.place.repo;
    let second = Credential::KeyFile(Secret::new([8; 32]));
    let id = repo.add_key(&second, WorkFactors::DEFAULT, "second").unwrap();
    let slot = ObjectName::new(&format!("keys/{id}")).unwrap();
    let mut bytes = stored.place.memory.get(&slot, 1 << 20).unwrap();
    bytes[9] ^= 1;
    stored.place.memory.overwrite(&slot, &bytes);
    assert_eq!(run(repo, false).unwrap().repaired, [slot.as_str()]);
    assert_eq!(stored.place.names("repaired/"), [slot.as_str()]);
    repo.remove_key(id).unwrap();
    assert_eq!(stored.place.names("repaired/"), [""; 0]);
    assert!(!stored.place.names("keys/").contains(&id.to_string()));
}
