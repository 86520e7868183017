//! Checks the inputs that libFuzzer generates. Every target is built from this file and finds its check by its own name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imageshare_fuzz::check(env!("CARGO_BIN_NAME"), data));
