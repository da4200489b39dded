//! One libFuzzer program for all targets of `src/fuzz.rs`: the environment variable `FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a directory of tests/fuzz/corpus"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanline::fuzz::run(&TARGET, data));
