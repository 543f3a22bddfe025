//! The root of a process, how it got there, and what reaches it from the host's mounts. Pure.

use std::collections::BTreeSet;

use agent_host::mount::MountPoint;
use serde::Serialize;

/// The mounts that a process can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReachableMounts {
    /// How many of them are of each propagation: mount_namespaces(7).
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
    /// Which way mounts go between it and the host's; null: neither way, or it is the host's own.
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
    /// In its mount namespace.
    pub path: String,
}

/// How a process got its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedRoot {
    /// The host's, with the same options.
    Unchanged,
    /// Another one, and the root of its mount namespace.
    PivotRoot,
    /// Further down in its mount namespace: what is above is still there.
    Chroot,
}

/// What the host has mounted, for a process that is in a mount namespace of its own.
pub(super) type HostMounts = Option<Vec<MountPoint>>;

/// `link` is where `/proc/PID/root` leads, by which the kernel writes the path in the process's own mount namespace:
/// `/` is the root of that.
pub(super) fn root(link: &str, mounts: &[MountPoint], host: &HostMounts) -> ProcessRoot {
    let at_root = |mounts: &[MountPoint]| {
        // The one on top of others is the last.
        let on_top = mounts.iter().rfind(|mount| mount.point == "/");
        on_top.map(|it| (it.device.clone(), it.root.clone(), it.options.clone()))
    };
    let own = at_root(mounts);
    let how = match host {
        // A root that is attached nowhere any more is of no mount namespace.
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

    /// Those that mounts go between and the host's.
    pub fn with_host(&self) -> impl Iterator<Item = (&ReachableMount, Propagates)> {
        self.all
            .iter()
            .filter_map(|mount| Some((mount, mount.propagates?)))
    }
}

/// A mount's propagation in one word. One that is a slave too is shared.
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

/// The groups that the host's mounts are in.
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
    /// For people.
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
        // In the host's own mount namespace all are the host's.
        assert_eq!(ReachableMounts::new(own, &None).with_host().count(), 0);
    }
}
