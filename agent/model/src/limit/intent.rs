//! The intended limits of a container, and who asked for them.

use serde::{Deserialize, Serialize};

use super::{Kind, Limit, Value};

/// The limits that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The limits in the order of their kinds; a rate has one for each device. A limit that is not here was not asked
    /// for.
    pub limits: Vec<(Kind, Value)>,
    /// Who states the limits.
    pub source: Source,
    /// Whether the limit on memory and swap together is known to have been asked for, even if it is twice that on
    /// memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swap_asked: bool,
}

/// Who states the intended limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// docker, over its socket.
    Docker,
    /// `agent run`, which records its flags.
    AgentRun,
    /// The OCI bundle that the container's maker wrote when it started the container. It does not have later updates.
    Bundle,
    /// LXC, by the container's configuration.
    Lxc,
    /// systemd, which made the unit.
    Systemd,
    /// The user of the command, by `--expect`.
    Expect,
}

impl Source {
    /// The name in texts and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::AgentRun => "agent run",
            Self::Bundle => "the OCI bundle",
            Self::Lxc => "lxc",
            Self::Systemd => "systemd",
            Self::Expect => "--expect",
        }
    }
}

impl Intent {
    /// The limits that `source` states, without knowledge of whether the limit on swap was asked for.
    pub const fn new(limits: Vec<(Kind, Value)>, source: Source) -> Self {
        Self {
            limits,
            source,
            swap_asked: false,
        }
    }

    /// Whether a limit seems to follow from another one, and not to have been asked for.
    ///
    /// Engines set the limit on memory and swap together to twice the limit on memory. docker and OCI bundles do not say whether
    /// somebody asked for that.
    pub fn follows(&self, value: &Value) -> bool {
        let by_engine = matches!(
            self.source,
            Source::Docker | Source::AgentRun | Source::Bundle
        );
        match value {
            Value::Swap {
                memory,
                both: Limit::Value(both),
                ..
            } => by_engine && !self.swap_asked && *both == memory.saturating_mul(2),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_memory_follows_unless_it_was_asked_for() {
        let swap = |both| Value::Swap {
            memory: 50,
            both: Limit::Value(both),
            earlier: None,
        };
        for (source, swap_asked, both, follows) in [
            (Source::AgentRun, false, 100, true),
            (Source::AgentRun, true, 100, false),
            (Source::AgentRun, false, 101, false),
            (Source::Docker, false, 100, true),
            (Source::Bundle, false, 100, true),
            (Source::Expect, false, 100, false),
        ] {
            let intent = Intent {
                swap_asked,
                ..Intent::new(Vec::new(), source)
            };
            assert_eq!(intent.follows(&swap(both)), follows, "{intent:?} {both}");
        }
    }
}
