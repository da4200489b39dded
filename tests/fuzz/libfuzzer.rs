//! One libFuzzer program for all targets of `src/fuzz.rs`: the environment variable `FUZZ_TARGET` names the one to run.
//! `scripts/fuzz` builds it.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
static TARGET: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a directory of tests/fuzz/corpus")
});

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanline::fuzz::run(&TARGET, data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this build does not contain libFuzzer: run scripts/fuzz");
    std::process::exit(2);
}
