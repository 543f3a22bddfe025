//! Removing what there is of a container.

use crate::runtime::cgroup::Cgroup;
use crate::runtime::network;
use crate::runtime::order::Network;
use crate::runtime::root;
use crate::runtime::state::{Record, Store, logs};
use crate::text;

/// Removes what supervisors that were killed left: every command of the agent does that first. What cannot be removed
/// now is tried again by the next.
pub fn sweep(store: &Store) {
    for claim in store.abandoned() {
        if let Some(record) = claim.record()
            && let Err(error) = remains(&record)
        {
            super::say(&format!("{}: {}", record.name, text::error_line(&error)));
            continue;
        }
        if let Err(error) = claim.remove() {
            super::say(&text::error_line(&error));
        }
    }
    store.remove_stray_logs();
    // Not before: the containers that used them have ended.
    if let Err(error) = root::sweep() {
        super::say(&format!("layers of images: {error}"));
    }
}

/// Kills and removes all that a container has on the host: processes, cgroups, interfaces.
pub fn remains(record: &Record) -> Result<(), super::Error> {
    if let Some(cgroup) = Cgroup::find(&record.cgroup)? {
        cgroup.kill()?;
        cgroup.remove()?;
    }
    if matches!(record.network, Network::Veth { .. }) {
        network::disconnect(&record.name)?;
    }
    logs::remove(record)?;
    Ok(())
}
