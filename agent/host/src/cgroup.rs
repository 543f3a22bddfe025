//! The numbers of one cgroup: `Documentation/admin-guide/cgroup-v2.rst` of the kernel, and
//! `cgroup-v1/memory.rst` and `cgroup-v1/cpuacct.rst` beside it.

use std::path::PathBuf;
use std::time::Duration;

use agent_model::hierarchy::Version;

use super::Error;
use super::cgroup_files::{CgroupFile, file_with};
use super::file::File;
use super::meminfo::{self, Meminfo};
use super::reading::{Field, Reading};

/// A cgroup's directory in one hierarchy. `Hierarchies::directory` makes the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub version: Version,
    pub path: PathBuf,
    /// The path of `/proc/meminfo`, for v2's root cgroup: it has no memory files, and its memory is the host's.
    pub meminfo: Option<PathBuf>,
}

/// The memory of a cgroup and of the cgroups below it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Includes the page cache.
    pub usage: u64,
    /// Usage without the inactive part of the page cache, as cAdvisor and the kubelet compute it.
    pub working_set: u64,
}

/// Every method returns [`Error::Gone`] where the cgroup no longer exists, or does not have the controller.
impl Directory {
    /// The memory that is in use now.
    pub fn memory(&self) -> Result<Memory, Error> {
        if let Some(meminfo) = &self.meminfo {
            return meminfo::read(meminfo.clone()).map(|it| host_memory(&it));
        }
        let usage = self.value(Field::MemoryUsage)?;
        let inactive_file = self.value(Field::InactiveFile)?;
        Ok(Memory {
            usage,
            working_set: usage.saturating_sub(inactive_file),
        })
    }

    /// The CPU time that the cgroup and those below it have used: from v1's `cpuacct`, or from any cgroup of v2.
    pub fn cpu_usage(&self) -> Result<Duration, Error> {
        Ok(Duration::from_nanos(self.value(Field::CpuUsage)?))
    }

    /// The number of processes that the OOM killer has killed in this cgroup, without those below it. None where the
    /// kernel does not count them (v1 before 4.13).
    pub fn oom_kills(&self) -> Result<Option<u64>, Error> {
        self.row(own_kills(self.version), "oom_kill")
    }

    /// Whether the freezer has stopped the cgroup's processes. The directory is one of v1's `freezer`, or of any cgroup
    /// of v2.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        match self.version {
            Version::V1 => Ok(self.text("freezer.state")? != "THAWED"),
            Version::V2 => Ok(self.row("cgroup.events", "frozen")? == Some(1)),
        }
    }

    /// The text of a file of the cgroup, without the newline at its end.
    pub fn text(&self, name: &str) -> Result<String, Error> {
        let file = self.read(name)?;
        Ok(String::from_utf8_lossy(file.text()).into_owned())
    }

    /// The number that is the whole text of a file.
    pub fn number(&self, name: &str) -> Result<u64, Error> {
        self.read(name)?.number()
    }

    /// The number after `key` in a file of rows; None where there is no such row.
    pub fn row(&self, name: &str, key: &str) -> Result<Option<u64>, Error> {
        self.read(name)?.number_of(key)
    }

    /// The error for a file whose text no kernel writes.
    pub fn odd(&self, name: &str, text: &str) -> Error {
        Error::malformed(self.path.join(name), text.as_bytes(), "a limit")
    }

    /// Reads a file of the table [`FILES`](super::cgroup_files::FILES).
    pub fn reading(&self, file: &CgroupFile) -> Result<Reading, Error> {
        let read = self.read(file.name)?;
        let mut reading = Reading::default();
        match file.parse(&read.bytes, &mut reading) {
            Ok(()) => Ok(reading),
            Err(wanted) => Err(read.malformed(&read.bytes, wanted)),
        }
    }

    /// The number of a field.
    fn value(&self, field: Field) -> Result<u64, Error> {
        let path = || self.path.clone();
        let (file, row) =
            file_with(field, self.version).ok_or_else(|| Error::Gone { path: path() })?;
        let value = self.reading(file)?.number(field);
        value.ok_or_else(|| Error::malformed(path().join(file.name), b"no such row", row))
    }

    fn read(&self, name: &str) -> Result<File, Error> {
        File::read(self.path.join(name))
    }
}

/// The file that counts the OOM kills in one cgroup alone.
pub(super) const fn own_kills(version: Version) -> &'static str {
    match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events.local",
    }
}

/// The memory of v2's root cgroup, from the host's.
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
