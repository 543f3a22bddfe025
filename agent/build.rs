//! How the shipped file is linked. It begins with instructions of its own (`agent/sys/src/start.rs`), and counts its threads
//! (`agent/sys/src/heap.rs`).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    if !is("CARGO_CFG_TARGET_ENV", "musl") {
        return;
    }
    println!("cargo::rustc-link-arg=-Wl,--wrap=pthread_create");
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=agent_start");
    }
}
