//! Finds what a process is not isolated from. This module does no I/O.

use agent_host::process::IdRange;
use agent_model::limit::Kind;
use agent_model::names::quoted;
use serde::Serialize;

use super::{ChangedRoot, Namespace, ProcessReport};

/// A lack of isolation: something that a process shares with the host or another container, or may do without a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// One word for it: the type of a namespace, `root`, `mounts`, `uid`, `capabilities`, `no_new_privs`, `seccomp`, or
    /// the name of a limit.
    pub about: String,
    /// A sentence that says what is not isolated.
    pub text: String,
}

/// The capabilities with which a process in the host's user namespace can affect the whole host.
const OF_THE_HOST: [&str; 13] = [
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_PERFMON",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYSLOG",
];

/// The limits without which a process may use all of a resource of the host.
const LIMITS: [(Kind, &str); 3] = [
    (Kind::Memory, "no limit of memory"),
    (Kind::CpuQuota, "no limit of CPU time"),
    (Kind::Pids, "no limit of processes"),
];

/// Returns the gaps in the order of the report.
pub(super) fn gaps(report: &ProcessReport) -> Vec<Gap> {
    let namespaces = report.namespaces.iter().filter_map(namespace);
    let rest = [
        root(report),
        mounts(report),
        uid(report),
        capabilities(report),
        no_new_privs(report),
        seccomp(report),
    ];
    let limits = LIMITS.iter().filter_map(|it| limit(report, it));
    namespaces
        .chain(rest.into_iter().flatten())
        .chain(limits)
        .collect()
}

fn gap(about: impl Into<String>, text: impl Into<String>) -> Gap {
    Gap {
        about: about.into(),
        text: text.into(),
    }
}

fn namespace(namespace: &Namespace) -> Option<Gap> {
    let kind = &*namespace.kind;
    let names = || {
        let names = namespace.shared_with.iter().map(|it| quoted(&it.name));
        names.collect::<Vec<_>>().join(", ")
    };
    match namespace {
        // `uid` reports a process in the host's user namespace.
        Namespace { host: true, .. } if kind == "user" => None,
        Namespace { host: true, .. } => Some(gap(kind, format!("{kind} namespace is the host's"))),
        Namespace { shared_with, .. } if !shared_with.is_empty() => Some(gap(
            kind,
            format!("shares {kind} namespace with {}", names()),
        )),
        _ => None,
    }
}

fn root(report: &ProcessReport) -> Option<Gap> {
    let root = report.root.value.as_ref()?;
    let text = match root.how {
        ChangedRoot::PivotRoot => return None,
        ChangedRoot::Chroot => "root by chroot: isolates nothing but the path",
        ChangedRoot::Unchanged => "root is the host's",
    };
    Some(gap("root", text))
}

fn mounts(report: &ProcessReport) -> Option<Gap> {
    let mounts = report.mounts.value.as_ref()?;
    let with_host = mounts.with_host();
    let points: Vec<&str> = with_host.map(|(mount, _)| &*mount.mount.point).collect();
    let text = match points[..] {
        [] => return None,
        [point] => format!("mounts go between {point} and the host"),
        [first, ..] => format!(
            "mounts go between {first} and {} more and the host",
            points.len() - 1
        ),
    };
    Some(gap("mounts", text))
}

fn uid(report: &ProcessReport) -> Option<Gap> {
    const HOSTS: &str = "uid 0 is the host's uid 0";
    let map = report.uid_map.value.as_ref()?;
    if outside(map, 0) != Some(0) {
        return None;
    }
    let text = if is_in_host(report, "user") {
        format!("{HOSTS} (no user namespace)")
    } else {
        format!("{HOSTS} (by its uid_map)")
    };
    Some(gap("uid", text))
}

/// Returns the id outside the user namespace that `id` is mapped to.
fn outside(map: &[IdRange], id: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside)?;
        (offset < range.count).then(|| range.outside.checked_add(offset))?
    })
}

fn is_in_host(report: &ProcessReport, kind: &str) -> bool {
    let mut namespaces = report.namespaces.iter();
    namespaces.any(|it| it.kind == kind && it.host)
}

/// Reports the permitted capabilities that affect the host. In another user namespace than the host's, capabilities
/// apply only to that namespace's own resources (user_namespaces(7)).
fn capabilities(report: &ProcessReport) -> Option<Gap> {
    let held = report.capabilities.get("permitted")?.value.as_ref()?;
    if !is_in_host(report, "user") {
        return None;
    }
    let network = is_in_host(report, "net").then_some("CAP_NET_ADMIN");
    let of_host = network.into_iter().chain(OF_THE_HOST);
    let names: Vec<&str> = of_host
        .filter(|name| held.iter().any(|it| it == name))
        .collect();
    (!names.is_empty()).then(|| gap("capabilities", format!("has {}", names.join(", "))))
}

fn no_new_privs(report: &ProcessReport) -> Option<Gap> {
    let text = "no_new_privs off: programs with set-user-ID give privileges";
    (report.no_new_privs.value == Some(false)).then(|| gap("no_new_privs", text))
}

fn seccomp(report: &ProcessReport) -> Option<Gap> {
    let text = "seccomp off: every system call is allowed";
    (report.seccomp.value == Some("off")).then(|| gap("seccomp", text))
}

fn limit(report: &ProcessReport, (kind, text): &(Kind, &str)) -> Option<Gap> {
    // Without the cgroups of the process, its limits are not known either.
    report.cgroups.value.as_ref()?;
    let mut limits = report.limits.iter();
    let found = limits.find(|it| it.kind == *kind);
    let unlimited = found.is_none_or(|it| it.effective.is_none() && it.unreadable.is_none());
    unlimited.then(|| gap(kind.flag(), *text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ContainerName;
    use crate::inspect::Fact;
    use crate::inspect::LimitReport;
    use crate::inspect::ProcessRoot;
    use crate::inspect::ReachableMounts;

    fn fact<T>(value: T) -> Fact<T> {
        Fact {
            value: Some(value),
            source: String::new(),
            unreadable: None,
        }
    }

    fn unreadable<T>() -> Fact<T> {
        Fact {
            value: None,
            source: String::new(),
            unreadable: Some("Permission denied".to_owned()),
        }
    }

    fn namespace(kind: &str, host: bool, shared_with: &[&str]) -> Namespace {
        let name = |name: &&str| ContainerName {
            name: (*name).to_owned(),
            id: String::new(),
            runtime: String::new(),
            kind: Default::default(),
        };
        Namespace {
            kind: kind.to_owned(),
            name: None,
            inode: 1,
            host,
            processes: 1,
            shared_with: shared_with.iter().map(name).collect(),
            source: String::new(),
        }
    }

    fn report(
        namespaces: Vec<Namespace>,
        how: ChangedRoot,
        capabilities: &[&str],
    ) -> ProcessReport {
        let names = capabilities.iter().map(|it| (*it).to_owned()).collect();
        let all = IdRange {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        };
        ProcessReport {
            pid: 7,
            container: None,
            comm: fact(String::new()),
            executable: unreadable(),
            command: unreadable(),
            started: unreadable(),
            hostname: unreadable(),
            interfaces: unreadable(),
            usage: None,
            namespaces,
            threads: Vec::new(),
            root: fact(ProcessRoot {
                how,
                path: "/".to_owned(),
            }),
            mounts: fact(ReachableMounts::new(vec![], &None)),
            uid_map: fact(vec![all]),
            gid_map: fact(vec![all]),
            capabilities: BTreeMap::from([("permitted", fact(names))]),
            no_new_privs: fact(true),
            seccomp: fact("filter"),
            seccomp_filters: fact(1),
            cgroups: fact(vec![]),
            limits: LIMITS
                .map(|(kind, _)| LimitReport::unreadable(kind, None, String::new()))
                .into(),
            not_judged: vec![],
            not_isolated: vec![],
        }
    }

    fn texts(report: &ProcessReport) -> Vec<String> {
        gaps(report).into_iter().map(|gap| gap.text).collect()
    }

    #[test]
    fn whose_namespaces_it_is_in() {
        let namespaces = vec![
            namespace("net", true, &["web"]),
            namespace("pid", false, &["web", "host"]),
            namespace("user", false, &[]),
        ];
        let mut report = report(namespaces, ChangedRoot::PivotRoot, &["CAP_SYS_ADMIN"]);
        let wanted = [
            "net namespace is the host's",
            "shares pid namespace with web, \"host\"",
            "uid 0 is the host's uid 0 (by its uid_map)",
        ];
        assert_eq!(texts(&report), wanted);
        report.uid_map = fact(vec![IdRange {
            inside: 0,
            outside: 100_000,
            count: 65_536,
        }]);
        assert_eq!(texts(&report), wanted[..2]);
    }

    #[test]
    fn what_it_is_allowed() {
        let held = ["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"];
        let namespaces = vec![namespace("user", true, &[])];
        let mut report = report(namespaces, ChangedRoot::Chroot, &held);
        report.no_new_privs = fact(false);
        report.seccomp = fact("off");
        report.limits.clear();
        let wanted = [
            "root by chroot: isolates nothing but the path",
            "uid 0 is the host's uid 0 (no user namespace)",
            "has CAP_SYS_ADMIN",
            "no_new_privs off: programs with set-user-ID give privileges",
            "seccomp off: every system call is allowed",
            "no limit of memory",
            "no limit of CPU time",
            "no limit of processes",
        ];
        assert_eq!(texts(&report), wanted);
        report.namespaces.push(namespace("net", true, &[]));
        assert!(texts(&report).contains(&"has CAP_NET_ADMIN, CAP_SYS_ADMIN".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_is_no_gap() {
        let mut report = report(vec![], ChangedRoot::Unchanged, &[]);
        assert_eq!(texts(&report)[0], "root is the host's");
        report.root = unreadable();
        report.mounts = unreadable();
        report.uid_map = unreadable();
        report.seccomp = unreadable();
        report.no_new_privs = unreadable();
        report.capabilities.clear();
        report.cgroups = unreadable();
        report.limits.clear();
        assert_eq!(texts(&report), Vec::<String>::new());
    }

    #[test]
    fn ids_outside() {
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        let map = [range(5, 100, 2), range(0, u32::MAX, 2)];
        for (id, wanted) in [
            (0, Some(u32::MAX)),
            (1, None),
            (4, None),
            (5, Some(100)),
            (6, Some(101)),
            (7, None),
        ] {
            assert_eq!(outside(&map, id), wanted, "{id}");
        }
    }
}
