//! `cargo xtask mirror-acceptance` runs this; see the library's module `acceptance`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = std::env::args_os().nth(1).map(Into::into);
    bench::acceptance::run(package.parent().unwrap_or(package), &bench::lastgood()?, scratch)
}
