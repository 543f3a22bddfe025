//! What docker's answer confirms: the cgroup of the process that it reports as a container's init process.

use std::path::Path;

use agent_host::membership::Membership;
use agent_registry::claim::Confirmation;

use super::confirm_by_process;
use crate::docker::{Client, EngineError, Inspected};

/// What the engine reports of the container with this full id, and what that confirms. `None` if it has none.
///
/// After the process's cgroups were read, the engine is asked again. If it still reports the process, the process had not
/// ended, and no other process had its number.
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
