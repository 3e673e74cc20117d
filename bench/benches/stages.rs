//! Speed of each stage on one core: `cargo bench -p bench`.

use bench::stages::{STAGES, Stage};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

#[divan::bench(args = STAGES)]
fn stage(bencher: Bencher<'_, '_>, stage: &Stage) {
    let mut run = (stage.prepare)();
    bencher.counter(BytesCount::new(stage.bytes)).bench_local(&mut run);
}
