//! `cargo xtask run`: trace this host.

use anyhow::Result;

use crate::command::{cargo, exec};
use crate::{setup, sudo};

pub fn run(arguments: &[String]) -> Result<()> {
    setup::for_run()?;
    let runner = sudo::runner()?;
    let mut serve = cargo(&["run", "--release", "--package", "agent"])?;
    exec(serve.args(runner).args(["--", "serve"]).args(arguments))
}
