//! `cargo xtask bench` runs this; see the library's module `peers`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench::peers::run(package.parent().unwrap_or(package), &bench::lastgood()?, &arguments)
}
