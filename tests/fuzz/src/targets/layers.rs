//! Lets libFuzzer call [`fuzz::layers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::layers(data));
