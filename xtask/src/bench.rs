//! `cargo xtask bench`: what the agent costs, and how soon it tells. The benchmark itself is `tests/src/bin/bench`: it is
//! built in release like what it measures, and runs as root while what is built stays the user's.

use anyhow::Result;

use crate::command::{cargo, exec, run};
use crate::{setup, sudo};

/// What is built for it; not in one call, where features of one package's dependencies would build the other's anew.
const PACKAGES: [&str; 2] = ["agent", "tests"];

pub fn bench(arguments: &[String]) -> Result<()> {
    setup::for_bench()?;
    for package in PACKAGES {
        run(&mut cargo(&[
            "build",
            "--quiet",
            "--release",
            "--bins",
            "--package",
            package,
        ])?)?;
    }
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
    exec(cargo(&program)?.args(runner).arg("--").args(arguments))
}
