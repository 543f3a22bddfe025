//! Looks at a cgroup: what the kernel counts in it, and what its limits are, at one moment.

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

/// A cgroup that is looked at again and again.
pub struct Gauge {
    hierarchies: Hierarchies,
    membership: Membership,
    directories: [Vec<Directory>; 1],
    /// The files stay open from one look to the next.
    files: Kept,
}

/// What was found at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    pub reading: Reading,
    pub hits: Hits,
    /// From when to when they were read.
    pub counted: [Moment; 2],
    /// By claim.
    pub chains: Vec<Result<Chain, Unread>>,
    pub processes: Processes,
    /// Files that are there and could not be read; those of limits stand in `chains`.
    pub unread: Vec<Unread>,
}

/// What the processes in the cgroup and below it do with CPUs, where somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// The CPUs that each may use.
    pub allowed: Vec<String>,
    /// How many threads run or wait for a CPU; `None` where that cannot be seen.
    pub runnable: Option<usize>,
}

impl Gauge {
    pub fn new(hierarchies: Hierarchies, membership: Membership) -> Self {
        let directories = membership.paths().map(|(hierarchy, path)| Directory {
            // It is the only one there.
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

    /// Its path, where `kind` is limited.
    pub fn path(&self, kind: Kind) -> Option<&str> {
        let path = self.path_of(&self.membership, kind);
        path.or_else(|| self.membership.paths().next().map(|(_, path)| path))
    }

    /// That of another cgroup there.
    pub fn path_of<'a>(&self, membership: &'a Membership, kind: Kind) -> Option<&'a str> {
        let of = |version| self.hierarchies.of_controller(controller_of(kind, version));
        let mounted = of(Version::V1).or_else(|| of(Version::V2))?;
        membership.path(mounted)
    }

    /// The reader of its limits.
    pub fn limits(&self) -> Limits<'_> {
        Limits {
            hierarchies: &self.hierarchies,
            membership: &self.membership,
        }
    }

    /// Whether it cannot have this limit. One that is there and cannot be read, it may have.
    pub fn lacks(&self, kind: Kind) -> bool {
        let chain = self.limits().chain(kind, None);
        chain.is_ok_and(|chain| chain.own.is_err())
    }

    /// Looks at it. What cannot be read is told in the sample.
    ///
    /// # Errors
    /// [`Error::Gone`] where the cgroup is.
    pub fn sample(&mut self, claims: &[LimitClaim]) -> Result<Sample, Error> {
        let (mut readings, errors) = self.files.read(&self.hierarchies, &self.directories);
        let limits = self.limits();
        // Its usage is the time's.
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

    /// How many CPUs it can run on; `None` where nothing says.
    pub fn cpus(&self) -> Option<usize> {
        let chain = self.limits().chain(Kind::CpusetCpus, None).ok()?;
        match chain.effective()?.held {
            Held::Numbers(numbers) => Some(numbers.len()),
            Held::Amount(_) | Held::Quota { .. } => None,
        }
    }

    /// The processes in the cgroup and in those below it, where `kind` is limited.
    pub fn processes(&self, kind: Kind) -> Vec<i32> {
        let directory = self.limits().directory(kind);
        directory.map_or_else(Vec::new, |it| processes(&it.path))
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

/// Threads that are counted at most: more than there are CPUs in any set that leaves some out.
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
            // A limit is read anew too: nothing is remembered where nobody watches who writes.
            for (field, text) in [(Field::Threads, tasks), (Field::ThreadsMax, most)] {
                assert_eq!(sample.reading.number(field), text.trim().parse().ok());
            }
            assert_eq!(gauge.files.sizes().descriptors, 2);
        }
    }
}
