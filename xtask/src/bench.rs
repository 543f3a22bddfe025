//! `cargo xtask bench`: what the agent costs, and how soon it tells. What is measured is what is shipped, the file that
//! `cargo xtask dist` makes. The benchmark itself is `tests/src/bin/bench`: it runs as root while what is built stays the
//! user's.

use std::env;

use anyhow::{Result, ensure};

use crate::command::{cargo, exec, run, workspace};
use crate::{crun, dist, setup, sudo, vm};

/// Tells the benchmark where the agent is.
const AGENT: &str = "AGENT_BINARY";

/// Tells it how to run crun: words, with tabs between.
const CRUN: &str = "BENCH_CRUN";

/// In a virtual machine.
const IN_MACHINE: &str = "--vm";

pub fn bench(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == IN_MACHINE) {
        return in_machine(arguments);
    }
    setup::for_bench()?;
    let agent = dist::make()?;
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--release",
        "--bins",
        "--package",
        "tests",
    ])?)?;
    let runner = sudo::runner()?;
    let program = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "tests",
        "--bin",
        "bench",
    ];
    let mut bench = cargo(&program)?;
    bench.env(AGENT, agent);
    if measures_launches(arguments) {
        bench.env(CRUN, crun::words()?.join("\t"));
    }
    exec(bench.args(runner).arg("--").args(arguments))
}

/// Launches on a host with cgroup v2 alone, which is emulated: what counts there is what is how many times another.
fn in_machine(arguments: &[String]) -> Result<()> {
    let others = arguments.iter().filter(|it| *it != IN_MACHINE);
    let others: Vec<String> = others.cloned().collect();
    ensure!(
        others.first().is_some_and(|first| first == "launch"),
        "{IN_MACHINE} is for launches: cargo xtask bench launch {IN_MACHINE}"
    );
    setup::for_tests()?;
    let agent = match env::var_os(AGENT) {
        Some(made) => made.into(),
        None => dist::make()?,
    };
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--package",
        "tests",
        "--bins",
    ])?)?;
    vm::bench::run(&agent, &workspace().join("target/debug"), &others)
}

/// Whether launches are measured: by name, or with all else where no benchmark is named.
fn measures_launches(arguments: &[String]) -> bool {
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let others = ["storm", "scrape", "latency", "verdicts"];
    named("launch") || !others.into_iter().any(named)
}
