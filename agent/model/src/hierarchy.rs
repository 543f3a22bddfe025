//! The two versions of the kernel's interface of cgroups.

use serde::{Deserialize, Serialize};

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    V2,
}
