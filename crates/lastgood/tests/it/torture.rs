//! The campaign: repositories are treated badly, by a seed, and nothing that was committed is ever
//! lost. A short slice runs with all tests; `cargo xtask torture` makes it as long as wished.

mod crash;
mod damage;
mod hostile;
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

/// Shows a figure to whoever runs the campaign.
#[expect(clippy::print_stdout, reason = "`cargo xtask torture` prints the figures")]
pub(crate) fn tell(figure: &str) {
    println!("{figure}");
}
