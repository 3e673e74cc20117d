//! What the project wants to reach, and what the hardware allows.

use super::data::DATA_SETS;
use super::samples::{Measure, Results, Sample, Series};
use super::tool::{OURS, TOOLS};
use super::workload::{Operation, State};

/// Something that is to hold for an operation on a data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Goal {
    pub data: &'static str,
    pub operation: Operation,
    pub want: Want,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Want {
    /// So many times faster than the best tool that encrypts.
    FasterThanBest(f64),
    /// So many times faster than a tool.
    FasterThan(f64, &'static str),
    /// At most so many seconds.
    Seconds(f64),
    /// A repository of at most so many MiB.
    StoredMib(f64),
    /// At most so many MiB more in the repository.
    AddedMib(f64),
    /// At most so many MiB of anonymous memory.
    AnonymousMib(f64),
}

const fn goal(data: &'static str, operation: Operation, want: Want) -> Goal {
    Goal { data, operation, want }
}

/// All goals but those of memory.
const GOALS: [Goal; 30] = [
    goal("kernel", Operation::Initial, Want::FasterThan(1.6, "bupstash")),
    goal("kernel", Operation::Initial, Want::FasterThan(3.3, "restic")),
    goal("kernel", Operation::Initial, Want::StoredMib(215.0)),
    goal("kernel", Operation::Unchanged, Want::FasterThanBest(4.0)),
    goal("kernel", Operation::Changed, Want::FasterThanBest(3.5)),
    goal("kernel", Operation::Changed, Want::AddedMib(19.0)),
    goal("kernel", Operation::Restore, Want::FasterThanBest(3.0)),
    goal("kernel", Operation::Check, Want::FasterThanBest(3.0)),
    goal("kernel", Operation::Forget, Want::FasterThan(3.0, "rustic")),
    goal("random", Operation::Initial, Want::FasterThanBest(4.5)),
    goal("random", Operation::Restore, Want::FasterThanBest(3.0)),
    goal("random", Operation::Check, Want::FasterThanBest(3.0)),
    goal("image", Operation::Initial, Want::FasterThanBest(4.0)),
    goal("image", Operation::Initial, Want::StoredMib(580.0)),
    goal("image", Operation::Changed, Want::FasterThanBest(6.0)),
    goal("image", Operation::Changed, Want::AddedMib(50.0)),
    goal("image", Operation::Restore, Want::FasterThanBest(3.0)),
    goal("image", Operation::Check, Want::FasterThanBest(2.0)),
    goal("postgres", Operation::Initial, Want::FasterThanBest(2.0)),
    goal("postgres", Operation::Initial, Want::StoredMib(68.0)),
    goal("postgres", Operation::Changed, Want::FasterThanBest(3.0)),
    goal("postgres", Operation::Changed, Want::AddedMib(24.0)),
    goal("postgres", Operation::Restore, Want::FasterThanBest(1.6)),
    goal("postgres", Operation::Check, Want::FasterThanBest(1.6)),
    goal("tiny", Operation::Initial, Want::FasterThan(1.4, "bupstash")),
    goal("tiny", Operation::Initial, Want::StoredMib(337.0)),
    goal("tiny", Operation::Unchanged, Want::FasterThan(3.5, "bupstash")),
    goal("tiny", Operation::Changed, Want::FasterThan(5.0, "bupstash")),
    goal("tiny", Operation::Restore, Want::FasterThanBest(2.5)),
    goal("few", Operation::Unchanged, Want::Seconds(0.03)),
];

/// All goals: to those of the table, that every operation in it goes without much memory.
pub(super) fn goals() -> Vec<Goal> {
    let mut goals = Vec::from(GOALS);
    for Goal { data, operation, .. } in GOALS {
        let memory = goal(data, operation, Want::AnonymousMib(MEMORY_MIB));
        if !goals.contains(&memory) {
            goals.push(memory);
        }
    }
    goals.sort_by_key(|goal| DATA_SETS.iter().position(|set| set.name == goal.data));
    goals
}

/// Of anonymous memory; three bytes for each chunk come on top, less than a MiB here.
const MEMORY_MIB: f64 = 128.0;

/// What the hardware allows at best: seconds for so much data, from the research on limits, of
/// the machine that it was measured on.
struct Limit {
    data: &'static str,
    operation: Operation,
    seconds: f64,
    per: Per,
}

/// What the time of a limit grows with.
enum Per {
    Mib(f64),
    Entries(f64),
}

const fn limit(data: &'static str, operation: Operation, seconds: f64, per: Per) -> Limit {
    Limit { data, operation, seconds, per }
}

const LIMITS: [Limit; 19] = [
    limit("kernel", Operation::Initial, 2.1, Per::Mib(1229.0)),
    limit("kernel", Operation::Unchanged, 0.07, Per::Entries(84_000.0)),
    limit("kernel", Operation::Changed, 0.4, Per::Mib(1229.0)),
    limit("kernel", Operation::Restore, 1.6, Per::Mib(1229.0)),
    limit("kernel", Operation::Check, 0.5, Per::Mib(1229.0)),
    limit("random", Operation::Initial, 0.7, Per::Mib(2048.0)),
    limit("random", Operation::Restore, 0.7, Per::Mib(2048.0)),
    limit("random", Operation::Check, 0.45, Per::Mib(2048.0)),
    limit("image", Operation::Initial, 1.8, Per::Mib(3072.0)),
    limit("image", Operation::Changed, 0.3, Per::Mib(3072.0)),
    limit("image", Operation::Restore, 1.2, Per::Mib(3072.0)),
    limit("image", Operation::Check, 0.9, Per::Mib(3072.0)),
    limit("postgres", Operation::Initial, 0.9, Per::Mib(1434.0)),
    limit("postgres", Operation::Changed, 0.3, Per::Mib(1434.0)),
    limit("postgres", Operation::Restore, 0.6, Per::Mib(1434.0)),
    limit("postgres", Operation::Check, 0.6, Per::Mib(1434.0)),
    limit("tiny", Operation::Initial, 3.5, Per::Entries(303_060.0)),
    limit("tiny", Operation::Unchanged, 0.25, Per::Entries(303_060.0)),
    limit("tiny", Operation::Restore, 4.4, Per::Entries(303_060.0)),
];

/// The least time that an operation can take with as much data as was measured.
pub(super) fn limit_seconds(results: &Results, data: &str, operation: Operation) -> Option<f64> {
    let limit = LIMITS.iter().find(|limit| limit.data == data && limit.operation == operation)?;
    let facts = results.data.get(data)?;
    let share = match limit.per {
        Per::Mib(mib) => facts["bytes"].as_f64()? / MIB / mib,
        Per::Entries(entries) => facts["entries"].as_f64()? / entries,
    };
    Some(limit.seconds * share)
}

const MIB: f64 = (1 << 20) as f64;

/// How a goal stands to what was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// The tool that is compared with, and what was measured of it.
    pub peer: Option<(&'static str, f64)>,
    /// Seconds or MiB.
    pub ours: f64,
    /// How many times better than the peer.
    pub ratio: Option<f64>,
    pub is_met: bool,
}

impl Goal {
    /// `None` where something was not measured that the goal needs.
    pub(super) fn judge(&self, results: &Results) -> Option<Verdict> {
        let median = |tool: &str| self.median(results, tool);
        let best = || self.best_encrypting(results);
        let ours = median(OURS)?;
        let (peer, wanted) = match self.want {
            Want::FasterThanBest(ratio) => (Some(best()?), ratio),
            Want::FasterThan(ratio, tool) => (Some((tool, median(tool)?)), ratio),
            Want::Seconds(most)
            | Want::StoredMib(most)
            | Want::AddedMib(most)
            | Want::AnonymousMib(most) => (best(), most),
        };
        let ratio = peer.map(|(_, theirs)| theirs / ours);
        let is_met = match self.want {
            Want::FasterThanBest(_) | Want::FasterThan(..) => ratio? >= wanted,
            _ => ours <= wanted,
        };
        Some(Verdict { peer, ours, ratio, is_met })
    }

    /// Of the peers that encrypt, the one with the smallest value.
    fn best_encrypting(&self, results: &Results) -> Option<(&'static str, f64)> {
        let peers = TOOLS.iter().filter(|tool| tool.is_encrypting && !tool.is_ours());
        let measured = peers.filter_map(|tool| Some((tool.name, self.median(results, tool.name)?)));
        measured.min_by(|(_, left), (_, right)| left.total_cmp(right))
    }

    /// What the goal speaks of, of a tool whose caches are warm.
    fn median(&self, results: &Results, tool: &str) -> Option<f64> {
        let series =
            Series { data: self.data.to_owned(), state: State::Warm, tool: tool.to_owned() };
        let spread = |operation, measure| results.spread(&series, operation, measure);
        let median = |measure| Some(spread(self.operation, measure)?.median);
        match self.want {
            Want::FasterThanBest(_) | Want::FasterThan(..) | Want::Seconds(_) => median(seconds),
            Want::StoredMib(_) => median(stored_mib),
            Want::AddedMib(_) => added_mib(results, &series),
            Want::AnonymousMib(_) => Some(spread(self.operation, anonymous_mib)?.most),
        }
    }

    /// The goal in words.
    pub(super) fn wording(&self) -> String {
        match self.want {
            Want::FasterThanBest(ratio) => format!("≥ {ratio}× faster than the best"),
            Want::FasterThan(ratio, tool) => format!("≥ {ratio}× faster than {tool}"),
            Want::Seconds(most) => format!("≤ {most} s"),
            Want::StoredMib(most) => format!("repository ≤ {most} MiB"),
            Want::AddedMib(most) => format!("stored ≤ {most} MiB"),
            Want::AnonymousMib(most) => format!("≤ {most} MiB anonymous memory"),
        }
    }

    /// Whether it speaks of time, which has a limit.
    pub(super) fn is_of_time(&self) -> bool {
        matches!(self.want, Want::FasterThanBest(_) | Want::FasterThan(..) | Want::Seconds(_))
    }
}

/// How much the repository grows by the run after the change.
pub(super) fn added_mib(results: &Results, series: &Series) -> Option<f64> {
    let after = results.spread(series, Operation::Changed, stored_mib)?.median;
    Some(after - results.spread(series, Operation::Unchanged, stored_mib)?.median)
}

pub(super) const SECONDS: Measure = seconds;

fn seconds(sample: &Sample) -> Option<f64> {
    Some(sample.cost.seconds)
}

pub(super) fn cpu_seconds(sample: &Sample) -> Option<f64> {
    Some(sample.cost.cpu_seconds)
}

pub(super) fn stored_mib(sample: &Sample) -> Option<f64> {
    Some(sample.stored_bytes? as f64 / MIB)
}

pub(super) fn anonymous_mib(sample: &Sample) -> Option<f64> {
    Some(sample.cost.anonymous_bytes as f64 / MIB)
}

pub(super) fn resident_mib(sample: &Sample) -> Option<f64> {
    Some(sample.cost.resident_bytes as f64 / MIB)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::tests::{results, sample};
    use super::*;

    fn measured(ours: f64, peers: &[(&str, f64)]) -> Results {
        let times = peers.iter().copied().chain([(OURS, ours)]);
        let of = |(tool, seconds)| sample("kernel", tool, Operation::Restore, seconds, 0);
        results(times.map(of).collect())
    }

    #[test]
    fn the_best_peer_that_encrypts_is_compared_with() {
        let goal = goal("kernel", Operation::Restore, Want::FasterThanBest(3.0));
        let peers = [("restic", 9.0), ("bupstash", 6.0), ("rsync", 1.0)];
        let met = goal.judge(&measured(2.0, &peers)).unwrap();
        assert_eq!(met.peer, Some(("bupstash", 6.0)));
        assert_eq!((met.ratio, met.is_met), (Some(3.0), true));
        assert!(!goal.judge(&measured(2.1, &peers)).unwrap().is_met);
        assert_eq!(goal.judge(&measured(2.0, &[("rsync", 1.0)])), None);
        assert_eq!(goal.judge(&results(Vec::new())), None);
    }

    #[test]
    fn a_goal_may_name_its_peer_or_a_bound() {
        let results = measured(2.0, &[("restic", 9.0), ("bupstash", 4.0)]);
        let judge = |want| goal("kernel", Operation::Restore, want).judge(&results).unwrap().is_met;
        assert!(judge(Want::FasterThan(4.5, "restic")));
        assert!(!judge(Want::FasterThan(4.6, "restic")));
        assert!(judge(Want::Seconds(2.0)));
        assert!(!judge(Want::Seconds(1.9)));
        assert!(judge(Want::AnonymousMib(50.0)));
        assert!(!judge(Want::AnonymousMib(49.0)));
    }

    #[test]
    fn growth_is_that_of_the_run_after_the_change() {
        let run = |operation, mib: u64| sample("kernel", OURS, operation, 1.0, mib << 20);
        let runs =
            [(Operation::Initial, 100), (Operation::Unchanged, 101), (Operation::Changed, 111)];
        let results = results(runs.map(|(operation, mib)| run(operation, mib)).into());
        let judge = |most| {
            goal("kernel", Operation::Changed, Want::AddedMib(most)).judge(&results).unwrap()
        };
        assert_eq!(judge(10.0).ours, 10.0);
        assert!(judge(10.0).is_met);
        assert!(!judge(9.9).is_met);
    }

    #[test]
    fn every_goal_and_limit_is_of_data_that_there_is_and_memory_is_bounded_once() {
        let goals = goals();
        for (index, goal) in goals.iter().enumerate() {
            assert!(DATA_SETS.iter().any(|set| set.name == goal.data), "{goal:?}");
            assert!(!goals[..index].contains(goal), "{goal:?}");
            let memory = Goal { want: Want::AnonymousMib(MEMORY_MIB), ..*goal };
            assert!(goals.contains(&memory), "{goal:?}");
        }
        for limit in LIMITS {
            assert!(goals.iter().any(|goal| {
                goal.data == limit.data && goal.operation == limit.operation && goal.is_of_time()
            }));
        }
    }

    #[test]
    fn limits_grow_with_the_data() {
        let mut results = results(Vec::new());
        results.data.insert("random".to_owned(), json!({"bytes": 1024_u64 << 20, "entries": 1}));
        results.data.insert("tiny".to_owned(), json!({"bytes": 1, "entries": 606_120}));
        assert_eq!(limit_seconds(&results, "random", Operation::Initial), Some(0.35));
        assert_eq!(limit_seconds(&results, "tiny", Operation::Unchanged), Some(0.5));
        assert_eq!(limit_seconds(&results, "tiny", Operation::List), None);
    }
}
