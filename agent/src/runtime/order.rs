//! What is wanted of a container: values, made from flags or a bundle, that the launcher carries out.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// A container to be made.
#[derive(Clone, Debug)]
pub struct Order {
    /// Letters, digits, `_`, `.` and `-`, the first a letter or digit; at most 63.
    pub name: String,
    /// What OCI can say. `linux.cgroups_path` is the cgroup's path below the root of each hierarchy, `/agent/NAME`;
    /// `root.path` is not used: [`Order::root`] says more.
    pub spec: Spec,
    pub root: Root,
    pub network: Network,
    pub change_root: ChangeRoot,
    /// A reaper is pid 1, and the command its child.
    pub init: bool,
    /// `process.terminal` of the spec says whether there is a terminal.
    pub interactive: bool,
    pub detach: bool,
    /// Remove its state when it ends (`--rm`); else `agent wait` and `agent logs` still find a detached one.
    pub remove: bool,
    /// Memory and swap together follow from `--memory` alone: left out where the kernel does not count swap.
    pub swap_implied: bool,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    Directory(PathBuf),
    /// The host's tree, read-only, with a /tmp of its own.
    Host,
    /// Programs by name or path, with the libraries that their loader needs.
    Binaries(Vec<PathBuf>),
    /// What `docker save` writes, or an OCI layout, as a tar archive.
    Image(PathBuf),
}

/// How the root becomes the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeRoot {
    Pivot,
    /// For teaching: nothing but the path is changed.
    Chroot,
}

/// What the network namespace holds. Which namespace it is, the spec says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The loopback interface, up.
    None,
    /// Somebody else's namespace, or the host's: left as it is.
    Joined,
    /// A pair of interfaces, one here as `eth0`, its peer on the host.
    Veth {
        /// Address and length of the prefix.
        address: Option<(Ipv4Addr, u8)>,
        /// A bridge on the host, made where it is not there.
        bridge: Option<String>,
    },
}
