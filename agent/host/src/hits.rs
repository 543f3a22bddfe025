//! How often limits were hit, as the kernel counts: `memory.events`, `memory.oom_control`, `pids.events` and related
//! files (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and cgroup-v1/pids.rst).

use std::path::Path;

use agent_model::hierarchy::Version;
use agent_model::limit::Kind;

use super::Error;
use super::cgroup::{Directory, own_kills};
use super::cgroup_files::files_of;
use super::file::File;
use super::hierarchy::Hierarchies;
use super::membership::Membership;
use super::meminfo;
use super::population::below;

/// The counts of one cgroup. `None`: this kernel does not report the number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// OOM kills in the cgroup and below it.
    pub oom_kills: Option<u64>,
    /// The OOM kills that no limit of a cgroup below can have caused: those in the cgroup itself, and in cgroups below
    /// it that are under no limit of their own.
    pub oom_kills_here: Option<u64>,
    /// How often the kernel throttled the cgroup because its usage was above v2's `memory.high`.
    pub high: Option<u64>,
    /// v1: the peak of memory and swap together, in bytes, and how often its limit was hit.
    pub both_peak: Option<u64>,
    pub both_hits: Option<u64>,
    /// v2: the peak of swap, in bytes, and how often the swap limit was hit.
    pub swap_peak: Option<u64>,
    pub swap_hits: Option<u64>,
    /// Forks that the pids controller refused with EAGAIN. The kernel counts them in the cgroup that forked, or in the
    /// cgroup whose limit refused them (6.11 and newer, v2).
    pub forks_refused: Option<u64>,
    /// Refused forks in the cgroups below, where the kernel counts them in the cgroup that forked (v1, and v2 before
    /// 6.11). Cgroups under a limit of their own are left out: the kernel does not say which limit refused the fork.
    pub forks_refused_below: Option<u64>,
    /// The peak number of tasks (processes and threads).
    pub pids_peak: Option<u64>,
    /// v1: the CPU time on each CPU, in nanoseconds.
    pub cpus: Vec<u64>,
    /// The CPU time, in microseconds, that unused quota adds to later periods (`cpu.cfs_burst_us`, `cpu.max.burst`).
    pub burst: Option<u64>,
}

impl Hits {
    /// Reads the counts, with an error for each file that cannot be read or parsed. A file that does not exist leaves
    /// its counts at `None`; so does every file of a cgroup that is gone.
    pub fn read(hierarchies: &Hierarchies, membership: &Membership) -> (Self, Vec<Error>) {
        let directory = |controller: &str| {
            let mounted = hierarchies.of_controller(controller)?;
            hierarchies.directory(mounted, membership.path(mounted)?)
        };
        let mut hits = Self::default();
        let mut errors = Vec::new();
        if let Some(memory) = directory("memory") {
            hits.read_memory(&memory, &mut errors);
        }
        if let Some(pids) = directory("pids") {
            hits.read_pids(&pids, &mut errors);
        }
        if let Some(cpu) = directory("cpuacct") {
            let text = keep(there(cpu.text("cpuacct.usage_percpu")), &mut errors);
            let text = text.unwrap_or_default();
            hits.cpus = text
                .split_whitespace()
                .filter_map(|it| it.parse().ok())
                .collect();
        }
        if let Some(cpu) = directory("cpu") {
            let name = match cpu.version {
                Version::V1 => BURST[0],
                Version::V2 => BURST[1],
            };
            hits.burst = keep(number(&cpu, name), &mut errors);
        }
        (hits, errors)
    }

    fn read_memory(&mut self, memory: &Directory, errors: &mut Vec<Error>) {
        self.oom_kills_here = keep(kills_here(&memory.path, memory.version), errors);
        match memory.version {
            Version::V1 => {
                self.oom_kills = keep(kills_below(&memory.path), errors);
                self.both_peak = keep(number(memory, "memory.memsw.max_usage_in_bytes"), errors);
                self.both_hits = keep(number(memory, "memory.memsw.failcnt"), errors);
            }
            Version::V2 => {
                self.oom_kills = keep(row(memory, "memory.events", "oom_kill"), errors);
                self.high = keep(row(memory, "memory.events", "high"), errors);
                self.swap_peak = keep(number(memory, "memory.swap.peak"), errors);
                self.swap_hits = keep(row(memory, "memory.swap.events", "max"), errors);
            }
        }
    }

    fn read_pids(&mut self, pids: &Directory, errors: &mut Vec<Error>) {
        self.pids_peak = keep(number(pids, "pids.peak"), errors);
        // The local file counts a refused fork at the limit, wherever the fork was (v2, 6.11 and newer).
        self.forks_refused = keep(row(pids, "pids.events.local", REFUSED), errors);
        if self.forks_refused.is_none() {
            self.forks_refused = keep(row(pids, "pids.events", REFUSED), errors);
            self.forks_refused_below = keep(refused_below(&pids.path, pids.version), errors);
        }
    }
}

/// The files of [`Hits::burst`]: on v1, on v2.
pub const BURST: [&str; 2] = ["cpu.cfs_burst_us", "cpu.max.burst"];

/// The key of the row that counts refused forks.
const REFUSED: &str = "max";

fn keep<T>(read: Result<Option<T>, Error>, errors: &mut Vec<Error>) -> Option<T> {
    read.unwrap_or_else(|error| {
        errors.push(error);
        None
    })
}

/// Counts the refused forks in the cgroups below that are under no limit of their own.
fn refused_below(path: &Path, version: Version) -> Result<Option<u64>, Error> {
    let mut all = 0;
    for below in below(path) {
        // The count of a cgroup that is removed meanwhile is lost.
        if is_limited(&below, Kind::Pids, version)? {
            continue;
        }
        let file = there(File::read(below.join("pids.events")))?;
        let own = file
            .map(|file| file.number_of::<u64>(REFUSED))
            .transpose()?;
        all += own.flatten().unwrap_or_default();
        all += refused_below(&below, version)?.unwrap_or_default();
    }
    Ok(Some(all))
}

/// Counts the OOM kills in a cgroup and in those below it that are under no limit of their own. Returns `None` where
/// the kernel does not count the kills of one cgroup alone.
fn kills_here(path: &Path, version: Version) -> Result<Option<u64>, Error> {
    let file = there(File::read(path.join(own_kills(version))))?;
    let own = file
        .map(|file| file.number_of::<u64>("oom_kill"))
        .transpose()?;
    let Some(mut kills) = own.flatten() else {
        return Ok(None);
    };
    for below in below(path) {
        if !is_limited(&below, Kind::Memory, version)? {
            kills += kills_here(&below, version)?.unwrap_or_default();
        }
    }
    Ok(Some(kills))
}

/// Whether the cgroup at `path` has a limit of its own. A removed cgroup has none.
fn is_limited(path: &Path, kind: Kind, version: Version) -> Result<bool, Error> {
    for file in files_of(kind, version) {
        let own = there(File::read(path.join(file.name)))?;
        let held = own.map(|own| file.held(kind, own.text(), None));
        if held.is_some_and(|held| held.is_none_or(|held| !held.is_none())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts the OOM kills in a cgroup and below it. v1 counts a kill in the victim's cgroup only.
fn kills_below(path: &Path) -> Result<Option<u64>, Error> {
    let Some(file) = there(File::read(path.join("memory.oom_control")))? else {
        return Ok(None);
    };
    let Some(mut kills) = file.number_of::<u64>("oom_kill")? else {
        return Ok(None);
    };
    // The count of a cgroup that is removed meanwhile is lost.
    for below in below(path) {
        kills += kills_below(&below)?.unwrap_or_default();
    }
    Ok(Some(kills))
}

/// For how long a process ran or waited for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub pid: i32,
    /// The time that it has run or waited, in nanoseconds. A wait that has not ended is not included.
    pub time: u64,
    /// Whether it runs or waits now.
    pub now: bool,
}

/// Returns for how long processes ran or waited for a CPU: `/proc/PID/schedstat`
/// (Documentation/scheduler/sched-stats.rst) and the state in `/proc/PID/status`. A process that has ended is left out.
pub fn wanted_cpu(root: &Path, pids: &[i32]) -> Vec<Wanted> {
    let wanted = |pid: &i32| {
        let status = File::read(root.join(format!("proc/{pid}/status"))).ok()?;
        let now = status.word_of("State:") == Some(b"R");
        let file = File::read(root.join(format!("proc/{pid}/schedstat"))).ok()?;
        let text = file.string().ok()?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Wanted {
            pid: *pid,
            time: ran.saturating_add(waited),
            now,
        })
    };
    pids.iter().filter_map(wanted).collect()
}

/// The bytes that a process, and the children that it has waited for, caused to be written to block devices. Bytes that
/// are still in the page cache are included (`write_bytes` of `/proc/PID/io`).
pub fn written_bytes(root: &Path, pid: i32) -> Option<u64> {
    let file = File::read(root.join(format!("proc/{pid}/io"))).ok()?;
    file.number_of("write_bytes:").ok()?
}

/// The CPUs that a process may use, as the kernel writes them (`Cpus_allowed_list` of `/proc/PID/status`).
pub fn allowed_cpus(root: &Path, pid: i32) -> Option<String> {
    let file = File::read(root.join(format!("proc/{pid}/status"))).ok()?;
    let word = file.word_of("Cpus_allowed_list:")?;
    Some(String::from_utf8_lossy(word).into_owned())
}

/// The host's swap, in bytes.
pub fn swap_total(root: &Path) -> Option<u64> {
    let meminfo = meminfo::read(root.join("proc/meminfo")).ok()?;
    Some(meminfo.swap_total)
}

fn there<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn number(directory: &Directory, name: &str) -> Result<Option<u64>, Error> {
    there(directory.number(name))
}

fn row(directory: &Directory, name: &str, key: &str) -> Result<Option<u64>, Error> {
    Ok(there(directory.row(name, key))?.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    #[test]
    fn v1() {
        let root = tree(&[
            (
                "proc/self/mountinfo",
                "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n\
                 36 31 0:33 / /cg/pids rw - cgroup cgroup rw,pids\n\
                 37 31 0:34 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
            ),
            (
                "proc/self/cgroup",
                "4:memory:/\n2:pids:/\n3:cpu,cpuacct:/\n",
            ),
            (
                "cg/memory/a/memory.oom_control",
                "under_oom 0\noom_kill 2\n",
            ),
            ("cg/memory/a/b/memory.oom_control", "oom_kill 3\n"),
            ("cg/memory/a/b/memory.limit_in_bytes", "4096\n"),
            ("cg/memory/a/memory.memsw.failcnt", "7\n"),
            ("cg/pids/a/pids.events", "max 4\n"),
            ("cg/pids/a/b/pids.events", "max 1\n"),
            ("cg/pids/a/b/c/pids.events", "max 2\n"),
            ("cg/pids/a/b/c/pids.max", "max\n"),
            ("cg/pids/a/d/pids.events", "max 90\n"),
            ("cg/pids/a/d/pids.max", "7\n"),
            ("cg/cpu/a/cpu.cfs_burst_us", "10000\n"),
            ("cg/cpu/a/cpuacct.usage_percpu", "5 6 \n"),
        ]);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership = Membership::at(&hierarchies, "/a");
        let hits = Hits {
            oom_kills: Some(5),
            oom_kills_here: Some(2),
            both_hits: Some(7),
            forks_refused: Some(4),
            forks_refused_below: Some(3),
            burst: Some(10_000),
            cpus: vec![5, 6],
            ..Hits::default()
        };
        assert_eq!(Hits::read(&hierarchies, &membership).0, hits);
        let gone = Membership::at(&hierarchies, "/c");
        assert_eq!(Hits::read(&hierarchies, &gone).0.oom_kills, None);
    }

    #[test]
    fn v2() {
        let root = tree(&[
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
            ),
            ("proc/self/cgroup", "0::/\n"),
            ("cg/cgroup.controllers", "cpu memory pids\n"),
            (
                "cg/a/memory.events",
                "low 0\nhigh 8\nmax 9\noom 2\noom_kill 1\n",
            ),
            ("cg/a/memory.events.local", "max 9\noom_kill 0\n"),
            ("cg/a/b/memory.events.local", "max 9\noom_kill 1\n"),
            ("cg/a/b/memory.max", "max\n"),
            ("cg/a/memory.swap.peak", "4096\n"),
            ("cg/a/memory.swap.events", "high 0\nmax 3\nfail 3\n"),
            ("cg/a/pids.peak", "11\n"),
            ("cg/a/pids.events", "max 9\n"),
            ("cg/a/pids.events.local", "max 2\n"),
            ("cg/a/cpu.max.burst", "0\n"),
        ]);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership = Membership::at(&hierarchies, "/a");
        let hits = Hits {
            oom_kills: Some(1),
            oom_kills_here: Some(1),
            high: Some(8),
            swap_peak: Some(4096),
            swap_hits: Some(3),
            pids_peak: Some(11),
            forks_refused: Some(2),
            burst: Some(0),
            ..Hits::default()
        };
        assert_eq!(Hits::read(&hierarchies, &membership).0, hits);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_the_file() {
        let root = tree(&[
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
            ),
            ("proc/self/cgroup", "0::/\n"),
            ("cg/cgroup.controllers", "cpu memory pids\n"),
            ("cg/a/memory.events", "oom_kill many\n"),
            ("cg/a/pids.peak", "11\n"),
            (
                "cg/a/pids.events.local/x",
                "a directory, where a file is to be\n",
            ),
        ]);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership = Membership::at(&hierarchies, "/a");
        let (hits, errors) = Hits::read(&hierarchies, &membership);
        assert_eq!((hits.oom_kills, hits.pids_peak), (None, Some(11)));
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let names = |file: &str| errors.iter().any(|error| error.contains(file));
        assert!(
            names("memory.events") && names("pids.events.local"),
            "{errors:?}"
        );
    }

    #[test]
    fn of_processes() {
        let meminfo = meminfo::sample(&[("MemTotal", 9), ("SwapTotal", 2)]);
        let root = tree(&[
            ("proc/7/schedstat", "100 50 3\n"),
            ("proc/8/schedstat", "odd\n"),
            (
                "proc/7/io",
                "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n",
            ),
            (
                "proc/7/status",
                "Name:\tx\nState:\tR (running)\nCpus_allowed_list:\t0-1\n",
            ),
            ("proc/8/status", "State:\tS (sleeping)\n"),
            ("proc/meminfo", &*meminfo),
        ]);
        let wanted = Wanted {
            pid: 7,
            time: 150,
            now: true,
        };
        assert_eq!(wanted_cpu(root.path(), &[7, 8, 9]), [wanted]);
        assert_eq!(written_bytes(root.path(), 7), Some(4096));
        assert_eq!(allowed_cpus(root.path(), 7).as_deref(), Some("0-1"));
        assert_eq!(written_bytes(root.path(), 9), None);
        assert_eq!(swap_total(root.path()), Some(2048));
    }
}
