//! How often limits were hit, as the kernel counts: `memory.events`, `memory.oom_control`, `pids.events` and related
//! files (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and cgroup-v1/pids.rst).

use std::io;
use std::path::Path;

use agent_model::hierarchy::Version;
use agent_model::limit::Kind;
use rustix::fs::OFlags;

use super::Error;
use super::cgroup::{Directory, own_kills};
use super::cgroup_files::files_of;
use super::control::Control;
use super::file::File;
use super::hierarchy::Hierarchies;
use super::membership::Membership;
use super::meminfo;

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
        let kills = |cgroup: &Control| row_of(cgroup, own_kills(cgroup.version), KILLS);
        self.oom_kills_here = keep(sum(memory, Some(Kind::Memory), kills), errors);
        match memory.version {
            Version::V1 => {
                // v1 counts a kill in the victim's cgroup only.
                self.oom_kills = keep(sum(memory, None, kills), errors);
                self.both_peak = keep(number(memory, "memory.memsw.max_usage_in_bytes"), errors);
                self.both_hits = keep(number(memory, "memory.memsw.failcnt"), errors);
            }
            Version::V2 => {
                self.oom_kills = keep(row(memory, "memory.events", KILLS), errors);
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
            self.forks_refused_below = keep(refused_below(pids), errors);
        }
    }
}

/// The files of [`Hits::burst`]: on v1, on v2.
pub const BURST: [&str; 2] = ["cpu.cfs_burst_us", "cpu.max.burst"];

/// The keys of the rows that count OOM kills and refused forks.
const KILLS: &str = "oom_kill";
const REFUSED: &str = "max";

fn keep<T>(read: Result<Option<T>, Error>, errors: &mut Vec<Error>) -> Option<T> {
    read.unwrap_or_else(|error| {
        errors.push(error);
        None
    })
}

/// Adds up the refused forks in the cgroups below that are under no limit of their own.
fn refused_below(pids: &Directory) -> Result<Option<u64>, Error> {
    let refused = |cgroup: &Control| match cgroup.path == pids.path {
        true => Ok(Some(0)),
        false => row_of(cgroup, "pids.events", REFUSED),
    };
    sum(pids, Some(Kind::Pids), refused)
}

/// Adds up a count of a cgroup and of those below it. `own` reads the count of one cgroup. Where `unlimited` is given, a
/// cgroup with a limit of its own on it is left out, with those below it. Returns `None` where the cgroup itself does not
/// have the count. The count of a cgroup that is removed meanwhile is lost.
fn sum(
    directory: &Directory,
    unlimited: Option<Kind>,
    own: impl Fn(&Control) -> Result<Option<u64>, Error>,
) -> Result<Option<u64>, Error> {
    let opened = Control::open(directory.version, &directory.path);
    let opened = opened.map_err(|source| Error::new(directory.path.clone(), source));
    let Some(top) = there(opened)? else {
        return Ok(None);
    };
    let Some(mut all) = own(&top)? else {
        return Ok(None);
    };
    let mut failed = None;
    let mut add = |cgroup: &Control| -> Result<bool, Error> {
        if cgroup.path == top.path {
            return Ok(true);
        }
        if let Some(kind) = unlimited
            && is_limited(cgroup, kind)?
        {
            return Ok(false);
        }
        all += own(cgroup)?.unwrap_or_default();
        Ok(true)
    };
    let mut enter = |cgroup: &Control| {
        add(cgroup).map_err(|error| {
            failed = Some(error);
            io::ErrorKind::Other.into()
        })
    };
    let walked = top.walk(&mut enter, &mut |_, _| Ok(()));
    match (failed, walked) {
        (Some(error), _) => Err(error),
        (None, Err(source)) => Err(Error::new(directory.path.clone(), source)),
        (None, Ok(())) => Ok(Some(all)),
    }
}

/// Reads the number in the row `key` of a cgroup's file; `None` where the cgroup has no such file or row.
fn row_of(cgroup: &Control, name: &str, key: &str) -> Result<Option<u64>, Error> {
    match file_of(cgroup, name)? {
        Some(file) => file.number_of(key),
        None => Ok(None),
    }
}

fn file_of(cgroup: &Control, name: &str) -> Result<Option<File>, Error> {
    let path = cgroup.path.join(name);
    there(match cgroup.file(name, OFlags::RDONLY) {
        Ok(file) => File::read_from(file, path),
        Err(source) => Err(Error::new(path, source)),
    })
}

/// Whether a cgroup has a limit of its own. A removed cgroup has none.
fn is_limited(cgroup: &Control, kind: Kind) -> Result<bool, Error> {
    for file in files_of(kind, cgroup.version) {
        let own = file_of(cgroup, file.name)?;
        let held = own.map(|own| file.held(kind, own.text(), None));
        if held.is_some_and(|held| held.is_none_or(|held| !held.is_none())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// For how long a thread ran or waited for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub tid: i32,
    /// The time that it has run or waited, in nanoseconds. A wait that has not ended is not included.
    pub time: u64,
    /// Whether it runs or waits now.
    pub now: bool,
}

/// Returns for how long the threads of these processes ran or waited for a CPU: `/proc/PID/task/TID/schedstat`
/// (Documentation/scheduler/sched-stats.rst) and the state in `status` beside it. A thread that has ended is left out.
pub fn wanted_cpu(root: &Path, pids: &[i32]) -> Vec<Wanted> {
    let threads = pids.iter().flat_map(|pid| {
        let tasks = std::fs::read_dir(root.join(format!("proc/{pid}/task")));
        tasks.into_iter().flatten().flatten()
    });
    let wanted = |task: std::fs::DirEntry| {
        let status = File::read(task.path().join("status")).ok()?;
        let now = status.word_of("State:") == Some(b"R");
        let text = File::read(task.path().join("schedstat"))
            .ok()?
            .string()
            .ok()?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Wanted {
            tid: task.file_name().to_str()?.parse().ok()?,
            time: ran.saturating_add(waited),
            now,
        })
    };
    threads.filter_map(wanted).collect()
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
    use crate::fixture::{deep, directory, tree};

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
    fn no_depth_hides_a_count() {
        let root = tree(&[("cg/memory.events.local", "oom_kill 1\n")]);
        let cgroup = directory(&root, "cg");
        let kills = |cgroup: &Control| row_of(cgroup, own_kills(cgroup.version), KILLS);
        let lowest = [
            ("memory.events.local", "oom_kill 2\n"),
            ("memory.max", "max\n"),
        ];
        deep(&cgroup, &lowest, || {
            let counted = sum(&cgroup, Some(Kind::Memory), kills);
            assert_eq!(counted.ok(), Some(Some(3)));
        });
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
            ("proc/7/task/7/schedstat", "9 1 3\n"),
            ("proc/7/task/7/status", "State:\tS (sleeping)\n"),
            ("proc/7/task/17/schedstat", "100 50 3\n"),
            ("proc/7/task/17/status", "State:\tR (running)\n"),
            ("proc/8/task/8/schedstat", "odd\n"),
            ("proc/8/task/8/status", "State:\tS (sleeping)\n"),
            (
                "proc/7/io",
                "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n",
            ),
            (
                "proc/7/status",
                "Name:\tx\nState:\tR (running)\nCpus_allowed_list:\t0-1\n",
            ),
            ("proc/meminfo", &*meminfo),
        ]);
        let mut wanted = wanted_cpu(root.path(), &[7, 8, 9]);
        wanted.sort_unstable_by_key(|it| it.tid);
        let each = [(7, 10, false), (17, 150, true)];
        assert_eq!(
            wanted,
            each.map(|(tid, time, now)| Wanted { tid, time, now })
        );
        assert_eq!(written_bytes(root.path(), 7), Some(4096));
        assert_eq!(allowed_cpus(root.path(), 7).as_deref(), Some("0-1"));
        assert_eq!(written_bytes(root.path(), 9), None);
        assert_eq!(swap_total(root.path()), Some(2048));
    }
}
