#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imageshare_fuzz::job(data));
