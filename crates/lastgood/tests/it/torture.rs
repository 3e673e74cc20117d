//! The campaign: repositories are treated badly, by a seed, and nothing that was committed is ever
//! lost. A short slice runs with all tests; `cargo xtask torture` makes it as long as wished.

mod crash;
mod damage;
mod hostile;
mod planted;
mod world;

/// How many seeds to run: `LASTGOOD_TORTURE` has two numbers, the first seed and how many; else
/// `count` from 0.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("LASTGOOD_TORTURE").ok();
    let numbers = asked.as_deref().and_then(|text| text.split_once('+'));
    let numbers =
        numbers.and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
    let (first, count): (u64, u64) = numbers.unwrap_or((0, count));
    first..first + count
}

/// Runs each seed, several at once, and returns what they came to. A seed that panics ends all.
fn each_seed<T: Send>(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let left = std::sync::Mutex::new(seeds);
    let all = std::sync::Mutex::new(Vec::new());
    let work = || {
        while let Some(seed) = {
            let mut left = left.lock().unwrap();
            left.next()
        } {
            let one = run(seed);
            all.lock().unwrap().push(one);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                left.lock().unwrap().start = u64::MAX;
                std::panic::resume_unwind(panic);
            }
        }
    });
    all.into_inner().unwrap()
}

/// Shows a figure to whoever runs the campaign.
#[expect(clippy::print_stdout, reason = "`cargo xtask torture` prints the figures")]
pub(crate) fn tell(figure: &str) {
    println!("{figure}");
}
