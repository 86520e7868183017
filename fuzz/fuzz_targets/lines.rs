//! [`imageshare_fuzz::lines`] on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imageshare_fuzz::lines(data));
