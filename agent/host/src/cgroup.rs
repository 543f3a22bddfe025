//! The numbers of one cgroup: `Documentation/admin-guide/cgroup-v2.rst` of the kernel, and
//! `cgroup-v1/memory.rst` and `cgroup-v1/cpuacct.rst` beside it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use super::file::{File, number};
use super::hierarchy::Version;
use super::meminfo::{self, Meminfo};

/// v1 has no word for "no limit": it writes the highest number of whole pages below 2^63, which is
/// at least this with pages of up to 64 KiB (`PAGE_COUNTER_MAX`, `include/linux/page_counter.h`).
pub(super) const V1_NO_LIMIT: u64 = 0x7FFF_FFFF_FFFF_0000;

/// A cgroup's directory in one hierarchy: `Hierarchies::directory` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub version: Version,
    pub path: PathBuf,
    /// v2's root has no files of memory: there it is the host's, in `/proc/meminfo`.
    pub meminfo: Option<PathBuf>,
}

/// A limit on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    Max,
    Value(u64),
}

impl Limit {
    /// A limit, however the kernel writes that there is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"max" | b"-1" => Some(Self::Max),
            text => match number(text)? {
                V1_NO_LIMIT.. => Some(Self::Max),
                value => Some(Self::Value(value)),
            },
        }
    }
}

/// Memory of a cgroup and those below it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// With the page cache.
    pub usage: u64,
    /// Usage without the inactive part of the page cache, as cAdvisor and the kubelet have it.
    pub working_set: u64,
}

/// What the files of memory are called.
struct MemoryNames {
    usage: &'static str,
    inactive_file: &'static str,
    oom_kills: &'static str,
}

impl Version {
    const fn memory(self) -> MemoryNames {
        match self {
            Self::V1 => MemoryNames {
                usage: "memory.usage_in_bytes",
                inactive_file: "total_inactive_file",
                oom_kills: "memory.oom_control",
            },
            Self::V2 => MemoryNames {
                usage: "memory.current",
                inactive_file: "inactive_file",
                oom_kills: "memory.events.local",
            },
        }
    }
}

/// Every one gives [`Error::Gone`] where the cgroup does not exist any more, or does not have the
/// controller.
impl Directory {
    /// Memory now.
    pub fn memory(&self) -> Result<Memory, Error> {
        if let Some(meminfo) = &self.meminfo {
            return meminfo::read(meminfo.clone()).map(|it| host_memory(&it));
        }
        let names = self.version.memory();
        let usage = self.read(names.usage)?.number()?;
        let inactive_file: u64 = self
            .read("memory.stat")?
            .expect_number_of(names.inactive_file, "a row of inactive file pages")?;
        Ok(Memory {
            usage,
            working_set: usage.saturating_sub(inactive_file),
        })
    }

    /// CPU time used by the cgroup and those below it, of v1's `cpuacct` or of any cgroup of v2.
    pub fn cpu_usage(&self) -> Result<Duration, Error> {
        match self.version {
            Version::V1 => {
                let usage = self.read("cpuacct.usage")?;
                Ok(Duration::from_nanos(usage.number()?))
            }
            Version::V2 => {
                let stat = self.read("cpu.stat")?;
                let usage = stat.expect_number_of("usage_usec", "a row \"usage_usec N\"")?;
                Ok(Duration::from_micros(usage))
            }
        }
    }

    /// Kills by the OOM killer in this very cgroup, those below it not counted. None where the
    /// kernel does not count them (v1 before 4.13).
    pub fn oom_kills(&self) -> Result<Option<u64>, Error> {
        self.read(self.version.memory().oom_kills)?
            .number_of("oom_kill")
    }

    /// Whether what is in it is stopped by the freezer: of v1's `freezer`, or of any cgroup of v2.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        match self.version {
            Version::V1 => Ok(self.text("freezer.state")? != "THAWED"),
            Version::V2 => Ok(self.row("cgroup.events", "frozen")? == Some(1)),
        }
    }

    /// What a file of it says, without the line's end.
    pub fn text(&self, name: &str) -> Result<String, Error> {
        let file = self.read(name)?;
        Ok(String::from_utf8_lossy(file.text()).into_owned())
    }

    /// The number that is all that a file of it holds.
    pub fn number(&self, name: &str) -> Result<u64, Error> {
        self.read(name)?.number()
    }

    /// The number behind `key` in a file of rows; None where there is no such row.
    pub fn row(&self, name: &str, key: &str) -> Result<Option<u64>, Error> {
        self.read(name)?.number_of(key)
    }

    /// What to say of a file that holds what no kernel writes there.
    pub fn odd(&self, name: &str, text: &str) -> Error {
        Error::malformed(self.path.join(name), text.as_bytes(), "a limit")
    }

    fn read(&self, name: &str) -> Result<File, Error> {
        File::read(self.path.join(name))
    }
}

/// What v2's root would say.
fn host_memory(meminfo: &Meminfo) -> Memory {
    let usage = meminfo.mem_total.saturating_sub(meminfo.mem_free);
    Memory {
        usage,
        working_set: usage.saturating_sub(meminfo.inactive_file.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fixture::tree;

    fn v1(path: &Path) -> Directory {
        Directory {
            version: Version::V1,
            path: path.into(),
            meminfo: None,
        }
    }

    fn v2(path: &Path) -> Directory {
        Directory {
            version: Version::V2,
            ..v1(path)
        }
    }

    const V1: [(&str, &str); 4] = [
        ("memory.usage_in_bytes", "1347584\n"),
        (
            "memory.stat",
            "cache 4096\ninactive_file 1\ntotal_inactive_file 1000000\n",
        ),
        (
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        ),
        ("cpuacct.usage", "287576612195\n"),
    ];

    const V2: [(&str, &str); 4] = [
        ("memory.current", "1347584\n"),
        ("memory.stat", "anon 4096\ninactive_file 2000000\n"),
        (
            "memory.events.local",
            "low 0\noom 9\noom_kill 3\noom_group_kill 1\n",
        ),
        (
            "cpu.stat",
            "usage_usec 1500001\nuser_usec 1\nsystem_usec 2\n",
        ),
    ];

    #[test]
    fn v1_files() {
        let root = tree(&V1);
        let cgroup = v1(root.path());
        let memory = Memory {
            usage: 1_347_584,
            working_set: 347_584,
        };
        assert_eq!(cgroup.memory().unwrap(), memory);
        assert_eq!(
            cgroup.cpu_usage().unwrap(),
            Duration::from_nanos(287_576_612_195)
        );
        assert_eq!(cgroup.oom_kills().unwrap(), Some(3));
    }

    #[test]
    fn v2_files() {
        let root = tree(&V2);
        let cgroup = v2(root.path());
        let memory = Memory {
            usage: 1_347_584,
            working_set: 0,
        };
        assert_eq!(cgroup.memory().unwrap(), memory);
        assert_eq!(
            cgroup.cpu_usage().unwrap(),
            Duration::from_micros(1_500_001)
        );
        assert_eq!(cgroup.oom_kills().unwrap(), Some(3));
    }

    #[test]
    fn root_of_v2_has_the_memory_of_the_host() {
        let rows = [("MemTotal", 100), ("MemFree", 30), ("Inactive(file)", 20)];
        let root = tree(&[("meminfo", meminfo::sample(&rows))]);
        let cgroup = Directory {
            meminfo: Some(root.path().join("meminfo")),
            ..v2(root.path())
        };
        let memory = Memory {
            usage: 70 * 1024,
            working_set: 50 * 1024,
        };
        assert_eq!(cgroup.memory().unwrap(), memory);
    }

    #[test]
    fn limits() {
        for (text, limit) in [
            ("9223372036854771712", Some(Limit::Max)),
            ("9223372036854710272", Some(Limit::Max)),
            (
                "9223372036854710271",
                Some(Limit::Value(9_223_372_036_854_710_271)),
            ),
            ("0", Some(Limit::Value(0))),
            ("max", Some(Limit::Max)),
            ("-1", Some(Limit::Max)),
            ("many", None),
        ] {
            assert_eq!(Limit::parse(text.as_bytes()), limit, "{text}");
        }
    }

    #[test]
    fn old_kernels_count_no_kills() {
        let root = tree(&[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")]);
        assert_eq!(v1(root.path()).oom_kills().unwrap(), None);
    }

    /// What every reader gives, if it is an error.
    fn errors(cgroup: &Directory) -> Vec<Option<Error>> {
        vec![
            cgroup.memory().err(),
            cgroup.cpu_usage().err(),
            cgroup.oom_kills().err(),
        ]
    }

    #[test]
    fn missing_files_are_gone() {
        let root = tree::<&str>(&[]);
        for cgroup in [v1(root.path()), v2(root.path())] {
            for error in errors(&cgroup) {
                assert!(matches!(error, Some(Error::Gone { .. })), "{error:?}");
            }
        }
    }

    #[test]
    fn garbage_is_malformed() {
        for garbage in [
            &b"-1"[..],
            b"+1",
            b"18446744073709551616",
            b"1 2",
            b"\xff\x00",
            b"oom_kill\nusage_usec x\ninactive_file 1e3\ntotal_inactive_file -5",
        ] {
            for (files, version) in [(V1, Version::V1), (V2, Version::V2)] {
                let root = tree(&files.map(|(name, _)| (name, garbage)));
                let path = root.path().into();
                let cgroup = Directory {
                    version,
                    path,
                    meminfo: None,
                };
                for (reader, error) in errors(&cgroup).into_iter().enumerate() {
                    // A file without the row of kills is one of an old kernel.
                    let is_old = reader == 2 && !garbage.starts_with(b"oom_kill");
                    let malformed = matches!(error, Some(Error::Malformed { .. }));
                    assert_eq!(malformed, !is_old, "{reader}: {error:?}");
                }
            }
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        let root = tree(&[("cpuacct.usage", "12\x1b[31m")]);
        let error = v1(root.path()).cpu_usage().unwrap_err().to_string();
        let path = root.path().join("cpuacct.usage");
        let wanted = format!(
            r#"{}: found "12\u{{1b}}[31m", wanted a number"#,
            path.display()
        );
        assert_eq!(error, wanted);
    }
}
