//! The properties of the host that tracing depends on.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::Error;
use super::file::{File, number};
use super::meminfo;
use super::status::capabilities;

/// The file in which the kernel describes its own types.
pub const BTF: &str = "sys/kernel/btf/vmlinux";

/// The host. None: the host does not report the value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// `uname -r`.
    pub kernel: Option<String>,
    /// A random id that each boot has anew.
    pub boot_id: Option<String>,
    /// The lockdown level. None also where securityfs is not mounted.
    pub lockdown: Option<Lockdown>,
    /// The effective capabilities of this process, such as `CAP_BPF`, in alphabetical order.
    pub capabilities: Option<Vec<String>>,
    /// Whether there is [`BTF`].
    pub btf: bool,
    /// Whether the kernel measures the run time of BPF programs (`kernel.bpf_stats_enabled`), which makes every run of
    /// every program slower.
    pub bpf_stats: Option<bool>,
    /// CPUs that are online.
    pub cpus: Option<usize>,
    /// The memory in bytes.
    pub memory: Option<u64>,
}

/// The kernel's lockdown level: kernel_lockdown(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    None,
    Integrity,
    Confidentiality,
}

impl Lockdown {
    const ALL: [Self; 3] = [Self::None, Self::Integrity, Self::Confidentiality];

    /// The kernel's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The size of a page in bytes: the kernel counts memory in whole pages.
pub fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// How many CPUs are online.
pub fn cpus(root: &Path) -> Option<usize> {
    let online = File::read(root.join("sys/devices/system/cpu/online")).ok()?;
    count_cpus(online.text())
}

impl System {
    /// Reads the host's properties. A property that cannot be read is None.
    pub fn read(root: &Path) -> Self {
        let file = |path| File::read(root.join(path));
        let string = |path| file(path).ok()?.string().ok();
        Self {
            kernel: string("proc/sys/kernel/osrelease"),
            boot_id: string("proc/sys/kernel/random/boot_id"),
            lockdown: file("sys/kernel/security/lockdown")
                .ok()
                .and_then(|file| parse_lockdown(&file)),
            capabilities: file("proc/self/status")
                .ok()
                .and_then(|status| capabilities(&status, "CapEff")),
            btf: root.join(BTF).exists(),
            bpf_stats: file("proc/sys/kernel/bpf_stats_enabled")
                .ok()
                .and_then(|file| Some(file.number().ok()? != 0)),
            cpus: cpus(root),
            memory: Capacity::read(root).ok().map(|capacity| capacity.memory),
        }
    }
}

/// The host's memory and swap, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub memory: u64,
    /// 0 where the host has none.
    pub swap: u64,
}

impl Capacity {
    /// Reads `/proc/meminfo`.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let meminfo = meminfo::read(root.join("proc/meminfo"))?;
        Ok(Self {
            memory: meminfo.mem_total,
            swap: meminfo.swap_total,
        })
    }
}

/// The word in brackets, as in `none [integrity] confidentiality`.
fn parse_lockdown(file: &File) -> Option<Lockdown> {
    let text = file.string().ok()?;
    let (word, _) = text.split_once('[')?.1.split_once(']')?;
    Lockdown::ALL.into_iter().find(|level| level.name() == word)
}

/// Returns the number of CPUs in a list such as `0-3,8`.
fn count_cpus(list: &[u8]) -> Option<usize> {
    cpu_list(list).map(|cpus| cpus.len())
}

/// Returns the CPUs in such a list.
pub(super) fn cpu_list(list: &[u8]) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for range in list.split(|&byte| byte == b',') {
        let mut ends = range.splitn(2, |&byte| byte == b'-').map(number::<u16>);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        last.checked_sub(first)?;
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    #[test]
    fn a_host() {
        let meminfo = meminfo::sample(&[("MemTotal", 24_684_084)]);
        let host = tree(&[
            ("proc/sys/kernel/osrelease", "6.18.44\n"),
            ("proc/sys/kernel/random/boot_id", "b0-07\n"),
            (
                "sys/kernel/security/lockdown",
                "none [integrity] confidentiality\n",
            ),
            (
                "proc/self/status",
                "Name:\tagent\nCapEff:\t000000c000000000\n",
            ),
            ("sys/kernel/btf/vmlinux", ""),
            ("proc/sys/kernel/bpf_stats_enabled", "0\n"),
            ("sys/devices/system/cpu/online", "0-3,8,10-11\n"),
            ("proc/meminfo", &*meminfo),
        ]);
        let wanted = System {
            kernel: Some("6.18.44".into()),
            boot_id: Some("b0-07".into()),
            lockdown: Some(Lockdown::Integrity),
            capabilities: Some(vec!["CAP_BPF".into(), "CAP_PERFMON".into()]),
            btf: true,
            bpf_stats: Some(false),
            cpus: Some(7),
            memory: Some(24_684_084 * 1024),
        };
        assert_eq!(System::read(host.path()), wanted);
    }

    #[test]
    fn what_is_missing_is_unknown() {
        let host = tree::<&str>(&[]);
        assert_eq!(System::read(host.path()), System::default());
    }

    #[test]
    fn garbage_is_unknown() {
        let host = tree(&[
            ("proc/sys/kernel/osrelease", &b"\xff"[..]),
            ("proc/sys/kernel/random/boot_id", b"\xff"),
            ("sys/kernel/security/lockdown", b"none [all] ]["),
            ("proc/self/status", b"CapEff:\txyz\n"),
            ("proc/sys/kernel/bpf_stats_enabled", b"-1"),
            ("sys/devices/system/cpu/online", b"3-0"),
            ("proc/meminfo", b"MemTotal: many\n"),
        ]);
        assert_eq!(System::read(host.path()), System::default());
    }

    #[test]
    fn capacity() {
        let meminfo = meminfo::sample(&[("MemTotal", 100), ("SwapTotal", 7)]);
        let root = tree(&[("proc/meminfo", meminfo)]);
        let wanted = Capacity {
            memory: 100 << 10,
            swap: 7 << 10,
        };
        assert_eq!(Capacity::read(root.path()).unwrap(), wanted);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(count_cpus(b"0"), Some(1));
        assert_eq!(count_cpus(b"0-65535"), Some(65_536));
        for list in [&b""[..], b"-", b"0-", b"0,,1", b"1-2-3", b"a"] {
            assert_eq!(count_cpus(list), None);
        }
    }
}
