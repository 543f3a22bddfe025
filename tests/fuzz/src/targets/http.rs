//! Lets libFuzzer call [`fuzz::http`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::http(data));
