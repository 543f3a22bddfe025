//! The grammar of cgroup paths: which container or systemd unit a path names.
//!
//! Only a cgroup's name and its parents show what an engine made it for. So the heart of this module is a table
//! (`rules.rs`) with one row for each form of name. A path is read from the root inwards, and the **outermost**
//! container wins: a container with a delegated subtree may name the cgroups in it after another container. For the
//! same reason every cgroup below a container's belongs to the container, nspawn's `supervisor` and LXC's `monitor`
//! included.
//!
//! A path does not show who made it. A user who may make cgroups below a unit or a plain cgroup (such as
//! `user@UID.service`) may name them after any container of the host.

#[cfg(test)]
mod properties;
mod rules;
#[cfg(test)]
mod tests;

/// The engine that made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "an engine's name says all")]
pub enum Runtime {
    Docker,
    Containerd,
    Crio,
    Podman,
    Lxc,
    Nspawn,
    /// `agent run`.
    Agent,
    /// An engine behind Kubernetes' runtime interface that leaves no name in the path (containerd
    /// and dockershim under the cgroupfs driver).
    Cri,
    /// An engine that leaves no name in the path.
    Unknown,
}

impl Runtime {
    /// The engine's name, as written in labels and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Nspawn => "nspawn",
            Self::Agent => "agent",
            Self::Cri => "cri",
            Self::Unknown => "unknown",
        }
    }
}

/// The quality of service class of a Kubernetes pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// The class as Kubernetes writes it in paths (it leaves `guaranteed` out there).
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "guaranteed",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
        }
    }
}

/// The Kubernetes pod that a container is part of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The uid as the API server writes it: a UUID with `-`, or the 32 hexadecimal digits of a static pod.
    pub uid: String,
    /// The quality of service class that the path names.
    pub qos: Qos,
}

/// What a cgroup path names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathIdentity {
    /// A container of an engine.
    Container {
        /// The engine.
        runtime: Runtime,
        /// The engine's full id (64 lower-case hexadecimal digits). Of engines that identify containers by name, the
        /// name: 1 to 255 bytes of `A-Za-z0-9_.-` that begin with a letter or digit.
        id: String,
        /// The pod, if the parents name one.
        pod: Option<Pod>,
    },
    /// A systemd service, scope or slice.
    Unit {
        /// The name as `systemctl` prints it.
        name: String,
    },
    /// Any other cgroup, such as a pod's or the parent of an engine's containers.
    Cgroup,
    /// The hierarchy's root: its tasks are the host's.
    Root,
}

/// What a path names, and which cgroup of the path has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCgroup<'a> {
    /// What the path names.
    pub identity: PathIdentity,
    /// The named cgroup: the given path, or the part of it that leads to the container or unit.
    pub cgroup: &'a str,
}

/// Parses `path`. The path is absolute from a hierarchy's root (`/`), as in `/proc/PID/cgroup` (cgroups(7)). It must
/// not have the ` (deleted)` that the kernel appends to the path of a removed cgroup.
///
/// Any text may be given. A relative path names nothing, and neither does the part of a path behind a component that no
/// cgroup can have (empty, `.`, `..`). The kernel begins a path with `/..` when it leads out of the reader's cgroup
/// namespace. Such a path is a [`PathIdentity::Cgroup`], since it does not contain the containers around the cgroup.
pub fn identify(path: &str) -> NamedCgroup<'_> {
    let mut containers = descend(path).filter_map(|step| step.named(rules::container(&step)));
    let units = descend(path).filter_map(|step| step.named(unit(step.name)));
    let outermost = containers.next();
    outermost.or_else(|| units.last()).unwrap_or(NamedCgroup {
        identity: if path == "/" {
            PathIdentity::Root
        } else {
            PathIdentity::Cgroup
        },
        cgroup: path,
    })
}

/// Whether the path is that of a Kubernetes pod's cgroup, which may be a slice.
pub fn is_pod(path: &str) -> bool {
    rules::pod(path).is_some()
}

/// One component of a path.
struct PathComponent<'a> {
    /// The parent's path, "" for the root.
    above: &'a str,
    name: &'a str,
    path: &'a str,
}

impl<'a> PathComponent<'a> {
    fn named(&self, identity: Option<PathIdentity>) -> Option<NamedCgroup<'a>> {
        let cgroup = self.path;
        identity.map(|identity| NamedCgroup { identity, cgroup })
    }
}

fn descend(path: &str) -> impl Iterator<Item = PathComponent<'_>> {
    let absolute = if path.starts_with('/') { path } else { "" };
    let steps = absolute.match_indices('/').map(|(slash, _)| {
        let (above, rest) = absolute.split_at(slash);
        let name_len = rest[1..].find('/').unwrap_or(rest.len() - 1);
        PathComponent {
            above,
            name: &rest[1..=name_len],
            path: &absolute[..=slash + name_len],
        }
    });
    steps.take_while(|step| !matches!(step.name, "" | "." | ".."))
}

/// Reads a unit's name from a cgroup's name. systemd puts a `_` before some names (src/basic/cgroup-util.c, cg_escape):
/// those that begin with one, and those that a file of the kernel may have, such as `memory.service`.
fn unit(name: &str) -> Option<PathIdentity> {
    let name = name.strip_prefix('_').unwrap_or(name);
    is_unit_name(name).then(|| PathIdentity::Unit {
        name: name.to_owned(),
    })
}

/// Whether this is the name of a service, scope or slice (systemd.unit(5)).
pub(crate) fn is_unit_name(name: &str) -> bool {
    /// The longest name in bytes.
    const UNIT_NAME_MAX: usize = 255;
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return false;
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    matches!(kind, "service" | "scope" | "slice")
        && !stem.is_empty()
        && stem.bytes().all(allowed)
        && name.len() <= UNIT_NAME_MAX
}
