//! Lets libFuzzer call [`fuzz::bundles`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::bundles(data));
