//! Removing what there is of a container.

use std::collections::BTreeMap;
use std::path::Path;

use agent_host::hierarchy::Hierarchies;
use agent_model::text;
use agent_network::{self as network, Network};

use super::{Error, stop};
use crate::cgroup::{self, Cgroup, leaf};
use crate::state::{Record, Store, logs};

/// Removes what supervisors that were killed left: every command of the agent does that first. What cannot be removed
/// now is tried again by the next. The names of the containers that are gone by it.
pub fn sweep(store: &Store) -> Vec<String> {
    let rest = end_abandoned(store);
    rest.sweep(store);
    rest.removed
}

/// What is left to remove once the containers of killed supervisors have ended.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The names of those that had a record.
    removed: Vec<String>,
    /// A container that has not ended may still use its layers.
    all_ended: bool,
}

/// Ends the containers of supervisors that were killed. The rest may wait: nobody is in its way.
pub fn end_abandoned(store: &Store) -> Rest {
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
    /// Removes it.
    pub fn sweep(&self, store: &Store) {
        store.remove_stray_logs();
        if self.all_ended
            && let Err(error) = agent_rootfs::sweep()
        {
            super::say(&format!("layers of images: {error}"));
        }
    }
}

/// Kills and removes all that a container has on the host: processes, cgroups, interfaces.
pub fn remains(record: &Record) -> Result<(), Error> {
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

/// The cgroup that the record of a container says; none where it says none, or that is gone.
///
/// # Errors
/// The hierarchies cannot be read.
pub fn cgroup(record: &Record) -> Result<Option<Cgroup>, Error> {
    let hierarchies = Hierarchies::discover(Path::new("/")).map_err(cgroup::Error::from)?;
    let found = match &record.cgroups {
        Some(cgroups) => Cgroup::at(&hierarchies, cgroups)?,
        None => Cgroup::everywhere(&hierarchies, &record.cgroup)?,
    };
    Ok(found)
}

/// The cgroup of a container that runs, which one more process is to be in; none where it has none.
///
/// # Errors
/// This process may not put others into it.
pub fn joined(record: &Record) -> Result<Cgroup, Error> {
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
