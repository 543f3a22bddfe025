//! `agent wait`: waits for the end of containers.

use std::process::ExitCode;

use agent_runtime::state::{Status, Store};
use anyhow::Context as _;

use super::other_owners::{ContainerAction, explained};

/// Wait until containers have ended, and print their exit statuses
///
/// Prints one line for each, in the order of the arguments: the exit status of the init process, or 128+N
/// where signal N killed it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The names of the containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Runs the command. `swept` names containers with a killed supervisor, which this command has just removed.
pub(super) fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    super::each(&args.containers, |name| {
        super::need_not_swept(name, swept)?;
        let waiter = store.waiter(name);
        let waiter =
            waiter.map_err(|error| explained(error.into(), ContainerAction::Wait, name, &[]))?;
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
