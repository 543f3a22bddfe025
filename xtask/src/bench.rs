//! `cargo xtask bench`: what the agent costs, and how soon it tells. What is measured is what is shipped, the file that
//! `cargo xtask dist` makes. The benchmark itself is `tests/src/bin/bench`: it runs as root while what is built stays the
//! user's.

use anyhow::Result;

use crate::command::{cargo, exec, run};
use crate::{crun, dist, setup, sudo};

/// Tells the benchmark where the agent is.
const AGENT: &str = "AGENT_BINARY";

/// Tells it how to run crun: words, one a line.
const CRUN: &str = "BENCH_CRUN";

pub fn bench(arguments: &[String]) -> Result<()> {
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
        bench.env(CRUN, crun::words()?.join("\n"));
    }
    exec(bench.args(runner).arg("--").args(arguments))
}

/// Whether launches are measured: by name, or with all else where no benchmark is named.
fn measures_launches(arguments: &[String]) -> bool {
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let others = ["storm", "scrape", "latency", "verdicts"];
    named("launch") || !others.into_iter().any(named)
}
