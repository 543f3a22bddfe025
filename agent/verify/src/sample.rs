//! Samples of a cgroup: the kernel's counters and the limits at one moment.

use std::path::Path;
use std::time::Instant;

use agent_ebpf::CgroupKey;
use agent_host::Error;
use agent_host::cgroup_files::{FILES, controller_of};
use agent_host::hierarchy::Hierarchies;
use agent_host::hits::{Hits, allowed_cpus};
use agent_host::kept::{Directory, Kept};
use agent_host::membership::Membership;
use agent_host::population::{processes, runnable};
use agent_host::reading::Reading;
use agent_limits::limit::chain::Chain;
use agent_limits::limits::Limits;
use agent_model::clock::Moment;
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind};

use super::claim::LimitClaim;
use super::unread::Unread;

/// The reader of one cgroup, which takes sample after sample.
pub struct Gauge {
    hierarchies: Hierarchies,
    membership: Membership,
    directories: [Vec<Directory>; 1],
    /// The files, which stay open from one sample to the next.
    files: Kept,
}

/// The counters and limits at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    pub reading: Reading,
    pub hits: Hits,
    /// The times just before and just after the hits were read.
    pub counted: [Moment; 2],
    /// The limits, in the order of the claims.
    pub chains: Vec<Result<Chain, Unread>>,
    pub processes: Processes,
    /// The files that exist and could not be read. For the files of limits, `chains` has the error.
    pub unread: Vec<Unread>,
}

/// The use of CPUs by the processes in the cgroup and below it. It is empty where no claim is about a set of CPUs.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// The CPUs that each process may use, as the kernel writes them.
    pub allowed: Vec<String>,
    /// The number of threads that run or wait for a CPU; `None` where they cannot be read.
    pub runnable: Option<usize>,
}

impl Gauge {
    pub fn new(hierarchies: Hierarchies, membership: Membership) -> Self {
        let directories = membership.paths().map(|(hierarchy, path)| Directory {
            // The key needs no id, because each hierarchy has one directory here.
            key: CgroupKey {
                id: 0,
                hierarchy,
                zero: 0,
            },
            path: path.into(),
        });
        let directories = [directories.collect()];
        Self {
            hierarchies,
            membership,
            directories,
            files: Kept::new(FILES.len(), 0),
        }
    }

    /// Returns the cgroup's path in the hierarchy that limits `kind`. Where no hierarchy does, returns its path in
    /// another one.
    pub fn path(&self, kind: Kind) -> Option<&str> {
        let path = self.path_of(&self.membership, kind);
        path.or_else(|| self.membership.paths().next().map(|(_, path)| path))
    }

    /// Returns the path that `membership` has in the hierarchy that limits `kind`.
    pub fn path_of<'a>(&self, membership: &'a Membership, kind: Kind) -> Option<&'a str> {
        let of = |version| self.hierarchies.of_controller(controller_of(kind, version));
        let mounted = of(Version::V1).or_else(|| of(Version::V2))?;
        membership.path(mounted)
    }

    /// Returns the reader of the cgroup's limits.
    pub fn limits(&self) -> Limits<'_> {
        Limits {
            hierarchies: &self.hierarchies,
            membership: &self.membership,
        }
    }

    /// Tells whether the cgroup cannot have this limit. A file that exists and cannot be read may have it.
    pub fn lacks(&self, kind: Kind) -> bool {
        let chain = self.limits().chain(kind, None);
        chain.is_ok_and(|chain| chain.own.is_err())
    }

    /// Takes a sample, which also names the files that cannot be read.
    ///
    /// # Errors
    /// [`Error::Gone`] where the cgroup does not exist any more.
    pub fn sample(&mut self, claims: &[LimitClaim]) -> Result<Sample, Error> {
        let (mut readings, errors) = self.files.read(&self.hierarchies, &self.directories);
        let limits = self.limits();
        // The time belongs to the usage, which was just read.
        let at = Instant::now();
        let begun = Moment::now();
        let (hits, others) = Hits::read(&self.hierarchies, &self.membership);
        let counted = [begun, Moment::now()];
        let chain = |claim: &LimitClaim| match limits.chain(claim.kind, claim.device) {
            Ok(chain) => Ok(Ok(chain)),
            Err(gone @ Error::Gone { .. }) => Err(gone),
            Err(error) => Ok(Err(Unread::from(error))),
        };
        let chains: Result<Vec<_>, Error> = claims.iter().map(chain).collect();
        let wants_cpus = claims.iter().any(|claim| claim.kind == Kind::CpusetCpus);
        Ok(Sample {
            at,
            reading: readings.pop().unwrap_or_default(),
            hits,
            counted,
            chains: chains?,
            processes: if wants_cpus {
                self.cpus_used()
            } else {
                Processes::default()
            },
            unread: errors.into_kept().chain(others).map(Unread::from).collect(),
        })
    }

    /// Returns the number of CPUs that the cgroup's processes can run on; `None` where no set limits it or can be read.
    pub fn cpus(&self) -> Option<usize> {
        let chain = self.limits().chain(Kind::CpusetCpus, None).ok()?;
        match chain.effective()?.held {
            Held::Numbers(numbers) => Some(numbers.len()),
            Held::Amount(_) | Held::Quota { .. } => None,
        }
    }

    /// Returns the processes in the cgroup and the cgroups below it, in the hierarchy that limits `kind`.
    pub fn processes(&self, kind: Kind) -> Vec<i32> {
        let directory = self.limits().directory(kind);
        directory.as_ref().map_or_else(Vec::new, processes)
    }

    fn cpus_used(&self) -> Processes {
        let root = Path::new("/");
        let processes = self.processes(Kind::CpusetCpus);
        let allowed = processes.iter().filter_map(|pid| allowed_cpus(root, *pid));
        Processes {
            allowed: allowed.collect(),
            runnable: runnable(root, &processes, ENOUGH),
        }
    }
}

/// The most threads that are counted. No set of CPUs has as many.
const ENOUGH: usize = 65_536;

#[cfg(test)]
mod tests {
    use agent_host::fixture::{add, tree};
    use agent_host::reading::Field;

    use super::*;

    #[test]
    fn files_stay_open_from_look_to_look() {
        let root = tree(&[
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
            ),
            ("proc/self/cgroup", "0::/\n"),
            ("cg/cgroup.controllers", "memory pids\n"),
            ("cg/a/pids.current", "1\n"),
            ("cg/a/pids.max", "9\n"),
        ]);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership = Membership::at(&hierarchies, "/a");
        let mut gauge = Gauge::new(hierarchies, membership);
        for (tasks, most) in [("2\n", "7\n"), ("3\n", "8\n")] {
            add(
                root.path(),
                &[("cg/a/pids.current", tasks), ("cg/a/pids.max", most)],
            );
            let sample = gauge.sample(&[]).unwrap();
            // Each sample reads the limits again, because this reader watches no directories for changes.
            for (field, text) in [(Field::Threads, tasks), (Field::ThreadsMax, most)] {
                assert_eq!(sample.reading.number(field), text.trim().parse().ok());
            }
            assert_eq!(gauge.files.sizes().descriptors, 2);
        }
    }
}
