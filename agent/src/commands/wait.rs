//! `agent wait`: waits for the end of containers.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::runtime::state::{Status, Store};

/// Wait until containers have ended, and print their exit statuses
///
/// One line each, in the order in which they are named: the exit status of the first process, or 128+N
/// where signal N killed it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The names of the containers
    #[arg(required = true)]
    containers: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    super::each(&args.containers, |name| {
        let waiter = store.waiter(name)?;
        let code = match store.read(name).map(|record| record.status) {
            Ok(Status::Exited { code }) => code,
            _ => waiter
                .wait(|supervisor| {
                    super::note(&format!("the supervisor of {name:?}: {supervisor}"));
                })?
                .context("its supervisor was killed, and the exit status with it")?,
        };
        super::print(&format!("{code}\n"))?;
        Ok(())
    })
}
