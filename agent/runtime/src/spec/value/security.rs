//! Parses the values of flags that restrict processes.

use std::path::PathBuf;
use std::str::FromStr;

use caps::Capability;
use oci_spec::runtime::PosixRlimitType;

/// A capability, or `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityName {
    /// All capabilities.
    All,
    /// One capability.
    One(Capability),
}

/// One of docker's `--security-opt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityOption {
    /// Whether execve(2) grants no privileges.
    NoNewPrivileges(bool),
    /// No system call filter is installed.
    SeccompUnconfined,
    /// The filter is compiled from this file.
    SeccompProfile(PathBuf),
    /// No paths below /proc and /sys are hidden or read-only.
    SystemPathsUnconfined,
}

/// `NAME=SOFT[:HARD]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// The limit, as OCI names it.
    pub kind: PosixRlimitType,
    /// The limit, as docker names it.
    pub name: &'static str,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// Docker's name of each resource limit (getrlimit(2)), OCI's type, and rustix's value to read it; rustix cannot read
/// all.
pub(in crate::spec) const ULIMITS: [(&str, PosixRlimitType, Option<rustix::process::Resource>);
    15] = {
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
