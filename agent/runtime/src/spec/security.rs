//! What a container's processes may: capabilities, system calls, kernel settings, limits of their own.

use std::collections::HashSet;
use std::path::PathBuf;
use std::str::FromStr;

use caps::Capability;
use oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxSeccomp, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use super::flags::{Flags, Security};
use super::{Error, Found};
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

/// What no container sees: docker's.
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

/// What no container writes to: docker's.
pub(super) const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A capability, or `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityName {
    All,
    One(Capability),
}

/// One of docker's `--security-opt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityOption {
    NoNewPrivileges(bool),
    SeccompUnconfined,
    SeccompProfile(PathBuf),
    SystemPathsUnconfined,
}

/// `NAME=SOFT[:HARD]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    pub kind: PosixRlimitType,
    pub name: &'static str,
    pub soft: u64,
    pub hard: u64,
}

/// Docker's names of limits (getrlimit(2)), and how to ask what they are; the library cannot ask for all.
pub(super) const ULIMITS: [(&str, PosixRlimitType, Option<rustix::process::Resource>); 15] = {
    use PosixRlimitType as Type;
    use rustix::process::Resource;
    [
        ("core", Type::RlimitCore, Some(Resource::Core)),
        ("cpu", Type::RlimitCpu, Some(Resource::Cpu)),
        ("data", Type::RlimitData, Some(Resource::Data)),
        ("fsize", Type::RlimitFsize, Some(Resource::Fsize)),
        ("locks", Type::RlimitLocks, Some(Resource::Locks)),
        ("memlock", Type::RlimitMemlock, Some(Resource::Memlock)),
        ("msgqueue", Type::RlimitMsgqueue, Some(Resource::Msgqueue)),
        ("nice", Type::RlimitNice, Some(Resource::Nice)),
        ("nofile", Type::RlimitNofile, Some(Resource::Nofile)),
        ("nproc", Type::RlimitNproc, Some(Resource::Nproc)),
        ("rss", Type::RlimitRss, Some(Resource::Rss)),
        ("rtprio", Type::RlimitRtprio, Some(Resource::Rtprio)),
        ("rttime", Type::RlimitRttime, None),
        (
            "sigpending",
            Type::RlimitSigpending,
            Some(Resource::Sigpending),
        ),
        ("stack", Type::RlimitStack, Some(Resource::Stack)),
    ]
};

impl FromStr for CapabilityName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::All);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match format!("CAP_{name}").parse() {
            Ok(capability) => Ok(Self::One(capability)),
            Err(_) => Err("wanted: a name of capabilities(7), as in NET_ADMIN, or ALL".to_owned()),
        }
    }
}

impl FromStr for SecurityOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once(['=', ':']) {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match (name, value) {
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("seccomp", Some("unconfined")) => Ok(Self::SeccompUnconfined),
            ("seccomp", Some(path)) if !path.is_empty() => Ok(Self::SeccompProfile(path.into())),
            ("systempaths", Some("unconfined")) => Ok(Self::SystemPathsUnconfined),
            _ => Err(
                "wanted: seccomp=unconfined, seccomp=FILE, no-new-privileges[=false] or \
                 systempaths=unconfined"
                    .to_owned(),
            ),
        }
    }
}

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || {
            let names: Vec<&str> = ULIMITS.iter().map(|(name, ..)| *name).collect();
            format!(
                "wanted: NAME=SOFT[:HARD], as in nofile=1024:4096; names are {}",
                names.join(", ")
            )
        };
        let (name, limits) = text.split_once('=').ok_or_else(wanted)?;
        let known = ULIMITS.iter().find(|(known, ..)| *known == name);
        let &(name, kind, _) = known.ok_or_else(wanted)?;
        let number = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            _ => text.parse().map_err(|_| wanted()),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(format!(
                "the soft limit {soft} is above the hard limit {hard}"
            ));
        }
        Ok(Self {
            kind,
            name,
            soft,
            hard,
        })
    }
}

/// The capabilities of the container, as sets for its first process: root's. Ambient and inheritable ones there are none.
pub(super) fn capabilities(asked: &Security, found: &Found) -> Result<Vec<Capability>, Error> {
    use CapabilityName::{All, One};
    let held = &found.capabilities;
    let added_all = asked.cap_add.contains(&All);
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

/// Those capabilities in OCI's words.
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

/// Which system calls it may make; `None`: all.
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
        None => Some(agent_seccomp::default_profile(kept)),
        Some(None) => None,
        Some(Some(path)) => Some(agent_seccomp::read_profile(path, kept)?),
    })
}

/// Whether programs can gain nothing by being executed.
pub(super) fn no_new_privileges(asked: &Security) -> bool {
    let said = asked
        .security_opt
        .iter()
        .rev()
        .find_map(|option| match option {
            SecurityOption::NoNewPrivileges(value) => Some(*value),
            _ => None,
        });
    said.unwrap_or(true)
}

/// The limits of its processes.
pub(super) fn rlimits(flags: &Flags, found: &Found) -> Result<Option<Vec<PosixRlimit>>, Error> {
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
                format!("the hard limit of this command is {most}, and it goes no further");
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

/// Paths that are hidden, and paths that are read-only.
pub(super) fn system_paths(asked: &Security) -> (Vec<String>, Vec<String>) {
    if asked
        .security_opt
        .contains(&SecurityOption::SystemPathsUnconfined)
    {
        return (Vec::new(), Vec::new());
    }
    let owned = |paths: &[&str]| paths.iter().map(|&it| it.to_owned()).collect();
    (owned(&MASKED), owned(&READ_ONLY))
}
