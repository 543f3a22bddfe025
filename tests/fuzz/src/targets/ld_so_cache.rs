//! Lets libFuzzer call [`fuzz::ld_so_cache`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::ld_so_cache(data));
