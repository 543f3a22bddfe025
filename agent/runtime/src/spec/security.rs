//! Compiles what a container's processes may do: capabilities, system calls, paths below /proc and /sys, resource
//! limits.

use std::collections::HashSet;

use caps::Capability;
use oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxSeccomp, PosixRlimit, PosixRlimitBuilder,
};

use super::flags::{Flags, Security};
use super::value::{CapabilityName, SecurityOption};
use super::{Error, SpecFacts};
use crate::launch::too_few_descriptors;

/// Docker's default set (moby: oci/caps/defaults.go).
const DEFAULT: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// The paths that docker hides from every container.
pub(super) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// The paths that docker makes read-only in every container.
pub(super) const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Returns the capabilities of a container whose init process runs as root.
pub(super) fn capabilities(asked: &Security, found: &SpecFacts) -> Result<Vec<Capability>, Error> {
    use CapabilityName::{All, One};
    let held = &found.capabilities;
    let added_all = asked.privileged || asked.cap_add.contains(&All);
    let mut kept: HashSet<Capability> = if added_all {
        held.clone()
    } else if asked.cap_drop.contains(&All) {
        HashSet::new()
    } else {
        DEFAULT.into_iter().filter(|it| held.contains(it)).collect()
    };
    for name in &asked.cap_drop {
        if let One(capability) = name {
            kept.remove(capability);
        }
    }
    for name in &asked.cap_add {
        let One(capability) = name else { continue };
        if !held.contains(capability) {
            let reason = "this command does not have it itself, so it cannot give it";
            return Err(Error::flag("--cap-add", &capability.to_string(), reason));
        }
        kept.insert(*capability);
    }
    let mut kept: Vec<Capability> = kept.into_iter().collect();
    kept.sort_unstable_by_key(Capability::index);
    Ok(kept)
}

/// Returns OCI's sets for these capabilities. The inheritable and ambient sets are empty.
pub(super) fn capability_sets(kept: &[Capability]) -> LinuxCapabilities {
    let names = kept.iter().filter_map(|it| {
        let name = it.to_string();
        name.strip_prefix("CAP_")?.parse().ok()
    });
    let names: Capabilities = names.collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(names.clone()));
    sets.set_effective(Some(names.clone()));
    sets.set_permitted(Some(names));
    sets.set_inheritable(Some(HashSet::new()));
    sets.set_ambient(Some(HashSet::new()));
    sets
}

/// Returns the profile for system calls; `None` where all are allowed.
pub(super) fn filter(asked: &Security, kept: &[Capability]) -> Result<Option<LinuxSeccomp>, Error> {
    let last = asked
        .security_opt
        .iter()
        .rev()
        .find_map(|option| match option {
            SecurityOption::SeccompUnconfined => Some(None),
            SecurityOption::SeccompProfile(path) => Some(Some(path)),
            _ => None,
        });
    Ok(match last {
        None if !asked.privileged => Some(agent_seccomp::default_profile(kept)),
        None | Some(None) => None,
        Some(Some(path)) => Some(agent_seccomp::read_profile(path, kept)?),
    })
}

/// Whether execve(2) grants no privileges (`PR_SET_NO_NEW_PRIVS`). The last option wins.
pub(super) fn no_new_privileges(asked: &Security) -> bool {
    let said = asked
        .security_opt
        .iter()
        .rev()
        .find_map(|option| match option {
            SecurityOption::NoNewPrivileges(value) => Some(*value),
            _ => None,
        });
    said.unwrap_or(!asked.privileged)
}

/// Returns the resource limits of the container's processes. The last limit of a name wins.
pub(super) fn rlimits(flags: &Flags, found: &SpecFacts) -> Result<Option<Vec<PosixRlimit>>, Error> {
    let mut limits: Vec<(&'static str, PosixRlimit)> = Vec::new();
    for asked in &flags.process.ulimit {
        let most = found
            .hard_limits
            .get(asked.name)
            .copied()
            .unwrap_or(u64::MAX);
        if asked.hard > most {
            let shown = match asked.hard {
                u64::MAX => format!("{}=unlimited", asked.name),
                hard => format!("{}={hard}", asked.name),
            };
            let reason =
                format!("the hard limit of this command is {most}, which it cannot exceed");
            return Err(Error::flag("--ulimit", &shown, &reason));
        }
        if asked.name == "nofile"
            && let Some(reason) = too_few_descriptors(asked.soft)
        {
            let shown = format!("nofile={}", asked.soft);
            return Err(Error::flag("--ulimit", &shown, &reason));
        }
        let limit = PosixRlimitBuilder::default()
            .typ(asked.kind)
            .soft(asked.soft)
            .hard(asked.hard)
            .build()?;
        limits.retain(|(name, _)| *name != asked.name);
        limits.push((asked.name, limit));
    }
    let limits: Vec<PosixRlimit> = limits.into_iter().map(|(_, limit)| limit).collect();
    Ok((!limits.is_empty()).then_some(limits))
}

/// Returns the hidden paths and the read-only paths.
pub(super) fn system_paths(asked: &Security) -> (Vec<String>, Vec<String>) {
    let shown = SecurityOption::SystemPathsUnconfined;
    if asked.privileged || asked.security_opt.contains(&shown) {
        return (Vec::new(), Vec::new());
    }
    let owned = |paths: &[&str]| paths.iter().map(|&it| it.to_owned()).collect();
    (owned(&MASKED), owned(&READ_ONLY))
}
