//! What somebody asked for: the limits that a container is meant to have.

use serde::{Deserialize, Serialize};

use super::{Kind, Limit, Value};

/// Limits, and who asked for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// In the order of the kinds; of rates one for each device. What is not here was not asked for.
    pub limits: Vec<(Kind, Value)>,
    /// Who asked for them.
    pub source: Source,
    /// Whether a limit of memory and swap together that is twice the memory is known to have been asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swap_asked: bool,
}

/// Who says what is intended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// docker, which answers over its socket.
    Docker,
    /// `agent run`, which records its flags.
    AgentRun,
    /// systemd, which made the unit.
    Systemd,
    /// The person who looks, by `--expect`.
    Expect,
}

impl Source {
    /// What people, and JSON, call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::AgentRun => "agent run",
            Self::Systemd => "systemd",
            Self::Expect => "--expect",
        }
    }
}

impl Intent {
    /// Limits that `source` asked for, of which nothing more is known.
    pub const fn new(limits: Vec<(Kind, Value)>, source: Source) -> Self {
        Self {
            limits,
            source,
            swap_asked: false,
        }
    }

    /// Whether a limit follows from another one, and was not asked for, as far as can be told: engines make twice the
    /// memory the limit of memory and swap together, and docker does not say who asked for it.
    pub fn follows(&self, value: &Value) -> bool {
        let by_engine = matches!(self.source, Source::Docker | Source::AgentRun);
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
