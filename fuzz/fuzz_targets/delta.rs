//! See `decoders::delta_of_base`.
#![no_main]

#[allow(dead_code, missing_docs, reason = "each target runs one of them")]
#[path = "../../crates/lastgood-format/tests/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::run("delta", bytes));
