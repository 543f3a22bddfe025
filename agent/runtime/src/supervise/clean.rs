//! Removes everything that a container has on the host.

use std::collections::BTreeMap;
use std::path::Path;

use agent_host::hierarchy::Hierarchies;
use agent_model::text;
use agent_network::{self as network, Network};

use super::{Error, stop};
use crate::cgroup::{self, Cgroup, leaf};
use crate::state::{Record, Store, logs};

/// Removes what killed supervisors left. Every command of the agent begins with this. Returns the names of the
/// containers that were removed. The next command tries the others again.
pub fn sweep(store: &Store) -> Vec<String> {
    let rest = end_abandoned(store);
    rest.sweep(store);
    rest.removed
}

/// The work that is left once the containers of killed supervisors have ended.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    /// The names of containers that had a record.
    removed: Vec<String>,
    /// Whether all containers of killed supervisors have ended. One that has not may still use layers of its image.
    all_ended: bool,
}

/// Ends the containers of killed supervisors. The rest of the cleaning may wait, because it holds no other command up.
pub(super) fn end_abandoned(store: &Store) -> Rest {
    for error in store.adopt() {
        super::say(&text::error_line(&error));
    }
    let (mut all_ended, mut removed) = (true, Vec::new());
    for claim in store.abandoned() {
        let record = claim.record();
        if let Some(record) = &record
            && let Err(error) = remains(record)
        {
            super::say(&format!("{}: {}", record.name, text::error_line(&error)));
            all_ended = false;
            continue;
        }
        match claim.remove() {
            Ok(()) => removed.extend(record.map(|it| it.name)),
            Err(error) => super::say(&text::error_line(&error)),
        }
    }
    Rest { removed, all_ended }
}

impl Rest {
    /// Removes stray logs and layers.
    pub(super) fn sweep(&self, store: &Store) {
        store.remove_stray_logs();
        if self.all_ended
            && let Err(error) = agent_rootfs::sweep()
        {
            super::say(&format!("layers of images: {error}"));
        }
    }
}

/// Kills and removes everything that a container has on the host: processes, cgroups, interfaces and the log.
pub(super) fn remains(record: &Record) -> Result<(), Error> {
    match cgroup(record)? {
        Some(cgroup) => {
            cgroup.kill()?;
            cgroup.remove()?;
        }
        None => stop::kill_first(record)?,
    }
    if let Some(path) = &record.leaf {
        leaf::remove(path);
    }
    if matches!(record.network, Network::Veth { .. }) {
        network::disconnect(&record.name, &Store::lock_bridges)?;
    }
    logs::remove(record)?;
    Ok(())
}

/// Finds the cgroup that a container's record names. Returns none where the record names none, or the cgroup has been
/// removed.
///
/// # Errors
/// The hierarchies cannot be read.
pub(super) fn cgroup(record: &Record) -> Result<Option<Cgroup>, Error> {
    let hierarchies = Hierarchies::discover(Path::new("/")).map_err(cgroup::Error::from)?;
    let found = match &record.cgroups {
        Some(cgroups) => Cgroup::at(&hierarchies, cgroups)?,
        None => Cgroup::everywhere(&hierarchies, &record.cgroup)?,
    };
    Ok(found)
}

/// Finds the cgroup of a running container for one more process. A container without a cgroup has [`Cgroup::nowhere`].
///
/// # Errors
/// This process may not move others into the cgroup, or the cgroup has been removed.
pub(super) fn joined(record: &Record) -> Result<Cgroup, Error> {
    let has_none = record
        .cgroups
        .as_ref()
        .map_or_else(|| record.cgroup.as_os_str().is_empty(), BTreeMap::is_empty);
    match cgroup(record)? {
        Some(mut cgroup) => {
            cgroup.approach()?;
            Ok(cgroup)
        }
        None if has_none => Ok(Cgroup::nowhere()),
        None => Err(Error::NotRunning {
            name: record.name.clone(),
        }),
    }
}
