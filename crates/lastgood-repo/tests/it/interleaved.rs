//! Writers, collectors, readers and those who forget, on one backend at once, in every order that a
//! seed decides; some of them die.

use std::sync::Arc;

use lastgood_backend::Backend;
use lastgood_backend::memory::MemoryBackend;
use lastgood_format::gc::{PackLocation, RoundList};
use lastgood_format::object::ObjectKind;
use lastgood_format::slot::WorkFactors;
use lastgood_repo::{GcOptions, MaxUnused, RepoError, Repository};
use lastgood_testkit::schedule::{Leg, Order, Participant, play, run};

use crate::place::{Place, credential, open};
use crate::small::{checked, collect, eager, store, take_over};

/// What every run begins with.
fn begin() -> Place {
    let place = Place::new();
    let first = store(&place.repo, 1, &[1, 2, 3, 4]).unwrap();
    store(&place.repo, 1, &[1, 3]).unwrap();
    let third = store(&place.repo, 1, &[5, 6]).unwrap();
    for record in [first, third] {
        place.repo.retire(&record, "a test", None).unwrap();
    }
    place
}

/// The same with a round that somebody began, and that names everything: a proposal may be wrong.
fn begin_condemned() -> Place {
    let place = begin();
    let packs = place.repo.all_packs().unwrap().into_iter();
    let mut packs: Vec<PackLocation> =
        packs.map(|(session, pack, _)| PackLocation { session, pack }).collect();
    packs.sort();
    let keys = place.repo.keys();
    let list = RoundList { round: 1, packs };
    let bytes = list.encode(ObjectKind::Condemn, keys, &keys.maintenance());
    place.put("condemn/0000000000000001", &bytes);
    place
}

/// Makes a participant of what one process does with its own view of the repository.
fn process<'a>(
    number: u64,
    prepare: &'a (dyn Fn(&Repository) + Sync),
    work: impl FnOnce(Arc<Repository>) -> Result<(), RepoError> + Send + 'a,
) -> Participant<'a> {
    Box::new(move |backend: Arc<dyn Backend>| {
        // Whoever is killed or fenced, or finds that it may not, has failed by right.
        let opened = open(backend, number);
        drop(opened.and_then(|repo| {
            prepare(&repo);
            work(repo)
        }));
    })
}

/// Gc that waits for nobody who is young: every session is fenced or not by a coin of the seed.
fn collector(is_eager: bool, max_unused: MaxUnused) -> GcOptions {
    GcOptions { fence_after: if is_eager { i64::MIN } else { i64::MAX }, max_unused, ..eager() }
}

/// One run. Tells what was lost, if anything.
fn lost(
    seed: u64,
    kill: u16,
    is_rotated: bool,
    prepare: &(dyn Fn(&Repository) + Sync),
) -> Option<String> {
    let coin = |bit: u32| seed >> bit & 1 == 1;
    let place = if coin(0) { begin_condemned() } else { begin() };
    let backend: Arc<dyn Backend> = Arc::new(place.memory.clone());
    let unused = |bit| if coin(bit) { MaxUnused::Bytes(0) } else { MaxUnused::Any };
    let mut participants = vec![
        // Wants what nobody needs any more, and packs that hold part of what is needed.
        process(10, prepare, |repo| store(&repo, 2, &[2, 3, 5, 6, 7]).map(drop)),
        process(11, prepare, move |repo| {
            collect(&repo, collector(coin(1), unused(2)))?;
            collect(&repo, collector(true, unused(3))).map(drop)
        }),
        process(12, prepare, move |repo| collect(&repo, collector(coin(4), unused(5))).map(drop)),
        process(13, prepare, |repo| {
            for record in repo.snapshots()?.live {
                repo.retire(&record, "a test", None)?;
            }
            Ok(())
        }),
    ];
    if !coin(0) {
        participants.push(process(14, prepare, |repo| {
            let snapshots = repo.snapshots()?;
            let newest = snapshots.live.last().cloned();
            newest.map_or(Ok(()), |record| take_over(&repo, 3, &record).map(drop))?;
            store(&repo, 3, &[4, 5, 8]).map(drop)
        }));
    }
    if is_rotated {
        participants.extend([15, 16].map(|number| {
            process(number, prepare, move |repo| {
                let repo = rotated(&repo)?;
                store(&repo, 4, &[2, 4, 6, 9]).map(drop)
            })
        }));
    }
    let go_on = [0, 300, 700, 900, 970][(seed / 64 % 5) as usize];
    let log = run(&backend, Order { seed, go_on, kill, cut: 0 }, participants);
    // Whoever rotated may have been killed.
    let repo = open(backend, 999).unwrap();
    let is_open = repo.history().is_rotation_open();
    let lost = damage(&place.memory).or_else(|| {
        is_open.then(|| rotated(&repo).err().map(|error| error.to_string()))?;
        damage(&place.memory)
    })?;
    let log = log.join("\n  ");
    Some(format!("seed {seed}, kill {kill}: {lost}\n  {log}"))
}

/// Rotates the root, and opens the repository as before: the new slot takes the same key.
fn rotated(repo: &Repository) -> Result<Arc<Repository>, RepoError> {
    Ok(repo.rotate(&credential(), WorkFactors::DEFAULT, "rotated")?.repo)
}

fn damage(memory: &MemoryBackend) -> Option<String> {
    let report = checked(&open(Arc::new(memory.clone()), 1000).unwrap());
    let is_whole = report.damage.is_empty() && report.affected.is_empty();
    (!is_whole).then(|| format!("{:?} {:?}", report.damage, report.affected))
}

fn seeds() -> u64 {
    std::env::var("LASTGOOD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60)
}

#[test]
fn nothing_is_lost_in_any_order() {
    for seed in 0..seeds() {
        for kill in [0, 4] {
            for is_rotated in [false, true] {
                if let Some(lost) = lost(seed, kill, is_rotated, &|_| ()) {
                    panic!("{lost}");
                }
            }
        }
    }
}

/// What happens in an order that was thought out: each was found by the model, for a mistake.
struct Story {
    is_condemned: bool,
    script: &'static [Leg],
    participants: fn(Prepare<'_>) -> Vec<Participant<'_>>,
}

type Prepare<'a> = &'a (dyn Fn(&Repository) + Sync);

impl Story {
    /// Tells what was lost, if anything, when everybody makes the mistakes that `prepare` plants.
    fn lost(&self, prepare: Prepare<'_>) -> Option<String> {
        let place = if self.is_condemned { begin_condemned() } else { begin() };
        let backend: Arc<dyn Backend> = Arc::new(place.memory.clone());
        let log = play(&backend, self.script, (self.participants)(prepare));
        let lost = damage(&place.memory)?;
        Some(format!("{lost}\n  {}", log.join("\n  ")))
    }
}

/// Stores what only retired snapshots have.
fn wants_what_is_retired(prepare: Prepare<'_>) -> Participant<'_> {
    process(20, prepare, |repo| store(&repo, 2, &[2, 4, 5, 6]).map(drop))
}

fn collects(prepare: Prepare<'_>, number: u64, options: GcOptions) -> Participant<'_> {
    process(number, prepare, move |repo| collect(&repo, options).map(drop))
}

fn writer_and_collector(prepare: Prepare<'_>) -> Vec<Participant<'_>> {
    let patient = collector(false, MaxUnused::Any);
    vec![wants_what_is_retired(prepare), collects(prepare, 21, patient)]
}

fn writer_and_repacker(prepare: Prepare<'_>) -> Vec<Participant<'_>> {
    let repacker = collector(false, MaxUnused::Bytes(0));
    vec![wants_what_is_retired(prepare), collects(prepare, 21, repacker)]
}

fn two_collectors(prepare: Prepare<'_>) -> Vec<Participant<'_>> {
    vec![
        process(20, prepare, |repo| store(&repo, 2, &[1, 3]).map(drop)),
        collects(prepare, 21, collector(true, MaxUnused::Any)),
        collects(prepare, 22, collector(true, MaxUnused::Any)),
        process(23, prepare, |repo| {
            for record in repo.snapshots()?.live {
                repo.retire(&record, "a test", None)?;
            }
            Ok(())
        }),
    ]
}

/// A writer commits between the proposal and the mark.
const COMMITS_BEFORE_THE_MARK: Story = Story {
    is_condemned: false,
    script: &[(0, "write outcomes/"), (1, "write condemn/"), (0, ""), (1, "")],
    participants: writer_and_collector,
};
/// A writer that did not see the round commits at the very end.
const COMMITS_AFTER_THE_SWEEP: Story = Story {
    is_condemned: false,
    script: &[(0, "write outcomes/"), (1, ""), (0, "")],
    participants: writer_and_collector,
};
/// A writer reads the round, and announces itself when it is decided and not swept.
const ANNOUNCES_LATE: Story = Story {
    is_condemned: false,
    script: &[(0, "write sessions/"), (1, "remove packs/"), (0, ""), (1, "")],
    participants: writer_and_collector,
};
/// A writer begins when all is decided and not swept.
const BEGINS_BEFORE_THE_SWEEP: Story = Story {
    is_condemned: false,
    script: &[(1, "remove packs/"), (0, ""), (1, "")],
    participants: writer_and_collector,
};
/// A writer begins when a pack is condemned and marked as dead, and not decided on.
const BEGINS_BEFORE_THE_VERDICT: Story = Story {
    is_condemned: false,
    script: &[(1, "write verdict/"), (0, ""), (1, "")],
    participants: writer_and_collector,
};
/// Two mark, the second after what the first spares was retired; the first decides; a writer refers
/// to what was spared; the second sweeps.
const TWO_MARK: Story = Story {
    is_condemned: true,
    script: &[
        (1, "write verdict/"),
        (3, ""),
        (2, "write verdict/"),
        (1, "remove packs/"),
        (0, ""),
        (2, ""),
    ],
    participants: two_collectors,
};
/// A writer refers to what a relocation left behind.
const REFERS_TO_A_RELOCATED_PACK: Story = Story {
    is_condemned: false,
    script: &[(1, "write condemn/"), (0, ""), (1, "")],
    participants: writer_and_repacker,
};

#[test]
fn nothing_is_lost_in_the_orders_that_mistakes_need() {
    for story in [
        COMMITS_BEFORE_THE_MARK,
        COMMITS_AFTER_THE_SWEEP,
        ANNOUNCES_LATE,
        BEGINS_BEFORE_THE_SWEEP,
        BEGINS_BEFORE_THE_VERDICT,
        TWO_MARK,
        REFERS_TO_A_RELOCATED_PACK,
    ] {
        if let Some(lost) = story.lost(&|_| ()) {
            panic!("{:?}: {lost}", story.script);
        }
    }
}

/// Each mistake loses something in the order that it needs. Only with the feature `seeded-bugs`.
#[cfg(feature = "seeded-bugs")]
#[test]
fn mistakes_are_found() {
    use lastgood_repo::SeededBug;

    for (bug, story) in [
        (SeededBug::NoRemark, COMMITS_BEFORE_THE_MARK),
        (SeededBug::OpenSessionsIgnored, COMMITS_AFTER_THE_SWEEP),
        (SeededBug::OwnVerdict, TWO_MARK),
        (SeededBug::RelocatedMeansDead, REFERS_TO_A_RELOCATED_PACK),
        (SeededBug::NotValidated, ANNOUNCES_LATE),
        (SeededBug::ListsNotLoaded, BEGINS_BEFORE_THE_SWEEP),
        (SeededBug::CondemnedUsed, BEGINS_BEFORE_THE_VERDICT),
    ] {
        let lost = story.lost(&|repo| repo.plant(bug));
        let seen = lost.as_deref().and_then(|lost| lost.lines().next());
        lastgood_testkit::campaign::tell(&format!(
            "seeded bug {bug:?}: {}",
            seen.unwrap_or("MISSED")
        ));
        assert!(lost.is_some(), "{bug:?} loses nothing");
    }
}
