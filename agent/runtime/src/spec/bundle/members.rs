//! The members of OCI's configuration (runtime-spec 1.3, `specs-go/config.go`). The agent applies each member, or
//! refuses it by name.

use serde_json::Value;

/// What the agent does with a member, and with the members below it that have no row of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The agent applies it.
    Carried,
    /// The agent refuses a configuration with a value there.
    Refused,
    /// A limit, which [`crate::cgroup::Wanted`] applies or refuses by name.
    Limit,
    /// It is for people or for other programs, and a runtime ignores it.
    Told,
    /// It has members, each of which has its own row.
    Parts,
}

use Fate::{Carried, Limit, Parts, Refused, Told};

/// Every member, by its path: names with dots between them. The elements of a list have the list's path.
#[rustfmt::skip]
pub(super) const MEMBERS: [(&str, Fate); 132] = [
    ("ociVersion", Told),
    ("annotations", Told),
    ("hostname", Carried),
    ("domainname", Carried),
    ("hooks", Refused),
    ("root", Parts),
    ("root.path", Carried),
    ("root.readonly", Carried),
    ("mounts", Parts),
    ("mounts.destination", Carried),
    ("mounts.type", Carried),
    ("mounts.source", Carried),
    ("mounts.options", Carried),
    ("mounts.uidMappings", Refused),
    ("mounts.gidMappings", Refused),
    ("process", Parts),
    ("process.terminal", Carried),
    ("process.consoleSize", Parts),
    ("process.consoleSize.height", Carried),
    ("process.consoleSize.width", Carried),
    ("process.user", Parts),
    ("process.user.uid", Carried),
    ("process.user.gid", Carried),
    ("process.user.umask", Carried),
    ("process.user.additionalGids", Carried),
    ("process.user.username", Refused),
    ("process.args", Carried),
    ("process.commandLine", Refused),
    ("process.env", Carried),
    ("process.cwd", Carried),
    ("process.capabilities", Parts),
    ("process.capabilities.bounding", Carried),
    ("process.capabilities.effective", Carried),
    ("process.capabilities.inheritable", Carried),
    ("process.capabilities.permitted", Carried),
    ("process.capabilities.ambient", Carried),
    ("process.rlimits", Parts),
    ("process.rlimits.type", Carried),
    ("process.rlimits.hard", Carried),
    ("process.rlimits.soft", Carried),
    ("process.noNewPrivileges", Carried),
    ("process.apparmorProfile", Refused),
    ("process.selinuxLabel", Refused),
    ("process.oomScoreAdj", Carried),
    ("process.scheduler", Refused),
    ("process.ioPriority", Refused),
    ("process.execCPUAffinity", Refused),
    ("linux", Parts),
    ("linux.uidMappings", Parts),
    ("linux.uidMappings.containerID", Carried),
    ("linux.uidMappings.hostID", Carried),
    ("linux.uidMappings.size", Carried),
    ("linux.gidMappings", Parts),
    ("linux.gidMappings.containerID", Carried),
    ("linux.gidMappings.hostID", Carried),
    ("linux.gidMappings.size", Carried),
    ("linux.sysctl", Carried),
    ("linux.cgroupsPath", Carried),
    ("linux.namespaces", Parts),
    ("linux.namespaces.type", Carried),
    ("linux.namespaces.path", Carried),
    ("linux.devices", Parts),
    ("linux.devices.path", Carried),
    ("linux.devices.type", Carried),
    ("linux.devices.major", Carried),
    ("linux.devices.minor", Carried),
    ("linux.devices.fileMode", Carried),
    ("linux.devices.uid", Carried),
    ("linux.devices.gid", Carried),
    ("linux.netDevices", Refused),
    ("linux.seccomp", Parts),
    ("linux.seccomp.defaultAction", Carried),
    ("linux.seccomp.defaultErrnoRet", Carried),
    ("linux.seccomp.architectures", Carried),
    ("linux.seccomp.flags", Carried),
    ("linux.seccomp.syscalls", Parts),
    ("linux.seccomp.syscalls.names", Carried),
    ("linux.seccomp.syscalls.action", Carried),
    ("linux.seccomp.syscalls.errnoRet", Carried),
    ("linux.seccomp.syscalls.args", Parts),
    ("linux.seccomp.syscalls.args.index", Carried),
    ("linux.seccomp.syscalls.args.value", Carried),
    ("linux.seccomp.syscalls.args.valueTwo", Carried),
    ("linux.seccomp.syscalls.args.op", Carried),
    ("linux.seccomp.listenerPath", Refused),
    ("linux.seccomp.listenerMetadata", Refused),
    ("linux.rootfsPropagation", Carried),
    ("linux.maskedPaths", Carried),
    ("linux.readonlyPaths", Carried),
    ("linux.mountLabel", Refused),
    ("linux.intelRdt", Refused),
    ("linux.memoryPolicy", Refused),
    ("linux.personality", Refused),
    ("linux.timeOffsets", Carried),
    ("linux.resources", Parts),
    ("linux.resources.devices", Parts),
    ("linux.resources.devices.allow", Carried),
    ("linux.resources.devices.type", Carried),
    ("linux.resources.devices.major", Carried),
    ("linux.resources.devices.minor", Carried),
    ("linux.resources.devices.access", Carried),
    ("linux.resources.unified", Carried),
    ("linux.resources.memory", Parts),
    ("linux.resources.memory.limit", Limit),
    ("linux.resources.memory.reservation", Limit),
    ("linux.resources.memory.swap", Limit),
    ("linux.resources.memory.kernel", Limit),
    ("linux.resources.memory.kernelTCP", Limit),
    ("linux.resources.memory.swappiness", Limit),
    ("linux.resources.memory.disableOOMKiller", Limit),
    ("linux.resources.memory.useHierarchy", Limit),
    // It matters only when a limit of a running container is changed.
    ("linux.resources.memory.checkBeforeUpdate", Told),
    ("linux.resources.cpu", Parts),
    ("linux.resources.cpu.shares", Limit),
    ("linux.resources.cpu.quota", Limit),
    ("linux.resources.cpu.period", Limit),
    ("linux.resources.cpu.burst", Limit),
    ("linux.resources.cpu.idle", Limit),
    ("linux.resources.cpu.realtimeRuntime", Limit),
    ("linux.resources.cpu.realtimePeriod", Limit),
    ("linux.resources.cpu.cpus", Limit),
    ("linux.resources.cpu.mems", Limit),
    ("linux.resources.pids", Limit),
    ("linux.resources.blockIO", Limit),
    ("linux.resources.hugepageLimits", Limit),
    ("linux.resources.network", Limit),
    ("linux.resources.rdma", Limit),
    // For other operating systems, and for virtual machines.
    ("solaris", Refused),
    ("windows", Refused),
    ("vm", Refused),
    ("zos", Refused),
    ("freebsd", Refused),
];

/// The members of a configuration that the agent does not apply.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The first member that is refused.
    pub refused: Option<String>,
    /// Members that OCI does not define. OCI demands that a runtime ignores them without an error.
    pub unknown: Vec<String>,
}

/// The most unknown members that are listed.
const MOST_NAMED: usize = 8;

impl Left {
    pub(super) fn of(configuration: &Value) -> Self {
        let mut left = Self::default();
        left.look(configuration, "");
        left
    }

    fn look(&mut self, value: &Value, path: &str) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    self.member(value, path, name);
                }
            }
            Value::Array(elements) => elements.iter().for_each(|it| self.look(it, path)),
            _ => {}
        }
    }

    fn member(&mut self, value: &Value, above: &str, name: &str) {
        let path = match above {
            "" => name.to_owned(),
            above => format!("{above}.{name}"),
        };
        match fate(&path) {
            Some(Carried | Told | Limit) => {}
            Some(Parts) => self.look(value, &path),
            Some(Refused) if says_nothing(value) => {}
            Some(Refused) => drop(self.refused.get_or_insert(path)),
            None if self.unknown.len() < MOST_NAMED && !self.unknown.contains(&path) => {
                self.unknown.push(path);
            }
            None => {}
        }
    }
}

fn fate(path: &str) -> Option<Fate> {
    let mut members = MEMBERS.iter();
    let known = members.find(|(member, _)| *member == path);
    known.map(|(_, fate)| *fate)
}

/// Whether a value is equivalent to a missing member. Programs in Go write empty lists and structures for missing
/// members.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every member of OCI's configuration, with the type of its value. The list was taken from the `json` tags of
    /// `specs-go/config.go` in runtime-spec, commit 6999a89.
    const OCI: &str = include_str!("members/oci.txt");

    /// Returns a configuration with a value in one member, which is at `path`.
    fn with(path: &str, form: &str) -> Value {
        let value = match form {
            "bool" => json!(true),
            "list" => json!(["x"]),
            "map" => json!({"x": "y"}),
            "string" => json!("x"),
            form if form.starts_with(['u', 'i']) => json!(7),
            _ => json!({"x": 7}),
        };
        let names = path.split('.').rev();
        names.fold(
            value,
            |below, name| json!({ if name == "*" { "any" } else { name }: below }),
        )
    }

    fn members() -> impl Iterator<Item = (&'static str, &'static str)> {
        OCI.lines().filter_map(|line| line.split_once(' '))
    }

    /// Returns the row that decides on a member.
    fn row(path: &str) -> Option<(&'static str, Fate)> {
        let rows = MEMBERS.iter().filter(|(member, _)| {
            let rest = path.strip_prefix(member);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        rows.max_by_key(|(member, _)| member.len()).copied()
    }

    #[test]
    fn every_member_that_oci_has_is_decided_on() {
        assert!(members().count() > 170);
        for (path, form) in members() {
            let (row, fate) = row(path).unwrap_or_else(|| panic!("{path} has no row"));
            assert_ne!(fate, Parts, "{path} has no row of its own");
            let left = Left::of(&with(path, form));
            assert_eq!(left.unknown, [""; 0], "{path}");
            let refused = (fate == Refused).then(|| row.to_owned());
            assert_eq!(left.refused, refused, "{path}");
        }
    }

    #[test]
    fn every_row_is_of_a_member_that_oci_has() {
        for (row, _) in MEMBERS {
            let is_it = |path: &str| {
                let rest = path.strip_prefix(row);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            assert!(members().any(|(path, _)| is_it(path)), "{row}");
        }
    }

    #[test]
    fn what_says_nothing_is_no_reason() {
        let left = Left::of(&json!({
            "hooks": {"prestart": [], "poststop": null},
            "process": {"apparmorProfile": "", "ioPriority": null},
            "linux": {"intelRdt": {}, "netDevices": {}, "mountLabel": ""},
            "windows": {},
        }));
        assert_eq!(left, Left::default());
    }

    #[test]
    fn what_oci_does_not_know_is_named_once() {
        let left = Left::of(&json!({
            "mounts": [{"destination": "/a", "x": 1}, {"destination": "/b", "x": 1}],
            "process": {"capabilities": {"bouding": []}},
        }));
        assert_eq!(left.refused, None);
        assert_eq!(left.unknown, ["mounts.x", "process.capabilities.bouding"]);
    }
}
