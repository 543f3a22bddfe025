//! Lets libFuzzer call [`fuzz::seccomp`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::seccomp(data));
