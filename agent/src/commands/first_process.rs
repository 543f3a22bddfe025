//! The first process of a container that is named, for who joins it or looks at it.

use super::elsewhere::{Answer, ask};
use crate::host::pinned::Pinned;
use crate::runtime::state::Store;
use crate::runtime::supervise;

/// The first process of a container that runs: of `agent run`, or of any engine that the agent knows.
///
/// Its threads have ended when it returns, because the caller needs to have one thread.
///
/// # Errors
/// The reason why there is none.
pub fn first_process(name: &str) -> Result<Pinned, String> {
    let own = own_process(name);
    // An ordinary user may look at nobody else's.
    if let Some(process) = own
        .as_ref()
        .filter(|_| !rustix::process::geteuid().is_root())
    {
        return Ok(process.clone());
    }
    let other = match ask(name).map_err(|error| error.to_string())? {
        Answer::Known(known) => {
            known.membership().map_err(|error| error.to_string())?;
            known.process.ok_or_else(|| {
                "nobody says which process of that container is its first".to_owned()
            })
        }
        Answer::Stopped => Err(format!(
            "docker has it, and it does not run; start it: docker start {}",
            crate::text::shell_word(name)
        )),
        Answer::Nobody => {
            Err("no container of that name runs here; agent ps shows those that do".to_owned())
        }
        Answer::Closed(why) => Err(format!(
            "agent run of this user has no container of that name that runs; whether another user or an engine has one \
             cannot be told: {why}"
        )),
    };
    other.or_else(|reason| own.ok_or(reason))
}

/// The first process of a container of this user's `agent run`, while its supervisor lives.
pub fn own_process(name: &str) -> Option<Pinned> {
    supervise::running(&Store::of_user(), name)
}
