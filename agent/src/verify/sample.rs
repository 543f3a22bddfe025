//! Looks at a cgroup: what the kernel counts in it, and what its limits are, at one moment.

use std::path::Path;
use std::time::Instant;

use agent_ebpf::CgroupKey;

use super::claim::Claim;
use crate::host::Error;
use crate::host::control::PROCESSES;
use crate::host::hierarchy::Hierarchies;
use crate::host::hits::{Hits, allowed_cpus};
use crate::host::kept::{Directory, Kept};
use crate::host::membership::Membership;
use crate::host::reading::Reading;
use crate::limit::Held;
use crate::limit::Kind;
use crate::limit::chain::Chain;
use crate::limits::Limits;

/// A cgroup that is looked at again and again.
pub struct Gauge {
    hierarchies: Hierarchies,
    membership: Membership,
    /// For the reader of `/metrics`, which here keeps nothing.
    directories: [Vec<Directory>; 1],
}

/// What was found at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    pub reading: Reading,
    pub hits: Hits,
    /// By claim.
    pub chains: Vec<Chain>,
    /// The CPUs that each process may use that is in the cgroup, where somebody asks.
    pub allowed: Vec<String>,
}

impl Gauge {
    pub fn new(hierarchies: Hierarchies, membership: Membership) -> Self {
        let directories = membership.paths().map(|(hierarchy, path)| Directory {
            // Only what is kept goes by its key.
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
        }
    }

    /// Its path, where `kind` is limited.
    pub fn path(&self, kind: Kind) -> Option<&str> {
        let path = self.path_of(&self.membership, kind);
        path.or_else(|| self.membership.paths().next().map(|(_, path)| path))
    }

    /// That of another cgroup there.
    pub fn path_of<'a>(&self, membership: &'a Membership, kind: Kind) -> Option<&'a str> {
        let controller = &kind.row().controller;
        let of = |name| self.hierarchies.of_controller(name);
        let mounted = of(controller.v1).or_else(|| of(controller.v2))?;
        membership.path(mounted)
    }

    /// The reader of its limits.
    pub fn limits(&self) -> Limits<'_> {
        Limits {
            hierarchies: &self.hierarchies,
            membership: &self.membership,
        }
    }

    /// Whether it has files for this limit.
    pub fn has(&self, kind: Kind) -> bool {
        let chain = self.limits().chain(kind, None);
        chain.is_ok_and(|chain| chain.own.is_ok())
    }

    /// # Errors
    /// [`Error::Gone`] where the cgroup is; else what reading its files gives.
    pub fn sample(&self, claims: &[Claim]) -> Result<Sample, Error> {
        let limits = self.limits();
        let (mut readings, errors) = Kept::new(0, 0).read(&self.hierarchies, &self.directories);
        // Its usage is the time's.
        let at = Instant::now();
        if let Some(error) = errors.first {
            return Err(error);
        }
        let chain = |claim: &Claim| limits.chain(claim.kind, claim.device);
        let chains: Result<Vec<Chain>, Error> = claims.iter().map(chain).collect();
        let wants_cpus = claims.iter().any(|claim| claim.kind == Kind::CpusetCpus);
        Ok(Sample {
            at,
            reading: readings.pop().unwrap_or_default(),
            hits: Hits::read(&self.hierarchies, &self.membership)?,
            chains: chains?,
            allowed: if wants_cpus {
                self.allowed()
            } else {
                Vec::new()
            },
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

    /// The processes in the cgroup itself, where `kind` is limited.
    pub fn processes(&self, kind: Kind) -> Vec<i32> {
        let directory = self.limits().directory(kind);
        let text = directory.and_then(|it| it.text(PROCESSES).ok());
        let text = text.unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn allowed(&self) -> Vec<String> {
        let root = Path::new("/");
        let processes = self.processes(Kind::CpusetCpus).into_iter();
        processes
            .filter_map(|pid| allowed_cpus(root, pid))
            .collect()
    }
}
