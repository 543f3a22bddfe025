//! The Debian packages that tests and virtual machines need.

use anyhow::{Context as _, Result};

use crate::command::{command, find, path_of_root, run};

struct Package {
    name: &'static str,
    /// A program in PATH or an absolute path that is there when what is needed is, whoever installed it.
    shows: &'static str,
    what_for: &'static str,
}

#[rustfmt::skip]
const FOR_TESTS: [Package; 8] = [
    Package { name: "docker.io",      shows: "dockerd",   what_for: "an engine whose containers are traced" },
    // The package busybox has the same program, but not static: it does not run in an empty root file system.
    Package { name: "busybox-static", shows: "/usr/share/doc/busybox-static", what_for: "root file systems of containers" },
    Package { name: "stress-ng",      shows: "stress-ng", what_for: "load against limits" },
    Package { name: "prometheus",     shows: "promtool",  what_for: "checks and scrapes /metrics" },
    Package { name: "util-linux",     shows: "nsenter",   what_for: "namespace calls: unshare, nsenter" },
    Package { name: "iproute2",       shows: "ip",        what_for: "network namespaces" },
    Package { name: "graphviz",       shows: "dot",       what_for: "takes the graph of agent ns" },
    Package { name: "tmux",           shows: "tmux",      what_for: "a terminal for full-screen commands" },
];

#[rustfmt::skip]
const FOR_BENCH: [Package; 5] = [
    Package { name: "bpftrace",   shows: "bpftrace", what_for: "prints the same events, to be compared with" },
    Package { name: "busybox-static", shows: "/usr/share/doc/busybox-static", what_for: "what is launched" },
    Package { name: "gcc",        shows: "cc",       what_for: "compiles the least that a launch can be" },
    Package { name: "libc6-dev",  shows: "/usr/include/stdio.h", what_for: "compiles the least that a launch can be" },
    Package { name: "util-linux", shows: "setpriv",  what_for: "ends what is measured with the benchmark" },
];

#[rustfmt::skip]
const FOR_VM: [Package; 3] = [
    Package { name: "xz-utils",  shows: "xz",     what_for: "unpacks the modules of kernels" },
    Package { name: "e2fsprogs", shows: "mke2fs", what_for: "makes its disk" },
    Package { name: "runc",      shows: "runc",   what_for: "is attacked there as here" },
];

#[rustfmt::skip]
const FOR_DEBIAN: [Package; 1] = [
    Package { name: "debootstrap", shows: "debootstrap", what_for: "unpacks it" },
];

/// The command that installs, without the packages' names. It removes nothing (--no-remove): an engine from elsewhere,
/// or the busybox of the boot image, is not ours to replace. It waits while another apt-get is at work.
#[rustfmt::skip]
const INSTALL: [&str; 8] = [
    "xtask/without-services.sh",
    "apt-get", "install", "-y", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300",
];

/// Installs what tests need.
pub fn for_tests() -> Result<()> {
    install(&FOR_TESTS, "tests need")
}

/// Installs what benchmarks need.
pub fn for_bench() -> Result<()> {
    install(&FOR_BENCH, "benchmarks need")
}

/// Installs what virtual machines need, or one with a whole Debian.
pub fn for_vm(debian: bool) -> Result<()> {
    install(&FOR_VM, "virtual machines need")?;
    if debian {
        install(&FOR_DEBIAN, "a virtual machine with a whole Debian needs")?;
    }
    Ok(())
}

/// Installs what is missing, as root where there is apt-get; elsewhere says what to install.
fn install(packages: &[Package], who_needs: &str) -> Result<()> {
    let path = path_of_root()?;
    let missing = packages
        .iter()
        .filter(|package| find(package.shows, &path).is_none());
    let missing: Vec<&Package> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || find("apt-get", &path).is_none() {
        println!(
            "setup: {who_needs} these Debian packages, or what your system has in their place. Install them as root:"
        );
        list(&missing);
        return Ok(());
    }
    println!(
        "setup: installing Debian packages that {who_needs}, without starting their services:"
    );
    list(&missing);
    run(&mut command("apt-get", &["update"])?)?;
    let names = missing.iter().map(|package| package.name);
    run(command("sh", &INSTALL)?
        .args(names)
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .context("install the packages above by hand, then call this again")
}

fn list(packages: &[&Package]) {
    for package in packages {
        println!("  {:<15} {}", package.name, package.what_for);
    }
}
