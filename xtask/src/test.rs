//! `cargo xtask test`: all that proves the workspace right.

use anyhow::Result;

use crate::command::{cargo, exec, run as run_to_end};
use crate::step::{announce, step};
use crate::vm::Options;
use crate::{check, setup, sudo, vm};

pub fn run(arguments: &[String], harness: &[String]) -> Result<()> {
    step("setup", setup::for_tests)?;
    let all = arguments.is_empty() && harness.is_empty();
    if all {
        check::run()?;
    }
    announce("tests");
    let runner = sudo::runner()?;
    let mut tests = cargo(&["test", "--workspace", "--features", "agent/faults"])?;
    tests.args(runner).args(arguments);
    if !harness.is_empty() {
        tests.arg("--").args(harness);
    }
    if !all {
        // In this process's place, so that cargo's own closing lines close this too.
        return exec(&mut tests);
    }
    run_to_end(&mut tests)?;
    // The same where users are: on Debian's kernel, with pure v2.
    vm::run(&Options {
        layout: Some("v2".to_owned()),
        for_test: true,
        ..Options::default()
    })
}
