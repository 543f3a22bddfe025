//! `agent wait`: waits for the end of containers.

use std::process::ExitCode;

use anyhow::Context as _;

use super::elsewhere::{Action, explained};
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

/// `swept` are containers that were there when the command was called: their supervisors had been killed.
pub fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    super::each(&args.containers, |name| {
        super::need_not_swept(name, swept)?;
        let waiter = store.waiter(name);
        let waiter = waiter.map_err(|error| explained(error.into(), Action::Wait, name, &[]))?;
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
