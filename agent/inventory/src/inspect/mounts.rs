//! The root of a process, how the root was changed, and the propagation of mounts between the process and the host.
//! This module does no I/O.

use std::collections::BTreeSet;

use agent_host::mount::MountPoint;
use serde::Serialize;

/// The mounts that a process can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReachableMounts {
    /// The number of private mounts (mount_namespaces(7)).
    pub private: usize,
    /// The number of shared mounts.
    pub shared: usize,
    /// The number of slave mounts.
    pub slave: usize,
    /// The number of unbindable mounts.
    pub unbindable: usize,
    /// All of them.
    pub all: Vec<ReachableMount>,
}

/// A mount, and whether mount events pass between it and the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReachableMount {
    /// The mount.
    #[serde(flatten)]
    pub mount: MountPoint,
    /// The direction in which mount events pass between this mount and the host's mounts. Null where they do not pass,
    /// or the process is in the host's mount namespace.
    pub propagates: Option<Propagates>,
}

/// How mount events pass between the host and the process (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagates {
    /// Mounts made on either side appear on the other.
    BothWays,
    /// Mounts made on the host appear here.
    FromHost,
    /// Mounts made here appear on the host.
    ToHost,
}

/// The root of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRoot {
    /// How the root was changed.
    pub how: ChangedRoot,
    /// The path of the root in the mount namespace of the process.
    pub path: String,
}

/// How a process got its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedRoot {
    /// The root is the host's, with the same mount options.
    Unchanged,
    /// The root is another mount than the host's, and is the root of the mount namespace.
    PivotRoot,
    /// The root is not the root of the mount namespace, which still has everything above it.
    Chroot,
}

/// The host's mounts; `None` for a process in the host's mount namespace.
pub(super) type HostMounts = Option<Vec<MountPoint>>;

/// Finds out how a process got its root. `link` is the target of `/proc/PID/root`. The kernel writes it as a path in
/// the mount namespace of the process, in which `/` is the root.
pub(super) fn root(link: &str, mounts: &[MountPoint], host: &HostMounts) -> ProcessRoot {
    let at_root = |mounts: &[MountPoint]| {
        // The last mount at a path is the one on top.
        let on_top = mounts.iter().rfind(|mount| mount.point == "/");
        on_top.map(|it| (it.device.clone(), it.root.clone(), it.options.clone()))
    };
    let own = at_root(mounts);
    let how = match host {
        // A root that is attached nowhere any more is in no mount namespace, so no mount of the list is at `/`.
        _ if link != "/" || own.is_none() => ChangedRoot::Chroot,
        None => ChangedRoot::Unchanged,
        Some(host) if own == at_root(host) => ChangedRoot::Unchanged,
        Some(_) => ChangedRoot::PivotRoot,
    };
    ProcessRoot {
        how,
        path: link.to_owned(),
    }
}

/// Directories in which the kernel and the launcher put what every container has.
const USUAL: [&str; 3] = ["proc", "sys", "dev"];

impl ReachableMounts {
    /// Compares the mounts with the host's.
    pub fn new(mounts: Vec<MountPoint>, host: &HostMounts) -> Self {
        let host = Groups::of(host.as_deref().unwrap_or_default());
        let count = |propagation| {
            let of = mounts
                .iter()
                .filter(|mount| self::propagation(mount) == propagation);
            of.count()
        };
        Self {
            private: count("private"),
            shared: count("shared"),
            slave: count("slave"),
            unbindable: count("unbindable"),
            all: mounts
                .iter()
                .map(|mount| ReachableMount {
                    propagates: host.propagates(mount),
                    mount: mount.clone(),
                })
                .collect(),
        }
    }

    /// Returns the mounts beside the root that bring files into the container: all outside of `/proc`, `/sys` and `/dev`
    /// that are not an empty tmpfs of the container's own.
    pub fn of_files(&self) -> impl Iterator<Item = &MountPoint> {
        let mounts = self.all.iter().map(|it| &it.mount);
        mounts.filter(|it| {
            let top = it.point.split('/').nth(1).unwrap_or_default();
            let is_fresh = it.kind == "tmpfs" && it.root == "/";
            !top.is_empty() && !USUAL.contains(&top) && !is_fresh
        })
    }

    /// Returns the mounts that mount events pass to or from on the host, with the direction.
    pub fn with_host(&self) -> impl Iterator<Item = (&ReachableMount, Propagates)> {
        self.all
            .iter()
            .filter_map(|mount| Some((mount, mount.propagates?)))
    }
}

/// Returns a mount's propagation as one word. A mount that is both shared and a slave counts as shared.
pub(super) fn propagation(mount: &MountPoint) -> &'static str {
    match mount {
        MountPoint {
            shared: Some(_), ..
        } => "shared",
        MountPoint {
            master: Some(_), ..
        } => "slave",
        MountPoint {
            unbindable: true, ..
        } => "unbindable",
        _ => "private",
    }
}

/// The peer groups of the host's mounts, and the peer groups that these receive events from.
struct Groups {
    shared: BTreeSet<u32>,
    masters: BTreeSet<u32>,
}

impl Groups {
    fn of(mounts: &[MountPoint]) -> Self {
        Self {
            shared: mounts.iter().filter_map(|mount| mount.shared).collect(),
            masters: mounts.iter().filter_map(|mount| mount.master).collect(),
        }
    }

    fn propagates(&self, mount: &MountPoint) -> Option<Propagates> {
        let is_in = |group: Option<u32>, groups: &BTreeSet<u32>| {
            group.is_some_and(|group| groups.contains(&group))
        };
        let peer = is_in(mount.shared, &self.shared);
        let from = peer || is_in(mount.master, &self.shared);
        let to = peer || is_in(mount.shared, &self.masters);
        match (from, to) {
            (true, true) => Some(Propagates::BothWays),
            (true, false) => Some(Propagates::FromHost),
            (false, true) => Some(Propagates::ToHost),
            (false, false) => None,
        }
    }
}

impl Propagates {
    /// Returns the direction in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::BothWays => "to and from the host",
            Self::FromHost => "from the host",
            Self::ToHost => "to the host",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, shared: Option<u32>, master: Option<u32>) -> MountPoint {
        MountPoint {
            point: point.to_owned(),
            root: "/".to_owned(),
            kind: "ext4".to_owned(),
            device: "254:0".to_owned(),
            options: "rw".to_owned(),
            shared,
            master,
            unbindable: false,
        }
    }

    #[test]
    fn how_a_root_was_changed() {
        let plain = || vec![mount("/", None, None), mount("/proc", None, None)];
        let mut other = plain();
        other[0].options = "ro".to_owned();
        for (link, mounts, host, how) in [
            ("/", plain(), None, ChangedRoot::Unchanged),
            ("/", plain(), Some(plain()), ChangedRoot::Unchanged),
            ("/", other.clone(), Some(plain()), ChangedRoot::PivotRoot),
            ("/tmp", other, Some(plain()), ChangedRoot::Chroot),
            ("/srv", vec![], None, ChangedRoot::Chroot),
            ("/", vec![], Some(plain()), ChangedRoot::Chroot),
        ] {
            let wanted = ProcessRoot {
                how,
                path: link.to_owned(),
            };
            assert_eq!(root(link, &mounts, &host), wanted);
        }
    }

    #[test]
    fn which_way_mounts_go() {
        let host = vec![mount("/", Some(1), None), mount("/a", Some(2), Some(9))];
        let mut apart = mount("/f", None, None);
        apart.unbindable = true;
        let own = vec![
            mount("/", None, Some(1)),
            mount("/b", Some(2), None),
            mount("/c", Some(9), Some(5)),
            mount("/d", Some(7), Some(1)),
            mount("/e", None, None),
            apart,
        ];
        let mounts = ReachableMounts::new(own.clone(), &Some(host));
        let counts = (
            mounts.private,
            mounts.shared,
            mounts.slave,
            mounts.unbindable,
        );
        assert_eq!(counts, (1, 3, 1, 1));
        let with_host: Vec<_> = mounts
            .with_host()
            .map(|(it, way)| (&*it.mount.point, way))
            .collect();
        let wanted = [
            ("/", Propagates::FromHost),
            ("/b", Propagates::BothWays),
            ("/c", Propagates::ToHost),
            ("/d", Propagates::FromHost),
        ];
        assert_eq!(with_host, wanted);
        // In the host's mount namespace all mounts are the host's.
        assert_eq!(ReachableMounts::new(own, &None).with_host().count(), 0);
    }
}
