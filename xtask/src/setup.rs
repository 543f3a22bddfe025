//! What building needs beyond the toolchain itself. Each thing is named before it is installed, and left alone where
//! it is there.

use std::path::Path;

use anyhow::Result;

use crate::command::{self, cargo, command, find, output, path, tools};
use crate::{cadvisor, packages};

/// The components of the toolchain, and where each shows in its directory. rustup brings the last two with the pinned
/// toolchain, except where it has been told to install nothing by itself (RUSTUP_AUTO_INSTALL=0).
const COMPONENTS: [(&str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library"),
    ("rustfmt", "bin/cargo-fmt"),
    ("clippy", "bin/cargo-clippy"),
];

/// The last bpf-linker whose LLVM is that of the pinned rustc.
const LINKER: &str = "0.10.3";

/// The cargo-deny that `cargo xtask deny` runs.
const DENY: &str = "0.20.2";

/// The cargo-fuzz that `cargo xtask fuzz` runs.
const FUZZ: &str = "0.13.2";

/// `cargo xtask setup`.
pub fn run() -> Result<()> {
    println!("setup: installing what is missing");
    for_tests()
}

/// What `cargo xtask run` needs.
pub fn for_run() -> Result<()> {
    components()?;
    linker()
}

/// What `cargo xtask test` needs.
pub fn for_tests() -> Result<()> {
    for_run()?;
    packages::for_tests()?;
    cadvisor::get()
}

/// What `cargo xtask bench` needs.
pub fn for_bench() -> Result<()> {
    for_run()?;
    packages::for_bench()
}

/// What `cargo xtask dist` needs: `target` too, whose libraries are static.
pub fn for_dist(target: &str) -> Result<()> {
    for_run()?;
    let sysroot = output(&mut command("rustc", &["--print", "sysroot"])?)?;
    let libraries = Path::new(sysroot.trim_end())
        .join("lib/rustlib")
        .join(target);
    if !libraries.exists() {
        println!("setup: adding the target {target} to the toolchain");
        command::run(&mut command("rustup", &["target", "add", target])?)?;
    }
    Ok(())
}

/// What `cargo xtask deny` needs.
pub fn for_deny() -> Result<()> {
    tool("cargo-deny", DENY, "checks dependencies")
}

/// What `cargo xtask fuzz` needs.
pub fn for_fuzz() -> Result<()> {
    for_run()?;
    tool("cargo-fuzz", FUZZ, "builds targets of libFuzzer")
}

/// A tool that itself works for a second: building it without optimization is quicker.
fn tool(name: &str, version: &str, what_for: &str) -> Result<()> {
    if version_of(name)?.as_deref() == Some(version) {
        return Ok(());
    }
    println!(
        "setup: building {name} {version}, which {what_for}, into {} (some minutes)",
        tools().display()
    );
    install(name, version, &["--debug"])
}

fn components() -> Result<()> {
    let sysroot = output(&mut command("rustc", &["--print", "sysroot"])?)?;
    let missing = COMPONENTS
        .iter()
        .filter(|(_, shows)| !Path::new(sysroot.trim_end()).join(shows).exists());
    for (component, _) in missing {
        println!(
            "setup: installing {component} into the toolchain {}",
            sysroot.trim_end()
        );
        // Without it a BPF object built earlier may still serve: agent/build.rs decides.
        if let Err(error) = command::run(&mut command("rustup", &["component", "add", component])?)
        {
            println!("setup: {component} could not be installed, going on without it: {error:#}");
        }
    }
    Ok(())
}

fn linker() -> Result<()> {
    if version_of("bpf-linker")?.as_deref() == Some(LINKER) {
        return Ok(());
    }
    println!(
        "setup: building bpf-linker {LINKER}, which links the BPF programs, into {} (about a minute)",
        tools().display()
    );
    install("bpf-linker", LINKER, &[])
}

/// Builds this version of a crate's program into the directory of tools.
fn install(name: &str, version: &str, options: &[&str]) -> Result<()> {
    let version = format!("={version}");
    let mut install = cargo(&["install", "--locked", "--version", &version, name])?;
    command::run(install.args(options).arg("--root").arg(tools()))
}

/// The version of this tool in PATH, where there is one that runs.
fn version_of(name: &str) -> Result<Option<String>> {
    let Some(program) = find(name, &path()?) else {
        return Ok(None);
    };
    let printed = output(&mut command(program, &["--version"])?).ok();
    Ok(printed.and_then(|printed| {
        let version = printed.trim().strip_prefix(name)?;
        Some(version.trim_start().to_owned())
    }))
}
