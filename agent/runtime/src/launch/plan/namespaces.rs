//! Decides which namespaces the launcher and the new process make, and which ones they join.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use agent_host::regular::{self, Links};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::path_text;
use crate::launch::Error;

/// The namespace types: OCI's, the kernel's flag, and a name for people.
const KINDS: [(LinuxNamespaceType, i32, &str); 8] = [
    // The user namespace is joined first, because it gives the rights over the others.
    (LinuxNamespaceType::User, libc::CLONE_NEWUSER, "user"),
    (LinuxNamespaceType::Mount, libc::CLONE_NEWNS, "mount"),
    (LinuxNamespaceType::Pid, libc::CLONE_NEWPID, "pid"),
    (LinuxNamespaceType::Network, libc::CLONE_NEWNET, "network"),
    (LinuxNamespaceType::Ipc, libc::CLONE_NEWIPC, "ipc"),
    (LinuxNamespaceType::Uts, libc::CLONE_NEWUTS, "uts"),
    (LinuxNamespaceType::Cgroup, libc::CLONE_NEWCGROUP, "cgroup"),
    (LinuxNamespaceType::Time, libc::CLONE_NEWTIME, "time"),
];

#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// The flags (`CLONE_NEW*`) of the namespaces that are made for the container.
    pub new: i32,
    /// The flags of those that the new process makes itself with unshare(2). It makes the cgroup namespace once it is
    /// in its own cgroup. It makes the network namespace beside the launcher's work, because the kernel needs twice as
    /// long for that one as for all others.
    pub unshared: i32,
    pub joined: Vec<Join>,
    pub uid_map: String,
    pub gid_map: String,
    /// The text for `/proc/PID/timens_offsets`. Empty where there is no new time namespace.
    pub time_offsets: String,
}

/// Namespaces to be joined through one descriptor.
#[derive(Debug)]
pub(crate) struct Join {
    pub namespace: OwnedFd,
    /// The flags (`CLONE_NEW*`) of the types to join.
    pub kinds: i32,
    pub subject: CString,
}

impl Namespaces {
    /// Where `connected`, the launcher puts an interface into the new network namespace. The clone makes that namespace
    /// then, so that it exists early enough.
    pub(crate) fn new(linux: &Linux, connected: bool) -> Result<Self, Error> {
        let mut namespaces = Self {
            unshared: libc::CLONE_NEWCGROUP | if connected { 0 } else { libc::CLONE_NEWNET },
            ..Self::default()
        };
        let wanted = linux.namespaces().as_deref().unwrap_or_default();
        for (kind, flag, name) in KINDS {
            let Some(wanted) = wanted.iter().find(|wanted| wanted.typ() == kind) else {
                continue;
            };
            match wanted.path() {
                None => namespaces.new |= flag,
                Some(path) => {
                    let namespace =
                        regular::open(path, Links::Followed).map_err(|source| Error::Step {
                            step: "join",
                            subject: format!("{name} namespace {}", path.display()),
                            source,
                        })?;
                    namespaces.joined.push(Join {
                        namespace: namespace.into(),
                        kinds: flag,
                        subject: path_text(path)?,
                    });
                }
            }
        }
        if !namespaces.has(libc::CLONE_NEWNS) {
            return Err(Error::invalid(
                "mount namespace: a container needs a new one of its own; add it to linux.namespaces",
            ));
        }
        namespaces.uid_map = map(linux.uid_mappings().as_deref());
        namespaces.gid_map = map(linux.gid_mappings().as_deref());
        namespaces.check_user()?;
        namespaces.time_offsets = time_offsets(linux, namespaces.has(libc::CLONE_NEWTIME))?;
        Ok(namespaces)
    }

    #[must_use]
    pub(crate) const fn has(&self, kind: i32) -> bool {
        self.new & kind != 0
    }

    /// Tells whether the container's user namespace differs from the launcher's.
    #[must_use]
    pub(crate) fn other_users(&self) -> bool {
        self.has(libc::CLONE_NEWUSER) || self.joins(libc::CLONE_NEWUSER)
    }

    #[must_use]
    pub(crate) fn joins(&self, kind: i32) -> bool {
        self.joined.iter().any(|join| join.kinds & kind != 0)
    }

    /// Returns the join through whose descriptor only a namespace of this type is joined.
    #[must_use]
    pub(crate) fn joined_through(&self, kind: i32) -> Option<&Join> {
        self.joined.iter().find(|join| join.kinds == kind)
    }

    /// Removes the join through whose descriptor only a namespace of this type is joined, and returns it.
    pub(crate) fn take_joined(&mut self, kind: i32) -> Option<Join> {
        let at = self.joined.iter().position(|join| join.kinds == kind)?;
        Some(self.joined.remove(at))
    }

    /// Returns the flags of the namespaces that clone3(2) makes. The time namespace is made before, with its offsets.
    #[must_use]
    pub(crate) const fn cloned(&self) -> i32 {
        self.new & !self.unshared & !libc::CLONE_NEWTIME
    }

    /// Tells whether this process is in a user namespace other than the initial one, where it may not make device
    /// nodes.
    #[must_use]
    pub(crate) fn is_unprivileged(&self) -> bool {
        agent_host::launch::is_in_user_namespace()
    }

    fn check_user(&self) -> Result<(), Error> {
        let mapped = !self.uid_map.is_empty() && !self.gid_map.is_empty();
        match (self.has(libc::CLONE_NEWUSER), mapped) {
            (true, false) => Err(Error::invalid(
                "user namespace: it has no uid or no gid map; give both",
            )),
            (false, true) => Err(Error::invalid(
                "uid map: there is no new user namespace to use it in; ask for one",
            )),
            _ => Ok(()),
        }
    }
}

fn map(mappings: Option<&[LinuxIdMapping]>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for map in mappings.unwrap_or_default() {
        let (inside, outside, size) = (map.container_id(), map.host_id(), map.size());
        let _ = writeln!(text, "{inside} {outside} {size}");
    }
    text
}

fn time_offsets(linux: &Linux, is_new: bool) -> Result<String, Error> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let Some(offsets) = linux.time_offsets() else {
        return Ok(text);
    };
    if !is_new && !offsets.is_empty() {
        return Err(Error::invalid(
            "time offsets: there is no new time namespace to have them; ask for one",
        ));
    }
    for (clock, offset) in offsets {
        let (seconds, nanoseconds) = (
            offset.secs().unwrap_or_default(),
            offset.nanosecs().unwrap_or_default(),
        );
        let _ = writeln!(text, "{clock} {seconds} {nanoseconds}");
    }
    Ok(text)
}
