//! What docker's answer confirms: the cgroup of the process that it calls a container's first.

use std::path::Path;

use agent_host::membership::Membership;
use agent_registry::claim::Confirmation;

use super::confirm_by_process;
use crate::docker::{Client, EngineError, Inspected};

/// What the engine says of the container with this full id, and what that confirms. `None` where it has none.
///
/// The engine is asked again once the process's cgroups are read: where it still names the process, the process had not
/// ended, and nobody else had its number.
///
/// # Errors
/// No answer comes.
pub async fn inspect(
    client: &Client,
    id: &str,
) -> Result<Option<(Inspected, Option<Confirmation>)>, EngineError> {
    let Some(first) = client.inspect(id).await? else {
        return Ok(None);
    };
    let read = first.process.and_then(|pid| {
        let membership = Membership::of(Path::new("/"), pid).ok()?;
        confirm_by_process(id, pid, &membership)
    });
    let Some(confirmation) = read else {
        return Ok(Some((first, None)));
    };
    let again = client.inspect(id).await?;
    let confirmation = again
        .is_some_and(|again| again.process == first.process)
        .then_some(confirmation);
    Ok(Some((first, confirmation)))
}
