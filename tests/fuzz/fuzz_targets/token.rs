#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanline::fuzz::run("token", data));
