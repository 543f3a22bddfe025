//! The init process of a named container, for commands that join it or inspect it.

use agent_host::pinned::Pinned;
use agent_runtime::state::Store;
use agent_runtime::supervise;

use super::other_owners::{NameLookup, ask};

/// Finds the init process of a running container of `agent run`, or of any engine that the agent knows.
///
/// All threads have ended when it returns, because the caller may have only one.
///
/// # Errors
/// The reason why no process is found.
pub(super) fn init_process(name: &str) -> Result<Pinned, String> {
    let own = own_process(name);
    // An ordinary user may not inspect other users' processes.
    if let Some(process) = own
        .as_ref()
        .filter(|_| !rustix::process::geteuid().is_root())
    {
        return Ok(process.clone());
    }
    let other = match ask(name).map_err(|error| error.to_string())? {
        NameLookup::Confirmed(known) => {
            known.membership().map_err(|error| error.to_string())?;
            known.process.ok_or_else(|| {
                "neither an engine nor a record says which process of that container is its init process".to_owned()
            })
        }
        NameLookup::Stopped => Err(format!(
            "docker has it, and it does not run; start it: docker start {}",
            agent_model::text::shell_word(name)
        )),
        NameLookup::Nobody => Err(super::confirmed::NOBODY.to_owned()),
        NameLookup::Closed(why) => Err(format!(
            "agent run of this user has no container of that name that runs; whether another user or an engine has one \
             cannot be told: {why}"
        )),
    };
    other.or_else(|reason| own.ok_or(reason))
}

/// The init process of a container of this user's `agent run`, while its supervisor lives.
pub(super) fn own_process(name: &str) -> Option<Pinned> {
    supervise::running(&Store::of_user(), name)
}
