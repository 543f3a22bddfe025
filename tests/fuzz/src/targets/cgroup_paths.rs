//! Lets libFuzzer call [`fuzz::cgroup_paths`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::cgroup_paths(data));
