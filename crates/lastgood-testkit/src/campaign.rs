//! Campaigns: something is tried with many seeds, several at once, and one that fails ends none of
//! the others.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// What came of something that was tried with many seeds.
#[derive(Debug)]
#[must_use = "a campaign that nobody ends cannot fail"]
pub struct Campaign<F> {
    /// What each seed met, also one that failed then.
    pub figures: Vec<F>,
    failures: BTreeMap<u64, String>,
}

impl<F> Campaign<F> {
    /// How many seeds failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Ends the campaign.
    ///
    /// # Panics
    /// When a seed failed, with the names of all that did and what the first of them said.
    #[track_caller]
    pub fn end(self) {
        let Some((first, why)) = self.failures.first_key_value() else { return };
        let seeds: Vec<u64> = self.failures.keys().copied().collect();
        panic!("{} seeds failed: {seeds:?}\nseed {first}: {why}", seeds.len());
    }
}

/// The seeds that a campaign is asked for: `LASTGOOD_TORTURE` has two numbers, the first one and how
/// many, as in `0+20000`; else `count` from 0.
#[must_use]
pub fn seeds(count: u64) -> Range<u64> {
    let (first, count) = asked().unwrap_or((0, count));
    first..first + count
}

/// Whether a campaign is asked for, and not the short slice of every test run.
#[must_use]
pub fn is_asked() -> bool {
    asked().is_some()
}

fn asked() -> Option<(u64, u64)> {
    let asked = std::env::var("LASTGOOD_TORTURE").ok()?;
    let (first, count) = asked.split_once('+')?;
    Some((first.parse().ok()?, count.parse().ok()?))
}

/// Runs each seed, whatever becomes of the others. A failure is told when it happens.
pub fn each_seed<F: Default + Send>(
    seeds: Range<u64>,
    run: impl Fn(u64, &mut F) -> Result<(), String> + Sync,
) -> Campaign<F> {
    run_seeds(seeds, false, |seed, figures| {
        attempt(|| run(seed, figures)).inspect_err(|why| {
            tell(&format!("seed {seed} FAILED: {}", why.lines().next().unwrap_or_default()));
        })
    })
}

/// Runs seeds until one fails, and returns it and what it said.
pub fn first_failure(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    let campaign = run_seeds(seeds, true, |seed, (): &mut ()| attempt(|| run(seed)));
    campaign.failures.into_iter().next()
}

/// Runs something; a panic is a failure like any other.
///
/// # Errors
/// What it returns, and what it panics with.
pub fn attempt<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // Whoever looks at what it touched does so to tell of it.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => Err(format!("panicked: {}", message(panic.as_ref()))),
    }
}

/// Shows a figure to whoever runs the campaign.
#[expect(clippy::print_stdout, reason = "`cargo xtask torture` prints the figures")]
pub fn tell(figure: &str) {
    println!("{figure}");
}

/// Runs seeds on all cores, each with its own figures. Where it ends early, no seed begins after a
/// failure.
fn run_seeds<F: Default + Send>(
    seeds: Range<u64>,
    ends_early: bool,
    run: impl Fn(u64, &mut F) -> Result<(), String> + Sync,
) -> Campaign<F> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let left = Mutex::new(seeds);
    let campaign = Mutex::new(Campaign { figures: Vec::new(), failures: BTreeMap::new() });
    let next = || lock(&left).next();
    let work = || {
        while let Some(seed) = next() {
            let mut figures = F::default();
            let result = run(seed, &mut figures);
            let mut campaign = lock(&campaign);
            campaign.figures.push(figures);
            if let Err(why) = result {
                campaign.failures.insert(seed, why);
                if ends_early {
                    lock(&left).start = u64::MAX;
                }
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    campaign.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "with no words".to_owned())
}
