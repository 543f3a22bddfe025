//! `cargo xtask test`: all that proves the workspace right.

use anyhow::Result;

use crate::command::{cargo, exec};
use crate::step::{announce, step};
use crate::{check, setup, sudo, vm};

pub fn run(arguments: &[String], harness: &[String]) -> Result<()> {
    step("setup", setup::for_tests)?;
    let all = arguments.is_empty() && harness.is_empty();
    if all {
        check::run()?;
        vm::quick()?;
    }
    announce("tests on this machine's kernel");
    let runner = sudo::runner()?;
    let mut tests = cargo(&["test", "--workspace", "--features", "agent/faults"])?;
    tests.args(runner).args(arguments).arg("--");
    // With root, nothing is to be left out.
    if !harness.iter().any(|argument| argument == "--ignored") {
        tests.arg("--include-ignored");
    }
    tests.args(harness);
    // In this process's place, so that cargo's own closing lines close this too.
    exec(&mut tests)
}
