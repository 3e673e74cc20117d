//! Writers, collectors, readers, somebody who forgets and somebody who looks, behind a network that loses,
//! delays, repeats, reorders and cuts some of them off for a long while, with clocks that are years
//! off and jump, and deaths: all that was committed and not forgotten is there and whole, compared
//! with a plain list in memory. The same seed is the same run, call by call.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use lastgood_backend::layer::retry::{Retry, RetryPolicy};
use lastgood_backend::{Backend, BackendError, Listed, ObjectName, PutOutcome};
use lastgood_format::entry::Timestamp;
use lastgood_format::gc::ReadSession;
use lastgood_format::guard::{Redundancy, guard};
use lastgood_format::id::{BlobId, SessionId, SnapshotId};
use lastgood_format::object::name;
use lastgood_format::session::Outcome;
use lastgood_repo::{Clock, GcOptions, MaxUnused, RepoError, Repository, SnapshotRecord};
use lastgood_testkit::campaign::{each_seed, seeds, tell};
use lastgood_testkit::chance::{Chance, mix};
use lastgood_testkit::network::{Counts, Network, Weather};
use lastgood_testkit::schedule::{Order, Participant, run};

use crate::place::{NoPause, Place, open, open_at};
use crate::small::{ORDERED, checked, collect, deltas, eager, read_back, store_as, take_over};

/// What a plain program would keep: which snapshots there are, and of what tree.
#[derive(Default)]
struct Model {
    committed: BTreeMap<SnapshotId, BlobId>,
    /// Of which somebody began to forget them.
    forgotten: BTreeSet<SnapshotId>,
    /// Sessions of runs that were told that nothing is committed.
    fenced: Vec<SessionId>,
    /// Snapshots that were read whole while others worked.
    read: usize,
    broken: Vec<String>,
}

/// One simulated run.
#[derive(Default)]
struct Simulated {
    trace: u64,
    counts: Counts,
    /// How often somebody was cut off.
    cuts: usize,
    /// Chunks that are stored as changes in the end.
    deltas: usize,
    commits: usize,
    read: usize,
    broken: Vec<String>,
}

impl Simulated {
    fn verdict(&self) -> Result<(), String> {
        if self.broken.is_empty() { Ok(()) } else { Err(self.broken.join("\n  ")) }
    }
}

type Shared = Arc<Mutex<Model>>;

/// What everybody does to a repository before the work: planting a mistake, or nothing.
type Prepare<'a> = &'a (dyn Fn(&Repository) + Sync);

/// A clock that is off by years and jumps now and then, of a machine that sleeps for days.
struct Jumping(Mutex<(Chance, i64)>);

impl Jumping {
    fn new(seed: u64) -> Self {
        Self(Mutex::new((Chance::new(seed), NOON)))
    }
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let mut state = self.0.lock().unwrap();
        let (chance, now) = &mut *state;
        if chance.one_in(10) {
            *now = NOON + chance.below(2 * TEN_YEARS) as i64 - TEN_YEARS as i64;
        } else if chance.one_in(5) {
            *now += chance.below(THIRTY_DAYS) as i64;
        }
        Timestamp { seconds: *now, nanos: 0 }
    }
}

/// Lets one of several threads that create a probe at once win, and tells the others what became
/// of it: which of them comes first is the one thing that no seed decides.
#[derive(Debug)]
struct OneRacer {
    inner: Arc<dyn Backend>,
    put: Mutex<BTreeMap<ObjectName, Result<(), BackendError>>>,
}

#[deny(clippy::missing_trait_methods)]
impl Backend for OneRacer {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        if !name.as_str().starts_with(name::PROBE) {
            return self.inner.put(name, parts);
        }
        let mut put = self.put.lock().unwrap();
        match put.get(name) {
            Some(Ok(())) => Ok(PutOutcome::Exists),
            Some(Err(error)) => Err(error.again()),
            None => {
                let outcome = self.inner.put(name, parts);
                let known = outcome.as_ref().map(|_| ()).map_err(BackendError::again);
                put.insert(name.clone(), known);
                outcome
            }
        }
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        self.inner.get(name, bytes_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        self.inner.get_range(name, range, out)
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        self.inner.stat(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.inner.list(prefix, visit)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.inner.remove(name)
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        self.inner.settle(prefix)
    }
}

impl Model {
    fn commit(&mut self, record: &SnapshotRecord) {
        self.committed.insert(record.id, record.snapshot.tree);
    }

    /// What must be live, whatever is under way.
    fn certain(&self) -> BTreeMap<SnapshotId, BlobId> {
        let is_kept = |(id, _): &(&SnapshotId, &BlobId)| !self.forgotten.contains(*id);
        self.committed.iter().filter(is_kept).map(|(id, tree)| (*id, *tree)).collect()
    }
}

/// Makes a participant of what one process does: with its own clock, and with calls that are tried
/// again.
fn process<'a>(
    seed: u64,
    number: u64,
    prepare: Prepare<'a>,
    work: impl FnOnce(&Arc<Repository>, Chance) -> Result<(), RepoError> + Send + 'a,
) -> Participant<'a> {
    Box::new(move |backend: Arc<dyn Backend>| {
        let seed = mix(seed ^ mix(number));
        let retry = Retry::new(backend, Arc::new(NoPause), RetryPolicy::default(), seed);
        let backend = OneRacer { inner: Arc::new(retry), put: Mutex::default() };
        let opened = open_at(Arc::new(backend), number, Arc::new(Jumping::new(seed)));
        // Whoever is killed or fenced, or cannot reach the store, has failed by right.
        drop(opened.and_then(|repo| {
            prepare(&repo);
            work(&repo, Chance::new(!seed))
        }));
    })
}

/// Three runs, of new content, of what was forgotten, and of what is there.
fn writer<'a>(seed: u64, number: u64, prepare: Prepare<'a>, model: &'a Shared) -> Participant<'a> {
    process(seed, number, prepare, move |repo, mut chance| {
        for _ in 0..3 {
            let copied = chance.one_in(3).then(|| repo.snapshots()).transpose()?;
            let newest = copied.and_then(|snapshots| snapshots.live.last().cloned());
            let stored = match newest {
                Some(newest) => take_over(repo, number as u8, &newest),
                None => {
                    let files: BTreeSet<u8> =
                        (0..1 + chance.below(5)).map(|_| chance.below(12) as u8).collect();
                    let files: Vec<u8> = files.into_iter().collect();
                    store_as(repo, ORDERED, number as u8, &files).map(Some)
                }
            };
            match stored {
                Ok(Some(record)) => model.lock().unwrap().commit(&record),
                Err(RepoError::Fenced { session }) => model.lock().unwrap().fenced.push(session),
                _ => {}
            }
        }
        Ok(())
    })
}

fn collector(seed: u64, number: u64, prepare: Prepare<'_>) -> Participant<'_> {
    process(seed, number, prepare, move |repo, mut chance| {
        for _ in 0..3 {
            let fence_after = *chance.pick(&[i64::MIN, 0, 86_400, i64::MAX]);
            let max_unused = *chance.pick(&[MaxUnused::Any, MaxUnused::Bytes(0)]);
            // It stops wherever it is, and another one goes on.
            let options = GcOptions { fence_after, max_unused, settings: ORDERED, ..eager() };
            drop(collect(repo, options));
        }
        Ok(())
    })
}

fn forgetter<'a>(
    seed: u64,
    number: u64,
    prepare: Prepare<'a>,
    model: &'a Shared,
) -> Participant<'a> {
    process(seed, number, prepare, move |repo, mut chance| {
        for _ in 0..4 {
            let live = repo.snapshots()?.live;
            if !live.is_empty() {
                let record = chance.pick(&live);
                model.lock().unwrap().forgotten.insert(record.id);
                repo.retire(record, "a test", None)?;
            }
        }
        Ok(())
    })
}

/// Looks whether all that is certain is listed.
fn observer<'a>(
    seed: u64,
    number: u64,
    prepare: Prepare<'a>,
    model: &'a Shared,
) -> Participant<'a> {
    process(seed, number, prepare, move |repo, _| {
        for _ in 0..4 {
            let before = model.lock().unwrap().certain();
            let found = repo.snapshots()?;
            if !found.damaged.is_empty() {
                // It has been killed; what is damaged in the end is judged then.
                return Ok(());
            }
            let mut model = model.lock().unwrap();
            let after = model.certain();
            for id in before.keys().filter(|id| after.contains_key(*id)) {
                if !found.live.iter().any(|record| record.id == *id) {
                    model.broken.push(format!("{id} was committed and is not listed"));
                }
            }
        }
        Ok(())
    })
}

/// Restores snapshots, now and then under a session that holds them even when they are forgotten.
fn reader<'a>(seed: u64, number: u64, prepare: Prepare<'a>, model: &'a Shared) -> Participant<'a> {
    process(seed, number, prepare, move |repo, mut chance| {
        for _ in 0..4 {
            let live = repo.snapshots()?.live;
            if live.is_empty() {
                continue;
            }
            let record = chance.pick(&live).clone();
            let session = SessionId::new(repo.world().random());
            let is_held = chance.one_in(2) && hold(repo, session, &record)?;
            if is_held && chance.one_in(2) {
                model.lock().unwrap().forgotten.insert(record.id);
                repo.retire(&record, "a test", None)?;
            }
            // A long restore is one that lasts while others forget and collect.
            let read = (0..if is_held { 4 } else { 1 }).try_fold(Vec::new(), |mut wrong, _| {
                wrong.extend(read_back(repo, &record)?);
                Ok::<_, RepoError>(wrong)
            });
            let is_fenced = is_held && repo.outcome(session)?.is_some();
            let mut model = model.lock().unwrap();
            let is_certain = model.certain().contains_key(&record.id);
            match read {
                Ok(wrong) if wrong.is_empty() => model.read += 1,
                Ok(wrong) => model.broken.push(format!("{} is read as {wrong:?}", record.id)),
                // Its packs went, by right, when nobody wanted or held it any more.
                Err(error) if error.is_damage() && (is_certain || is_held && !is_fenced) => {
                    let how = if is_held { "held" } else { "live" };
                    model.broken.push(format!("{} is {how} and unreadable: {error:?}", record.id));
                }
                Err(_) => {}
            }
        }
        Ok(())
    })
}

/// Announces a reader; returns whether what it reads was live after that. spec: commit §8
fn hold(repo: &Arc<Repository>, id: SessionId, record: &SnapshotRecord) -> Result<bool, RepoError> {
    let keys = repo.keys();
    let started = repo.world().clock.now().seconds;
    let bytes = ReadSession { id, started, snapshots: vec![record.id] };
    let bytes = bytes.encode(keys, &keys.writer(&[30; 16]));
    let object = name::reader(id);
    let guarded = guard(&bytes, Redundancy::of(&object));
    let object = ObjectName::new(&object).expect("made of an id");
    repo.backend().put(&object, &[&guarded])?;
    let retired = repo.replaced_by(record.id)?;
    let snapshots = repo.snapshots()?;
    Ok(retired.is_none() && snapshots.live.iter().any(|live| live.id == record.id))
}

fn simulate(seed: u64, prepare: Prepare<'_>) -> Simulated {
    let place = if seed % 2 == 1 { Place::with_deltas() } else { Place::new() };
    let model = Shared::default();
    for files in [&[1, 2, 3, 4][..], &[1, 3], &[5, 6]] {
        let record = store_as(&place.repo, ORDERED, 1, files).unwrap();
        model.lock().unwrap().commit(&record);
    }
    let calm = seed.is_multiple_of(4);
    let weather = match calm {
        true => Weather { lost: 0, late: 0, unanswered: 0, twice: 0, busy: 0, echoed: 0, jump: 30 },
        false => Weather {
            lost: 15,
            late: 15,
            unanswered: 15,
            twice: 25,
            busy: 15,
            echoed: 15,
            jump: 30,
        },
    };
    let network = Arc::new(Network::new(place.memory.clone(), weather, seed));
    let backend: Arc<dyn Backend> = network.clone();
    let participants = vec![
        writer(seed, 10, prepare, &model),
        writer(seed, 11, prepare, &model),
        writer(seed, 12, prepare, &model),
        collector(seed, 13, prepare),
        collector(seed, 14, prepare),
        forgetter(seed, 15, prepare, &model),
        observer(seed, 16, prepare, &model),
        reader(seed, 17, prepare, &model),
    ];
    // A low share of turns lets one participant sleep while others do all that they do.
    let go_on = [0, 300, 700, 900, 970, 995][(seed / 4 % 6) as usize];
    let kill = if seed % 3 == 1 { 2 } else { 0 };
    let cut = if seed % 5 < 2 { 4 } else { 0 };
    let log = run(&backend, Order { seed, go_on, kill, cut }, participants);
    network.settle_down();
    let mut model = model.lock().unwrap();
    let broken = judge(&place, &model);
    model.broken.extend(broken);
    if !model.broken.is_empty() {
        model.broken.push(log.join("\n  "));
    }
    Simulated {
        trace: network.trace(),
        counts: network.counts(),
        cuts: log.iter().filter(|call| call.ends_with("(lost)")).count(),
        deltas: deltas(&place.reopened()).len(),
        commits: model.committed.len(),
        read: model.read,
        broken: model.broken.clone(),
    }
}

/// What is wrong with the repository when all is quiet.
fn judge(place: &Place, model: &Model) -> Vec<String> {
    let repo = open(Arc::new(place.memory.clone()), 1000).unwrap();
    let snapshots = repo.snapshots().unwrap();
    let mut broken: Vec<String> =
        snapshots.damaged.iter().map(|error| format!("{error:?}")).collect();
    for (id, tree) in model.certain() {
        let found = snapshots.live.iter().find(|record| record.id == id);
        if found.is_none_or(|record| record.snapshot.tree != tree) {
            broken.push(format!("{id} was committed and is lost"));
        }
    }
    for session in &model.fenced {
        if let Ok(Some(Outcome::Commit(id))) = repo.outcome(*session) {
            broken.push(format!("{id} is committed, and its run was told that it is not"));
        }
    }
    let report = checked(&repo);
    broken.extend(report.damage);
    broken.extend(report.affected.iter().map(|affected| format!("{affected:?}")));
    // And the next run goes on.
    if let Err(error) = store_as(&repo, ORDERED, 20, &[1, 2, 7]) {
        broken.push(format!("the next run failed: {error:?}"));
    }
    broken
}

#[test]
fn nothing_is_lost_behind_a_bad_network() {
    let seeds = seeds(500);
    let campaign = each_seed(seeds.clone(), |seed, met: &mut Simulated| {
        *met = simulate(seed, &|_| ());
        met.verdict()
    });
    let sum = |of: fn(&Simulated) -> usize| campaign.figures.iter().map(of).sum::<usize>();
    let count = |of: fn(&Counts) -> u64| campaign.figures.iter().map(|met| of(&met.counts)).sum();
    let (lost, echoed): (u64, u64) = (count(|it| it.lost), count(|it| it.echoed));
    let (late, jumps): (u64, u64) = (count(|it| it.late), count(|it| it.jumps));
    let (calls, cuts, read): (u64, _, _) =
        (count(|it| it.calls), sum(|it| it.cuts), sum(|it| it.read));
    let deltas = sum(|it| it.deltas);
    tell(&format!(
        "simulation, seeds {seeds:?}: {calls} calls, {} commits, {read} snapshots read meanwhile; \
         {deltas} chunks are stored as changes of others; \
         {lost} calls or answers lost or refused, {echoed} puts refused that had succeeded, {late} \
         late or twice, {cuts} partitions, {jumps} jumps of the store's clock; seeds that lost a \
         committed snapshot or read wrong bytes: {}",
        sum(|it| it.commits),
        campaign.failed()
    ));
    campaign.end();
    let is_bad = lost > 0 && echoed > 0 && late > 0 && jumps > 0 && cuts > 0;
    assert!(is_bad && read > 0, "the network is too good to show anything");
    assert!(deltas > 0, "no chunk is a change of another");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..12 {
        let (first, second) = (simulate(seed, &|_| ()), simulate(seed, &|_| ()));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
    }
    let (one, other) = (simulate(1, &|_| ()).trace, simulate(2, &|_| ()).trace);
    assert_ne!(one, other, "seeds differ");
}

/// Each mistake loses something within so many seeds; those that need a rare order are in
/// `interleaved.rs`. Only with the feature `seeded-bugs`.
#[cfg(feature = "seeded-bugs")]
#[test]
fn mistakes_show_in_a_simulation() {
    use lastgood_repo::SeededBug;
    use lastgood_testkit::campaign::first_failure;

    for bug in [
        SeededBug::NoRemark,
        SeededBug::OpenSessionsIgnored,
        SeededBug::FenceIgnored,
        SeededBug::ListsNotLoaded,
        SeededBug::CondemnedUsed,
        SeededBug::RelocatedMeansDead,
        SeededBug::HeldNotCounted,
        SeededBug::TakenMeansFenced,
        SeededBug::BasesNotMarked,
    ] {
        let seen = first_failure(0..SEEDS_PER_MISTAKE, |seed| {
            simulate(seed, &|repo| repo.plant(bug)).verdict()
        });
        let first = seen.as_ref().and_then(|(_, why)| why.lines().next());
        tell(&format!("seeded bug {bug:?}: {}", first.unwrap_or("MISSED")));
        assert!(seen.is_some(), "{bug:?} was not seen");
    }
}

/// Some mistakes show only in rare orders.
#[cfg(feature = "seeded-bugs")]
const SEEDS_PER_MISTAKE: u64 = 1000;
/// What time it is when no clock has jumped.
const NOON: i64 = 1_800_000_000;
/// In seconds.
const TEN_YEARS: usize = 315_576_000;
const THIRTY_DAYS: usize = 2_592_000;
