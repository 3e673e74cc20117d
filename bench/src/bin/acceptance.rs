//! `cargo xtask mirror-acceptance` runs this; see the library's module `acceptance`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut arguments = std::env::args().skip(1);
    let (scratch, only) = (arguments.next().map(Into::into), arguments.next());
    let root = package.parent().unwrap_or(package);
    bench::acceptance::run(root, &bench::lastgood()?, scratch, only.as_deref())
}
