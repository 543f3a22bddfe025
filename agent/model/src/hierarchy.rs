//! The two versions of the kernel's interface to cgroups.

use serde::{Deserialize, Serialize};

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// cgroup v1: a hierarchy for each controller, or for a few (cgroup-v1/cgroups.rst).
    V1,
    /// cgroup v2: one hierarchy for all controllers (cgroup-v2.rst).
    V2,
}
