//! What may differ from runc: each row makes both sides alike in one respect, and is a row of docs/runtime.md.

use crate::run::PROBED;
use crate::seen::Mount;

/// A difference that any bundle may show.
pub struct Difference {
    pub name: &'static str,
    /// Makes a mount alike; whether it is one at all.
    mount: fn(&mut Mount) -> bool,
}

const NOTHING: fn(&mut Mount) -> bool = |_| true;

pub const DIFFERENCES: [Difference; 9] = [
    Difference {
        name: "status",
        mount: NOTHING,
    },
    Difference {
        name: "root-nodev",
        mount: |mount| {
            if mount.root.starts_with("BUNDLE/rootfs") {
                mount.options.retain(|it| it != "nodev");
            }
            true
        },
    },
    Difference {
        name: "idmapped",
        mount: |mount| {
            mount.options.retain(|it| it != "idmapped");
            true
        },
    },
    Difference {
        name: "masks",
        mount: |mount| {
            let is_mask = mount.kind == "tmpfs" && mount.root == "/" && !in_use(&mount.place);
            if is_mask {
                mount.options = vec!["ro".to_owned()];
                mount.source.clear();
                mount.settings.clear();
            }
            true
        },
    },
    Difference {
        name: "superblock",
        mount: |mount| {
            if mount.options.iter().any(|it| it == "ro") {
                mount.settings.retain(|it| it != "ro" && it != "rw");
            }
            true
        },
    },
    Difference {
        name: "cgroup-path",
        mount: |mount| {
            if mount.kind == "cgroup" {
                mount.root = "/ITS".to_owned();
            }
            true
        },
    },
    Difference {
        name: "cgroup-unified",
        mount: |mount| mount.kind != "cgroup2",
    },
    Difference {
        name: "cgroup-directory",
        mount: |mount| {
            if mount.place == "/sys/fs/cgroup" {
                mount.options.retain(|it| it != "ro" && it != "rw");
                mount.settings.retain(|it| it != "ro" && it != "rw");
            }
            true
        },
    },
    Difference {
        name: "tun",
        mount: NOTHING,
    },
];

/// Places where bundles of this test mount a tmpfs by themselves.
fn in_use(place: &str) -> bool {
    [
        "/dev",
        "/dev/shm",
        "/run",
        "/tmp",
        "/data",
        "/sys/fs/cgroup",
    ]
    .contains(&place)
}

/// Those that are excused.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    without: Option<&'static str>,
}

impl Rules {
    pub const fn all() -> Self {
        Self { without: None }
    }

    pub const fn without(self, name: &'static str) -> Self {
        Self {
            without: Some(name),
        }
    }

    fn has(self, name: &str) -> bool {
        self.without != Some(name)
    }

    /// Changes what a mount may differ in; whether it is to be seen at all.
    pub fn mount(self, mount: &mut Mount) -> bool {
        let mut rules = DIFFERENCES.iter().filter(|it| self.has(it.name));
        rules.all(|it| (it.mount)(mount))
    }

    /// A line of `/proc/self/cgroup`.
    pub fn cgroup(self, line: &str) -> Option<String> {
        let mut parts = line.splitn(3, ':');
        match (parts.next(), parts.next()) {
            (Some(number), Some(controllers)) if self.has("cgroup-path") => {
                Some(format!("{number}:{controllers}"))
            }
            _ => Some(line.to_owned()),
        }
    }

    /// What is said of a device.
    pub fn device(self, line: &str) -> Option<String> {
        let is_tun = line.contains("10:200") || line.contains("10 200");
        (!self.has("tun") || !is_tun).then(|| line.to_owned())
    }

    pub fn are_alike(self, theirs: i32, ours: i32, ran: bool) -> bool {
        // runc fails with 1, and does not tell why.
        let is_failure = theirs == 1 && [125, 126, 127].contains(&ours) && !ran;
        theirs == ours && (ours == PROBED || !ran) || self.has("status") && is_failure
    }
}
