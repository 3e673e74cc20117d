//! Random changes, backups, forgetting, bringing back and gc, against a plain list of what each
//! snapshot held.

use lastgood::forget::{self, Candidates, Policy};
use lastgood::gc::{self, GcOptions, GcReport, MaxUnused};
use lastgood::snapshots::Filter;
use lastgood::{ErrorKind, Settings, SnapshotRecord, check, undelete};
use proptest::prelude::*;

use crate::change::{Edit, apply, edits};
use crate::place::{Place, Tree};

/// One step of a life of a repository. Numbers pick snapshots.
#[derive(Debug, Clone)]
enum Step {
    Backup(Vec<Edit>),
    Forget(usize),
    Undelete(usize),
    Pin(usize),
    Gc(MaxUnused),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let unused =
        prop_oneof![Just(MaxUnused::Any), Just(MaxUnused::Bytes(0)), Just(MaxUnused::Share(0.05))];
    let step = prop_oneof![
        4 => edits().prop_map(Step::Backup),
        3 => any::<usize>().prop_map(Step::Forget),
        2 => any::<usize>().prop_map(Step::Undelete),
        1 => any::<usize>().prop_map(Step::Pin),
        3 => unused.prop_map(Step::Gc),
    ];
    prop::collection::vec(step, 4..14)
}

/// A repository, and what it should hold.
struct Life {
    place: Place,
    live: Vec<(SnapshotRecord, Tree)>,
    forgotten: Vec<(SnapshotRecord, Tree)>,
}

impl Life {
    fn step(&mut self, step: Step) {
        let repo = self.place.repo.clone();
        let state = self.place.home.state.clone();
        match step {
            Step::Backup(edits) => {
                edits.iter().for_each(|edit| apply(&self.place.source(), edit));
                let (_, snapshot) = self.place.backup();
                self.live.push((snapshot, Tree::of(&self.place.source())));
            }
            Step::Forget(number) if !self.live.is_empty() => {
                let (record, tree) = self.live.remove(number % self.live.len());
                let policy = Policy { accept_loss: true, ..Policy::default() };
                let candidates = Candidates::load(&repo).unwrap();
                let plan = forget::named(&candidates, &[record.id], &policy, &NoCalendar);
                match plan {
                    Ok(plan) => {
                        assert_eq!(forget::start(repo, plan).wait(|_| {}).unwrap().forgotten, 1);
                        self.forgotten.push((record, tree));
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("pinned"), "{error}");
                        self.live.push((record, tree));
                    }
                }
            }
            Step::Undelete(number) if !self.forgotten.is_empty() => {
                let number = number % self.forgotten.len();
                let (record, tree) = self.forgotten[number].clone();
                let listed = undelete::list(&repo, &Filter::default()).unwrap();
                let copy = undelete::undelete(&repo, &state, &record, "a test");
                if let Err(error) = &copy {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "only gc takes: {error:?}");
                }
                // One whose own object is gone may be whole by what others need.
                if let Some(listed) = listed.iter().find(|it| it.record.id == record.id) {
                    assert_eq!(copy.is_ok(), listed.is_whole, "{copy:?}");
                }
                self.live.extend(copy.ok().map(|copy| (copy, tree)));
            }
            Step::Pin(number) if !self.live.is_empty() => {
                let number = number % self.live.len();
                let record = &self.live[number].0;
                let pinned = lastgood::snapshots::pin(&repo, &state, record, true, "a test");
                if let Some(copy) = pinned.unwrap() {
                    self.live[number].0 = copy.record;
                }
            }
            Step::Gc(max_unused) => {
                let report = self.collect(max_unused);
                assert_eq!((report.waiting_for, report.problems), (Vec::new(), Vec::new()));
            }
            _ => {}
        }
    }

    fn collect(&mut self, max_unused: MaxUnused) -> GcReport {
        self.place.reopen();
        let options = GcOptions {
            state: self.place.home.state.clone(),
            max_unused,
            fence_after: i64::MAX,
            exclusive: false,
            settings: Settings::default(),
            dry_run: false,
            keep_reserve: false,
        };
        let outcome = gc::start(self.place.repo.clone(), options).wait(|_| {}).unwrap();
        outcome.report.unwrap()
    }

    /// Everything that is live is there, whole, and is all that is live.
    fn check(&self) {
        let (records, problems) =
            lastgood::snapshots::list(&self.place.repo, &Filter::default()).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let mut listed: Vec<_> = records.iter().map(|record| record.id).collect();
        let mut expected: Vec<_> = self.live.iter().map(|(record, _)| record.id).collect();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        for (record, tree) in &self.live {
            self.place.check_restores(record, tree);
        }
        let options = check::CheckOptions { read_data: check::ReadData::All, threads: 2 };
        let report = check::start(self.place.repo.clone(), options).wait(|_| {}).unwrap();
        assert_eq!(report.damage, [""; 0]);
    }

    fn stored(&self) -> u64 {
        self.place.repo.all_packs().unwrap().iter().map(|(_, _, bytes)| bytes).sum()
    }
}

/// Snapshots are named, so nobody asks what day it is.
struct NoCalendar;

impl forget::Calendar for NoCalendar {
    fn date(&self, _: lastgood::Timestamp) -> forget::Date {
        forget::Date { year: 0, month: 1, day: 1, hour: 0, week: (0, 1) }
    }

    fn before(&self, time: lastgood::Timestamp, _: forget::Span) -> lastgood::Timestamp {
        time
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("LASTGOOD_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(6),
        max_shrink_iters: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_live_stays_whole_and_the_rest_is_freed(steps in steps(), has_deltas: bool) {
        let place = if has_deltas { Place::with_deltas() } else { Place::new() };
        let mut life = Life { place, live: Vec::new(), forgotten: Vec::new() };
        for step in steps {
            let is_gc = matches!(step, Step::Gc(_));
            life.step(step);
            if is_gc {
                life.check();
            }
        }
        life.check();
        // When all is forgotten but one, about as much is stored as if it had always been alone.
        life.step(Step::Backup(Vec::new()));
        while life.live.len() > 1 {
            let record = life.live[0].0.clone();
            let free =
                lastgood::snapshots::pin(&life.place.repo, &life.place.home.state, &record, false, "");
            if let Some(copy) = free.unwrap() {
                life.live[0].0 = copy.record;
            }
            life.step(Step::Forget(0));
        }
        for _ in 0..3 {
            life.collect(MaxUnused::Bytes(0));
        }
        life.check();
        let alone = Place::new();
        copy_tree(&life.place.source(), &alone.source());
        alone.backup();
        let fresh: u64 = alone.repo.all_packs().unwrap().iter().map(|(_, _, bytes)| bytes).sum();
        // Pack sets are not repacked, and packs of few blobs hold more beside them.
        prop_assert!(life.stored() <= fresh + fresh / 10 + 65_536, "{} {fresh}", life.stored());
    }
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(status.unwrap().success());
}
