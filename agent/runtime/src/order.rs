//! The order of a container: the values, made from flags or a bundle, from which the launcher makes the container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_host::pinned::Pinned;
use agent_model::units::Signal;
use agent_network::Network;
use agent_rootfs::RootSource;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// An order for a container.
#[derive(Clone, Debug)]
pub struct Order {
    /// The name: letters, digits, `_`, `.` and `-`, the first a letter or digit; at most 63.
    pub name: String,
    /// The OCI spec. `linux.cgroups_path` is the cgroup's path below the root of each hierarchy, `/agent/NAME`. The
    /// launcher does not read `root.path`, because [`Order::root`] holds more.
    pub spec: Spec,
    /// The source of the root file system.
    pub root: RootSource,
    /// The interfaces of the network namespace.
    pub network: Network,
    /// The init processes of the containers whose namespaces the spec names by `/proc/PID/ns`.
    pub members: BTreeMap<String, Pinned>,
    /// The system call that changes the root.
    pub change_root: ChangeRoot,
    /// Whether pid 1 is a reaper that has the command as its child (`--init`).
    pub init: bool,
    /// Whether the container reads the caller's standard input. `process.terminal` of the spec says whether it has a
    /// terminal.
    pub interactive: bool,
    /// Whether the caller returns once the container has started (`-d`).
    pub detach: bool,
    /// Whether the supervisor removes the state when the container ends (`--rm`). Otherwise `agent wait` and `agent
    /// logs` find a detached container afterwards.
    pub remove: bool,
    /// The bounds of a detached container's log.
    pub log: LogLimits,
    /// Whether the limit of memory and swap follows from `--memory` alone. The agent leaves it out where the kernel
    /// does not count swap.
    pub swap_implied: bool,
    /// The user's wishes for the command. [`super::spec::complete`] makes `process` of the spec from them once the root
    /// file system exists. None where the spec is complete.
    pub asked: Option<Asked>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The signal by which `agent stop` asks the container to end. None stands for SIGTERM.
    pub stop_signal: Option<Signal>,
}

/// The bounds of a log: `file_bytes` in each of `files` files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// The most bytes of a file.
    pub file_bytes: u64,
    /// The number of files.
    pub files: u32,
}

impl Default for LogLimits {
    /// 30 MiB in all.
    fn default() -> Self {
        Self {
            file_bytes: 10 << 20,
            files: 3,
        }
    }
}

/// The user's wishes for the command. The image and the root file system supply the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Replaces the image's entrypoint. An empty one removes it.
    pub entrypoint: Option<String>,
    /// The command, or the entrypoint's arguments.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The working directory.
    pub directory: Option<PathBuf>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
}

/// The way in which the container's root becomes the root of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeRoot {
    /// pivot_root(2): the host's mounts are detached.
    Pivot,
    /// chroot(2), for teaching: only the path is changed.
    Chroot,
}
