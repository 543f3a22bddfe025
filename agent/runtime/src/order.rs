//! What is wanted of a container: values, made from flags or a bundle, that the launcher carries out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_host::pinned::Pinned;
use agent_model::units::Signal;
use agent_network::Network;
use agent_rootfs::RootSource;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// A container to be made.
#[derive(Clone, Debug)]
pub struct Order {
    /// Letters, digits, `_`, `.` and `-`, the first a letter or digit; at most 63.
    pub name: String,
    /// What OCI can say. `linux.cgroups_path` is the cgroup's path below the root of each hierarchy, `/agent/NAME`;
    /// `root.path` is not used: [`Order::root`] holds more.
    pub spec: Spec,
    pub root: RootSource,
    pub network: Network,
    /// The first processes of the containers whose namespaces the spec names by `/proc/PID/ns`.
    pub members: BTreeMap<String, Pinned>,
    pub change_root: ChangeRoot,
    /// A reaper is pid 1, and the command its child.
    pub init: bool,
    /// `process.terminal` of the spec says whether there is a terminal.
    pub interactive: bool,
    pub detach: bool,
    /// Remove its state when it ends (`--rm`); else `agent wait` and `agent logs` still find a detached one.
    pub remove: bool,
    /// How much is kept of what a detached one writes.
    pub log: LogLimits,
    /// Memory and swap together follow from `--memory` alone: left out where the kernel does not count swap.
    pub swap_implied: bool,
    /// [`super::spec::complete`] makes `process` of the spec from it, once the root file system is there. `None`: the spec
    /// is complete as it is.
    pub asked: Option<Asked>,
    /// What whoever asked for it is to know.
    pub notes: Vec<String>,
    /// By which `agent stop` asks it to end; none is SIGTERM.
    pub stop_signal: Option<Signal>,
}

/// How much is kept of what a container writes: `file_bytes` in each of `files` files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    pub file_bytes: u64,
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

/// What was asked of the command, where an image and the files of the root file system have a say too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Replaces the image's entrypoint; empty: there is to be none.
    pub entrypoint: Option<String>,
    /// The command, or the entrypoint's arguments.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    pub directory: Option<PathBuf>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
}

/// How the root becomes the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeRoot {
    Pivot,
    /// For teaching: nothing but the path is changed.
    Chroot,
}
