//! The intended limits of containers of LXC, from their configuration (lxc.container.conf(5)): the text of
//! `lxc.cgroup.FILE` is written to a file of v1, that of `lxc.cgroup2.FILE` to one of v2. Files that the configuration
//! includes are not read: those of LXC itself limit devices only.

use std::collections::HashMap;

use agent_host::cgroup_files::{controller_of, files_of};
use agent_host::cgroup_format::{Unit, whole};
use agent_host::hierarchy::Hierarchies;
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Limit, Value};
use agent_model::units::parse::bytes;

use super::{Intent, Source};

/// The kernel's default period of a quota, in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// The limits in the configuration, for the version of the hierarchy that has each controller. A text that is no limit
/// is passed over: the kernel refuses it, and LXC does not start the container.
pub fn of_lxc(config: &str, hierarchies: &Hierarchies) -> Intent {
    let version = |kind: Kind| {
        let mounted = hierarchies.of_controller(controller_of(kind, Version::V1));
        mounted.map_or(Version::V2, |mounted| mounted.version)
    };
    Intent::new(limits(config, version), Source::Lxc)
}

/// The directory or image of the container's root file system; empty if the configuration has none.
pub fn lxc_root(config: &str) -> String {
    let root = texts(config).get("lxc.rootfs.path").copied();
    root.unwrap_or_default().to_owned()
}

/// The texts by key. The last row of a key counts.
fn texts(config: &str) -> HashMap<&str, &str> {
    let rows = config.lines().filter_map(|line| line.split_once('='));
    rows.map(|(key, text)| (key.trim(), text.trim())).collect()
}

fn limits(config: &str, version: impl Fn(Kind) -> Version) -> Vec<(Kind, Value)> {
    let texts = texts(config);
    let mut limits: Vec<(Kind, Value)> = Vec::new();
    for kind in Kind::ALL {
        let version = version(kind);
        let memory = limits.iter().find(|(kind, _)| *kind == Kind::Memory);
        let memory = match memory {
            Some((_, Value::Amount(Limit::Value(bytes)))) => *bytes,
            _ => 0,
        };
        let held = held(kind, version, &texts);
        let value = held.and_then(|held| value(kind, version, held, memory));
        limits.extend(value.map(|value| (kind, value)));
    }
    limits
}

/// What the files of a limit would hold.
fn held(kind: Kind, version: Version, texts: &HashMap<&str, &str>) -> Option<Held> {
    let prefix = match version {
        Version::V1 => "lxc.cgroup.",
        Version::V2 => "lxc.cgroup2.",
    };
    let parts = files_of(kind, version).filter_map(|file| {
        let text = texts.get(&*format!("{prefix}{}", file.name))?;
        // The kernel takes a size with a suffix.
        let plain = match (file.unit, bytes(text)) {
            (Unit::Bytes, Ok(bytes)) => bytes.to_string(),
            _ => (*text).to_owned(),
        };
        file.held(kind, plain.as_bytes(), None)
    });
    whole(parts)
}

fn value(kind: Kind, version: Version, held: Held, memory: u64) -> Option<Value> {
    Some(match (kind, version, held) {
        (Kind::MemorySwap, Version::V1, Held::Amount(both)) => swap(memory, both),
        (Kind::MemorySwap, Version::V2, Held::Amount(Limit::Value(swap_alone))) => {
            swap(memory, Limit::Value(memory.saturating_add(swap_alone)))
        }
        (Kind::MemorySwap, ..) => return None,
        (Kind::CpuWeight, Version::V1, Held::Amount(Limit::Value(shares))) => Value::Shares(shares),
        (Kind::CpuWeight, _, Held::Amount(Limit::Value(weight))) => Value::Weight(weight),
        (Kind::CpuWeight, ..) => return None,
        (Kind::CpuQuota, _, Held::Amount(quota)) => Value::Quota {
            quota,
            period: USUAL_PERIOD,
        },
        (_, _, Held::Amount(limit)) => Value::Amount(limit),
        (_, _, Held::Quota { quota, period }) => Value::Quota { quota, period },
        (_, _, Held::Numbers(numbers)) => Value::Numbers(numbers),
    })
}

fn swap(memory: u64, both: Limit) -> Value {
    Value::Swap {
        memory,
        both,
        earlier: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: &str = "\
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = dir:/var/lib/lxc/web/rootfs
lxc.cgroup.memory.limit_in_bytes = 1G
lxc.cgroup.memory.limit_in_bytes = 64M
lxc.cgroup.memory.memsw.limit_in_bytes=96M
lxc.cgroup.cpu.cfs_quota_us = 50000
lxc.cgroup.cpu.shares = 512
lxc.cgroup.devices.deny = a
lxc.cgroup2.memory.max = 67108864
lxc.cgroup2.memory.swap.max = 32M
lxc.cgroup2.cpu.max = 50000 100000
lxc.cgroup2.cpu.weight = 50
lxc.cgroup2.cpuset.cpus = 0-1
lxc.cgroup2.pids.max = max
";

    #[test]
    fn each_version_has_its_keys() {
        let memory = (Kind::Memory, Value::Amount(Limit::Value(64 << 20)));
        let both = (Kind::MemorySwap, swap(64 << 20, Limit::Value(96 << 20)));
        let quota = Limit::Value(50_000);
        let period = 100_000;
        let quota = (Kind::CpuQuota, Value::Quota { quota, period });
        let v1 = limits(CONFIG, |_| Version::V1);
        let shares = (Kind::CpuWeight, Value::Shares(512));
        assert_eq!(v1, [memory.clone(), both.clone(), quota.clone(), shares]);
        let v2 = limits(CONFIG, |_| Version::V2);
        let numbers = agent_model::limit::Numbers::parse("0-1").unwrap();
        let wanted = [
            memory,
            both,
            quota,
            (Kind::CpuWeight, Value::Weight(50)),
            (Kind::CpusetCpus, Value::Numbers(numbers)),
            (Kind::Pids, Value::Amount(Limit::Max)),
        ];
        assert_eq!(v2, wanted);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(lxc\\.cgroup2?\\.(memory\\.max|cpu\\.max|pids\\.max) = [0-9a-zKM -]{0,24}\n){0,4}") {
            limits(&text, |_| Version::V2);
        }
    }
}
