//! placeholder until its first command lands
fn main() {}
